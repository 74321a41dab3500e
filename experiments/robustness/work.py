"""The work of a run, counted from its settings."""

from experiments.harness.work import Work
from experiments.images import work as of_images
from experiments.robustness.config import Config

__all__ = ["work"]


def work(config: Config) -> list[Work]:
    """Return training, sensitivity, sharpness and the classification of corrupted images.

    The corruptions themselves have no matrix products and are not counted; neither are probes of a second data set.
    """
    names = [
        f"{name}{ending}" for name in config.architectures for ending in ("", *(f"_{t}" for t in config.treatments))
    ]
    count = of_images.images(config)
    corrupted = min(config.corrupted, count.test) * (1 + len(config.corruptions) * len(config.severities))
    return [
        of_images.trainings(config, names, config.interventions),
        *of_images.measures(config, names),
        of_images.over(config, names, "corrupted images", corrupted),
        of_images.over(config, names, "accuracy in training", count.train),
    ]
