"""Figures of measurements.

Every function takes plain numbers and returns a `matplotlib.figure.Figure` that belongs to no global state. A notebook
shows it as the value of a cell; ``figure.savefig("name.pdf")`` writes it. A model has the same color and marker in all
figures. Figures are as wide as a column or a page of text; ``title=None`` leaves the title out.
"""

from jaxsens.plots.architectures import bars_with_intervals, scatter_with_intervals, training_curves
from jaxsens.plots.curves import Curve, curve_grid
from jaxsens.plots.densities import spectral_densities
from jaxsens.plots.looks import in_order, style
from jaxsens.plots.maps import token_map
from jaxsens.plots.panels import Quantity, side_by_side
from jaxsens.plots.planes import loss_planes
from jaxsens.plots.spectra import dots, rate_by_length, spectra, survival
from jaxsens.plots.style import Interval

__all__ = [
    "Curve",
    "Interval",
    "Quantity",
    "bars_with_intervals",
    "curve_grid",
    "dots",
    "in_order",
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
