"""When to stop sampling, and an interval that is valid under stopping: fixed looks, each with a share of the error.

A run that stops because its standard error is small enough has looked at its data: a rate that comes out low by chance
looks precise, too. So sizes are fixed before the first unit is seen, and the interval at look k misses with probability
``alpha / (k (k + 1))`` at most. These sum to less than alpha, however many looks there are (Bonferroni): the interval
at the look where the run stops covers with ``1 - alpha``, whatever the rule to stop. The first look, the likely one if
planning was good, gets half.

The interval is valid, the mean is biased: runs that saw few of rare changes stop sooner. In simulations (``least`` or
50 units at the first look, targets of a quarter to a half of the rate) where changes come all or none in a unit the
mean is low by up to 0.8 of the target and deviates by up to 1.6 of it, at rates of 0.002 and 0.02; where trials are
nearly independent, by 0.1 and 0.7. Coverage is 0.97 or more in all cases.
"""

import math

import numpy as np
from scipy import special

from jaxsens.execution import checks
from jaxsens.statistics.estimate import Estimate

__all__ = ["GROWTH", "PARTS", "least", "level_of", "precise_enough", "sizes"]

GROWTH = 1.25
"""From a look to the next."""

PARTS = 4
"""Equal parts that the first look is made of; every look is a whole number of them, the last excepted."""

_ONE_STANDARD_ERROR = float(special.erf(0.5**0.5))  # the level of mean -+ sem, for a normal mean


def sizes(first: int, available: int) -> list[int]:
    """Return the numbers of units of all looks, growing by ``GROWTH`` in whole parts, until all units are in.

    Args:
        first: Number of units at the first look; rounded up to ``PARTS`` equal parts.
        available: Number of units at the last look.

    Raises:
        ValueError: If a number is smaller than 1.

    Example:
        >>> sizes(100, 1000)
        [100, 125, 175, 225, 300, 375, 475, 600, 750, 950, 1000]
    """
    first, available = checks.require_count("first", first), checks.require_count("available", available)
    part, parts, result = -(-int(first) // PARTS), PARTS, []
    while part * parts < available:
        result.append(part * parts)
        parts = math.ceil(parts * GROWTH)
    return [*result, int(available)]


def level_of(look: int, level: float) -> float:
    """Return the confidence ``1 - (1 - level) / (k (k + 1))`` of the interval at look ``k = 1, 2, ..``.

    Raises:
        ValueError: If ``level`` is not strictly between 0 and 1, or ``look`` is smaller than 1.

    Example:
        >>> round(level_of(1, 0.95), 4), round(level_of(2, 0.95), 4)
        (0.975, 0.9917)
    """
    level, look = checks.require_level("level", level), checks.require_count("look", look)
    return 1 - (1 - level) / (look * (look + 1))


def least(target_sem: float, rate: bool) -> int:
    """Return how many units it takes at least to be precise enough: for a rate the ``1 / 2n`` of no change at all.

    Raises:
        ValueError: If the target is not a finite number above 0.

    Example:
        >>> least(0.01, rate=True), least(0.01, rate=False)
        (51, 1)
    """
    target_sem = checks.require_finite("target_sem", target_sem, above=True)
    return math.ceil(0.5 / target_sem) + 1 if rate else 1


def precise_enough(estimate: Estimate, target_sem: float) -> bool:
    """Return whether half the width of an interval of one standard error is the target or less.

    For a mean that is the standard error, but for Student's t. For a rate it is Wilson's score interval, which does not
    collapse where nothing was seen: n units without a change are precise to about ``1 / 2n``. (A measure of precision
    only; what is reported is ``Estimate.interval``.)

    Example:
        >>> from jaxsens.statistics import estimate
        >>> precise_enough(estimate.from_values([1.0, 2.0, 3.0]), 1.0)
        True
    """
    low, high = _score_interval(estimate) if estimate.rate else estimate.interval(_ONE_STANDARD_ERROR)
    return bool(high - low <= 2 * target_sem)


def _score_interval(estimate: Estimate) -> tuple[float, float]:
    """Return Wilson's interval of one standard error, with an effective number of trials.

    Of n units the k that are not 0 (or not 1, for high rates) show how much the trials of a unit vary together, ``d = n
    sem^2 / (mean (1 - mean))``: there are ``n (k + w) / (k d + w)`` trials with ``w = (n - k + 1) / 2n``.
    """
    mean, total = float(estimate.mean), estimate.count
    deviating = np.count_nonzero(estimate.values != (0 if mean <= 0.5 else 1))
    spread = mean * (1 - mean)
    together = total * float(estimate.sem) ** 2 / spread if spread > 0 and np.isfinite(estimate.sem) else 1.0
    prior = (total - deviating + 1) / (2 * total)
    trials = total * (deviating + prior) / (deviating * together + prior)
    inverse = 1 / special.stdtrit(total - 1, (1 + _ONE_STANDARD_ERROR) / 2) ** 2 if total > 1 else 0.0
    scale = 1 / (inverse + 1 / trials)
    center = scale * (mean * inverse + 1 / (2 * trials))
    margin = scale * math.sqrt(inverse * spread / trials + 1 / (4 * trials**2))
    return min(max(center - margin, 0), mean), max(min(center + margin, 1), mean)
