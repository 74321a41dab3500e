"""Training with optax, checkpoints with Orbax.

variables, losses = training.fit(key, models.train_apply(module), variables, tokens, labels, training.Config(epochs=10))
"""

from jaxsens.training.loop import Config, Diverged, accuracy, fit
from jaxsens.training.objectives import CrossEntropy, NoiseConsistency
from jaxsens.training.optimisers import Optimiser
from jaxsens.training.sam import SharpnessAware, sharpness_aware

__all__ = [
    "Config",
    "CrossEntropy",
    "Diverged",
    "NoiseConsistency",
    "Optimiser",
    "SharpnessAware",
    "accuracy",
    "fit",
    "sharpness_aware",
]
