"""Convolutional network with pooling: the convolutional baseline of Vasudeva et al. on Fashion-MNIST."""

import dataclasses

import jax
from flax import linen as nn

from jaxsens.models.common import ImageConfig, as_sizes, require, require_positive
from jaxsens.models.images.convolution import Convolution, ConvolutionalNetwork
from jaxsens.models.images.windows import WHOLE, ReceptiveField, Region

__all__ = ["CNN", "VARIANTS", "Config"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Sizes of a convolutional network, in addition to the fields of every image model.

    Vasudeva et al. (ICLR 2025), App. D, use two convolutions of 32 channels, kernel 3, with max-pooling, and two fully
    connected layers of 128, and call it a network of three hidden layers. Both hold if the second fully connected layer
    is the read-out, from 128 to the classes; the defaults are that.

    Attributes:
        channels: Channels of the convolutions; each is followed by ReLU and max-pooling that halves height and width.
        kernel: Side of the convolutions' kernels.
        hidden: Widths of the fully connected hidden layers.

    Raises:
        ValueError: If a size is not a positive integer, or pooling would reduce the image to nothing.

    Example:
        >>> Config(image_shape=(28, 28, 1), classes=10, patch=4).channels
        (32, 32)
    """

    channels: tuple[int, ...] = (32, 32)
    kernel: int = 3
    hidden: tuple[int, ...] = (128,)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("channels", "hidden"):
            object.__setattr__(self, name, as_sizes(name, getattr(self, name)))
        require_positive(kernel=self.kernel)
        side = min(self.image_shape[:2])
        allowed = f"at most {side.bit_length() - 1} layers, since each halves a side of {side} pixels"
        require(side >> len(self.channels) > 0, "channels", self.channels, allowed)


VARIANTS = {"small": Config, "paper": Config}
"""Configurations by name, each a function of the fields of ``ImageConfig``; the paper's network is small."""


class CNN(ConvolutionalNetwork):
    """Convolution, ReLU and max-pooling, repeated; then dense layers with ReLU, and a linear head.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("cnn", "small", image_shape=(8, 8, 1), classes=3, patch=4)
        >>> tokens = np.zeros((5, 4, 16), np.float32)
        >>> type(module).__name__, jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)[0].shape
        ('CNN', (5, 3))
    """

    config: Config

    @nn.compact
    def from_pixels(self, x: jax.Array, region: Region = WHOLE, *, train: bool = False) -> jax.Array:
        """Map pixels ``[b h w c]`` at ``region`` to logits ``[b classes]``."""
        config = self.config
        for layer, channels in enumerate(config.channels):
            convolve = Convolution(channels, config.kernel, config.dtype, name=f"convolution_{layer}")
            x, region = nn.relu(convolve(x, region, train=train)), region.after(convolve.receptive_field)
            x, region = region.read(x, _HALVE, region.after(_HALVE), f"pool_{layer}")[0], region.after(_HALVE)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = region.whole(x, "features").reshape(len(x), -1)
        for layer, width in enumerate(config.hidden):
            x = nn.relu(nn.Dense(width, dtype=config.dtype, name=f"hidden_{layer}")(x))
        return nn.Dense(config.classes, dtype=config.logits_dtype, name="head")(x)


_HALVE = ReceptiveField(kernel=2, stride=2)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
