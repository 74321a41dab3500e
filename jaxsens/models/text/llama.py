"""The decoder of Llama (Touvron et al. 2023, arXiv 2302.13971), Mistral, and Qwen 2 and 3: models of text.

Differences from GPT-2: activations are divided by their root mean square (Zhang and Sennrich 2019, arXiv 1910.07467);
positions are rotations of queries and keys (Su et al. 2021, arXiv 2104.09864); several queries share a key and a value
(Ainslie et al. 2023, arXiv 2305.13245); and the MLP is gated (Shazeer 2020, arXiv 2002.05202).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.models.common import (
    require,
    require_choice,
    require_dtype,
    require_flags,
    require_mask,
    require_number,
    require_positive,
)
from jaxsens.models.text import token_ids
from jaxsens.models.transformer import ACTIVATIONS, small_normal
from jaxsens.typing import Array

__all__ = ["READ_OUTS", "Config", "Llama", "RootMeanSquare", "rotate"]

READ_OUTS = ("last", "next", "every")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of a decoder. Configurations of equal values are equal, and hash equal.

    Attributes:
        width: Length of the vector that represents a token.
        depth: Number of blocks.
        heads: Queries of a token.
        key_heads: Keys, and values, of a token, each shared by ``heads / key_heads`` queries.
        head_size: Length of a query; even.
        hidden: Width of the hidden layer of a block's MLP.
        vocabulary: Number of token ids.
        positions: The largest number of tokens of a text.
        theta: Base of the rotations' frequencies ``theta^(-2 i / head_size)``.
        activation: One of ``transformer.ACTIVATIONS``.
        epsilon: What normalization adds to the mean square.
        projection_biases: Whether queries, keys and values have biases.
        out_biases: Whether the output of attention has a bias.
        mlp_biases: Whether the MLP has biases.
        normalized_queries: Whether queries and keys are normalized, each head apart, as in Qwen 3.
        window: How many tokens a token attends to, itself included; None for all before it.
        full_layers: The first blocks, which have no window.
        tied: Whether logits are products with the embeddings, and not with a matrix of their own.
        read_out: The outputs, from the normalized final activations: those of the ``"last"`` real token ``[b d]``; the
            logits of the ``"next"`` token after it ``[b vocabulary]``; or such logits after ``"every"`` token
            ``[b t vocabulary]``.
        dtype: The dtype of activations. Attention weights and outputs are at least float32.

    Raises:
        ValueError: If a size is not a positive integer, or a setting is not supported.

    Example:
        >>> Config(width=8, depth=1, heads=4, key_heads=2, head_size=2, hidden=9, vocabulary=5, positions=7).groups
        2
    """

    width: int
    depth: int
    heads: int
    key_heads: int
    head_size: int
    hidden: int
    vocabulary: int
    positions: int
    theta: float = 1e4
    activation: str = "silu"
    epsilon: float = 1e-6
    projection_biases: bool = False
    out_biases: bool = False
    mlp_biases: bool = False
    normalized_queries: bool = False
    window: int | None = None
    full_layers: int = 0
    tied: bool = True
    read_out: str = "next"
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        sizes = ("width", "depth", "heads", "key_heads", "head_size", "hidden", "vocabulary", "positions")
        require_positive(**{size: getattr(self, size) for size in sizes})
        require(self.heads % self.key_heads == 0, "key_heads", self.key_heads, f"a divisor of the heads {self.heads}")
        require(self.head_size % 2 == 0, "head_size", self.head_size, "even, as pairs of numbers are rotated")
        require_number("theta", self.theta, lambda theta: theta > 0, "a finite number above 0")
        require_number("epsilon", self.epsilon, lambda epsilon: epsilon > 0, "a finite number above 0")
        require_choice("activation", self.activation, ACTIVATIONS)
        require_choice("read_out", self.read_out, READ_OUTS)
        flags = ("projection_biases", "out_biases", "mlp_biases", "normalized_queries", "tied")
        require_flags(**{flag: getattr(self, flag) for flag in flags})
        if self.window is not None:
            require_positive(window=self.window)
        layers = self.full_layers
        whole = isinstance(layers, int | np.integer) and not isinstance(layers, bool)
        require(whole and layers >= 0, "full_layers", layers, "an integer of at least 0")
        object.__setattr__(self, "dtype", require_dtype(self.dtype))

    @property
    def groups(self) -> int:
        """Queries that share a key."""
        return self.heads // self.key_heads

    @property
    def classes(self) -> None:
        """None: it has no classifier."""
        return

    @property
    def logits_dtype(self) -> Any:
        """Dtype of outputs and of attention weights: float32, or float64 if ``dtype`` is float64."""
        return jnp.promote_types(jnp.float32, self.dtype)

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a batch of one text of one token."""
        return jax.ShapeDtypeStruct((1, 1), jnp.int32)


class Llama(nn.Module):
    """Embeddings of tokens; blocks; normalization; read-out. Padding does not count as a position.

    Example:
        >>> sizes = {"width": 8, "depth": 1, "heads": 4, "key_heads": 2, "head_size": 2, "hidden": 9}
        >>> config = Config(**sizes, vocabulary=5, positions=7)
        >>> jax.eval_shape(Llama(config).init_with_output, jax.random.key(0), np.zeros((3, 4), np.int32))[0].shape
        (3, 5)
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters."""
        config = self.config
        self.tokens = self.param("tokens", small_normal, (config.vocabulary, config.width))
        self.block = [_Block(config, index) for index in range(config.depth)]
        self.norm = RootMeanSquare(config)
        if not config.tied and config.read_out != "last":
            self.head = self.param("head", small_normal, (config.vocabulary, config.width))

    def __call__(self, tokens: Array, mask: Array | None = None, *, train: bool = False) -> jax.Array:
        """Map ids ``[b t]`` and ``mask [b t]`` to outputs, as ``read_out`` says."""
        return self.from_embeddings(self.embed(tokens, mask), mask, train=train)

    def embed(self, tokens: Array, mask: Array | None = None) -> jax.Array:
        """Map ids ``[b t]`` to embeddings ``[b t d]``, without positions."""
        config = self.config
        ids = token_ids.read_ids(tokens, mask, below=config.vocabulary, longest=config.positions)
        return token_ids.look_up(self.tokens, ids, config.dtype)

    def from_embeddings(self, x: Array, mask: Array | None = None, *, train: bool = False) -> jax.Array:  # noqa: ARG002
        """Map what ``embed`` returns, ``[b t d]``, and ``mask [b t]`` to outputs; it has no dropout."""
        return self._read(self.norm(self._states(x, mask)[-1]), mask)

    def hidden_states(self, tokens: Array, mask: Array | None = None, *, normalize_last: bool = False) -> jax.Array:
        """Return ``[l+1 b t d]``: what enters the first block, then what leaves each."""
        states = self._states(self.embed(tokens, mask), mask)
        return jnp.stack([*states[:-1], self.norm(states[-1])] if normalize_last else states)

    def _states(self, x: Array, mask: Array | None) -> list[jax.Array]:
        config = self.config
        expected = f"[b, t, {config.width}], as embed returns them"
        require(np.ndim(x) == 3 and np.shape(x)[2] == config.width, "embeddings' shape", np.shape(x), expected)
        require_mask(mask, np.shape(x)[:2])
        x = jnp.asarray(x, config.dtype)
        states = [x if mask is None else jnp.where(mask[:, :, None], x, 0)]
        places = token_ids.positions_of(mask, x.shape[:2])
        for block in self.block:
            states.append(block(states[-1], places, mask))
        return states

    def _read(self, x: jax.Array, mask: Array | None) -> jax.Array:
        config = self.config
        if config.read_out != "every":
            x = token_ids.last_token(x, mask)
        if config.read_out == "last":
            return x.astype(config.logits_dtype)
        table = jnp.asarray(self.tokens if config.tied else self.head, config.dtype)
        return jnp.einsum("...d,vd->...v", x, table, preferred_element_type=config.logits_dtype)


class RootMeanSquare(nn.Module):
    """Normalization ``scale x / sqrt(mean(x^2) + epsilon)`` over the last axis, in float32 or better.

    Example:
        >>> sizes = {"width": 2, "depth": 1, "heads": 1, "key_heads": 1, "head_size": 2, "hidden": 2}
        >>> norm = RootMeanSquare(Config(**sizes, vocabulary=5, positions=7))
        >>> norm.apply({"params": {"scale": np.full(2, 5)}}, np.float32([2.0, 14.0])).round().astype(int).tolist()
        [1, 7]
    """

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``x [... d]`` to the same shape."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:]).astype(self.config.dtype)
        wide = x.astype(self.config.logits_dtype)
        wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.config.epsilon)
        return wide.astype(self.config.dtype) * jnp.expand_dims(scale, range(x.ndim - 1))


class _Block(nn.Module):
    """Attention and gated MLP, each added to what goes in, with a normalization before each."""

    config: Config
    index: int

    @nn.compact
    def __call__(self, x: jax.Array, places: jax.Array, mask: Array | None) -> jax.Array:
        """Map activations ``[b t d]`` of tokens at positions ``[b t]`` to the same shape; no token sees padding."""
        config = self.config
        window = config.window if self.index >= config.full_layers else None
        seen = places[:, :, None] >= places[:, None, :]  # [b q t]
        if window is not None:
            seen &= places[:, :, None] - places[:, None, :] < window
        if mask is not None:
            seen &= jnp.asarray(mask)[:, None, :]
        attended = RootMeanSquare(config, name="norm_attention")(x)
        x = x + _Attention(config, name="attention")(attended, places, seen)
        y = RootMeanSquare(config, name="norm_mlp")(x)
        gate, expand = (_dense(config, config.hidden, config.mlp_biases, name)(y) for name in ("gate", "expand"))
        return x + _dense(config, config.width, config.mlp_biases, "contract")(
            ACTIVATIONS[config.activation](gate) * expand
        )


class _Attention(nn.Module):
    """Attention with rotated queries and keys, several queries to a key; weights in float32 or better."""

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array, places: jax.Array, seen: jax.Array) -> jax.Array:
        """Map ``x [b t d]`` at positions ``[b t]`` to the same shape; ``seen [b q t]`` says who attends to whom."""
        config = self.config

        def project(name: str, heads: int) -> jax.Array:
            y = _dense(config, heads * config.head_size, config.projection_biases, name)(x)
            return y.reshape(*y.shape[:2], heads, config.head_size).swapaxes(1, 2)  # [b h t k]

        query, key = project("query", config.heads), project("key", config.key_heads)
        value = project("value", config.key_heads)
        if config.normalized_queries:
            query = RootMeanSquare(config, name="norm_query")(query)
            key = RootMeanSquare(config, name="norm_key")(key)
        query, key = (rotate(y, places, config.theta) for y in (query, key))
        query = query.reshape(len(query), config.key_heads, config.groups, *query.shape[2:])
        scores = jnp.einsum("bngqk,bntk->bngqt", query, key, preferred_element_type=config.logits_dtype)
        # The lowest number rather than infinity: a row that sees no token at all then has no nan.
        lowest = jnp.finfo(scores.dtype).min
        weights = nn.softmax(jnp.where(seen[:, None, None], scores * config.head_size**-0.5, lowest))
        mixed = jnp.einsum("bngqt,bntk->bqngk", weights.astype(config.dtype), value)
        return _dense(config, config.width, config.out_biases, "out")(mixed.reshape(*x.shape[:2], -1))


def rotate(x: jax.Array, places: jax.Array, theta: float) -> jax.Array:
    """Return queries or keys ``[b h t k]``, rotated by their positions ``[b t]``.

    Numbers i and i + k/2 of a token at position p are the two coordinates of a point, which is turned by the angle
    ``p theta^(-2 i / k)``.

    Example:
        >>> quarter = jnp.array([[np.pi / 2]])
        >>> rotate(jnp.array([[[[1.0, 0.0]]]]), quarter, theta=10.0).round(3).ravel().tolist()
        [-0.0, 1.0]
    """
    size = x.shape[-1]
    wide = jnp.promote_types(jnp.float32, x.dtype)
    frequencies = jnp.asarray(float(theta) ** (-np.arange(0, size, 2) / size), wide)
    angles = places.astype(wide)[:, None, :, None] * frequencies[None, None, None]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def _dense(config: Config, width: int, biases: bool, name: str) -> nn.Dense:
    return nn.Dense(width, use_bias=biases, dtype=config.dtype, kernel_init=small_normal, name=name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
