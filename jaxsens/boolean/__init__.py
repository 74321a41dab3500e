"""Sensitivity of Boolean functions: exact on truth tables, sampled beyond, and of recognizers in their parameters.

``cube`` is exact and takes truth tables, ``languages`` are exact at any length, ``profile`` samples any model that can
flip a bit, and ``geometry`` looks inside. ``strings`` draws what they are evaluated on, ``recognition`` turns logits
into decisions.
"""

from jaxsens.boolean import cube, geometry, languages, profile, recognition, strings
from jaxsens.boolean.languages import Language
from jaxsens.boolean.profile import Profile, sensitivity_profile

__all__ = [
    "Language",
    "Profile",
    "cube",
    "geometry",
    "languages",
    "profile",
    "recognition",
    "sensitivity_profile",
    "strings",
]
