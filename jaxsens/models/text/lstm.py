"""A stacked LSTM (Hochreiter and Schmidhuber 1997) that classifies texts: token ids, embeddings, logits.

Every parameter is trained, the embedding and the classifier among them.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.models.common import require, require_choice, require_dtype, require_mask, require_number, require_positive
from jaxsens.models.text import token_ids
from jaxsens.models.transformer import mean_over_tokens, small_normal
from jaxsens.typing import Array

__all__ = ["GATES", "LSTM", "READ_OUTS", "Config", "Layer"]

READ_OUTS = ("last", "mean")

GATES = 4
"""The number of gates, in this order: input, forget, cell, output."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of an LSTM. Configurations of equal values are equal, and hash equal.

    Attributes:
        vocabulary: Number of token ids.
        width: Length of embeddings, and of the state of every layer.
        depth: Number of layers.
        classes: The number of logits.
        read_out: The input of the classifier: the last layer's state at the ``"last"`` real token, or its ``"mean"``.
        dropout: Dropout rate, in training, of the inputs of layers and classifier.
        dtype: The dtype of activations; logits are at least float32.

    Raises:
        ValueError: If a size is not a positive integer, or a setting is not supported.

    Example:
        >>> Config(vocabulary=100, width=16, depth=2, classes=2).read_out
        'last'
    """

    vocabulary: int
    width: int
    depth: int
    classes: int
    read_out: str = "last"
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("vocabulary", "width", "depth", "classes")}
        require_positive(**sizes)
        require_choice("read_out", self.read_out, READ_OUTS)
        require_number("dropout", self.dropout, lambda rate: 0 <= rate < 1, "at least 0 and below 1")
        object.__setattr__(self, "dtype", require_dtype(self.dtype))

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a batch of one text of one token."""
        return jax.ShapeDtypeStruct((1, 1), jnp.int32)


class LSTM(nn.Module):
    """Normalized embeddings, ``depth`` layers from the first token to the last, linear classifier.

    Example:
        >>> ids = np.zeros((3, 4), np.int32)
        >>> module = LSTM(Config(vocabulary=5, width=4, depth=1, classes=2))
        >>> jax.eval_shape(module.init_with_output, jax.random.key(0), ids)[0].shape
        (3, 2)
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters."""
        config = self.config
        self.tokens = self.param("tokens", small_normal, (config.vocabulary, config.width))
        self.norm_embedding = nn.LayerNorm(dtype=config.dtype, use_fast_variance=False)
        self.layer = [Layer(config) for _ in range(config.depth)]
        self.drop = nn.Dropout(config.dropout)
        self.classifier = nn.Dense(config.classes, dtype=jnp.promote_types(jnp.float32, config.dtype))

    def __call__(self, tokens: Array, mask: Array | None = None, *, train: bool = False) -> jax.Array:
        """Map ids ``[b t]`` and ``mask [b t]`` to logits ``[b classes]``."""
        return self.from_embeddings(self.embed(tokens, mask), mask, train=train)

    def embed(self, tokens: Array, mask: Array | None = None) -> jax.Array:
        """Map ids ``[b t]`` to embeddings ``[b t d]``, each normalized."""
        tokens = token_ids.read_ids(tokens, mask, below=self.config.vocabulary)
        return self.norm_embedding(token_ids.look_up(self.tokens, tokens, self.config.dtype))

    def from_embeddings(self, x: Array, mask: Array | None = None, *, train: bool = False) -> jax.Array:
        """Map what ``embed`` returns, ``[b t d]``, and ``mask [b t]`` to logits ``[b classes]``."""
        x = self._through(x, mask, train)[-1]
        x = mean_over_tokens(x, mask) if self.config.read_out == "mean" else token_ids.last_token(x, mask)
        return self.classifier(self.drop(x, deterministic=not train))

    def hidden_states(self, tokens: Array, mask: Array | None = None) -> jax.Array:
        """Return ``[l+1 b t d]``: the embeddings, then the states of each layer."""
        return jnp.stack(self._through(self.embed(tokens, mask), mask, train=False))

    def begin(self, x: Array, mask: Array | None) -> tuple[jax.Array, Array | None]:
        """Return checked embeddings ``[b t d]``, padding set to zero, and the mask."""
        expected = f"[b, t, {self.config.width}], as embed returns them"
        require(np.ndim(x) == 3 and np.shape(x)[2] == self.config.width, "embeddings' shape", np.shape(x), expected)
        require_mask(mask, np.shape(x)[:2])
        x = jnp.asarray(x, self.config.dtype)
        return (x if mask is None else jnp.where(mask[:, :, None], x, 0)), mask

    def _through(self, x: Array, mask: Array | None, train: bool) -> list[jax.Array]:
        states = [self.begin(x, mask)[0]]
        for layer in self.layer:
            states.append(layer(self.drop(states[-1], deterministic=not train), mask))
        return states


class Layer(nn.Module):
    """One layer: ``c = sigmoid(f) c + sigmoid(i) tanh(g)``, ``h = sigmoid(o) tanh(c)``; padding changes neither.

    Example:
        >>> module, x = Layer(Config(vocabulary=5, width=4, depth=1, classes=2)), np.zeros((3, 2, 4), np.float32)
        >>> jax.eval_shape(module.init_with_output, jax.random.key(0), x, None)[0].shape
        (3, 2, 4)
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters."""
        width = self.config.width
        self.from_below = nn.Dense(GATES * width, dtype=self.config.dtype)
        self.from_before = self.param("from_before", nn.initializers.orthogonal(), (width, GATES * width))

    def __call__(self, x: jax.Array, mask: Array | None) -> jax.Array:
        """Map ``[b t d]`` to the states ``[b t d]``."""
        zeros = jnp.zeros_like(x[:, 0])
        return self.onward((zeros, zeros), x, mask)[1]

    def onward(
        self, state: tuple[jax.Array, jax.Array], x: jax.Array, mask: Array | None
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        """Go on from the states and cells ``[b d]`` before ``x [b t d]``: return both after it, and all states."""
        driven = self.from_below(x).swapaxes(0, 1)  # time first, for scan
        kernel = self.from_before.astype(self.config.dtype)
        real = jnp.ones(driven.shape[:2], bool) if mask is None else jnp.asarray(mask).T

        def step(
            state: tuple[jax.Array, ...], inputs: tuple[jax.Array, ...]
        ) -> tuple[tuple[jax.Array, ...], jax.Array]:
            hidden, cell = state
            driven, real = inputs
            enter, forget, new, leave = jnp.split(driven + hidden @ kernel, GATES, axis=1)
            next_cell = nn.sigmoid(forget) * cell + nn.sigmoid(enter) * jnp.tanh(new)
            next_hidden = nn.sigmoid(leave) * jnp.tanh(next_cell)
            if mask is not None:
                next_hidden = jnp.where(real[:, None], next_hidden, hidden)
                next_cell = jnp.where(real[:, None], next_cell, cell)
            return (next_hidden, next_cell), next_hidden

        state, states = jax.lax.scan(step, state, (driven, real))
        return state, states.swapaxes(0, 1)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
