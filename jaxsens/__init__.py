"""Sensitivity of neural networks to one token of the input, and to the weights.

    perturbation  x  substitution  x  change  ->  estimate

Models, data sets and training are imported on their own: ``jaxsens.models``, ``jaxsens.data``, ``jaxsens.training``.
"""

from jaxsens import (
    boolean,
    budget,
    changes,
    classified,
    correlation,
    curvature,
    estimate,
    looks,
    loss_plane,
    parallel,
    perturb,
    sampled_sensitivity,
    scales,
    screened_sensitivity,
    sensitivity,
    sharpness,
    substitution,
    token_shifts,
    variance_components,
)
from jaxsens.boolean import sensitivity_profile
from jaxsens.estimate import Estimate
from jaxsens.parallel import map_items
from jaxsens.sampled_sensitivity import SampledSensitivity, sampled_token_sensitivity
from jaxsens.screened_sensitivity import ScreenedSensitivity, screened_token_sensitivity
from jaxsens.sensitivity import Sensitivity, token_sensitivity
from jaxsens.sharpness import average_sharpness, classifier_sharpness, output_sharpness, prediction_sharpness
from jaxsens.substitution import one_at_a_time
from jaxsens.token_shifts import embedding_shifts, nearest_tokens
from jaxsens.worst_case import worst_case_sharpness

__version__ = "0.1.0"

__all__ = [
    "Estimate",
    "SampledSensitivity",
    "ScreenedSensitivity",
    "Sensitivity",
    "average_sharpness",
    "boolean",
    "budget",
    "changes",
    "classified",
    "classifier_sharpness",
    "correlation",
    "curvature",
    "embedding_shifts",
    "estimate",
    "looks",
    "loss_plane",
    "map_items",
    "nearest_tokens",
    "one_at_a_time",
    "output_sharpness",
    "parallel",
    "perturb",
    "prediction_sharpness",
    "sampled_sensitivity",
    "sampled_token_sensitivity",
    "scales",
    "screened_sensitivity",
    "screened_token_sensitivity",
    "sensitivity",
    "sensitivity_profile",
    "sharpness",
    "substitution",
    "token_sensitivity",
    "token_shifts",
    "variance_components",
    "worst_case_sharpness",
]
