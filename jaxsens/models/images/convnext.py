"""ConvNeXt V2 (Woo et al. 2023, arXiv 2301.00808): depthwise convolutions and an MLP at every pixel, in stages.

A substitution of one patch (``models.substitution.convolutional``) is evaluated on windows up to the first global
response normalization, and on the whole image from there on: that normalization multiplies every channel by a factor
that depends on all pixels, so that a changed patch alters all pixels, each in another way. Windows therefore save the
stem, the first depthwise convolution and the first half of the first block's MLP, at most. All blocks of the published
sizes take about as many operations as each other, so that this is little: for images of 224 x 224 pixels in patches of
16 the ratio of operations, plain over windows, is 1.030 for Tiny (18 blocks) and 1.051 for Atto (12 blocks); for Atto
and images of 32 x 32 in patches of 4 it is 1.029.
"""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.data.patches import to_patches
from jaxsens.models.common import (
    ImageConfig,
    as_sizes,
    require,
    require_choice,
    require_classes,
    require_number,
    require_positive,
)
from jaxsens.models.images.convmixer import Depthwise
from jaxsens.models.images.convolution import ConvolutionalNetwork
from jaxsens.models.images.windows import WHOLE, ReceptiveField, Region
from jaxsens.models.transformer import ACTIVATIONS, small_normal

__all__ = ["READ_OUTS", "VARIANTS", "Block", "Config", "ConvNeXt", "ResponseNormalization"]

READ_OUTS = ("mean",)

KERNEL = 7
"""The side of the published models' depthwise kernels."""

EXPANSION = 4
EPSILON = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Sizes of a ConvNeXt V2, in addition to the fields of every image model.

    Attributes:
        widths: Channels of each stage; every stage but the first begins by halving height and width, rounded down.
        depths: Blocks of each stage.
        stem: Side of the squares of pixels that the first layer embeds; whatever the tokens' ``patch`` is.
        kernel: Side of the depthwise convolutions' kernels.
        activation: One of ``transformer.ACTIVATIONS``.
        epsilon: What the last normalization adds to the variance. All others add 1e-6.
        drop_path: Rate at which, in training, the last block is skipped for an image; the rates of the blocks grow
            linearly from 0 (Huang et al. 2016, arXiv 1603.09382).
        read_out: ``"mean"``, the normalized mean over the grid.
        classes: The number of logits of a linear classifier on top, or None for outputs ``[b d]`` without one.

    Raises:
        ValueError: If a size is not a positive integer, there is no stage or another number of widths than of depths,
            the stem does not divide the image, or the image is too small for the stages.

    Example:
        >>> Config(image_shape=(32, 32, 3), classes=10, patch=4, widths=(8, 16), depths=(1, 2)).depth
        3
    """

    widths: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (3, 3, 9, 3)
    stem: int = 4
    kernel: int = KERNEL
    activation: str = "gelu"
    epsilon: float = EPSILON
    drop_path: float = 0.0
    read_out: str = "mean"
    classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for sizes in ("widths", "depths"):
            object.__setattr__(self, sizes, as_sizes(sizes, getattr(self, sizes)))
        require(len(self.widths) > 0, "widths", self.widths, "the channels of at least one stage")
        require(len(self.depths) == len(self.widths), "depths", self.depths, f"{len(self.widths)} numbers, as widths")
        require_positive(stem=self.stem, kernel=self.kernel)
        height, width, _ = self.image_shape
        divides = height % self.stem == 0 and width % self.stem == 0
        require(divides, "stem", self.stem, f"a divisor of the image's height {height} and width {width}")
        require_choice("activation", self.activation, ACTIVATIONS)
        require_number("epsilon", self.epsilon, lambda epsilon: epsilon > 0, "a finite number above 0")
        require_number("drop_path", self.drop_path, lambda rate: 0 <= rate < 1, "at least 0 and below 1")
        require_choice("read_out", self.read_out, READ_OUTS)
        least = self.stem * 2 ** (len(self.widths) - 1)
        fits = min(height, width) >= least
        require(fits, "image_shape", self.image_shape, f"of at least {least} pixels both ways for this stem and stages")

    def require_classes(self) -> None:
        """Raise ValueError unless ``classes`` is None or a positive integer."""
        require_classes(self.classes)

    @property
    def depth(self) -> int:
        """Blocks of all stages."""
        return sum(self.depths)

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a batch of one image."""
        return jax.ShapeDtypeStruct((1, *self.token_shape), self.dtype)


_SIZES = {
    "atto": ((40, 80, 160, 320), (2, 2, 6, 2)),
    "femto": ((48, 96, 192, 384), (2, 2, 6, 2)),
    "pico": ((64, 128, 256, 512), (2, 2, 6, 2)),
    "nano": ((80, 160, 320, 640), (2, 2, 8, 2)),
    "tiny": ((96, 192, 384, 768), (3, 3, 9, 3)),
}
VARIANTS = {"small": partial(Config, widths=(16, 32), depths=(1, 1), stem=2)} | {
    name: partial(Config, widths=widths, depths=depths) for name, (widths, depths) in _SIZES.items()
}
"""Configurations by name, each a function of the fields of ``ImageConfig``; all but ``small`` are published ones."""


