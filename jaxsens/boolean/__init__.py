"""Sensitivity of Boolean functions: exact on truth tables, sampled beyond, and of recognizers in their parameters.

``cube`` is exact and takes truth tables, ``languages`` are exact at any length, ``profile`` samples any model that can
flip a bit (``screened_profile`` in low precision first), ``geometry`` looks inside, and ``parameter_space`` moves the
weights. ``strings`` draws what they are evaluated on, ``recognition`` turns logits into decisions; ``neighbours``
serves the profiles, ``tables`` and ``certificates`` serve ``cube``.
"""

from jaxsens.boolean import cube, geometry, languages, parameter_space, profile, recognition, strings
from jaxsens.boolean.languages import Language
from jaxsens.boolean.profile import Profile, sensitivity_profile
from jaxsens.boolean.screened_profile import ScreenedProfile, screened_sensitivity_profile

__all__ = [
    "Language",
    "Profile",
    "ScreenedProfile",
    "cube",
    "geometry",
    "languages",
    "parameter_space",
    "profile",
    "recognition",
    "screened_sensitivity_profile",
    "sensitivity_profile",
    "strings",
]
