"""How long before the test accuracy a measure moves, and whether it moves later where the accuracy does."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxsens.typing import Array

MEMORIZED = 0.99
"""Training accuracy from which on curves are looked at."""

GROKKED = 0.9
"""Test accuracy at the end of a model that has grokked."""

UNLEARNED = 0.5
"""Test accuracy at memorization that a model which groks is below."""

WINDOW = 5
"""Measurements whose median stands for the one in their middle."""

NOISE = 5.0
"""Size of the largest change that counts as noise, in standard deviations of a measurement."""

NOT_FINITE, WITHIN_NOISE, RISES = "values that are not finite", "no change beyond the noise", "a rise"
"""Why a curve has no change."""


def memorized(train_accuracy: Array) -> int:
    """Return the first place at which the training accuracy is at least 0.99; the last place if there is none."""
    reached = np.flatnonzero(np.asarray(train_accuracy) >= MEMORIZED)
    return int(reached[0]) if len(reached) else len(train_accuracy) - 1


class Change(NamedTuple):
    """When a curve changes.

    Attributes:
        epoch: The epoch at which half of the change is done; None if there is no change.
        reason: Why there is none; empty where there is one.
    """

    epoch: float | None
    reason: str = ""


def change(epochs: Array, values: Array, first: int = 0, *, falling: bool = False) -> Change:
    """Return when a curve does half of its change, at the last crossing of the half-way level.

    From place ``first`` on, with the median of five neighboring measurements in the place of each, which leaves a step
    where it is: the change goes from the value that is farthest from the last one to the last one. The epoch is the
    first from which on the curve stays at or beyond half of the way. An earlier crossing, such as that of a transient
    at memorization, does not count.

    There is no change where its size is at most 5 standard deviations of the curve's own noise: 1.4826 times the median
    of the absolute deviations of first differences from their median, divided by sqrt(2). For independent normal noise
    around a constant, 200 measurements exceed that with a probability below 1e-5.

    Args:
        epochs: Measured epochs ``[p]``.
        values: The curve ``[p]``.
        first: Place of the first value that counts.
        falling: Whether only a fall is a change.
    """
    epochs, values = np.asarray(epochs)[first:], np.asarray(values, np.float64)[first:]
    if not np.isfinite(values).all():
        return Change(None, NOT_FINITE)
    if len(values) < 2:
        return Change(None, WITHIN_NOISE)
    middle = running_median(values)
    away = np.abs(middle - middle[-1])
    size = middle[-1] - middle[away.argmax()]
    steps = np.diff(values)
    noise = 1.4826 * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2)
    if abs(size) <= NOISE * noise or not size:
        return Change(None, WITHIN_NOISE)
    if falling and size > 0:
        return Change(None, RISES)
    return Change(float(epochs[np.flatnonzero(away > abs(size) / 2)[-1] + 1]))


def running_median(values: Array) -> np.ndarray:
    """Return the median of every value and its neighbors ``[p]``, `WINDOW` in all, at the ends of the nearest such."""
    width = min(WINDOW, len(values) - 1 + len(values) % 2)
    middle = np.median(np.lib.stride_tricks.sliding_window_view(np.asarray(values, np.float64), width), axis=-1)
    return np.pad(middle, width // 2, mode="edge")


def lead(epochs: Array, measure: Array, accuracy: Array, first: int = 0, *, falling: bool = False) -> float | None:
    """Return how many epochs before the test accuracy a measure has done half of its change; None without a change."""
    ends = change(epochs, accuracy, first).epoch, change(epochs, measure, first, falling=falling).epoch
    return None if None in ends else ends[0] - ends[1]


def correlation_lead(epochs: Array, measure: Array, accuracy: Array, first: int = 0) -> float | None:
    """Return the lag at which changes of the test accuracy follow those of a measure most.

    The lag L that maximizes ``|sum over t of (m[t + 1] - m[t]) (a[t + 1 + L] - a[t + L])|`` over the places from
    ``first`` on, in epochs; above 0 if the measure moves first. The epochs have equal distances.

    Returns:
        None if one of them does not change, or if a value is not finite.
    """
    changes = [np.diff(np.asarray(values, np.float64)[first:]) for values in (measure, accuracy)]
    if not all(np.isfinite(change).all() and change.any() for change in changes):
        return None
    products = np.abs(np.correlate(changes[1], changes[0], "full"))
    return float((int(products.argmax()) - (len(changes[0]) - 1)) * (epochs[1] - epochs[0]))


def trailing_mean(values: Array, count: int) -> np.ndarray:
    """Return the mean of the last ``count`` values at every place, of fewer where there are not so many."""
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - count, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def grokking_epoch(epochs: Array, test_accuracy: Array) -> tuple[float, bool]:
    """Return the first epoch with a test accuracy of at least 0.9, or the last epoch and False if there is none."""
    reached = np.flatnonzero(np.asarray(test_accuracy) >= GROKKED)
    return (float(epochs[reached[0]]), True) if len(reached) else (float(epochs[-1]), False)


def following(moved: Array, risen: Array, rates: Array, least: float = 1.0) -> tuple[float | None, float]:
    """Return whether a measure moves later in seeds whose test accuracy rises later.

    The partial correlation over seeds of the logarithms of both epochs, given the logarithm of the learning rate, which
    would delay both, and its one-sided p-value by Student's law with ``n - 3`` degrees of freedom. That is exact if the
    logarithms of ``moved`` are independent and normal around a line in those of the rates.

    The mean lead cannot show this: with the accuracies of other seeds it is the same, ``mean(risen) - mean(moved)``.

    Args:
        moved: Epoch at which the measure has done half of its change ``[n]``.
        risen: The same of the test accuracy ``[n]``.
        rates: Learning rate of every seed ``[n]``.
        least: Smaller epochs count as this one, so that the logarithm exists.

    Returns:
        Correlation and p-value; None and 1 with fewer than 4 seeds, or if one of them does not vary.
    """
    rates = np.log(np.asarray(rates, np.float64))
    if len(rates) < 4:
        return None, 1.0
    covariates = np.stack([np.ones(len(rates)), rates - rates.mean()], axis=1)
    logs = np.log(np.maximum(np.stack([moved, risen], axis=1).astype(np.float64), least))
    left = logs - covariates @ np.linalg.lstsq(covariates, logs, rcond=None)[0]
    norms = np.linalg.norm(left, axis=0)
    if (norms < 1e-9).any():
        return None, 1.0
    r = float(np.clip(left[:, 0] @ left[:, 1] / norms.prod(), -1, 1))
    freedom = len(rates) - 3
    return r, float(stats.t.sf(r * np.sqrt(freedom / max(1 - r**2, 1e-300)), freedom))
