"""Reading and writing ``config.json`` of checkpoints in the Hugging Face format, for every architecture.

The file is long since every architecture has settings of its own.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from flax import linen as nn

from jaxsens.models.common import require, require_flags, require_number, require_positive
from jaxsens.models.images import convnext
from jaxsens.models.pretrained import decoders, vit
from jaxsens.models.text import bert, gpt2, llama

__all__ = ["KINDS", "READ_OUT", "Json", "Kind", "kind_of", "model_name"]

Json = Mapping[str, Any]

READ_OUT = "jaxsens_read_out"
"""A setting of this library: the read-out, where the name of the model does not determine it."""

PATCH = "jaxsens_patch"
"""A setting of this library: the side of a ConvNeXt's tokens, where it is not that of the first layer's squares."""


class Kind(NamedTuple):
    """An architecture in the Hugging Face format.

    Attributes:
        module: The model.
        config: Its configuration.
        prefix: The prefix of the names of all tensors except those of a head, if there is a head.
        read_outs: Names of the model with each head, and the read-out of each.
        classifying: Name of the model with a classifier.
        extras: Names of further tensors that a checkpoint may hold, without the prefix.
        fixed: The only supported values of settings.
        read: Makes arguments of the configuration.
        write: Makes settings.
        defaults: The values that ``transformers`` takes for settings that are missing.
        tied: The names of a matrix that is the embedding, too, by the name of the embedding; files may have either.

    Example:
        >>> KINDS["bert"].module.__name__, KINDS["bert"].prefix
        ('Bert', 'bert')
    """

    module: type[nn.Module]
    config: type
    prefix: str
    read_outs: dict[str, str]
    classifying: str
    extras: re.Pattern[str]
    fixed: dict[str, Any]
    read: Callable[[Json], dict[str, Any]]
    write: Callable[[Any], dict[str, Any]]
    defaults: dict[str, Any]
    tied: dict[str, str]


_ENCODER = {
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "activation": "hidden_act",
    "epsilon": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
}
_TEXT = _ENCODER | {"vocabulary": "vocab_size", "types": "type_vocab_size"}
_DECODER = {
    "width": "n_embd",
    "depth": "n_layer",
    "heads": "n_head",
    "hidden": "n_inner",
    "activation": "activation_function",
    "epsilon": "layer_norm_epsilon",
    "dropout": "resid_pdrop",
    "vocabulary": "vocab_size",
    "positions": "n_positions",
}
_VISION = {ours: theirs for ours, theirs in _ENCODER.items() if ours != "hidden"}


def _take(settings: Json, names: dict[str, str]) -> dict[str, Any]:
    for theirs in names.values():
        require(theirs in settings, f"{theirs} in config.json", None, "given")
    return {ours: settings[theirs] for ours, theirs in names.items()}


def _positive(settings: Json, name: str) -> int:
    require_positive(**{f"{name} in config.json": settings[name]})
    return settings[name]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _give(config: Any, names: dict[str, str]) -> dict[str, Any]:
    return {theirs: getattr(config, ours) for ours, theirs in names.items()}


def _read_bert(settings: Json) -> dict[str, Any]:
    return _take(settings, _TEXT | {"positions": "max_position_embeddings"})


def _read_roberta(settings: Json) -> dict[str, Any]:
    taken = _take(settings, _TEXT | {"positions": "max_position_embeddings", "position_offset": "pad_token_id"})
    padding = taken["position_offset"]
    require(_whole(padding) and padding >= 0, "pad_token_id in config.json", padding, "an integer of at least 0")
    offset = padding + 1  # the first position follows the id of padding
    return taken | {"position_offset": offset, "positions": _positive(settings, "max_position_embeddings") - offset}


def _write_bert(config: bert.Config) -> dict[str, Any]:
    rows = config.position_offset + config.positions
    padding = {"pad_token_id": config.position_offset - 1} if config.roberta else {}
    return _give(config, _TEXT) | {"max_position_embeddings": rows, "attention_probs_dropout_prob": 0.0} | padding


def _read_gpt2(settings: Json) -> dict[str, Any]:
    taken = _take(settings, {ours: theirs for ours, theirs in _DECODER.items() if ours != "hidden"})
    return taken | {"hidden": settings.get("n_inner") or 4 * _positive(settings, "n_embd")}


def _write_gpt2(config: gpt2.Config) -> dict[str, Any]:
    # This library has no id for padding; `transformers` uses one to find the last token.
    return _give(config, _DECODER) | {"embd_pdrop": config.dropout, "attn_pdrop": 0.0, "pad_token_id": None}


def _read_image(settings: Json) -> dict[str, Any]:
    taken = _take(settings, {"size": "image_size", "channels": "num_channels", "patch": "patch_size"})
    size, patch = taken["size"], taken["patch"]
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if isinstance(patch, list | tuple):
        require(len(set(patch)) == 1, "patch_size in config.json", patch, "the same both ways")
        patch = patch[0]
    return {"image_shape": (height, width, taken["channels"]), "patch": patch}


def _write_image(config: vit.Config) -> dict[str, Any]:
    height, width, channels = config.image_shape
    size = height if height == width else [height, width]
    image = {"image_size": size, "num_channels": channels, "patch_size": config.patch, "qkv_bias": True}
    return _give(config, _VISION) | image | {"attention_probs_dropout_prob": 0.0}


def _read_vit(settings: Json) -> dict[str, Any]:
    return _take(settings, _ENCODER) | _read_image(settings)


def _write_vit(config: vit.Config) -> dict[str, Any]:
    require(not config.gated_mlp, "config.gated_mlp", True, "False without layer_scale: only DINOv2 has it")
    require(config.registers == 0, "config.registers", config.registers, "0 without layer_scale: only DINOv2 has them")
    return _write_image(config) | {"intermediate_size": config.hidden}


def _gated_hidden(hidden: int) -> int:
    """Return the hidden width of DINOv2's gated MLP: two thirds of that of an MLP, in multiples of 8."""
    return (int(hidden * 2 / 3) + 7) // 8 * 8


