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

__all__ = ["measure", "measure_fixed", "points", "train_and_measure"]


def points(config: Config) -> list[int]:
    """Return the epochs after which a model is measured during training; 0 is before it."""
    ratios = np.geomspace(1, config.epochs, max(config.curve_points - 1, 1))
    return [0, *np.unique(ratios.round().astype(int)).tolist()]


def train_and_measure(run: harness.Run, bench: Bench, name: str, learning_rate: float, seed: int) -> dict[str, Any]:
    """Train one model, follow its sensitivity, and measure everything at the end.

    Returns:
        What `measure` gives; ``learning_rate``; ``losses`` of the epochs; and ``curve_epochs [e]``,
        ``curve_sensitivity [e b]`` and ``curve_accuracy [e n]``; ``curve_train_accuracy [e b]`` if sensitivity is to be
        compared at equal accuracy.
    """
    config, label = bench.config, f"{name}-seed{seed}"
    apply = models.evaluation(bench.module(name))
    epochs = points(config)
    curve: dict[int, Any] = {}

    def follow(epoch: int, variables: PyTree) -> None:
        if epoch in epochs:
            curve[epoch] = run.unit(f"{label}-epoch{epoch}", partial(_point, bench, apply, variables))

    variables, losses = bench.train(name, learning_rate, seed, label, follow, bench.checkpoint(run, label))
    for epoch in epochs:
        if epoch not in curve:  # measured before this training was resumed
            curve[epoch] = run.unit(f"{label}-epoch{epoch}", partial(_lost, label, epoch))
    found = {
        "learning_rate": learning_rate,
        "losses": losses,
        "curve_epochs": np.asarray(epochs),
        "curve_sensitivity": np.stack([curve[epoch]["sensitivity"] for epoch in epochs]),
        "curve_accuracy": np.stack([curve[epoch]["accuracy"] for epoch in epochs]),
    }
    if config.matched:
        found["curve_train_accuracy"] = np.stack([curve[epoch]["train_accuracy"] for epoch in epochs])
    return measure(bench, apply, variables, label) | found


def measure_fixed(bench: Bench, name: str) -> dict[str, Any]:
    """Measure a model that the user gave trained."""
    apply, variables = bench.fixed(name)
    return measure(bench, apply, variables, name)


def measure(bench: Bench, apply: Apply, variables: PyTree, label: str) -> dict[str, Any]:
    """Return what `experiments.images.measure.measure` and `conditions.measure` do, of one model as it is."""
    found = image_measures.measure(bench, apply, variables, label)
    return found | conditions.measure(bench, apply, variables, label)


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
