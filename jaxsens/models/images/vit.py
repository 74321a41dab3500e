"""Vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) for training here, on images of any size."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.models import transformer
from jaxsens.models.common import Patches, read_tokens, require, require_choice, require_flags, require_positive
from jaxsens.models.transformer import Transformer, mean_over_tokens
from jaxsens.typing import Array

__all__ = ["POOLS", "POSITIONS", "VARIANTS", "Config", "ViT", "put_first", "sinusoidal_positions", "unit_normal"]

# The scale of the embeddings that positions are added to; with 0.02 a small ViT learns digits far worse.
unit_normal = nn.initializers.normal(1.0)

POOLS = ("class", "mean")
POSITIONS = ("learned", "sinusoidal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(transformer.Config, Patches):
    """Sizes of a vision transformer, in addition to the fields of every transformer.

    Attributes:
        classes: Number of classes.
        image_shape: ``(h, w, c)``.
        patch: Side of the square patches that are the tokens, in pixels; divides h and w.
        head_dim: Length of a query; ``width // heads`` if None.
        pool: The input of the classifier: the ``"class"`` token, or the ``"mean"`` over the patches.
        positions: ``"learned"``, or ``"sinusoidal"`` in two dimensions.
        normalize_patches: Whether layer normalization is applied to the pixels of each patch before the embedding.
            It removes the scale of a patch, and therefore that of noise added to a patch.

    Raises:
        ValueError: If a size is not a positive integer, or sizes do not fit each other or the image.

    Example:
        >>> config = Config(image_shape=(8, 8, 1), classes=10, patch=2, width=16, depth=1, heads=2, hidden=32)
        >>> ViT(config).config.token_shape
        (16, 4)
    """

    # Softmax is invariant to biases of keys, and biases of values are equivalent to one of the output.
    projection_biases: ClassVar[bool] = False
    drop_hidden: ClassVar[bool] = True
    kernel_init: ClassVar = staticmethod(nn.linear.default_kernel_init)

    classes: int
    image_shape: tuple[int, int, int]
    patch: int
    head_dim: int | None = None
    pool: str = "mean"
    positions: str = "learned"
    normalize_patches: bool = False
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_patches()
        require_positive(classes=self.classes)
        require_choice("pool", self.pool, POOLS)
        require_choice("positions", self.positions, POSITIONS)
        require_flags(normalize_patches=self.normalize_patches)
        if self.positions == "sinusoidal":
            require(self.width % 4 == 0, "width", self.width, "a multiple of 4 for sinusoidal positions")

    def require_heads(self) -> None:
        """Raise ValueError unless heads have a size: their own, or an even share of the width."""
        if self.head_dim is None:
            super().require_heads()
        else:
            require_positive(head_dim=self.head_dim)

    @property
    def head_size(self) -> int:
        """Length of a query."""
        return self.width // self.heads if self.head_dim is None else self.head_dim

    @property
    def final_norm(self) -> bool:
        """False: normalization comes after pooling."""
        return False

    @property
    def added_tokens(self) -> int:
        """The class token, if there is one."""
        return int(self.pool == "class")

    @property
    def reads_one_row(self) -> bool:
        """Whether the class token is read."""
        return self.pool == "class"

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a batch of one image."""
        return jax.ShapeDtypeStruct((1, *self.token_shape), self.dtype)


# Vasudeva et al. (ICLR 2025), App. D, trained ViTs of the PyTorch package vit-pytorch. Width, head_dim and dropout are
# not stated there: 64, 64 and .1 are from the authors' code. Not as published: the "paper" ones are without shifted
# patch tokenization and locality self-attention, which ``small_data_vit`` has; "simple_cifar10" is without a second
# normalization after the embedding, and its output projections have biases, unlike ``simple_vit``.
_published = partial(Config, width=64, head_dim=64, normalize_patches=True)
_published_small = partial(_published, pool="class", positions="learned", dropout=0.1)
VARIANTS = {
    "small": partial(Config, width=64, depth=2, heads=4, hidden=128),
    "paper_mnist": partial(_published_small, depth=2, heads=1, hidden=128),
    "paper_fashion_mnist": partial(_published_small, depth=2, heads=8, hidden=256),
    "paper_svhn_cropped": partial(_published_small, depth=8, heads=32, hidden=512),
    "paper_cifar10": partial(_published_small, depth=8, heads=32, hidden=256),
    "simple_cifar10": partial(_published, depth=6, heads=16, hidden=512, pool="mean", positions="sinusoidal"),
}
"""Configurations by name, each a function of the fields of ``ImageConfig``; all but ``small`` are from the paper."""


