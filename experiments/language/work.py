"""The work of a run, counted from its settings."""

from functools import partial

import numpy as np

from experiments.harness.work import GRADIENT, Work, operations
from experiments.language import models
from experiments.language.config import Config
from experiments.language.perturbations import TREATMENTS
from jaxsens.models.text import encoder

__all__ = ["work"]

_TEXTS = {"mrpc": (3_668, 1_725), "sst2": (67_349, 872), "qqp": (363_846, 40_430)}
"""Numbers of texts to train and to test on, by data set."""


def work(config: Config) -> list[Work]:
    """Return training and measures of all models, if every text has ``longest`` tokens.

    Models are evaluated plainly here; where the substitution shares work it is less.

    Raises:
        ValueError: If the texts are your own, whose number the settings do not tell.
    """
    if config.texts is not None:
        raise ValueError("texts are your own: their number is not known here, and the work is not counted")
    training = Work("training", "training", 0, 0, at_most=config.added_rates > 0)
    measures, during = (Work(part, "text models", 0, 0, at_most=True) for part in ("sensitivity", "during training"))
    rates = len(config.learning_rates)
    tried = rates + config.added_rates if rates > 1 else 0
    for name in config.datasets:
        count, tested = _TEXTS[name]
        held_out = round(config.held_out * count)
        count = min(count - held_out, config.training_texts or count)
        for family in config.families:
            module = models.module(config, family, config.vocabulary)
            ids = ((1, config.longest), np.int32)
            each = operations(models.evaluation(module), partial(encoder.init, module), ids)
            epochs = (config.seeds + tried) * config.epochs * (count // config.batch * config.batch)
            training = training.plus(epochs * GRADIENT, each)
            # Special tokens are no sites.
            flips = config.longest - 1
            per_draw = len(config.noise) * (len(TREATMENTS) * flips + 2) + flips
            accuracies = tested + config.measured
            measures = measures.plus(
                config.seeds * (config.measured * (config.draws * per_draw + flips) + accuracies), each
            )
            measures = measures.plus(tried * (held_out + config.measured), each)
            point = config.curve_texts * flips + config.measured
            during = during.plus(config.seeds * len(config.points) * point, each)
    return [training, measures, during]
