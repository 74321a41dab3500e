"""States of copies of a sequence with tokens replaced, and the checks that all measures of them share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution import checks, memory, parallel
from jaxsens.execution.execution import Execution
from jaxsens.execution.independence import require_independent
from jaxsens.typing import Apply, Array, PyTree

__all__ = [
    "Encoding",
    "Layers",
    "checked_alternatives",
    "chosen_layers",
    "default_chunk",
    "real_states",
    "require_finite",
    "require_independent_states",
]

Layers = str | Sequence[int]


@dataclass(frozen=True)
class Encoding:
    """Chosen states of copies of one sequence; equal ones share compiled code. Each state is float32 at least.

    Attributes:
        encode: ``encode(params, tokens [b t *s], mask [b t]) -> states [l+1 b t' d]``; states beyond those of the
            tokens, such as a class token's, come before them.
        layers: Indices of the chosen states.

    Example:
        >>> encoding = Encoding(lambda params, tokens: jnp.stack([tokens, 2 * tokens]), layers=(1,))
        >>> x, y = jnp.array([[1.0], [2.0]]), jnp.array([[5.0], [6.0]])
        >>> encoding(None, x, y, None, jnp.array([[True, False]])).tolist()
        [[[[10.0], [4.0]]]]
    """

    encode: Apply
    layers: tuple[int, ...]

    def __call__(self, params: PyTree, tokens: Array, alternatives: Array, mask: Array | None, which: Array) -> Array:
        """Return states ``[l b t' d]`` of copies with the tokens ``which [b t]`` replaced."""
        which = which.reshape(which.shape + (1,) * (tokens.ndim - 1))
        copies = jnp.where(which, alternatives[None], tokens[None])
        # Without a mask none is passed, so that models without this parameter work.
        states = (
            self.encode(params, copies)
            if mask is None
            else self.encode(params, copies, jnp.broadcast_to(mask, (len(copies), len(mask))))
        )
        # One by one, not by an array of indices: layers above the last chosen one are then not computed.
        states = jnp.stack([states[layer] for layer in self.layers])
        return states.astype(jnp.promote_types(states.dtype, jnp.float32))


def real_states(tokens: Array, mask: Array | None, states: Array) -> tuple[int, Array]:
    """Return the number of states before those of the tokens, and which states are real ``[t']``.

    Example:
        >>> added, real = real_states(jnp.zeros((2, 1)), jnp.array([True, False]), jnp.zeros((1, 3, 4)))
        >>> added, real.tolist()  # one more state, such as a class token's, comes first
        (1, [True, True, False])
    """
    added = states.shape[-2] - len(tokens)
    real = jnp.ones(len(tokens), bool) if mask is None else mask
    return added, jnp.concatenate([jnp.ones(added, bool), real])


def checked_alternatives(tokens: np.ndarray, alternatives: Array, replaced: np.ndarray) -> np.ndarray:
    """Return alternatives ``[b t *s]`` in the dtype of the tokens; their values matter only where ``replaced [b t]``.

    Raises:
        ValueError: If their shape or kind is not that of the tokens, the dtype of the tokens does not hold one of them,
            or an id is negative where a token is replaced (it has no neighbor).

    Example:
        >>> checked_alternatives(np.array([[1, 2]]), np.array([[3, -1]]), np.array([[True, False]])).tolist()
        [[3, -1]]
    """
    alternatives = checks.host_values(alternatives, "alternatives", narrow=True)
    if alternatives.shape != tokens.shape or alternatives.dtype.kind != tokens.dtype.kind:
        raise ValueError(
            f"alternatives must have the shape and kind of the tokens, {tokens.shape} {tokens.dtype}, "
            f"got {alternatives.shape} {alternatives.dtype}"
        )
    if tokens.dtype.kind in "iu":
        largest, used = np.iinfo(tokens.dtype).max, alternatives[replaced]
        if used.size and used.max() > largest:
            raise ValueError(
                f"alternatives must fit {tokens.dtype}, the type of the tokens, got {used.max()}: pass int32 tokens"
            )
        negative = (alternatives < 0).reshape(*replaced.shape, -1).any(2)
        missing = np.argwhere(replaced & negative)
        if len(missing):
            example, place = missing[0].tolist()
            raise ValueError(
                f"token {tokens[example, place].tolist()} of sequence {example}, position {place}, has no neighbor to "
                f"replace it ({len(missing)} such places): leave it out of the sites, sites & "
                "nearest.replaceable[tokens]"
            )
    return alternatives.astype(tokens.dtype)


def chosen_layers(
    encode: Apply, layers: Layers, params: PyTree, tokens: np.ndarray, mask: np.ndarray | None
) -> tuple[int, ...]:
    """Return the indices of the chosen states, counted from 0.

    Raises:
        ValueError: If the tokens do not fit the model, it returns no states ``[l+1 b t' d]``, or it has no such layer.

    Example:
        >>> def encode(params, tokens, mask=None):
        ...     return jnp.stack([params[tokens]] * 3)
        >>> chosen_layers(encode, [-1, 0], np.eye(4, dtype=np.float32), np.array([[1, 2]], np.int32), None)
        (2, 0)
    """
    spec = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), (tokens, mask))
    try:
        shape = jax.eval_shape(_call(encode), params, *spec).shape
    except Exception as error:
        raise ValueError(
            f"tokens of shape {tokens.shape[1:]} and type {tokens.dtype} (for one sequence), params and encode do not "
            f"fit together: {error}"
        ) from error
    if len(shape) != 4 or shape[1] != 1 or shape[2] < tokens.shape[1]:
        raise ValueError(f"encode must give states [l+1 b t d] of {tokens.shape[1]} tokens or more, got shape {shape}")
    if isinstance(layers, str):
        if layers != "all":
            raise ValueError(f'layers must be "all" or numbers of states, got {layers!r}')
        return tuple(range(shape[0]))
    message = f"layers must be integers from 0 to {shape[0] - 1}, or negative from the end, got {layers!r}"
    try:
        indices = tuple(checks.require_count("layers", layer, -shape[0]) for layer in layers)
    except (TypeError, ValueError) as error:
        raise ValueError(message) from error
    if not indices or max(indices) >= shape[0]:
        raise ValueError(message)
    return tuple(layer % shape[0] for layer in indices)


