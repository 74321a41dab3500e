"""Curvature of a loss in the weights or inputs: products with a vector, trace, diagonal, eigenpairs, spectral density.

    product = curvature.hessian_product(loss)                  # or ggn_product(apply), fisher_product(loss)
    top = curvature.top_eigenpairs(product, 10)(key, params, batch)

``matrices`` has the products, ``sampled_fisher`` one with labels drawn from the model, ``inputs`` those in the inputs.
``operator`` sums them over a data set, ``directional`` computes ``v' H v`` at half the cost and ``microbatches`` keeps
what does not depend on the vector. ``traces``, ``diagonals``, ``eigenpairs`` and
``density`` use products only (the last two by ``lanczos``). No matrix is held: memory is that of the parameters, times
the steps of Lanczos, whose basis is spread over the devices.
"""

from jaxsens.curvature.density import SpectralDensity, smoothed, spectral_density
from jaxsens.curvature.diagonals import Diagonal, diagonal, xdiag
from jaxsens.curvature.eigenpairs import Eigenpairs, top_eigenpairs
from jaxsens.curvature.inputs import of_inputs
from jaxsens.curvature.matrices import (
    OutputCurvature,
    fisher_product,
    ggn_product,
    hessian_product,
    of_convex,
    softmax_cross_entropy,
)
from jaxsens.curvature.operator import Product
from jaxsens.curvature.sampled_fisher import monte_carlo_fisher_product
from jaxsens.curvature.traces import trace, xtrace

__all__ = [
    "Diagonal",
    "Eigenpairs",
    "OutputCurvature",
    "Product",
    "SpectralDensity",
    "diagonal",
    "fisher_product",
    "ggn_product",
    "hessian_product",
    "monte_carlo_fisher_product",
    "of_convex",
    "of_inputs",
    "smoothed",
    "softmax_cross_entropy",
    "spectral_density",
    "top_eigenpairs",
    "trace",
    "xdiag",
    "xtrace",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
