"""A transformer of one layer that reads two numbers and the sign "=", and answers at "=".

The model on which grokking is studied: ``x = E[ids] + P``, attention of the last token to all three, an MLP with ReLU,
and a read-out (Nanda et al., Progress Measures for Grokking via Mechanistic Interpretability, ICLR 2023, s.3, without
normalization; Vasudeva et al., Transformers Learn Low Sensitivity Functions, s.7.3, whose code has no residual
connections either). Attention has no biases; the MLP and the read-out have some.

Only the answer at "=" is used, so that one query is computed, and it is the same for all examples; "=" is no part of
the input. The score and the value of a number depend on that number and its position: ``evaluation`` computes them once
for each number, as a table, and picks the rows of an example. Without residual connections and normalization two
matrices follow each other twice, and their product is used. Both change rounding only. ``from_embeddings`` takes the
embeddings of the two numbers, such as those with noise on them.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution.keys import require_key
from jaxsens.execution.parallel import bind
from jaxsens.models.common import require, require_flags, require_positive, require_shapes, require_unmasked
from jaxsens.typing import Apply, Array, Key, PyTree

__all__ = ["Config", "embed", "evaluation", "from_embeddings", "init"]

PAIR = 2
"""Numbers of an example; the sign "=" follows them."""

EPSILON = 1e-5
"""What normalization adds to the variance."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of the model. Configurations of equal values are equal, and hash equal.

    Attributes:
        numbers: Numbers that are read, p, which are the classes too; row p of the embeddings is "=".
        width: Length of the vector of a token.
        heads: Attention heads.
        hidden: Width of the hidden layer of the MLP.
        residual: Whether attention and MLP add to what they read.
        normalized: Whether layer normalization, with gain and offset, precedes attention, MLP and read-out.

    Raises:
        ValueError: If a size is not a positive integer, the heads do not divide the width, or a flag is not a boolean.

    Example:
        >>> Config(numbers=113).head_size
        32
    """

    numbers: int
    width: int = 128
    heads: int = 4
    hidden: int = 512
    residual: bool = False
    normalized: bool = False

    def __post_init__(self) -> None:
        require_positive(numbers=self.numbers, width=self.width, heads=self.heads, hidden=self.hidden)
        require(self.width % self.heads == 0, "heads", self.heads, f"a divisor of the width, {self.width}")
        require_flags(residual=self.residual, normalized=self.normalized)

    @property
    def head_size(self) -> int:
        """Length of a query."""
        return self.width // self.heads

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters by name."""
        width, hidden = self.width, self.hidden
        shapes = {
            "embedding": (self.numbers + 1, width), "positions": (PAIR + 1, width),
            "query": (width, width), "key": (width, width), "value": (width, width), "out": (width, width),
            "expand": (width, hidden), "expand_bias": (hidden,), "contract": (hidden, width), "contract_bias": (width,),
            "readout": (width, self.numbers), "readout_bias": (self.numbers,),
        }  # fmt: skip
        norms = ("attention", "mlp", "final") if self.normalized else ()
        return shapes | {f"{norm}_{part}": (width,) for norm in norms for part in ("gain", "offset")}


def init(config: Config, key: Key) -> PyTree:
    """Draw parameters: embeddings N(0, 1), matrices and biases uniform within ``1 / sqrt(fan-in)``, positions 0.

    Example:
        >>> init(Config(numbers=5, width=4, heads=2, hidden=8), jax.random.key(0))["params"]["expand"].shape
        (4, 8)
    """
    params, fan_in = {}, 1
    for name, subkey in zip(config.shapes, jax.random.split(require_key(key), len(config.shapes)), strict=True):
        shape = config.shapes[name]
        fan_in = shape[0] if len(shape) > 1 else fan_in  # a bias has that of the matrix before it
        bound = 1 / math.sqrt(fan_in)
        if name == "embedding":
            values = jax.random.normal(subkey, shape)
        elif name == "positions" or name.endswith("_offset"):
            values = jnp.zeros(shape)
        else:
            gain = name.endswith("_gain")
            values = jnp.ones(shape) if gain else jax.random.uniform(subkey, shape, minval=-bound, maxval=bound)
        params[name] = np.asarray(values, np.float32)
    return {"params": params}


def embed(config: Config) -> Callable[[PyTree, Array], jax.Array]:
    """Return ``embed(variables, pairs [b 2]) -> vectors [b 2 d]``, without positions: what ``from_embeddings`` takes.

    Raises:
        ValueError: When called, if pairs or variables do not fit the configuration.

    Example:
        >>> config = Config(numbers=5, width=4, heads=2, hidden=8)
        >>> embed(config)(init(config, jax.random.key(0)), np.array([[1, 2]])).shape
        (1, 2, 4)
    """
    return bind(_embed, config)


def from_embeddings(config: Config) -> Apply:
    """Return ``apply(variables, vectors [b 2 d]) -> logits [b p]``, for the embeddings of the two numbers.

    Raises:
        ValueError: When called, if vectors or variables do not have the shapes of the configuration, or with a mask.

    Example:
        >>> config = Config(numbers=5, width=4, heads=2, hidden=8)
        >>> variables, pairs = init(config, jax.random.key(0)), np.array([[1, 2], [4, 0]])
        >>> logits = from_embeddings(config)(variables, embed(config)(variables, pairs))
        >>> bool(abs(logits - evaluation(config)(variables, pairs)).max() < 1e-5)
        True
    """
    return bind(_from_embeddings, config)


