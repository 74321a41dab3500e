"""Norms in two steps, over the elements of a token and then over tokens, so that little has to leave a device."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxsens.typing import Array

__all__ = ["NORMS", "Norm", "of_all", "one_and_others", "require_norms"]


class Norm(NamedTuple):
    """A norm of activations ``[t d]`` in three steps: ``finish(over_tokens(of_token(x)))``.

    Attributes:
        of_token: Reduces the last axis, ``[t d] -> [t]``.
        over_tokens: Reduces the tokens, ``[t] -> []``; 0 for no tokens.
        finish: Maps the result to the norm.
        join: Returns the norm of two parts together from the norms of both, for NumPy arrays.

    Example:
        >>> norm = NORMS["l2"]
        >>> float(norm.finish(norm.over_tokens(norm.of_token(jnp.array([[3.0, 0.0], [0.0, 4.0]])))))
        5.0
    """

    of_token: Callable[[Array], Array]
    over_tokens: Callable[[Array], Array]
    finish: Callable[[Array], Array]
    join: Callable[[np.ndarray, np.ndarray], np.ndarray]


def _identity(x: Array) -> Array:
    return x


NORMS = {
    "l1": Norm(lambda x: jnp.sum(jnp.abs(x), -1), lambda x: jnp.sum(x, -1), _identity, np.add),
    "l2": Norm(lambda x: jnp.sum(x**2, -1), lambda x: jnp.sum(x, -1), jnp.sqrt, np.hypot),
    "linf": Norm(lambda x: jnp.max(jnp.abs(x), -1), lambda x: jnp.max(x, -1), _identity, np.maximum),
}
"""By name: ``l1`` the sum of absolute values, ``l2`` the Euclidean norm, ``linf`` the largest absolute value."""


def require_norms(norms: Sequence[str]) -> tuple[str, ...]:
    """Return the names, or raise ValueError if one is unknown or occurs twice, or there is none.

    Example:
        >>> require_norms("l2")
        ('l2',)
        >>> require_norms(["l2", "l3"])
        Traceback (most recent call last):
        ValueError: norms must be different names out of l1, l2, linf, got ['l2', 'l3']
    """
    names = (norms,) if isinstance(norms, str) else tuple(norms) if isinstance(norms, Sequence) else ()
    supported = all(isinstance(name, str) and name in NORMS for name in names)
    if not names or not supported or len(set(names)) != len(names):
        raise ValueError(f"norms must be different names out of {', '.join(NORMS)}, got {norms!r}")
    return names


def one_and_others(x: Array, places: Array, real: Array, norms: Sequence[str]) -> tuple[Array, Array]:
    """Return the norms of one token, and those of all other real tokens together.

    Args:
        x: Activations ``[l b t d]``, or ``[l 1 t d]`` where they are the same for all ``b``.
        places: Positions of the one token ``[b]``.
        real: Whether each token is real ``[t]``.
        norms: Names out of ``NORMS``.

    Returns:
        Each ``[b l n]``.

    Example:
        >>> x = jnp.array([[[[3.0], [4.0], [12.0]]]])
        >>> one, others = one_and_others(x, jnp.array([0]), jnp.array([True, True, False]), ["l2"])
        >>> one.tolist(), others.tolist()
        ([[[3.0]]], [[[4.0]]])
    """
    others = real[None] & (jnp.arange(len(real))[None] != places[:, None])
    one, rest = [], []
    for name in norms:
        norm = NORMS[name]
        parts = norm.of_token(x)
        parts = jnp.broadcast_to(parts, (len(parts), *others.shape))
        one.append(norm.finish(jnp.take_along_axis(parts, places[None, :, None], 2)[..., 0]))
        rest.append(norm.finish(norm.over_tokens(jnp.where(others[None], parts, 0))))
    return tuple(jnp.moveaxis(jnp.stack(part), (0, 1, 2), (2, 1, 0)) for part in (one, rest))


def of_all(x: Array, real: Array, norms: Sequence[str]) -> Array:
    """Return the norms ``[l n]`` of activations ``[l t d]``, over the real tokens ``[t]``.

    Example:
        >>> of_all(jnp.array([[[3.0], [4.0]]]), jnp.array([True, True]), ["l1", "l2"]).tolist()
        [[7.0, 5.0]]
    """
    values = []
    for name in norms:
        norm = NORMS[name]
        values.append(norm.finish(norm.over_tokens(jnp.where(real[None], norm.of_token(x), 0))))
    return jnp.stack(values, -1)
