"""Sensitivity of Boolean functions: exact on truth tables, sampled beyond, and of recognizers in their parameters.

``cube`` is exact and takes truth tables, ``languages`` are exact at any length, ``profile`` samples any model that can
flip a bit, ``geometry`` looks inside, and ``parameter_space`` moves the weights. ``strings`` draws what they are
evaluated on, ``recognition`` turns logits into decisions; ``tables`` and ``certificates`` serve ``cube``.
"""

from jaxsens.boolean import cube, geometry, languages, parameter_space, profile, recognition, strings
from jaxsens.boolean.languages import Language
from jaxsens.boolean.profile import Profile, sensitivity_profile

__all__ = [
    "Language",
    "Profile",
    "cube",
    "geometry",
    "languages",
    "parameter_space",
    "profile",
    "recognition",
    "sensitivity_profile",
    "strings",
]
