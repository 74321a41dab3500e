"""The transformer that BERT, GPT-2 and the ViTs have in common.

Queries, keys and values are separate matrices and the steps of a block are methods, so that
``jaxsens.models.substitution.encoder`` can share computations among substitutions, with the same parameters.

The file is long since each part has an example.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

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
from jaxsens.typing import Array

__all__ = [
    "ACTIVATIONS",
    "ATTENTIONS",
    "Attention",
    "Block",
    "Config",
    "Transformer",
    "attention_weights",
    "dense",
    "gelu",
    "mean_over_tokens",
    "norm",
    "small_normal",
    "without_itself",
]


def gelu(x: jax.Array) -> jax.Array:
    """Return the Gaussian error linear unit ``x Phi(x)``, with an absolute error of the rounding of ``x``.

    Example:
        >>> round(float(gelu(jnp.float32(1.0))), 4)
        0.8413
    """
    # By erf: Flax's erfc, accurate for results near 0 too, takes three times as long on a CPU.
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def _quick_gelu(x: jax.Array) -> jax.Array:
    return x * nn.sigmoid(1.702 * x)


_gelu_tanh = partial(nn.gelu, approximate=True)

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_fast": _gelu_tanh,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "relu": nn.relu,
    "silu": nn.silu,
    "swish": nn.silu,
}
"""Activations of the MLP, by their names in ``config.json``; several have two names or more."""

ATTENTIONS = ("softmax", "relu")

small_normal = nn.initializers.normal(0.02)
"""The initializer of weights and embeddings in BERT, GPT-2 and the published ViT."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of a transformer. Configurations of equal values are equal, and hash equal.

    Attributes:
        width: Length of the vector that represents a token.
        depth: Number of blocks.
        heads: Attention heads of a block.
        hidden: Width of the hidden layer of a block's MLP.
        activation: One of ``ACTIVATIONS``.
        attention: ``"softmax"``; or ``"relu"``, the weights ``relu(q k' / sqrt(head size)) / tokens`` over the tokens
            that are seen (Wortsman et al. 2023, arXiv 2309.08586).
        epsilon: What layer normalization adds to the variance.
        dropout: Dropout rate, in training, of the outputs of attention and MLP, of embeddings and of the input of a
            classifier.
        dtype: The dtype of activations. Attention weights, logits and other outputs are at least float32.
        fused_attention: Whether attention uses ``jax.nn.dot_product_attention``, which on an NVIDIA GPU is cuDNN's
            kernel in bfloat16 or float16, and XLA's elsewhere. Results are equal up to rounding. Its softmax is
            computed in float32, so it is refused in float64.

    Class attributes describe an architecture, whatever its sizes: whether normalization comes before attention and MLP
    or after them; whether a token attends only to itself and earlier ones; whether attention is local: no token attends
    to itself, and the scale of scores is learned; whether the outputs of attention and MLP are scaled; whether the MLP
    is gated, ``contract(activation(gate(x)) expand(x))``; whether queries, keys and values have biases, and whether the
    output of attention has one; whether dropout is also applied within the MLP, and to attention weights; how many
    tokens the model puts first; and the initializer of its kernels.

    Raises:
        ValueError: If a size is not a positive integer, or a setting is not supported.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> config = gpt2.Config(width=4, depth=1, heads=2, hidden=4, vocabulary=5, positions=4)
        >>> isinstance(config, Config), config.head_size
        (True, 2)
    """

    norm_first: ClassVar[bool] = True
    causal: ClassVar[bool] = False
    local_attention: ClassVar[bool] = False
    layer_scale: ClassVar[bool] = False
    gated_mlp: ClassVar[bool] = False
    projection_biases: ClassVar[bool] = True
    output_bias: ClassVar[bool] = True
    drop_hidden: ClassVar[bool] = False
    drop_weights: ClassVar[bool] = False
    added_tokens: ClassVar[int] = 0
    kernel_init: ClassVar[Callable[..., jax.Array]] = staticmethod(small_normal)

    width: int
    depth: int
    heads: int
    hidden: int
    activation: str = "gelu"
    attention: str = "softmax"
    epsilon: float = 1e-12
    dropout: float = 0.0
    dtype: Any = jnp.float32
    fused_attention: bool = False

    def __post_init__(self) -> None:
        require_positive(width=self.width, depth=self.depth, heads=self.heads, hidden=self.hidden)
        self.require_heads()
        require_choice("activation", self.activation, ACTIVATIONS)
        require_choice("attention", self.attention, ATTENTIONS)
        require_flags(fused_attention=self.fused_attention)
        fusible = not self.fused_attention or self.attention == "softmax"
        require(fusible, "fused_attention", self.fused_attention, "False, as attention is not softmax")
        require_number("epsilon", self.epsilon, lambda epsilon: epsilon > 0, "a finite number above 0")
        require_number("dropout", self.dropout, lambda rate: 0 <= rate < 1, "at least 0 and below 1")
        object.__setattr__(self, "dtype", require_dtype(self.dtype))
        narrow = not self.fused_attention or self.dtype != jnp.float64
        require(narrow, "fused_attention", self.fused_attention, "False in float64, as its softmax is float32")

    def require_heads(self) -> None:
        """Raise ValueError unless the heads share the width evenly."""
        require(self.width % self.heads == 0, "heads", self.heads, f"a divisor of the width {self.width}")

    @property
    def head_size(self) -> int:
        """Length of a query."""
        return self.width // self.heads

    @property
    def reads_one_row(self) -> bool:
        """Whether outputs depend on one token's final activations: the first token's, in a causal model the last's."""
        raise NotImplementedError

    @property
    def reach(self) -> np.ndarray | None:
        """Which tokens' embeddings read each token of the input ``[t k]``, or None if only its own does."""
        return None

    @property
    def logits_dtype(self) -> Any:
        """Dtype of outputs and of attention weights: float32, or float64 if ``dtype`` is float64."""
        return jnp.promote_types(jnp.float32, self.dtype)

    @property
    def final_norm(self) -> bool:
        """Whether the last block's activations are normalized before they are read."""
        return self.norm_first


class Transformer(nn.Module):
    """Embedding, blocks, read-out. A subclass defines its embedding and its read-out.

    ``embed`` maps every token to its embedding, to which noise is added and which ``from_embeddings`` takes; ``begin``
    checks embeddings and adds tokens of the model, such as a class token; ``read`` maps final activations ``[b t d]``
    to outputs.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> issubclass(gpt2.GPT2, Transformer)
        True
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters that all models have."""
        self.block = [Block(self.config) for _ in range(self.config.depth)]
        self.drop = nn.Dropout(self.config.dropout)
        if self.config.final_norm:
            self.norm = norm(self.config)

    def __call__(self, tokens: Array, mask: Array | None = None, *, train: bool = False) -> jax.Array:
        """Map ``tokens [b t *s]`` and ``mask [b t]`` to outputs ``[b *k]``."""
        return self.from_embeddings(self.embed(tokens, mask), mask, train=train)

    def from_embeddings(self, x: Array, mask: Array | None = None, *, train: bool = False) -> jax.Array:
        """Map what ``embed`` returns, ``[b t d]``, and ``mask [b t]`` to outputs ``[b *k]``."""
        x, mask = self.begin(x, mask)
        x = self.drop(x, deterministic=not train)
        for block in self.block:
            x = block(x, mask, train=train)
        return self.read(self.finish(x), mask, train=train)

    def hidden_states(self, tokens: Array, mask: Array | None = None, *, normalize_last: bool = False) -> jax.Array:
        """Return ``[l+1 b t d]``: what enters the first block, then what leaves each."""
        x, mask = self.begin(self.embed(tokens, mask), mask)
        states = [x]
        for block in self.block:
            states.append(block(states[-1], mask))
        if normalize_last:
            states[-1] = self.finish(states[-1])
        return jnp.stack(states)

    def finish(self, x: jax.Array) -> jax.Array:
        """Return the last block's activations ``[... d]`` as the read-out sees them."""
        return self.norm(x) if self.config.final_norm else x

    def begin(self, x: Array, mask: Array | None) -> tuple[jax.Array, Array | None]:
        """Return checked embeddings ``[b t d]``, padding set to zero, and the mask."""
        expected = f"[b, t, {self.config.width}], as embed returns them"
        require(np.ndim(x) == 3 and np.shape(x)[2] == self.config.width, "embeddings' shape", np.shape(x), expected)
        require_mask(mask, np.shape(x)[:2])
        x = jnp.asarray(x, self.config.dtype)
        return (x if mask is None else jnp.where(mask[:, :, None], x, 0)), mask

    def embed(self, tokens: Array, mask: Array | None = None) -> jax.Array:
        """Map ``tokens [b t *s]`` to embeddings ``[b t d]``."""
        raise NotImplementedError

    def read(self, x: jax.Array, mask: Array | None, *, train: bool = False) -> jax.Array:
        """Map final activations ``[b t d]`` to outputs ``[b *k]``."""
        raise NotImplementedError


class Block(nn.Module):
    """Attention and MLP, each added to what goes in, with a normalization before each or after each sum.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> config = gpt2.Config(width=4, depth=1, heads=1, hidden=4, vocabulary=5, positions=4)
        >>> Block(config).config.hidden
        4
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters."""
        config = self.config
        self.norm_attention, self.norm_mlp = norm(config), norm(config)
        self.attention = Attention(config)
        self.expand, self.contract = dense(config, config.hidden), dense(config, config.width)
        self.drop = nn.Dropout(config.dropout)
        if config.gated_mlp:
            self.gate = dense(config, config.hidden)
        if config.layer_scale:
            ones = nn.initializers.ones
            self.scale_attention = self.param("scale_attention", ones, (config.width,))
            self.scale_mlp = self.param("scale_mlp", ones, (config.width,))

    def __call__(self, x: jax.Array, mask: Array | None, *, train: bool = False) -> jax.Array:
        """Map activations ``[b t d]`` to the same shape; no token sees padding."""
        return self.after_attention(x, self.attention(self.attended(x), mask, train=train), train=train)

    def attended(self, x: jax.Array) -> jax.Array:
        """Return what attention sees of activations ``[... d]``."""
        return self.norm_attention(x) if self.config.norm_first else x

    def after_attention(self, x: jax.Array, mixed: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the rest of the block for rows ``x [... d]``, and what attention gave them."""
        if not self.config.norm_first:
            x = self.norm_attention(x + self.drop(mixed, deterministic=not train))
            return self.norm_mlp(x + self.drop(self.mlp(x, train=train), deterministic=not train))
        x = x + self._scaled("attention", self.drop(mixed, deterministic=not train))
        return x + self._scaled("mlp", self.drop(self.mlp(self.norm_mlp(x), train=train), deterministic=not train))

    def mlp(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Map ``[... d]`` to the same shape."""
        activation = ACTIVATIONS[self.config.activation]
        y = activation(self.gate(x)) * self.expand(x) if self.config.gated_mlp else activation(self.expand(x))
        return self.contract(self.drop(y, deterministic=not train) if self.config.drop_hidden else y)

    def _scaled(self, branch: str, x: jax.Array) -> jax.Array:
        if not self.config.layer_scale:
            return x
        scale = {"attention": self.scale_attention, "mlp": self.scale_mlp}[branch]
        return x * jnp.expand_dims(scale.astype(x.dtype), range(x.ndim - 1))


class Attention(nn.Module):
    """Attention with ``heads`` heads and scores ``q k' / sqrt(head size)``; weights in float32 or better.

    If it is local, scores are ``q k' exp(log_scale)``, where ``log_scale`` starts at ``-log(head size) / 2``.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> config = gpt2.Config(width=4, depth=1, heads=2, hidden=4, vocabulary=5, positions=4)
        >>> Attention(config).config.heads
        2
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters."""
        config = self.config
        mixed, biases = config.heads * config.head_size, config.projection_biases
        self.query, self.key, self.value = (dense(config, mixed, biases=biases) for _ in range(3))
        self.out = dense(config, config.width, biases=config.output_bias)
        if config.local_attention:
            self.log_scale = self.param("log_scale", nn.initializers.constant(-0.5 * math.log(config.head_size)), ())
        if config.drop_weights:
            self.drop = nn.Dropout(config.dropout)

    def __call__(self, x: jax.Array, mask: Array | None, *, train: bool = False) -> jax.Array:
        """Map ``x [b t d]`` to the same shape."""
        query, key, value = self.project(x)
        if self.config.fused_attention:
            return self.join(_fused_attention(self.config, query, key, value, mask))
        return self.mix(self.scores(query, key), value, mask, train=train)

    def project(self, x: jax.Array) -> tuple[jax.Array, ...]:
        """Return queries, keys and values, each ``[... h t k]``, of ``x [... t d]``."""
        # Heads before tokens: XLA's matrix products on a CPU are up to five times slower in the other order.
        shape = (*x.shape[:-1], self.config.heads, self.config.head_size)
        return tuple(map_(x).reshape(shape).swapaxes(-3, -2) for map_ in (self.query, self.key, self.value))

    def scores(self, query: jax.Array, key: jax.Array) -> jax.Array:
        """Return ``[... h q t]`` of queries ``[... h q k]`` and keys ``[... h t k]``."""
        scores = jnp.einsum("...qk,...tk->...qt", query, key, preferred_element_type=self.config.logits_dtype)
        return scores * self.scale()

    def scale(self) -> jax.Array | float:
        """Return the factor of the scores."""
        if self.config.local_attention:
            return jnp.exp(self.log_scale.astype(self.config.logits_dtype))
        return self.config.head_size**-0.5

    def mix(self, scores: jax.Array, value: jax.Array, mask: Array | None, *, train: bool = False) -> jax.Array:
        """Return the heads' means ``[b t d]`` of values ``[b h t k]``, joined, for scores ``[b h t t]``."""
        if self.config.local_attention:
            scores = without_itself(scores, jnp.arange(scores.shape[-1]))
        weights = attention_weights(self.config, scores, mask, causal=self.config.causal).astype(self.config.dtype)
        if self.config.drop_weights:
            weights = self.drop(weights, deterministic=not train)
        return self.join(jnp.einsum("bhqt,bhtk->bhqk", weights, value))

    def join(self, mixed: jax.Array) -> jax.Array:
        """Return what heads give ``[b h q k]`` as activations ``[b q d]``."""
        mixed = mixed.swapaxes(1, 2)
        return self.out(mixed.reshape(*mixed.shape[:2], -1))


def _fused_attention(
    config: Config, query: jax.Array, key: jax.Array, value: jax.Array, mask: Array | None
) -> jax.Array:
    """Return heads' means ``[b h q k]`` in one operation."""
    attend = partial(
        jax.nn.dot_product_attention,
        mask=None if mask is None else jnp.asarray(mask)[:, None, None, :],
        is_causal=config.causal,
    )
    heads, plainly = [x.swapaxes(1, 2) for x in (query, key, value)], partial(attend, implementation="xla")
    # JAX asks for a GPU while it traces cuDNN's form; the program may nevertheless be for another platform.
    if jax.default_backend() == "gpu" and config.dtype in (jnp.bfloat16, jnp.float16):
        on_cudnn = partial(attend, implementation="cudnn")
        return jax.lax.platform_dependent(*heads, cuda=on_cudnn, default=plainly).swapaxes(1, 2)
    return plainly(*heads).swapaxes(1, 2)


def attention_weights(
    config: Config, scores: jax.Array, mask: Array | None, *, causal: bool, first: Array | int = 0
) -> jax.Array:
    """Return attention weights of scores ``[b h q t]``: none for padding, and if ``causal`` for later tokens.

    The queries are those of the tokens from ``first`` on.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> config = gpt2.Config(width=4, depth=1, heads=1, hidden=4, vocabulary=5, positions=4)
        >>> scores = np.zeros((1, 1, 2, 3), np.float32)
        >>> jax.eval_shape(lambda scores: attention_weights(config, scores, None, causal=True), scores).shape
        (1, 1, 2, 3)
    """
    seen = None if mask is None else mask[:, None, None, :]
    if causal:
        queries, keys = scores.shape[-2:]
        earlier = (jnp.arange(keys)[None] <= (first + jnp.arange(queries))[:, None])[None, None]
        seen = earlier if seen is None else seen & earlier
    if config.attention == "relu":
        weights = nn.relu(scores)
        if seen is None:
            return weights / scores.shape[-1]
        count = jnp.maximum(seen.sum(-1, keepdims=True), 1).astype(scores.dtype)
        return jnp.where(seen, weights, 0) / count
    # The lowest number rather than infinity: a row that sees no token at all then has no nan.
    return nn.softmax(scores if seen is None else jnp.where(seen, scores, jnp.finfo(scores.dtype).min))


def without_itself(scores: jax.Array, places: jax.Array) -> jax.Array:
    """Return scores ``[... q t]`` by which no query, of the tokens at ``places [q]``, attends to its own token.

    A query that has no other token to attend to attends to its own.

    Example:
        >>> nn.softmax(without_itself(jnp.zeros((2, 3)), jnp.array([0, 2]))).tolist()
        [[0.0, 0.5, 0.5], [0.5, 0.5, 0.0]]
    """
    itself = places[:, None] == jnp.arange(scores.shape[-1])[None]
    # Half of the lowest number: less than any score, and more than what padding gets.
    lowest = jnp.finfo(scores.dtype).min / 2
    return jnp.where(itself.reshape((1,) * (scores.ndim - 2) + itself.shape), lowest, scores)


def norm(config: Config) -> nn.LayerNorm:
    """Return a layer normalization.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> norm(gpt2.Config(width=4, depth=1, heads=1, hidden=4, vocabulary=5, positions=4)).epsilon
        1e-05
    """
    # Flax's default variance, E[x^2] - E[x]^2, cancels where a few activations are far larger than the others.
    return nn.LayerNorm(epsilon=config.epsilon, dtype=config.dtype, use_fast_variance=False)


def dense(config: Config, width: int, *, biases: bool = True) -> nn.Dense:
    """Return an affine map to ``width`` numbers, or without biases a linear one.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> dense(gpt2.Config(width=4, depth=1, heads=1, hidden=4, vocabulary=5, positions=4), 8).features
        8
    """
    return nn.Dense(width, use_bias=biases, dtype=config.dtype, kernel_init=config.kernel_init)


def mean_over_tokens(x: jax.Array, mask: Array | None) -> jax.Array:
    """Return the mean ``[b d]`` of ``x [b t d]`` over the real tokens; zero where there are none.

    Example:
        >>> mean_over_tokens(jnp.array([[[1.0], [3.0]]]), np.array([[True, False]]))
        Array([[1.]], dtype=float32)
    """
    if mask is None:
        return x.mean(axis=1)
    real = mask[:, :, None]
    return jnp.where(real, x, 0).sum(axis=1) / jnp.maximum(real.sum(axis=1), 1).astype(x.dtype)
