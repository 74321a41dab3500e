"""Sharpness: how much a loss, its outputs and its predictions move when the weights are perturbed.

``average`` perturbs at random, ``worst_case`` ascends (by ``apgd``), ``loss_landscape`` evaluates lines and planes, and
``classification`` reads losses and predictions from one pass of a classifier.
"""

from jaxsens.sharpness.average import average_sharpness, classifier_sharpness, output_sharpness, prediction_sharpness
from jaxsens.sharpness.loss_landscape import loss_plane
from jaxsens.sharpness.worst_case import worst_case_sharpness

__all__ = [
    "average_sharpness",
    "classifier_sharpness",
    "loss_plane",
    "output_sharpness",
    "prediction_sharpness",
    "worst_case_sharpness",
]
