"""What every experiment on images measures of one model: sensitivity to patches and to weights, and accuracy."""

from collections.abc import Callable
from typing import Any

from experiments.images.bench import Bench, function_scale, logits, parameter_count
from jaxsens import changes, perturb, substitution, training
from jaxsens.execution import Execution
from jaxsens.sensitivity import token
from jaxsens.sharpness import average
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["measure", "sensitivity"]


def measure(bench: Bench, apply: Apply, variables: PyTree, label: str) -> dict[str, Any]:
    """Measure one model as it is.

    Returns:
        ``parameters``: how many; ``test_correct [n]``; ``sensitivity [b t]``, shares of draws that change the
        prediction; ``output_sharpness [draws]``, sums over logits of |change|; ``prediction_sharpness [draws]``, shares
        of predictions changed; ``scale``, the size of the logits; ``chunk``.
    """
    config, tokens = bench.config, bench.data.train[0][: bench.config.measured]
    of_tokens = sensitivity(bench, apply, config.draws, f"{label}: tokens")(bench.key("noise"), variables, tokens)
    of_weights = average.weight_changes(
        apply, perturb.gaussian(config.deviation**2), change=_both_sharpnesses, draws=config.sharpness_draws,
        execution=Execution(chunk=config.chunk, progress=f"{label}: weights"),
    )(bench.key("weights"), variables, tokens)  # fmt: skip
    return {
        "parameters": parameter_count(variables),
        "test_correct": training.accuracy(apply, variables, *bench.data.test),
        "sensitivity": of_tokens.values,
        "output_sharpness": of_weights["output"].values,
        "prediction_sharpness": of_weights["prediction"].values,
        # Output sharpness is divided by it, to tell a flat function from a small one.
        "scale": function_scale(logits(apply, variables, tokens)),
        "chunk": of_tokens.chunk,
    }


def sensitivity(bench: Bench, apply: Apply, draws: int, label: str | None) -> Callable[..., token.Sensitivity]:
    """Return the measure of token sensitivity with the noise of the settings."""
    return token.token_sensitivity(
        substitution.one_at_a_time(apply), perturb.gaussian(bench.config.noise), draws=draws,
        execution=Execution(chunk=bench.config.chunk, progress=label),
    )  # fmt: skip


def _both_sharpnesses(clean: Array, changed: Array) -> dict[str, Array]:
    return {
        "output": changes.absolute_change(clean, changed),
        "prediction": changes.prediction_change(clean, changed),
    }
