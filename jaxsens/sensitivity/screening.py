"""Low precision first, full precision where it cannot decide: which decisions are accepted, recomputed, audited.

Low precision has the right decision wherever a margin exceeds its error. The error is measured on a few items in both
precisions, and bounded by a multiple of the largest observed error. A random sample of the accepted decisions is
recomputed too, to estimate how many of them are wrong.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import jax
import numpy as np

from jaxsens.execution.checks import require_count
from jaxsens.results.files import part
from jaxsens.statistics import estimate
from jaxsens.typing import Key

__all__ = ["Screening", "by_size", "for_audit", "for_calibration", "require", "revise"]

# The items that the bound is measured on, and those audited, are drawn with separate keys.
_CALIBRATION, _AUDIT = 2**32 - 2, 2**32 - 3


@part
@dataclass(frozen=True)
class Screening:
    """How many decisions were made in which precision.

    Attributes:
        bound: The bound on the error of low precision; decisions with a smaller margin were recomputed.
        total: The number of decisions.
        redone: Number of decisions recomputed in full precision.
        audited: Number of accepted decisions recomputed as a random sample.
        disagreed: Number of audited decisions that differed in full precision, which the result holds.

    Example:
        >>> Screening(bound=0.1, total=1000, redone=10, audited=300, disagreed=0).wrong()[1] < 0.02
        True
    """

    bound: float
    total: int
    redone: int
    audited: int
    disagreed: int

    def wrong(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the share of wrong decisions among the accepted ones, from the audit.

        It is the interval of Clopper and Pearson.

        Raises:
            ValueError: If nothing was audited, or ``level`` is not strictly between 0 and 1.
        """
        if not self.audited:
            raise ValueError("audited is 0: no decision was accepted, or audit was 0")
        low, high = estimate.clopper_pearson(np.asarray([self.disagreed]), self.audited, level)
        return float(low[0]), float(high[0])

    def facts(self) -> dict[str, str]:
        """Return in words how many decisions were recomputed, and what the audit found."""
        return {
            "recomputed": f"{self.redone} of {self.total}",
            "audit": f"{self.disagreed} of {self.audited} differed in full precision",
        }


def require(calibration: int, safety: float, audit: int) -> None:
    """Raise ValueError unless there is at least one item to measure errors on, and the others are not negative.

    Example:
        >>> require(calibration=32, safety=2.0, audit=0)
    """
    require_count("calibration", calibration, hint=" example")
    if not (isinstance(safety, int | float | np.number) and 0 <= safety < np.inf):
        raise ValueError(f"safety must be a finite number of at least 0, got {safety!r}")
    require_count("audit", audit, 0)


def for_calibration(key: Key, count: int, size: int) -> np.ndarray:
    """Return which of ``count`` items errors are measured on: at most ``size`` of them, in ascending order.

    Example:
        >>> for_calibration(jax.random.key(0), 3, 5).tolist()
        [0, 1, 2]
    """
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, _CALIBRATION), count))
    return np.sort(order[:size])


def for_audit(key: Key, trusted: np.ndarray, size: int) -> np.ndarray:
    """Return which of the ``trusted [b n]`` decisions are audited, ``[b n]``: ``size`` drawn at random, or all.

    Example:
        >>> int(for_audit(jax.random.key(0), np.array([[True, False, True, True]]), 2).sum())
        2
    """
    candidates = np.argwhere(trusted)
    order = jax.random.permutation(jax.random.fold_in(key, _AUDIT), len(candidates))
    chosen = np.zeros_like(trusted)
    chosen[tuple(candidates[np.asarray(order)[:size]].T)] = True
    return chosen


def by_size(requested: np.ndarray, *, few: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Yield groups of items with requested sites, together with the number of sites to evaluate of each item.

    Items are grouped by their number of requested sites, rounded up to a power of four, and some items are repeated to
    round up the size of a group, so that few programs are compiled.

    Args:
        requested: Which sites of which item, ``[b n]``.
        few: Whether a few sites of an item can be evaluated; if not, all n are.

    Example:
        >>> [(size, items.tolist()) for size, items in by_size(np.eye(3, 8, dtype=bool), few=True)]
        [(1, [0, 1, 2, 0])]
    """
    counts, length = requested.sum(1), requested.shape[1]
    sizes = [4**power for power in range(16) if 4**power < length] if few else []
    least = 0
    for size in (*sizes, length):
        which = np.flatnonzero((counts > least) & (counts <= size))
        least = size
        if len(which):
            yield size, np.resize(which, _round(len(which)))


def _round(count: int) -> int:
    """Return a number of at least ``count``: a power of two up to 64, beyond at most an eighth more."""
    above = 1 << (count - 1).bit_length()
    step = above if count <= 64 else above // 16
    return -(-count // step) * step


def revise(decisions: np.ndarray, requested: np.ndarray, recomputed: Iterable[tuple[np.ndarray, np.ndarray]]) -> int:
    """Replace requested ``decisions [b ...]`` by those of full precision, in place, and count how many changed.

    Args:
        decisions: Decisions of low precision.
        requested: Which of them to replace, in a shape that broadcasts against theirs.
        recomputed: Numbers of items, and the decisions of full precision for these, valid where requested.

    Example:
        >>> decisions = np.array([[False, True]])
        >>> revise(decisions, np.array([[True, False]]), [(np.array([0]), np.array([[True, False]]))])
        1
        >>> decisions.tolist()
        [[True, True]]
    """
    before = decisions.copy()
    for which, exact in recomputed:
        decisions[which] = np.where(requested[which], exact, decisions[which])
    return int((decisions != before).sum())
