"""Measures of ``experiments.vision`` for one model: sensitivity during and after training, and sharpness."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from experiments import harness
from experiments.images.bench import Bench, function_scale, logits, parameter_count
from experiments.vision import conditions
from jaxsens import changes, models, perturb, substitution, training
from jaxsens.execution import Execution
from jaxsens.sensitivity import token
from jaxsens.sharpness import average
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["measure", "measure_fixed", "train_and_measure"]


def train_and_measure(run: harness.Run, bench: Bench, name: str, learning_rate: float, seed: int) -> dict[str, Any]:
    """Train one model, follow its sensitivity, and measure everything at the end.

    Returns:
        What `measure` gives; ``learning_rate``; ``losses`` of the epochs; and ``curve_epochs [e]``,
        ``curve_sensitivity [e b]`` and ``curve_accuracy [e n]``; ``curve_train_accuracy [e b]`` if sensitivity is to be
        compared at equal accuracy.
    """
    config, label = bench.config, f"{name}-seed{seed}"
    apply = models.evaluation(bench.module(name))
    points = np.unique(np.geomspace(1, config.epochs, max(config.curve_points - 1, 1)).round().astype(int))
    epochs = [0, *points.tolist()]
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
    """Measure one model as it is.

    Returns:
        ``parameters``: how many; ``test_correct [n]``; ``sensitivity [b t]``, shares of draws that change the
        prediction; ``output_sharpness [draws]``, sums over logits of |change|; ``prediction_sharpness [draws]``, shares
        of predictions changed; ``scale``, the size of the logits; ``chunk``; and what `conditions.measure` returns.
    """
    config, tokens = bench.config, bench.data.train[0][: bench.config.measured]
    sensitivity = _sensitivity(bench, apply, config.draws, f"{label}: tokens")(bench.key("noise"), variables, tokens)
    sharpness = average.weight_changes(
        apply, perturb.gaussian(config.deviation**2), change=_both_sharpnesses, draws=config.sharpness_draws,
        execution=Execution(chunk=config.chunk, progress=f"{label}: weights"),
    )(bench.key("weights"), variables, tokens)  # fmt: skip
    return {
        "parameters": parameter_count(variables),
        "test_correct": training.accuracy(apply, variables, *bench.data.test),
        "sensitivity": sensitivity.values,
        "output_sharpness": sharpness["output"].values,
        "prediction_sharpness": sharpness["prediction"].values,
        # Output sharpness is divided by it, to tell a flat function from a small one.
        "scale": function_scale(logits(apply, variables, tokens)),
        "chunk": sensitivity.chunk,
        **conditions.measure(bench, apply, variables, label),
    }


def _point(bench: Bench, apply: Apply, variables: PyTree) -> dict[str, Any]:
    """Measure a model during its training, with a single draw."""
    tokens = bench.data.train[0][: bench.config.curve_examples]
    sensitivity = _sensitivity(bench, apply, 1, None)(bench.key("noise"), variables, tokens)
    point = {"sensitivity": sensitivity.per_example}
    point |= {"accuracy": training.accuracy(apply, variables, *bench.data.test)}
    if bench.config.matched:
        labels = bench.data.train[1][: bench.config.curve_examples]
        point["train_accuracy"] = training.accuracy(apply, variables, tokens, labels)
    return point


def _sensitivity(bench: Bench, apply: Apply, draws: int, label: str | None) -> Callable[..., token.Sensitivity]:
    return token.token_sensitivity(
        substitution.one_at_a_time(apply), perturb.gaussian(bench.config.noise), draws=draws,
        execution=Execution(chunk=bench.config.chunk, progress=label),
    )  # fmt: skip


def _both_sharpnesses(clean: Array, changed: Array) -> dict[str, Array]:
    return {
        "output": changes.absolute_change(clean, changed),
        "prediction": changes.prediction_change(clean, changed),
    }


def _lost(label: str, epoch: int) -> dict[str, Any]:
    raise RuntimeError(
        f"the measurement of {label} at epoch {epoch} is missing, and its training is past that epoch; "
        f"delete the folder checkpoints/{label} of the run to train it again"
    )