class ViT(Transformer):
    """Patches, linear embedding and positions, ``depth`` blocks, pooling, normalization, linear head.

    Normalization comes after pooling, so ``normalize_last`` has no effect on its hidden states, in which a class token
    comes first.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("vit", "small", image_shape=(4, 4, 1), classes=3, patch=2)
        >>> tokens = np.zeros((5, 4, 4), np.float32)
        >>> jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)[0].shape
        (5, 3)
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters."""
        super().setup()
        config = self.config
        if config.normalize_patches:
            self.norm_patches = transformer.norm(config)
        # Its parameters have the name of the method that applies it.
        self.patches = nn.Dense(config.width, dtype=config.dtype, name="embed")
        if config.positions == "learned":
            self.positions = self.param("positions", unit_normal, (1, config.token_shape[0], config.width))
        if config.pool == "class":
            self.class_token = self.param("class_token", unit_normal, (1, 1, config.width))
        if not config.final_norm:
            self.norm = transformer.norm(config)
        self.head = nn.Dense(config.classes, dtype=config.logits_dtype)

    def embed(self, tokens: Array, mask: Array | None = None) -> jax.Array:
        """Map patches ``[b t p]`` to embeddings ``[b t d]``."""
        config, x = self.config, self.content(tokens, mask)
        if config.positions == "sinusoidal":
            return x + jnp.asarray(sinusoidal_positions(config.grid, config.width), config.dtype)[None]
        return x + self.positions.astype(config.dtype)

    def content(self, tokens: Array, mask: Array | None) -> jax.Array:
        """Map patches ``[b t p]`` to embeddings ``[b t d]``, still without positions."""
        x = self.pixels(tokens, mask)
        return self.patches(self.norm_patches(x) if self.config.normalize_patches else x)

    def pixels(self, tokens: Array, mask: Array | None) -> jax.Array:
        """Return the pixels ``[b t q]`` that each embedding reads: those of its patch."""
        return read_tokens(self.config, tokens, mask)

    def begin(self, x: Array, mask: Array | None) -> tuple[jax.Array, Array | None]:
        """Return ``[b t d]`` and the mask, with the class token before the patches if there is one."""
        x, mask = super().begin(x, mask)
        return (x, mask) if self.config.pool == "mean" else put_first(self.first(), x, mask)

    def first(self) -> jax.Array:
        """Return the class token ``[1 1 d]``."""
        return self.class_token

    def read(self, x: jax.Array, mask: Array | None, *, train: bool = False) -> jax.Array:
        """Map final activations ``[b t d]`` to logits ``[b classes]``."""
        del train
        return self.head(self.norm(x[:, 0] if self.config.pool == "class" else mean_over_tokens(x, mask)))


def put_first(token: Array, x: jax.Array, mask: Array | None) -> tuple[jax.Array, Array | None]:
    """Return ``x [b t d]`` and ``mask [b t]`` with a real ``token [1 1 d]`` before the others.

    Example:
        >>> x, mask = put_first(jnp.zeros((1, 1, 2)), jnp.ones((3, 4, 2)), jnp.ones((3, 4), bool))
        >>> x.shape, mask.shape
        ((3, 5, 2), (3, 5))
    """
    first = jnp.broadcast_to(token.astype(x.dtype), (len(x), 1, x.shape[2]))
    seen = None if mask is None else jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
    return jnp.concatenate([first, x], axis=1), seen


def sinusoidal_positions(grid: tuple[int, int], width: int) -> np.ndarray:
    """Return ``[t width]``: sine and cosine of column and row, at wavelengths from 2 pi to 20000 pi patches.

    Example:
        >>> sinusoidal_positions((2, 3), 8).shape
        (6, 8)
    """
    rows, columns = np.indices(grid).reshape(2, -1)
    frequencies = 10_000.0 ** -np.linspace(0, 1, width // 4)
    angles = [np.outer(places, frequencies) for places in (columns, rows)]
    return np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
