"""Figures of measurements.

Every function takes plain numbers and returns a `matplotlib.figure.Figure` that belongs to no global state; save it
with ``Run.figure`` or ``figure.savefig``. A model has the same color and marker in all figures.
"""

from jaxsens.plots.architectures import bars_with_intervals, scatter_with_intervals, token_map, training_curves
from jaxsens.plots.curves import Curve, curve_grid
from jaxsens.plots.densities import spectral_densities
from jaxsens.plots.panels import Quantity, side_by_side
from jaxsens.plots.planes import loss_planes
from jaxsens.plots.spectra import dots, rate_by_length, spectra, survival
from jaxsens.plots.style import Interval, style

__all__ = [
    "Curve",
    "Interval",
    "Quantity",
    "bars_with_intervals",
    "curve_grid",
    "dots",
    "loss_planes",
    "rate_by_length",
    "scatter_with_intervals",
    "side_by_side",
    "spectra",
    "spectral_densities",
    "style",
    "survival",
    "token_map",
    "training_curves",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
