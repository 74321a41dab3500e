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
best rate inside it (`Design`). A rule that cannot give both other verdicts with so many units is inconclusive, and says how
many it takes. Several verdicts within one claim are corrected together, by `holm` or `false_discovery_rate`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxsens.statistics.estimate import Estimate
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

ERROR = 0.05
"""Both errors together: intervals have the level ``1 - ERROR``, each one-sided error is at most ``ERROR / 2``."""

FEWEST_SEEDS = 3
"""Independently trained models of each kind that a verdict needs."""

FEWEST_UNITS = 10
"""Independent units that a verdict on a rank correlation needs."""


@dataclass(frozen=True)
class Design:
    """How the models behind a verdict were trained; every rule asks for it.

    Attributes:
        seeds: Independently trained models of each kind, the fewest where kinds differ; None where nothing is trained.
        rates: The grid of learning rates that was searched.
        best: The rate that was chosen, by the name of each kind of model that the verdict compares.

    Raises:
        ValueError: If ``seeds`` is not an integer of at least 1, a rate is not a positive finite number, or a best rate
            is not in the grid.
    """

    seeds: int | None
    rates: Sequence[float] = ()
    best: Mapping[str, float] = field(default_factory=dict)

    def reason(self) -> str:
        """Return why the training allows no verdict; empty where it does.

        It does with `FEWEST_SEEDS` seeds, and a best rate of every kind strictly inside of the grid: that takes three
        rates. Where nothing was trained it always does.
        """
        raise NotImplementedError


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
        power_at: The alternative that the power is for, in words: "1 standard deviation above the bound".
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
        raise NotImplementedError


def mean(
    estimate: Estimate,
    *,
    design: Design,
    above: float | None = None,
    below: float | None = None,
    within: tuple[float, float] | None = None,
    effect: float = 1.0,
) -> Verdict:
    """Judge a mean or a difference by its interval; ``within`` is a test of equivalence (two one-sided tests).

    Assumes independent units whose values vary continuously; for values that may fail all or none (accuracies of
    trained models) see `bounded_mean`, for units within units give the means of the outer ones (`outer_means`). Units
    that agree wholly have no spread to judge by: inconclusive. Contradicted if the interval lies wholly on the other
    side of the bound, or outside of ``within``.

    Args:
        estimate: Of one number.
        design: How the models were trained; `NOT_TRAINED` if they were not.
        above: The claim is that the mean is above this number.
        below: Or below this one.
        within: Or between these two.
        effect: The alternative of the power: how far beyond the bound the mean is (of ``within``: how far the bounds
            are from a mean at the middle), in standard deviations of a unit.
    """
    raise NotImplementedError


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
    that it is above 0.95: that takes 84 seeds. Contradicted if this interval lies wholly on the other side.

    Args:
        values: One number for each unit ``[n]``; differences of rates lie in ``(-1, 1)``.
        bounds: The smallest and largest value that is possible.
        design: How the models were trained.
        above: The claim is that the mean is above this number.
        below: Or below this one.
        within: Or between these two.
        effect: The alternative of the power: the share of units that fail.
    """
    raise NotImplementedError


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
    raise NotImplementedError


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
    raise NotImplementedError


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
    raise NotImplementedError


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

    Assumes independent clusters; with fewer than `FEWEST_UNITS` of them the verdict is inconclusive. Contradicted if
    the interval lies wholly on the other side of 0.

    Args:
        x: A number for every model ``[m]``.
        y: Another.
        design: How the models were trained.
        sign: 1 or -1.
        groups: As in `rank_correlation`.
        clusters: As in `rank_correlation`.
        effect: The alternative of the power: the size of the correlation of normal variables.
    """
    raise NotImplementedError


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
    raise NotImplementedError


def holm(verdicts: Sequence[Verdict], *, error: float = ERROR) -> list[Verdict]:
    """Return the verdicts of one claim, corrected together: the chance that any of them is wrong is at most ``error``.

    Holm's step-down (1979) on `Verdict.error`: with m verdicts, the i-th smallest stays if it and all smaller ones are
    at most ``error / (m - i + 1)``. The others become inconclusive, with the reason. Units need not be independent
    between verdicts. Verdicts that are inconclusive count among the m.
    """
    raise NotImplementedError


def false_discovery_rate(verdicts: Sequence[Verdict], *, error: float = ERROR) -> list[Verdict]:
    """Return the verdicts of one claim, corrected together: the expected share of wrong ones is at most ``error``.

    Benjamini and Hochberg's step-up (1995) on `Verdict.error`; verdicts are independent or positively dependent. For
    many correlations of which some are expected to hold.
    """
    raise NotImplementedError


def outer_means(values: Array, outer: Array) -> Estimate:
    """Estimate a mean over outer units, such as languages, from inner ones, such as models of each language.

    Inner units are averaged within their outer unit first, and outer units count once, however many inner ones they
    have: ``n`` is the number of outer units. Valid whatever the share of the variance between them.

    Args:
        values: One number for each inner unit ``[m]``.
        outer: The outer unit of each ``[m]``.
    """
    raise NotImplementedError


def empirical_logit(count: Array, total: Array) -> Array:
    """Return ``ln((count + 1/2) / (total - count + 1/2))``: rates on a scale where differences of rare ones compare.

    Take differences of skewed rates on this scale, and say so in the claim: "difference of logits".
    """
    raise NotImplementedError


def level(rule: str, units: int, **settings: float) -> float:
    """Return the largest probability that a rule says "supported" where the claim is false.

    Closed forms under the rule's assumptions; for ``correlation`` a fixed simulation of independent normal pairs. All
    are also simulated by the slow test of this file, skewed and heavy-tailed units included.

    Args:
        rule: The name of its function.
        units: How many independent units.
        settings: The rule's own: bounds, ``comparisons`` of `rises_in_each`.
    """
    raise NotImplementedError


def power(rule: str, units: int, effect: float, **settings: float) -> float:
    """Return the probability that a rule says "supported" at an alternative, in the rule's units of ``effect``.

    Args:
        rule: The name of its function.
        units: How many independent units.
        effect: As the rule's argument of that name.
        settings: As for `level`.
    """
    raise NotImplementedError