def _read_dinov2(settings: Json) -> dict[str, Any]:
    taken = _take(settings, _VISION | {"hidden": "mlp_ratio"}) | _read_image(settings)
    ratio, gated = taken["hidden"], settings.get("use_swiglu_ffn", False)
    require_number("mlp_ratio in config.json", ratio, lambda ratio: ratio > 0, "a number above 0")
    require_flags(**{"use_swiglu_ffn in config.json": gated})
    hidden = int(_positive(settings, "hidden_size") * ratio)
    if not gated:
        return taken | {"hidden": hidden, "layer_scale": True}
    # Its activation is no setting.
    return taken | {"hidden": _gated_hidden(hidden), "layer_scale": True, "gated_mlp": True, "activation": "silu"}


def _read_dinov2_with_registers(settings: Json) -> dict[str, Any]:
    return _read_dinov2(settings) | _take(settings, {"registers": "num_register_tokens"})


def _write_dinov2(config: vit.Config) -> dict[str, Any]:
    width, hidden, gated = config.width, config.hidden, config.gated_mlp
    ratio = round(1.5 * hidden / width) if gated else hidden // width
    made = _gated_hidden(width * ratio) if gated else width * ratio
    require(made == hidden, "config.hidden", hidden, f"a multiple of {width}{', times 2/3' if gated else ''}")
    require(len(set(config.grid)) == 1, "config.image_shape", config.image_shape, "square: DINOv2 has no other")
    if gated:
        require(
            config.activation in ("silu", "swish"), "config.activation", config.activation, "'silu' for a gated MLP"
        )
    registers = {"num_register_tokens": config.registers} if config.registers else {}
    return _write_image(config) | {"mlp_ratio": ratio, "use_swiglu_ffn": gated} | registers


_CONVNEXT = {
    "widths": "hidden_sizes",
    "depths": "depths",
    "activation": "hidden_act",
    "epsilon": "layer_norm_eps",
    "drop_path": "drop_path_rate",
}


def _read_convnext(settings: Json) -> dict[str, Any]:
    image = _read_image(settings)
    stem, taken = image["patch"], _take(settings, _CONVNEXT)
    stages = len(taken["depths"])
    found = settings.get("num_stages", stages)
    require(found == stages, "num_stages in config.json", found, f"{stages}, the number of depths")
    return taken | image | {"stem": stem, "patch": settings.get(PATCH, stem)}


def _write_convnext(config: convnext.Config) -> dict[str, Any]:
    require(config.kernel == convnext.KERNEL, "config.kernel", config.kernel, f"{convnext.KERNEL} in this format")
    height, width, channels = config.image_shape
    image = {"image_size": height if height == width else [height, width], "num_channels": channels}
    patch = {} if config.patch == config.stem else {PATCH: config.patch}
    return _give(config, _CONVNEXT) | {"num_stages": len(config.depths), "patch_size": config.stem} | image | patch


