"""The tensors of checkpoints in the Hugging Face format and the parameters they correspond to, by architecture.

A name is given without the prefix that a model with a head puts before it (``bert.``). The original names are facts of
the format, as are their layouts: PyTorch's linear layers are ``[out in]``, GPT-2's ``[in out]``.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from jaxsens.models.images import convnext
from jaxsens.models.pretrained import vit
from jaxsens.models.text import bert, gpt2, llama
from jaxsens.typing import PyTree

__all__ = ["Tensor", "by_path", "from_parameters", "nested", "tensor_shape", "tensors_of", "to_parameters"]


class Tensor(NamedTuple):
    """A tensor of a checkpoint.

    Attributes:
        name: Its name in the file.
        parameters: Paths of its parameters; more than one if it joins several along its last axis.
        transposed: Whether its two axes are swapped.
        patches: Side of its patches, if it is the kernel ``[d c p p]`` of a convolution over them.
        depthwise: Whether it is the kernel ``[d 1 k k]`` of a depthwise convolution, whose parameter is ``[k k 1 d]``.
        flat: Whether it is ``[d]``, and its parameter ``[1 1 1 d]``.

    Example:
        >>> Tensor("dense.weight", ("dense/kernel",), transposed=True).name
        'dense.weight'
    """

    name: str
    parameters: tuple[str, ...]
    transposed: bool = False
    patches: int | None = None
    depthwise: bool = False
    flat: bool = False


def to_parameters(tensor: Tensor, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return parameters by path, from a tensor's values.

    Example:
        >>> tensor = Tensor("dense.weight", ("dense/kernel",), transposed=True)
        >>> to_parameters(tensor, np.zeros((2, 3)))["dense/kernel"].shape
        (3, 2)
    """
    if tensor.transposed:
        values = values.T
    if tensor.patches:
        values = values.transpose(2, 3, 1, 0).reshape(-1, len(values))  # pixels in row-major order, channel last
    if tensor.depthwise:
        values = values.transpose(2, 3, 1, 0)
    if tensor.flat:
        values = values[None, None, None]
    return dict(zip(tensor.parameters, np.split(values, len(tensor.parameters), axis=-1), strict=True))


