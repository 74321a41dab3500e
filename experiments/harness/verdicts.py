"""All rules of verdicts in one place: what each assumes, what contradicts it, how often it errs, how often it succeeds.

A rule turns measurements of independent units into a `Verdict`: ``supported``, ``contradicted`` or ``inconclusive``.
Both one-sided errors are at most 0.025 (``ERROR / 2``) under the assumptions that the rule states: the probability of
"supported" where the claim is false, and of "contradicted" where it is true. Every verdict carries its rule, its units,
that level, and the power of the rule with so many units.

=================  ==============================================  ====================================================
rule               claim                                           supported if / contradicted if
=================  ==============================================  ====================================================
`mean`             a mean or difference is above, below, within    interval wholly on the side / wholly on the other
`bounded_mean`     the same, of values that may fail all or none   the same, widened for failures that were not seen
`share`            a share of models is above or below             Clopper-Pearson wholly on the side / on the other
`rises_in_each`    all of several means are above a bound          all lower ends above it / one upper end below it
`slope`            a slope is at most -1, with a tolerance         upper end below -1 + tolerance / lower end above it
`correlation`      a rank correlation is positive or negative      interval wholly on the side / on the other
`no_exception`     something holds of everything that was checked  no exception in enough / a single exception
=================  ==============================================  ====================================================

Three guards hold for all rules. A verdict on trained models needs three seeds and a grid of learning rates with the
best rate inside it (`Design`). A rule that cannot give both other verdicts with so many units is inconclusive, and says
how many it takes. Several verdicts within one claim are corrected together, by `holm` or `false_discovery_rate`.

The experiments judge by `harness.verdict` up to now; these rules are for claims that are judged anew.

The rules stay in one long file so that they are read and changed together; half of it is their documentation.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.verdict_levels import ERROR, bounded_interval, level, power
from jaxsens.statistics.correlation import rank_correlation
from jaxsens.statistics.estimate import Estimate, clopper_pearson, from_values
from jaxsens.typing import Array

__all__ = [
    "ERROR",
    "FEWEST_SEEDS",
    "FEWEST_UNITS",
    "NOT_TRAINED",
    "Design",
    "Verdict",
    "bounded_mean",
    "correlation",
    "empirical_logit",
    "false_discovery_rate",
    "holm",
    "level",
    "mean",
    "no_exception",
    "outer_means",
    "power",
    "rises_in_each",
    "share",
    "slope",
]

SUPPORTED, CONTRADICTED, UNDECIDED = NAMES = ("supported", "contradicted", "inconclusive")

SMALLEST = 1e-12
"""The smallest error that a verdict is given."""

MOST_UNITS = 1000
"""Up to where it is tried how many units a rule takes."""

FEWEST_SEEDS = 3
"""Independently trained models of each kind that a verdict needs."""

FEWEST_UNITS = 10
"""Independent units that a verdict on a rank correlation needs."""


@dataclass(frozen=True)
class Design:
    """How the models behind a verdict were trained; every rule asks for it.

    Attributes:
        seeds: Independently trained models of each kind, the fewest where kinds differ; None where nothing is trained.
        rates: The grid of learning rates that was searched, or a grid by the name of each kind of model.
        best: The rate that was chosen, by the name of each kind of model that the verdict compares.

    Raises:
        ValueError: If ``seeds`` is not an integer of at least 1, a rate is not a positive finite number, or a best rate
            is not in the grid.
    """

    seeds: int | None
    rates: Sequence[float] | Mapping[str, Sequence[float]] = ()
    best: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seeds is not None:
            _check_count("seeds", self.seeds, 1)
        if isinstance(self.rates, str) or not isinstance(self.rates, Sequence | Mapping | np.ndarray):
            raise ValueError(f"rates = {self.rates!r}: give a list of learning rates, or lists by name")
        if not isinstance(self.best, Mapping):
            raise ValueError(f"best = {self.best!r}: give the best learning rate by the name of each kind")
        for rate in chain(*self.rates.values()) if isinstance(self.rates, Mapping) else self.rates:
            if not (isinstance(rate, int | float | np.number) and math.isfinite(rate) and rate > 0):
                raise ValueError(f"rates = {self.rates}: learning rates are positive finite numbers")
        for name, rate in self.best.items():
            if rate not in self.grid(name):
                raise ValueError(f"best = {rate} of {name} is not in its grid {self.grid(name)}")

    def grid(self, name: str) -> list[float]:
        """Return the different learning rates that were tried for a kind of model, ascending."""
        return sorted(set(self.rates.get(name, ()) if isinstance(self.rates, Mapping) else self.rates))

    def reason(self) -> str:
        """Return why the training allows no verdict; empty where it does.

        It does with `FEWEST_SEEDS` seeds, and a best rate of every kind strictly inside of the grid: that takes three
        rates. Where nothing was trained it always does.
        """
        if self.seeds is None:
            return ""
        if self.seeds < FEWEST_SEEDS:
            return f"{self.seeds} independently trained models of each kind; {FEWEST_SEEDS} are needed"
        if not self.best:
            return "the learning rate is not said to be the best of a grid"
        for name, rate in self.best.items():
            grid = self.grid(name)
            if len(grid) < 3:
                return (
                    f"no grid of learning rates of {name}: {len(grid)} tried; 3 are needed for the best to lie inside"
                )
            if rate in (grid[0], grid[-1]):
                return f"best learning rate of {name}, {rate:g}, is at the edge of the grid {grid[0]:g} to {grid[-1]:g}"
        return ""


NOT_TRAINED = Design(None)
"""The design of a claim about models that were not trained here, or about no models."""


@dataclass(frozen=True)
class Verdict:
    """A verdict with what it rests on.

    Attributes:
        name: ``supported``, ``contradicted`` or ``inconclusive``.
        rule: The rule in words, with its bound: "mean above 0.95".
        contradicted_if: What contradicts the claim, in words.
        units: The number of independent units.
        level: The largest probability of "supported" where the claim is false, under the rule's assumptions.
        power: The probability of "supported" at ``power_at``.
        power_at: The alternative that the power is for, in words.
        error: The smallest two-sided error with which the same rule gives this verdict; 1 where it is inconclusive.
        low: Lower end of the interval that was judged, None where there is none.
        high: Upper end.
        reason: Why the verdict is inconclusive whatever the interval says; empty where the interval decides.
    """

    name: str
    rule: str
    contradicted_if: str
    units: int
    level: float
    power: float
    power_at: str
    error: float = 1.0
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def note(self) -> str:
        """One line for the note of a claim: rule, what contradicts it, units, level, power, and the reason if any."""
        parts = [
            self.rule, f"contradicted if {self.contradicted_if}", f"{self.units} independent units",
            f"level {self.level:.3f}", f"power {self.power:.2f} at {self.power_at}",
        ]  # fmt: skip
        return "; ".join([*parts, f"not judged: {self.reason}"] if self.reason else parts)


def mean(
    estimate: Estimate,
    *,
    design: Design,
    above: float | None = None,
    below: float | None = None,
    within: tuple[float, float] | None = None,
    effect: float = 1.0,
    method: str = "student",
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
    and units, its models.

    Args:
        estimate: Estimate of one number.
        design: How the models were trained; `NOT_TRAINED` if they were not.
        above: The claim is that the mean is above this number.
        below: Or below this one.
        within: Or between these two.
        effect: The alternative of the power: how far beyond the bound the mean is (of ``within``: how far the bounds
            are from a mean at the middle), in standard deviations of a unit.
        method: Method of the interval, see `Estimate.interval`: "log" for skewed nonnegative values.
    """
    claim = _Claim.of(above, below, within)
    if np.ndim(estimate.mean):
        raise ValueError(f"a verdict is about one number, got a mean of shape {np.shape(estimate.mean)}")
    open_ends = not np.isfinite(estimate.interval(1 - ERROR, method=method)).all()
    reason = "a single unit has no spread to judge by" if open_ends else ""
    if not estimate.rate and estimate.sem == 0:
        reason = "all units agree: without a spread nothing bounds what others would give (see bounded_mean)"
    text = "mean" if method == "student" else f"mean ({method} interval)"
    size = f"{effect:g} times the standard deviation of a unit"
    return _judged(
        lambda error: claim.judge(*estimate.interval(1 - error, method=method)),
        rule=f"{text} {claim.words}",
        contradicted_if=f"interval {claim.opposite}",
        units=estimate.count,
        level=level("mean", estimate.count),
        power=power("mean", estimate.count, effect, within=within is not None),
        power_at=f"a mean in the middle, bounds {size} away" if within is not None else f"{size} beyond the bound",
        reason=design.reason() or reason,
    )


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
    claim = _Claim.of(above, below, within)
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 2 or not bounds[0] < bounds[1]:
        raise ValueError(f"values must be two numbers or more and bounds ascend, got shape {values.shape}, {bounds}")
    if not (bounds[0] <= values.min() and values.max() <= bounds[1]):
        raise ValueError(f"values must lie within {bounds}, got {values.min()} to {values.max()}")
    settings = {"bounds": tuple(bounds), "above": above, "below": below, "within": within}

    def reachable(units: int) -> bool:
        # Units that all agree, at an end or in the middle of what is claimed, give the clearest verdicts.
        agreed = [*bounds, min(max(sum(within) / 2, bounds[0]), bounds[1])] if within else list(bounds)
        ends = np.transpose(bounded_interval(np.tile(agreed, (units, 1)), bounds))
        return {SUPPORTED, CONTRADICTED} <= {claim.judge(*end)[0] for end in ends}

    return _judged(
        lambda error: claim.judge(*bounded_interval(values, bounds, error)),
        rule=f"mean of values within [{bounds[0]:g}, {bounds[1]:g}] {claim.words}, unseen failures counted",
        contradicted_if=f"interval {claim.opposite}",
        units=len(values),
        level=level("bounded_mean", len(values), **settings),
        power=power("bounded_mean", len(values), effect, **settings),
        power_at=f"a share {effect:g} of failures, all others at the best value",
        reason=design.reason() or _reachability(reachable, len(values)),
    )


