"""Convolution whose training is fast on CPU too."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxsens.typing import Array


class Convolution(nn.Module):
    """Convolution with a bias, stride 1, zeros around, same size.

    Attributes:
        features: Channels of the output.
        kernel: Side of the kernel.
        dtype: In which it computes; parameters are float32.
    """

    features: int
    kernel: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map ``x [b h w c]`` to ``[b h w features]``; ``train`` says that a gradient will be asked for."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = (convolve_for_gradient if train else convolve)(x.astype(self.dtype), kernel.astype(self.dtype))
        return y + bias.astype(self.dtype)[None, None, None]


@jax.custom_jvp
def convolve(x: Array, kernel: Array) -> jax.Array:
    """Return the convolution of ``x [b h w c]`` with ``kernel [k k c o]``, zeros around, same size ``[b h w o]``.

    ``y[i, j] = sum_uv x[i + u - p, j + v - p] kernel[u, v]`` with ``p = (k - 1) // 2``. Its derivatives, of any order
    and in both modes, are those of ``convolve_for_gradient``.
    """
    return _convolve(x, kernel)


def convolve_for_gradient(x: Array, kernel: Array) -> jax.Array:
    """Return the same as ``convolve``, in a form that is fast on CPU where it is differentiated throughout.

    There the gradient of XLA's convolution is 10 to 100 times slower inside a compiled loop, such as an epoch of
    training or the iterations of Lanczos, than it need be.
    """
    return jax.lax.platform_dependent(x, kernel, cpu=_as_product, default=_convolve)


@convolve.defjvp
def _derivative(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    return convolve(x, kernel), convolve_for_gradient(dx, kernel) + convolve_for_gradient(x, dkernel)


def _convolve(x: Array, kernel: Array) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _as_product(x: Array, kernel: Array) -> jax.Array:
    """Lay the shifted copies side by side, and multiply them as one matrix."""
    _, height, width, _ = x.shape
    size = len(kernel)
    around = ((size - 1) // 2, size // 2)
    padded = jnp.pad(x, ((0, 0), around, around, (0, 0)))
    shifted = [padded[:, u : u + height, v : v + width] for u in range(size) for v in range(size)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
