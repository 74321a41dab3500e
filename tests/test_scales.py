"""Scales have closed forms, and a rescaled direction is as large as the weights are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import scales

RNG = np.random.default_rng(0)
WEIGHTS = (np.float32(RNG.normal(size=(3, 2, 4))), np.float32([3, -4]), np.float32(-2))
DIRECTION = tuple(np.float32(RNG.normal(size=np.shape(w))) for w in WEIGHTS)


def rms(values, axes=None):
    return np.sqrt(np.mean(np.square(values), axes))


EXPECTED = {
    scales.absolute: (1, 1, 1),
    scales.by_leaf: (rms(WEIGHTS[0]), np.sqrt(12.5), 2),
    scales.by_filter: (rms(WEIGHTS[0], (0, 1)), np.sqrt(12.5), 2),  # the last axis is that of the filters
    scales.by_element: tuple(map(np.abs, WEIGHTS)),
}


@pytest.mark.parametrize("scale", EXPECTED, ids=lambda scale: scale.__name__)
def test_scales_are_sizes_of_leaf_filter_and_element(scale):
    for found, expected, weight in zip(scale(WEIGHTS), EXPECTED[scale], WEIGHTS, strict=True):
        assert found.shape == np.shape(weight)
        np.testing.assert_allclose(found, np.broadcast_to(expected, np.shape(weight)), rtol=1e-6)


@pytest.mark.parametrize("scale", EXPECTED, ids=lambda scale: scale.__name__)
def test_a_rescaled_direction_is_as_large_as_the_weights(scale):
    rescaled = scales.rescale(DIRECTION, WEIGHTS, scale)
    if scale is scales.absolute:
        expected = DIRECTION
    else:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), scale(rescaled), scale(WEIGHTS))
        expected = jax.tree.map(lambda d, s, own: d * s / own, DIRECTION, EXPECTED[scale], scale(DIRECTION))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), rescaled, expected)


def test_zeros_give_no_nan():
    assert not np.any(scales.rescale((jnp.zeros((2, 3)),), (jnp.ones((2, 3)),), scales.by_filter)[0])
    assert not np.any(scales.rescale((jnp.ones((2, 3)),), (jnp.zeros((2, 3)),), scales.by_leaf)[0])


def test_scales_of_small_float16_weights_do_not_vanish():
    weights = (jnp.full((4, 3), 1e-4, jnp.float16),)
    for scale in EXPECTED:
        assert scale(weights)[0].dtype == jnp.float16
    for scale in (scales.by_leaf, scales.by_filter):
        np.testing.assert_allclose(scale(weights)[0], 1e-4, rtol=1e-2)
        (rescaled,) = scales.rescale((jnp.ones((4, 3), jnp.float16),), weights, scale)
        np.testing.assert_allclose(rescaled, 1e-4, rtol=1e-2)
