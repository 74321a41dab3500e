"""Estimates and verdicts of ``experiments.length_and_sharpness``: which models count, slopes, pairs, correlations."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import harness
from experiments.length_and_sharpness.config import FUNCTIONS
from jaxsens.statistics import estimate
from jaxsens.statistics.correlation import rank_correlation
from jaxsens.statistics.estimate import Estimate
from jaxsens.training import many_models
from jaxsens.typing import Array

if TYPE_CHECKING:
    from experiments.length_and_sharpness.config import Config

ACCURATE = 0.99
"""The accuracy above which a model has converged, or a training set is fitted, as published."""

SMALL_LOSS = 1e-3
"""The loss below which a model of Mean has converged: that of the published plots."""

FLAT = 0.25
"""The exponent of growth with length below which a quantity counts as not growing."""

FEWEST_LENGTHS = 3
"""Lengths at which a seed's models must count for a line to be fitted: two would fit any law."""

Results = dict[str, dict[tuple[Any, ...], dict[str, np.ndarray]]]
"""Section to setting to the arrays of its unit."""

PAPER = "Hahn and Rofin 2024"


def converged(found: Mapping[str, np.ndarray], function: np.ndarray | str) -> np.ndarray:
    """Say which models ``[m]`` have converged: accurate ones, for Mean those of small loss; diverged ones have not."""
    fitted = np.where(np.asarray(function) == "mean", found["loss"] < SMALL_LOSS, found["accuracy"] > ACCURATE)
    return fitted & (found["status"] != many_models.DIVERGED)


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


def slopes(lengths: Sequence[int], values: Array) -> np.ndarray:
    """Fit ``value = slope ln n + offset`` by least squares for every seed, at its known values ``[seed length]``.

    Returns:
        Slopes ``[seed]``; NaN for seeds with fewer than ``FEWEST_LENGTHS`` values that are finite.
    """
    x, values = np.log(lengths), np.asarray(values, np.float64)
    found = np.full(len(values), np.nan)
    for seed, y in enumerate(values):
        known = np.isfinite(y)
        if known.sum() >= FEWEST_LENGTHS:
            found[seed] = np.polyfit(x[known], y[known], 1)[0]
    return found


def estimated(values: Array) -> Estimate | None:
    """Estimate a mean over those units ``[m]`` whose values are finite; None if there is none."""
    values = np.asarray(values, np.float64)
    known = values[np.isfinite(values)]
    return estimate.from_values(known, rate=False) if len(known) else None


def cells(found: Estimate | None, prefix: str = "") -> dict[str, float | None]:
    """Return mean, standard error and interval for a table; empty cells for what is not known."""
    if found is None:
        return {prefix + name: None for name in ("mean", "sem", "low", "high")}
    return harness.cells(found, prefix)


def slope_rows(config: "Config", results: Results) -> list[dict[str, Any]]:
    """Return the slopes of logarithms against ln n: of each function, and of Parity beyond the others' of its seed."""
    rows = []
    reached = converged_by_function(results)
    for quantity in ("loss", "sharpness", "blow_up_median", "weight_norm"):
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
                rows.append(row | cells(estimated(fitted)))
    return rows


def pair_rows(config: "Config", results: Results) -> list[dict[str, Any]]:
    """Return how much sharper one function's models are than another's, seed by seed, where both have converged."""
    sharpness, reached = by_function(results, "sharpness"), converged_by_function(results)
    rows = []
    for i, n in enumerate(config.lengths):
        for sharper, flatter in (("parity", "majority"), ("majority", "first")):
            both = reached[sharper][:, i] & reached[flatter][:, i]
            difference = np.where(both, sharpness[sharper][:, i] - sharpness[flatter][:, i], np.nan)
            row = {"length": n, "sharper": sharper, "flatter": flatter}
            row |= {"pairs": int(both.sum()), "pairs_not_converged": int((~both).sum())}
            rows.append(row | cells(estimated(difference)))
    return rows


def judged(row: Mapping[str, Any], units: int, **claim: float) -> str:
    """Return the verdict on a row's interval; "inconclusive" where there is none."""
    if row["low"] is None:
        return "inconclusive"
    return harness.verdict((row["low"], row["high"]), seeds=units, **claim)


def numbers(row: Mapping[str, Any]) -> tuple[float | None, ...]:
    """Return a row's mean, standard error and interval, as a claim has them."""
    return tuple(row[name] for name in ("mean", "sem", "low", "high"))


