"""The work of a run, counted from its settings."""

import numpy as np

from experiments.harness.work import GRADIENT, Work, operations
from experiments.sparse_tokens import models
from experiments.sparse_tokens.config import Config

__all__ = ["work"]


def work(config: Config) -> list[Work]:
    """Return training, accuracies and sensitivity of all models."""
    training, measures = Work("training", "training of many", 0, 0), Work("measures", "small models", 0, 0)
    count, chosen = len(config.members), config.seeds * len(config.scales)
    for case in config.cases:
        task = config.task(case)
        for kind in config.kinds:
            each = operations(
                models.APPLY[kind], lambda key, kind=kind, task=task: models.init(kind, key, task, config.width, 1.0),
                ((1, config.length), np.int32),
            )  # fmt: skip
            epoch = config.examples * GRADIENT + config.held_out
            training = training.plus(count * config.epochs * epoch, each)
            flips = chosen * config.probes * config.draws * (config.length + 1)
            measures = measures.plus(count * 2 * config.held_out + flips, each)
    return [training, measures]
