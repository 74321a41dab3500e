"""Estimates of ``experiments.length_and_sharpness``: which models converged, means by length, slopes, pairs, sizes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.length_and_sharpness.config import FUNCTIONS, Config
from experiments.length_and_sharpness.measure import MEASURED
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.training import many_models
from jaxsens.typing import Array

ACCURATE = 0.99
"""The accuracy above which a model has converged, or a training set is fitted, as published."""

SMALL_LOSS = 1e-3
"""The loss below which a model of Mean has converged: that of the published plots."""

FEWEST_LENGTHS = 3
"""Lengths with converged models that a seed needs for a fitted line: two would fit any law."""

LOGARITHMS = ("loss", "sharpness", "blow_up_median", "weight_norm")
"""Measures whose logarithms are averaged and fitted against ln n."""

Results = dict[str, dict[tuple[Any, ...], dict[str, np.ndarray]]]
"""Section to setting to the arrays of its unit."""

Rows = list[tuple[dict[str, Any], Estimate | None]]
"""Rows of a table, each with the estimate that a claim is judged by; None where there is no unit."""


def converged(unit: Mapping[str, np.ndarray], function: np.ndarray | str) -> np.ndarray:
    """Return which models ``[m]`` have converged: by accuracy, for Mean by loss; diverged ones have not."""
    fitted = np.where(np.asarray(function) == "mean", unit["loss"] < SMALL_LOSS, unit["accuracy"] > ACCURATE)
    return fitted & (unit["status"] != many_models.DIVERGED)


def by_function(results: Results, quantity: str) -> dict[str, np.ndarray]:
    """Return a quantity of every function's models ``[seed length]``."""
    units = list(results["length"].values())
    return {
        function: np.stack([unit[quantity][unit["function"] == function] for unit in units], 1)
        for function in FUNCTIONS
    }


def converged_by_function(results: Results) -> dict[str, np.ndarray]:
    """Return which of every function's models have converged ``[seed length]``."""
    parts = {name: by_function(results, name) for name in ("loss", "accuracy", "status")}
    return {f: converged({name: part[f] for name, part in parts.items()}, f) for f in FUNCTIONS}


def logarithm(values: Array) -> np.ndarray:
    """Return the natural logarithm, NaN where there is none."""
    values = np.asarray(values, np.float64)
    return np.log(np.where(values > 0, values, np.nan))


def mean_of(values: Array) -> Estimate | None:
    """Estimate a mean over those units ``[m]`` whose values are finite; None if there is none."""
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    return estimate.from_values(finite, rate=False) if len(finite) else None


def cells(mean: Estimate | None, prefix: str = "") -> dict[str, float | None]:
    """Return mean, standard error and interval for a table; empty cells for None."""
    if mean is None:
        return dict.fromkeys(prefix + name for name in ("mean", "sem", "low", "high"))
    return harness.cells(mean, prefix)


def length_rows(config: Config, results: Results) -> list[dict[str, Any]]:
    """Return every quantity of every function and length: its mean over the models, with the interval.

    Rows named ``ln_`` are means of logarithms, as the figure draws them; models whose value is not positive have none
    and are not counted in ``used``. ``converged_share`` has the interval of Clopper and Pearson.
    """
    reached = converged_by_function(results)
    columns = {name: by_function(results, name) for name in ("status", *MEASURED)}
    rows = []
    for function in FUNCTIONS:
        for i, n in enumerate(config.lengths):
            of = {name: column[function][:, i] for name, column in columns.items()}
            counts = {"models": config.seeds, "converged": int(reached[function][:, i].sum())}
            counts |= {"diverged": int((of["status"] == many_models.DIVERGED).sum())}
            low, high = (float(end) for end in estimate.clopper_pearson(counts["converged"], config.seeds))
            share = {"mean": counts["converged"] / config.seeds, "sem": None, "low": low, "high": high}
            here = {"function": function, "length": n} | counts
            rows.append(here | {"quantity": "converged_share", "used": config.seeds} | share)
            values = {name: of[name] for name in ("loss", "accuracy", "sharpness", "weight_norm", "sensitivity")}
            values["sharpness_of_converged"] = np.where(reached[function][:, i], of["sharpness"], np.nan)
            values |= {f"ln_{name}": logarithm((values | of)[name]) for name in (*LOGARITHMS, "sharpness_of_converged")}
            for name, column in values.items():
                used = int(np.isfinite(column).sum())
                rows.append(here | {"quantity": name, "used": used} | cells(mean_of(column)))
    return rows


