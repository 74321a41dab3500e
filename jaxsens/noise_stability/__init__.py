"""Noise stability: how similar the outputs for two correlated inputs are, when all tokens are perturbed at once.

``Stab_rho(f) = E[f(x) f(y)]`` for rho-correlated x and y. See ``stability`` for samples with error bars, ``exact`` for
functions of n bits, ``degree_weights`` for the Fourier weights that a curve over rho determines, and
``sensitivity_bound`` for a published bound.
"""

from jaxsens.noise_stability import sensitivity_bound
from jaxsens.noise_stability.correlated import CorrelatedBits, CorrelatedGaussian, Redrawn
from jaxsens.noise_stability.degree_weights import DegreeWeights, degree_weights
from jaxsens.noise_stability.exact import exact_noise_stability
from jaxsens.noise_stability.products import inner_product, prediction_product
from jaxsens.noise_stability.result import NoiseStability
from jaxsens.noise_stability.stability import NoiseStabilityMeasure, all_tokens_change, noise_stability

__all__ = [
    "CorrelatedBits",
    "CorrelatedGaussian",
    "DegreeWeights",
    "NoiseStability",
    "NoiseStabilityMeasure",
    "Redrawn",
    "all_tokens_change",
    "degree_weights",
    "exact_noise_stability",
    "inner_product",
    "noise_stability",
    "prediction_product",
    "sensitivity_bound",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
