"""Noise stability: closed forms of parity, majority, dictators and thresholds under every estimator."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsens
from jaxsens import changes, perturb
from jaxsens.boolean import strings, truth_tables
from jaxsens.execution import Execution
from jaxsens.noise_stability import (
    CorrelatedBits,
    CorrelatedGaussian,
    NoiseStability,
    Redrawn,
    all_tokens_change,
    degree_weights,
    exact_noise_stability,
    inner_product,
    noise_stability,
)
from jaxsens.sensitivity.sites import Groups

KEY = jax.random.key(3)
RHOS = (-1.0, -0.4, 0.0, 0.3, 0.8, 1.0)
N = 5


def parity(params, bits):
    return 1.0 - 2.0 * (bits.sum(1) % 2)


def majority(params, bits):
    return 1.0 * (2 * bits.sum(1) > bits.shape[1]) - 0.5


def dictator(params, bits):
    return 0.5 - bits[:, 2]


def threshold(params, x):
    return x.sum(2) @ params


FUNCTIONS = {"parity": parity, "majority": majority, "dictator": dictator}
CLOSED = {
    "parity": lambda rho: rho**N,
    "dictator": lambda rho: rho,
    # Weights 30/64 of degree 1 (five influences of 6/16, each squared), 10/64 of degree 3 and 9/64 of degree 5.
    "majority": lambda rho: (45 * rho + 10 * rho**3 + 9 * rho**5) / 64,
}


@functools.cache
def measured(name):
    measure = noise_stability(FUNCTIONS[name], CorrelatedBits(), RHOS, draws=2)
    return measure(KEY, np.ones(1, np.float32), np.asarray(strings.uniform(jax.random.key(1), 3000, N)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_bits_have_their_closed_forms_exactly_and_sampled(name):
    expected = CLOSED[name](np.array(RHOS))
    table = np.asarray(FUNCTIONS[name](None, strings.exhaustive(N))) < 0
    np.testing.assert_allclose(exact_noise_stability(table, RHOS), expected, atol=1e-6)
    np.testing.assert_allclose(exact_noise_stability(1.0 - 2.0 * table, RHOS), expected, atol=1e-12)
    found = measured(name)
    exact = np.abs(np.array(RHOS)) == 1
    np.testing.assert_array_equal(found.mean[exact], np.round(expected[exact]))
    assert (np.abs(found.mean - expected)[~exact] < 4 * found.sem[~exact]).all()
    assert (found.sem[~exact] < 0.03).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_degree_weights_are_recovered_within_their_errors(name):
    weights = degree_weights(measured(name), N)
    table = np.asarray(FUNCTIONS[name](None, strings.exhaustive(N))) < 0
    expected = np.asarray(truth_tables.degree_weights(table))
    off = np.abs(weights.mean - expected)
    assert (off < 4.5 * weights.sem + 1e-9).all()
    assert (weights.constrained >= 0).all()
    assert np.abs(weights.constrained - expected).sum() <= off.sum() + 0.05
    assert weights.condition == pytest.approx(np.linalg.cond(np.array(RHOS)[:, None] ** np.arange(N + 1)))


def test_leakage_is_the_bias_that_a_higher_degree_causes():
    rhos = np.linspace(-0.9, 0.9, 7)
    curve = NoiseStability(rhos, np.stack([rhos**6] * 2), False, 1)
    fitted = degree_weights(curve, 3)
    assert (np.abs(fitted.mean) <= fitted.leakage + 1e-12).all()
    assert np.abs(fitted.mean).max() > 0.05


@functools.cache
def gaussian_tokens():
    return np.asarray(jax.random.normal(jax.random.key(9), (4000, 3, 2))) * 2.0 + 1.0


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.6, 0.95])
def test_a_threshold_of_gaussian_inputs_is_the_arc_sine(rho):
    measure = noise_stability(threshold, CorrelatedGaussian(variance=4.0, mean=1.0), [rho])
    centered = gaussian_tokens()
    weights = np.array([1.0, 2.0, -3.0], np.float32)  # their sum is 0, so that the mean drops out
    found = measure(KEY, weights, centered)
    assert abs(found.mean[0] - 2 / np.pi * np.arcsin(rho)) < 4 * found.sem[0] + 1e-6
    linear = noise_stability(threshold, CorrelatedGaussian(4.0, 1.0), [rho], product=inner_product)
    values = linear(KEY, weights, centered)
    assert abs(values.mean[0] - rho * 4 * 2 * 14) < 4 * values.sem[0]  # rho times the variance of the output


def test_ids_that_are_redrawn_have_the_stability_of_the_product_space():
    ids = np.asarray(jax.random.randint(jax.random.key(4), (3000, 2), 0, 3), np.int32)
    measure = noise_stability(
        lambda params, x: jax.nn.one_hot(x[:, 0], 3), Redrawn(perturb.replace_uniform(3)), [0.0, 0.5, 1.0]
    )
    found = measure(KEY, None, ids)
    assert found.rate
    assert found.mean[2] == 1
    assert (np.abs(found.mean[:2] - [1 / 3, 0.5 + 0.5 / 3]) < 4 * found.sem[:2]).all()


def network(params, x, mask=None):
    weight = 1.0 if mask is None else mask[..., None]
    return jnp.tanh(x * weight).sum(1) @ params


X = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
MASK = np.arange(4) < np.array([4, 3, 4, 2, 4, 4])[:, None]
PARAMS = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)


def test_noise_on_all_tokens_is_token_sensitivity_of_one_group():
    """The same estimator as another part of the library, with the same draws."""
    noise = perturb.gaussian(2.0)
    ours = all_tokens_change(network, noise, change=changes.euclidean_change, draws=3)(KEY, PARAMS, X, MASK)
    measure = jaxsens.token_sensitivity(jaxsens.one_at_a_time(network), noise, change=changes.euclidean_change, draws=3)
    groups = measure(KEY, PARAMS, X, MASK, sites=Groups(np.zeros(4, int)))
    np.testing.assert_allclose(ours.values, groups.per_example, rtol=1e-5)


def test_draws_depend_on_neither_chunk_nor_the_part_nor_the_number_of_draws():
    measure = noise_stability(network, CorrelatedGaussian(), [0.2, 0.7], product=inner_product, draws=3)
    whole = measure(KEY, PARAMS, X, MASK)
    part = measure(KEY, PARAMS, X[2:5], MASK[2:5], index=np.arange(2, 5))
    np.testing.assert_allclose(part.values, whole.values[2:5], rtol=1e-5)
    small = noise_stability(
        network, CorrelatedGaussian(), [0.2, 0.7], product=inner_product, draws=3, execution=Execution(chunk=3)
    )
    np.testing.assert_allclose(small(KEY, PARAMS, X, MASK).values, whole.values, rtol=1e-4, atol=1e-5)
    one = noise_stability(network, CorrelatedGaussian(), [0.7], product=inner_product, draws=3)(KEY, PARAMS, X, MASK)
    np.testing.assert_allclose(one.values[:, 0], whole.values[:, 1], rtol=1e-5)


def test_many_models_are_measured_as_each_alone():
    measure = noise_stability(network, CorrelatedGaussian(), [0.2, 0.7], product=inner_product)
    models = np.stack([PARAMS, 2 * PARAMS])
    first, second = measure.over_models(KEY, models, X)
    np.testing.assert_allclose(second.values, 4 * first.values, rtol=1e-5)
    np.testing.assert_allclose(first.values, measure(KEY, PARAMS, X).values, rtol=1e-5)
    assert first.minus(first).mean.tolist() == [0.0, 0.0]


def test_tokens_that_are_no_sites_stay():
    measure = noise_stability(network, CorrelatedGaussian(), [0.0], product=inner_product)
    still = measure(KEY, PARAMS, X[:, :2], sites=np.array([True, False]))
    moved = measure(KEY, PARAMS, X[:, :2])
    assert not np.allclose(still.values, moved.values)
    with pytest.raises(ValueError, match="has no real token to perturb"):
        measure(KEY, PARAMS, X, sites=np.zeros(4, bool))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_stability(network, CorrelatedBits(), [1.2]), r"rhos must be different numbers from -1 to 1"),
        (lambda: noise_stability(network, CorrelatedBits(), [0.5, 0.5]), "rhos must be different"),
        (lambda: noise_stability(network, CorrelatedBits(), []), "rhos"),
        (lambda: noise_stability(network, CorrelatedBits(), [float("nan")]), "rhos"),
        (lambda: noise_stability(network, Redrawn(perturb.gaussian(1.0)), [-0.5]), "from 0 to 1, got"),
        (lambda: exact_noise_stability([0, 1, 1], [0.5]), r"table must have 2\*\*n entries"),
        (lambda: exact_noise_stability([0, 1], [2.0]), "rhos"),
        (lambda: noise_stability(network, CorrelatedBits(), [0.5], draws=0), "draws"),
        (lambda: noise_stability(network, CorrelatedBits(), [0.5])(KEY, PARAMS, X), "integers 0 and 1, got float32"),
        (lambda: CorrelatedGaussian(-1.0), "variance"),
        (lambda: degree_weights(measured("parity"), 6), "rhos must be at least 7 for degree 6, got 6"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_outputs_that_are_not_finite_are_named():
    def broken(params, x):
        return jnp.where(x[:, 0, 0] > 5, jnp.nan, x[:, 0, 0])

    measure = noise_stability(broken, CorrelatedGaussian(variance=100.0), [0.0], draws=5)
    with pytest.raises(FloatingPointError, match=r"the output is not finite for example \d+, draw \d, rho 0"):
        measure(KEY, None, X)
