"""Fourier analysis on the numbers modulo p: which frequencies weights and logits have, on the host in float64.

A network that has learned to add modulo p computes ``cos(2 pi k (a + b - c) / p)`` for a few key frequencies k. The
measures of Nanda et al. (Progress Measures for Grokking via Mechanistic Interpretability, ICLR 2023, s.5) follow from
the part of the logits that has this form: the restricted loss keeps that part only, the excluded loss takes it away,
and the Gini coefficient tells whether weights have few frequencies. A frequency k stands for k and p - k, k from 1 to
(p - 1) / 2; p is odd.
"""

import numpy as np

from jaxsens.execution import checks
from jaxsens.typing import Array

__all__ = ["excluded", "frequency_power", "gini", "key_frequencies", "mean_by_sum", "restricted", "sum_power"]


def frequency_power(weights: Array) -> np.ndarray:
    """Return the squared norm of each frequency of weights over the numbers, ``[(p - 1) / 2]``.

    ``sum over columns of 2 |sum_a w_a exp(-2 pi i k a / p)|^2 / p``, whose sum over k is ``sum (w_a - mean)^2``.

    Args:
        weights: ``[p *]``, such as the embeddings of the numbers.

    Raises:
        ValueError: If p is not odd and at least 3, or weights are not real and finite.

    Example:
        >>> wave = np.cos(2 * np.pi * 2 * np.arange(7) / 7)
        >>> frequency_power(wave).round(9).tolist()
        [0.0, 3.5, 0.0]
    """
    values = _real("weights", weights, 1)
    values = values.reshape(len(values), -1)
    return 2 * (np.abs(np.fft.rfft(values, axis=0)[1:]) ** 2).sum(1) / len(values)


def gini(values: Array) -> float:
    """Return the Gini coefficient of numbers of at least 0: 0 if all are equal, ``1 - 1 / n`` if all but one are 0.

    ``sum_i sum_j |x_i - x_j| / (2 n sum x)``. All of them 0: 0.

    Args:
        values: ``[n]``, such as the norms of frequencies.

    Raises:
        ValueError: If values are not one or more finite numbers of at least 0.

    Example:
        >>> gini([1.0, 1.0, 1.0, 1.0]), gini([0.0, 0.0, 0.0, 5.0])
        (0.0, 0.75)
    """
    values = checks.host_values(values, "values")
    fits = values.ndim == 1 and len(values) and values.dtype.kind in "iuf"
    if not fits or not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"values must be one or more finite numbers of at least 0, [n], got {values!r}")
    values = np.sort(values.astype(np.float64))
    total, count = values.sum(), len(values)
    ranks = 2 * np.arange(1, count + 1) - count - 1
    return float((ranks * values).sum() / (count * total)) if total else 0.0


def mean_by_sum(logits: Array) -> np.ndarray:
    """Return the mean of logits over the pairs with each sum ``[p c]``: the part that depends on ``a + b`` only.

    Args:
        logits: ``[p p c]`` for the pairs (a, b).

    Raises:
        ValueError: If logits are not ``[p p c]`` with an odd p of at least 3, real and finite.

    Example:
        >>> logits = np.zeros((3, 3, 1))
        >>> logits[1, 2] = 6.0                      # the sum is 0, as those of (0, 0) and (2, 1)
        >>> mean_by_sum(logits)[:, 0].tolist()
        [2.0, 0.0, 0.0]
    """
    logits = _real("logits", logits, 3)
    if logits.shape[0] != logits.shape[1]:
        raise ValueError(f"logits must be [p p c], for all pairs, got shape {logits.shape}")
    count = len(logits)
    first = np.arange(count)
    return np.stack([logits[first, (total - first) % count].mean(0) for total in range(count)])


def sum_power(logits: Array) -> np.ndarray:
    """Return the squared norm of each frequency of ``mean_by_sum`` of logits ``[(p - 1) / 2]``.

    Raises:
        ValueError: As ``mean_by_sum`` does.

    Example:
        >>> a = np.arange(5)
        >>> wave = np.cos(2 * np.pi * 2 * (a[:, None, None] + a[:, None] - a) / 5)
        >>> sum_power(wave).round(9).tolist()
        [0.0, 12.5]
    """
    return frequency_power(mean_by_sum(logits))


