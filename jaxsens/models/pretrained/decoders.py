"""Reading and writing ``config.json`` of Llama, Mistral, Qwen 2 and Qwen 3, which are one decoder here."""

import math
from collections.abc import Mapping
from typing import Any

from jaxsens.models.common import require, require_flags, require_positive
from jaxsens.models.pretrained.settings import give, take
from jaxsens.models.text import llama, rotary

__all__ = ["DEFAULTS", "NAMES", "family_of", "read", "write"]

NAMES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""The names of the architectures in ``transformers``, by ``model_type``."""

DEFAULTS = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}
"""The values that ``transformers`` takes for settings that are missing."""

_SIZES = {
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "activation": "hidden_act",
    "epsilon": "rms_norm_eps",
    "tied": "tie_word_embeddings",
}


def read(family: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``llama.Config`` that settings of an architecture give.

    Raises:
        ValueError: If a setting is missing or not supported, such as rotations that are scaled by a text's length.

    Example:
        >>> sizes = {"width": 8, "depth": 1, "heads": 4, "key_heads": 2, "head_size": 2, "hidden": 9}
        >>> config = llama.Config(**sizes, vocabulary=5, positions=7)
        >>> llama.Config(**read("llama", write(config))) == config
        True
    """
    taken = take(settings, _SIZES)
    require_positive(**{"hidden_size in config.json": taken["width"], "num_attention_heads": taken["heads"]})
    taken["key_heads"] = _first(settings.get("num_key_value_heads"), taken["heads"])
    taken["head_size"] = _first(
        settings.get("head_dim"), 128 if family == "qwen3" else taken["width"] // taken["heads"]
    )
    attention, mlp = (settings.get(name, False) for name in ("attention_bias", "mlp_bias"))
    require_flags(**{"attention_bias in config.json": attention, "mlp_bias in config.json": mlp})
    if family in ("llama", "qwen3"):
        taken |= {"projection_biases": attention, "out_biases": attention}
    if family == "qwen2":
        taken["projection_biases"] = True
    if family == "llama":
        taken["mlp_biases"] = mlp
    return taken | {"normalized_queries": family == "qwen3", **_rotation(settings)} | _window(family, settings)


def write(config: llama.Config) -> dict[str, Any]:
    """Return the settings of a configuration.

    Example:
        >>> sizes = {"width": 8, "depth": 1, "heads": 4, "key_heads": 2, "head_size": 2, "hidden": 9}
        >>> write(llama.Config(**sizes, vocabulary=5, positions=7))["num_key_value_heads"]
        2
    """
    family = family_of(config)
    settings = give(config, _SIZES)
    settings |= {"num_key_value_heads": config.key_heads, "head_dim": config.head_size}
    settings |= {
        "rope_theta": config.theta,
        "rope_parameters": {"rope_theta": config.theta, **_written(config.scaling)},
    }
    if family in ("llama", "qwen3"):
        settings["attention_bias"] = config.out_biases
    if family == "llama":
        settings["mlp_bias"] = config.mlp_biases
    if family != "llama":
        settings["sliding_window"] = config.window
    if family.startswith("qwen"):
        windowed = config.window is not None
        settings |= {"use_sliding_window": windowed, "max_window_layers": config.full_layers}
    # This library has no id for padding.
    return settings | {"pad_token_id": None}


def family_of(config: llama.Config) -> str:
    """Return the ``model_type`` that has a configuration.

    Raises:
        ValueError: If none has it.

    Example:
        >>> sizes = {"width": 8, "depth": 1, "heads": 4, "key_heads": 2, "head_size": 2, "hidden": 9}
        >>> family_of(llama.Config(**sizes, vocabulary=5, positions=7, projection_biases=True))
        'qwen2'
    """
    projections, out = config.projection_biases, config.out_biases
    if config.normalized_queries:
        family, fits = "qwen3", projections == out and not config.mlp_biases
    elif projections and not out:
        family, fits = "qwen2", not config.mlp_biases and config.head_size * config.heads == config.width
    elif config.window is not None:
        family, fits = "mistral", not projections and not out and not config.mlp_biases and config.full_layers == 0
    else:
        family, fits = "llama", projections == out
    require(fits, "module.config", config, f"a {NAMES[family]}, or another of {', '.join(NAMES.values())}")
    return family


def _first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


_SCALING = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "original": "original_max_position_embeddings",
        "low": "low_freq_factor",
        "high": "high_freq_factor",
    },
    "yarn": {
        "factor": "factor",
        "original": "original_max_position_embeddings",
        "slow": "beta_slow",
        "fast": "beta_fast",
        "whole": "truncate",
        "amplitude": "attention_factor",
    },
}
"""The settings of each way of scaling."""


def _rotation(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base of the frequencies of rotations, and how they are scaled."""
    rotation = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    require(isinstance(rotation, Mapping), "rope_parameters in config.json", rotation, "an object of settings")
    kind = rotation.get("rope_type", rotation.get("type", "default"))
    kinds = ("default", *_SCALING)
    require(kind in kinds, "rope_type in config.json", kind, f"one of {', '.join(kinds)}")
    share = rotation.get("partial_rotary_factor", settings.get("partial_rotary_factor", 1))
    require(share == 1, "partial_rotary_factor in config.json", share, "1: nothing else is supported")
    theta = {"theta": rotation.get("rope_theta", settings.get("rope_theta", 1e4))}
    if kind == "default":
        return theta
    scaling = {name: rotation[theirs] for name, theirs in _SCALING[kind].items() if rotation.get(theirs) is not None}
    if kind == "yarn" and "original" not in scaling:
        scaling["original"] = settings.get("original_max_position_embeddings", settings["max_position_embeddings"])
    scales = [rotation.get(name) for name in ("mscale", "mscale_all_dim")]
    for name in ("factor",) if kind == "linear" else ("factor", "original"):
        require(name in scaling, f"{_SCALING[kind][name]} of rope_type {kind!r} in config.json", None, "given")
    if kind == "yarn" and all(scales) and "amplitude" not in scaling:
        first, second = (0.1 * scale * math.log(max(scaling["factor"], 1)) + 1 for scale in scales)
        scaling["amplitude"] = first / second
    try:
        return theta | {"scaling": rotary.Scaling(kind=kind, **scaling)}
    except ValueError as error:
        raise ValueError(f"rope_parameters in config.json: {error}") from error


def _written(scaling: rotary.Scaling | None) -> dict[str, Any]:
    if scaling is None:
        return {"rope_type": "default"}
    values = {theirs: getattr(scaling, name) for name, theirs in _SCALING[scaling.kind].items()}
    return {"rope_type": scaling.kind} | {name: value for name, value in values.items() if value is not None}


def _window(family: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the window, and how many layers before the first one that has it."""
    if family == "llama":
        return {}
    if family == "mistral":
        return {"window": settings.get("sliding_window", 4096)}
    used = settings.get("use_sliding_window", False)
    require_flags(**{"use_sliding_window in config.json": used})
    if not used or settings.get("sliding_window", 4096) is None:
        return {}
    depth, full = settings["num_hidden_layers"], settings.get("max_window_layers", 28)
    require(
        not isinstance(full, bool) and isinstance(full, int), "max_window_layers in config.json", full, "an integer"
    )
    kinds = ["full_attention"] * min(full, depth) + ["sliding_attention"] * max(depth - full, 0)
    layer_types = settings.get("layer_types") or kinds
    require(
        layer_types == kinds,
        "layer_types in config.json",
        layer_types,
        "windows in the last layers alone, by max_window_layers",
    )
    return {"window": settings.get("sliding_window", 4096), "full_layers": full} if full < depth else {}


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
