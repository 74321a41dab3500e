"""The work of a run, counted from its settings."""

from functools import partial

import numpy as np

from experiments.harness.work import GRADIENT, Work, operations
from experiments.simplicity_bias.config import KINDS, Config
from experiments.simplicity_bias.train import architecture
from jaxsens.models import recognizers

__all__ = ["work"]


def work(config: Config) -> list[Work]:
    """Return training and measures of sparse parities and of random labels, which stop when none is wrong."""
    training, measures = Work("training", "training of many", 0, 0), Work("measures", "small models", 0, 0)
    labels = Work("training, random labels", "training of many", 0, 0, at_most=True)
    for kind in KINDS:
        each, of_labels = (_forward(config, kind, length) for length in (config.length, config.label_length))
        models = config.seeds * len(config.settings)
        for count in config.counts:
            epoch = count * GRADIENT + config.held_out
            point = count + 2 * config.held_out + config.probes * (config.length + 1)
            training = training.plus(models * config.epochs(count) * epoch, each)
            measures = measures.plus(models * len(config.measured(count)) * point, each)
        models = config.label_sets * config.label_models
        labels = labels.plus(models * config.label_epochs * config.label_strings * (GRADIENT + 1), of_labels)
        measures = measures.plus(models * 2 * config.probes * (config.label_length + 1), of_labels)
    return [training, labels, measures]


def _forward(config: Config, kind: str, length: int) -> float:
    module, apply = architecture(config, kind, length)
    return operations(apply, partial(recognizers.init, module, scheme=config.scheme), ((1, length), np.int32))
