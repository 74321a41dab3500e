"""The work of a run, counted from its settings."""

from experiments.harness.work import Work
from experiments.images import work as of_images
from experiments.vision.conditions import conditions
from experiments.vision.config import Config
from experiments.vision.measure import points

__all__ = ["work"]


def work(config: Config) -> list[Work]:
    """Return training, sensitivity and sharpness.

    Raises:
        ValueError: If trained models on disk are compared, whose sizes the settings do not tell.
    """
    if config.pretrained:
        raise ValueError("pretrained = True: the models on disk are not known here, and their work is not counted")
    count, names = of_images.images(config), config.names
    examples = min(config.curve_examples, count.train)
    at_point = of_images.sensitivity(config, examples, 1) + count.test + (examples if config.matched else 0)
    parts = [
        of_images.trainings(config, names),
        *of_images.measures(config, names),
        of_images.over(config, names, "during training", len(points(config)) * at_point),
    ]
    other = 0
    for condition in conditions(config):
        number = count.measured if condition.images == "train" else min(config.measured, count.test)
        tokens = 1 if condition.square is None else count.tokens * config.token**2 // condition.square**2
        other += number * config.draws * (tokens + 1)
    return parts + ([of_images.over(config, names, "sensitivity to other noise", other)] if other else [])
