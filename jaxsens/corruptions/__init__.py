"""Corruptions of images, those of CIFAR-10-C and ImageNet-C, and how many errors of a classifier they cause.

``corrupt`` makes the images, on the devices and without a codec or pictures. ``corruption_error`` evaluates a
classifier on all of them, one compiled program for each corruption, in which the images are made and classified: they
are never stored. It is a folder of measurements and not of ``data``, since nothing is read here, and since measurements
do not import what needs tensorflow_datasets.
"""

from jaxsens.corruptions.constants import COMMON, EXTRA, NAMES, SEVERITIES
from jaxsens.corruptions.corrupted_images import Corruption, corrupt
from jaxsens.corruptions.error import corruption_error
from jaxsens.corruptions.results import CorruptionError

__all__ = ["COMMON", "EXTRA", "NAMES", "SEVERITIES", "Corruption", "CorruptionError", "corrupt", "corruption_error"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