def slope_claims(rows: Sequence[Mapping[str, Any]], steps: int) -> list[harness.Claim]:
    """Judge that loss and sharpness grow with length for Parity, for the others not, and for Parity faster."""
    claims = []
    for row in rows:
        name, quantity = row["function"], row["quantity"]
        # Of loss all models count: that Parity is not learned is what the claim is about; sharpness is of minima.
        if (quantity, row["models"]) not in (("loss", "all"), ("sharpness", "converged")):
            continue
        if name == "parity":
            said, rule, bound = "grows with length", "above 0", {"above": 0.0}
        elif name in FUNCTIONS:
            said, rule, bound = "does not grow with length", f"below {FLAT:g}", {"below": FLAT}
        else:
            said, rule, bound = "grows faster", "above 0", {"above": 0.0}
        span = "no length" if row["first"] is None else f"n = {row['first']} .. {row['last']}"
        note = f"held {rule}; {row['seeds']} seeds, {span}; one learning rate, {steps} steps"
        if row["seeds_with_too_few"]:
            note += f"; {row['seeds_with_too_few']} seeds have fewer than {FEWEST_LENGTHS} lengths with such models"
        claims.append(
            harness.Claim(
                quantity, f"slope of ln {quantity} against ln n, {name}, {row['models']} models", said, PAPER,
                *numbers(row), judged(row, row["seeds"], **bound), note,
            )
        )  # fmt: skip
    return claims


def pair_claims(rows: Sequence[Mapping[str, Any]]) -> list[harness.Claim]:
    """Judge at each length that Parity's minima are sharper than Majority's, and those than First's."""
    return [
        harness.Claim(
            "sharpness", f"sharpness of {row['sharper']} minus that of {row['flatter']}, n = {row['length']}",
            f"{row['sharper']} is sharper", PAPER, *numbers(row), judged(row, row["pairs"], above=0.0),
            f"{row['pairs']} pairs of one seed, both converged; {row['pairs_not_converged']} pairs are not",
        )
        for row in rows
    ]  # fmt: skip


def tradeoff_claims(config: "Config", found: Mapping[str, np.ndarray]) -> list[harness.Claim]:
    """Judge that of Parity's models those of smaller weights have larger blow-ups."""
    reached, sound = converged(found, "parity"), found["status"] != many_models.DIVERGED
    claims = []
    for models, chosen in (("converged", reached), ("all", sound)):
        r = rank_correlation(found["weight_norm"][chosen], found["blow_up_median"][chosen])
        low_high = (None, None) if r is None else r[1:]
        row = {"mean": None if r is None else r[0], "sem": None, "low": low_high[0], "high": low_high[1]}
        verdict = judged(row, int(chosen.sum()), below=0.0) if models == "converged" else ""
        text = f"{int(chosen.sum())} of {len(chosen)} models, {int((~sound).sum())} diverged"
        claims.append(
            harness.Claim(
                "trade-off", f"rank correlation of blow-up and weight norm, parity, n = {config.tradeoff_length}, "
                f"{models} models", "the one is paid with the other", PAPER, *numbers(row), verdict,
                f"held below 0; {text}; they differ in learning rate and weight decay too",
            )
        )  # fmt: skip
    return claims


def size_rows(config: "Config", found: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return by size of the training set how sensitive learned functions are, beside their targets.

    Targets, drawn independently, are the units: a target's models are averaged first. Once for the models that fit
    their training set, and once for all.
    """
    fitted = (found["train_accuracy"] > ACCURATE) & (found["status"] != many_models.DIVERGED)
    rows = []
    for size in config.function_sizes:
        here = found["size"] == size
        for models, chosen in (("fitted", here & fitted), ("all", here & (found["status"] != many_models.DIVERGED))):
            targets = np.unique(found["function"][chosen])
            each = [chosen & (found["function"] == target) for target in targets]
            row = {"size": size, "models": models, "trained": int(here.sum()), "used": int(chosen.sum())}
            row["targets"] = len(targets)
            learned = np.array([found["sensitivity"][one].mean() for one in each])
            wanted = np.array([found["target_sensitivity"][one].mean() for one in each])
            unseen = np.array([found["unseen_accuracy"][one].mean() for one in each])
            row |= cells(estimated(learned), "learned_") | cells(estimated(wanted), "target_")
            row |= cells(estimated(learned - wanted), "difference_") | cells(estimated(unseen), "unseen_accuracy_")
            rows.append(row)
    return rows


def size_claims(config: "Config", rows: Sequence[Mapping[str, Any]]) -> list[harness.Claim]:
    """Judge that what is learned from a part of a random function's strings is less sensitive than the function."""
    claims = []
    for row in rows:
        if row["models"] != "fitted":
            continue
        own = {name: row[f"difference_{name}"] for name in ("mean", "sem", "low", "high")}
        whole = row["size"] == 2**config.function_length
        note = f"held below 0; {row['targets']} functions; {row['used']} of {row['trained']} models fit their set"
        claims.append(
            harness.Claim(
                "generalisation", f"average sensitivity, learned minus target, {row['size']} training strings",
                None if whole else "below 0 where data are few", PAPER, *numbers(own),
                "" if whole else judged(own, row["targets"], below=0.0),
                "a control: these are all strings" if whole else note,
            )
        )  # fmt: skip
    return claims
