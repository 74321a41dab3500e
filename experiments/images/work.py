"""The work that experiments on images share, counted from their settings: training, sensitivity, sharpness."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.harness.work import GRADIENT, Work, operations
from experiments.images.bench import Bench
from experiments.images.config import TREATMENTS, ImageSettings, Intervention
from experiments.images.data import Data
from experiments.images.labels import split_name
from jaxsens import models, training

__all__ = ["IMAGES", "Images", "forward", "images", "measures", "over", "sensitivity", "trainings"]

IMAGES = {
    "digits": ((8, 8, 1), 10, 1_437, 360), "mnist": ((28, 28, 1), 10, 60_000, 10_000),
    "fashion_mnist": ((28, 28, 1), 10, 60_000, 10_000), "cifar10": ((32, 32, 3), 10, 50_000, 10_000),
    "svhn_cropped": ((32, 32, 3), 10, 73_257, 26_032), "imagenet2012": ((224, 224, 3), 1000, 1_281_167, 50_000),
}  # fmt: skip
"""Shape of an image, classes, and numbers of training and of test images, by data set."""

Interventions = Mapping[str, Intervention] | None
"""What changes in the training of models, by name, as `experiments.images.bench.Bench` takes it."""


class Images(NamedTuple):
    """Numbers of images, as `experiments.images.data.load` cuts a data set, and of the tokens of one."""

    train: int
    validation: int
    test: int
    tokens: int
    measured: int


def images(config: ImageSettings) -> Images:
    """Return the numbers of images of a run."""
    (height, width, _), _, train, test = IMAGES[config.dataset]
    train = min(config.train_examples, train)
    validation = round(config.validation * train)
    left = train - validation
    tokens = (height // config.token) * (width // config.token)
    return Images(left, validation, min(config.test_examples, test), tokens, min(config.measured, left))


@functools.cache
def forward(config: ImageSettings, name: str) -> float:
    """Return the floating-point operations of a forward of a model, by its name; interventions change nothing."""
    module = _bench(config).module(name if name in TREATMENTS else split_name(name)[0])
    shape, *_ = IMAGES[config.dataset]
    tokens = (1, images(config).tokens, config.token**2 * shape[2])
    return operations(models.evaluation(module), lambda key: models.init(module, key), (tokens, np.float32))


def trainings(config: ImageSettings, names: Sequence[str], interventions: Interventions = None) -> Work:
    """Return the work of all trainings, with those of the search for a learning rate."""
    count, bench = images(config), _bench(config, interventions)
    total = Work("training", "training", 0, 0, at_most=config.added_rates > 0)
    searched = {config.searched(name) for name in names}
    for name in names:
        rates = len(config.rates(name)) if name in searched else 1
        tried = rates + config.added_rates if rates > 1 else 0
        objective = bench.intervention(name).objective
        passes = 2 if isinstance(objective, training.NoiseConsistency | training.GaussianAugmentation) else 1
        steps = count.train // config.batch * config.epochs
        forwards = (config.seeds + tried) * steps * config.batch * GRADIENT * passes + tried * count.validation
        total = total.plus(forwards, forward(config, name))
    return total


def measures(config: ImageSettings, names: Sequence[str]) -> list[Work]:
    """Return the work of `experiments.images.measure.measure` for all models."""
    count = images(config)
    weights = count.measured * (config.sharpness_draws + 1)
    return [
        over(config, names, "sensitivity", sensitivity(config, count.measured, config.draws)),
        over(config, names, "sharpness", weights),
        over(config, names, "accuracy and outputs", count.test + count.measured),
    ]


def sensitivity(config: ImageSettings, count: int, draws: int) -> int:
    """Return the forwards of the sensitivity of one model on so many images: the clean one and one for each token."""
    return count * draws * (images(config).tokens + 1)


def over(config: ImageSettings, names: Sequence[str], part: str, forwards: float) -> Work:
    """Return the work of so many forwards for every seed of every model."""
    total = Work(part, "image models", 0, 0)
    for name in names:
        total = total.plus(config.seeds * forwards, forward(config, name))
    return total


def _bench(config: ImageSettings, interventions: Interventions = None) -> Bench:
    """Return the models of a run without its images."""
    shape, classes, *_ = IMAGES[config.dataset]
    none = np.zeros(0), np.zeros(0)
    data = Data(config.dataset, "", shape, 2 if config.halves else classes, none, none, none)
    return Bench(config, data, interventions=interventions or {})
