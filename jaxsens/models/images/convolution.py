"""The base class of convolutional networks, and a convolution whose gradient is also fast on CPU."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxsens.data.patches import from_patches
from jaxsens.models.common import ImageConfig, read_tokens
from jaxsens.models.images.windows import WHOLE, Padding, ReceptiveField, Region
from jaxsens.typing import Array

__all__ = ["Convolution", "ConvolutionalNetwork", "convolve", "convolve_for_gradient"]


class ConvolutionalNetwork(nn.Module):
    """A classifier of the image that its tokens make up. A subclass maps pixels to logits, in ``from_pixels``.

    A plain evaluation leaves ``region`` as it is: whole images. ``models.substitution.convolutional`` evaluates the
    same method on windows around a change.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("cnn", "small", image_shape=(4, 4, 1), classes=3, patch=2)
        >>> isinstance(module, ConvolutionalNetwork)
        True
    """

    config: ImageConfig

    def __call__(self, tokens: Array, mask: Array | None = None, *, train: bool = False) -> jax.Array:
        """Map ``tokens [b t d]`` and ``mask [b t]`` to logits ``[b classes]``; padding counts as zero pixels."""
        config = self.config
        pixels = from_patches(read_tokens(config, tokens, mask), config.patch, config.image_shape)
        return self.from_pixels(pixels, train=train)

    def from_pixels(self, x: jax.Array, region: Region = WHOLE, *, train: bool = False) -> jax.Array:
        """Map pixels ``[b h w c]`` at ``region`` to logits ``[b classes]``."""
        raise NotImplementedError


class Convolution(nn.Module):
    """Convolution with zeros around: as many outputs as pixels, or every ``stride``-th of them.

    Attributes:
        features: Channels of the output.
        kernel: Side of the kernel.
        dtype: In which it computes; parameters are float32.
        stride: Pixels from one output to the next.
        use_bias: Whether it has a bias.

    Example:
        >>> module = Convolution(features=2, kernel=3, dtype=jnp.float32, stride=2)
        >>> x = np.zeros((1, 4, 4, 1), np.float32)
        >>> jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), x, train=False)[0]).shape
        (1, 2, 2, 2)
    """

    features: int
    kernel: int
    dtype: jnp.dtype
    stride: int = 1
    use_bias: bool = True

    @property
    def receptive_field(self) -> ReceptiveField:
        """The pixels that an output reads."""
        return ReceptiveField.centered(self.kernel, self.stride)

    @nn.compact
    def __call__(self, x: jax.Array, region: Region = WHOLE, after: Region | None = None, *, train: bool) -> jax.Array:
        """Map ``x [b h w c]`` to ``[b h' w' features]``, from ``region`` to ``after``.

        Without ``after``, the outputs cover all that a change reaches. ``train`` selects the form with a
        fast gradient.
        """
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else None
        field = self.receptive_field
        x, padding = region.read(x.astype(self.dtype), field, after or region.after(field), "/".join(self.path))
        y = (convolve_for_gradient if train else convolve)(x, kernel, self.stride, padding)
        return y if bias is None else y + bias.astype(self.dtype)[None, None, None]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def convolve(x: Array, kernel: Array, stride: int = 1, padding: Padding | None = None) -> jax.Array:
    """Return the convolution of ``x [b h w c]`` with ``kernel [k k c o]``, as ``[b h' w' o]``.

    ``y[i, j] = sum_uv x[s i + u - p, s j + v - p] kernel[u, v]`` with the stride s and p zeros before the first row and
    column. Without ``padding`` there are ``(k - 1) // 2`` before and ``k // 2`` behind, so that a stride of 1 keeps the
    size. Its derivatives, of any order and in both modes, are those of ``convolve_for_gradient``.

    Example:
        >>> x, kernel = np.zeros((1, 4, 4, 1), np.float32), np.zeros((3, 3, 1, 2), np.float32)
        >>> jax.eval_shape(lambda x, kernel: convolve(x, kernel, 2), x, kernel).shape
        (1, 2, 2, 2)
    """
    return _convolve(x, kernel, stride, padding)


def convolve_for_gradient(x: Array, kernel: Array, stride: int = 1, padding: Padding | None = None) -> jax.Array:
    """Return the same as ``convolve``, in a form that is fast on CPU where it is differentiated throughout.

    On CPU the gradient of XLA's convolution is 10 to 100 times slower than this form inside a compiled loop, such as
    an epoch of training or the iterations of Lanczos.

    Example:
        >>> x, kernel = np.zeros((1, 4, 4, 1), np.float32), np.zeros((3, 3, 1, 2), np.float32)
        >>> jax.eval_shape(convolve_for_gradient, x, kernel).shape
        (1, 4, 4, 2)
    """
    forms = (functools.partial(form, stride=stride, padding=padding) for form in (_as_product, _convolve))
    product, native = forms
    return jax.lax.platform_dependent(x, kernel, cpu=product, default=native)


@convolve.defjvp
def _derivative(
    stride: int, padding: Padding | None, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    by_x = convolve_for_gradient(dx, kernel, stride, padding)
    return convolve(x, kernel, stride, padding), by_x + convolve_for_gradient(x, dkernel, stride, padding)


def _convolve(x: Array, kernel: Array, stride: int = 1, padding: Padding | None = None) -> jax.Array:
    padding = padding or ReceptiveField.centered(len(kernel)).padding
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _as_product(x: Array, kernel: Array, stride: int = 1, padding: Padding | None = None) -> jax.Array:
    """Lay the shifted copies side by side, and multiply them as one matrix."""
    size = len(kernel)
    padded = jnp.pad(x, ((0, 0), *(padding or ReceptiveField.centered(size).padding), (0, 0)))
    height, width = (extent - size + 1 for extent in padded.shape[1:3])
    shifted = [padded[:, u : u + height : stride, v : v + width : stride] for u in range(size) for v in range(size)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
