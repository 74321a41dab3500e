"""The work of a run, counted from its settings."""

from functools import partial

import numpy as np

from experiments.harness.work import GRADIENT, Work, operations
from experiments.length_and_sharpness.config import FUNCTIONS, Config
from jaxsens.models import recognizers

__all__ = ["work"]


def work(config: Config) -> list[Work]:
    """Return training and measures of all models; one that diverges stops early, and is not measured."""
    training, measures = Work("training", "training", 0, 0), Work("measures", "small models", 0, 0)
    sections = [(n, len(FUNCTIONS) * config.seeds, config.steps) for n in config.lengths]
    sections.append((config.tradeoff_length, config.tradeoff_models, config.steps))
    for n, models, steps in sections:
        (each, measured), strings = _forwards(config, n), min(config.strings, 2**n)
        training = training.plus(models * _training(config, steps, strings), each)
        flips = 2**n if n <= config.exact_length else config.sensitivity_strings * (n + 1)
        # Outputs, blow-ups and the unperturbed model of sharpness.
        measures = measures.plus(models * (strings * (config.draws + 3) + flips), measured)
    n = config.function_length
    models = config.functions * len(config.function_sizes) * config.function_seeds
    each, measured = _forwards(config, n)
    training = training.plus(models * _training(config, config.function_steps, 2**n), each)
    return [training, measures.plus(models * 2**n, measured)]


def _training(config: Config, steps: int, watched: int) -> int:
    """Return the forwards of a model's training, with the strings that are watched after every epoch."""
    return steps // config.epoch_steps * (config.epoch_strings * GRADIENT + watched)


def _forwards(config: Config, length: int) -> tuple[float, float]:
    """Return the operations of a forward in training, and of one that is measured."""
    init, strings = partial(recognizers.init, config.architecture, scheme=config.scheme), ((1, length), np.int32)
    of_training, measured = recognizers.training_evaluation, recognizers.evaluation
    return tuple(operations(form(config.architecture), init, strings) for form in (of_training, measured))
