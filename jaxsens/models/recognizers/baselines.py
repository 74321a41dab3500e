"""Recognizers of bit strings to compare transformers with: a stacked LSTM and a perceptron.

``recognizers.init(config, key, scheme)`` gives variables of either.
"""

import bisect
import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxsens.execution.parallel import bind
from jaxsens.models.common import require, require_positive
from jaxsens.models.recognizers.initialization import Architecture, Spec
from jaxsens.models.recognizers.layers import affine
from jaxsens.models.recognizers.transformer import end, look_up, require_strings, require_variables
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["GATES", "KINDS", "LSTMConfig", "MLPConfig", "evaluation", "matched", "parameter_count"]

GATES = 4
"""The number of gates of an LSTM, in this order: input, forget, cell, output."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTMConfig:
    """A stacked LSTM over the embedded string, read at the end-of-string symbol.

    Attributes:
        depth: Number of layers.
        width: Length of embeddings, and of the state of every layer.

    Raises:
        ValueError: If a size is no positive integer.

    Example:
        >>> parameter_count(LSTMConfig(depth=1, width=8))
        577
    """

    depth: int
    width: int

    def __post_init__(self) -> None:
        require_positive(depth=self.depth, width=self.width)

    @property
    def specs(self) -> PyTree:
        """The shapes of the parameters: ``embedding [3 d]``, ``layers`` (stacked ``[l ...]``) and ``readout``.

        Xavier initialization treats every gate as a separate matrix. The forget gate's bias has no special value.
        """
        d, gates = self.width, (self.depth, self.width, GATES, self.width)
        layers = {
            "from_below": Spec(gates, fans=(d, d)),
            "from_before": Spec(gates, fans=(d, d)),
            "bias": Spec((self.depth, GATES, d), "bias"),
        }
        embedding = Spec((3, d), "embedding", fans=(3, d))
        return {"embedding": embedding, "layers": layers, "readout": _readout(d)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """A perceptron with ReLU on the bits of strings of one length.

    Attributes:
        length: Bits of a string.
        depth: Number of hidden layers.
        width: Units of every hidden layer.

    Raises:
        ValueError: If a size is no positive integer.

    Example:
        >>> parameter_count(MLPConfig(length=10, depth=1, width=8))
        97
    """

    length: int
    depth: int
    width: int

    def __post_init__(self) -> None:
        require_positive(length=self.length, depth=self.depth, width=self.width)

    @property
    def specs(self) -> PyTree:
        """The shapes of the parameters: ``first``, ``layers`` (other hidden ones, ``[l-1 ...]``) and ``readout``."""
        n, w, others = self.length, self.width, self.depth - 1
        first = {"weight": Spec((n, w), fans=(n, w)), "bias": Spec((w,), "bias")}
        layers = {"weight": Spec((others, w, w), fans=(w, w)), "bias": Spec((others, w), "bias")}
        return {"first": first, "layers": layers, "readout": _readout(w)}


KINDS: dict[str, Callable[..., LSTMConfig | MLPConfig]] = {
    "lstm": lambda length, **sizes: LSTMConfig(**sizes),  # noqa: ARG005
    "mlp": MLPConfig,
}
"""Configurations by name, each a function of ``length``, ``depth`` and ``width``."""


def evaluation(config: LSTMConfig | MLPConfig) -> Apply:
    """Return ``apply(variables {"params": ...}, strings [b n], mask=None) -> logits [b]``, deterministic.

    Everything is computed in the dtype of the parameters. Functions of equal configurations are equal.

    Raises:
        ValueError: If the configuration is another model's; when called, if strings or variables do not fit, or with a
            mask.

    Example:
        >>> import numpy as np
        >>> from jaxsens.models import recognizers
        >>> config = MLPConfig(length=3, depth=1, width=8)
        >>> variables = recognizers.init(config, jax.random.key(0))
        >>> evaluation(config)(variables, np.array([[0, 1, 1]])).shape
        (1,)
    """
    allowed = " or ".join(kind.__name__ for kind in _FORWARD)
    require(type(config) in _FORWARD, "config", config, f"{allowed}; transformers have recognizers.evaluation")
    return bind(_evaluate, config)


def parameter_count(config: Architecture) -> int:
    """Return the number of parameters of a model, embeddings included.

    Example:
        >>> parameter_count(MLPConfig(length=10, depth=1, width=8))
        97
    """
    return sum(math.prod(spec.shape) for spec in jax.tree.leaves(config.specs))


def matched(kind: str, parameters: int, length: int, depth: int = 2) -> LSTMConfig | MLPConfig:
    """Return the configuration whose number of parameters is nearest to a given one, the narrower of two.

    Args:
        kind: One of ``KINDS``.
        parameters: The number to match, such as ``parameter_count`` of a transformer.
        length: Bits of a string; an LSTM takes any.
        depth: Layers of an LSTM, hidden layers of a perceptron.

    Raises:
        ValueError: If the kind is unknown, or a number is no positive integer.

    Example:
        >>> matched("mlp", 1000, length=10)
        MLPConfig(length=10, depth=2, width=26)
    """
    require(isinstance(kind, str) and kind in KINDS, "kind", kind, f"one of {', '.join(KINDS)}")
    require_positive(parameters=parameters, length=length, depth=depth)

    def distance(width: int) -> int:
        return parameter_count(KINDS[kind](length=length, depth=depth, width=width)) - parameters

    widths = range(1, parameters + 1)  # every unit has a parameter at least
    above = bisect.bisect_left(widths, 0, key=distance)
    width = min(widths[max(above - 1, 0) : above + 1], key=lambda width: abs(distance(width)))
    return KINDS[kind](length=length, depth=depth, width=width)


def _readout(width: int) -> PyTree:
    return {"weight": Spec((width,), fans=(width, 1)), "bias": Spec((), "bias")}


def _evaluate(config: LSTMConfig | MLPConfig, variables: PyTree, strings: Array, mask: None = None, /) -> jax.Array:
    strings = require_strings(strings, mask)
    require_variables(config, variables)
    params = variables["params"]
    final = _FORWARD[type(config)](config, params, strings)
    return final @ params["readout"]["weight"] + params["readout"]["bias"]


def _lstm(config: LSTMConfig, params: PyTree, strings: Array) -> jax.Array:
    """Return the last layer's output at the end of string ``[b d]``."""
    del config
    x = look_up(params["embedding"], end(strings)).swapaxes(0, 1)  # time first, for scan

    def layer(x: jax.Array, weights: PyTree) -> tuple[jax.Array, None]:
        driven = jnp.einsum("tbd,dgk->tbgk", x, weights["from_below"]) + weights["bias"][None, None]

        def step(state: tuple[jax.Array, jax.Array], driven: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
            hidden, cell = state
            gates = driven + jnp.einsum("bd,dgk->bgk", hidden, weights["from_before"])
            enter, forget, new, leave = (gates[:, gate] for gate in range(GATES))
            cell = nn.sigmoid(forget) * cell + nn.sigmoid(enter) * jnp.tanh(new)
            hidden = nn.sigmoid(leave) * jnp.tanh(cell)
            return (hidden, cell), hidden

        zeros = jnp.zeros_like(x[0])
        return jax.lax.scan(step, (zeros, zeros), driven)[1], None

    return jax.lax.scan(layer, x, params["layers"])[0][-1]


def _mlp(config: MLPConfig, params: PyTree, strings: Array) -> jax.Array:
    """Return the last hidden layer ``[b w]``; bit 0 goes in as 1, bit 1 as -1."""
    count = strings.shape[1]
    require(count == config.length, "strings' length", count, f"{config.length}, as in {config}")

    def layer(x: jax.Array, weights: PyTree) -> tuple[jax.Array, None]:
        return nn.relu(affine(x, weights["weight"], weights["bias"])), None

    signs = 1 - 2 * jnp.asarray(strings, params["first"]["weight"].dtype)
    signs = jnp.where(jnp.abs(signs) == 1, signs, jnp.nan)  # traced strings cannot raise
    return jax.lax.scan(layer, layer(signs, params["first"])[0], params["layers"])[0]


_FORWARD = {LSTMConfig: _lstm, MLPConfig: _mlp}


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
