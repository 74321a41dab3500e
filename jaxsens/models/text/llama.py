"""The decoder of Llama (Touvron et al. 2023, arXiv 2302.13971), Mistral, and Qwen 2 and 3: models of text.

Differences from GPT-2: activations are divided by their root mean square (Zhang and Sennrich 2019, arXiv 1910.07467);
positions are rotations of queries and keys (``rotary``); several queries share a key and a value (Ainslie et al. 2023,
arXiv 2305.13245); and the MLP is gated (Shazeer 2020, arXiv 2002.05202).
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
from jaxsens.models.text.rotary import Scaling, rotate
from jaxsens.models.transformer import ACTIVATIONS, small_normal
from jaxsens.typing import Array

__all__ = ["READ_OUTS", "Block", "Config", "Llama", "RootMeanSquare"]

READ_OUTS = ("last", "next", "every", "states")


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
        theta: Base of the rotations' frequencies ``theta^(-2 i / head_size)``; above 1 where they are scaled.
        scaling: How these frequencies are scaled, a ``rotary.Scaling``; None for not at all.
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
            logits of the ``"next"`` token after it ``[b vocabulary]``; such logits after ``"every"`` token
            ``[b t vocabulary]``; or the final activations of every token, its ``"states"`` ``[b t d]``, which
            ``encoder.next_logits`` maps to those logits.
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
    scaling: Scaling | None = None
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
        if self.scaling is not None:
            require(isinstance(self.scaling, Scaling), "scaling", self.scaling, "a rotary.Scaling, or None")
            require(self.theta > 1, "theta", self.theta, "above 1 where frequencies are scaled")
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
    def causal(self) -> bool:
        """True: a token sees itself and what comes before it."""
        return True

    @property
    def classes(self) -> None:
        """None: it has no classifier."""
        return

    @property
    def reads_one_row(self) -> bool:
        """Whether the last token is read, and not every one."""
        return self.read_out in ("last", "next")

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
        self.block = [Block(config, index) for index in range(config.depth)]
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
        return self.read(self.finish(self._states(x, mask)[-1]), mask)

    def hidden_states(self, tokens: Array, mask: Array | None = None, *, normalize_last: bool = False) -> jax.Array:
        """Return ``[l+1 b t d]``: what enters the first block, then what leaves each."""
        states = self._states(self.embed(tokens, mask), mask)
        return jnp.stack([*states[:-1], self.finish(states[-1])] if normalize_last else states)

    def begin(self, x: Array, mask: Array | None) -> tuple[jax.Array, Array | None]:
        """Return checked embeddings ``[b t d]``, padding set to zero, and the mask."""
        expected = f"[b, t, {self.config.width}], as embed returns them"
        require(np.ndim(x) == 3 and np.shape(x)[2] == self.config.width, "embeddings' shape", np.shape(x), expected)
        require_mask(mask, np.shape(x)[:2])
        x = jnp.asarray(x, self.config.dtype)
        return (x if mask is None else jnp.where(mask[:, :, None], x, 0)), mask

    def finish(self, x: jax.Array) -> jax.Array:
        """Return the last block's activations ``[... d]`` as the read-out sees them."""
        return self.norm(x)

    def read(self, x: jax.Array, mask: Array | None) -> jax.Array:
        """Map final activations ``[b t d]`` to outputs, as ``read_out`` says."""
        config = self.config
        if config.reads_one_row:
            x = token_ids.last_token(x, mask)
        return x.astype(config.logits_dtype) if config.read_out in ("last", "states") else self.next_logits(x)

    def next_logits(self, x: jax.Array) -> jax.Array:
        """Map final activations ``[... d]`` to the logits of the next token ``[... vocabulary]``."""
        config = self.config
        has_head = config.tied or config.read_out != "last"
        require(has_head, "read_out", config.read_out, "another where logits have a matrix of their own")
        table = jnp.asarray(self.tokens if config.tied else self.head, config.dtype)
        x = jnp.asarray(x, config.dtype)
        return jnp.einsum("...d,vd->...v", x, table, preferred_element_type=config.logits_dtype)

    def _states(self, x: Array, mask: Array | None) -> list[jax.Array]:
        states = [self.begin(x, mask)[0]]
        places = token_ids.positions_of(mask, states[0].shape[:2])
        for block in self.block:
            states.append(block(states[-1], places, mask))
        return states


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


