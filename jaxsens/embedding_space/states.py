"""States of changed copies of a sequence, and the checks that every measure of them needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution import memory
from jaxsens.typing import Apply, Array, PyTree

__all__ = [
    "Encoding",
    "Layers",
    "checked_alternatives",
    "chosen_layers",
    "default_chunk",
    "real_states",
    "require_finite",
]

Layers = str | Sequence[int]


@dataclass(frozen=True)
class Encoding:
    """Chosen states of copies of one sequence; equal ones share compiled code.

    Attributes:
        encode: ``encode(params, tokens [b t *s], mask [b t]) -> states [l+1 b t' d]``; states beyond those of the
            tokens, such as a class token's, come before them.
        layers: Numbers of the states wanted.
    """

    encode: Apply
    layers: tuple[int, ...]

    def __call__(self, params: PyTree, tokens: Array, alternatives: Array, mask: Array | None, which: Array) -> Array:
        """Return states ``[l b t' d]`` of copies in which the tokens ``which [b t]`` are replaced."""
        which = which.reshape(which.shape + (1,) * (tokens.ndim - 1))
        copies = jnp.where(which, alternatives[None], tokens[None])
        # No mask is not passed on, so that models without one do as well.
        states = (
            self.encode(params, copies)
            if mask is None
            else self.encode(params, copies, jnp.broadcast_to(mask, (len(copies), len(mask))))
        )
        # One by one, not by an array of numbers: layers above the last one wanted are then never computed.
        states = jnp.stack([states[layer] for layer in self.layers])
        return states.astype(jnp.promote_types(states.dtype, jnp.float32))


def real_states(tokens: Array, mask: Array | None, states: Array) -> tuple[int, Array]:
    """Return how many states come before those of the tokens, and which are real ``[t']``."""
    added = states.shape[-2] - len(tokens)
    real = jnp.ones(len(tokens), bool) if mask is None else mask
    return added, jnp.concatenate([jnp.ones(added, bool), real])


def checked_alternatives(tokens: np.ndarray, alternatives: Array, replaced: np.ndarray) -> np.ndarray:
    """Return alternatives ``[b t *s]`` in the dtype of the tokens; what they are matters where ``replaced [b t]``.

    Raises:
        ValueError: If they have not the shape of the tokens, or an id is negative where a token is to be replaced: it
            has no neighbour.
    """
    alternatives = np.asarray(alternatives)
    if alternatives.shape != tokens.shape or alternatives.dtype.kind != tokens.dtype.kind:
        raise ValueError(
            f"alternatives must have the shape and kind of the tokens, {tokens.shape} {tokens.dtype}, "
            f"got {alternatives.shape} {alternatives.dtype}"
        )
    if tokens.dtype.kind in "iu":
        negative = (alternatives < 0).reshape(*replaced.shape, -1).any(2)
        missing = np.argwhere(replaced & negative)
        if len(missing):
            example, place = missing[0].tolist()
            raise ValueError(
                f"token {tokens[example, place].tolist()} of sequence {example}, position {place}, is to be replaced "
                f"but has no neighbour ({len(missing)} such places); leave it out of the sites, as "
                "nearest.replaceable[tokens] tells"
            )
    return alternatives.astype(tokens.dtype)


def chosen_layers(
    encode: Apply, layers: Layers, params: PyTree, tokens: np.ndarray, mask: np.ndarray | None
) -> tuple[int, ...]:
    """Return the numbers of the states wanted, from 0 on.

    Raises:
        ValueError: If the model cannot take the tokens, gives no states ``[l+1 b t' d]``, or has not these layers.
    """
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), (tokens, mask))
    try:
        shape = jax.eval_shape(_call(encode), params, *one).shape
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
    wanted = tuple(int(layer) for layer in layers)
    if not wanted or not all(-shape[0] <= layer < shape[0] for layer in wanted):
        raise ValueError(f"layers must be numbers from 0 to {shape[0] - 1}, or negative from the end, got {layers!r}")
    return tuple(layer % shape[0] for layer in wanted)


def default_chunk(encode: Apply, params: PyTree, tokens: np.ndarray, mask: np.ndarray | None) -> int:
    """Return the forwards that fit the budget, from the memory that one takes."""
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), (tokens, mask))
    return memory.chunk_of(_call(encode), params, *one)


def require_finite(values: Sequence[np.ndarray], sites: np.ndarray) -> None:
    """Raise FloatingPointError if a value ``[b t ...]`` at a site is not finite; it is named."""
    for value in values:
        finite = np.isfinite(value).reshape(*sites.shape, -1).all(2)
        found = np.argwhere(~finite & sites)
        if len(found):
            example, place = found[0].tolist()
            raise FloatingPointError(
                f"the states of sequence {example} are not finite when place {place} is replaced, or before "
                f"({len(found)} such places in all); look at the parameters, and at the ids of the alternatives"
            )


def _call(encode: Apply) -> Callable[..., Array]:
    return lambda params, tokens, mask: encode(params, tokens) if mask is None else encode(params, tokens, mask)
