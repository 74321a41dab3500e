"""How long before the test accuracy a measure moves: rules on unsmoothed curves."""

import numpy as np

from jaxsens.typing import Array

MEMORIZED = 0.99
"""Training accuracy from which on curves are looked at."""

GROKKED = 0.9
"""Test accuracy at the end of a model that has grokked."""


def memorized(train_accuracy: Array) -> int:
    """Return the first place at which the training accuracy is at least 0.99; the last place if there is none."""
    reached = np.flatnonzero(np.asarray(train_accuracy) >= MEMORIZED)
    return int(reached[0]) if len(reached) else len(train_accuracy) - 1


def half_change(epochs: Array, values: Array, first: int = 0) -> float | None:
    """Return the epoch at which a measure has done half of its change.

    From place ``first`` on: the value that is farthest from the last one is where the change starts; the result is the
    first measured epoch after it at which half of the way to the last value is done. Nothing is smoothed.

    Returns:
        None if nothing changes, or if a value is not finite.
    """
    epochs, values = np.asarray(epochs)[first:], np.asarray(values, np.float64)[first:]
    if not np.isfinite(values).all():
        return None
    away = np.abs(values - values[-1])
    start = int(away.argmax())
    if not away[start]:
        return None
    return float(epochs[start:][away[start:] <= away[start] / 2][0])


def lead(epochs: Array, measure: Array, accuracy: Array, first: int = 0) -> float | None:
    """Return how many epochs before the test accuracy a measure has done half of its change; None as `half_change`."""
    ends = half_change(epochs, accuracy, first), half_change(epochs, measure, first)
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
