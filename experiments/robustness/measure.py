"""How sensitive and how robust one trained model is: every measure of ``experiments.robustness``."""

from typing import Any

from experiments import harness
from experiments.images import measure as image_measures
from experiments.images.bench import Bench
from experiments.images.data import pixels
from experiments.robustness import probe
from experiments.robustness.tokens import Tokens
from jaxsens import corruptions, models, training
from jaxsens.execution import Execution
from jaxsens.typing import Apply, PyTree

__all__ = ["measure", "measure_fixed", "train_and_measure"]


def train_and_measure(
    run: harness.Run, bench: Bench, second: probe.Second | None, name: str, learning_rate: float, seed: int
) -> dict[str, Any]:
    """Train one model, and measure everything."""
    label = f"{name}-seed{seed}"
    variables, losses = bench.trained(run, name, learning_rate, seed)
    apply = models.evaluation(bench.module(name))
    results = measure(bench, apply, variables, label) | probe.measure(bench, second, name, variables, label)
    return results | {"learning_rate": learning_rate, "losses": losses}


def measure_fixed(bench: Bench, name: str) -> dict[str, Any]:
    """Measure a model that the user gave trained."""
    return measure(bench, *bench.fixed(name), name)


def measure(bench: Bench, apply: Apply, variables: PyTree, label: str) -> dict[str, Any]:
    """Measure one model as it is.

    Returns:
        What `experiments.images.measure.measure` does; ``train_correct [m]``; and ``wrong [n c s]`` and
        ``wrong_clean [n]``: whether the predicted class of a test image is not the label, corrupted and as it is.
    """
    config, data = bench.config, bench.data
    results = image_measures.measure(bench, apply, variables, label)
    test = tuple(part[: config.corrupted] for part in data.test)
    errors = corruptions.corruption_error(
        apply, inputs=Tokens(config.token), names=config.corruptions, severities=config.severities,
        constants=config.constants, execution=Execution(chunk=config.chunk, progress=label),
    )(bench.key("corruptions"), variables, (pixels(data, test[0]), test[1]))  # fmt: skip
    correct = training.accuracy(apply, variables, *data.train)
    return results | {"train_correct": correct, "wrong": errors.wrong, "wrong_clean": errors.wrong_clean}