def from_parameters(tensor: Tensor, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a tensor's values, from parameters by path: the inverse of ``to_parameters``.

    Example:
        >>> tensor = Tensor("dense.weight", ("dense/kernel",), transposed=True)
        >>> from_parameters(tensor, {"dense/kernel": np.zeros((3, 2))}).shape
        (2, 3)
    """
    values = np.concatenate([np.asarray(parameters[path]) for path in tensor.parameters], axis=-1)
    if tensor.patches:
        side = tensor.patches
        values = values.reshape(side, side, -1, values.shape[-1]).transpose(3, 2, 0, 1)
    if tensor.depthwise:
        values = values.transpose(3, 2, 0, 1)
    if tensor.flat:
        values = values[0, 0, 0]
    return values.T if tensor.transposed else values


def tensor_shape(tensor: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of a tensor in the file, from shapes of parameters by path.

    Example:
        >>> tensor_shape(Tensor("joined", ("query", "key")), {"query": (4, 2), "key": (4, 2)})
        (4, 4)
    """
    parts = [shapes[path] for path in tensor.parameters]
    shape = (*parts[0][:-1], sum(part[-1] for part in parts))
    if tensor.patches:
        side = tensor.patches
        shape = (shape[1], shape[0] // side**2, side, side)
    if tensor.depthwise:
        shape = (shape[3], shape[2], *shape[:2])
    if tensor.flat:
        shape = shape[-1:]
    return shape[::-1] if tensor.transposed else shape


def by_path(params: PyTree) -> dict[str, PyTree]:
    """Return the leaves of nested parameters under paths such as ``block_0/attention/query/kernel``.

    Example:
        >>> by_path({"dense": {"bias": 1}})
        {'dense/bias': 1}
    """
    return {jax.tree_util.keystr(path, simple=True, separator="/"): a for path, a in jax.tree.leaves_with_path(params)}


def nested(parameters: Mapping[str, np.ndarray]) -> PyTree:
    """Return nested parameters: the inverse of ``by_path``.

    Example:
        >>> nested({"dense/bias": 1, "dense/kernel": 2})
        {'dense': {'bias': 1, 'kernel': 2}}
    """
    tree: PyTree = {}
    for path, leaf in parameters.items():
        *parents, last = path.split("/")
        level = tree
        for parent in parents:
            level = level.setdefault(parent, {})
        level[last] = leaf
    return tree


def tensors_of(config: bert.Config | convnext.Config | gpt2.Config | llama.Config | vit.Config) -> list[Tensor]:
    """Return the tensors of which a configuration's parameters are made, heads without prefix included.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> tensors_of(gpt2.Config(**sizes))[0].name
        'wte.weight'
    """
    return _TENSORS[type(config)](config)


_PROJECTIONS = ("query", "key", "value")


def _affine(name: str, path: str) -> list[Tensor]:
    return [Tensor(f"{name}.weight", (f"{path}/kernel",), transposed=True), Tensor(f"{name}.bias", (f"{path}/bias",))]


def _norm(name: str, path: str) -> list[Tensor]:
    return [Tensor(f"{name}.weight", (f"{path}/scale",)), Tensor(f"{name}.bias", (f"{path}/bias",))]


def _joined(name: str, *paths: str) -> list[Tensor]:
    kernels, biases = (tuple(f"{path}/{kind}" for path in paths) for kind in ("kernel", "bias"))
    return [Tensor(f"{name}.weight", kernels), Tensor(f"{name}.bias", biases)]


def _attention(name: str, block: str) -> list[Tensor]:
    """BERT's names, which ViTs have too."""
    return [t for kind in _PROJECTIONS for t in _affine(f"{name}.{kind}", f"{block}/attention/{kind}")]


def _head(config: bert.Config | vit.Config) -> list[Tensor]:
    # RoBERTa's classifier has two layers, the first of which corresponds to BERT's pooler.
    is_roberta = isinstance(config, bert.Config) and config.roberta and config.classes is not None
    pooler, classifier = ("classifier.dense", "classifier.out_proj") if is_roberta else ("pooler.dense", "classifier")
    tensors = _affine(pooler, "pooler") if config.read_out == "pooler" else []
    return tensors + (_affine(classifier, "classifier") if config.classes is not None else [])


def _convolution(name: str, path: str, side: int) -> list[Tensor]:
    """A convolution whose stride is its kernel."""
    return [Tensor(f"{name}.weight", (f"{path}/kernel",), patches=side), Tensor(f"{name}.bias", (f"{path}/bias",))]


def _bert(config: bert.Config) -> list[Tensor]:
    tables = {"word_embeddings": "tokens", "position_embeddings": "positions", "token_type_embeddings": "types"}
    tensors = [Tensor(f"embeddings.{name}.weight", (path,)) for name, path in tables.items()]
    tensors += _norm("embeddings.LayerNorm", "norm_embedding")
    for index in range(config.depth):
        layer, block = f"encoder.layer.{index}", f"block_{index}"
        tensors += _attention(f"{layer}.attention.self", block)
        tensors += _affine(f"{layer}.attention.output.dense", f"{block}/attention/out")
        tensors += _norm(f"{layer}.attention.output.LayerNorm", f"{block}/norm_attention")
        tensors += _affine(f"{layer}.intermediate.dense", f"{block}/expand")
        tensors += _affine(f"{layer}.output.dense", f"{block}/contract")
        tensors += _norm(f"{layer}.output.LayerNorm", f"{block}/norm_mlp")
    return tensors + _head(config)


def _gpt2(config: gpt2.Config) -> list[Tensor]:
    tensors = [Tensor("wte.weight", ("tokens",)), Tensor("wpe.weight", ("positions",)), *_norm("ln_f", "norm")]
    for index in range(config.depth):
        layer, block = f"h.{index}", f"block_{index}"
        tensors += _joined(f"{layer}.attn.c_attn", *(f"{block}/attention/{kind}" for kind in _PROJECTIONS))
        tensors += _joined(f"{layer}.attn.c_proj", f"{block}/attention/out")
        tensors += _joined(f"{layer}.mlp.c_fc", f"{block}/expand") + _joined(f"{layer}.mlp.c_proj", f"{block}/contract")
        tensors += _norm(f"{layer}.ln_1", f"{block}/norm_attention") + _norm(f"{layer}.ln_2", f"{block}/norm_mlp")
    if config.classes is not None:
        tensors.append(Tensor("score.weight", ("classifier/kernel",), transposed=True))
    return tensors


def _llama(config: llama.Config) -> list[Tensor]:
    tensors = [Tensor("embed_tokens.weight", ("tokens",)), Tensor("norm.weight", ("norm/scale",))]
    if not config.tied and config.read_out != "last":
        tensors.append(Tensor("lm_head.weight", ("head",)))
    maps = {f"self_attn.{kind[0]}_proj": (f"attention/{kind}", config.projection_biases) for kind in _PROJECTIONS}
    maps["self_attn.o_proj"] = ("attention/out", config.out_biases)
    mlp = {"gate_proj": "gate", "up_proj": "expand", "down_proj": "contract"}
    maps |= {f"mlp.{theirs}": (ours, config.mlp_biases) for theirs, ours in mlp.items()}
    norms = {"input_layernorm": "norm_attention", "post_attention_layernorm": "norm_mlp"}
    if config.normalized_queries:
        norms |= {f"self_attn.{kind[0]}_norm": f"attention/norm_{kind}" for kind in ("query", "key")}
    for index in range(config.depth):
        layer, block = f"layers.{index}", f"block_{index}"
        for theirs, (ours, biases) in maps.items():
            tensors += _affine(f"{layer}.{theirs}", f"{block}/{ours}")[: 2 if biases else 1]
        tensors += [Tensor(f"{layer}.{theirs}.weight", (f"{block}/{ours}/scale",)) for theirs, ours in norms.items()]
    return tensors


def _vit(config: vit.Config) -> list[Tensor]:
    tensors = [
        Tensor("embeddings.cls_token", ("class_token",)),
        Tensor("embeddings.position_embeddings", ("positions",)),
        *_convolution("embeddings.patch_embeddings.projection", "patches", config.patch),
        *_norm("layernorm", "norm"),
    ]
    if config.registers:
        tensors.append(Tensor("embeddings.register_tokens", ("registers",)))
    dino = config.layer_scale
    norms = ("norm1", "norm2") if dino else ("layernorm_before", "layernorm_after")
    mlp = ("mlp.fc1", "mlp.fc2") if dino else ("intermediate.dense", "output.dense")
    for index in range(config.depth):
        layer, block = f"encoder.layer.{index}", f"block_{index}"
        tensors += _attention(f"{layer}.attention.attention", block)
        tensors += _affine(f"{layer}.attention.output.dense", f"{block}/attention/out")
        if config.gated_mlp:
            tensors += [
                Tensor(f"{layer}.mlp.weights_in.weight", (f"{block}/gate/kernel", f"{block}/expand/kernel"), True),
                Tensor(f"{layer}.mlp.weights_in.bias", (f"{block}/gate/bias", f"{block}/expand/bias")),
                *_affine(f"{layer}.mlp.weights_out", f"{block}/contract"),
            ]
        else:
            for theirs, ours in zip(mlp, ("expand", "contract"), strict=True):
                tensors += _affine(f"{layer}.{theirs}", f"{block}/{ours}")
        for theirs, ours in zip(norms, ("attention", "mlp"), strict=True):
            tensors += _norm(f"{layer}.{theirs}", f"{block}/norm_{ours}")
        if dino:
            scales = (("layer_scale1", "scale_attention"), ("layer_scale2", "scale_mlp"))
            tensors += [Tensor(f"{layer}.{theirs}.lambda1", (f"{block}/{ours}",)) for theirs, ours in scales]
    return tensors + _head(config)


def _convnext(config: convnext.Config) -> list[Tensor]:
    tensors = _convolution("embeddings.patch_embeddings", "stem", config.stem)
    tensors += _norm("embeddings.layernorm", "stem_norm") + _norm("layernorm", "norm")
    for stage, depth in enumerate(config.depths):
        theirs = f"encoder.stages.{stage}"
        if stage > 0:
            tensors += _norm(f"{theirs}.downsampling_layer.0", f"halve_{stage}_norm")
            tensors += _convolution(f"{theirs}.downsampling_layer.1", f"halve_{stage}", 2)
        for index in range(depth):
            layer, block = f"{theirs}.layers.{index}", f"block_{stage}_{index}"
            tensors.append(Tensor(f"{layer}.dwconv.weight", (f"{block}/depthwise/kernel",), depthwise=True))
            tensors.append(Tensor(f"{layer}.dwconv.bias", (f"{block}/depthwise/bias",), flat=True))
            tensors += _norm(f"{layer}.layernorm", f"{block}/norm") + _norm(f"{layer}.grn", f"{block}/respond")
            tensors += _affine(f"{layer}.pwconv1", f"{block}/expand") + _affine(f"{layer}.pwconv2", f"{block}/contract")
    return tensors + (_affine("classifier", "head") if config.classes is not None else [])


_TENSORS: dict[type, Callable[..., list[Tensor]]] = {
    bert.Config: _bert,
    convnext.Config: _convnext,
    gpt2.Config: _gpt2,
    llama.Config: _llama,
    vit.Config: _vit,
}
