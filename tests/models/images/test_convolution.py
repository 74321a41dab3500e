import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.models.images import convolution


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_product_is_the_convolution(size):
    """Values, gradients and their derivative; those of XLA's convolution against what is computed in their place."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 6, 5, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, 3, 4)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(2, 6, 5, 4)), jnp.float32)

    def derivatives(f):
        gradient = jax.value_and_grad(lambda x, k: jnp.sum(weights * f(x, k) ** 2), argnums=(0, 1))
        return jax.jvp(gradient, (x, kernel), (x[::-1], kernel[::-1]))

    native = derivatives(convolution._convolve)
    for f in (convolution.convolve, convolution._as_product):
        for a, b in zip(jax.tree.leaves(native), jax.tree.leaves(derivatives(f)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max())
    np.testing.assert_array_equal(convolution.convolve_for_gradient(x, kernel), convolution._as_product(x, kernel))
    np.testing.assert_array_equal(convolution.convolve(x, kernel), convolution._convolve(x, kernel))


@pytest.mark.parametrize(("size", "padding"), [(3, None), (1, None), (2, ((0, 0), (2, 1)))])
def test_a_stride_leaves_out_outputs(size, padding):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 7, 6, 3)), rng.normal(size=(size, size, 3, 4))
    every = convolution.convolve(x, kernel, 1, padding)[:, ::2, ::2]
    for convolve in (convolution.convolve, convolution.convolve_for_gradient):
        strided = jax.jit(convolve, static_argnums=(2, 3))(x, kernel, 2, padding)
        np.testing.assert_allclose(strided, every, rtol=1e-4, atol=1e-4)


def test_a_shift_of_the_image_shifts_the_result():
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, 2, 0, 0].set(1)  # reads the pixel above and to the right
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    expected = jnp.zeros_like(x).at[:, 1:, :-1].set(x[:, :-1, 1:])
    for convolve in (convolution.convolve, convolution.convolve_for_gradient):
        np.testing.assert_array_equal(convolve(x, kernel), expected)
