"""The four kinds of models: single-layer attention, a linear model, an MLP and an LSTM, each with one output.

Tokens are ids of one-hot vectors, so that a product with a matrix of ``[M ...]`` is a row of it. All take ids ``[b T]``
of any dtype, as floats while they are trained.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.data.sparse_tokens import SparseTokens
from jaxsens.typing import Apply, Array, Key, PyTree


def _one_example(model: Apply) -> Apply:
    """Return a model of a batch, of one example's function ``(params, ids [T]) -> score``."""

    @functools.wraps(model)
    def apply(variables: PyTree, tokens: Array, mask: Array | None = None) -> Array:
        if mask is not None:
            raise ValueError("mask must be None: all examples have the same length")
        params = jax.tree.map(jnp.asarray, variables["params"])
        return jax.vmap(model, (None, 0))(params, jnp.asarray(tokens, jnp.int32))

    return apply


@_one_example
def attention(params: PyTree, ids: Array) -> Array:
    """Return ``<U, softmax(X W_Q W_K^T X^T) X W_V>``, one head, without positions (Vasudeva et al., s.4)."""
    weights = jax.nn.softmax(params["queries"][ids] @ params["keys"][ids].T)
    return (params["output"] * (weights @ params["values"][ids])).sum()


@_one_example
def linear(params: PyTree, ids: Array) -> Array:
    """Return ``<W, X> + b`` with a weight for each id at each position."""
    return params["weights"][jnp.arange(len(ids)), ids].sum() + params["bias"]


@_one_example
def mlp(params: PyTree, ids: Array) -> Array:
    """Return a perceptron with one hidden layer of ReLU, on the one-hot vectors of all positions."""
    hidden = params["weights"][jnp.arange(len(ids)), ids].sum(0) + params["bias"]
    return jax.nn.relu(hidden) @ params["output"]


@_one_example
def lstm(params: PyTree, ids: Array) -> Array:
    """Return a linear function of the last state of one layer of LSTM."""
    inputs = params["inputs"][ids] + params["bias"][None]

    def step(carry: tuple[Array, Array], now: Array) -> tuple[tuple[Array, Array], None]:
        state, cell = carry
        enter, keep, new, leave = jnp.split(now + state @ params["recurrent"], 4)
        cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
        return (jax.nn.sigmoid(leave) * jnp.tanh(cell), cell), None

    zeros = jnp.zeros(params["output"].shape)
    (state, _), _ = jax.lax.scan(step, (zeros, zeros), inputs)
    return state @ params["output"]


APPLY = {"attention": attention, "linear": linear, "mlp": mlp, "lstm": lstm}


def init(kind: str, key: Key, task: SparseTokens, width: int, scale: float) -> PyTree:
    """Draw weights: normal with deviation ``scale / sqrt(fan-in)``, biases 0.

    The fan-in is what is added up: the width for rows that stand for an id, T for weights at every position, T width
    for the read-out of attention.
    """
    ids, length = task.vocabulary, task.length
    shapes = {
        "attention": {
            "queries": ((ids, width), width), "keys": ((ids, width), width), "values": ((ids, width), width),
            "output": ((length, width), length * width),
        },
        "linear": {"weights": ((length, ids), length), "bias": ((), 0)},
        "mlp": {"weights": ((length, ids, width), length), "bias": ((width,), 0), "output": ((width,), width)},
        "lstm": {
            "inputs": ((ids, 4 * width), width), "recurrent": ((width, 4 * width), width), "bias": ((4 * width,), 0),
            "output": ((width,), width),
        },
    }[kind]  # fmt: skip
    keys = jax.random.split(key, len(shapes))
    return {
        "params": {
            name: np.asarray(scale * jax.random.normal(one, shape) / np.sqrt(fan_in) if fan_in else np.zeros(shape))
            .astype(np.float32)
            for one, (name, (shape, fan_in)) in zip(keys, shapes.items(), strict=True)
        }
    }  # fmt: skip
