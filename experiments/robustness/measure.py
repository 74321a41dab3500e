"""How sensitive and how robust one trained model is: every measure of ``experiments.robustness``."""

from typing import Any

from experiments import harness
from experiments.images.bench import Bench, function_scale, logits, parameter_count
from experiments.images.data import pixels
from experiments.robustness import probe
from experiments.robustness.tokens import Tokens
from jaxsens import changes, corruptions, models, perturb, substitution, training
from jaxsens.execution import Execution
from jaxsens.sensitivity import token
from jaxsens.sharpness import average
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["measure", "measure_fixed", "train_and_measure"]


def train_and_measure(
    run: harness.Run, bench: Bench, second: probe.Second | None, name: str, learning_rate: float, seed: int
) -> dict[str, Any]:
    """Train one model, and measure everything."""
    label = f"{name}-seed{seed}"
    variables, losses = bench.train(name, learning_rate, seed, label, checkpoint=bench.checkpoint(run, label))
    apply = models.evaluation(bench.module(name))
    found = measure(bench, apply, variables, label) | probe.measure(bench, second, name, variables, label)
    return found | {"learning_rate": learning_rate, "losses": losses}


def measure_fixed(bench: Bench, name: str) -> dict[str, Any]:
    """Measure a model that the user gave trained."""
    return measure(bench, *bench.fixed(name), name)


def measure(bench: Bench, apply: Apply, variables: PyTree, label: str) -> dict[str, Any]:
    """Measure one model as it is.

    Returns:
        ``parameters``: how many; ``train_correct [m]`` and ``test_correct [n]``; ``sensitivity [b t]``, shares of draws
        that change the prediction; ``wrong [n c s]`` and ``wrong_clean [n]``, whether the predicted class of a test
        image is not the label, corrupted and as it is; ``output_sharpness [draws]`` and ``prediction_sharpness
        [draws]``; ``scale``, the size of the logits; ``chunk``.
    """
    config, data = bench.config, bench.data
    tokens = data.train[0][: config.measured]
    sensitivity = token.token_sensitivity(
        substitution.one_at_a_time(apply), perturb.gaussian(config.noise), draws=config.draws,
        execution=Execution(chunk=config.chunk, progress=f"{label}: tokens"),
    )(bench.key("noise"), variables, tokens)  # fmt: skip
    test = tuple(part[: config.corrupted] for part in data.test)
    errors = corruptions.corruption_error(
        apply, inputs=Tokens(config.token), names=config.corruptions, severities=config.severities,
        constants=config.constants, execution=Execution(chunk=config.chunk, progress=label),
    )(bench.key("corruptions"), variables, (pixels(data, test[0]), test[1]))  # fmt: skip
    sharpness = average.weight_changes(
        apply, perturb.gaussian(config.deviation**2), change=_both_sharpnesses, draws=config.sharpness_draws,
        execution=Execution(chunk=config.chunk, progress=f"{label}: weights"),
    )(bench.key("weights"), variables, tokens)  # fmt: skip
    return {
        "parameters": parameter_count(variables),
        "train_correct": training.accuracy(apply, variables, *data.train),
        "test_correct": training.accuracy(apply, variables, *data.test),
        "sensitivity": sensitivity.values,
        "wrong": errors.wrong,
        "wrong_clean": errors.wrong_clean,
        "output_sharpness": sharpness["output"].values,
        "prediction_sharpness": sharpness["prediction"].values,
        "scale": function_scale(logits(apply, variables, tokens)),
        "chunk": sensitivity.chunk,
    }


def _both_sharpnesses(clean: Array, changed: Array) -> dict[str, Array]:
    return {
        "output": changes.absolute_change(clean, changed),
        "prediction": changes.prediction_change(clean, changed),
    }
