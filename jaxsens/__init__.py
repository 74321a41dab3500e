"""Sensitivity of neural networks to one token of the input, and to the weights.

    perturbation  x  substitution  x  change  ->  estimate

The names below are what most users need. ``jaxsens.models``, ``jaxsens.data``, ``jaxsens.training`` and
``jaxsens.plots`` are imported when they are first used, since they need Flax, tensorflow-datasets, Orbax and
matplotlib.
"""

import importlib
from typing import Any

from jaxsens import (
    boolean,
    changes,
    corruptions,
    curvature,
    embedding_space,
    execution,
    noise_stability,
    perturb,
    results,
    scales,
    sensitivity,
    sharpness,
    statistics,
    substitution,
    theory,
)
from jaxsens.boolean import sensitivity_profile
from jaxsens.corruptions import corruption_error
from jaxsens.embedding_space import embedding_shifts, nearest_tokens
from jaxsens.execution import Execution, map_items
from jaxsens.results import load
from jaxsens.sensitivity import (
    SampledSensitivity,
    ScreenedSensitivity,
    Sensitivity,
    sampled_token_sensitivity,
    screened_token_sensitivity,
    token_sensitivity,
)
from jaxsens.sharpness import (
    average_sharpness,
    classifier_sharpness,
    output_sharpness,
    prediction_sharpness,
    worst_case_sharpness,
)
from jaxsens.statistics import Estimate
from jaxsens.substitution import one_at_a_time

__version__ = "0.1.0"

_LAZY = ("data", "models", "plots", "training")
_ADAPTERS = ("from_equinox", "from_images", "from_linen", "from_nnx", "from_pretrained")

__all__ = [
    "Estimate",
    "Execution",
    "SampledSensitivity",
    "ScreenedSensitivity",
    "Sensitivity",
    "average_sharpness",
    "boolean",
    "changes",
    "classifier_sharpness",
    "corruption_error",
    "corruptions",
    "curvature",
    "data",
    "embedding_shifts",
    "embedding_space",
    "execution",
    "from_equinox",
    "from_images",
    "from_linen",
    "from_nnx",
    "from_pretrained",
    "load",
    "map_items",
    "models",
    "nearest_tokens",
    "noise_stability",
    "one_at_a_time",
    "output_sharpness",
    "perturb",
    "plots",
    "prediction_sharpness",
    "results",
    "sampled_token_sensitivity",
    "scales",
    "screened_token_sensitivity",
    "sensitivity",
    "sensitivity_profile",
    "sharpness",
    "statistics",
    "substitution",
    "theory",
    "token_sensitivity",
    "training",
    "worst_case_sharpness",
]


def __getattr__(name: str) -> Any:
    """Import a part of the library that needs a further dependency when it is first used."""
    if name in _LAZY:
        return importlib.import_module(f"jaxsens.{name}")
    if name in _ADAPTERS:
        return getattr(importlib.import_module("jaxsens.models.adapters"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*__all__, "__version__"])
