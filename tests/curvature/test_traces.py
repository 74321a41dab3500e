"""Estimates of traces beside the truth, and the probes that they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import curvature, perturb
from jaxsens.curvature import probes as random_probes
from jaxsens.curvature import traces
from jaxsens.execution import Execution
from jaxsens.sharpness import average, classification
from jaxsens.statistics import estimate

KEY = jax.random.key(0)
SIZE = 30
WEIGHTS = {"w": np.ones(SIZE, np.float32)}


def quadratic(params, batch):
    return 0.5 * jnp.einsum("i,bij,j->b", params["w"], batch, params["w"])


PRODUCT = curvature.hessian_product(quadratic, execution=Execution(devices=jax.devices()[:1]))
HUTCHINSON = curvature.trace(PRODUCT, probes=40)
XTRACE = curvature.xtrace(PRODUCT, probes=6)


def rotated(eigenvalues, seed=0):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(SIZE, SIZE)))[0]
    return ((rotation * eigenvalues) @ rotation.T)[None].astype(np.float32)


DECAY = 0.7 ** np.arange(SIZE)


@pytest.mark.parametrize("sampler", [random_probes.signs, random_probes.normal, random_probes.sphere])
def test_probes_have_mean_zero_and_the_identity_for_covariance(sampler):
    like = jax.ShapeDtypeStruct((5,), jnp.float32)
    vectors = np.asarray(jax.vmap(lambda key: sampler(key, like))(jax.random.split(KEY, 20_000)))
    assert vectors.dtype == like.dtype
    np.testing.assert_allclose(vectors.mean(0), 0, atol=0.04)
    np.testing.assert_allclose(vectors.T @ vectors / len(vectors), np.eye(5), atol=0.05)


def test_each_sampler_has_its_own_law():
    like = jax.ShapeDtypeStruct((400,), jnp.float32)
    assert set(np.unique(random_probes.signs(KEY, like))) == {-1, 1}
    np.testing.assert_allclose(jnp.linalg.norm(random_probes.sphere(KEY, like)), 20, rtol=1e-6)
    normal = np.asarray(random_probes.normal(KEY, like))
    assert len(np.unique(normal)) == 400
    assert abs(np.linalg.norm(normal) - 20) > 1e-3


def test_probes_are_those_that_committed_results_were_made_with():
    like = jax.ShapeDtypeStruct((4,), jnp.float32)
    np.testing.assert_array_equal(random_probes.signs(KEY, like), [-1, -1, 1, 1])
    normal = np.asarray([1.6226422, 2.0252647, -0.43359444, -0.07861735])
    np.testing.assert_allclose(random_probes.normal(KEY, like), normal, rtol=1e-6)
    np.testing.assert_allclose(random_probes.sphere(KEY, like), 2 * normal / np.linalg.norm(normal), rtol=1e-6)


def test_hutchinson_is_exact_on_diagonals_and_covers_elsewhere():
    exact = HUTCHINSON(KEY, WEIGHTS, np.diag(DECAY)[None].astype(np.float32))
    np.testing.assert_allclose(exact.values, DECAY.sum(), rtol=1e-6)
    found = HUTCHINSON(KEY, WEIGHTS, rotated(DECAY))
    assert found.count == 40
    low, high = found.interval(0.999)
    assert low <= DECAY.sum() <= high
    variance = 2 * (np.sum(DECAY**2) - np.sum(np.diag(rotated(DECAY)[0]) ** 2)) / 40
    np.testing.assert_allclose(found.sem, np.sqrt(variance), rtol=0.5)


def test_probes_depend_only_on_the_key_and_their_number():
    few = curvature.trace(PRODUCT, probes=5)(KEY, WEIGHTS, rotated(DECAY))
    many = HUTCHINSON(KEY, WEIGHTS, rotated(DECAY))
    np.testing.assert_allclose(few.values, many.values[:5], rtol=1e-6)
    assert len(np.unique(many.values)) == 40
    assert HUTCHINSON(jax.random.key(1), WEIGHTS, rotated(DECAY)).mean != many.mean


def test_probes_use_the_same_matrix_on_many_devices(devices):
    batch = np.concatenate([rotated(DECAY), rotated(DECAY, seed=1), rotated(2 * DECAY, seed=2)])
    many = curvature.trace(curvature.hessian_product(quadratic, execution=Execution(devices=devices[:3])), probes=5)
    np.testing.assert_allclose(many(KEY, WEIGHTS, batch).values, HUTCHINSON(KEY, WEIGHTS, batch).values[:5], rtol=1e-5)


@jax.custom_vjp
def backwards_only(x):
    return jnp.sum(x**4, -1)


backwards_only.defvjp(lambda x: (jnp.sum(x**4, -1), x), lambda x, g: (4 * g[:, None] * x**3,))


def test_a_loss_without_forward_derivatives_has_a_trace():
    product = curvature.hessian_product(
        lambda params, x: backwards_only(params["w"][None] * x), execution=Execution(devices=jax.devices()[:1])
    )
    found = curvature.trace(product, probes=2)(KEY, WEIGHTS, np.full((2, SIZE), 0.5, np.float32))
    np.testing.assert_allclose(found.values, SIZE * 12 * 0.5**4, rtol=1e-5)


def test_average_sharpness_is_half_the_variance_times_the_trace():
    """Of a small network, within the errors of both; an antithetic pair has no gradient in it."""
    rng = np.random.default_rng(3)
    params = {"a": rng.normal(size=(4, 6)).astype(np.float32), "b": rng.normal(size=(6, 3)).astype(np.float32)}
    batch = rng.normal(size=(9, 4)).astype(np.float32), np.arange(9, dtype=np.int32) % 3
    loss = classification.CrossEntropy(lambda params, x: jnp.tanh(x @ params["a"]) @ params["b"])
    noise = perturb.antithetic(perturb.gaussian(0.01**2))
    rise = average.average_sharpness(loss, noise, draws=4000, execution=Execution(chunk=9 * 200))(KEY, params, batch)
    trace = curvature.trace(curvature.hessian_product(loss), probes=100)(KEY, params, batch)
    half = 0.01**2 / 2
    assert abs(rise.mean - half * trace.mean) < 3 * np.hypot(rise.sem, half * trace.sem)
    assert np.hypot(rise.sem, half * trace.sem) < 0.1 * half * trace.mean, "an error that would see a factor"


def brute_force(matrix, probes, i, j):
    """``t_ij`` with a basis that is built without probes i and j."""
    kept = [p for p in range(probes.shape[1]) if p not in (i, j)]
    basis = np.linalg.qr(matrix @ probes[:, kept])[0]
    rest = probes[:, i] - basis @ (basis.T @ probes[:, i])
    scale = (SIZE - len(kept)) / (rest @ rest)
    return np.trace(basis.T @ matrix @ basis) + scale * rest @ matrix @ rest


def drawn(probes):
    like = jax.ShapeDtypeStruct((SIZE,), jnp.float32)
    return np.stack([random_probes.sphere(jax.random.fold_in(KEY, i), like) for i in range(probes)], 1)


def test_xtrace_equals_its_definition():
    matrix = rotated(DECAY)
    found = XTRACE(KEY, WEIGHTS, matrix)
    probes = drawn(6).astype(np.float64)
    expected = [brute_force(matrix[0].astype(np.float64), probes, i, i) for i in range(6)]
    np.testing.assert_allclose(found.values, expected, rtol=1e-4)
    low, high = found.interval(0.999)
    assert low <= DECAY.sum() <= high


def test_xtrace_is_exact_where_it_can_be():
    rank_three = np.r_[[3, 2, -1], np.zeros(SIZE - 3)]
    found = XTRACE(KEY, WEIGHTS, rotated(rank_three))
    np.testing.assert_allclose(found.mean, 4, rtol=1e-5)
    assert found.sem < 1e-5
    for scale in (0, 2):
        found = curvature.xtrace(PRODUCT, probes=15)(KEY, WEIGHTS, np.eye(SIZE, dtype=np.float32)[None] * scale)
        assert (found.mean, found.sem) == (scale * SIZE, 0)
    found = XTRACE(KEY, WEIGHTS, np.zeros((1, SIZE, SIZE), np.float32))
    assert (found.mean, found.sem) == (0, 0)


def compressed(matrix, probes):
    basis, triangle = np.linalg.qr(matrix @ probes)
    return triangle, basis.T @ matrix @ basis, basis.T @ probes, (probes**2).sum(0), len(matrix)


def test_leaving_two_probes_out_is_leaving_them_out():
    rng = np.random.default_rng(3)
    matrix, probes = rotated(DECAY)[0].astype(np.float64), rng.normal(size=(SIZE, 5))
    found = traces._left_out(*compressed(matrix, probes))
    for i in range(5):
        for j in range(5):
            np.testing.assert_allclose(found[i, j], brute_force(matrix, probes, i, j), rtol=1e-8)


def test_xtraces_error_is_not_the_spread_of_its_values():
    """With as many probes as large eigenvalues the spread says nothing; the error with the covariance does."""
    rng = np.random.default_rng(5)
    eigenvalues = np.where(np.arange(60) < 6, 1.0, 1e-3)
    errors, spreads, sems = [], [], []
    for _ in range(150):
        probes = rng.normal(size=(60, 6))
        probes *= np.sqrt(60) / np.linalg.norm(probes, axis=0)
        found = traces._with_covariance(traces._left_out(*compressed(np.diag(eigenvalues), probes)))
        errors.append(found.mean - eigenvalues.sum())
        spreads.append(found.values.std(ddof=1) / np.sqrt(6))
        sems.append(found.sem)
    error, spread, sem = (np.sqrt(np.mean(np.square(a))) for a in (errors, spreads, sems))
    assert spread < 0.8 * error < sem


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="probes must be an integer of at least 1, got 0"):
        curvature.trace(PRODUCT, probes=0)
    with pytest.raises(ValueError, match="probes must be an integer of at least 2, got 1"):
        curvature.xtrace(PRODUCT, probes=1)
    for probes in (2.0, True, "2"):
        with pytest.raises(ValueError, match="probes must be an integer of at least 1"):
            curvature.trace(PRODUCT, probes=probes)
    with pytest.raises(ValueError, match="got rbg"):
        curvature.trace(PRODUCT, probes=np.int64(2))(jax.random.key(0, impl="rbg"), WEIGHTS, rotated(DECAY))
    broken = np.full((1, SIZE, SIZE), np.inf, np.float32)
    for measure in (HUTCHINSON, XTRACE):
        with pytest.raises(FloatingPointError, match="not finite"):
            measure(KEY, WEIGHTS, broken)


@pytest.mark.slow
def test_intervals_of_xtrace_cover_the_truth(capsys):
    """Spectra flat, falling, with a few large values, with signs; as many probes as large eigenvalues is the worst."""
    rng = np.random.default_rng(6)
    size, repeats = 200, 300
    network = np.abs(rng.normal(size=size)) * 0.02
    network[:10] = np.linspace(5, 1, 10)
    spectra = {
        "flat": 1 + 0.1 * rng.normal(size=size), "1/i^2": np.arange(1.0, size + 1) ** -2,
        "0.7^i": 0.7 ** np.arange(size), "ten of 5..1": network, "signs": rng.normal(size=size),
    }  # fmt: skip
    for count in (5, 10, 20):
        for name, eigenvalues in spectra.items():
            hits = naive = 0
            for _ in range(repeats):
                probes = rng.normal(size=(size, count))
                probes *= np.sqrt(size) / np.linalg.norm(probes, axis=0)
                found = traces._with_covariance(traces._left_out(*compressed(np.diag(eigenvalues), probes)))
                low, high = found.interval(0.95)
                hits += low <= eigenvalues.sum() <= high
                low, high = estimate.from_values(found.values, rate=False).interval(0.95)
                naive += low <= eigenvalues.sum() <= high
            with capsys.disabled():
                print(
                    f"\n{count} probes, {name}: {hits / repeats:.1%} cover; by the spread alone {naive / repeats:.1%}"
                )
            assert hits / repeats > 0.9
