"""Norms, steepest directions and projections, also where squares would overflow or vanish."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import norm_balls

POINT = (jnp.float32([3, 0]), jnp.float32(-4))


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_norms_and_directions_are_guarded(factor):
    point = tuple(np.float32(factor) * leaf for leaf in POINT)
    np.testing.assert_allclose(norm_balls.norm(point, "l2"), 5 * factor, rtol=1e-6)
    np.testing.assert_allclose(norm_balls.norm(point, "linf"), 4 * factor, rtol=1e-6)
    for norm, expected in (("l2", ([0.6, 0], -0.8)), ("linf", ([1, 0], -1))):
        for found, right in zip(norm_balls.steepest_direction(point, norm), expected, strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-6)
        for found in norm_balls.steepest_direction(tuple(0 * leaf for leaf in point), norm):
            np.testing.assert_array_equal(found, 0)


def test_directions_of_subnormal_numbers_are_those_of_normal_ones():
    """XLA takes such numbers for 0 in arithmetic on a CPU."""
    point = (np.float32([3e-40, 0]), np.float32(-4e-40))
    for norm, expected in (("l2", ([0.6, 0], -0.8)), ("linf", ([1, 0], -1))):
        for found, right in zip(jax.jit(norm_balls.steepest_direction, static_argnums=1)(point, norm), expected):
            np.testing.assert_allclose(found, right, rtol=1e-4)


def test_projection_is_onto_the_ball_and_keeps_its_points():
    for norm, expected in (("l2", ([1.5, 0], -2)), ("linf", ([2.5, 0], -2.5))):
        for found, right in zip(norm_balls.project(POINT, 2.5, norm), expected, strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-6)
        for radius, factor in ((6, 1), (0, 0)):
            for found, right in zip(norm_balls.project(POINT, radius, norm), POINT, strict=True):
                np.testing.assert_array_equal(found, factor * right)
        np.testing.assert_array_equal(norm_balls.project((jnp.zeros(2),), 0, norm)[0], 0)


def test_an_unknown_norm_is_named():
    with pytest.raises(ValueError, match=r"norm must be one of \('l2', 'linf'\), got 'l1'"):
        norm_balls.require_norm("l1")


@pytest.mark.parametrize("largest", [1e-3, 1e-5, 6e-8, 6e4])
def test_norms_of_float16_are_those_of_float32(largest):
    """The reciprocal of 1e-5, and the square of 6e4, are beyond float16."""
    point = (jnp.float16([0.5 * largest, largest]),)
    exact = np.asarray(point[0], np.float64)
    np.testing.assert_allclose(norm_balls.norm(point, "l2"), np.linalg.norm(exact), rtol=1e-6)
    (direction,) = jax.jit(norm_balls.steepest_direction, static_argnums=1)(point, "l2")
    assert direction.dtype == jnp.float16
    np.testing.assert_allclose(direction, exact / np.linalg.norm(exact), rtol=1e-3)
    (projected,) = norm_balls.project(point, np.float32(largest / 2), "l2")
    np.testing.assert_allclose(projected, exact / np.linalg.norm(exact) * largest / 2, rtol=2e-3, atol=6e-8)
