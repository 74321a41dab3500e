"""ConvMixer (Trockman and Kolter 2022, arXiv 2201.09792): convolutions on patches, without pooling between layers."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxsens.data.patches import to_patches
from jaxsens.models.common import ImageConfig, require, require_positive
from jaxsens.models.images.convolution import ConvolutionalNetwork
from jaxsens.models.images.windows import WHOLE, Padding, ReceptiveField, Region
from jaxsens.models.transformer import gelu

__all__ = ["VARIANTS", "Config", "ConvMixer", "Depthwise", "convolve_depthwise"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Sizes of a ConvMixer, in addition to the fields of every image model.

    Attributes:
        width: Channels.
        depth: Number of blocks.
        kernel: Side of the depthwise convolutions' kernels.
        stem: Side of the patches that the first layer embeds, in pixels; the tokens' ``patch`` if None. A smaller one
            keeps a finer grid for tiny images.

    Raises:
        ValueError: If a size is not a positive integer, or the stem does not divide the image.

    Example:
        >>> Config(image_shape=(32, 32, 3), classes=10, patch=4, width=128, depth=6).stem_patch
        4
    """

    width: int
    depth: int
    kernel: int = 3
    stem: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(width=self.width, depth=self.depth, kernel=self.kernel, stem=self.stem_patch)
        height, width, _ = self.image_shape
        divides = height % self.stem_patch == 0 and width % self.stem_patch == 0
        require(divides, "stem", self.stem, f"a divisor of the image's height {height} and width {width}")

    @property
    def stem_patch(self) -> int:
        """Side of the patches that the first layer embeds."""
        return self.patch if self.stem is None else self.stem


# Vasudeva et al. (ICLR 2025), App. D, on CIFAR-10; its stem is not stated.
VARIANTS = {"small": partial(Config, width=64, depth=4), "paper": partial(Config, width=128, depth=6)}
"""Configurations by name, each a function of the fields of ``ImageConfig``."""


