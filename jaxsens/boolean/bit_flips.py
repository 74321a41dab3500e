"""Logits of and decisions about a string and its neighbors, the strings that differ from it in one bit."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.boolean.decisions import UNDEFINED, decide
from jaxsens.execution import memory
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.typing import Array, PyTree, Substitute, SubstituteAt

__all__ = ["check_finite", "check_fit", "decide_neighbors", "default_chunk", "exhaustive", "flips", "neighbor_logits"]

NeighborLogits = Callable[..., Array]
"""``neighbor_logits`` with a substitute and a precision bound by ``parallel.bind``."""


def neighbor_logits(
    substitute: Substitute | SubstituteAt, precision: str, bits: Array, params: PyTree, sites: Array | None = None
) -> Array:
    """Return the logits ``[n+1]`` of a string ``bits [n]`` and of its neighbors, that of the string first.

    With ``sites [j]`` only the neighbors that differ from it there are evaluated, ``[j+1]``.

    Example:
        >>> count = substitution.one_at_a_time(lambda params, bits: 1.0 * bits.sum(1))
        >>> neighbor_logits(count, "highest", jnp.array([0, 1, 1]), None).tolist()
        [2.0, 3.0, 1.0, 1.0]
    """
    few = () if sites is None else (sites,)
    with jax.default_matmul_precision(precision):
        clean, changed = substitute(params, bits, 1 - bits, None, *few)
    shapes = [getattr(logits, "shape", type(logits)) for logits in (clean, changed)]
    count = len(bits if sites is None else sites)
    if shapes not in ([(), (count,)], [(1,), (count, 1)]):
        raise ValueError(
            f"the model must give one logit a string, [] or [1], got {shapes[0]} and, changed, {shapes[1]}"
        )
    if not jnp.issubdtype(clean.dtype, jnp.floating):
        raise ValueError(f"the model must give floating logits, got {clean.dtype}")
    return jnp.concatenate([clean.reshape(1), changed.reshape(-1)])


def decide_neighbors(logits: NeighborLogits, bits: Array, params: PyTree, margin: Array) -> tuple[Array, Array]:
    """Return the decisions about a string and its neighbors ``[n+1]``, and which of their logits are not finite.

    Example:
        >>> decisions, nonfinite = decide_neighbors(lambda bits, params: bits - 0.5, jnp.array([0, 1]), None, 0.0)
        >>> decisions.tolist(), nonfinite.tolist()
        ([0, 1], [False, False])
    """
    values = logits(bits, params)
    return decide(values, margin), ~jnp.isfinite(values)


def flips(decisions: np.ndarray) -> np.ndarray:
    """Return which bits turn acceptance into rejection or back ``[b n]``, from decisions ``[b n+1]``.

    Example:
        >>> flips(np.array([[1, -1, 1]])).tolist()
        [[False, False]]
    """
    defined = decisions != UNDEFINED
    return (decisions[:, 1:] != decisions[:, :1]) & defined[:, 1:] & defined[:, :1]


def exhaustive(strings: np.ndarray) -> bool:
    """Return whether the strings ``[b n]`` are all ``2^n``, each once.

    Example:
        >>> exhaustive(np.array([[0, 0], [0, 1], [1, 0], [1, 1]])), exhaustive(np.array([[0, 0], [0, 0]]))
        (True, False)
    """
    count, length = strings.shape
    return count == 2**length and len(np.unique(np.packbits(strings, axis=1), axis=0)) == count


def default_chunk(logits: NeighborLogits, length: int, params: PyTree, execution: Execution = DEFAULT) -> int:
    """Return the number of forwards that fit ``memory.budget``, from the memory of one string's substitution.

    Example:
        >>> default_chunk(lambda bits, params: 1.0 * bits, 3, None) > 0
        True
    """
    spec = jax.ShapeDtypeStruct((length,), np.int32)
    return memory.chunk_of(logits, spec, params, execution=execution) * (length + 1)


def check_fit(logits: NeighborLogits, length: int, params: PyTree) -> np.dtype:
    """Return the dtype of the logits; raise ValueError if the strings do not fit the model.

    Example:
        >>> check_fit(lambda bits, params: bits @ params, 3, np.ones(3, np.float32))
        dtype('float32')
    """
    try:
        return jax.eval_shape(logits, jax.ShapeDtypeStruct((length,), np.int32), params).dtype
    except Exception as error:
        raise ValueError(f"strings of {length} bits, params and substitute do not fit together: {error}") from error


def check_finite(nonfinite: np.ndarray, index: np.ndarray, where: str = "") -> None:
    """Raise FloatingPointError if a logit is not finite.

    Args:
        nonfinite: Which logits are not finite ``[b n+1]``, that of the string itself first.
        index: Numbers of the strings ``[b]``.
        where: A phrase for the message, such as " in float64".

    Example:
        >>> check_finite(np.array([[False, False], [False, True]]), np.array([7, 9]))
        Traceback (most recent call last):
        FloatingPointError: the model's logit is not finite for string 9 with bit 0 flipped (1 such logits ...
    """
    places = np.argwhere(nonfinite)
    if len(places):
        string, row = places[0].tolist()
        flipped = f"with bit {row - 1} flipped" if row else "as it is"
        raise FloatingPointError(
            f"the model's logit is not finite{where} for string {index[string]} {flipped} ({len(places)} such logits "
            "in all); look at the parameters"
        )