def key_frequencies(power: Array, count: int) -> np.ndarray:
    """Return the ``count`` frequencies of the largest power, the largest first.

    Args:
        power: Power of the frequencies 1 to n ``[n]``.
        count: How many, at most n.

    Raises:
        ValueError: If power is not one-dimensional and finite, or count is not an integer from 1 to n.

    Example:
        >>> key_frequencies([0.1, 3.0, 2.0], 2).tolist()
        [2, 3]
    """
    power = checks.host_values(power, "power")
    if power.ndim != 1 or power.dtype.kind not in "iuf" or not np.isfinite(power).all():
        raise ValueError(f"power must be finite numbers [n], got shape {power.shape}")
    if checks.require_count("count", count) > len(power):
        raise ValueError(f"count must be at most the {len(power)} frequencies, got {count}")
    return np.argsort(-power, kind="stable")[:count] + 1


def restricted(logits: Array, frequencies: Array) -> np.ndarray:
    """Return the part of logits ``[p p c]`` with the given frequencies of ``a + b``, and the mean over all pairs.

    The loss of the result is the restricted loss.

    Args:
        logits: ``[p p c]`` for the pairs (a, b).
        frequencies: Different integers from 1 to (p - 1) / 2.

    Raises:
        ValueError: As ``mean_by_sum`` does, or if the frequencies are no such integers.

    Example:
        >>> a = np.arange(5)
        >>> wave = np.cos(2 * np.pi * 2 * (a[:, None, None] + a[:, None] - a) / 5)
        >>> bool(np.allclose(restricted(wave, [2]), wave)), bool(np.allclose(restricted(wave, [1]), 0))
        (True, True)
    """
    means = mean_by_sum(logits)
    return _component(means, frequencies) + means.mean(0)


def excluded(logits: Array, frequencies: Array) -> np.ndarray:
    """Return logits ``[p p c]`` without their part with the given frequencies of ``a + b``.

    The loss of the result on the examples that are learned is the excluded loss.

    Args:
        logits: ``[p p c]`` for the pairs (a, b).
        frequencies: Different integers from 1 to (p - 1) / 2.

    Raises:
        ValueError: As ``restricted`` does.

    Example:
        >>> logits = np.random.default_rng(0).normal(size=(5, 5, 2))
        >>> parts = excluded(logits, [1]) + restricted(logits, [1]) - logits.mean((0, 1))
        >>> bool(np.allclose(parts, logits))
        True
    """
    means = mean_by_sum(logits)
    return np.asarray(logits, np.float64) - _component(means, frequencies)


def _component(means: np.ndarray, frequencies: Array) -> np.ndarray:
    """Return the part of means ``[p c]`` with these frequencies, at the sum of every pair ``[p p c]``."""
    count = len(means)
    chosen = checks.host_values(frequencies, "frequencies")
    whole = chosen.ndim == 1 and chosen.dtype.kind in "iu" and len(np.unique(chosen)) == len(chosen) > 0
    if not whole or chosen.min() < 1 or chosen.max() > count // 2:
        raise ValueError(f"frequencies must be different integers from 1 to {count // 2}, got {frequencies!r}")
    spectrum = np.fft.rfft(means, axis=0)
    kept = np.zeros(len(spectrum), bool)
    kept[chosen] = True
    by_sum = np.fft.irfft(np.where(kept[:, None], spectrum, 0), count, axis=0)
    return by_sum[np.add.outer(np.arange(count), np.arange(count)) % count]


def _real(name: str, values: Array, axes: int) -> np.ndarray:
    values = checks.host_values(values, name)
    if values.dtype.kind not in "iuf" or values.ndim < axes or len(values) < 3 or len(values) % 2 == 0:
        raise ValueError(f"{name} must be real, with an odd number p of rows, at least 3, got {values.dtype} of shape "
                         f"{values.shape}")  # fmt: skip
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got {values[~np.isfinite(values)][0]}")
    return values.astype(np.float64)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