class ConvMixer(ConvolutionalNetwork):
    """Patch embedding, ``depth`` blocks, mean over the grid, linear head; every activation is batch-normalized.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("convmixer", "small", image_shape=(8, 8, 1), classes=3, patch=4)
        >>> tokens = np.zeros((5, 4, 16), np.float32)
        >>> type(module).__name__, jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)[0].shape
        ('ConvMixer', (5, 3))
    """

    config: Config

    @nn.compact
    def from_pixels(self, x: jax.Array, region: Region = WHOLE, *, train: bool = False) -> jax.Array:
        """Map pixels ``[b h w c]`` at ``region`` to logits ``[b classes]``."""
        config = self.config
        stem = ReceptiveField(kernel=config.stem_patch, stride=config.stem_patch)
        after = region.after(stem)
        x, _ = region.read(x, stem, after, "stem")
        grid = (x.shape[1] // config.stem_patch, x.shape[2] // config.stem_patch)
        # A convolution whose stride is its kernel is a matrix product with each patch.
        x = nn.Dense(config.width, dtype=config.dtype, name="stem")(to_patches(x, config.stem_patch))
        x = self._activate(x.reshape(len(x), *grid, config.width), "stem_norm", train)
        for index in range(config.depth):
            region = after
            depthwise = Depthwise(config.width, config.kernel, config.dtype, name=f"depthwise_{index}")
            after = region.after(depthwise.receptive_field)
            x, padding = region.read(x, depthwise.receptive_field, after, depthwise.name)
            y = self._activate(depthwise(x, padding), f"depthwise_norm_{index}", train)
            x = y + depthwise.receptive_field.center(x, padding)
            x = nn.Dense(config.width, dtype=config.dtype, name=f"pointwise_{index}")(x)
            x = self._activate(x, f"pointwise_norm_{index}", train)
        x = after.whole(x, "features").mean(axis=(1, 2))
        return nn.Dense(config.classes, dtype=config.logits_dtype, name="head")(x)

    def _activate(self, x: jax.Array, name: str, train: bool) -> jax.Array:
        norm = nn.BatchNorm(
            use_running_average=not train, momentum=0.9, use_fast_variance=False, dtype=self.config.dtype, name=name
        )
        return norm(gelu(x))


class Depthwise(nn.Module):
    """Depthwise convolution with a bias, one kernel for each channel.

    Attributes:
        features: Channels.
        kernel: Side of the kernels.
        dtype: In which it computes; parameters are float32.
        kernel_init: The initializer of the kernels.

    Example:
        >>> Depthwise(features=2, kernel=3, dtype=jnp.float32).receptive_field.kernel
        3
    """

    features: int
    kernel: int
    dtype: jnp.dtype
    kernel_init: Callable[..., jax.Array] = nn.initializers.lecun_normal()

    @property
    def receptive_field(self) -> ReceptiveField:
        """The pixels that an output reads."""
        return ReceptiveField.centered(self.kernel)

    @nn.compact
    def __call__(self, x: jax.Array, padding: Padding) -> jax.Array:
        """Map ``x [b h w c]``, to which ``padding`` is added, to the outputs at its pixels."""
        kernel = self.param("kernel", self.kernel_init, (self.kernel, self.kernel, 1, self.features))
        bias = self.param("bias", nn.initializers.zeros, (1, 1, 1, self.features))
        return convolve_depthwise(x, kernel.astype(self.dtype), padding) + bias.astype(self.dtype)


def convolve_depthwise(x: jax.Array, kernel: jax.Array, padding: Padding | None = None) -> jax.Array:
    """Return the depthwise convolution of ``x [b h w c]`` with ``kernel [k k 1 c]``, zeros around, same size.

    ``y[i, j] = sum_uv kernel[u, v] x[i + u - p, j + v - p]`` with p zeros before the first row and column, by default
    ``(k - 1) // 2`` before and ``k // 2`` behind. It is computed as a weighted sum of shifted copies, which XLA fuses
    into one loop; XLA's grouped convolution is many times slower on CPU.

    Example:
        >>> convolve_depthwise(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1))).ravel().tolist()
        [4.0, 4.0, 4.0, 4.0]
    """
    padding = padding or ReceptiveField.centered(len(kernel)).padding
    return (_sum_of_shifts if len(kernel) <= _SMALL else _large_kernel)(x, kernel, padding)


_SMALL = 3
"""The largest side of a kernel whose sum of shifted copies compiles quickly with its derivatives, too."""


def _sum_of_shifts(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    size = len(kernel)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (extent - size + 1 for extent in padded.shape[1:3])
    return sum(
        padded[:, row : row + height, column : column + width] * kernel[None, row : row + 1, column : column + 1, 0]
        for row in range(size)
        for column in range(size)
    )


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _large_kernel(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return the sum of shifted copies, with the derivatives of the form that loops over the kernel's rows."""
    return _sum_of_shifts(x, kernel, padding)


@_large_kernel.defjvp
def _derivative(
    padding: Padding, primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    return _large_kernel(x, kernel, padding), _row_by_row(dx, kernel, padding) + _row_by_row(x, dkernel, padding)


def _row_by_row(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return the same sum, one row of the kernel at a time: its gradient compiles in a fourth of the time."""
    size = len(kernel)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (extent - size + 1 for extent in padded.shape[1:3])

    def add(y: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        row, weights = at
        strip = jax.lax.dynamic_slice_in_dim(padded, row, height, axis=1)
        shifts = (strip[:, :, v : v + width] * weights[None, None, v : v + 1] for v in range(size))
        return y + sum(shifts), None

    zeros = jnp.zeros((len(x), height, width, x.shape[3]), jnp.result_type(x, kernel))
    return jax.lax.scan(add, zeros, (jnp.arange(size), kernel[:, :, 0]))[0]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
