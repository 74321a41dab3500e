"""The work of a run, counted from its settings."""

from experiments.harness.work import GRADIENT, Work
from experiments.trained_recognizers.config import Config
from experiments.trained_recognizers.models import groups
from jaxsens.models import substitution

__all__ = ["work"]


def work(config: Config) -> list[Work]:
    """Return training and measures of all models, if each trained for the largest number of epochs.

    Operations are those of `substitution.recognizers.operations`, where each string has all of its bits flipped.
    """
    training, validation, flips, tests = (Work(*one, 0, 0, at_most=True) for one in (
        ("training", "training of many"), ("validation", "training of many"), ("sensitivity", "recognizers"),
        ("accuracy and blow-ups", "recognizers"),
    ))  # fmt: skip
    for group in groups(config):
        length, count = group.models[0].kind.n, len(group.models)
        epochs = config.random_epochs if group.random else config.epochs
        strings = config.random_strings * config.random_passes if group.random else config.training_strings
        held_out = config.random_strings if group.random else config.validation_strings
        tested = config.random_strings if group.random else config.test_strings
        architecture = group.sizes.config(config.epsilon)
        plain, shared = substitution.recognizers.operations(architecture, group.sizes.layers, length)
        profiles = 2 * config.profile_strings + len(config.curve(group.random)) * config.checkpoint_strings
        each, of_flip = plain / (length + 1), shared / (length + 1)
        training = training.plus(count * epochs * strings * GRADIENT, each)
        validation = validation.plus(count * epochs * held_out, each)
        flips = flips.plus(count * profiles * (length + 1), of_flip)
        tests = tests.plus(count * 2 * tested, each)
    return [training, validation, flips, tests]
