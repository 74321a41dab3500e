"""ConvMixer (Trockman and Kolter 2022, arXiv 2201.09792): convolutions on patches, without pooling between layers."""

import dataclasses
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
            depthwise = Depthwise(config, name=f"depthwise_{index}")
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

    Example:
        >>> from jaxsens import models
        >>> config = models.build("convmixer", "small", image_shape=(8, 8, 1), classes=3, patch=4).config
        >>> Depthwise(config).receptive_field.kernel == config.kernel
        True
    """

    config: Config

    @property
    def receptive_field(self) -> ReceptiveField:
        """The pixels that an output reads."""
        return ReceptiveField.centered(self.config.kernel)

    @nn.compact
    def __call__(self, x: jax.Array, padding: Padding) -> jax.Array:
        """Map ``x [b h w c]``, to which ``padding`` is added, to the outputs at its pixels."""
        config = self.config
        shape = (config.kernel, config.kernel, 1, config.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (1, 1, 1, config.width))
        return convolve_depthwise(x, kernel.astype(config.dtype), padding) + bias.astype(config.dtype)


def convolve_depthwise(x: jax.Array, kernel: jax.Array, padding: Padding | None = None) -> jax.Array:
    """Return the depthwise convolution of ``x [b h w c]`` with ``kernel [k k 1 c]``, zeros around, same size.

    ``y[i, j] = sum_uv kernel[u, v] x[i + u - p, j + v - p]`` with p zeros before the first row and column, by default
    ``(k - 1) // 2`` before and ``k // 2`` behind. It is computed as a weighted sum of shifted copies, which XLA fuses
    into one loop; XLA's grouped convolution is many times slower on CPU.

    Example:
        >>> convolve_depthwise(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1))).ravel().tolist()
        [4.0, 4.0, 4.0, 4.0]
    """
    size = len(kernel)
    padded = jnp.pad(x, ((0, 0), *(padding or ReceptiveField.centered(size).padding), (0, 0)))
    height, width = (extent - size + 1 for extent in padded.shape[1:3])
    return sum(
        padded[:, row : row + height, column : column + width] * kernel[None, row : row + 1, column : column + 1, 0]
        for row in range(size)
        for column in range(size)
    )


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
