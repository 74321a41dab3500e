"""Diagonals of matrices that are known, and the errors of their entries."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import curvature
from jaxsens.curvature import diagonals, removals
from jaxsens.curvature import probes as random_probes
from jaxsens.execution import Execution

KEY = jax.random.key(0)
SIZE = 30
WEIGHTS = {"b": np.ones((2, 5), np.float32), "still": np.arange(3), "w": np.ones(20, np.float32)}
EVERY = np.arange(SIZE)


def flat(tree):
    return np.concatenate([np.ravel(tree["b"]), np.ravel(tree["w"])])


def quadratic(params, batch):
    weights = jnp.concatenate([params["b"].ravel(), params["w"]])
    return 0.5 * jnp.einsum("i,bij,j->b", weights, batch, weights)


ONE = Execution(devices=jax.devices()[:1])
PRODUCT = curvature.hessian_product(quadratic, execution=ONE)
HUTCHINSON = curvature.diagonal(PRODUCT, probes=12)
XDIAG = curvature.xdiag(PRODUCT, probes=6)


def rotated(eigenvalues, size=SIZE):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))[0]
    return ((rotation * eigenvalues) @ rotation.T).astype(np.float32)


MATRIX = rotated(0.7 ** np.arange(SIZE))


def drawn(probes):
    like = jax.ShapeDtypeStruct((SIZE,), jnp.float32)
    return np.stack([random_probes.draw(random_probes.signs, like, KEY, i) for i in range(probes)]).astype(float)


def test_hutchinson_equals_its_definition():
    """Mean and standard error of ``v * (A v)`` over probes, 0 for a leaf that does not move."""
    found = HUTCHINSON(KEY, WEIGHTS, MATRIX[None])
    values = np.stack([v * (MATRIX @ v) for v in drawn(12)])
    np.testing.assert_allclose(flat(found.mean), values.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(flat(found.sem), values.std(0, ddof=1) / np.sqrt(12), rtol=1e-4, atol=1e-6)
    assert (found.count, found.products, found.leaves) == (12, 12, ("['b']", "['w']"))
    assert found.mean["still"].tolist() == [0, 0, 0]
    assert jax.tree.structure(found.mean) == jax.tree.structure(WEIGHTS)
    low, high = found.interval(0.9999)
    assert np.all((flat(low) <= np.diag(MATRIX)) & (np.diag(MATRIX) <= flat(high)))
    variance = (np.sum(MATRIX**2, 1) - np.diag(MATRIX) ** 2) / 12
    np.testing.assert_allclose(np.mean(flat(found.sem) ** 2), variance.mean(), rtol=0.2)


def test_hutchinson_is_exact_on_diagonals():
    expected = np.linspace(-1, 2, SIZE).astype(np.float32)
    for probes, error in ((1, np.inf), (12, 0)):
        found = curvature.diagonal(PRODUCT, probes=probes)(KEY, WEIGHTS, np.diag(expected)[None])
        np.testing.assert_allclose(flat(found.mean), expected, rtol=1e-6)
        np.testing.assert_array_equal(flat(found.sem), error)


def test_enough_probes_compute_the_diagonal():
    for measure in (curvature.diagonal(PRODUCT, probes=30), curvature.xdiag(PRODUCT, probes=15)):
        found = measure(KEY, WEIGHTS, MATRIX[None])
        np.testing.assert_allclose(flat(found.mean), np.diag(MATRIX), rtol=1e-5)
        assert found.products == 30
        assert not flat(found.sem).any()


def test_a_matrix_of_small_rank_is_exact():
    found = XDIAG(KEY, WEIGHTS, rotated(np.r_[[3, 2, -1], np.zeros(SIZE - 3)])[None])
    np.testing.assert_allclose(flat(found.mean), np.diag(rotated(np.r_[[3, 2, -1], np.zeros(SIZE - 3)])), atol=1e-5)
    assert flat(found.sem).max() < 1e-5
    zero = XDIAG(KEY, WEIGHTS, np.zeros((1, SIZE, SIZE), np.float32))
    assert not flat(zero.mean).any()
    assert not flat(zero.sem).any()


def brute_force(matrix, probes, i, j):
    """``d_ij`` with a basis that is built without probes i and j."""
    kept = [p for p in range(len(probes)) if p not in (i, j)]
    left, sizes, _ = np.linalg.svd(matrix @ probes[kept].T, full_matrices=False)
    basis = left[:, sizes > 1e-6]
    image = matrix @ probes[i]
    inside = np.einsum("nk,nk->n", basis, matrix @ basis)
    return inside + probes[i] * (image - basis @ (basis.T @ image))


def defined(matrix, probes):
    """Mean and standard error by the definition of XDiag."""
    count = len(probes)
    left_out = np.array([[brute_force(matrix, probes, i, j) for j in range(count)] for i in range(count)])
    own = left_out[range(count), range(count)]
    changes = np.abs(own[:, None] - left_out)
    covariance = (changes * changes.transpose(1, 0, 2)).sum((0, 1)) / (count * (count - 1))
    return own.mean(0), np.sqrt(own.var(0, ddof=1) / count + covariance)


def test_xdiag_equals_its_definition():
    found = XDIAG(KEY, WEIGHTS, MATRIX[None])
    mean, error = defined(MATRIX.astype(np.float64), drawn(6))
    np.testing.assert_allclose(flat(found.mean), mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(flat(found.sem), error, rtol=1e-3, atol=1e-5)
    assert found.products == 12
    plain = curvature.diagonal(PRODUCT, probes=12)(KEY, WEIGHTS, MATRIX[None])
    errors = [np.abs(flat(one.mean) - np.diag(MATRIX)).mean() for one in (found, plain)]
    assert errors[0] < errors[1], "for equally many products"


def combined(matrix, vectors):
    """The last steps of ``xdiag`` for given probes, of which some may be equal."""
    basis, triangle = np.linalg.qr(matrix @ vectors.T)
    basis = basis.T.astype(np.float32)
    rotation, *rest = removals.removals(triangle, 1e-7)
    results = diagonals._combined(
        *(np.asarray(a, np.float32) for a in (vectors, basis, basis @ matrix, rotation, *rest))
    )
    return np.asarray(results)


def test_xdiag_is_unbiased_and_its_error_is_not_too_small():
    """Over all signs that two probes may have, equal ones included, in closed form."""
    matrix = rotated(np.array([2.0, 1.0, -0.5, 0.1]), 4).astype(np.float64)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=8))).reshape(-1, 2, 4)
    signs = signs[(signs[:, :, 0] == 1).all(1)]  # a probe times -1 gives the same
    means, errors = np.stack([combined(matrix, vectors) for vectors in signs], 1)
    np.testing.assert_allclose(means.mean(0), np.diag(matrix), atol=1e-5)
    assert np.all(np.mean(errors**2, 0) > np.mean((means - np.diag(matrix)) ** 2, 0) - 1e-6)
    three = np.concatenate([signs[3], signs[3][:1]])  # the third probe is the first one
    np.testing.assert_allclose(combined(matrix, three), defined(matrix, three), atol=1e-5)


def test_diagonals_do_not_depend_on_the_devices(devices):
    batch = np.stack([MATRIX, 2 * MATRIX, np.eye(SIZE, dtype=np.float32)])
    two, eight = (
        curvature.xdiag(curvature.hessian_product(quadratic, execution=Execution(devices=devices[:n])), probes=3)(
            KEY, WEIGHTS, batch
        )
        for n in (2, 8)
    )
    np.testing.assert_array_equal(flat(two.mean), flat(eight.mean))
    np.testing.assert_array_equal(flat(two.sem), flat(eight.sem))
    mean, error = defined(batch.mean(0, dtype=np.float64), drawn(3))
    np.testing.assert_allclose(flat(two.mean), mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(flat(two.sem), error, rtol=1e-3, atol=1e-5)


def test_a_block_has_the_diagonal_of_its_leaves():
    block = curvature.ggn_product(
        lambda params, x: x @ params["w"], curvature.of_convex(lambda out, _: out**2), execution=ONE,
        where=lambda path, leaf: path[-1].key == "w",
    )  # fmt: skip
    x = np.random.default_rng(1).normal(size=(7, 20)).astype(np.float32)
    found = curvature.diagonal(block, probes=20)(KEY, WEIGHTS, (x, np.zeros(7, np.float32)))
    np.testing.assert_allclose(found.mean["w"], 2 * (x**2).mean(0), rtol=1e-5)
    assert not found.mean["b"].any()
    assert found.leaves == ("['w']",)
    assert repr(found).startswith("Diagonal(entries ")
    assert found.mean["w"].min() > 0
    assert f"entries {found.mean['w'].min():.3g} to" in repr(found)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="probes must be an integer of at least 2, got 1"):
        curvature.xdiag(PRODUCT, probes=1)
    broken = np.full((1, SIZE, SIZE), np.inf, np.float32)
    for measure in (HUTCHINSON, XDIAG):
        with pytest.raises(FloatingPointError, match="not finite"):
            measure(KEY, WEIGHTS, broken)
