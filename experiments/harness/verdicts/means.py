"""Rules on means, differences and slopes, and the means over outer units and on other scales that they judge."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from experiments.harness.verdicts.design import Design
from experiments.harness.verdicts.judging import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Judgment,
    Region,
    Verdict,
    check_number,
    judged,
    reachability,
)
from experiments.harness.verdicts.levels import ERROR, bounded_interval, level, power
from jaxsens.execution.checks import require_count
from jaxsens.statistics.estimate import Estimate, from_values
from jaxsens.typing import Array

__all__ = ["bounded_mean", "empirical_logit", "mean", "on_logits", "outer_means", "rises_in_each", "slope"]


def mean(
    estimate: Estimate | None,
    *,
    design: Design,
    above: float | None = None,
    below: float | None = None,
    within: tuple[float, float] | None = None,
    effect: float = 1.0,
    method: str = "student",
    models: tuple[int, int] | None = None,
) -> Verdict:
    """Judge a mean or a difference by its interval; ``within`` is a test of equivalence (two one-sided tests).

    Assumes independent units whose values vary continuously; for values that may fail all or none (accuracies of
    trained models) see `bounded_mean`, for units within units give the means of the outer ones (`outer_means`). Units
    that agree wholly have no spread to judge by: inconclusive. Contradicted if the interval lies wholly on the other
    side of the bound, or outside of ``within``.

    Each one-sided error is 0.025 for normal units and below for t3. For units skewed to the right, "below" errs with
    0.12 (exponential) to 0.16 (lognormal) at 3 units and 0.06 to 0.12 at 30, "above" with less than 0.01; with
    ``method="log"`` "below" errs with 0.03 (exponential) to 0.06 (lognormal). No interval from a few units does better
    without being much wider for normal ones. Level and power are those of independent units; of an estimate over models
    and units, its models. A difference of two groups of models counts what it is paired over, such as images: give
    ``models``, so that the models are the units. Its power is that where both groups vary alike, and nothing else does.

    Args:
        estimate: Estimate of one number; None if there is no unit, which decides nothing.
        design: How the models were trained; `NOT_TRAINED` if they were not.
        above: The claim is that the mean is above this number.
        below: Or below this one.
        within: Or between these two.
        effect: The alternative of the power: how far beyond the bound the mean is (of ``within``: how far the bounds
            are from a mean at the middle), in standard deviations of a unit.
        method: Method of the interval, see `Estimate.interval`: "log" for skewed nonnegative values.
        models: Of a difference of two groups of models, the number of models in each; an unpaired one knows them.
    """
    claim = Region.of(above, below, within)
    if estimate is not None and np.ndim(estimate.mean):
        raise ValueError(f"a verdict is about one number, got a mean of shape {np.shape(estimate.mean)}")
    text = "mean" if method == "student" else f"mean ({method} interval)"
    if models is None and estimate is not None and estimate.parts is not None:
        models = (estimate.parts[0].count, estimate.parts[1].count)
    first, second = (0 if estimate is None else estimate.count, None) if models is None else models
    units = first if second is None else min(first, second)
    size = f"{effect:g} times the standard deviation of a {'unit' if models is None else 'model'}"

    def judge(error: float) -> Judgment:
        ends = None if estimate is None else estimate.interval(1 - error, method=method)
        return (UNDECIDED, None, None) if ends is None else claim.judge(*ends)

    return judged(
        judge,
        rule=f"{text} {claim.words}",
        contradicted_if=f"interval {claim.opposite}",
        units=units,
        level=level("mean", units),
        power=power("mean", first, effect, within=within is not None, other=second),
        power_at=f"a mean in the middle, bounds {size} away" if within is not None else f"{size} beyond the bound",
        reason=design.reason() or _without_spread(estimate, method),
    )


def _without_spread(estimate: Estimate | None, method: str) -> str:
    """Say why there is no spread to judge by; empty where there is one."""
    if estimate is None:
        return "no unit to judge by"
    if not np.isfinite(estimate.interval(1 - ERROR, method=method)).all():
        return "a single unit has no spread to judge by"
    if not estimate.rate and estimate.sem == 0:
        return "all units agree: without a spread nothing bounds what others would give (see bounded_mean)"
    return ""


def bounded_mean(
    values: Array,
    bounds: tuple[float, float],
    *,
    design: Design,
    above: float | None = None,
    below: float | None = None,
    within: tuple[float, float] | None = None,
    effect: float = 0.0,
) -> Verdict:
    """Judge a mean over units that may fail all or none, such as accuracies of models of which some do not train.

    Where n units show no failure, a share of up to ``q = 1 - (ERROR / 4)^(1 / n)`` of all may still fail, with the
    worst of the values that are possible. Student's interval ``[l, h]`` (at error ``ERROR / 2``) becomes ``[(1 - q) l +
    q bounds[0], (1 - q) h + q bounds[1]]``. Three perfect seeds then say of an accuracy that it is above 0.23, and not
    that it is above 0.95: that takes 86 seeds. Contradicted if this interval lies wholly on the other side.

    Args:
        values: One number for each unit ``[n]``; differences of rates lie in ``(-1, 1)``.
        bounds: The smallest and largest value that is possible.
        design: How the models were trained.
        above: The claim is that the mean is above this number.
        below: Or below this one.
        within: Or between these two.
        effect: The alternative of the power: the share of units that fail.
    """
    claim = Region.of(above, below, within)
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not bounds[0] < bounds[1]:
        raise ValueError(f"values must be one number or more and bounds ascend, got shape {values.shape}, {bounds}")
    if not (bounds[0] <= values.min() and values.max() <= bounds[1]):
        raise ValueError(f"values must lie within {bounds}, got {values.min()} to {values.max()}")
    settings = {"bounds": tuple(bounds), "above": above, "below": below, "within": within}

    def reachable(units: int) -> bool:
        # Units that all agree, at an end or in the middle of what is claimed, give the clearest verdicts.
        agreed = [*bounds, min(max(sum(within) / 2, bounds[0]), bounds[1])] if within else list(bounds)
        ends = np.transpose(bounded_interval(np.tile(agreed, (units, 1)), bounds))
        return {SUPPORTED, CONTRADICTED} <= {claim.judge(*end)[0] for end in ends}

    return judged(
        lambda error: claim.judge(*bounded_interval(values, bounds, error)),
        rule=f"mean of values within [{bounds[0]:g}, {bounds[1]:g}] {claim.words}, unseen failures counted",
        contradicted_if=f"interval {claim.opposite}",
        units=len(values),
        level=level("bounded_mean", len(values), **settings),
        power=power("bounded_mean", len(values), effect, **settings),
        power_at=f"a share {effect:g} of failures, all others at the best value",
        reason=design.reason() or reachability(reachable, len(values)),
    )


def rises_in_each(steps: Sequence[Estimate], *, design: Design, above: float = 0.0, effect: float = 1.0) -> Verdict:
    """Judge that every one of several means is above a bound, such as the steps of all layers.

    Supported if the smallest of the lower ends, over all of them, lies above the bound: an intersection-union test,
    which needs no correction (Berger 1982). Contradicted if the upper end of one lies below the bound, at the error
    ``ERROR / len(steps)`` (Bonferroni).

    Args:
        steps: An estimate of each.
        design: How the models were trained.
        above: The bound.
        effect: The alternative of the power: how far above the bound all the means are, in standard deviations of a
            unit, steps being independent.
    """
    if not steps:
        raise ValueError("steps = []: give at least one")
    check_number("above", above)

    def judge(error: float) -> Judgment:
        ends = [step.interval(1 - error) for step in steps]
        low, high = (min(float(end[side]) for end in ends) for side in (0, 1))
        falling = min(float(step.interval(1 - error / len(steps))[1]) for step in steps)
        return (SUPPORTED if low > above else CONTRADICTED if falling < above else UNDECIDED), low, high

    bad = [number for number, step in enumerate(steps, 1) if not 0 < step.sem < math.inf]
    units = min(step.count for step in steps)
    return judged(
        judge,
        rule=f"each of {len(steps)} means above {above:g}: the smallest lower end",
        contradicted_if=f"the upper end of one lies below {above:g} (Bonferroni)",
        units=units,
        level=level("rises_in_each", units),
        power=power("rises_in_each", units, effect, steps=len(steps)),
        power_at=f"all means {effect:g} times the standard deviation of a unit above",
        reason=design.reason() or (f"without a spread to judge by: numbers {bad}" if bad else ""),
    )


def slope(
    estimate: Estimate | None, *, design: Design, at_most: float = -1.0, tolerance: float, effect: float = 1.0
) -> Verdict:
    """Judge that a slope of logarithms is at most ``at_most``, to a tolerance: that something is O(1/N), say.

    Supported if the upper end lies below ``at_most + tolerance``, contradicted if the lower end lies above it; more
    precise data never turn a right claim into "inconclusive". ``c / (N + k)`` is O(1/N) and has the slope ``-1 + k /
    (N + k)``: choose a tolerance above that at the smallest N, such as 0.05 for k = 1 at N = 128.

    Args:
        estimate: The mean over models of the slope of each; None if there is no model.
        design: How the models were trained.
        at_most: The slope of the law.
        tolerance: How far above it counts as equal, positive.
        effect: As in `mean`.
    """
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"tolerance = {tolerance} must be a finite number above 0")
    judged = mean(estimate, design=design, below=at_most + tolerance, effect=effect)
    return replace(
        judged,
        rule=f"slope at most {at_most:g}, with a tolerance of {tolerance:g}: upper end below {at_most + tolerance:g}",
        contradicted_if=f"lower end above {at_most + tolerance:g}",
    )


def outer_means(values: Array, outer: Array, *, rate: bool = False) -> Estimate:
    """Estimate a mean over outer units, such as languages, from inner ones, such as models of each language.

    Inner units are averaged within their outer unit first, and outer units count once, however many inner ones they
    have: ``n`` is the number of outer units. Valid whatever the share of the variance between them.

    Args:
        values: One number for each inner unit ``[m]``.
        outer: The outer unit of each ``[m]``.
        rate: Whether the values are frequencies in [0, 1], as in `from_values`.
    """
    values, outer = np.asarray(values, np.float64), np.asarray(outer)
    if values.ndim != 1 or values.shape != outer.shape:
        raise ValueError(f"values and outer must be vectors of one length, got {values.shape} and {outer.shape}")
    if not len(values):
        raise ValueError("values = []: give at least one")
    _, which = np.unique(outer, return_inverse=True)
    return from_values(np.bincount(which, values) / np.bincount(which), rate=rate)


def on_logits(rates: Array, trials: int) -> np.ndarray:
    """Return rates, model by unit ``[m n]``, on the logit scale: what an estimate over models and units then judges.

    ``l_j + (r_ji - r_j) / (q_j (1 - q_j))`` with the model's rate ``r_j``, ``q_j = (N r_j + 1/2) / (N + 1)`` for ``N =
    n trials``, and ``l_j = ln(q_j / (1 - q_j))``, its `empirical_logit`: the mean over units is ``l_j``, and the spread
    over units is that of the delta method. Seeds vary in proportion to a rare rate, hence alike on this scale. A
    difference of two groups is the mean logarithm of their odds ratio; claims say so: "difference of logits".

    Args:
        rates: Frequencies in [0, 1], one for each unit of each model.
        trials: The number of draws that the rate of a unit is a mean of; with fewer, rates are nearer to 1/2.

    Raises:
        ValueError: If there is no unit, a rate lies outside [0, 1], or ``trials`` is not an integer of at least 1.
    """
    rates = np.asarray(rates, np.float64)
    if rates.ndim != 2 or not rates.size or not ((rates >= 0) & (rates <= 1)).all():
        raise ValueError(f"rates must be frequencies in [0, 1], model by unit, got shape {rates.shape}")
    require_count("trials", trials, 1)
    total, mean = rates.shape[1] * trials, rates.mean(1, keepdims=True)
    inside = (total * mean + 0.5) / (total + 1)
    return empirical_logit(total * mean, total) + (rates - mean) / (inside * (1 - inside))


def empirical_logit(count: Array, total: Array) -> Array:
    """Return ``ln((count + 1/2) / (total - count + 1/2))``: rates on a scale where differences of rare ones compare.

    Take differences of skewed rates on this scale, and say so in the claim: "difference of logits".
    """
    count, total = np.asarray(count, np.float64), np.asarray(total, np.float64)
    if not ((count >= 0) & (count <= total) & (total >= 1)).all():
        raise ValueError(f"count must lie from 0 to total >= 1, got {count.tolist()} of {total.tolist()}")
    return np.log((count + 0.5) / (total - count + 0.5))
