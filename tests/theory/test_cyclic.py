"""Laws of Fourier analysis modulo p: planted waves, projections by least squares, and the Gini coefficient by pairs."""

import numpy as np
import pytest

from jaxsens.theory import cyclic

P = 7
A = np.arange(P)
NOISE = np.random.default_rng(0).normal(size=(P, P, 3))


def wave(k):
    """Logits of a network that adds modulo p with one frequency."""
    return np.cos(2 * np.pi * k * (A[:, None, None] + A[:, None] - A) / P)


def test_power_is_the_variance_and_does_not_depend_on_a_shift():
    weights = np.random.default_rng(1).normal(size=(P, 4))
    power = cyclic.frequency_power(weights)
    assert power.sum() == pytest.approx(((weights - weights.mean(0)) ** 2).sum())
    assert np.allclose(cyclic.frequency_power(np.roll(weights, 2, 0)), power)


def test_gini_is_the_mean_difference_of_all_pairs():
    values = np.random.default_rng(2).random(9)
    differences = np.abs(values[:, None] - values).sum()
    assert cyclic.gini(values) == pytest.approx(differences / (2 * len(values) * values.sum()))
    assert cyclic.gini(np.zeros(4)) == 0


def test_the_restricted_part_is_the_projection_on_waves_of_the_sum():
    total = np.add.outer(A, A).ravel()
    columns = [np.ones(P * P)]
    for k in (1, 3):
        columns += [np.cos(2 * np.pi * k * total / P), np.sin(2 * np.pi * k * total / P)]
    basis = np.stack(columns, 1)
    fitted = basis @ np.linalg.lstsq(basis, NOISE.reshape(-1, 3), rcond=None)[0]
    assert np.allclose(cyclic.restricted(NOISE, [3, 1]), fitted.reshape(NOISE.shape))


def test_logits_of_an_adding_network_are_restricted_to_their_frequencies_and_excluded_without_them():
    logits = wave(2) + 0.5 * wave(3)
    assert cyclic.key_frequencies(cyclic.sum_power(logits), 2).tolist() == [2, 3]
    assert np.allclose(cyclic.restricted(logits, [2, 3]), logits)
    assert np.allclose(cyclic.excluded(logits, [2, 3]), 0)
    assert np.allclose(cyclic.excluded(logits, [2]), 0.5 * wave(3))
    difference = np.cos(2 * np.pi * 2 * (A[:, None, None] - A[:, None] - A) / P)  # of a - b, not of a + b
    assert np.allclose(cyclic.restricted(difference, [1, 2, 3]), 0)
    assert np.allclose(cyclic.excluded(difference, [1, 2, 3]), difference)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cyclic.frequency_power(np.ones(6)), "weights must be real, with an odd number"),
        (lambda: cyclic.frequency_power([1.0, np.nan, 0.0]), "weights must be finite, got nan"),
        (lambda: cyclic.gini([1.0, -1.0]), "values must be one or more finite numbers"),
        (lambda: cyclic.mean_by_sum(np.ones((3, 5, 2))), r"logits must be \[p p c\]"),
        (lambda: cyclic.restricted(NOISE, [4]), "frequencies must be different integers from 1 to 3"),
        (lambda: cyclic.excluded(NOISE, [1, 1]), "frequencies must be different integers from 1 to 3"),
        (lambda: cyclic.key_frequencies([1.0, 2.0], 3), "count must be at most the 2 frequencies, got 3"),
        (lambda: cyclic.key_frequencies(np.ones((2, 2)), 1), "power must be finite numbers"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
