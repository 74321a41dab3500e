"""Vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929), pre-normalised, in plain einsums.

Written so that a faster evaluation of single-token substitutions can reuse the parameters: query, key, value and out
are separate matrices, and nothing is hidden in a fused operation.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.models.classifier import ImageConfig, read_tokens, require, require_positive
from jaxsens.typing import Array

# The scale of the embeddings that positions are added to; with .02 instead, a small ViT learns digits far worse.
_unit_normal = nn.initializers.normal(1.0)

POOLS = ("class", "mean")
POSITIONS = ("learned", "sinusoidal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Sizes of a vision transformer, beside those of every image model.

    Attributes:
        width: Numbers in an embedding.
        depth: Number of blocks.
        heads: Attention heads of a block.
        hidden: Width of the hidden layer of a block's MLP.
        head_dim: Numbers in a query; ``width // heads`` if None.
        pool: What is classified: the ``"class"`` token, or the ``"mean"`` over the patches.
        positions: ``"learned"``, or ``"sinusoidal"`` in two dimensions.
        normalize_patches: Whether layer normalisation is applied to the pixels of each patch before the embedding.
            It takes the scale out of a patch, and with it out of noise added to a patch.
        dropout: Probability of dropping an activation in training.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    head_dim: int | None = None
    pool: str = "mean"
    positions: str = "learned"
    normalize_patches: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(width=self.width, depth=self.depth, heads=self.heads, hidden=self.hidden)
        if self.head_dim is None:
            require(self.width % self.heads == 0, "heads", self.heads, f"a divisor of the width {self.width}")
        require_positive(head_dim=self.head_size)
        require(self.pool in POOLS, "pool", self.pool, f"one of {POOLS}")
        require(self.positions in POSITIONS, "positions", self.positions, f"one of {POSITIONS}")
        if self.positions == "sinusoidal":
            require(self.width % 4 == 0, "width", self.width, "a multiple of 4 for sinusoidal positions")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")

    @property
    def head_size(self) -> int:
        """Numbers in a query."""
        return self.width // self.heads if self.head_dim is None else self.head_dim


# Vasudeva et al. (ICLR 2025), App. D, trained ViTs of the PyTorch package vit-pytorch. Width, head_dim and dropout are
# not stated there: 64, 64 and .1 are from the authors' code. Not as published: the "paper" ones are without shifted
# patch tokenisation (a token also sees the image shifted by a pixel in four directions) and locality self-attention (a
# learned temperature, and no token attends to itself); "simple_cifar10" is without a second normalisation after the
# embedding, and its output projections have biases.
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


class ViT(nn.Module):
    """Patches, linear embedding and positions, ``depth`` blocks, pooling, normalisation, linear head."""

    config: Config

    @nn.compact
    def __call__(self, tokens: Array, mask: Array | None = None, *, train: bool = False) -> jax.Array:
        """Map ``tokens [b t d]`` and ``mask [b t]`` to logits ``[b classes]``."""
        config = self.config
        x = read_tokens(config, tokens, mask)
        if config.normalize_patches:
            x = _norm(config, "norm_patches")(x)
        x = nn.Dense(config.width, dtype=config.dtype, name="embed")(x)
        if config.positions == "sinusoidal":
            x += jnp.asarray(sinusoidal_positions(config.grid, config.width), config.dtype)[None]
        else:
            x += self.param("positions", _unit_normal, (1, *x.shape[1:])).astype(config.dtype)
        if config.pool == "class":
            token = self.param("class_token", _unit_normal, (1, 1, config.width)).astype(config.dtype)
            x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], axis=1)
            mask = mask if mask is None else jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
        x = nn.Dropout(config.dropout)(x, deterministic=not train)
        for index in range(config.depth):
            x = Block(config, name=f"block_{index}")(x, mask, train=train)
        x = x[:, 0] if config.pool == "class" else mean_over_tokens(x, mask)
        x = _norm(config, "norm")(x)
        return nn.Dense(config.classes, dtype=config.logits_dtype, name="head")(x)


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array, mask: Array | None, *, train: bool) -> jax.Array:
        """Map embeddings ``[b t width]`` to the same shape."""
        config = self.config
        drop = partial(nn.Dropout(config.dropout), deterministic=not train)
        x += drop(Attention(config, name="attention")(_norm(config, "norm_attention")(x), mask))
        y = nn.Dense(config.hidden, dtype=config.dtype, name="expand")(_norm(config, "norm_mlp")(x))
        y = nn.Dense(config.width, dtype=config.dtype, name="contract")(drop(nn.gelu(y, approximate=False)))
        return x + drop(y)


class Attention(nn.Module):
    """Softmax attention with ``heads`` heads: ``softmax(q k' / sqrt(head_dim)) v``, weights in float32 or better."""

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array, mask: Array | None) -> jax.Array:
        """Map embeddings ``[b t width]`` to the same shape; no token attends to padding."""
        config = self.config
        query, key, value = (self._project(x, name) for name in ("query", "key", "value"))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=config.logits_dtype)
        scores *= config.head_size**-0.5
        if mask is not None:
            # The lowest number rather than infinity: a row without any real token then has no nan.
            scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
        weights = nn.softmax(scores).astype(config.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(*x.shape[:2], -1)
        return nn.Dense(config.width, dtype=config.dtype, name="out")(mixed)

    def _project(self, x: jax.Array, name: str) -> jax.Array:
        config = self.config
        # No biases: the key's would have no effect, and the value's is one with that of the output.
        dense = nn.Dense(config.heads * config.head_size, use_bias=False, dtype=config.dtype, name=name)
        return dense(x).reshape(*x.shape[:2], config.heads, config.head_size)


def sinusoidal_positions(grid: tuple[int, int], width: int) -> np.ndarray:
    """Return ``[t width]``: sine and cosine of column and row, at wavelengths from 2 pi to 20000 pi patches."""
    rows, columns = np.indices(grid).reshape(2, -1)
    frequencies = 10_000.0 ** -np.linspace(0, 1, width // 4)
    angles = [np.outer(places, frequencies) for places in (columns, rows)]
    return np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)


def mean_over_tokens(x: jax.Array, mask: Array | None) -> jax.Array:
    """Return the mean ``[b d]`` of ``x [b t d]`` over the real tokens; zero where there are none."""
    if mask is None:
        return x.mean(axis=1)
    real = mask[:, :, None]
    return jnp.where(real, x, 0).sum(axis=1) / jnp.maximum(real.sum(axis=1), 1).astype(x.dtype)


def _norm(config: Config, name: str) -> nn.LayerNorm:
    # Flax's default variance, E[x^2] - E[x]^2, cancels where a row is nearly constant, as an empty patch is.
    return nn.LayerNorm(dtype=config.dtype, use_fast_variance=False, name=name)
