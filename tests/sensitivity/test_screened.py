"""Screening in low precision gives what float32 gives, says what it cost, and its audit finds a bound too small."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import changes, perturb, substitution
from jaxsens.execution import Execution
from jaxsens.sensitivity.screened import screened_token_sensitivity
from jaxsens.sensitivity.token import token_sensitivity

TOKENS = np.random.default_rng(0).normal(size=(40, 6, 3)).astype(np.float32)
PARAMS = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
NOISE = perturb.gaussian(1.0)
KEY = jax.random.key(0)


def logits(params, x, mask=None):
    if mask is not None:
        x = jnp.where(mask[..., None], x, 0)
    return jnp.tanh(x.sum(1)) @ params


def coarse(params, x, mask=None):
    """A precision so low that it is often wrong: numbers are multiples of 1/8."""
    return logits(params, jnp.round(8 * x) / 8, mask)


def score(params, x, mask=None):
    return logits(params, x, mask)[:, 0]


def coarse_score(params, x, mask=None):
    return coarse(params, x, mask)[:, 0]


fine, low = (substitution.one_at_a_time(apply, 3) for apply in (logits, coarse))
OPTIONS = {"execution": Execution(chunk=28, devices=jax.devices()[:1])}
SCREENED = functools.partial(screened_token_sensitivity, fine, NOISE, screen=low, draws=2, calibration=10, **OPTIONS)


def in_float32(substitute=fine, change=changes.prediction_change, **arguments):
    return token_sensitivity(substitute, NOISE, change=change, draws=2, **OPTIONS)(KEY, PARAMS, TOKENS, **arguments)


def test_the_answer_is_that_of_float32():
    exact = in_float32()
    in_low = token_sensitivity(low, NOISE, draws=2, **OPTIONS)(KEY, PARAMS, TOKENS)
    assert (in_low.changes != exact.changes).any(), "low precision alone must be wrong somewhere"
    found = SCREENED(audit=100)(KEY, PARAMS, TOKENS)
    np.testing.assert_array_equal(found.measured.changes, exact.changes)
    assert found.screening.total == 40 * 2 * 6
    assert 0 < found.screening.redone < found.screening.total
    assert found.screening.audited == min(100, found.screening.total - found.screening.redone)
    assert found.screening.disagreed == 0
    assert 0 < found.screening.bound < 0.5
    assert found.screening.wrong()[1] < 0.05
    assert found.interval() == exact.interval()


def test_masks_and_sites_and_scores():
    mask = np.ones((40, 6), bool)
    mask[::3, 4:] = False
    sites = mask.copy()
    sites[:, 0] = False
    pair = (substitution.one_at_a_time(apply, 3) for apply in (score, coarse_score))
    exact_of, low_of = pair
    exact = in_float32(exact_of, changes.sign_change, mask=mask, sites=sites)
    found = screened_token_sensitivity(
        exact_of, NOISE, screen=low_of, change=changes.sign_change, draws=2, calibration=40, **OPTIONS
    )(KEY, PARAMS, TOKENS, mask=mask, sites=sites)
    np.testing.assert_array_equal(found.measured.changes, exact.changes)
    np.testing.assert_array_equal(found.measured.sites, sites)
    assert found.screening.total == 2 * sites.sum()
    assert found.screening.redone + found.screening.audited <= found.screening.total
    assert found.screening.redone > 0


def test_the_audit_finds_a_bound_that_is_too_small():
    found = SCREENED(safety=0.0, audit=10_000)(KEY, PARAMS, TOKENS)
    assert found.screening.bound == 0
    assert found.screening.audited == found.screening.total - found.screening.redone
    assert found.screening.disagreed > 0
    np.testing.assert_array_equal(found.measured.changes, in_float32().changes)  # all were audited, so all are right


def test_with_a_large_safety_factor_everything_is_recomputed_and_nothing_audited():
    found = SCREENED(safety=1e6)(KEY, PARAMS, TOKENS)
    assert (found.screening.redone, found.screening.audited) == (found.screening.total, 0)
    with pytest.raises(ValueError, match="audited is 0"):
        found.screening.wrong()


def test_a_substitution_of_all_sites_only_will_do():
    def all_sites(params, tokens, alternatives, mask=None):
        return fine(params, tokens, alternatives, mask)

    found = screened_token_sensitivity(all_sites, NOISE, screen=low, draws=2, audit=0, **OPTIONS)(KEY, PARAMS, TOKENS)
    np.testing.assert_array_equal(found.measured.changes, in_float32().changes)
    assert found.screening.audited == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"change": changes.squared_change}, "change must be prediction_change or sign_change"),
        ({"calibration": 0}, "calibration must be an integer of at least 1 example, got 0"),
        ({"safety": -1.0}, "safety must be a finite number of at least 0, got -1.0"),
        ({"audit": -1}, "audit must be an integer of at least 0, got -1"),
        ({"draws": 0}, "draws must be an integer of at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        screened_token_sensitivity(fine, NOISE, **options)
