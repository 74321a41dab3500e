"""The work of a run, counted from its settings."""

from experiments.flatness.config import Config
from experiments.flatness.measure import RELATIVE
from experiments.harness.work import GRADIENT, HESSIAN_PRODUCT, Work
from experiments.images import work as of_images
from experiments.images.config import REGULARIZED

__all__ = ["work"]

_BALLS = 4
"""Balls of the worst case."""


def work(config: Config) -> list[Work]:
    """Return training, sensitivity and every kind of sharpness; Lanczos may converge in fewer steps."""
    names = [name + ending for name in config.architectures for ending in ("", REGULARIZED)]
    count = of_images.images(config)
    measured = count.measured
    # Noises, and once more of normalized logits.
    noises = 2 * len(config.deviations) + len(RELATIVE)
    copies = (1 + len(config.deviations)) * config.sharpness_draws
    products = config.probes + config.lanczos_steps * (1 + config.density_probes)
    counts = {
        "sensitivity": of_images.sensitivity(config, measured, config.draws),
        "noise on the weights": measured * (noises * (config.sharpness_draws + 1) + copies),
        "worst cases": measured * _BALLS * (config.iterations + 1) * GRADIENT,
        "curvature": measured * products * HESSIAN_PRODUCT,
        "accuracy and outputs": count.test + count.train + measured,
    }
    return [of_images.trainings(config, names), *(of_images.over(config, names, *one) for one in counts.items())]
