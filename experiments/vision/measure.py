"""Measures of ``experiments.vision`` for one model: sensitivity during and after training, and sharpness."""

from functools import partial
from typing import Any

import numpy as np

from experiments import harness
from experiments.images import measure as image_measures
from experiments.images.bench import Bench
from experiments.vision import conditions
from experiments.vision.config import Config
from jaxsens import models, training
from jaxsens.typing import Apply, PyTree

__all__ = ["Curves", "measure", "measure_fixed", "points", "train_and_measure"]


def points(config: Config) -> list[int]:
    """Return the epochs after which a model is measured during training; 0 is before it."""
    # Downwards, so that one point besides 0 is the end.
    ratios = np.geomspace(config.epochs, 1, max(config.curve_points - 1, 1))
    return [0, *np.unique(ratios.round().astype(int)).tolist()]


class Curves:
    """What is measured of the models of a run during their training, at epochs equally spaced on a log scale.

    Attributes:
        run: Keeps what is done.
        bench: Settings, images and models.
        epochs: Epochs done at the measurements; the first is 0, before training.
    """

    def __init__(self, run: harness.Run, bench: Bench) -> None:
        self.run, self.bench, self.epochs = run, bench, points(bench.config)
        self._points: dict[tuple[str, int], Any] = {}

    def follow(self, name: str, seed: int, epoch: int, variables: PyTree) -> None:
        """Measure a model at one of the epochs."""
        label, apply = f"{name}-seed{seed}", models.evaluation(self.bench.module(name))
        point = self.run.unit(f"{label}-epoch{epoch}", partial(_point, self.bench, apply, variables))
        self._points[label, epoch] = point

    def of(self, label: str) -> list[Any]:
        """Return the measurements of a model, which was trained, and forget them."""
        for epoch in self.epochs:
            if (label, epoch) not in self._points:  # measured before this training was resumed
                self._points[label, epoch] = self.run.unit(f"{label}-epoch{epoch}", partial(_lost, label, epoch))
        return [self._points.pop((label, epoch)) for epoch in self.epochs]


def train_and_measure(curves: Curves, name: str, learning_rate: float, seed: int) -> dict[str, Any]:
    """Train one model, follow its sensitivity, and measure everything at the end.

    Returns:
        What `measure` gives; ``learning_rate``; ``losses`` of the epochs; and ``curve_epochs [e]``,
        ``curve_sensitivity [e b]`` and ``curve_accuracy [e n]``; ``curve_train_accuracy [e b]`` if sensitivity is to be
        compared at equal accuracy.
    """
    bench, label = curves.bench, f"{name}-seed{seed}"
    follow = partial(curves.follow, name)
    variables, losses = bench.trained(curves.run, name, learning_rate, seed, follow, curves.epochs[1:])
    curve = curves.of(label)
    results = {
        "learning_rate": learning_rate,
        "losses": losses,
        "curve_epochs": np.asarray(curves.epochs),
        "curve_sensitivity": np.stack([point["sensitivity"] for point in curve]),
        "curve_accuracy": np.stack([point["accuracy"] for point in curve]),
    }
    if bench.config.matched:
        results["curve_train_accuracy"] = np.stack([point["train_accuracy"] for point in curve])
    return measure(bench, models.evaluation(bench.module(name)), variables, label) | results


def measure_fixed(bench: Bench, name: str) -> dict[str, Any]:
    """Measure a model that the user gave trained."""
    apply, variables = bench.fixed(name)
    return measure(bench, apply, variables, name)


def measure(bench: Bench, apply: Apply, variables: PyTree, label: str) -> dict[str, Any]:
    """Return what `experiments.images.measure.measure` and `conditions.measure` do, of one model as it is."""
    results = image_measures.measure(bench, apply, variables, label)
    return results | conditions.measure(bench, apply, variables, label)


def _point(bench: Bench, apply: Apply, variables: PyTree) -> dict[str, Any]:
    """Measure a model during its training, with a single draw."""
    tokens = bench.data.train[0][: bench.config.curve_examples]
    sensitivity = image_measures.sensitivity(bench, apply, 1, None)(bench.key("noise"), variables, tokens)
    point = {"sensitivity": sensitivity.per_example}
    point |= {"accuracy": training.accuracy(apply, variables, *bench.data.test)}
    if bench.config.matched:
        labels = bench.data.train[1][: bench.config.curve_examples]
        point["train_accuracy"] = training.accuracy(apply, variables, tokens, labels)
    return point


def _lost(label: str, epoch: int) -> dict[str, Any]:
    raise RuntimeError(
        f"the measurement of {label} at epoch {epoch} is missing, and its training is past that epoch; "
        f"delete the folder checkpoints/{label} of the run to train it again"
    )
