"""Fits of slopes and exponents, limits of counts, and the closed forms that they are compared with."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

FEWEST = 3
"""Centers with an event that a length needs to enter a fit: leaving one center out must leave some."""

LONGEST = 10**6
"""Up to which length the closed form of a margin is followed."""

EVALUATED = 2**12
"""Up to which length a construction itself is evaluated to find where a margin ends."""

FEWEST_LENGTHS = 3
"""Lengths at which a model must show a string of sensitivity 0 for a line to be fitted: two would fit any law."""


def line(x: Array, y: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit ``y = slope x + offset`` by least squares, for every model.

    Args:
        x: ``[n]``.
        y: ``[m n]``.

    Returns:
        Slopes, offsets and sums of squared residuals, each ``[m]``.

    Raises:
        ValueError: If there are fewer than two different x, or the shapes do not fit.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or len(np.unique(x)) < 2 or y.shape[1:] != x.shape:
        raise ValueError(f"x must be [n] with two different values, y [m n], got {x.tolist()} and shape {y.shape}")
    centered = x - x.mean()
    slopes = y @ centered / (centered @ centered)
    offsets = y.mean(1) - slopes * x.mean()
    residuals = y - slopes[:, None] * x[None] - offsets[:, None]
    return slopes, offsets, (residuals**2).sum(1)


def decay(lengths: Array, rates: Array) -> tuple[Estimate, float, np.ndarray] | None:
    """Fit ``mean rate = e^offset N^exponent`` by least squares of logarithms, with the jackknife over centers.

    By simulation with 20 centers of 400 draws, each end of the 95 % interval errs with 0.025 to 0.04, with 0.05 where
    rates deviate between centers by a factor of 4.

    Args:
        lengths: ``[n]``.
        rates: Frequencies of an event around each center ``[c n]``; lengths at which fewer than ``FEWEST`` centers have
            one are left out.

    Returns:
        The exponent, with centers as units; the offset; and the lengths used. None if fewer than two lengths are left.
    """
    lengths, rates = np.asarray(lengths, np.float64), np.asarray(rates, np.float64)
    kept = (rates > 0).sum(0) >= FEWEST
    if kept.sum() < 2:
        return None
    x, rates, count = np.log(lengths[kept]), rates[:, kept], len(rates)
    left_out = np.log((rates.sum(0)[None] - rates) / (count - 1))
    slope, offset, _ = line(x, np.log(rates.mean(0))[None])
    pseudo = count * slope[0] - (count - 1) * line(x, left_out)[0]
    # The spread of the jackknife around the fit itself: the bias of the fit is small compared with it.
    exponent = dataclasses.replace(estimate.from_values(pseudo), mean=slope[0])
    return exponent, float(offset[0]), lengths[kept]


def kept_until(smallest: Any, margin: float) -> int | None:
    """Return the last length before a closed form, first order in epsilon, is below a margin; None if it never is."""
    lost = np.flatnonzero(smallest(np.arange(1, LONGEST + 1, dtype=np.float64)) < margin)
    return int(lost[0]) if len(lost) else None


def last_kept(keeps: Callable[[int], bool], start: int) -> int:
    """Return the last length that keeps a margin, next to one that does not, as near to ``start`` as there is one.

    Steps away from ``start`` double until there are both, and the gap between them is then bisected.

    Args:
        keeps: Whether a length of at least 1 keeps it; 0 is taken to keep every margin.
        start: Where to begin, as where a closed form ends.

    Raises:
        ValueError: If ``start`` is negative, or the margin is still kept at a length of ``EVALUATED``.
    """
    if start < 0:
        raise ValueError(f"start must be at least 0 bits, got {start}")

    def kept(n: int) -> bool:
        return n <= 0 or keeps(n)

    step, upward = 1, kept(start)
    inside, outside = (start, start + 1) if upward else (start - 1, start)
    while kept(outside) if upward else not kept(inside):
        step *= 2
        if outside > EVALUATED:
            raise ValueError(f"start = {start} is too far from where the margin is lost: it is kept at N = {outside}")
        inside, outside = (outside, outside + step) if upward else (inside - step, inside)
    inside = max(inside, 0)
    while outside - inside > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if kept(middle) else (inside, middle)
    return inside


def require_margin(name: str, epsilon: float, n: int, margin: float, closed_form: float) -> None:
    """Refuse a construction that does not recognize its language, or with a margin that is not near its closed form.

    The closed form is first order in epsilon: the two may differ by ``0.002 + 10 epsilon`` of it, and by 1e-6 of it
    where epsilon is 0 and it is exact.

    Raises:
        FloatingPointError: If so, with the construction, epsilon and the length.
    """
    tolerance = 2e-3 + 10 * epsilon if epsilon > 0 else 1e-6
    if margin > 0 and abs(margin - closed_form) <= tolerance * closed_form:
        return
    raise FloatingPointError(
        f"the construction {name} at epsilon = {epsilon:g}, N = {n} has the margin {margin:g}: it must be positive, "
        f"and within {tolerance:g} of its closed form {closed_form:g}, relatively"
    )


def log_slopes(lengths: Array, values: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit ``ln value = slope ln N + offset`` for every model with only positive values ``[m n]``.

    Returns:
        Slopes and offsets of those models ``[k]``, and which they are ``[m]``: a value of 0 has no logarithm.
    """
    values = np.asarray(values, np.float64)
    kept = (values > 0).all(1)
    slopes, offsets, _ = line(np.log(lengths), np.log(values[kept]))
    return slopes, offsets, kept


