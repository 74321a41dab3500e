"""The figures.

Every function takes plain numbers and returns a `matplotlib.figure.Figure` that belongs to no global state; save it
with ``Run.figure`` or ``figure.savefig``. A model keeps its colour and its marker in all figures.
"""

from jaxsens.plots.drawing import Interval, style
from jaxsens.plots.growth import Fit, Panel, against_length
from jaxsens.plots.networks import bars_with_intervals, scatter_with_intervals, token_map, training_curves
from jaxsens.plots.planes import loss_planes
from jaxsens.plots.spectra import dots, rate_by_length, spectra, survival

__all__ = [
    "Fit",
    "Interval",
    "Panel",
    "against_length",
    "bars_with_intervals",
    "dots",
    "loss_planes",
    "rate_by_length",
    "scatter_with_intervals",
    "spectra",
    "style",
    "survival",
    "token_map",
    "training_curves",
]
