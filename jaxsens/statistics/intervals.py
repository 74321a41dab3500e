"""Formulas of confidence intervals, vectorized over everything behind the units; `Estimate` chooses among them.

What is not from the literature here was chosen by simulation, and the slow test ``tests/statistics/test_coverage.py``
prints the coverage of all of them.
"""

import numpy as np
from scipy import special

__all__ = ["combine", "combine_ends", "effective_trials", "log_scale", "rate", "skewed", "student", "variance_of_mean"]

_LONGER = 1.5
"""How much the upper end on the log scale is lengthened, per relative standard error: see `log_scale`."""


def student(mean: np.ndarray, sem: np.ndarray, freedom: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return ``mean -+ t sem`` with the quantile of Student's t; infinite without a degree of freedom.

    Example:
        >>> low, high = student(np.array(1.0), np.array(0.5), np.array(10.0), 0.95)
        >>> round(float(low), 3), round(float(high), 3)
        (-0.114, 2.114)
    """
    # Where the spread is zero no quantile of it matters: 0 * inf would be NaN.
    margin = np.where(sem > 0, _quantile(freedom, level), 1) * sem
    return mean - margin, mean + margin


def log_scale(mean: np.ndarray, sem: np.ndarray, freedom: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return ``[mean e^(-t r), mean e^(t r (1 + 1.5 r))]`` with ``r = sem / mean``, for a mean of positive values.

    The first order is the interval of ``ln(mean)`` by the delta method. The upper end is longer since a sample of a
    skewed law often lacks its tail, and then underestimates mean and spread together; 1.5 was chosen by simulation.

    Example:
        >>> low, high = log_scale(np.array(1.0), np.array(0.1), np.array(100.0), 0.95)
        >>> round(float(low), 3), round(float(high), 3)
        (0.82, 1.256)
    """
    relative = np.where(mean > 0, sem / np.where(mean > 0, mean, 1), 0)
    margin = np.where(relative > 0, _quantile(freedom, level), 1) * relative
    with np.errstate(over="ignore"):
        return mean * np.exp(-margin), mean * np.exp(margin * (1 + _LONGER * relative))


def skewed(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the union of Student's interval with the one corrected for the sample's skewness g.

    The latter inverts ``g(T) = T + a T^2 + a^2 T^3 / 3 + a / 2``, ``a = g / (3 sqrt(n))``, which has nearly Student's
    distribution: Hall, On the Removal of Skewness by Transformation (1992).

    Example:
        >>> low, high = skewed(np.array([0.0, 0.0, 1.0, 5.0]), 0.95)
        >>> bool(low < 1.5 < high)
        True
    """
    count = len(values)
    mean, deviations = values.mean(0), values - values.mean(0)
    sem = values.std(0, ddof=1) / np.sqrt(count)
    low, high = student(mean, sem, np.asarray(count - 1.0), level)
    square = (deviations**2).mean(0)
    skewness = (deviations**3).mean(0) / np.where(square > 0, square, 1) ** 1.5
    a = skewness / (3 * np.sqrt(count))
    flat = np.abs(a) < 1e-9  # symmetric: the correction vanishes
    a = np.where(flat, 1, a)
    quantile = _quantile(np.asarray(count - 1.0), level)
    ends = [mean - sem * (np.cbrt(1 + 3 * a * (q - a / 2)) - 1) / a for q in (quantile, -quantile)]
    return np.where(flat, low, np.minimum(low, ends[0])), np.where(flat, high, np.maximum(high, ends[1]))


def rate(
    mean: np.ndarray, trials: np.ndarray, least: np.ndarray, freedom: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return Clopper and Pearson's interval with an effective number of trials: beta quantiles, inside [0, 1].

    With c trials and ``k = c mean`` successes: ``low`` is the ``alpha / 2`` quantile of Beta(k, c - k + 1), ``high``
    the ``1 - alpha / 2`` quantile of Beta(k + 1, c - k). ``c = max(trials (z / t)^2, least)``: the normal over
    Student's quantile, since the trials are estimated, but for the ``least`` that they are known to be worth.
    Korn and Graubard, Confidence Intervals for Proportions with Small Expected Number of Positive Counts (1998).

    Example:
        >>> low, high = rate(np.array(0.5), np.array(10.0), np.array(10.0), np.array(9.0), 0.95)
        >>> round(float(low), 3), round(float(high), 3)
        (0.187, 0.813)
    """
    ratio = special.ndtri((1 + level) / 2) / _quantile(freedom, level)
    trials = np.maximum(trials * ratio**2, least)
    tail, successes = (1 - level) / 2, trials * mean
    inside = (mean > 0, mean < 1)
    low = special.betaincinv(np.where(inside[0], successes, 1), trials - successes + 1, tail)
    high = special.betainccinv(successes + 1, np.where(inside[1], trials - successes, 1), tail)
    # Rounding must not push the mean itself out of its interval.
    return np.where(inside[0], np.minimum(low, mean), 0.0), np.where(inside[1], np.maximum(high, mean), 1.0)


def effective_trials(values: np.ndarray, mean: np.ndarray, sem: np.ndarray) -> np.ndarray:
    """Return how many independent trials a rate with this standard error is worth, in units ``[n *k]`` of [0, 1].

    ``d = n sem^2 / (mean (1 - mean))`` says how much the trials of a unit vary together: 1 if wholly, less if not. It
    rests on the units that carry the mean, ``k = (sum x)^2 / sum x^2`` of them (for high rates with 1 - x). Few of them
    show little, hence ``n (k + w) / (k d + w)`` with ``w = ((n - k + 1/2) / n)^2``: n where nothing was seen, and n / d
    where all units agree. (w was chosen by simulation: clustered rates are covered, up to those of which hardly a unit
    that carries them is seen.)

    Example:
        >>> values = np.array([0.0, 1.0, 1.0, 0.0])
        >>> round(float(effective_trials(values, values.mean(), values.std(ddof=1) / 2)), 3)
        3.128
    """
    count = len(values)
    deviations = np.where(mean <= 0.5, values, 1 - values)
    squares = (deviations**2).sum(0)
    carrying = np.where(squares > 0, deviations.sum(0) ** 2 / np.where(squares > 0, squares, 1), 0)
    spread = mean * (1 - mean)
    valid = np.isfinite(sem) & (spread > 0)
    together = np.where(valid, count * np.where(valid, sem, 0) ** 2 / np.where(valid, spread, 1), 1)
    prior = ((count - carrying + 0.5) / count) ** 2
    return count * (carrying + prior) / (carrying * together + prior)


def variance_of_mean(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the variance of a mean over ``values [n *k]`` and its degrees of freedom.

    Example:
        >>> variance, freedom = variance_of_mean(np.array([1.0, 2.0, 3.0]))
        >>> round(float(variance), 4), freedom
        (0.3333, 2.0)
    """
    if len(values) == 1:
        return np.full(values.shape[1:], np.inf), 0.0
    return values.var(0, ddof=1) / len(values), len(values) - 1.0


def combine(levels: list[tuple[np.ndarray, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Add independent variances; return the standard error and its degrees of freedom f.

    ``1 / f = sum_i s_i^p_i / f_i`` for the shares ``s_i`` of the variances in their sum, not below the smallest f_i.
    Welch and Satterthwaite have ``p = 2``. A share that rests on one or two degrees of freedom is often small by
    chance; their quantile is then too small as well, and coverage 0.87 for two models. Hence ``p_i = 2 - 3 / (f_i (f_i
    + 1))``, chosen by simulation: 0.5, 1.5, 1.75 for two, three and four models, and 2 for many.

    Example:
        >>> sem, freedom = combine([(np.array(0.3), 20.0), (np.array(0.7), 20.0)])
        >>> round(float(sem), 3), bool(freedom > 20)
        (1.0, True)
    """
    variances = np.stack([np.asarray(variance) for variance, _ in levels])
    freedoms = np.array([freedom for _, freedom in levels])
    if (freedoms == 0).any():
        return np.full(variances.shape[1:], np.inf), np.zeros(variances.shape[1:])
    total = variances.sum(0)
    shares = np.where(total > 0, variances / np.where(total > 0, total, 1), 0)
    column = freedoms.reshape(-1, *[1] * total.ndim)
    inverse = (shares ** (2 - 3 / (column * (column + 1))) / column).sum(0)
    freedom = np.maximum(1 / np.where(total > 0, inverse, 1), freedoms.min())
    return np.sqrt(total), np.where(total > 0, freedom, freedoms.max())


def combine_ends(
    mean: np.ndarray, first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return an interval of a difference from ``(mean, low, high)`` of independent groups.

    ``low = mean - sqrt((m_1 - l_1)^2 + (h_2 - m_2)^2)`` and so on: Zou and Donner, Construction of Confidence Limits
    About Effect Measures (2008).

    Example:
        >>> low, high = combine_ends(np.array(1.0), (3.0, 2.0, 4.0), (2.0, 1.0, 3.0))
        >>> round(float(low), 3), round(float(high), 3)
        (-0.414, 2.414)
    """
    (one, low, high), (other, least, most) = first, second
    return mean - np.hypot(one - low, most - other), mean + np.hypot(high - one, other - least)


def _quantile(freedom: np.ndarray, level: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        quantile = special.stdtrit(freedom, (1 + level) / 2)
    return np.where(np.greater(freedom, 0), quantile, np.inf)
