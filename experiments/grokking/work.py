"""The work of a run, counted from its settings."""

from functools import partial

import jax
import numpy as np

from experiments.grokking.config import Config
from experiments.grokking.measure import measures_of
from experiments.grokking.train import Loss
from experiments.harness.work import GRADIENT, Work, operations
from jaxsens.execution import flops
from jaxsens.models import pair_transformer, recognizers

__all__ = ["work"]

_PASSES = {"none": 1, "penalty": 2, "noise": 2}
"""Forwards of an example in a step, by treatment: noisy copies take one more."""


def work(config: Config) -> list[Work]:
    """Return training and measures on modular addition, and on the sparse parity.

    Keys and values of the numbers are computed once for all pairs, so that operations are those of whole steps.
    """
    training, measures = Work("training", "training of many", 0, 0), Work("measures", "small models", 0, 0)
    key, points = jax.random.key(0), config.epochs // config.every + 1
    learned = config.task.split(key, config.fraction)[0].astype(np.int32)
    data = config.task.pairs[learned], config.task.labels[learned]
    # All pairs; two tokens and both of each draw; weight noise; correlated copies.
    forwards = len(config.task.pairs) + len(learned) * (3 * config.draws + config.weight_draws + 1)
    for group in config.groups:
        module = config.module(group.architecture)
        variables = pair_transformer.init(module, key)
        step = flops.count(Loss(module, group.treatment, config.rho, config.strength), variables, data, key).operations
        passes = GRADIENT * len(learned) * _PASSES[group.treatment]
        training = training.plus(config.seeds * config.epochs * passes, GRADIENT * step / passes)
        item = variables["params"], learned, np.asarray(jax.random.key_data(key))
        point = flops.count(measures_of(config, module), item).operations
        measures = measures.plus(config.seeds * points * forwards, point / forwards)
    return [training, measures, *_parity(config)]


def _parity(config: Config) -> list[Work]:
    n, module = config.parity_length, config.recognizer
    init = partial(recognizers.init, module, scheme="xavier_uniform")
    each = operations(recognizers.training_evaluation(module), init, ((1, n), np.int32))
    watched = min(config.rows, config.parity_strings, config.parity_probes)
    epochs = config.parity_seeds * config.parity_epochs * (config.parity_strings * GRADIENT + watched)
    point = config.parity_strings + config.parity_probes * (1 + n + 1)
    measures = config.parity_seeds * len(config.parity_measured) * point
    return [
        Work.of("parity: training", "training of many", epochs, each),
        Work.of("parity: measures", "small models", measures, each),
    ]