class Block(nn.Module):
    """Attention and gated MLP, each added to what goes in, with a normalization before each.

    Example:
        >>> sizes = {"width": 2, "depth": 1, "heads": 2, "key_heads": 1, "head_size": 2, "hidden": 2}
        >>> block, x = Block(Config(**sizes, vocabulary=5, positions=7), 0), np.zeros((3, 4, 2), np.float32)
        >>> jax.eval_shape(block.init_with_output, jax.random.key(0), x, jnp.arange(4)[None], None)[0].shape
        (3, 4, 2)
    """

    config: Config
    index: int

    def setup(self) -> None:
        """Declare the parameters."""
        config = self.config
        self.norm_attention, self.norm_mlp = RootMeanSquare(config), RootMeanSquare(config)
        self.attention = _Attention(config)
        self.gate, self.expand = (_dense(config, config.hidden, config.mlp_biases) for _ in range(2))
        self.contract = _dense(config, config.width, config.mlp_biases)

    def __call__(self, x: jax.Array, places: jax.Array, mask: Array | None) -> jax.Array:
        """Map activations ``[b t d]`` of tokens at positions ``[b t]`` to the same shape; no token sees padding."""
        keys, values = self.remembered(x, places)
        return self.attend(x, places, keys, values, places, mask)

    def remembered(self, x: jax.Array, places: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the rotated keys and the values ``[b n t k]`` of tokens ``x [b t d]`` at positions ``[b t]``."""
        return self.attention.remembered(self.norm_attention(x), places)

    def attend(
        self, x: jax.Array, places: jax.Array, keys: jax.Array, values: jax.Array, there: jax.Array, mask: Array | None
    ) -> jax.Array:
        """Return what leaves the block for tokens ``x [b q d]``, which see keys and values ``[b n t k]`` before them.

        Args:
            x: What enters the block.
            places: Positions of these tokens ``[b q]``.
            keys: What ``remembered`` returns for all tokens.
            values: The same.
            there: Positions of all tokens ``[b t]``.
            mask: Which of all tokens are real ``[b t]``; by default all.
        """
        config = self.config
        apart = places[:, :, None] - there[:, None, :]
        seen = apart >= 0  # [b q t]
        if config.window is not None and self.index >= config.full_layers:
            seen &= apart < config.window
        if mask is not None:
            seen &= jnp.asarray(mask)[:, None, :]
        x = x + self.attention(self.norm_attention(x), places, keys, values, seen)
        y = self.norm_mlp(x)
        return x + self.contract(ACTIVATIONS[config.activation](self.gate(y)) * self.expand(y))


class _Attention(nn.Module):
    """Attention with rotated queries and keys, several queries to a key; weights in float32 or better."""

    config: Config

    def setup(self) -> None:
        config, size = self.config, self.config.head_size
        self.query = _dense(config, config.heads * size, config.projection_biases)
        self.key, self.value = (_dense(config, config.key_heads * size, config.projection_biases) for _ in range(2))
        if config.normalized_queries:
            self.norm_query, self.norm_key = RootMeanSquare(config), RootMeanSquare(config)
        self.out = _dense(config, config.width, config.out_biases)

    def remembered(self, x: jax.Array, places: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the rotated keys and the values ``[b n t k]`` of ``x [b t d]``."""
        key, value = (self._by_head(projected, self.config.key_heads) for projected in (self.key(x), self.value(x)))
        if self.config.normalized_queries:
            key = self.norm_key(key)
        return rotate(key, places, self.config.theta, self.config.scaling), value

    def __call__(
        self, x: jax.Array, places: jax.Array, keys: jax.Array, values: jax.Array, seen: jax.Array
    ) -> jax.Array:
        """Map ``x [b q d]`` at positions ``[b q]`` to the same shape; ``seen [b q t]`` says who attends to whom."""
        config = self.config
        query = self._by_head(self.query(x), config.heads)
        if config.normalized_queries:
            query = self.norm_query(query)
        query = rotate(query, places, config.theta, config.scaling)
        query = query.reshape(len(query), config.key_heads, config.groups, *query.shape[2:])
        scores = jnp.einsum("bngqk,bntk->bngqt", query, keys, preferred_element_type=config.logits_dtype)
        # The lowest number rather than infinity: a row that sees no token at all then has no nan.
        lowest = jnp.finfo(scores.dtype).min
        weights = nn.softmax(jnp.where(seen[:, None, None], scores * config.head_size**-0.5, lowest))
        mixed = jnp.einsum("bngqt,bntk->bqngk", weights.astype(config.dtype), values)
        return self.out(mixed.reshape(*x.shape[:2], -1))

    def _by_head(self, y: jax.Array, heads: int) -> jax.Array:
        return y.reshape(*y.shape[:2], heads, self.config.head_size).swapaxes(1, 2)  # [b h t k]


def _dense(config: Config, width: int, biases: bool) -> nn.Dense:
    return nn.Dense(width, use_bias=biases, dtype=config.dtype, kernel_init=small_normal)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
