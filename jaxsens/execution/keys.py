"""The check of random keys where they enter a measure."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxsens.typing import Key

__all__ = ["IMPLEMENTATION", "require_key"]

IMPLEMENTATION = "threefry2x32"
"""Generator whose draws under ``vmap`` equal the draws of each key alone, whatever the chunk is."""


def require_key(key: Any, *, traced: bool = False) -> Key:
    """Return the key if it is one typed key of the generator ``threefry2x32``.

    Under ``vmap``, the generators ``rbg`` and ``unsafe_rbg`` draw from the first key of a batch (documentation of
    ``jax.random``), so that draws would depend on the chunk.

    Args:
        key: What a caller passes.
        traced: Whether a key traced by ``jit``, ``vmap`` or ``grad`` is accepted.

    Raises:
        ValueError: If it is an integer seed, a raw key of integers, an array of keys, a key of another generator, or,
            unless ``traced``, one that is traced.

    Example:
        >>> key = require_key(jax.random.key(0))
        >>> require_key(jax.random.key(0, impl="rbg"))
        Traceback (most recent call last):
        ValueError: key must be of the generator threefry2x32, got rbg, whose draws under vmap depend on the chunk: ...
    """
    make = "jax.random.key(seed)"
    if not isinstance(key, jax.Array) or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raw = getattr(key, "dtype", None) == jnp.uint32 and getattr(key, "shape", ())[-1:] == (2,)
        if raw:
            make = "jax.random.wrap_key_data(key), or one made by jax.random.key(seed)"
        shown = f"an array {key.dtype}{list(key.shape)}" if hasattr(key, "shape") else repr(key)
        raise ValueError(f"key must be a typed key, got {shown}: pass {make}")
    if key.shape:
        raise ValueError(f"key must be one key, got an array of keys of shape {key.shape}: pass one of them")
    implementation = str(jax.random.key_impl(key))
    if implementation != IMPLEMENTATION:
        raise ValueError(
            f"key must be of the generator {IMPLEMENTATION}, got {implementation}, whose draws under vmap depend on "
            f'the chunk: pass jax.random.key(seed, impl="{IMPLEMENTATION}")'
        )
    if isinstance(key, jax.core.Tracer) and not traced:
        raise ValueError(
            "key must have a value, got one traced by jit, vmap or grad: call the measure outside of them; it compiles "
            "itself"
        )
    return key
