"""The figures.

Every function takes plain numbers and returns a `matplotlib.figure.Figure` that belongs to no global state; save it
with ``Run.figure`` or ``figure.savefig``. A model keeps its colour and its marker in all figures.
"""

from jaxsens.plots.clouds import cloud
from jaxsens.plots.curves import Curve, curve_grid
from jaxsens.plots.densities import spectral_densities
from jaxsens.plots.drawing import Interval, style
from jaxsens.plots.growth import Fit, Panel, against_length
from jaxsens.plots.learned import learned_spectra
from jaxsens.plots.networks import bars_with_intervals, scatter_with_intervals, token_map, training_curves
from jaxsens.plots.planes import loss_planes
from jaxsens.plots.quantities import Quantity, side_by_side
from jaxsens.plots.spectra import dots, rate_by_length, spectra, survival
from jaxsens.plots.speeds import speed_ratios
from jaxsens.plots.treatments import treated_pairs
from jaxsens.plots.words import Scatter, coloured_text, scatters_with_lines, token_counts

__all__ = [
    "Curve",
    "Fit",
    "Interval",
    "Panel",
    "Quantity",
    "Scatter",
    "against_length",
    "bars_with_intervals",
    "cloud",
    "coloured_text",
    "curve_grid",
    "dots",
    "learned_spectra",
    "loss_planes",
    "rate_by_length",
    "scatter_with_intervals",
    "scatters_with_lines",
    "side_by_side",
    "spectra",
    "spectral_densities",
    "speed_ratios",
    "style",
    "survival",
    "token_counts",
    "token_map",
    "training_curves",
    "treated_pairs",
]