def require_independent_states(
    encode: Apply, params: PyTree, tokens: np.ndarray, mask: np.ndarray | None, execution: Execution
) -> None:
    """Raise ValueError if the states of a sequence depend on the other sequences; see ``require_independent``.

    Example:
        >>> def encode(params, tokens, mask=None):
        ...     return params[tokens][None]
        >>> table, ids = np.eye(4, dtype=np.float32), np.array([[1, 2]], np.int32)
        >>> require_independent_states(encode, table, ids, None, Execution())
    """
    batch = (tokens,) if mask is None else (tokens, mask)
    require_independent(parallel.bind(_sequences_first, encode), params, batch, execution=execution)


def _sequences_first(encode: Apply, params: PyTree, batch: tuple[Array, ...]) -> Array:
    return jnp.moveaxis(encode(params, *batch), 1, 0)


def default_chunk(
    encode: Apply, params: PyTree, tokens: np.ndarray, mask: np.ndarray | None, execution: Execution
) -> int:
    """Return the number of forwards that fit ``memory.budget``.

    Example:
        >>> table, ids = np.eye(4, dtype=np.float32), np.array([[1, 2]], np.int32)
        >>> default_chunk(lambda params, tokens: params[tokens][None], table, ids, None, Execution()) > 0
        True
    """
    spec = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), (tokens, mask))
    return memory.chunk_of(_call(encode), params, *spec, execution=execution)


def require_finite(values: Sequence[np.ndarray], sites: np.ndarray) -> None:
    """Raise FloatingPointError if a value ``[b t ...]`` at a site is not finite, naming its sequence and position.

    Example:
        >>> require_finite([np.array([[1.0, np.nan]])], np.array([[True, False]]))
        >>> require_finite([np.array([[1.0, np.nan]])], np.array([[True, True]]))
        Traceback (most recent call last):
        FloatingPointError: the states of sequence 0 are not finite when place 1 is replaced, or before (1 ...
    """
    for value in values:
        finite = np.isfinite(value).reshape(*sites.shape, -1).all(2)
        nonfinite = np.argwhere(~finite & sites)
        if len(nonfinite):
            example, place = nonfinite[0].tolist()
            raise FloatingPointError(
                f"the states of sequence {example} are not finite when place {place} is replaced, or before "
                f"({len(nonfinite)} such places in all); look at the parameters, and at the ids of the alternatives"
            )


def _call(encode: Apply) -> Callable[..., Array]:
    return lambda params, tokens, mask: encode(params, tokens) if mask is None else encode(params, tokens, mask)