def evaluation(config: Config) -> Apply:
    """Return ``apply(variables, pairs [b 2]) -> logits [b p]``.

    Raises:
        ValueError: When called, if pairs are not integers from 0 to p - 1 (traced ones are not looked at), if variables
            do not have the shapes of the configuration, or with a mask.

    Example:
        >>> config = Config(numbers=5, width=4, heads=2, hidden=8)
        >>> evaluation(config)(init(config, jax.random.key(0)), np.array([[1, 2]])).shape
        (1, 5)
    """
    return bind(_from_pairs, config)


def _embed(config: Config, variables: PyTree, pairs: Array) -> jax.Array:
    params = _params(config, variables)
    return params["embedding"][_pairs(config, pairs)]


def _from_embeddings(config: Config, variables: PyTree, vectors: Array, mask: None = None) -> jax.Array:
    require(mask is None, "mask", mask, "None: all examples have two numbers")
    require_unmasked("vectors", vectors)
    params, shape = _params(config, variables), np.shape(vectors)
    require(shape[1:] == (PAIR, config.width), "vectors", shape, f"of shape [b {PAIR} {config.width}]")
    sign = params["embedding"][-1:]
    parts = [_score_and_value(config, params, vectors[:, i], i) for i in range(PAIR)]
    return _read_out(config, params, [*parts, _score_and_value(config, params, sign, PAIR)])


def _from_pairs(config: Config, variables: PyTree, pairs: Array, mask: None = None) -> jax.Array:
    require(mask is None, "mask", mask, "None: all examples have two numbers")
    params, pairs = _params(config, variables), _pairs(config, pairs)
    numbers, sign = params["embedding"][:-1], params["embedding"][-1:]
    # Rows are picked by a product: on a CPU the gradient of a gather adds row by row.
    chosen = [jax.nn.one_hot(pairs[:, i], config.numbers, dtype=numbers.dtype) for i in range(PAIR)]
    parts = [one_hot @ _score_and_value(config, params, numbers, i) for i, one_hot in enumerate(chosen)]
    return _read_out(config, params, [*parts, _score_and_value(config, params, sign, PAIR)])


def _score_and_value(config: Config, params: PyTree, vectors: Array, place: int) -> jax.Array:
    """Return the scores of each head and the values ``[n h + d]`` of vectors ``[n d]`` at a place."""
    tokens = _norm(config, params, "attention", vectors + params["positions"][place : place + 1])
    query = _norm(config, params, "attention", _last(params)) @ params["query"]
    keys = params["key"].reshape(config.width, config.heads, config.head_size)
    asked = jnp.einsum("dhk,hk->dh", keys, query.reshape(config.heads, config.head_size))
    return jnp.concatenate([tokens @ asked / math.sqrt(config.head_size), tokens @ params["value"]], -1)


def _read_out(config: Config, params: PyTree, parts: Sequence[Array]) -> jax.Array:
    """Return logits ``[n p]`` of the scores and values of the three tokens, each ``[n h + d]`` or ``[1 h + d]``."""
    scores = jnp.stack(jnp.broadcast_arrays(*(part[:, : config.heads] for part in parts)))
    weights = jnp.repeat(jax.nn.softmax(scores, 0), config.head_size, -1)
    context = sum(weights[i] * part[:, config.heads :] for i, part in enumerate(parts))
    if not (config.residual or config.normalized):
        hidden = jax.nn.relu(context @ (params["out"] @ params["expand"]) + params["expand_bias"][None])
        bias = params["contract_bias"][None] @ params["readout"] + params["readout_bias"][None]
        return hidden @ (params["contract"] @ params["readout"]) + bias
    mixed = context @ params["out"] + (_last(params) if config.residual else 0)
    hidden = jax.nn.relu(_norm(config, params, "mlp", mixed) @ params["expand"] + params["expand_bias"][None])
    answer = hidden @ params["contract"] + params["contract_bias"][None] + (mixed if config.residual else 0)
    return _norm(config, params, "final", answer) @ params["readout"] + params["readout_bias"][None]


def _last(params: PyTree) -> jax.Array:
    return params["embedding"][-1:] + params["positions"][-1:]


def _norm(config: Config, params: PyTree, name: str, x: Array) -> jax.Array:
    if not config.normalized:
        return x
    centered = x - x.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt((centered**2).mean(-1, keepdims=True) + EPSILON)
    return centered * scale * params[f"{name}_gain"][None] + params[f"{name}_offset"][None]


def _params(config: Config, variables: PyTree) -> PyTree:
    require_shapes(config, variables, {f"['params']['{name}']": shape for name, shape in config.shapes.items()})
    return jax.tree.map(jnp.asarray, variables["params"])


def _pairs(config: Config, pairs: Array) -> jax.Array:
    """Return pairs as integers, or raise ValueError."""
    require_unmasked("pairs", pairs)
    traced = isinstance(pairs, jax.core.Tracer)
    values = pairs if traced else np.asarray(pairs)
    shape, kind = values.shape, np.dtype(values.dtype).kind
    require(len(shape) == 2 and shape[1] == PAIR and kind in "iu", "pairs", (kind, shape), "integers [b 2]")
    if not traced:
        wrong = values[(values < 0) | (values >= config.numbers)]
        require(not len(wrong), "pairs", wrong[:1].tolist(), f"from 0 to {config.numbers - 1}")
    return jnp.asarray(pairs, jnp.int32)
