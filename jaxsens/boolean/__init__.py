"""Sensitivity of Boolean functions: exact on truth tables, sampled beyond, and of recognizers in their parameters.

``truth_tables`` computes from tables of all strings, ``languages`` has closed forms for any length, ``profile`` samples
a model whose bits can be flipped (``screened_profile`` in low precision first), ``blow_up`` measures the states inside
a recognizer, and ``lipschitz`` perturbs its weights. ``strings`` draws the strings, and ``decisions`` turns logits into
decisions. The profiles use ``bit_flips``; ``truth_tables`` uses ``tables`` (the check of tables) and ``certificates``.
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


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
