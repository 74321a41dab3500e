"""Token sensitivity: how the output of a model changes when one token of its input is perturbed.

``token`` perturbs every site of every example, ``sampled`` as many as a given standard error needs, and ``screened``
evaluates in low precision first. ``sites`` says which tokens are perturbed, ``outputs`` which positions of the output
count where the model gives one for each token, and ``screening`` which decisions low precision leaves open.
``influence`` measures language models: which next-token predictions change with which token.
"""

from jaxsens.sensitivity.influence import TokenInfluence, token_influence
from jaxsens.sensitivity.sampled import SampledSensitivity, sampled_token_sensitivity
from jaxsens.sensitivity.screened import ScreenedSensitivity, screened_token_sensitivity
from jaxsens.sensitivity.sites import Groups
from jaxsens.sensitivity.token import Sensitivity, TokenSensitivity, token_sensitivity

__all__ = [
    "Groups",
    "SampledSensitivity",
    "ScreenedSensitivity",
    "Sensitivity",
    "TokenInfluence",
    "TokenSensitivity",
    "sampled_token_sensitivity",
    "screened_token_sensitivity",
    "token_influence",
    "token_sensitivity",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
