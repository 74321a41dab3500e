"""Screened profiles are those of float32, say what they cost, and their audit finds a bound too small."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import boolean, models, substitution
from jaxsens.execution import Execution
from jaxsens.models import recognizers

STRINGS = np.random.default_rng(0).integers(0, 2, (40, 7)).astype(np.int32)
WEIGHTS = np.random.default_rng(1).normal(size=(7,)).astype(np.float32)
KEY = jax.random.key(0)
OPTIONS = {"execution": Execution(chunk=24, devices=jax.devices()[:1])}


def logit(params, x, mask=None):
    del mask
    return jnp.tanh(x @ params - params.sum() / 2)


def coarse(params, x, mask=None):
    """A precision so low that it is often wrong: weights are multiples of 1/4."""
    return logit(jnp.round(4 * params) / 4, x, mask)


fine, low = (substitution.one_at_a_time(apply, 3) for apply in (logit, coarse))
SCREENED = functools.partial(boolean.screened_sensitivity_profile, fine, screen=low, calibration=10, **OPTIONS)


def in_float32(margin=0.0):
    return boolean.sensitivity_profile(fine, margin=margin, **OPTIONS)(KEY, WEIGHTS, STRINGS)


def same(found, expected):
    np.testing.assert_array_equal(found.flips, expected.flips)
    np.testing.assert_array_equal(found.decisions, expected.decisions)
    assert (found.exhaustive, found.margin) == (expected.exhaustive, expected.margin)


@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_the_answer_is_that_of_float32(margin):
    exact = in_float32(margin)
    assert {-1, 0, 1} >= set(exact.decisions.tolist()) >= ({0, 1} if margin == 0 else {-1, 0, 1})
    in_low = boolean.sensitivity_profile(low, margin=margin, **OPTIONS)(KEY, WEIGHTS, STRINGS)
    assert (in_low.flips != exact.flips).any(), "low precision alone must be wrong somewhere"
    found = SCREENED(audit=100, margin=margin, safety=3.0)(KEY, WEIGHTS, STRINGS)
    same(found.measured, exact)
    screening = found.screening
    assert screening.total == 40 * 8
    assert 0 < screening.redone < screening.total
    assert screening.audited == min(100, screening.total - screening.redone)
    assert screening.disagreed == 0
    assert screening.wrong()[1] < 0.2


def test_the_audit_finds_a_bound_that_is_too_small():
    off = substitution.one_at_a_time(lambda params, x, mask=None: logit(params, x) + 0.3, 3)
    found = SCREENED(screen=off, safety=0.0, audit=10_000)(KEY, WEIGHTS, STRINGS)
    assert found.screening.bound == 0
    assert found.screening.audited == found.screening.total - found.screening.redone  # logits of 0 are never accepted
    assert found.screening.disagreed > 0
    same(found.measured, in_float32())  # all were audited, so all are right


def test_disagreements_are_counted_once():
    """Low precision calls every decision the other way: all of them are altered, each once."""
    other_way = substitution.one_at_a_time(lambda params, x, mask=None: -logit(params, x, mask), 3)
    screened = boolean.screened_sensitivity_profile(fine, screen=other_way, safety=0.0, audit=150, **OPTIONS)
    found = screened(KEY, WEIGHTS, STRINGS).screening
    assert (found.bound, found.audited, found.disagreed) == (0, 150, 150)


def test_with_a_large_safety_factor_everything_is_recomputed_and_nothing_audited():
    found = SCREENED(safety=1e6)(KEY, WEIGHTS, STRINGS)
    assert (found.screening.redone, found.screening.audited) == (40 * 8, 0)
    same(found.measured, in_float32())


def test_a_substitution_of_all_sites_only_will_do():
    def all_sites(params, tokens, alternatives, mask=None):
        return fine(params, tokens, alternatives, mask)

    screened = boolean.screened_sensitivity_profile(all_sites, screen=low, safety=3.0, audit=9, **OPTIONS)
    same(screened(KEY, WEIGHTS, STRINGS).measured, in_float32())


def test_few_neighbors_are_recomputed():
    evaluated = []

    def counted(params, tokens, alternatives, mask=None, sites=None):
        evaluated.append(len(tokens) if sites is None else len(sites))
        return fine(params, tokens, alternatives, mask, sites)

    screened = boolean.screened_sensitivity_profile(counted, screen=low, calibration=5, safety=0.5, audit=0, **OPTIONS)
    screened(KEY, WEIGHTS, STRINGS)
    assert {1, 4} & set(evaluated)


@pytest.mark.whole
def test_a_recognizer_in_bfloat16_screens_one_in_float32():
    config = recognizers.Config(depth=1, heads=1, head_size=6, multiplier=1)
    variables = recognizers.init(config, jax.random.key(3), "normal")
    shared = models.substitution.recognizer(config, 4)

    def narrow(params, *rest):
        return shared(jax.tree.map(lambda a: a.astype(jnp.bfloat16), params), *rest)

    exact = boolean.sensitivity_profile(shared, **OPTIONS)(KEY, variables, STRINGS)
    assert exact.flips.any()
    found = boolean.screened_sensitivity_profile(shared, screen=narrow, **OPTIONS)(KEY, variables, STRINGS)
    same(found.measured, exact)
    assert found.screening.redone > 0
    assert 0 < found.screening.bound < 1
    assert found.screening.disagreed == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": 0}, "calibration must be an integer of at least 1 example, got 0"),
        ({"safety": -1.0}, "safety must be a finite number of at least 0, got -1.0"),
        ({"audit": -1}, "audit must be an integer of at least 0, got -1"),
        ({"margin": -1.0}, "margin must be a finite number of at least 0, got -1.0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        boolean.screened_sensitivity_profile(fine, **options)


def test_logits_that_are_not_finite_are_named():
    infinite = substitution.one_at_a_time(lambda params, x, mask=None: jnp.where(x[:, 0] == 1, jnp.inf, x @ params), 3)
    with pytest.raises(FloatingPointError, match="in low precision for string"):
        boolean.screened_sensitivity_profile(fine, screen=infinite, **OPTIONS)(KEY, WEIGHTS, STRINGS)
    with pytest.raises(FloatingPointError, match="not finite for string"):
        boolean.screened_sensitivity_profile(infinite, screen=fine, **OPTIONS)(KEY, WEIGHTS, STRINGS)


def test_decisions_in_float64_are_not_rounded(float64):
    """A logit that is below the margin in float64 alone."""
    fixed = substitution.one_at_a_time(lambda params, x, mask=None: params + 0 * x[:, 0], 3)
    screened = boolean.screened_sensitivity_profile(fixed, margin=0.1, execution=Execution(chunk=24), audit=0)
    assert screened(KEY, np.float64(0.1 - 1e-12), STRINGS[:4]).measured.decisions.tolist() == [-1] * 4
