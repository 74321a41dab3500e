"""Reading and writing folders of trained weights in the Hugging Face format."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.models.common import require, require_dtype, require_path
from jaxsens.models.images import convnext
from jaxsens.models.pretrained import configs, safetensors, vit
from jaxsens.models.pretrained.configs import KINDS, READ_OUT, Kind
from jaxsens.models.pretrained.tensor_names import (
    Tensor,
    by_path,
    from_parameters,
    nested,
    tensor_shape,
    tensors_of,
    to_parameters,
)
from jaxsens.models.text import encoder
from jaxsens.results.result import Description, Result
from jaxsens.typing import PyTree

__all__ = ["Pretrained", "load", "save"]


@partial(jax.tree_util.register_dataclass, data_fields=["variables"], meta_fields=["module", "unused"])
@dataclasses.dataclass(frozen=True, repr=False)
class Pretrained(Result):
    """A model with trained weights; ``module, variables, unused = load(...)`` takes it apart.

    Attributes:
        module: ``bert.Bert``, ``gpt2.GPT2``, ``llama.Llama``, ``vit.PretrainedViT`` or ``images.convnext.ConvNeXt``.
        variables: ``{"params": ...}``.
        unused: Names of the tensors in the files that the model does not use; all belong to its architecture.

    Example:
        >>> model = Pretrained(nn.Dense(2), {"params": {"bias": np.zeros(2)}}, ("pooler",))
        >>> module, variables, unused = model
        >>> unused
        ('pooler',)
    """

    module: nn.Module
    variables: PyTree
    unused: tuple[str, ...]

    _by_shape = ("variables",)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.module, self.variables, self.unused))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a folder in the Hugging Face format; see ``save``."""
        save(path, self.module, self.variables)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> "Pretrained":
        """Read a model from a folder in the Hugging Face format; arguments as of ``load``."""
        return load(path, **options)

    def _describe(self) -> Description:
        leaves = jax.tree_util.tree_leaves_with_path(self.variables)
        count = sum(leaf.size for _, leaf in leaves)
        columns = {
            "parameter": [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves],
            "shape": [str(list(leaf.shape)) for _, leaf in leaves],
            "size": [leaf.size for _, leaf in leaves],
        }
        facts = {"output": self.module.config.read_out, "unused tensors": len(self.unused)}
        words = f"{type(self.module).__name__}, {self.module.config.read_out}"
        return Description(f"{count} parameters", words=words, facts=facts, table=lambda: columns)


def load(
    path: str | os.PathLike[str],
    *,
    read_out: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    patch: int | None = None,
    dtype: Any = jnp.float32,
) -> Pretrained:
    """Read a model of text or images, strictly.

    Text: BERT, RoBERTa, GPT-2, Llama, Mistral, Qwen 2 and 3. Images: ViT, DINOv2 (also with registers, or gated MLPs),
    ConvNeXt V2.

    Every tensor in the files is used, or is one that the architecture has in addition to the model (buffers, heads of
    pretraining, poolers that are not read); every parameter of the model is in the files, with the right shape. Names
    and shapes are checked before values are read. Names may begin with ``module.`` or ``0.auto_model.``; an embedding
    may be kept under the name of the output matrix that is tied to it; missing settings that are no sizes have the
    values that ``transformers`` gives them.

    Args:
        path: The folder, with ``config.json``, and ``model.safetensors`` or shards and their index.
        read_out: Output of the model, one of the module's ``READ_OUTS``; a classifier is then left out. ``None``:
            its logits if the checkpoint has a classifier, else activations at the class token (GPT-2: logits of the
            next token, or activations at the last one if it is named ``GPT2Model``; Llama and
            the others like it).
        image_shape: ``(h, w, c)`` of images, if not those that a ViT was trained for; its positions are then
            interpolated (``vit.resize_positions``).
        patch: Side of the patches that are a ConvNeXt's tokens, if not that of the squares that its first layer
            embeds; outputs do not depend on it.
        dtype: The dtype of parameters and activations, whatever that of the files.

    Raises:
        ValueError: If a file is missing, truncated or corrupted; the architecture or a setting is not supported; or a
            tensor is missing, unknown, of another shape, not finite in ``dtype``, or no floats. The file and the tensor
            are named.

    Example:
        A model that ``save`` wrote is read again::

            pretrained.save("models/mine", module, variables)
            module, variables, unused = pretrained.load("models/mine")

        >>> load("no/such/folder")
        Traceback (most recent call last):
        ValueError: no/such/folder/config.json cannot be read (No such file): give the folder of a ...
    """
    require_path(path)
    folder = Path(path)
    dtype = require_dtype(dtype)
    if dtype == jnp.float64:
        require(jax.config.jax_enable_x64, "dtype", "float64", "used with jax_enable_x64 on")
    settings = safetensors.read_json(folder / "config.json")
    try:
        name, kind = _kind(settings)
        config = _config(settings, name, kind, read_out, dtype)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from error
    module = kind.module(config)
    tied = kind.tied if (kind.defaults | settings).get("tie_word_embeddings", True) is True else {}
    parameters, unused = _parameters(folder, name, kind._replace(tied=tied), module)
    if image_shape is not None or patch is not None:
        module, parameters = _for_images(module, parameters, image_shape, patch)
    return Pretrained(module, {"params": nested(parameters)}, unused)


