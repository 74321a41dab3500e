"""Differences of two sensitivities on the same examples, intervals by token, and many models at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsens
from jaxsens import changes, perturb, substitution
from jaxsens.execution import Execution
from jaxsens.sensitivity import SampledSensitivity, ScreenedSensitivity, Sensitivity
from jaxsens.sensitivity.screening import Screening
from jaxsens.statistics import estimate

KEY = jax.random.key(0)
SITES = np.array([[True, True, False], [True, True, True], [True, False, True], [True, True, True]])


def events(seed, sites=SITES, draws=4):
    drawn = np.random.default_rng(seed).random((len(sites), draws, sites.shape[1])) < 0.4
    return Sensitivity(drawn & sites[:, None], sites, True, 9)


def test_a_paired_difference_is_that_of_the_examples():
    first, second = events(0), events(1)
    found = first.minus(second)
    pairs = [np.mean(a[:, s]) - np.mean(b[:, s]) for a, b, s in zip(first.changes, second.changes, SITES, strict=True)]
    np.testing.assert_allclose(found.values, pairs, rtol=1e-12)
    np.testing.assert_allclose(found.mean, first.mean - second.mean)
    np.testing.assert_allclose(found.sem, np.std(pairs, ddof=1) / 2)
    assert (found.count, found.unit, found.rate) == (4, "examples", False)
    assert found.interval() == estimate.from_values(pairs).interval()
    screened = ScreenedSensitivity(second, Screening(0.1, 40, 0, 0, 0))
    for pair in (first.minus(screened), screened.minus(first)):
        np.testing.assert_allclose(np.abs(pair.values), np.abs(pairs))


def test_two_equal_rates_leave_their_difference_open():
    """Of four pairs without a difference, sem is that of one that differs by 1."""
    found = events(0).minus(events(0))
    assert (found.mean, found.sem) == (0, 1 / 4)
    distances = Sensitivity(np.ones((4, 1, 3)), SITES, False, 9)
    assert distances.minus(distances).sem == 0


def test_what_cannot_be_paired_is_refused():
    first, other = events(0), SITES.copy()
    other[2] = [False, False, True]
    distances = Sensitivity(np.zeros((4, 1, 3)), SITES, False, 9)
    for second, message in (
        (events(1, SITES[:3]), r"same examples and tokens, \(4, 3\), got \(3, 3\)"),
        (events(1, other), "same sites: those of 1 examples differ, first of example 2"),
        (distances, "this is a rate of events, other is a mean of distances"),
        (first.estimate, "other must be a Sensitivity, got a Estimate"),
    ):
        with pytest.raises(ValueError, match=message):
            first.minus(second)
    sampled = SampledSensitivity(first, np.array([3, 1, 0, 2]), (), True, 0.1, None, None, 9)
    assert sampled.minus(sampled).mean == 0
    with pytest.raises(ValueError, match="same examples in the same order"):
        sampled.minus(dataclasses.replace(sampled, examples=np.arange(4)))
    with pytest.raises(ValueError, match="must be a SampledSensitivity"):
        sampled.minus(first)


def test_intervals_by_token_hold_at_once():
    sites = SITES.copy()
    sites[:, 1] = False
    result = events(3, sites)
    low, high = result.per_token_intervals(0.9)
    for token in (0, 2):
        units = result.values[sites[:, token], token]
        expected = estimate.from_values(units, rate=True).interval(0.95)  # two positions share the 0.1
        np.testing.assert_allclose([low[token], high[token]], expected)
    assert np.isnan([low[1], high[1], result.per_token[1]]).all()
    with pytest.raises(ValueError, match="level must lie strictly between 0 and 1"):
        result.per_token_intervals(1)


def score(params, tokens, mask=None):
    return jnp.einsum("btd,td->b", jnp.tanh(tokens), params["w"])


RNG = np.random.default_rng(4)
STACKED = {"w": RNG.normal(size=(3, 4, 2)).astype(np.float32)}
X = RNG.normal(size=(5, 4, 2)).astype(np.float32)


@pytest.mark.parametrize("sites_drawn", [None, 2])
def test_many_models_at_once_are_those_of_the_loop(devices, sites_drawn):
    measure = jaxsens.token_sensitivity(
        substitution.one_at_a_time(score), perturb.gaussian(1.0), change=changes.absolute_change, draws=2,
        sites_drawn=sites_drawn, execution=Execution(devices=devices[:2]),
    )  # fmt: skip
    mask = np.arange(4) < np.array([4, 2, 3, 4, 4])[:, None]
    together = measure.over_models(KEY, STACKED, X, mask, index=np.arange(5) + 7)
    assert len(together) == 3
    for i, found in enumerate(together):
        alone = measure(KEY, {"w": STACKED["w"][i]}, X, mask, index=np.arange(5) + 7)
        np.testing.assert_allclose(found.changes, alone.changes, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found.sites, alone.sites)
        assert alone.mean > 0.1
    over = estimate.over_models(np.stack([found.per_example for found in together]))
    assert over.count == 3
    if sites_drawn is None:
        broken = {"w": STACKED["w"].copy()}
        broken["w"][1, 2] = np.nan
        with pytest.raises(FloatingPointError, match="params 1: the model's output is not finite for example 0"):
            measure.over_models(KEY, broken, X)
        with pytest.raises(ValueError, match="leading axis"):
            measure.over_models(KEY, {"w": STACKED["w"], "b": np.zeros(2, np.float32)}, X)
