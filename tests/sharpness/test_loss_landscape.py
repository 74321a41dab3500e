"""Loss planes are the loss where they say it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import scales
from jaxsens.execution import Execution
from jaxsens.sharpness import loss_landscape

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
PARAMS = {"w": RNG.normal(size=(3, 2)).astype(np.float32), "b": np.float32([0.5, -2]), "steps": np.int32(3)}
X = RNG.normal(size=(7, 3)).astype(np.float32)


def loss(params, x):
    return ((x @ params["w"] + params["b"][None]) ** 2).sum(1)


def test_filter_normalized_directions_have_the_norms_of_the_weights():
    first, second = loss_landscape.random_directions(KEY, PARAMS, 2)
    for direction in (first, second):
        np.testing.assert_allclose(
            np.linalg.norm(direction["w"], axis=0), np.linalg.norm(PARAMS["w"], axis=0), rtol=1e-5
        )
        np.testing.assert_allclose(np.linalg.norm(direction["b"]), np.linalg.norm(PARAMS["b"]), rtol=1e-5)
        assert direction["steps"] == 0
    assert not np.allclose(first["w"], second["w"])
    (only,) = loss_landscape.random_directions(
        KEY, PARAMS, 1, scale=scales.absolute, where=lambda path, leaf: path[-1].key == "w"
    )
    assert not only["b"].any()
    assert only["w"].std() > 0.3


def test_a_plane_is_the_loss_at_its_points():
    directions = loss_landscape.random_directions(KEY, PARAMS, 2)
    measure = loss_landscape.loss_plane(loss, [-1, 0, 0.5], [0, 2], execution=Execution(chunk=3))
    found = measure(PARAMS, directions, X)
    assert found.losses.mean.shape == found.losses.sem.shape == (3, 2)
    for i, a in enumerate([-1, 0, 0.5]):
        for j, b in enumerate([0, 2]):
            moved = {n: PARAMS[n] + a * directions[0][n] + b * directions[1][n] for n in ("w", "b")}
            np.testing.assert_allclose(found.losses.values[:, i, j], loss(moved, X), rtol=1e-4)
    np.testing.assert_allclose(found.losses.mean[1, 0], loss(PARAMS, X).mean(), rtol=1e-6)
    np.testing.assert_array_equal(found.coordinates[0], [-1, 0, 0.5])


def test_small_steps_of_narrow_weights_are_not_rounded_away():
    narrow = PARAMS | {"w": jnp.asarray(PARAMS["w"], jnp.bfloat16)}
    wide = PARAMS | {"w": np.asarray(narrow["w"], np.float32)}
    directions = loss_landscape.random_directions(KEY, narrow, 1)
    line = loss_landscape.loss_plane(loss, [0, 1e-3])
    found, expected = (line(params, directions, X).losses.values for params in (narrow, wide))
    np.testing.assert_array_equal(found, expected)
    assert (np.diff(found, axis=1) != 0).all()


def test_a_line_between_two_checkpoints_ends_at_both():
    other = jax.tree.map(lambda a: a + 1, PARAMS)
    direction = jax.tree.map(lambda a, b: b - a, PARAMS, other)
    found = loss_landscape.loss_plane(loss, np.linspace(0, 1, 3))(PARAMS, [direction], X)
    for end, params in ((0, PARAMS), (-1, other)):
        np.testing.assert_allclose(found.losses.mean[end], loss(params, X).mean(), rtol=1e-5)


def test_bad_arguments_are_named():
    masked = np.ma.masked_array([0.0, 1.0], [0, 1])
    for coordinates in ((), ([0, np.nan],), ([[0]],), ([],), (0.5,), (["a"],), ([True],), ([[1], [1, 2]],), (masked,)):
        with pytest.raises(ValueError, match="coordinates must be finite vectors"):
            loss_landscape.loss_plane(loss, *coordinates)
    with pytest.raises(ValueError, match=r"directions must be a list of pytrees like params, or one .* got a dict"):
        loss_landscape.loss_plane(loss, [0])(PARAMS, PARAMS, X)
    with pytest.raises(ValueError, match="threefry2x32, got rbg"):
        loss_landscape.random_directions(jax.random.key(0, impl="rbg"), PARAMS, 1)
    with pytest.raises(ValueError, match="count must be an integer of at least 1 direction"):
        loss_landscape.random_directions(KEY, PARAMS, 0)
    with pytest.raises(ValueError, match="no real floating-point leaf to move"):
        loss_landscape.random_directions(KEY, PARAMS, 1, where=lambda path, leaf: False)
    line = loss_landscape.loss_plane(loss, [0, 1e30])
    with pytest.raises(ValueError, match="directions must be as many as there are vectors of coordinates, 1, got 2"):
        line(PARAMS, [PARAMS, PARAMS], X)
    for wrong in ({"w": PARAMS["w"]}, PARAMS | {"w": PARAMS["w"].T}):
        with pytest.raises(ValueError, match=r"directions\[0\] must be a pytree like params"):
            line(PARAMS, [wrong], X)
    with pytest.raises(ValueError, match="one number for an example"):
        loss_landscape.loss_plane(lambda p, x: x @ p["w"], [0])(PARAMS, [PARAMS], X)
    with pytest.raises(FloatingPointError, match=r"loss is inf at coordinates \[1e\+30\] for example 0"):
        line(PARAMS, [PARAMS], X)