def save(path: str | os.PathLike[str], module: nn.Module, variables: PyTree) -> None:
    """Write a model as ``load`` and the ``transformers`` library read it, in the dtype of its parameters.

    Args:
        path: The folder, which is made if need be.
        module: A ``bert.Bert``, ``gpt2.GPT2``, ``llama.Llama``, ``vit.PretrainedViT`` or ``images.convnext.ConvNeXt``.
        variables: ``{"params": ...}``.

    Raises:
        ValueError: If the format has no such model, variables do not fit the module, or the folder has a model already.

    Example:
        >>> import tempfile
        >>> from jaxsens.models.text import gpt2
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> module = gpt2.GPT2(gpt2.Config(**sizes))
        >>> variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), encoder.shapes_of(module))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(folder, module, variables)
        ...     load(folder).module == module
        True
    """
    require_path(path)
    folder, config = Path(path), getattr(module, "config", None)
    model_type = configs.kind_of(config)
    name, kind = configs.model_name(config), KINDS[model_type]
    encoder.require_variables(module, variables)
    parameters = by_path(variables["params"])
    headed = name != next(iter(kind.read_outs))
    tensors = {
        _long(tensor.name, kind) if headed else tensor.name: from_parameters(tensor, parameters)
        for tensor in tensors_of(config)
    }
    settings = {"architectures": [name], "model_type": model_type, **kind.write(config)}
    settings |= {READ_OUT: config.read_out} if config.read_out != kind.read_outs[name] else {}
    if config.classes is not None:
        settings["id2label"] = {str(index): f"LABEL_{index}" for index in range(config.classes)}
    for file in ("config.json", safetensors.WHOLE, safetensors.INDEX):
        require(not (folder / file).exists(), "path", str(folder), f"a folder without a model, but {file} is there")
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.write(folder / safetensors.WHOLE, tensors)
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def _kind(settings: Mapping[str, Any]) -> tuple[str, Kind]:
    model_type = settings.get("model_type")
    if model_type is None:
        names = settings.get("architectures") or [None]
        model_type = next((name for name, kind in KINDS.items() if names[0] in kind.read_outs), None)
    require(model_type in KINDS, "model_type", model_type, f"one of {', '.join(KINDS)}")
    kind = KINDS[model_type]
    names = settings.get("architectures") or [next(iter(kind.read_outs))]
    supported = len(names) == 1 and names[0] in kind.read_outs
    require(supported, "architectures", names, f"one of {', '.join(kind.read_outs)}")
    for setting, value in kind.fixed.items():
        actual = settings.get(setting, value)
        require(actual == value, setting, actual, f"{value!r}: nothing else is supported")
    return names[0], kind


def _config(settings: Mapping[str, Any], name: str, kind: Kind, read_out: str | None, dtype: Any) -> Any:
    arguments = kind.read(kind.defaults | settings)
    if name == kind.classifying and read_out is None:
        labels = settings.get("id2label")
        arguments["classes"] = settings.get("num_labels", 2) if labels is None else len(labels)
    arguments["read_out"] = read_out or settings.get(READ_OUT, kind.read_outs[name])
    return kind.config(**arguments, dtype=dtype)


