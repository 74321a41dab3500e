"""DenseNet (Huang et al. 2017, arXiv 1608.06993) at the size of CIFAR images: a stem of kernel 3 and stride 1."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxsens.models.common import ImageConfig, as_sizes, require, require_positive
from jaxsens.models.images.convolution import Convolution, ConvolutionalNetwork
from jaxsens.models.images.windows import WHOLE, ReceptiveField, Region

__all__ = ["VARIANTS", "Config", "DenseLayer", "DenseNet"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Sizes of a DenseNet with bottlenecks and halved transitions, in addition to the fields of every image model.

    Attributes:
        growth: Channels that each layer adds to those that it reads.
        blocks: Layers of each block; between two blocks, height, width and channels are halved.
        bottleneck: Channels within a layer, in multiples of ``growth``.

    Raises:
        ValueError: If a size is not a positive integer, there is no block, or the image is too small for so many.

    Example:
        >>> Config(image_shape=(32, 32, 3), classes=10, patch=4).blocks
        (6, 12, 24, 16)
    """

    growth: int = 32
    blocks: tuple[int, ...] = (6, 12, 24, 16)
    bottleneck: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "blocks", as_sizes("blocks", self.blocks))
        require_positive(growth=self.growth, bottleneck=self.bottleneck)
        side = (min(self.image_shape[:2]) + 1) // 2
        most = side.bit_length()
        allowed = f"the layers of 1 to {most} blocks, between which a side of {side} pixels is halved"
        require(0 < len(self.blocks) <= most, "blocks", self.blocks, allowed)


VARIANTS = {"small": partial(Config, growth=12, blocks=(3, 3, 3)), "paper": Config}
"""Configurations by name, each a function of the fields of ``ImageConfig``; ``paper`` is DenseNet-121.

Vasudeva et al. (ICLR 2025), App. D, trained that of a collection of models for CIFAR-10: the stem has kernel 3 and
stride 1 in place of 7 and 2, and the max-pooling after it is kept."""

_POOL = ReceptiveField(kernel=3, stride=2, before=1, behind=1)
_HALVE = ReceptiveField(kernel=2, stride=2)


class DenseNet(ConvolutionalNetwork):
    """A convolution and max-pooling, blocks of dense layers, mean over the image, linear head.

    Example:
        >>> import numpy as np
        >>> from jaxsens import models
        >>> module = models.build("densenet", "small", image_shape=(8, 8, 1), classes=3, patch=4)
        >>> tokens = np.zeros((5, 4, 16), np.float32)
        >>> type(module).__name__, jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)[0].shape
        ('DenseNet', (5, 3))
    """

    config: Config

    @nn.compact
    def from_pixels(self, x: jax.Array, region: Region = WHOLE, *, train: bool = False) -> jax.Array:
        """Map pixels ``[b h w c]`` at ``region`` to logits ``[b classes]``."""
        config = self.config
        stem = Convolution(2 * config.growth, 3, config.dtype, use_bias=False, name="stem")
        x, region = stem(x, region, train=train), region.after(stem.receptive_field)
        x = nn.relu(_normalization(config, train, "stem_norm")(x))
        x, padding = region.read(x, _POOL, region.after(_POOL), "stem_pool")
        # Zeros around the image change no maximum, since nothing is below zero.
        x, region = nn.max_pool(jnp.pad(x, ((0, 0), *padding, (0, 0))), (3, 3), (2, 2)), region.after(_POOL)
        for block, layers in enumerate(config.blocks):
            if block > 0:
                x = nn.relu(_normalization(config, train, f"transition_norm_{block}")(x))
                x = _pointwise(config, x.shape[-1] // 2, f"transition_{block}")(x)
                x, _ = region.read(x, _HALVE, region.after(_HALVE), f"pool_{block}")
                x, region = nn.avg_pool(x, (2, 2), (2, 2)), region.after(_HALVE)
            for index in range(layers):
                x, region = DenseLayer(config, name=f"layer_{block}_{index}")(x, region, train=train)
        x = nn.relu(_normalization(config, train, "norm")(x))
        x = region.whole(x, "features").mean(axis=(1, 2))
        return nn.Dense(config.classes, dtype=config.logits_dtype, name="head")(x)


class DenseLayer(nn.Module):
    """A layer that adds channels: ``[x, conv3(relu(norm(conv1(relu(norm(x))))))]``, with kernels of 1 and 3.

    Example:
        >>> from jaxsens import models
        >>> config = models.build("densenet", "small", image_shape=(8, 8, 1), classes=3, patch=4).config
        >>> DenseLayer(config).config.growth
        12
    """

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array, region: Region = WHOLE, *, train: bool) -> tuple[jax.Array, Region]:
        """Map ``x [b h w c]`` at ``region`` to ``[b h w c + growth]``, and return the region of that."""
        config = self.config
        y = nn.relu(_normalization(config, train, "norm_0")(x))
        y = _pointwise(config, config.bottleneck * config.growth, "bottleneck")(y)
        y = nn.relu(_normalization(config, train, "norm_1")(y))
        convolution = Convolution(config.growth, 3, config.dtype, use_bias=False, name="convolution")
        after = region.after(convolution.receptive_field)
        y = convolution(y, region, after, train=train)
        x, _ = region.read(x, ReceptiveField(), after, "/".join((*self.path, "kept")))
        return jnp.concatenate([x, y], axis=-1), after


def _pointwise(config: Config, features: int, name: str) -> nn.Dense:
    """Return a convolution of kernel 1, which is a product with every pixel."""
    return nn.Dense(features, use_bias=False, dtype=config.dtype, name=name)


def _normalization(config: Config, train: bool, name: str) -> nn.Module:
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, use_fast_variance=False, dtype=config.dtype, name=name
    )


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
