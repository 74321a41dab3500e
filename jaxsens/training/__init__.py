"""Training with optax, checkpoints with Orbax.

variables, losses = training.fit(key, models.train_apply(module), variables, tokens, labels, training.Config(epochs=10))
trained = training.fit_many(key, apply, training.stack(models), members, data, training.ManyConfig(epochs=10))
"""

from jaxsens.training.full_batch import FullBatchConfig, FullBatchLoss, FullBatchTrained, fit_full_batch
from jaxsens.training.many_models import ManyConfig, Members, Trained, fit_many, stack
from jaxsens.training.member_epoch import CLASS_CROSS_ENTROPY, CROSS_ENTROPY, SQUARED_ERROR, Criterion
from jaxsens.training.objectives import (
    CrossEntropy,
    GaussianAugmentation,
    Mixup,
    NoiseConsistency,
    NoiseStabilityPenalty,
)
from jaxsens.training.one_model import Config, Diverged, accuracy, fit
from jaxsens.training.optimizers import Optimizer
from jaxsens.training.result import Fitted
from jaxsens.training.sam import SharpnessAware, sharpness_aware

__all__ = [
    "CLASS_CROSS_ENTROPY",
    "CROSS_ENTROPY",
    "SQUARED_ERROR",
    "Config",
    "Criterion",
    "CrossEntropy",
    "Diverged",
    "Fitted",
    "FullBatchConfig",
    "FullBatchLoss",
    "FullBatchTrained",
    "GaussianAugmentation",
    "ManyConfig",
    "Members",
    "Mixup",
    "NoiseConsistency",
    "NoiseStabilityPenalty",
    "Optimizer",
    "SharpnessAware",
    "Trained",
    "accuracy",
    "fit",
    "fit_full_batch",
    "fit_many",
    "sharpness_aware",
    "stack",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
