"""The vision transformer for small data sets (Lee, Lee and Song 2021, arXiv 2112.13492).

It differs from ``vit.ViT`` in two ways:

- *Shifted patch tokenization*: an embedding reads, beside its patch, the same place of four copies of the image, each
  shifted in another direction, with zeros at the border. A changed patch therefore enters the embeddings of its
  neighbors, too. The tokens are still the patches of the image: the shifts are made of them, and noise on a token is
  noise on a patch of the image.
- *Locality self-attention*: no token attends to itself, and the scale of the scores is learned, one for each block.
"""

import dataclasses
import itertools
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.data.patches import from_patches, to_patches
from jaxsens.models.common import require, require_choice, require_flags
from jaxsens.models.images import vit
from jaxsens.models.images.vit import ViT, unit_normal
from jaxsens.typing import Array

__all__ = ["SHIFTS", "VARIANTS", "Config", "SmallDataViT", "shift"]

SHIFTS = ("pixel", "half patch", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(vit.Config):
    """Sizes of a ViT for small data sets, in addition to the fields of ``vit.Config``.

    Attributes:
        shifts: ``"pixel"``: right, left, down and up by one pixel, as in the package vit-pytorch; ``"half patch"``:
            down or up and right or left by half a patch, rounded down, as Lee et al. have it; or ``"none"``.
        local_attention: Whether attention is locality self-attention.

    Raises:
        ValueError: If a size is not a positive integer, sizes do not fit each other or the image, or a setting is not
            supported.

    Example:
        >>> sizes = {"width": 16, "depth": 1, "heads": 2, "hidden": 32}
        >>> config = Config(**sizes, image_shape=(8, 8, 1), classes=10, patch=2)
        >>> config.offsets
        ((0, 1), (0, -1), (1, 0), (-1, 0))
        >>> config.reach[5].tolist()  # itself, and the patches right of it, left, below and above
        [5, 6, 4, 9, 1]
    """

    drop_weights: ClassVar[bool] = True

    shifts: str = "pixel"
    local_attention: bool = True
    normalize_patches: bool = True
    pool: str = "class"
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("shifts", self.shifts, SHIFTS)
        require_flags(local_attention=self.local_attention)
        halves = self.shifts != "half patch" or self.patch > 1
        require(halves, "shifts", self.shifts, "'pixel' or 'none' for patches of one pixel")
        softmax = not self.local_attention or self.attention == "softmax"
        require(softmax, "attention", self.attention, "'softmax' with local_attention")
        # The fused kernel drops no attention weights, and has no learned scale.
        require(not self.fused_attention, "fused_attention", self.fused_attention, "False for this model")

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """Pixels down and to the right by which each copy of the image is shifted."""
        if self.shifts == "none":
            return ()
        if self.shifts == "pixel":
            return (0, 1), (0, -1), (1, 0), (-1, 0)
        half = self.patch // 2
        return tuple(itertools.product((half, -half), repeat=2))

    @property
    def reach(self) -> np.ndarray | None:
        """Which tokens' embeddings read each patch ``[t k]``: its own and its neighbors', within the image.

        Where there are fewer than k, its own is repeated.
        """
        if not self.offsets:
            return None
        steps = {(0, 0): None}  # an ordered set
        for offset in self.offsets:
            # A patch shifted by ``pixels`` lies in those from floor(pixels / patch) on.
            lines = (range(pixels // self.patch, (pixels - 1) // self.patch + 2) for pixels in offset)
            steps |= dict.fromkeys(itertools.product(*lines))
        rows, columns = (places.reshape(-1, 1) for places in np.indices(self.grid))
        down, across = np.array(list(steps)).T
        beside, below = columns + across[None], rows + down[None]
        inside = (below >= 0) & (below < self.grid[0]) & (beside >= 0) & (beside < self.grid[1])
        return np.where(inside, below * self.grid[1] + beside, rows * self.grid[1] + columns)


# Vasudeva et al. (ICLR 2025), App. D, trained these of the package vit-pytorch. Width, head_dim and dropout are not
# stated there: 64, 64 and .1 are from the authors' code. Initial weights are as everywhere in this library: their
# variance is 1 / inputs, where PyTorch's is a third of that, and biases are zero.
_published = partial(Config, width=64, head_dim=64, dropout=0.1)
VARIANTS = {
    "small": partial(Config, width=64, depth=2, heads=4, hidden=128),
    "paper_mnist": partial(_published, depth=2, heads=1, hidden=128),
    "paper_fashion_mnist": partial(_published, depth=2, heads=8, hidden=256),
    "paper_svhn_cropped": partial(_published, depth=8, heads=32, hidden=512),
    "paper_cifar10": partial(_published, depth=8, heads=32, hidden=256),
}
"""Configurations by name, each a function of the fields of ``ImageConfig``; all but ``small`` are from the paper."""


class SmallDataViT(ViT):
    """Patches with their shifted copies, normalization, linear embedding, class token and positions; blocks; head.

    In training, dropout also applies to attention weights. The class token has a position of its own.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("vit_small_data", "small", image_shape=(4, 4, 1), classes=3, patch=2)
        >>> tokens = np.zeros((5, 4, 4), np.float32)
        >>> jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)[0].shape
        (5, 3)
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters."""
        super().setup()
        if self.config.pool == "class" and self.config.positions == "learned":
            self.class_position = self.param("class_position", unit_normal, (1, 1, self.config.width))

    def pixels(self, tokens: Array, mask: Array | None) -> jax.Array:
        """Return the pixels ``[b t 5p]`` of each patch, and of its place in the shifted copies; padding is zero."""
        config, x = self.config, super().pixels(tokens, mask)
        if not config.offsets:
            return x
        image = from_patches(x, config.patch, config.image_shape)
        copies = [shift(image, *offset) for offset in config.offsets]
        return to_patches(jnp.concatenate([image, *copies], axis=-1), config.patch)

    def first(self) -> jax.Array:
        """Return the class token ``[1 1 d]`` at its position."""
        return super().first() + self.class_position if self.config.positions == "learned" else super().first()


def shift(images: Array, down: int, right: int) -> jax.Array:
    """Return images ``[b h w c]`` shifted by pixels, which are negative for up and left, with zeros at the border.

    Example:
        >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
        >>> shift(image, 1, -1)[0, :, :, 0].tolist()
        [[0.0, 0.0], [2.0, 0.0]]
    """
    height, width = images.shape[1:3]
    before = [(max(pixels, 0), max(-pixels, 0)) for pixels in (down, right)]
    padded = jnp.pad(images, ((0, 0), *before, (0, 0)))
    top, left = (behind for _, behind in before)
    return padded[:, top : top + height, left : left + width]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
