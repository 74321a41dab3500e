"""How two quantities go together over models: rank correlations with intervals, as they are and within groups."""

import math

import numpy as np
from scipy import special, stats

from jaxsens.typing import Array

__all__ = ["FEWEST", "rank_correlation"]

FEWEST = 3
"""Degrees of freedom for a rank correlation to have an interval: 5 units of one group."""


def rank_correlation(
    x: Array, y: Array, *, groups: Array | None = None, clusters: Array | None = None, level: float = 0.95
) -> tuple[float, float, float] | None:
    """Return Spearman's rank correlation of ``x [m]`` and ``y [m]`` with the ends of its interval.

    With groups, ranks are taken within each and what is correlated is their distance from the group's mean rank: what
    is left once the groups' own levels, those of architectures say, are taken out. In groups of a few models that is
    nearer to 0 than the correlation of which they are a sample (with four, .67 for .79).

    The interval is Fisher's transform with the variance ``(1 + r^2 / 2) / (n - g - 2)`` for n units and g groups:
    Bonett and Wright, Sample Size Requirements for Estimating Pearson, Kendall and Spearman Correlations (2000), with a
    degree of freedom less for every further group. Units are models, or clusters of models that are alike, such as the
    seeds of one treatment: then as many as there are clusters, which is right where seeds differ little and wide where
    they differ much.

    Args:
        x: A number for every model.
        y: Another.
        groups: The group of every model ``[m]``, by default one for all.
        clusters: The cluster of every model ``[m]``, each within one group; by default every model is its own.
        level: Of the interval.

    Returns:
        ``(r, low, high)``; None with fewer than ``FEWEST + g + 1`` units, or where no group has two different x, or
        two different y.

    Raises:
        ValueError: If x, y, groups and clusters are not vectors of one length, or ``level`` is not strictly between 0
            and 1.
        FloatingPointError: If a number is not finite.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    groups = np.zeros(x.shape, int) if groups is None else np.asarray(groups)
    clusters = np.arange(x.size) if clusters is None else np.asarray(clusters)
    shapes = [column.shape for column in (x, y, groups, clusters)]
    if x.ndim != 1 or len(set(shapes)) > 1:
        raise ValueError(f"x, y, groups and clusters must be vectors of one length, got shapes {shapes}")
    if not np.isfinite([x, y]).all():
        raise FloatingPointError("x and y must be finite: leave out models of which something is not known")
    names = np.unique(groups)
    freedom = len(np.unique(clusters)) - len(names) - 1
    a, b = np.zeros(len(x)), np.zeros(len(x))
    for name in names:
        own = groups == name
        a[own], b[own] = (stats.rankdata(column[own]) - (own.sum() + 1) / 2 for column in (x, y))
    size = math.sqrt((a @ a) * (b @ b))
    if freedom < FEWEST or size == 0:
        return None
    r = float(np.clip(a @ b / size, -1, 1))
    margin = special.ndtri((1 + level) / 2) * math.sqrt((1 + r**2 / 2) / (freedom - 1))
    centre = math.atanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    low, high = math.tanh(centre - margin), math.tanh(centre + margin)
    return r, min(low, r), max(high, r)
