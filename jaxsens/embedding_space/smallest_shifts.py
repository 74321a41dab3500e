"""Which tokens move the states least, counted over a corpus, and whether norms agree on them."""

from typing import NamedTuple

import numpy as np

from jaxsens.statistics import estimate
from jaxsens.typing import Array

__all__ = ["Agreement", "agreement", "count_tokens", "least_shifting", "rank_agreement"]


def least_shifting(shifts: Array, count: int = 1) -> np.ndarray:
    """Return the positions of a sequence's smallest shifts, smallest first, ``[b count]``; of equal ones the first.

    Args:
        shifts: ``[b t]``, not a number where a token does not count, such as ``shifts.values("l2")[..., 0]``.
        count: How many.

    Raises:
        ValueError: If a sequence has fewer tokens that count; it is named.
    """
    shifts = np.asarray(shifts, np.float64)
    if shifts.ndim != 2 or count < 1:
        raise ValueError(f"shifts must be [b t] and count at least 1, got shape {shifts.shape} and {count}")
    counted = (~np.isnan(shifts)).sum(1)
    if (counted < count).any():
        short = int(np.argmax(counted < count))
        raise ValueError(f"count={count}, but sequence {short} has {counted[short]} tokens that count; leave it out")
    return np.argsort(shifts, axis=1, kind="stable")[:, :count]


def count_tokens(tokens: Array, positions: Array, vocabulary: int) -> np.ndarray:
    """Return how often each token is at the ``positions [b count]`` of ``tokens [b t]``, by id ``[v]``.

    Raises:
        ValueError: If a token there is no id below ``vocabulary``.
    """
    found = np.take_along_axis(np.asarray(tokens), np.asarray(positions), 1)
    if found.size and (found.min() < 0 or found.max() >= vocabulary):
        raise ValueError(f"tokens must be ids from 0 to {vocabulary - 1}, got {found.min()} to {found.max()}")
    return np.bincount(found.ravel(), minlength=vocabulary)


class Agreement(NamedTuple):
    """How well two norms agree on how often tokens shift least.

    Attributes:
        pearson: Correlation of the counts, over the tokens that either counts at all.
        spearman: Rank correlation of the counts, over the ``top`` tokens with the largest sum of both counts.
        share: How much of all counts those tokens have.
    """

    pearson: float
    spearman: float
    share: float


def agreement(first: Array, second: Array, *, top: int = 20) -> Agreement:
    """Compare the counts of two norms.

    Conti et al., Probing the Embedding Space of Transformers via Minimal Token Perturbations, s.3.1, give Pearson's
    correlation, and Spearman's over the top 20 tokens; how those 20 were chosen is not said there. Here ties in the sum
    go to the smallest id.

    Args:
        first: Counts ``[v]``.
        second: Counts ``[v]`` of the same tokens.
        top: How many tokens are ranked, or all that are counted if they are fewer.

    Raises:
        ValueError: If shapes differ, ``top`` is below 2, or counts are constant, so that there is no correlation.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 1 or top < 2:
        raise ValueError(
            f"first and second must be counts [v] of the same tokens and top at least 2, got {first.shape}, "
            f"{second.shape} and {top}"
        )
    total = first + second
    counted = np.flatnonzero(total > 0)
    ranked = counted[np.argsort(-total[counted], kind="stable")[:top]]
    return Agreement(
        _correlation(first[counted], second[counted]),
        _correlation(_ranks(first[ranked]), _ranks(second[ranked])),
        float(total[ranked].sum() / max(total.sum(), 1)),
    )


def rank_agreement(first: Array, second: Array) -> estimate.Estimate:
    """Estimate Spearman's correlation between two norms' shifts within a sequence, over sequences.

    Args:
        first: Shifts ``[b t]``, not a number where a token does not count.
        second: The same tokens' shifts in another norm.

    Raises:
        ValueError: If they do not count the same tokens, or a sequence's shifts are constant or fewer than two.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 2 or (np.isnan(first) != np.isnan(second)).any():
        raise ValueError(f"first and second must be shifts [b t] of the same tokens, got {first.shape}, {second.shape}")
    counted = ~np.isnan(first)
    pairs = zip(first, second, counted, strict=True)
    return estimate.from_values([_correlation(_ranks(a[real]), _ranks(b[real])) for a, b, real in pairs])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 1 on; equal values share the mean of theirs."""
    _, kinds, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[kinds]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        raise ValueError(f"a correlation needs two different values on either side, got {first} and {second}")
    return float(np.corrcoef(first, second)[0, 1])
