"""ResNet (He et al. 2016, arXiv 1512.03385) at the size of CIFAR images: a stem of kernel 3, no pooling after it."""

import dataclasses
from functools import partial

import jax
from flax import linen as nn

from jaxsens.models.common import ImageConfig, as_sizes, require, require_positive
from jaxsens.models.images.convolution import Convolution, ConvolutionalNetwork
from jaxsens.models.images.windows import WHOLE, ReceptiveField, Region

__all__ = ["VARIANTS", "Block", "Config", "ResNet"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Sizes of a ResNet of basic blocks, in addition to the fields of every image model.

    Attributes:
        width: Channels of the first stage; each further stage doubles them, and halves height and width.
        blocks: Blocks of each stage; two in each of four make ResNet-18.

    Raises:
        ValueError: If a size is not a positive integer, or there is no stage.

    Example:
        >>> Config(image_shape=(32, 32, 3), classes=10, patch=4).blocks
        (2, 2, 2, 2)
    """

    width: int = 64
    blocks: tuple[int, ...] = (2, 2, 2, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "blocks", as_sizes("blocks", self.blocks))
        require(len(self.blocks) > 0, "blocks", self.blocks, "the number of blocks of at least one stage")
        require_positive(width=self.width)


VARIANTS = {"small": partial(Config, width=16), "paper": Config}
"""Configurations by name, each a function of the fields of ``ImageConfig``; ``paper`` is ResNet-18."""


class ResNet(ConvolutionalNetwork):
    """A convolution, stages of basic blocks, mean over the image, linear head.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("resnet", "small", image_shape=(8, 8, 1), classes=3, patch=4)
        >>> tokens = np.zeros((5, 4, 16), np.float32)
        >>> type(module).__name__, jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)[0].shape
        ('ResNet', (5, 3))
    """

    config: Config

    @nn.compact
    def from_pixels(self, x: jax.Array, region: Region = WHOLE, *, train: bool = False) -> jax.Array:
        """Map pixels ``[b h w c]`` at ``region`` to logits ``[b classes]``."""
        config = self.config
        stem = Convolution(config.width, 3, config.dtype, use_bias=False, name="stem")
        x, region = stem(x, region, train=train), region.after(stem.receptive_field)
        x = nn.relu(_normalization(config, train, "stem_norm")(x))
        for stage, blocks in enumerate(config.blocks):
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                block = Block(config, config.width << stage, stride, name=f"block_{stage}_{index}")
                x, region = block(x, region, train=train)
        x = region.whole(x, "features").mean(axis=(1, 2))
        return nn.Dense(config.classes, dtype=config.logits_dtype, name="head")(x)


class Block(nn.Module):
    """A basic block: ``relu(x + norm(conv(relu(norm(conv(x))))))``, with kernels of 3.

    If the size changes, the shortcut is a convolution of kernel 1 and a normalization.

    Example:
        >>> from jaxsens import models
        >>> config = models.build("resnet", "small", image_shape=(8, 8, 1), classes=3, patch=4).config
        >>> Block(config, features=4, stride=2).stride
        2
    """

    config: Config
    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, region: Region = WHOLE, *, train: bool) -> tuple[jax.Array, Region]:
        """Map ``x [b h w c]`` at ``region`` to ``[b h/stride w/stride features]``, and return the region of that."""
        convolution = partial(Convolution, features=self.features, dtype=self.config.dtype, use_bias=False)
        normalization = partial(_normalization, self.config, train)
        first = convolution(kernel=3, stride=self.stride, name="convolution_0")
        second = convolution(kernel=3, name="convolution_1")
        middle = region.after(first.receptive_field)
        after = middle.after(second.receptive_field)
        y = nn.relu(normalization("norm_0")(first(x, region, train=train)))
        y = normalization("norm_1")(second(y, middle, train=train))
        if self.stride == 1 and x.shape[-1] == self.features:
            x, _ = region.read(x, ReceptiveField(), after, "/".join((*self.path, "shortcut")))
        else:
            shortcut = convolution(kernel=1, stride=self.stride, name="shortcut")
            x = normalization("shortcut_norm")(shortcut(x, region, after, train=train))
        return nn.relu(x + y), after


def _normalization(config: Config, train: bool, name: str) -> nn.Module:
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, use_fast_variance=False, dtype=config.dtype, name=name
    )


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
