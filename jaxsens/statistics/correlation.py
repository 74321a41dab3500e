"""Rank correlations of two quantities over models, with intervals: over all models, or within groups."""

import itertools
import math

import numpy as np
from scipy import special, stats

from jaxsens.execution import checks
from jaxsens.typing import Array

__all__ = ["FEWEST", "fisher_interval", "rank_correlation"]

FEWEST = 3
"""Degrees of freedom for a rank correlation to have an interval: 5 units of one group."""

_WIDER = 1.1
"""How much wider the interval of a partial correlation is: each end errs in at most 0.03, from 12 to 200 units."""

_ARRANGEMENTS = 5040  # of units within their groups, up to which all are tried


def rank_correlation(
    x: Array,
    y: Array,
    *,
    groups: Array | None = None,
    clusters: Array | None = None,
    covariate: Array | None = None,
    level: float = 0.95,
) -> tuple[float, float, float] | None:
    """Return Spearman's rank correlation of ``x [m]`` and ``y [m]`` with the ends of its interval.

    With groups, ranks are taken within each group, and their distances from its mean rank are correlated: what is left
    without the levels of the groups, such as those of architectures. In groups of a few models that is nearer to 0 than
    the correlation of the population (with four, 0.67 for 0.79).

    With a covariate z it is the partial rank correlation: that of what is left of the ranks of x and of y after linear
    regression on the ranks of z, ``(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))``.

    The interval is `fisher_interval` with ``n - g - 1`` degrees of freedom for n units and g groups. With a covariate
    there is one less, and the interval is 10 % wider: ranks of normal variables with nothing in common but z keep a
    partial correlation of 0.01, and each end would err in up to 0.044. Where units can be arranged within their groups
    in at most 5040 ways, the interval contains 0 unless the permutation test over all of them (of cluster means)
    rejects at the same level: in four groups of two units it always does. Units are models, or clusters of models that
    are alike, such as the seeds of one treatment: then as many as there are clusters, which is right where seeds differ
    little and wide where they differ much.

    Coverage of 95 % intervals for normal pairs with correlations from -0.995 to 0.995 is 0.94 to 0.99 with 5 to 100
    units of one group. With fewer than about ten units they are too wide to decide much: five perfect ranks give
    [0.13, 1].

    Args:
        x: A number for every model.
        y: Another.
        groups: The group of every model ``[m]``, by default one for all.
        clusters: The cluster of every model ``[m]``, each within one group; by default every model is its own.
        covariate: A number for every model ``[m]`` whose part in both is taken out.
        level: Level of the interval.

    Returns:
        ``(r, low, high)``; None with fewer than ``FEWEST + g + 1`` units (one more with a covariate), or where no group
        has two different x, or two different y, or the covariate leaves nothing of one of them.

    Raises:
        ValueError: If x, y, groups, clusters and the covariate are not vectors of one length, x or y is masked, or
            ``level`` is not strictly between 0 and 1.
        FloatingPointError: If a number is not finite.

    Example:
        >>> r, low, high = rank_correlation([1, 2, 3, 4, 5], [1, 3, 2, 4, 5])
        >>> round(r, 2), low < r < high
        (0.9, True)
    """
    level = checks.require_level("level", level)
    x, y, groups, clusters = _columns(x, y, groups, clusters)
    names = np.unique(groups)
    freedom = len(np.unique(clusters)) - len(names) - 1
    a, b = _centered_ranks(x, groups), _centered_ranks(y, groups)
    if covariate is not None:
        freedom -= 1
        covariate_ranks = _centered_ranks(_columns(covariate, y, groups, clusters)[0], groups)
        a, b = _without(a, covariate_ranks), _without(b, covariate_ranks)
    size = math.sqrt((a @ a) * (b @ b))
    if freedom < FEWEST or size == 0:
        return None
    r = float(np.clip(a @ b / size, -1, 1))
    wide = level if covariate is None else 2 * special.ndtr(_WIDER * special.ndtri((1 + level) / 2)) - 1
    low, high = (float(end) for end in fisher_interval(r, freedom, wide))
    p = _permutation_p(a, b, groups, clusters)
    if p is not None and p > 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    return r, low, high


