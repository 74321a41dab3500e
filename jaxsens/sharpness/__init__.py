"""Sharpness: how much a loss, its outputs and its predictions move when the weights are perturbed.

``average`` perturbs at random, ``worst_case`` ascends (by ``apgd``), ``loss_landscape`` evaluates lines and planes, and
``classification`` reads losses and predictions from one pass of a classifier.
"""

from jaxsens.sharpness.average import average_sharpness, classifier_sharpness, output_sharpness, prediction_sharpness
from jaxsens.sharpness.loss_landscape import LossPlane, loss_plane, random_directions
from jaxsens.sharpness.worst_case import WorstCase, worst_case_sharpness

__all__ = [
    "LossPlane",
    "WorstCase",
    "average_sharpness",
    "classifier_sharpness",
    "loss_plane",
    "output_sharpness",
    "prediction_sharpness",
    "random_directions",
    "worst_case_sharpness",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