def slopes(lengths: Sequence[int], values: Array) -> np.ndarray:
    """Fit ``value = slope ln n + offset`` by least squares for every seed, at its finite values ``[seed length]``.

    Returns:
        Slopes ``[seed]``; NaN for seeds with fewer than ``FEWEST_LENGTHS`` finite values.
    """
    x, values = np.log(lengths), np.asarray(values, np.float64)
    fitted = np.full(len(values), np.nan)
    for seed, y in enumerate(values):
        finite = np.isfinite(y)
        if finite.sum() >= FEWEST_LENGTHS:
            fitted[seed] = np.polyfit(x[finite], y[finite], 1)[0]
    return fitted


def slope_estimates(config: Config, results: Results) -> Rows:
    """Return the slopes of logarithms against ln n: of each function, and of Parity minus the others of its seed."""
    rows = []
    reached = converged_by_function(results)
    for quantity in LOGARITHMS:
        logs = {f: logarithm(values) for f, values in by_function(results, quantity).items()}
        for models in ("all", "converged"):
            kept = {f: np.where(reached[f] | (models == "all"), logs[f], np.nan) for f in FUNCTIONS}
            each = dict(kept)
            for other in FUNCTIONS:
                if other != "parity":  # the difference of two lines at the same lengths is the line of the difference
                    each[f"parity - {other}"] = kept["parity"] - kept[other]
            for name, values in each.items():
                fitted = slopes(config.lengths, values)
                used = np.isfinite(values[np.isfinite(fitted)]).any(0)
                lengths = np.array(config.lengths)[used]
                row = {"quantity": quantity, "function": name, "models": models}
                row |= {"seeds": int(np.isfinite(fitted).sum()), "seeds_with_too_few": int(np.isnan(fitted).sum())}
                row |= {"first": int(lengths[0]) if len(lengths) else None}
                row |= {"last": int(lengths[-1]) if len(lengths) else None}
                mean_slope = mean_of(fitted)
                rows.append((row | cells(mean_slope), mean_slope))
    return rows


def pair_estimates(config: Config, results: Results) -> Rows:
    """Return how much sharper one function's models are than another's, seed by seed, where both have converged.

    That is the difference of the logarithms: models of one function differ by factors. Pairs with a sharpness that is
    not positive are left out.
    """
    sharpness = {f: logarithm(values) for f, values in by_function(results, "sharpness").items()}
    reached = converged_by_function(results)
    rows = []
    for i, n in enumerate(config.lengths):
        for sharper, flatter in (("parity", "majority"), ("majority", "first")):
            both = reached[sharper][:, i] & reached[flatter][:, i]
            difference = np.where(both, sharpness[sharper][:, i] - sharpness[flatter][:, i], np.nan)
            row = {"length": n, "sharper": sharper, "flatter": flatter}
            row |= {"pairs": int(np.isfinite(difference).sum()), "pairs_not_converged": int((~both).sum())}
            mean_difference = mean_of(difference)
            rows.append((row | cells(mean_difference), mean_difference))
    return rows


def size_estimates(config: Config, learned: Mapping[str, np.ndarray]) -> Rows:
    """Return by size of the training set how sensitive learned functions and their targets are.

    Targets, drawn independently, are the units: a target's models are averaged first. Once for the models that fit
    their training set, and once for all. The estimate of each row is the difference of the two sensitivities.
    """
    kept = learned["status"] != many_models.DIVERGED
    fitted = (learned["train_accuracy"] > ACCURATE) & kept
    rows = []
    for size in config.function_sizes:
        here = learned["size"] == size
        for models, chosen in (("fitted", here & fitted), ("all", here & kept)):
            each = [chosen & (learned["function"] == target) for target in np.unique(learned["function"][chosen])]
            means = {
                name: np.array([learned[name][one].mean() for one in each])
                for name in ("sensitivity", "target_sensitivity", "unseen_accuracy")
            }
            row = {"size": size, "models": models, "trained": int(here.sum()), "used": int(chosen.sum())}
            row["targets"] = len(each)
            row |= cells(mean_of(means["sensitivity"]), "learned_")
            row |= cells(mean_of(means["target_sensitivity"]), "target_")
            difference = mean_of(means["sensitivity"] - means["target_sensitivity"])
            row |= cells(difference, "difference_") | cells(mean_of(means["unseen_accuracy"]), "unseen_accuracy_")
            rows.append((row, difference))
    return rows
