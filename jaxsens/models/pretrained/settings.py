"""Settings of ``config.json`` by the names of arguments here, and back."""

from collections.abc import Mapping
from typing import Any

from jaxsens.models.common import require, require_positive

__all__ = ["ENCODER", "Json", "give", "positive", "take", "whole"]

Json = Mapping[str, Any]

ENCODER = {
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "activation": "hidden_act",
    "epsilon": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
}
"""Arguments of an encoder, and the settings that hold them."""


def take(settings: Json, names: dict[str, str]) -> dict[str, Any]:
    """Return arguments, from the settings that hold them.

    Raises:
        ValueError: If a setting is missing.

    Example:
        >>> take({"n_embd": 4, "n_head": 2}, {"width": "n_embd"})
        {'width': 4}
    """
    for theirs in names.values():
        require(theirs in settings, f"{theirs} in config.json", None, "given")
    return {ours: settings[theirs] for ours, theirs in names.items()}


def positive(settings: Json, name: str) -> int:
    """Return a setting that is a positive integer.

    Raises:
        ValueError: If it is not.

    Example:
        >>> positive({"n_embd": 4}, "n_embd")
        4
    """
    require_positive(**{f"{name} in config.json": settings[name]})
    return settings[name]


def whole(value: Any) -> bool:
    """Return whether a setting is an integer.

    Example:
        >>> whole(3), whole(True)
        (True, False)
    """
    return isinstance(value, int) and not isinstance(value, bool)


def give(config: Any, names: dict[str, str]) -> dict[str, Any]:
    """Return settings, from the arguments of a configuration.

    Example:
        >>> import argparse
        >>> give(argparse.Namespace(width=4), {"width": "n_embd"})
        {'n_embd': 4}
    """
    return {theirs: getattr(config, ours) for ours, theirs in names.items()}