def _parameters(folder: Path, name: str, kind: Kind, module: nn.Module) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a model's parameters by path, and the names of tensors that it does not use."""
    stored = _by_short_name(safetensors.headers(folder), kind)
    depth = module.config.depth
    # Before anything is made of the configuration, since a model of a million layers takes hours to trace.
    require(depth <= len(stored), f"the number of layers in {folder / 'config.json'}", depth,
            f"at most {len(stored)}, the number of tensors in the files")  # fmt: skip
    expected = {tensor.name: tensor for tensor in tensors_of(module.config)}
    unused = []
    for short, tensor in stored.items():
        if short not in expected:
            if not kind.extras.fullmatch(short):
                raise ValueError(f"{tensor.path} holds {tensor.name}, which is no tensor of {name}.")
            unused.append(tensor.name)
    missing = sorted(expected.keys() - stored.keys())
    if missing:
        raise ValueError(f"{folder} lacks {missing[0]}, which {name} needs ({len(missing)} missing in all).")
    shapes = {path: leaf.shape for path, leaf in by_path(encoder.shapes_of(module)["params"]).items()}
    for short, tensor in expected.items():
        shape, needed = stored[short].shape, tensor_shape(tensor, shapes)
        if shape != needed:
            raise ValueError(
                f"{stored[short].path} holds {stored[short].name} of shape {shape}, but config.json makes it {needed}."
            )
    parameters = {}
    shorts = {tensor: short for short, tensor in stored.items() if short in expected}
    for tensor, values in safetensors.read(shorts):
        parameters |= _checked(tensor, values, expected[shorts[tensor]], module.config.dtype)
    table = next((table for table, head in kind.tied.items() if head == "lm_head.weight"), None)
    if table is not None and "lm_head.weight" in stored:
        ((_, head),) = safetensors.read([stored["lm_head.weight"]])
        tied = np.array_equal(head.astype(module.config.dtype), parameters["tokens"])
        require(tied, f"lm_head.weight in {folder}", "another matrix", f"{table}: this {name} has one for both")
    return parameters, tuple(unused)


def _by_short_name(tensors: list[safetensors.Stored], kind: Kind) -> dict[str, safetensors.Stored]:
    stored: dict[str, safetensors.Stored] = {}
    for tensor in tensors:
        short = _short(tensor.name, kind)
        if short in stored:
            raise ValueError(
                f"{tensor.path} holds {tensor.name}, and so do the files under the name {stored[short].name}."
            )
        stored[short] = tensor
    for name, other in kind.tied.items():
        if name not in stored and other in stored:
            stored[name] = stored.pop(other)
    return stored


def _for_images(
    module: nn.Module,
    parameters: Mapping[str, Any],
    image_shape: tuple[int, int, int] | None,
    patch: int | None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a model of images, and its parameters, for images of another size, or other patches."""
    config, convolutional = module.config, isinstance(module, convnext.ConvNeXt)
    takes_images = convolutional or isinstance(config, vit.Config)
    require(takes_images or image_shape is None, "image_shape", image_shape, f"None for a {type(module).__name__}")
    require(convolutional or patch is None, "patch", patch, f"None for a {type(module).__name__}")
    changes = {"image_shape": image_shape, "patch": patch}
    resized = dataclasses.replace(config, **{name: value for name, value in changes.items() if value is not None})
    channels = resized.image_shape[2]
    require(channels == config.image_shape[2], "image_shape[2]", channels, f"{config.image_shape[2]}, as in training")
    if convolutional:
        return type(module)(resized), dict(parameters)
    antialias = config.registers > 0
    positions = vit.resize_positions(parameters["positions"], config.grid, resized.grid, antialias=antialias)
    return type(module)(resized), {**parameters, "positions": jnp.asarray(positions)}


def _short(name: str, kind: Kind) -> str:
    """Return a tensor's name without the prefix, and in the spelling of today."""
    for prefix in ("module.", "0.auto_model.", f"{kind.prefix}."):
        name = name.removeprefix(prefix)
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        name = name.replace(old, new)
    return name


def _long(name: str, kind: Kind) -> str:
    head = name.startswith(("classifier.", "score.", "lm_head."))
    return name if head else f"{kind.prefix}.{name}"


def _checked(stored: safetensors.Stored, values: np.ndarray, tensor: Tensor, dtype: np.dtype) -> dict[str, Any]:
    """Return a tensor's parameters by path, in a dtype."""
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(f"{stored.path} holds {stored.name} in {values.dtype}, but it must be floats.")
    _require_finite(stored, values, "that are not finite")
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype)
    _require_finite(stored, narrow, f"beyond the range of {dtype}: read it in float32 or bfloat16")
    return {path: jnp.asarray(part) for path, part in to_parameters(tensor, narrow).items()}


def _require_finite(stored: safetensors.Stored, values: np.ndarray, fault: str) -> None:
    # NumPy's isfinite has no loop for the narrow types of ml_dtypes.
    if not np.isfinite(values.astype(np.float32) if values.itemsize < 4 else values).all():
        raise ValueError(f"{stored.path} holds {stored.name} with values {fault}.")