def share(
    holding: int,
    total: int,
    *,
    design: Design,
    above: float | None = None,
    below: float | None = None,
    undecided: int = 0,
    effect: float | None = None,
) -> Verdict:
    """Judge the share of models of which something holds, by the interval of Clopper and Pearson over models.

    Assumes independent models. Undecided ones count as failures at the low end and as successes at the high end: they
    can neither support nor contradict. Contradicted if the interval lies wholly on the other side of the bound. "All"
    models, as above 0.9, takes 36 of them; with fewer the verdict is inconclusive.

    Args:
        holding: Models of which it holds.
        total: All models.
        design: How they were trained.
        above: The claim is that the share is above this number.
        below: Or below this one.
        undecided: Models of which it is not decided.
        effect: The alternative of the power: the true share; by default 1 for ``above`` and 0 for ``below``.
    """
    _check_count("total", total, 1)
    _check_count("holding", holding, 0)
    _check_count("undecided", undecided, 0)
    if holding + undecided > total:
        raise ValueError(f"holding + undecided = {holding + undecided} are more than total = {total}")
    claim = _Claim.of(above, below, None)
    limit = above if above is not None else below
    if not 0 <= limit <= 1:
        raise ValueError(f"a share is judged against a bound in [0, 1], got {limit}")
    effect = float(above is not None) if effect is None else effect
    settings = {"above": above, "below": below}

    def judge(error: float) -> Judgment:
        low, high = clopper_pearson(np.array([holding, holding + undecided]), total, 1 - error)
        return claim.judge(low[0], high[1])

    def reachable(units: int) -> bool:
        ends = np.transpose(clopper_pearson(np.array([0, units]), units, 1 - ERROR))
        return {SUPPORTED, CONTRADICTED} <= {claim.judge(*end)[0] for end in ends}

    text = f" ({undecided} undecided, counted against either verdict)" if undecided else ""
    return _judged(
        judge,
        rule=f"share of models {claim.words}, Clopper and Pearson{text}",
        contradicted_if=f"interval {claim.opposite}",
        units=total,
        level=level("share", total, **settings),
        power=power("share", total, effect, **settings),
        power_at=f"a share of {effect:g}",
        reason=design.reason() or _reachability(reachable, total),
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
    _check_number("above", above)

    def judge(error: float) -> Judgment:
        ends = [step.interval(1 - error) for step in steps]
        low, high = (min(float(end[side]) for end in ends) for side in (0, 1))
        falling = min(float(step.interval(1 - error / len(steps))[1]) for step in steps)
        return (SUPPORTED if low > above else CONTRADICTED if falling < above else UNDECIDED), low, high

    bad = [number for number, step in enumerate(steps, 1) if not 0 < step.sem < math.inf]
    units = min(step.count for step in steps)
    return _judged(
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
    estimate: Estimate, *, design: Design, at_most: float = -1.0, tolerance: float, effect: float = 1.0
) -> Verdict:
    """Judge that a slope of logarithms is at most ``at_most``, to a tolerance: that something is O(1/N), say.

    Supported if the upper end lies below ``at_most + tolerance``, contradicted if the lower end lies above it; more
    precise data never turn a right claim into "inconclusive". ``c / (N + k)`` is O(1/N) and has the slope ``-1 + k /
    (N + k)``: choose a tolerance above that at the smallest N, such as 0.05 for k = 1 at N = 128.

    Args:
        estimate: The mean over models of the slope of each.
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


def correlation(
    x: Array,
    y: Array,
    *,
    design: Design,
    sign: int = 1,
    groups: Array | None = None,
    clusters: Array | None = None,
    effect: float = 0.8,
) -> Verdict:
    """Judge that a rank correlation is positive (``sign=1``) or negative (-1), by `rank_correlation`'s interval.

    Assumes independent clusters; with fewer than `FEWEST_UNITS` of them, less one for each group after the first, the
    verdict is inconclusive. Contradicted if the interval lies wholly on the other side of 0.

    Args:
        x: A number for every model ``[m]``.
        y: Another.
        design: How the models were trained.
        sign: 1 or -1.
        groups: As in `rank_correlation`.
        clusters: As in `rank_correlation`.
        effect: The alternative of the power: the size of the correlation of normal variables.
    """
    if sign not in (1, -1):
        raise ValueError(f"sign = {sign} must be 1 or -1")
    if not 0 <= effect < 1:
        raise ValueError(f"effect = {effect} is a correlation from 0 to 1")
    claim = _Claim.of(0.0, None, None) if sign == 1 else _Claim.of(None, 0.0, None)
    units = len(np.unique(np.arange(len(x)) if clusters is None else clusters))
    free = units + 1 - len(np.unique(np.zeros(len(x)) if groups is None else groups))  # as many without groups

    def judge(error: float) -> Judgment:
        measured = rank_correlation(x, y, groups=groups, clusters=clusters, level=1 - error)
        return (UNDECIDED, None, None) if measured is None else claim.judge(*measured[1:])

    less = "" if free == units else ", less one for each further group"
    few = f"{free} independent units{less}; {FEWEST_UNITS} are needed for a rank correlation"
    return _judged(
        judge,
        rule=f"rank correlation {claim.words}",
        contradicted_if=f"interval {claim.opposite}",
        units=units,
        level=level("correlation", free),
        power=power("correlation", free, effect),
        power_at=f"a correlation of {sign * effect:g}",
        reason=design.reason() or (few if free < FEWEST_UNITS else ""),
    )


def no_exception(
    exceptions: int, checked: int, *, design: Design, exhaustive: bool = False, share: float = 0.05
) -> Verdict:
    """Judge a statement about everything, such as a theorem, by cases that were checked.

    Contradicted by a single exception. Supported where there is none among all cases there are (``exhaustive``), or
    among enough of a random sample for the share of exceptions to be below ``share`` (Clopper and Pearson, one-sided):
    72 for 0.05.

    Args:
        exceptions: Cases of which it does not hold.
        checked: Cases that were checked, independent ones where they are a sample.
        design: How the models were trained; a theorem is about all, hence usually `NOT_TRAINED`.
        exhaustive: Whether these are all the cases.
        share: The share of exceptions that is to be ruled out.
    """
    _check_count("checked", checked, 1)
    _check_count("exceptions", exceptions, 0)
    if exceptions > checked or not 0 < share < 1:
        raise ValueError(f"exceptions = {exceptions} of checked = {checked}, share = {share}: out of range")
    settings = {"share": share, "exhaustive": exhaustive}
    enough = exhaustive or (1 - share) ** checked <= ERROR / 2
    needed = math.ceil(math.log(ERROR / 2) / math.log(1 - share))
    # One exception is a proof, whatever the number of cases: it is not held back.
    name = CONTRADICTED if exceptions else SUPPORTED if enough else UNDECIDED
    missing = "" if enough or exceptions else f"{checked} cases; {needed} without an exception are needed"
    reason = design.reason() or missing
    return Verdict(
        UNDECIDED if reason else name,
        rule="no exception in any case" if exhaustive else f"no exception, share below {share:g}",
        contradicted_if="there is one exception",
        units=checked,
        level=level("no_exception", checked, **settings),
        power=power("no_exception", checked, 0.0, **settings),
        power_at="no exceptions at all",
        error=1.0 if reason else SMALLEST if exceptions or exhaustive else 2 * (1 - share) ** checked,
        reason=reason,
    )


def holm(verdicts: Sequence[Verdict], *, error: float = ERROR) -> list[Verdict]:
    """Return the verdicts of one claim, corrected together: the chance that any of them is wrong is at most ``error``.

    Holm's step-down (1979) on `Verdict.error`: with m verdicts, the i-th smallest stays if it and all smaller ones are
    at most ``error / (m - i + 1)``. The others become inconclusive, with the reason. Units need not be independent
    between verdicts. Verdicts that are inconclusive count among the m.
    """
    order = np.argsort([one.error for one in verdicts], kind="stable")
    kept, result = True, list(verdicts)
    for rank, number in enumerate(order):
        kept = kept and verdicts[number].error <= error / (len(verdicts) - rank)
        if not kept:
            result[number] = _withdrawn(verdicts[number], f"Holm's correction for {len(verdicts)} verdicts")
    return result


def false_discovery_rate(verdicts: Sequence[Verdict], *, error: float = ERROR) -> list[Verdict]:
    """Return the verdicts of one claim, corrected together: the expected share of wrong ones is at most ``error``.

    Benjamini and Hochberg's step-up (1995) on `Verdict.error`; verdicts are independent or positively dependent. For
    many correlations of which some are expected to hold.
    """
    order = np.argsort([one.error for one in verdicts], kind="stable")
    limits = error * (np.arange(len(verdicts)) + 1) / max(len(verdicts), 1)
    below = np.flatnonzero([verdicts[number].error <= limit for number, limit in zip(order, limits, strict=True)])
    kept = set(order[: below[-1] + 1].tolist()) if below.size else set()
    words = f"a false discovery rate of {error:g} among {len(verdicts)} verdicts"
    return [one if number in kept else _withdrawn(one, words) for number, one in enumerate(verdicts)]


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


def empirical_logit(count: Array, total: Array) -> Array:
    """Return ``ln((count + 1/2) / (total - count + 1/2))``: rates on a scale where differences of rare ones compare.

    Take differences of skewed rates on this scale, and say so in the claim: "difference of logits".
    """
    count, total = np.asarray(count, np.float64), np.asarray(total, np.float64)
    if not ((count >= 0) & (count <= total) & (total >= 1)).all():
        raise ValueError(f"count must lie from 0 to total >= 1, got {count.tolist()} of {total.tolist()}")
    return np.log((count + 0.5) / (total - count + 0.5))


Judgment = tuple[str, float | None, float | None]
"""Name of the verdict and the ends of the interval."""


class _Claim(NamedTuple):
    """That a number lies between two others, of which one may be infinite."""

    least: float
    most: float

    @classmethod
    def of(cls, above: float | None, below: float | None, within: tuple[float, float] | None) -> "_Claim":
        if sum(one is not None for one in (above, below, within)) != 1:
            raise ValueError(f"above = {above}, below = {below}, within = {within}: give exactly one of them")
        claim = cls(above, math.inf) if above is not None else cls(-math.inf, below) if below is not None else None
        claim = cls(*within) if claim is None else claim
        for name, end, one in (("lower", claim.least, below), ("upper", claim.most, above)):
            if one is None or math.isnan(end):
                _check_number(f"{name} bound", end)
        if not claim.least < claim.most:
            raise ValueError(f"within = {tuple(claim)}: the lower bound comes first")
        return claim

    def judge(self, low: float, high: float) -> Judgment:
        low, high = float(low), float(high)
        if self.least < low and high < self.most:
            return SUPPORTED, low, high
        return (CONTRADICTED if high < self.least or self.most < low else UNDECIDED), low, high

    @property
    def words(self) -> str:
        if math.isinf(self.most):
            return f"above {self.least:g}"
        return f"below {self.most:g}" if math.isinf(self.least) else f"within {self.least:g} to {self.most:g}"

    @property
    def opposite(self) -> str:
        if math.isinf(self.most):
            return f"wholly below {self.least:g}"
        return f"wholly above {self.most:g}" if math.isinf(self.least) else "wholly outside"


def _judged(judge: Callable[[float], Judgment], *, reason: str, **words: Any) -> Verdict:
    """Return the verdict of a rule, which gives a judgment for every two-sided error."""
    name, low, high = judge(ERROR)
    finite = low is not None and math.isfinite(low) and math.isfinite(high)
    low, high = (low, high) if finite else (None, None)
    if reason or name == UNDECIDED:
        return Verdict(UNDECIDED, low=low, high=high, reason=reason, **words)
    least, most = math.log(SMALLEST), math.log(ERROR)
    for _ in range(40):
        middle = (least + most) / 2
        least, most = (least, middle) if judge(math.exp(middle))[0] == name else (middle, most)
    return Verdict(name, error=math.exp(most), low=low, high=high, **words)


def _reachability(reachable: Callable[[int], bool], units: int) -> str:
    """Say how many units it takes to be able to support and to contradict; empty where these do."""
    if reachable(units):
        return ""
    needed = next((n for n in range(units + 1, MOST_UNITS) if reachable(n)), None)
    words = f"{needed} are needed" if needed else f"{MOST_UNITS} would not do"
    return f"no outcome of {units} units would support the claim, or none would contradict it; {words}"


def _withdrawn(verdict: Verdict, words: str) -> Verdict:
    if verdict.name == UNDECIDED:
        return verdict
    reason = f"{verdict.name} alone (error {verdict.error:.2g}), not after {words}"
    return replace(verdict, name=UNDECIDED, error=1.0, reason=reason)


def _check_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} = {value!r} must be an integer of at least {least}")


def _check_number(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} = {value} must be a finite number")
