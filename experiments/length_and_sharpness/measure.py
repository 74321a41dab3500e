"""Measures of trained recognizers: loss, blow-up of layer normalization, weight norm, sharpness, sensitivity."""

from functools import partial

import jax
import numpy as np

from experiments import harness
from experiments.length_and_sharpness.config import Config, signs
from jaxsens import boolean, perturb, sharpness, substitution
from jaxsens.execution import Execution
from jaxsens.execution.parallel import bind
from jaxsens.models import recognizers
from jaxsens.training import many_models, member_epoch
from jaxsens.typing import Array, PyTree

MEASURED = (
    "loss", "accuracy", "blow_up_median", "blow_up_low", "blow_up_high", "blow_up_mean", "weight_norm", "sharpness",
    "sharpness_sem", "sensitivity", "sensitivity_sem",
)  # fmt: skip
"""Measures of a model; NaN for a model that diverged."""

LEARNED = ("train_accuracy", "train_loss", "unseen_accuracy", "sensitivity")
"""Measures of a model of a random function; the unseen accuracy is NaN too where no string is unseen."""


def measure(
    config: Config, section: str, n: int, variables: PyTree, bits: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Measure one model on strings ``[b n]`` with targets ``[b]``.

    All models of a length see the same weight noise. The loss is the mean squared error; the blow-up is that of all
    layer normalizations together, Eq. 17 of Hahn and Rofin's as ``1 + 1 / deviation``; the weight norm is the l2 norm
    of all parameters; sensitivities are in bits.
    """
    architecture, how = config.architecture, Execution(chunk=config.chunk)
    outputs = _outputs(config, variables, bits)
    sharp = sharpness.average_sharpness(
        bind(_squared_error, architecture), perturb.gaussian(config.noise**2), draws=config.draws, execution=how
    )(config.key(section, "noise", n), variables, (bits, labels))
    beta = boolean.blow_up.blow_ups(recognizers.internals(architecture), execution=how)(variables, bits).beta
    squares = [np.square(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(variables["params"])]
    sensitivity, sem = _average_sensitivity(config, section, n, variables, bits)
    return {
        "loss": float(np.square(outputs.astype(np.float64) - labels).mean()),
        "accuracy": float(((outputs > 0) == (labels > 0)).mean()),
        "blow_up_median": float(np.median(beta[:, -1])),
        "blow_up_low": float(np.quantile(beta[:, -1], 0.25)),
        "blow_up_high": float(np.quantile(beta[:, -1], 0.75)),
        "blow_up_mean": float(beta[:, -1].mean()),
        "weight_norm": float(np.sqrt(sum(squares))),
        "sharpness": float(sharp.mean),
        "sharpness_sem": float(sharp.sem),
        "sensitivity": sensitivity,
        "sensitivity_sem": sem,
    }


def measure_all(
    config: Config, section: str, n: int, trained: many_models.Trained, bits: np.ndarray, labels: np.ndarray
) -> dict[str, Array]:
    """Measure the models of a length ``[m]`` on strings ``[b n]`` with targets ``[m b]``; NaN for diverged ones."""
    rows = [
        dict.fromkeys(MEASURED, np.nan)
        if status == many_models.DIVERGED
        else measure(config, section, n, trained.member(i), bits, labels[i])
        for i, status in enumerate(trained.codes)
    ]
    columns = {name: np.array([row[name] for row in rows]) for name in MEASURED}
    return {"status": trained.codes, "epochs": trained.epochs, "losses": trained.history["loss"]} | columns


def measure_learned(
    config: Config, trained: many_models.Trained, number: int, bits: np.ndarray, labels: np.ndarray, seen: np.ndarray
) -> dict[str, float]:
    """Measure a model of a random function on all its strings ``[b n]`` with labels ``[b]``, exactly.

    Args:
        config: The settings.
        trained: All models of the section.
        number: Index of the model among them.
        bits: All strings, in the order of a truth table.
        labels: The function.
        seen: Indices of the training strings.
    """
    target = float(boolean.truth_tables.average_sensitivity(labels))
    if trained.codes[number] == many_models.DIVERGED:
        return {"target_sensitivity": target} | dict.fromkeys(LEARNED, np.nan)
    outputs = _outputs(config, trained.member(number), bits)
    correct = (outputs > 0) == labels
    unseen = np.delete(correct, seen)
    return {
        "target_sensitivity": target,
        "train_accuracy": float(correct[seen].mean()),
        "train_loss": float(((outputs - signs(labels))[seen].astype(np.float64) ** 2).mean()),
        "unseen_accuracy": float(unseen.mean()) if len(unseen) else np.nan,
        "sensitivity": float(boolean.truth_tables.average_sensitivity(outputs > 0)),
    }


def _average_sensitivity(
    config: Config, section: str, n: int, variables: PyTree, bits: np.ndarray
) -> tuple[float, float]:
    """Return the average sensitivity of a model's decisions, in bits, and its standard error: 0 where it is exact."""
    if n <= config.exact_length:
        table = boolean.truth_tables.truth_table(partial(_accepts, config, variables), n, chunk=len(bits))
        return float(boolean.truth_tables.average_sensitivity(table)), 0.0
    drawn = boolean.strings.uniform(config.key(section, "evaluation", n, 1), config.sensitivity_strings, n)
    flip = substitution.one_at_a_time(recognizers.evaluation(config.architecture))
    profile = boolean.sensitivity_profile(flip, execution=Execution(chunk=config.chunk))
    average = profile(config.key(section, "evaluation"), variables, drawn).average_sensitivity
    return float(average.mean), float(average.sem)


def _accepts(config: Config, variables: PyTree, bits: Array) -> np.ndarray:
    return _outputs(config, variables, bits) > 0


def _outputs(config: Config, variables: PyTree, bits: Array) -> np.ndarray:
    apply = recognizers.evaluation(config.architecture)
    return harness.outputs_on(apply, variables, np.asarray(bits, np.int32), execution=Execution(chunk=config.chunk))


def _squared_error(architecture: recognizers.Config, variables: PyTree, batch: tuple[Array, Array]) -> Array:
    """Return ``(output - target)^2`` of strings and targets ``[b]``."""
    bits, labels = batch
    return member_epoch.SQUARED_ERROR.loss(recognizers.evaluation(architecture)(variables, bits), labels)
