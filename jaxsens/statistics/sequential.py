"""When to stop sampling, and an interval that stays honest all the same: fixed looks, each with a share of the error.

A run that stops because its standard error is small enough has looked at its data: a rate that happens to come out low
looks precise, too. So sizes are fixed before the first unit is seen, and the interval at look k misses with probability
``alpha / (k (k + 1))`` at most. These sum to less than alpha, however many looks there are (Bonferroni): the interval
at the look where the run stops covers with ``1 - alpha``, by whatever rule it stops. The first look, the likely one if
planning was good, gets half.
"""

import math

from scipy import special

from jaxsens.statistics.estimate import Estimate

__all__ = ["GROWTH", "PARTS", "least", "level_of", "precise_enough", "sizes"]

GROWTH = 1.25
"""From a look to the next."""

PARTS = 4
"""Equal parts that the first look is made of; every look is a whole number of them, the last excepted."""


def sizes(first: int, available: int) -> list[int]:
    """Return the numbers of units of all looks, growing by ``GROWTH`` in whole parts, until all units are in.

    Args:
        first: Of the first look; rounded up to ``PARTS`` equal parts.
        available: Of the last.

    Raises:
        ValueError: If a number is smaller than 1.
    """
    if first < 1 or available < 1:
        raise ValueError(f"first and available must be at least 1, got {first} and {available}")
    part, parts, found = -(-first // PARTS), PARTS, []
    while part * parts < available:
        found.append(part * parts)
        parts = math.ceil(parts * GROWTH)
    return [*found, available]


def level_of(look: int, level: float) -> float:
    """Return the confidence ``1 - (1 - level) / (k (k + 1))`` of the interval at look ``k = 1, 2, ..``.

    Raises:
        ValueError: If ``level`` is not strictly between 0 and 1, or ``look`` is smaller than 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    if look < 1:
        raise ValueError(f"look must be at least 1, got {look}")
    return 1 - (1 - level) / (look * (look + 1))


def least(target_sem: float, rate: bool) -> int:
    """Return how many units it takes at least to be precise enough: for a rate the ``1 / 2n`` of no change at all."""
    return math.ceil(0.5 / target_sem) + 1 if rate else 1


def precise_enough(estimate: Estimate, target_sem: float) -> bool:
    """Return whether half the width of the estimate's interval of one standard error is the target or less.

    For a mean that is the standard error, but for Student's t. For a rate it does not collapse where nothing was seen:
    n units without a change are precise to about ``1 / 2n``.
    """
    low, high = estimate.interval(float(special.erf(0.5**0.5)))
    return bool(high - low <= 2 * target_sem)
