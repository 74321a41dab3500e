"""Rules on shares of models, on rank correlations, and on statements about all cases."""

import math

import numpy as np

from experiments.harness.verdicts.design import Design
from experiments.harness.verdicts.judging import (
    CONTRADICTED,
    SMALLEST,
    SUPPORTED,
    UNDECIDED,
    Judgment,
    Region,
    Verdict,
    judged,
    reachability,
)
from experiments.harness.verdicts.levels import ERROR, level, power
from jaxsens.execution.checks import require_count
from jaxsens.statistics.correlation import rank_correlation
from jaxsens.statistics.estimate import clopper_pearson
from jaxsens.typing import Array

__all__ = ["FEWEST_UNITS", "correlation", "no_exception", "share"]

FEWEST_UNITS = 10
"""Independent units that a verdict on a rank correlation needs."""


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
    """Judge the share of units, such as models, of which something holds, by the interval of Clopper and Pearson.

    Assumes independent units: models, or languages or seeds that have several of them. Undecided ones count as failures
    at the low end and as successes at the high end: they can neither support nor contradict. Contradicted if the
    interval lies wholly on the other side of the bound. "All" units, as above 0.9, takes 36 of them; with fewer the
    verdict is inconclusive.

    Args:
        holding: Units of which it holds.
        total: All units.
        design: How their models were trained.
        above: The claim is that the share is above this number.
        below: Or below this one.
        undecided: Units of which it is not decided.
        effect: The alternative of the power: the true share; by default 1 for ``above`` and 0 for ``below``.
    """
    require_count("total", total, 1)
    require_count("holding", holding, 0)
    require_count("undecided", undecided, 0)
    if holding + undecided > total:
        raise ValueError(f"holding + undecided = {holding + undecided} are more than total = {total}")
    claim = Region.of(above, below, None)
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
    return judged(
        judge,
        rule=f"share of units {claim.words}, Clopper and Pearson{text}",
        contradicted_if=f"interval {claim.opposite}",
        units=total,
        level=level("share", total, **settings),
        power=power("share", total, effect, **settings),
        power_at=f"a share of {effect:g}",
        reason=design.reason() or reachability(reachable, total),
    )


def correlation(
    x: Array,
    y: Array,
    *,
    design: Design,
    sign: int = 1,
    groups: Array | None = None,
    clusters: Array | None = None,
    covariate: Array | None = None,
    effect: float = 0.8,
) -> Verdict:
    """Judge that a rank correlation is positive (``sign=1``) or negative (-1), by `rank_correlation`'s interval.

    Assumes independent clusters; with fewer than `FEWEST_UNITS` of them, less one for each group after the first and
    one for a covariate, the verdict is inconclusive. Contradicted if the interval lies wholly on the other side of 0.

    Args:
        x: A number for every model ``[m]``.
        y: Another.
        design: How the models were trained.
        sign: 1 or -1.
        groups: As in `rank_correlation`.
        clusters: As in `rank_correlation`.
        covariate: As in `rank_correlation`.
        effect: The alternative of the power: the size of the correlation of normal variables.
    """
    if sign not in (1, -1):
        raise ValueError(f"sign = {sign} must be 1 or -1")
    if not 0 <= effect < 1:
        raise ValueError(f"effect = {effect} is a correlation from 0 to 1")
    claim = Region.of(0.0, None, None) if sign == 1 else Region.of(None, 0.0, None)
    units = len(np.unique(np.arange(len(x)) if clusters is None else clusters))
    free = units + 1 - len(np.unique(np.zeros(len(x)) if groups is None else groups))  # as many without groups
    grouped = free < units
    free -= covariate is not None

    def judge(error: float) -> Judgment:
        settings = {"groups": groups, "clusters": clusters, "covariate": covariate}
        measured = rank_correlation(x, y, **settings, level=1 - error)
        return (UNDECIDED, None, None) if measured is None else claim.judge(*measured[1:])

    less = ", less one for each further group" if grouped else ""
    less += ", less one for the covariate" if covariate is not None else ""
    few = f"{free} independent units{less}; {FEWEST_UNITS} are needed for a rank correlation"
    return judged(
        judge,
        rule=f"{'' if covariate is None else 'partial '}rank correlation {claim.words}",
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
    require_count("checked", checked, 1)
    require_count("exceptions", exceptions, 0)
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
