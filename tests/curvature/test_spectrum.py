"""Eigenpairs and densities of curvature matrices whose spectra are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import flatten_util
from sklearn import datasets

from jaxsens import curvature, sharpness
from jaxsens.curvature import lanczos
from jaxsens.execution import Execution
from jaxsens.statistics import estimate

KEY = jax.random.key(0)
SIZE = 12


def quadratic(params, batch):
    """The loss ``w' A w / 2`` with a matrix A of every example's own: its Hessian is their mean."""
    return 0.5 * jnp.einsum("i,bij,j->b", params["w"], batch, params["w"])


WEIGHTS = {"w": np.ones(SIZE, np.float32)}
# Equal products share compiled code: one program for all quadratics.
PRODUCT = curvature.hessian_product(quadratic, execution=Execution(devices=jax.devices()[:1]))


def planted(eigenvalues, seed=0):
    """Three matrices whose mean has these eigenvalues."""
    eigenvalues = np.asarray(eigenvalues, float)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(SIZE, SIZE)))[0]
    matrix = (rotation * eigenvalues) @ rotation.T
    if len(set(eigenvalues)) == 1:
        matrix = np.diag(eigenvalues)  # to the bit, so that Krylov spaces close at once
    return np.stack([0.5 * matrix, 0 * matrix, 2.5 * matrix]).astype(np.float32)


SPECTRA = {
    "distinct": np.arange(12) - 3.3,
    "multiple": [5, 5, 5, 3, 3, 1, 1, 0, 0, 0, -7, -7],
    "rank one": [0] * 11 + [4],
    "identity": [2] * 12,
    "zero": [0] * 12,
}


def require_eigenpairs(found, matrix, expected, scale):
    """Values as expected, vectors orthonormal, residuals those that they are said to be."""
    np.testing.assert_allclose(found.values, expected, atol=1e-4 * max(scale, 1e-4))
    vectors = np.concatenate(
        [np.reshape(leaf, (len(expected), -1)) for leaf in jax.tree.leaves(found.vectors)], 1
    ).astype(np.float64)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(expected)), atol=1e-5)
    residuals = np.linalg.norm(vectors @ matrix - found.values[:, None] * vectors, axis=1)
    np.testing.assert_allclose(found.residuals, residuals, atol=1e-6 * max(scale, 1))
    np.testing.assert_array_equal(found.converged, found.residuals <= 1e-4 * scale)


@pytest.mark.parametrize("name", SPECTRA)
def test_planted_spectra_come_out_with_their_multiplicities(name):
    eigenvalues = np.asarray(SPECTRA[name], float)
    batch = planted(eigenvalues)
    scale = np.abs(eigenvalues).max()
    for order, rank in (("algebraic", -eigenvalues), ("magnitude", -np.abs(eigenvalues))):
        expected = eigenvalues[np.argsort(rank, kind="stable")][:7]
        found = curvature.top_eigenpairs(PRODUCT, 7, order=order)(KEY, WEIGHTS, batch)
        require_eigenpairs(found, batch.mean(0, dtype=np.float64), expected, scale)
        assert found.converged.all()
        assert found.products == SIZE + 7


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_matrices_whose_squares_float32_does_not_hold(size):
    """With a Krylov space of less than all dimensions, which finds the top and must know what it has not found."""
    eigenvalues = np.arange(SIZE) - 3.3
    batch = planted(eigenvalues * size)
    found = curvature.top_eigenpairs(PRODUCT, 3, steps=8)(KEY, WEIGHTS, batch)
    vectors = np.asarray(found.vectors["w"], np.float64)
    images = vectors @ (batch.mean(0, dtype=np.float64) / size)
    residuals = np.linalg.norm(images - found.values[:, None] / size * vectors, axis=1)
    np.testing.assert_allclose(found.residuals / size, residuals, rtol=1e-2, atol=1e-5)
    assert found.residuals[-1] > 0
    assert not found.converged[-1]
    whole = curvature.top_eigenpairs(PRODUCT, 3)(KEY, WEIGHTS, batch)
    np.testing.assert_allclose(whole.values / size, eigenvalues[::-1][:3], rtol=1e-4)


def test_a_basis_of_the_whole_space_is_orthonormal():
    """Every row but the first starts afresh, and the last ones lie nearly inside of those before."""
    like = jax.ShapeDtypeStruct((60,), jnp.float32)
    basis, projected = jax.jit(lambda key: lanczos.krylov_basis(lambda v: 2 * v, key, like, 60))(KEY)
    np.testing.assert_allclose(basis @ basis.T, np.eye(60), atol=1e-6)
    np.testing.assert_allclose(np.triu(projected), 2 * np.eye(60), atol=2e-6)


def test_too_few_steps_are_reported():
    batch = planted(np.geomspace(1, 1e-2, SIZE))
    found = curvature.top_eigenpairs(PRODUCT, 4, steps=5)(KEY, WEIGHTS, batch)
    require_eigenpairs(found, batch.mean(0, dtype=np.float64), found.values, np.abs(found.values).max())
    assert not found.converged.all()
    assert found.products == 9


X = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
MLP = {
    "a": np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32),
    "b": np.random.default_rng(3).normal(size=(6, 3)).astype(np.float32),
}


def mlp_loss(params, x):
    logits = jnp.tanh(x @ params["a"]) @ params["b"]
    return -jax.nn.log_softmax(logits)[:, 0]


def test_the_top_ten_of_a_network_are_those_of_its_written_out_hessian(devices):
    vector, restore = flatten_util.ravel_pytree(MLP)
    hessian = np.asarray(jax.jit(jax.hessian(lambda v: mlp_loss(restore(v), X).mean()))(vector), np.float64)
    product = curvature.hessian_product(mlp_loss, execution=Execution(devices=devices[:1]))
    expected = np.linalg.eigvalsh(hessian)[::-1][:10]
    found = curvature.top_eigenpairs(product, 10)(KEY, MLP, X)
    assert [leaf.shape for leaf in jax.tree.leaves(found.vectors)] == [(10, 3, 6), (10, 6, 3)]
    require_eigenpairs(found, hessian, expected, np.abs(np.linalg.eigvalsh(hessian)).max())
    assert found.converged.all()


def test_double_precision_and_many_devices(float64, devices):
    eigenvalues = SPECTRA["distinct"]
    wide = planted(eigenvalues).astype(np.float64)
    expected = np.linalg.eigvalsh(wide.mean(0))[::-1][:3]
    product = curvature.hessian_product(quadratic, execution=Execution(devices=devices))
    found = curvature.top_eigenpairs(product, 3, tolerance=1e-12)(KEY, {"w": np.ones(SIZE)}, wide)
    np.testing.assert_allclose(found.values, expected, atol=1e-12)
    assert found.converged.all()
    assert found.vectors["w"].dtype == np.float64


def test_eigenpairs_and_densities_are_equal_on_several_devices(devices):
    """To the bit, where the space closes and random directions continue it; on one device up to rounding."""
    spectrum, found = SPECTRA["multiple"], {}
    batch = planted(spectrum)
    for number in (1, 3, 8):
        product = curvature.hessian_product(quadratic, execution=Execution(devices=devices[:number]))
        pairs = curvature.top_eigenpairs(product, 5)(KEY, WEIGHTS, batch)
        density = curvature.spectral_density(product, probes=1)(KEY, WEIGHTS, batch)
        found[number] = pairs.values, pairs.residuals, pairs.vectors["w"], density.atoms, density.weights
        require_eigenpairs(pairs, batch.mean(0, dtype=np.float64), np.sort(spectrum)[::-1][:5], 8)
    jax.tree.map(np.testing.assert_array_equal, found[3], found[8])
    np.testing.assert_allclose(found[1][3], found[3][3], atol=1e-5)


def test_eigenpairs_of_a_network_have_equal_bits_on_several_devices(devices):
    """Where each of eight devices has a single part, too: XLA must not compute it outside of the loop over parts."""
    rng, pairs = np.random.default_rng(0), {}
    sizes = {"w": (6, 8), "v": (8, 3)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in sizes.items()}
    batch = rng.normal(size=(37, 6)).astype(np.float32), rng.integers(0, 3, 37)

    def loss(params, batch):
        x, labels = batch
        logits = jnp.tanh(x @ params["w"]) @ params["v"]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]

    for number in (2, 8):
        product = curvature.hessian_product(loss, execution=Execution(devices=devices[:number]))
        pairs[number] = curvature.top_eigenpairs(product, 3)(KEY, params, batch)
    np.testing.assert_array_equal(pairs[2].values, pairs[8].values)
    jax.tree.map(np.testing.assert_array_equal, pairs[2].vectors, pairs[8].vectors)


def test_random_directions_are_equal_on_several_devices(devices):
    """Of the identity every row is one; XLA must not compute them in slices, whose size depends on the devices."""
    like = jax.ShapeDtypeStruct((37,), jnp.float32)
    two, four = (
        np.asarray(
            jax.jit(lambda key, n=n: lanczos.krylov_basis(lambda v: 2 * v, key, like, 20, (*devices[:n],))[0])(KEY)
        )
        for n in (2, 4)
    )
    np.testing.assert_array_equal(two[:, :37], four[:, :37])


def test_each_device_holds_a_part_of_the_basis(devices):
    """An eighth on eight devices, while it is made and after."""
    size, steps = 8 * 500, 40
    whole = 4 * size * steps
    for number, most in ((1, 1.0), (8, 1 / 8)):
        product = curvature.hessian_product(
            lambda w, x: 0.5 * (x @ w) ** 2, execution=Execution(devices=devices[:number])
        )
        problem = product.prepare(np.zeros(size, np.float32), np.ones((8, size), np.float32))
        arguments = problem.product, steps, KEY, problem.params, problem.parts
        compiled = lanczos.decompose.lower(*arguments).compile()
        memory = compiled.memory_analysis()
        assert most <= memory.output_size_in_bytes / whole < most + 0.05
        # Vectors, and what the products gather, are whole on each device.
        assert memory.temp_size_in_bytes < (0.6 + most) * whole
        basis, _ = compiled(*arguments[2:])
        assert {shard.data.nbytes for shard in basis.addressable_shards} == {int(most * whole)}


@pytest.mark.parametrize("name", SPECTRA)
def test_the_density_integrates_to_one_and_has_the_moments_of_the_spectrum(name):
    eigenvalues = np.asarray(SPECTRA[name], float)
    density = curvature.spectral_density(PRODUCT, probes=30)(KEY, WEIGHTS, planted(eigenvalues))
    assert density.atoms.shape == density.weights.shape == (30, SIZE)
    np.testing.assert_allclose(density.weights.sum(1), 1, rtol=1e-12)
    for curve in density.curve.values:
        np.testing.assert_allclose(np.trapezoid(curve, density.grid), 1, rtol=1e-6)
    for power in (1, 2, 3):
        low, high = estimate.from_values((density.weights * density.atoms**power).sum(1)).interval(0.999)
        assert low - 1e-4 <= (eigenvalues**power).mean() <= high + 1e-4
    for value in set(SPECTRA[name]):
        near = np.abs(density.atoms - value) < 1e-3
        low, high = estimate.from_values((density.weights * near).sum(1)).interval(0.999)
        assert low - 1e-4 <= (eigenvalues == value).mean() <= high + 1e-4


def test_the_curve_can_be_evaluated_on_another_grid():
    density = curvature.spectral_density(PRODUCT, probes=3)(KEY, WEIGHTS, planted(SPECTRA["distinct"]))
    grid = np.linspace(-5, 10, 4000)
    np.testing.assert_allclose(np.trapezoid(density.smoothed(grid, 0.1).mean, grid), 1, rtol=1e-6)
    np.testing.assert_array_equal(density.smoothed(density.grid, density.width).values, density.curve.values)
    same, other = (
        curvature.spectral_density(PRODUCT, probes=2)(key, WEIGHTS, planted(SPECTRA["distinct"]))
        for key in (KEY, jax.random.key(1))
    )
    np.testing.assert_array_equal(same.atoms, density.atoms[:2])
    assert np.abs(other.weights - same.weights).max() > 0.01
    with pytest.raises(ValueError, match="width must be a finite number above 0"):
        density.smoothed(grid, 0.0)


def test_bad_arguments_are_named():
    for k, options, match in (
        (0, {}, "k must be an integer of at least 1"),
        (5, {"steps": 4}, "k must be at most steps, got k=5 and steps=4"),
        (2, {"order": "smallest"}, "order must be one of"),
        (2, {"tolerance": -1.0}, "tolerance must be a finite number of at least 0"),
    ):
        with pytest.raises(ValueError, match=match):
            curvature.top_eigenpairs(PRODUCT, k, **options)
    with pytest.raises(ValueError, match="number of parameters chosen, 12, got 13"):
        curvature.top_eigenpairs(PRODUCT, 13)(KEY, WEIGHTS, planted(SPECTRA["zero"]))
    for options, match in (
        ({"probes": 0}, "probes must be an integer of at least 1"),
        ({"probes": 2, "steps": 0}, "steps must be an integer of at least 1"),
        ({"probes": 2, "points": 10}, "points must be an integer of at least 200"),
        ({"probes": 2, "width": -1.0}, "width must be a finite number above 0"),
    ):
        with pytest.raises(ValueError, match=match):
            curvature.spectral_density(PRODUCT, **options)
    with pytest.raises(ValueError, match=r"points must be at least \d+ for a width of 0.0001"):
        curvature.spectral_density(PRODUCT, probes=1, width=1e-4)(KEY, WEIGHTS, planted(SPECTRA["distinct"]))


def test_products_that_are_not_finite_stop_the_run():
    batch = planted(SPECTRA["distinct"])
    batch[1, 0, 0] = np.nan
    for measure in (curvature.top_eigenpairs(PRODUCT, 2), curvature.spectral_density(PRODUCT, probes=1)):
        with pytest.raises(FloatingPointError, match="not finite"):
            measure(KEY, WEIGHTS, batch)


@pytest.mark.slow
def test_a_network_of_400_000_parameters_converges_or_says_that_it_has_not(devices):
    rng = np.random.default_rng(4)
    sizes = (64, 512, 720, 10)
    params = {
        str(i): (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        for i, shape in enumerate(itertools.pairwise(sizes))
    }
    assert sum(leaf.size for leaf in params.values()) > 400_000
    images, labels = datasets.load_digits(return_X_y=True)
    batch = (images[:100] / 16).astype(np.float32), labels[:100]

    def loss(params, batch):
        x, labels = batch
        for i in range(3):
            x = (jnp.tanh(x) if i else x) @ params[str(i)]
        return -jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], 1)[:, 0]

    # One device: virtual ones would each do the whole of the linear algebra on the same cores.
    product = curvature.hessian_product(loss, execution=Execution(devices=devices[:1]))
    for steps in (12, 80):
        found = curvature.top_eigenpairs(product, 10, steps=steps)(KEY, params, batch)
        largest = np.abs(found.values).max()
        assert ((found.residuals <= 1e-4 * largest) == found.converged).all()
        vector, value = found.vector(9), found.values[9]
        image = product(params, batch, vector)
        difference = jax.tree.map(lambda a, v, value=value: a - value * v, image, vector)
        residual = np.sqrt(sum(np.sum(np.square(a, dtype=np.float64)) for a in jax.tree.leaves(difference)))
        np.testing.assert_allclose(found.residuals[-1], residual, rtol=0.05, atol=1e-6 * largest)
        assert found.converged.all() == (steps == 80)


def test_eigenvectors_are_pytrees_like_params():
    """``H v = lambda v`` with the product, and ``L(a v) = lambda a^2 / 2`` along them, for the leaf that is chosen."""
    params = {"w": np.zeros(SIZE, np.float32), "other": {"b": np.ones((2, 3), np.float32)}, "steps": np.int32(4)}
    batch = planted(SPECTRA["distinct"])
    chosen = curvature.Product(PRODUCT.matrix, lambda path, leaf: path[-1].key == "w", PRODUCT.execution)
    found = curvature.top_eigenpairs(chosen, 2)(KEY, params, batch)
    assert jax.tree.map(np.shape, found.vectors) == {"w": (2, SIZE), "other": {"b": (2, 2, 3)}, "steps": (2,)}
    assert not np.any(found.vectors["other"]["b"])
    for number, value in enumerate(found.values):
        vector = found.vector(number)
        image = chosen(params, batch, vector)
        assert jax.tree.structure(image) == jax.tree.structure(params)
        np.testing.assert_allclose(image["w"], value * vector["w"], atol=1e-4)
        assert not np.any(image["other"]["b"])
        np.testing.assert_array_equal(image["w"], chosen(params, batch, (vector["w"],))[0])
    plane = sharpness.loss_plane(quadratic, [0, 2], [0, 1])(params, found.vectors, batch)
    expected = (np.array([[0], [4]]) * found.values[0] + np.array([0, 1]) * found.values[1]) / 2
    np.testing.assert_allclose(plane.losses.mean, expected, atol=1e-4)
    line = sharpness.loss_plane(quadratic, [0, 2])(params, [found.vector(0)], batch)
    np.testing.assert_allclose(line.losses.mean, expected[:, 0], atol=1e-4)
    with pytest.raises(ValueError, match="number must be from 0 to 1, got 2"):
        found.vector(2)
    low, high = found.interval()
    assert ((low - 1e-4 <= [7.7, 6.7]) & (high + 1e-4 >= [7.7, 6.7])).all()
