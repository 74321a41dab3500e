"""The Fisher matrix from labels that are drawn from the model, beside the exact one and the gradients that it is of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import curvature
from jaxsens.curvature import probes as random_probes
from jaxsens.execution import Execution
from jaxsens.sharpness import classification

COUNT, CLASSES = 5, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(COUNT, 2)).astype(np.float32)
TOKENS = RNG.normal(size=(COUNT, 3, 2)).astype(np.float32)
COUNTED = np.array([[1, 1, 1], [0, 1, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1]], bool)
PARAMS = {"w": RNG.normal(size=(2, CLASSES)).astype(np.float32)}
EYE = np.eye(2 * CLASSES, dtype=np.float32).reshape(-1, 2, CLASSES)
ONE = Execution(devices=jax.devices()[:1])


def linear(params, x):
    return jnp.einsum("...d,dk->...k", x, params["w"])


@functools.partial(jax.jit, static_argnums=0)
def columns(product, params, parts):
    multiply, like = product.on_vectors(params, parts)
    return jax.lax.map(multiply, jnp.eye(like.size, dtype=like.dtype))


def written_out(product, batch):
    problem = product.prepare(PARAMS, batch)
    return np.asarray(columns(problem.product, problem.params, problem.parts))


def drawn(product, batch, logits):
    """The labels that a product draws, ``[draws b *t]``."""
    levels = product.matrix.check_batch(PARAMS, batch).levels
    return np.asarray(product.matrix.sampled(levels, jax.nn.softmax(logits)))


def test_it_is_the_empirical_fisher_matrix_at_the_labels_drawn():
    product = curvature.monte_carlo_fisher_product(linear, draws=4, seed=3, execution=ONE)
    found = written_out(product, (X, None))
    labels = drawn(product, (X, None), linear(PARAMS, X))
    assert labels.shape == (4, COUNT)
    assert not (labels == labels[0]).all()
    p = np.asarray(jax.nn.softmax(linear(PARAMS, X)))
    gradients = np.einsum("bd,sbk->sbdk", X, p[None] - np.eye(CLASSES)[labels]).reshape(4 * COUNT, -1)
    np.testing.assert_allclose(found, gradients.T @ gradients / len(gradients), atol=1e-5)
    empirical = curvature.fisher_product(classification.CrossEntropy(linear), execution=ONE)
    (at_labels,) = empirical(PARAMS, (np.tile(X, (4, 1)), labels.ravel()), (EYE[1],))
    np.testing.assert_allclose(at_labels.ravel(), found[1], atol=1e-5)
    trace = curvature.trace(product, probes=3)(jax.random.key(0), PARAMS, (X, None))
    like = jax.ShapeDtypeStruct((6,), jnp.float32)
    signs = [random_probes.draw(random_probes.signs, like, jax.random.key(0), i) for i in range(3)]
    np.testing.assert_allclose(trace.values, [v @ found @ v for v in signs], rtol=1e-4)


@pytest.mark.parametrize("batch", [(X, None), (TOKENS, None, COUNTED)], ids=["examples", "tokens"])
def test_its_expectation_is_the_gauss_newton_matrix(batch):
    """Within five standard errors of the mean over independent seeds' worth of draws, for each entry."""
    draws = 2000
    found = written_out(curvature.monte_carlo_fisher_product(linear, draws=draws, execution=ONE), batch)
    expected = written_out(curvature.ggn_product(linear, execution=ONE), batch)
    # A bound on the deviation of an entry of g g' for one draw: the largest squared gradient.
    largest = 2 * np.abs(batch[0]).max() ** 2 * (9 if batch[0].ndim == 3 else 1)
    np.testing.assert_allclose(found, expected, atol=5 * largest / np.sqrt(draws * COUNT) / 2)
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    few = written_out(curvature.monte_carlo_fisher_product(linear, execution=ONE), batch)
    assert np.abs(few - expected).max() > 3 * np.abs(found - expected).max()


def test_neither_chunk_nor_devices_change_the_labels(devices):
    def product(number, chunk, draws=2, seed=1):
        execution = Execution(devices=devices[:number], chunk=chunk)
        build = curvature.monte_carlo_fisher_product(linear, draws=draws, seed=seed, execution=execution)
        return np.asarray(build(PARAMS, (X, None), (EYE[2],))[0])

    two = product(2, 2)
    np.testing.assert_array_equal(two, product(3, 2))
    np.testing.assert_allclose(two, product(1, 3), rtol=1e-5, atol=1e-6)
    assert np.abs(two - product(1, 3, seed=2)).max() > 1e-2
    few, many = (
        drawn(curvature.monte_carlo_fisher_product(linear, draws=n), (X, None), linear(PARAMS, X)) for n in (2, 5)
    )
    np.testing.assert_array_equal(few, many[:2])


def test_bad_arguments_are_named():
    for options, message in (
        ({"draws": 0}, "draws must be an integer of at least 1"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"seed": 2**32}, "seed must be below"),
    ):
        with pytest.raises(ValueError, match=message):
            curvature.monte_carlo_fisher_product(linear, **options)
    product = curvature.monte_carlo_fisher_product(linear, ignore_index=-1, execution=ONE)
    with pytest.raises(ValueError, match="targets must be classes from 0 to 2, got 3"):
        product(PARAMS, (X, np.array([0, 3, -1, 1, 1])), (EYE[0],))
    with pytest.raises(ValueError, match="of k >= 2 classes"):
        curvature.monte_carlo_fisher_product(lambda p, x: linear(p, x)[:, :1])(PARAMS, (X, None), (EYE[0],))
    with pytest.raises(FloatingPointError, match="not finite for example 1"):
        product(PARAMS, (np.where(np.arange(COUNT)[:, None] == 1, np.nan, X), None), (EYE[0],))
