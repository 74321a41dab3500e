"""Settings of BERT, RoBERTa and GPT-2 in the Hugging Face format, as arguments of their configurations, and back."""

from typing import Any

from jaxsens.models.common import require
from jaxsens.models.pretrained.settings import ENCODER, Json, give, positive, take, whole
from jaxsens.models.text import bert, gpt2

__all__ = ["read_bert", "read_gpt2", "read_roberta", "write_bert", "write_gpt2"]

_TEXT = ENCODER | {"vocabulary": "vocab_size", "types": "type_vocab_size"}
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


def read_bert(settings: Json) -> dict[str, Any]:
    """Return arguments of a BERT.

    Raises:
        ValueError: If a setting is missing.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> config = bert.Config(**sizes)
        >>> read_bert(write_bert(config))["positions"]
        4
    """
    return take(settings, _TEXT | {"positions": "max_position_embeddings"})


def read_roberta(settings: Json) -> dict[str, Any]:
    """Return arguments of a RoBERTa, whose first position follows the id of padding.

    Raises:
        ValueError: If a setting is missing or not supported.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> config = bert.Config(**sizes, position_offset=2)
        >>> read_roberta(write_bert(config))["position_offset"]
        2
    """
    taken = take(settings, _TEXT | {"positions": "max_position_embeddings", "position_offset": "pad_token_id"})
    padding = taken["position_offset"]
    require(whole(padding) and padding >= 0, "pad_token_id in config.json", padding, "an integer of at least 0")
    offset = padding + 1  # the first position follows the id of padding
    return taken | {"position_offset": offset, "positions": positive(settings, "max_position_embeddings") - offset}


def write_bert(config: bert.Config) -> dict[str, Any]:
    """Return settings of a BERT or a RoBERTa.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> config = bert.Config(**sizes)
        >>> write_bert(config)["hidden_size"]
        4
    """
    rows = config.position_offset + config.positions
    padding = {"pad_token_id": config.position_offset - 1} if config.roberta else {}
    return give(config, _TEXT) | {"max_position_embeddings": rows, "attention_probs_dropout_prob": 0.0} | padding


def read_gpt2(settings: Json) -> dict[str, Any]:
    """Return arguments of a GPT-2.

    Raises:
        ValueError: If a setting is missing or not supported.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> read_gpt2(write_gpt2(gpt2.Config(**sizes)) | {"n_inner": None})["hidden"]
        16
    """
    taken = take(settings, {ours: theirs for ours, theirs in _DECODER.items() if ours != "hidden"})
    return taken | {"hidden": settings.get("n_inner") or 4 * positive(settings, "n_embd")}


def write_gpt2(config: gpt2.Config) -> dict[str, Any]:
    """Return settings of a GPT-2.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> write_gpt2(gpt2.Config(**sizes))["n_embd"]
        4
    """
    # This library has no id for padding; `transformers` uses one to find the last token.
    return give(config, _DECODER) | {"embd_pdrop": config.dropout, "attn_pdrop": 0.0, "pad_token_id": None}
