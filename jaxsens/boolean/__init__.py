"""Sensitivity of Boolean functions: exact on truth tables, sampled beyond, and of recognizers in their parameters.

``truth_tables`` are exact, ``languages`` are exact at any length, ``profile`` samples any model that can flip a bit
(``screened_profile`` in low precision first), ``blow_up`` looks inside a recognizer, and ``lipschitz`` moves its
weights. ``strings`` draws what they are evaluated on, and ``decisions`` turns logits into decisions. ``bit_flips``
serves the profiles, ``tables`` and ``certificates`` serve ``truth_tables``.
"""

from jaxsens.boolean import blow_up, decisions, languages, lipschitz, profile, strings, truth_tables
from jaxsens.boolean.languages import Language
from jaxsens.boolean.profile import Profile, sensitivity_profile
from jaxsens.boolean.screened_profile import ScreenedProfile, screened_sensitivity_profile

__all__ = [
    "Language",
    "Profile",
    "ScreenedProfile",
    "blow_up",
    "decisions",
    "languages",
    "lipschitz",
    "profile",
    "screened_sensitivity_profile",
    "sensitivity_profile",
    "strings",
    "truth_tables",
]
