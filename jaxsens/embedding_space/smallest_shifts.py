"""The tokens that move the states least, their counts over a corpus, and the agreement of norms on them."""

from typing import NamedTuple

import numpy as np

from jaxsens.execution import checks
from jaxsens.statistics import estimate
from jaxsens.typing import Array

__all__ = ["Agreement", "agreement", "count_tokens", "least_shifting", "rank_agreement"]


def least_shifting(shifts: Array, count: int = 1) -> np.ndarray:
    """Return the positions of a sequence's smallest shifts, smallest first, ``[b count]``; of equal ones the first.

    Args:
        shifts: ``[b t]``, NaN where a token does not count, such as ``shifts.values("l2")[..., 0]``.
        count: Number of positions.

    Raises:
        ValueError: If ``shifts`` is not ``[b t]``, or a sequence has fewer tokens that count; it is named.

    Example:
        >>> least_shifting(np.array([[3.0, np.nan, 1.0]]), 2)
        array([[2, 0]])
    """
    shifts, count = _real("shifts", shifts), checks.require_count("count", count)
    if np.isinf(shifts).any():
        raise ValueError("shifts must not be infinite; NaN marks a token that does not count")
    if shifts.ndim != 2 or not len(shifts):
        raise ValueError(f"shifts must be [b t] of at least one sequence, got shape {shifts.shape}")
    counted = (~np.isnan(shifts)).sum(1)
    if (counted < count).any():
        short = int(np.argmax(counted < count))
        raise ValueError(f"count={count}, but sequence {short} has {counted[short]} tokens that count; leave it out")
    return np.argsort(shifts, axis=1, kind="stable")[:, :count]


def count_tokens(tokens: Array, positions: Array, vocabulary: int) -> np.ndarray:
    """Return how often each token is at the ``positions [b count]`` of ``tokens [b t]``, by id ``[v]``.

    Raises:
        ValueError: If tokens or positions are not integers of these shapes, a position is outside of the sequence, or a
            token there is no id below ``vocabulary``.

    Example:
        >>> count_tokens(np.array([[2, 0, 2]]), np.array([[0, 2]]), vocabulary=3)
        array([0, 0, 2])
    """
    vocabulary = checks.require_count("vocabulary", vocabulary)
    tokens, positions = checks.host_values(tokens, "tokens"), checks.host_values(positions, "positions")
    for name, values in (("tokens", tokens), ("positions", positions)):
        if values.ndim != 2 or values.dtype.kind not in "iu" or len(values) != len(tokens):
            raise ValueError(f"{name} must be integers, one row for each sequence, got {values.dtype} {values.shape}")
    if positions.size and (positions.min() < 0 or positions.max() >= tokens.shape[1]):
        raise ValueError(
            f"positions must be from 0 to {tokens.shape[1] - 1}, got {positions.min()} to {positions.max()}"
        )
    ids = np.take_along_axis(tokens, positions, 1)
    if ids.size and (ids.min() < 0 or ids.max() >= vocabulary):
        raise ValueError(f"tokens must be ids from 0 to {vocabulary - 1}, got {ids.min()} to {ids.max()}")
    return np.bincount(ids.ravel(), minlength=vocabulary)


class Agreement(NamedTuple):
    """Agreement of two norms on how often each token shifts least.

    Attributes:
        pearson: Correlation of the counts, over the tokens with a count above 0 in either norm.
        spearman: Rank correlation of the counts, over the ``top`` tokens with the largest sum of both counts.
        share: The fraction of all counts that those tokens have.

    Example:
        >>> Agreement(pearson=0.9, spearman=0.8, share=0.5).share
        0.5
    """

    pearson: float
    spearman: float
    share: float


def agreement(first: Array, second: Array, *, top: int = 20) -> Agreement:
    """Compare the counts of two norms.

    Conti et al., Probing the Embedding Space of Transformers via Minimal Token Perturbations, s.3.1, report Pearson's
    correlation, and Spearman's over the top 20 tokens, without saying how these are chosen. Here they have the largest
    sum of both counts, and of equal sums the smallest id comes first.

    Args:
        first: Counts ``[v]``.
        second: Counts ``[v]`` of the same tokens.
        top: Number of tokens to rank; all with a count if they are fewer.

    Raises:
        ValueError: If shapes differ, a count is negative or not finite, ``top`` is below 2, or counts are constant, so
            that there is no correlation.

    Example:
        >>> result = agreement([5, 3, 1, 0], [4, 3, 0, 0])
        >>> round(result.pearson, 3), round(result.spearman, 3), result.share
        (0.961, 1.0, 1.0)
    """
    top = checks.require_count("top", top, 2)
    first, second = _real("first", first), _real("second", second)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(
            f"first and second must be counts [v] of the same tokens, got shapes {first.shape} and {second.shape}"
        )
    for name, counts in (("first", first), ("second", second)):
        if not (np.isfinite(counts) & (counts >= 0)).all():
            wrong = int(np.argmin(np.isfinite(counts) & (counts >= 0)))
            raise ValueError(f"{name} must hold finite counts of at least 0, got {counts[wrong]} for token {wrong}")
    total = first + second
    counted = np.flatnonzero(total > 0)
    ranked = counted[np.argsort(-total[counted], kind="stable")[:top]]
    return Agreement(
        _correlation(first[counted], second[counted]),
        _correlation(_ranks(first[ranked]), _ranks(second[ranked])),
        float(total[ranked].sum() / max(total.sum(), 1)),
    )


def rank_agreement(first: Array, second: Array) -> estimate.Estimate:
    """Estimate Spearman's correlation between the shifts of two norms within a sequence; the units are sequences.

    Args:
        first: Shifts ``[b t]``, NaN where a token does not count.
        second: Shifts ``[b t]`` of the same tokens in another norm.

    Raises:
        ValueError: If NaN marks different tokens, or the shifts of a sequence are constant or fewer than two.

    Example:
        >>> shifts = np.array([[1.0, 2.0, 3.0], [3.0, np.nan, 1.0]])
        >>> float(rank_agreement(shifts, shifts**2).mean)
        1.0
    """
    first, second = _real("first", first), _real("second", second)
    if first.shape != second.shape or first.ndim != 2 or (np.isnan(first) != np.isnan(second)).any():
        raise ValueError(f"first and second must be shifts [b t] of the same tokens, got {first.shape}, {second.shape}")
    if np.isinf(first).any() or np.isinf(second).any():
        raise ValueError("first and second must not be infinite; NaN marks a token that does not count")
    counted = ~np.isnan(first)
    pairs = zip(first, second, counted, strict=True)
    return estimate.from_values(
        [_correlation(_ranks(a[real]), _ranks(b[real])) for a, b, real in pairs], unit="sequences"
    )


def _real(name: str, values: Array) -> np.ndarray:
    """Return real numbers in float64."""
    values = checks.host_values(values, name)
    if values.dtype.kind == "c":
        raise ValueError(f"{name} must be real numbers, got {values.dtype}")
    return values.astype(np.float64)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks counted from 1; equal values get the mean of their ranks."""
    _, kinds, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[kinds]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        raise ValueError(f"a correlation needs two different values in each of both, got {first} and {second}")
    return float(np.corrcoef(first, second)[0, 1])