def lines_where_finite(x: Array, y: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit ``y = slope x + offset`` for every model over those x at which its y is finite.

    Args:
        x: ``[n]``.
        y: ``[m n]``, NaN where it has no value.

    Returns:
        Slopes, offsets and sums of squared residuals ``[m]``, NaN for models with fewer than ``FEWEST_LENGTHS`` finite
        values; and how many these are ``[m]``.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    finite = np.isfinite(y)
    fits = np.full((3, len(y)), np.nan)
    for i, (row, there) in enumerate(zip(y, finite, strict=True)):
        if there.sum() >= FEWEST_LENGTHS:
            fits[:, i] = np.concatenate(line(x[there], row[None, there]))
    return *fits, finite.sum(1)


def log2_counts(zero: Array, strings: Array, lengths: Array) -> np.ndarray:
    """Return ``log2 K_0``, from the strings of sensitivity 0 among all or a sample of strings; NaN where there is none.

    Args:
        zero: Strings of sensitivity 0 ``[m n]``.
        strings: Among how many ``[n]``.
        lengths: Bits ``[n]``.
    """
    zero = np.asarray(zero, np.float64)
    share = np.where(zero > 0, zero, np.nan) / np.asarray(strings)[None]
    return np.asarray(lengths)[None] + np.log2(share)


def log2_limits(zero: Array, strings: int, n: int, exact: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return limits of ``log2 K_0`` of models that hold at once at 95 %, each ``[m]``; -inf is ``K_0 = 0``.

    Args:
        zero: Strings of sensitivity 0 of each model ``[m]``.
        strings: Among how many.
        n: Bits of a string.
        exact: Whether these are all strings, so that ``K_0`` is known, 0 included; otherwise the limits are those of
            Clopper and Pearson for the share, times 2^N.
    """
    zero = np.asarray(zero)
    low, high = (zero / strings,) * 2 if exact else estimate.clopper_pearson(zero, strings, comparisons=len(zero))
    with np.errstate(divide="ignore"):
        return n + np.log2(low), n + np.log2(high)


def floor_exponent(depth: int, width: int) -> float:
    """Return ``(D - 1) / 2L - 5``: Thm. 4.5 promises ``N`` to this power strings of sensitivity 0."""
    return (width - 1) / (2 * depth) - 5
