"""Low precision first, full precision where it cannot decide: what is trusted, what is asked again, what is audited.

Low precision has the right decision wherever a margin exceeds its error. The error is measured on a few items, where
both precisions are computed, and bounded by a multiple of the largest one seen. A random sample of what was trusted is
computed again, too, which tells how far the bound can be trusted itself.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import jax
import numpy as np

from jaxsens.statistics import estimate
from jaxsens.typing import Key

__all__ = ["Screening", "by_size", "for_audit", "for_calibration", "require", "revise"]

# The items that the bound is measured on, and those audited, are drawn with keys of their own.
_CALIBRATION, _AUDIT = 2**32 - 2, 2**32 - 3


@dataclass(frozen=True)
class Screening:
    """How much of an answer full precision had to be asked for.

    Attributes:
        bound: On the error of low precision; smaller margins were not trusted.
        total: Decisions made.
        redone: Those that were computed again in full precision.
        audited: Trusted ones that were, as a random sample.
        disagreed: Those of them where full precision disagreed; the answer has its word there.
    """

    bound: float
    total: int
    redone: int
    audited: int
    disagreed: int

    def wrong(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the share of wrong decisions among those trusted, from the audit (Clopper, Pearson).

        Raises:
            ValueError: If nothing was audited, or ``level`` is not strictly between 0 and 1.
        """
        if not self.audited:
            raise ValueError("audited is 0: nothing was trusted, or no audit was asked for")
        low, high = estimate.clopper_pearson(np.asarray([self.disagreed]), self.audited, level)
        return float(low[0]), float(high[0])


def require(calibration: int, safety: float, audit: int) -> None:
    """Raise ValueError unless there is an item at least to measure errors on, and the others are not negative."""
    if calibration != int(calibration) or calibration < 1:
        raise ValueError(f"calibration must be an integer of at least 1 example, got {calibration}")
    if not 0 <= safety < np.inf:
        raise ValueError(f"safety must be a finite number of at least 0, got {safety}")
    if audit != int(audit) or audit < 0:
        raise ValueError(f"audit must be an integer of at least 0, got {audit}")


def for_calibration(key: Key, count: int, size: int) -> np.ndarray:
    """Return which of ``count`` items errors are measured on: ``size`` of them at most, in order."""
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, _CALIBRATION), count))
    return np.sort(order[:size])


def for_audit(key: Key, trusted: np.ndarray, size: int) -> np.ndarray:
    """Return which of those ``trusted [b n]`` are audited, ``[b n]``: ``size`` of them, drawn at random, or all."""
    candidates = np.argwhere(trusted)
    luck = jax.random.permutation(jax.random.fold_in(key, _AUDIT), len(candidates))
    chosen = np.zeros_like(trusted)
    chosen[tuple(candidates[np.asarray(luck)[:size]].T)] = True
    return chosen


def by_size(wanted: np.ndarray, *, few: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Yield items of which something is wanted, together with how many sites to evaluate of each.

    Items ``wanted [b n]`` are put together by their number of wanted sites up to a power of four, and some are named
    twice to make their number a round one, so that few programs serve whatever is wanted.

    Args:
        wanted: Which sites of which item.
        few: Whether a few sites of an item can be evaluated; if not, all n are.
    """
    counts, length = wanted.sum(1), wanted.shape[1]
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


def revise(answers: np.ndarray, wanted: np.ndarray, again: Iterable[tuple[np.ndarray, np.ndarray]]) -> int:
    """Put what full precision says in the place of ``answers [b ...]`` where it is ``wanted``, and count the changes.

    Args:
        answers: What low precision says; altered in place.
        wanted: Which of them, in a shape that broadcasts against theirs.
        again: Numbers of items, and full precision's answers for these, right where wanted.
    """
    before = answers.copy()
    for which, found in again:
        answers[which] = np.where(wanted[which], found, answers[which])
    return int((answers != before).sum())