class ConvNeXt(ConvolutionalNetwork):
    """Embedding of squares of pixels, stages of blocks, mean over the grid, normalization, linear head.

    Every stage but the first begins with a normalization and a convolution of kernel 2 and stride 2.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("convnext", "small", image_shape=(8, 8, 1), classes=3, patch=4)
        >>> tokens = np.zeros((5, 4, 16), np.float32)
        >>> type(module).__name__, jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)[0].shape
        ('ConvNeXt', (5, 3))
    """

    config: Config

    @nn.compact
    def from_pixels(self, x: jax.Array, region: Region = WHOLE, *, train: bool = False) -> jax.Array:
        """Map pixels ``[b h w c]`` at ``region`` to logits ``[b classes]``, or to ``[b d]`` without a classifier."""
        config = self.config
        stem = ReceptiveField(kernel=config.stem, stride=config.stem)
        after = region.after(stem)
        x, _ = region.read(x, stem, after, "stem")
        x = _norm(config, "stem_norm")(_squares(config, x, config.widths[0], config.stem, "stem"))
        rates = np.linspace(0, config.drop_path, config.depth)
        numbers = itertools.count()
        for stage, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            if stage > 0:
                x = _norm(config, f"halve_{stage}_norm")(x)
                x = _squares(config, x, width, 2, f"halve_{stage}")
            for index in range(depth):
                rate = float(rates[next(numbers)])
                x = Block(config, width, rate, name=f"block_{stage}_{index}")(x, after, train=train)
                after = WHOLE
        x = nn.LayerNorm(config.epsilon, dtype=config.logits_dtype, use_fast_variance=False, name="norm")(
            x.mean(axis=(1, 2))
        )
        if config.classes is None:
            return x
        return nn.Dense(config.classes, dtype=config.logits_dtype, kernel_init=small_normal, name="head")(x)


class Block(nn.Module):
    """A block: ``x + contract(respond(activation(expand(norm(depthwise(x))))))``.

    Attributes:
        config: The sizes.
        width: Channels.
        drop: Rate at which, in training, the block is skipped for an image.

    Example:
        >>> from jaxsens import models
        >>> config = models.build("convnext", "small", image_shape=(8, 8, 1), classes=3, patch=4).config
        >>> jax.eval_shape(Block(config, 16).init_with_output, jax.random.key(0), np.zeros((1, 4, 4, 16)))[0].shape
        (1, 4, 4, 16)
    """

    config: Config
    width: int
    drop: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, region: Region = WHOLE, *, train: bool = False) -> jax.Array:
        """Map ``x [b h w c]`` at ``region`` to whole images ``[b h w c]``."""
        config, name = self.config, "/".join(self.path)
        depthwise = Depthwise(self.width, config.kernel, config.dtype, kernel_init=small_normal, name="depthwise")
        after = region.after(depthwise.receptive_field)
        y, padding = region.read(x, depthwise.receptive_field, after, f"{name}/depthwise")
        y = _norm(config, "norm")(depthwise(y, padding))
        y = ACTIVATIONS[config.activation](_dense(config, EXPANSION * self.width, "expand")(y))
        # The normalization reads all pixels, and alters all of them.
        y, x = after.whole(y, f"{name}/expanded"), region.whole(x, f"{name}/shortcut")
        y = _dense(config, self.width, "contract")(ResponseNormalization(config, name="respond")(y))
        return x + nn.Dropout(self.drop, broadcast_dims=(1, 2, 3))(y, deterministic=not train)


class ResponseNormalization(nn.Module):
    """Global response normalization: ``x + scale x n + bias``, with ``n_c = |x_c| / (mean over c of |x_c| + 1e-6)``.

    ``|x_c|`` is the Euclidean norm of a channel over the pixels of an image.

    Example:
        >>> from jaxsens import models
        >>> config = models.build("convnext", "small", image_shape=(8, 8, 1), classes=3, patch=4).config
        >>> variables = {"params": {"scale": np.ones((1, 1, 1, 2)), "bias": np.zeros((1, 1, 1, 2))}}
        >>> x = np.array([[3.0, 0.0], [4.0, 5.0]], np.float32).reshape(1, 2, 1, 2)
        >>> ResponseNormalization(config).apply(variables, x).round().ravel().astype(int).tolist()
        [6, 0, 8, 10]
    """

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``x [b h w c]`` to the same shape."""
        wide = self.config.logits_dtype
        scale, bias = (self.param(name, nn.initializers.zeros, (1, 1, 1, x.shape[-1])) for name in ("scale", "bias"))
        squares = jnp.sum(jnp.square(x.astype(wide)), axis=(1, 2), keepdims=True)
        # The derivative of a square root at zero, a channel that is zero everywhere, would be infinite.
        norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
        response = norms / (norms.mean(axis=-1, keepdims=True) + EPSILON)
        return x * (1 + scale * response).astype(x.dtype) + bias.astype(x.dtype)


def _squares(config: Config, x: jax.Array, width: int, side: int, name: str) -> jax.Array:
    """Return an affine map ``[b h' w' width]`` of squares of pixels: a convolution whose stride is its kernel."""
    rows, columns = (extent // side for extent in x.shape[1:3])
    squares = to_patches(x[:, : rows * side, : columns * side], side)
    return _dense(config, width, name)(squares).reshape(len(x), rows, columns, width)


def _norm(config: Config, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(EPSILON, dtype=config.dtype, use_fast_variance=False, name=name)


def _dense(config: Config, width: int, name: str) -> nn.Dense:
    return nn.Dense(width, dtype=config.dtype, kernel_init=small_normal, name=name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