_ACTIVE = {"hidden_act": "gelu", "layer_norm_eps": 1e-12}
_BERT = _ACTIVE | {"hidden_dropout_prob": 0.1, "type_vocab_size": 2}
_VIT = _ACTIVE | {"hidden_dropout_prob": 0.0, "num_channels": 3}
_DINOV2 = _VIT | {"layer_norm_eps": 1e-6, "mlp_ratio": 4}
_ONE_WAY = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}
KINDS = {
    "bert": Kind(
        bert.Bert,
        bert.Config,
        "bert",
        {
            "BertModel": "class",
            "BertForMaskedLM": "class",
            "BertForPreTraining": "class",
            "BertForNextSentencePrediction": "class",
            "BertForSequenceClassification": "pooler",
        },
        "BertForSequenceClassification",
        re.compile(r"embeddings\.(position_ids|token_type_ids)|(pooler|classifier|cls)\..*"),
        _ONE_WAY,
        _read_bert,
        _write_bert,
        _BERT,
        {"embeddings.word_embeddings.weight": "cls.predictions.decoder.weight"},
    ),
    "roberta": Kind(
        bert.Bert,
        bert.Config,
        "roberta",
        {"RobertaModel": "class", "RobertaForMaskedLM": "class", "RobertaForSequenceClassification": "pooler"},
        "RobertaForSequenceClassification",
        re.compile(r"embeddings\.(position_ids|token_type_ids)|(pooler|classifier|lm_head)\..*"),
        _ONE_WAY,
        _read_roberta,
        _write_bert,
        _BERT | {"pad_token_id": 1},
        {"embeddings.word_embeddings.weight": "lm_head.decoder.weight"},
    ),
    "gpt2": Kind(
        gpt2.GPT2,
        gpt2.Config,
        "transformer",
        {"GPT2Model": "last", "GPT2LMHeadModel": "next", "GPT2ForSequenceClassification": "last"},
        "GPT2ForSequenceClassification",
        re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight|score\.weight"),
        {
            "add_cross_attention": False,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "tie_word_embeddings": True,
        },
        _read_gpt2,
        _write_gpt2,
        {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.1},
        {"wte.weight": "lm_head.weight"},
    ),
    "vit": Kind(
        vit.PretrainedViT,
        vit.Config,
        "vit",
        {"ViTModel": "class", "ViTForMaskedImageModeling": "class", "ViTForImageClassification": "class"},
        "ViTForImageClassification",
        re.compile(r"embeddings\.mask_token|(pooler|classifier|decoder)\..*"),
        {"qkv_bias": True, "pooler_act": "tanh"},
        _read_vit,
        _write_vit,
        _VIT,
        {},
    ),
    "dinov2": Kind(
        vit.PretrainedViT,
        vit.Config,
        "dinov2",
        {"Dinov2Model": "class", "Dinov2ForImageClassification": "class and mean"},
        "Dinov2ForImageClassification",
        re.compile(r"embeddings\.mask_token|classifier\..*"),
        {"qkv_bias": True},
        _read_dinov2,
        _write_dinov2,
        _DINOV2,
        {},
    ),
    "dinov2_with_registers": Kind(
        vit.PretrainedViT,
        vit.Config,
        "dinov2_with_registers",
        {"Dinov2WithRegistersModel": "class", "Dinov2WithRegistersForImageClassification": "class and mean"},
        "Dinov2WithRegistersForImageClassification",
        re.compile(r"embeddings\.(mask_token|register_tokens)|classifier\..*"),
        {"qkv_bias": True},
        _read_dinov2_with_registers,
        _write_dinov2,
        _DINOV2 | {"num_register_tokens": 4},
        {},
    ),
    "convnextv2": Kind(
        convnext.ConvNeXt,
        convnext.Config,
        "convnextv2",
        {"ConvNextV2Model": "mean", "ConvNextV2ForImageClassification": "mean"},
        "ConvNextV2ForImageClassification",
        re.compile(r"classifier\..*"),
        {},
        _read_convnext,
        _write_convnext,
        _ACTIVE | {"drop_path_rate": 0.0, "num_channels": 3},
        {},
    ),
} | {
    family: Kind(
        llama.Llama,
        llama.Config,
        "model",
        {f"{name}Model": "last", f"{name}ForCausalLM": "next"},
        "",
        re.compile(r"lm_head\.weight|(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"),
        {},
        partial(decoders.read, family),
        decoders.write,
        decoders.DEFAULTS,
        {"embed_tokens.weight": "lm_head.weight"},
    )
    for family, name in decoders.NAMES.items()
}
"""The architectures by ``model_type``."""


def kind_of(config: Any) -> str:
    """Return the ``model_type`` of a configuration.

    Raises:
        ValueError: If checkpoints have no such model.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> kind_of(gpt2.Config(**sizes))
        'gpt2'
    """
    if isinstance(config, bert.Config):
        return "roberta" if config.roberta else "bert"
    if isinstance(config, gpt2.Config):
        return "gpt2"
    if isinstance(config, convnext.Config):
        return "convnextv2"
    if isinstance(config, llama.Config):
        return decoders.family_of(config)
    known = isinstance(config, vit.Config)
    require(
        known, "module.config", config, "the configuration of a Bert, a GPT2, a Llama, a PretrainedViT or a ConvNeXt"
    )
    if not config.layer_scale:
        return "vit"
    return "dinov2_with_registers" if config.registers else "dinov2"


def model_name(config: Any) -> str:
    """Return the name that ``transformers`` has for a model with this head.

    Raises:
        ValueError: If it has no such model.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> model_name(gpt2.Config(**sizes))
        'GPT2LMHeadModel'
    """
    kind = KINDS[kind_of(config)]
    if hasattr(config, "attention"):
        found = config.attention
        require(found == "softmax", "config.attention", found, "'softmax': the format has no other")
    if config.classes is not None:
        expected = kind.read_outs[kind.classifying]
        require(config.read_out == expected, "config.read_out", config.read_out, f"{expected!r} before a classifier")
        return kind.classifying
    names = list(kind.read_outs)
    return names[1] if kind.module in (gpt2.GPT2, llama.Llama) and config.read_out != "last" else names[0]
