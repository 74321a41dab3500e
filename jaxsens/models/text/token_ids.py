"""Token ids: checks, look-up of embeddings, and positions that do not depend on padding."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.models.common import require, require_mask, require_unmasked
from jaxsens.typing import Array

__all__ = ["first_token", "last_token", "look_up", "positions_of", "read_ids"]


def read_ids(ids: Array, mask: Array | None, *, below: int, longest: int | None = None, name: str = "tokens") -> Array:
    """Check ids ``[b t]`` and ``mask [b t]``, and set padding to id 0.

    Values are checked outside ``jit`` only; for traced ids see ``look_up``.

    Raises:
        ValueError: If shape or dtype does not fit, there are more than ``longest`` tokens, or a real token's id is
            negative or not ``below`` the size of the vocabulary.

    Example:
        >>> read_ids(np.array([[3, 1, 9]]), np.array([[True, True, False]]), below=5).tolist()
        [[3, 1, 0]]
    """
    require_unmasked(name, ids)
    require(np.ndim(ids) == 2 and np.shape(ids)[1] > 0, f"{name}' shape", np.shape(ids), "[b, t], t at least 1")
    require(jnp.issubdtype(ids.dtype, jnp.integer), f"{name}' dtype", str(ids.dtype), "int32")
    count = np.shape(ids)[1]
    if longest is not None:
        require(count <= longest, f"{name}' length", count, f"at most {longest}, the positions that the model has")
    require_mask(mask, np.shape(ids))
    if not isinstance(ids, jax.core.Tracer) and not isinstance(mask, jax.core.Tracer):
        values, real = np.asarray(ids), np.ones(np.shape(ids), bool) if mask is None else np.asarray(mask)
        wrong = values[real & ((values < 0) | (values >= below))]
        require(not wrong.size, f"an id in {name}", int(wrong[0]) if wrong.size else 0, f"at least 0 and below {below}")
    return ids if mask is None else jnp.where(mask, ids, 0)


def look_up(table: Array, ids: Array, dtype: np.dtype) -> jax.Array:
    """Return rows ``[*b d]`` of ``table [v d]``; NaN for ids that are none of its rows.

    Example:
        >>> look_up(np.array([[1.0], [2.0]]), jnp.array([1, 7]), jnp.float32).tolist()
        [[2.0], [nan]]
    """
    # Traced ids cannot raise, and another token's embedding would be a wrong number without a warning.
    filled = jnp.asarray(table).at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    return filled.astype(dtype)


def positions_of(mask: Array | None, shape: tuple[int, int]) -> jax.Array:
    """Return the position of every token among the real ones, 0, 1, ... ``[b t]`` (``[1 t]`` without padding).

    Example:
        >>> positions_of(jnp.array([[False, True, True]]), (1, 3)).tolist()
        [[0, 0, 1]]
    """
    if mask is None:
        return jnp.arange(shape[1])[None]
    return jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)


def first_token(x: jax.Array, mask: Array | None) -> jax.Array:
    """Return ``[b d]``, the row of ``x [b t d]`` at the first real token; at the first of all if none is real.

    Example:
        >>> first_token(jnp.array([[[1.0], [2.0]]]), jnp.array([[False, True]])).tolist()
        [[2.0]]
    """
    return x[:, 0] if mask is None else _rows(x, jnp.argmax(mask, axis=1))


def last_token(x: jax.Array, mask: Array | None) -> jax.Array:
    """Return ``[b d]``, the row of ``x [b t d]`` at the last real token; at the last of all if none is real.

    Example:
        >>> last_token(jnp.array([[[1.0], [2.0]]]), jnp.array([[True, False]])).tolist()
        [[1.0]]
    """
    return x[:, -1] if mask is None else _rows(x, mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1))


def _rows(x: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, index[:, None, None], axis=1)[:, 0]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
