"""Reading and writing ``config.json`` of checkpoints in the Hugging Face format, for every architecture."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import linen as nn

from jaxsens.models.common import require, require_number, require_positive
from jaxsens.models.pretrained import vit
from jaxsens.models.text import bert, gpt2

__all__ = ["KINDS", "READ_OUT", "Json", "Kind", "kind_of", "model_name"]

Json = Mapping[str, Any]


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
    return _write_image(config) | {"intermediate_size": config.hidden}


def _read_dinov2(settings: Json) -> dict[str, Any]:
    taken = _take(settings, _VISION | {"hidden": "mlp_ratio"}) | _read_image(settings)
    ratio = taken["hidden"]
    require_number("mlp_ratio in config.json", ratio, lambda ratio: ratio > 0, "a number above 0")
    return taken | {"hidden": int(_positive(settings, "hidden_size") * ratio), "layer_scale": True}


def _write_dinov2(config: vit.Config) -> dict[str, Any]:
    require(config.hidden % config.width == 0, "config.hidden", config.hidden, f"a multiple of {config.width}")
    require(len(set(config.grid)) == 1, "config.image_shape", config.image_shape, "square: DINOv2 has no other")
    return _write_image(config) | {"mlp_ratio": config.hidden // config.width, "use_swiglu_ffn": False}


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
    ),
    "dinov2": Kind(
        vit.PretrainedViT,
        vit.Config,
        "dinov2",
        {"Dinov2Model": "class", "Dinov2ForImageClassification": "class and mean"},
        "Dinov2ForImageClassification",
        re.compile(r"embeddings\.mask_token|classifier\..*"),
        {"qkv_bias": True, "use_swiglu_ffn": False},
        _read_dinov2,
        _write_dinov2,
    ),
}
"""The architectures by ``model_type``."""

READ_OUT = "jaxsens_read_out"
"""A setting of this library: the read-out, where the name of the model does not determine it."""


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
    known = isinstance(config, vit.Config)
    require(known, "module.config", config, "the configuration of a Bert, a GPT2 or a PretrainedViT")
    return "dinov2" if config.layer_scale else "vit"


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
    require(config.attention == "softmax", "config.attention", config.attention, "'softmax': the format has no other")
    if config.classes is not None:
        expected = kind.read_outs[kind.classifying]
        require(config.read_out == expected, "config.read_out", config.read_out, f"{expected!r} before a classifier")
        return kind.classifying
    language = kind.module is gpt2.GPT2 and config.read_out != "last"
    return "GPT2LMHeadModel" if language else next(iter(kind.read_outs))