def _centered_ranks(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the ranks of values within their groups ``[m]``, as distances from the mean rank of the group."""
    ranks = np.zeros(len(values))
    for name in np.unique(groups):
        members = groups == name
        ranks[members] = stats.rankdata(values[members]) - (members.sum() + 1) / 2
    return ranks


def _without(ranks: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return what is left of ranks after regression on others; exactly zero where that is rounding."""
    if not known.any():
        return ranks
    left = ranks - known * (ranks @ known) / (known @ known)
    return left if left @ left > 1e-9 * (ranks @ ranks) else np.zeros_like(left)


def _columns(x: Array, y: Array, groups: Array | None, clusters: Array | None) -> tuple[np.ndarray, ...]:
    x, y = checks.host_values(x, "x"), checks.host_values(y, "y")
    if "c" in (x.dtype.kind, y.dtype.kind):
        raise ValueError(f"x and y must be real numbers, got {x.dtype} and {y.dtype}")
    x, y = x.astype(np.float64), y.astype(np.float64)
    groups = np.zeros(x.shape, int) if groups is None else np.asarray(groups)
    clusters = np.arange(x.size) if clusters is None else np.asarray(clusters)
    shapes = [column.shape for column in (x, y, groups, clusters)]
    if x.ndim != 1 or len(set(shapes)) > 1:
        raise ValueError(f"x, y, groups and clusters must be vectors of one length, got shapes {shapes}")
    if not np.isfinite([x, y]).all():
        raise FloatingPointError("x and y must be finite: leave out models with missing values")
    return x, y, groups, clusters


def fisher_interval(r: Array, freedom: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of rank correlations ``r [*k]`` by Fisher's transform, each end ``[*k]``.

    ``tanh(atanh(r) -+ z s)`` with ``s^2 = (1 + r^2 / 2) / (f - 1)`` for f degrees of freedom, ``f = n - 2`` with n
    units in one group: Bonett and Wright, Sample Size Requirements for Estimating Pearson, Kendall and Spearman
    Correlations (2000). Two corrections for few units and correlations near 1:

    - The mean of r is ``((n - 2) rho + 3 tau) / (n + 1)`` with Kendall's tau (Moran, Rank Correlation and
      Product-Moment Correlation, 1948), nearer to 0 than rho. The outer end is computed from ``((n + 1) r - 3 tau) /
      (n - 2)`` in place of r, with ``tau = 2 / pi asin(2 sin(pi r / 6))`` as for normal variables.
    - Half a step of the ranks below 1, ``1 - 6 / (n^3 - n)``, is the largest number that is transformed, so that a
      perfect correlation has a width. The outer end is 1 where it would be exceeded.

    Args:
        r: Rank correlations.
        freedom: At least 2.
        level: Level of the interval.

    Raises:
        ValueError: If there are fewer degrees of freedom.

    Example:
        >>> low, high = fisher_interval(np.array([0.9, 0.0]), freedom=20)
        >>> low.round(2).tolist(), high.round(2).tolist()
        ([0.73, -0.42], [0.97, 0.42])
    """
    freedom, level = checks.require_count("freedom", freedom, 2), checks.require_level("level", level)
    r, count = checks.host_values(r, "r"), freedom + 2
    if r.dtype.kind == "c" or not (np.abs(r) <= 1 + 1e-9).all():
        raise ValueError(f"r must be correlations from -1 to 1, got {r}")
    r = np.clip(r.astype(np.float64), -1, 1)
    size, largest = np.abs(r), 1 - 6 / (count**3 - count)
    tau = 2 / np.pi * np.arcsin(np.clip(2 * np.sin(np.pi * size / 6), 0, 1))
    unbiased = np.maximum(((count + 1) * size - 3 * tau) / (count - 2), size)
    margin = special.ndtri((1 + level) / 2) * np.sqrt((1 + r**2 / 2) / (freedom - 1))
    inner, outer = (np.arctanh(np.minimum(one, largest)) for one in (size, unbiased))
    low, high = np.minimum(np.tanh(inner - margin), size), np.maximum(np.tanh(outer + margin), size)
    high = np.where(unbiased >= largest, 1.0, high)
    return np.where(r < 0, -high, low), np.where(r < 0, -low, high)


def _permutation_p(a: np.ndarray, b: np.ndarray, groups: np.ndarray, clusters: np.ndarray) -> float | None:
    """Return the p-value (two-sided) of the cluster means over all their arrangements; None if there are too many."""
    _, first, which = np.unique(clusters, return_index=True, return_inverse=True)
    size = np.bincount(which)
    a, b, group = np.bincount(which, a) / size, np.bincount(which, b) / size, groups[first]
    members = [np.flatnonzero(group == name) for name in np.unique(group)]
    if math.prod(math.factorial(len(one)) for one in members) > _ARRANGEMENTS:
        return None
    order = np.concatenate(members)
    choices = itertools.product(*(itertools.permutations(one.tolist()) for one in members))
    arranged = np.array([list(itertools.chain(*choice)) for choice in choices])
    products = b[arranged] @ a[order]
    return float(np.mean(np.abs(products) >= abs(a @ b) * (1 - 1e-9)))
