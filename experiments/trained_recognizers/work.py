"""The work of a run, counted from its settings."""

from experiments.harness.work import GRADIENT, Work
from experiments.trained_recognizers.config import Config
from experiments.trained_recognizers.models import groups
from jaxsens.models import substitution

__all__ = ["WIDE", "work"]

WIDE = 256
"""The width from which training is taken to be bound by products and not by launches."""


def work(config: Config) -> list[Work]:
    """Return training and measures of all models, if each trained for the largest number of epochs.

    Operations are those of `substitution.recognizers.operations`, where each string has all of its bits flipped.
    """
    parts: dict[str, Work] = {}

    def add(part: str, kind: str, forwards: float, each: float) -> None:
        parts[part] = parts.get(part, Work(part, kind, 0, 0, at_most=True)).plus(forwards, each)

    for group in groups(config):
        length, count = group.models[0].kind.n, len(group.models)
        epochs = config.random_epochs if group.random else config.epochs
        strings = config.random_strings * config.random_passes if group.random else config.training_strings
        held_out = config.random_strings if group.random else config.validation_strings
        tested = config.random_strings if group.random else config.test_strings
        architecture = group.sizes.config(config.epsilon)
        plain, shared = substitution.recognizers.operations(architecture, group.sizes.layers, length)
        each, of_flip = plain / (length + 1), shared / (length + 1)
        narrow = architecture.width < WIDE
        kind, which = ("training of many", "narrow") if narrow else ("training", "wide")
        add(f"training, {which}", kind, count * epochs * strings * GRADIENT, each)
        add(f"validation, {which}", kind, count * epochs * held_out, each)
        profiles = 2 * config.profile_strings + len(config.curve(group.random)) * config.checkpoint_strings
        add("sensitivity", "recognizers", count * profiles * (length + 1), of_flip)
        add("accuracy and blow-ups", "recognizers", count * 2 * tested, each)
    return list(parts.values())
