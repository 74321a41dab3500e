"""Which tokens of a batch are real, and which of them are perturbed and counted: checked once, for all measures."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution.checks import host_arrays
from jaxsens.typing import Array, Key

__all__ = ["checked", "drawn"]

# Sites are drawn with a key of their own: the one that the last of 2^32 draws would have.
_SITES = 2**32 - 1


def checked(tokens: Array, mask: Array | None, sites: Array | None) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return tokens ``[b t *s]``, ``mask [b t]`` as passed, and sites ``[b t]``: by default, and at most, the real ones.

    Tokens in float16 or bfloat16 become float32, so that noise below their rounding is not lost.

    Raises:
        ValueError: If there is no example or no token, shapes do not fit, mask or sites are no booleans, or an example
            has no site.
    """
    tokens = host_arrays(tokens, "tokens")
    if jnp.issubdtype(tokens.dtype, jnp.floating):
        tokens = tokens.astype(np.promote_types(tokens.dtype, np.float32))
    if tokens.ndim < 2 or 0 in tokens.shape:
        raise ValueError(f"tokens must be [b t *s] with at least one example and one token, got shape {tokens.shape}")
    shape = tokens.shape[:2]
    if mask is not None:
        mask = _booleans(mask, "mask")
        if mask.shape != shape:
            raise ValueError(f"mask must have the shape [b t] = {shape} of the tokens, got {mask.shape}")
    real = np.ones(shape, bool) if mask is None else mask
    if sites is None:
        sites = real
    else:
        sites = _booleans(sites, "sites")
        if sites.shape not in (shape, shape[1:]):
            raise ValueError(f"sites must have the shape [b t] = {shape} or [t] = {shape[1:]}, got {sites.shape}")
        sites = np.broadcast_to(sites, shape) & real
    if not sites.any(1).all():
        raise ValueError(f"sites: example {int(np.argmin(sites.any(1)))} has no real token to perturb; leave it out")
    return tokens, mask, sites


def drawn(key: Key, sites: Array, count: int) -> jax.Array:
    """Draw ``count`` of an example's sites without replacement, all orders being equally likely.

    The first few of many are the few of a smaller count, and a token's luck hangs on the key and its place only, so
    that padding changes nothing.

    Args:
        key: The example's.
        sites: From which to draw ``[t]``.
        count: How many; at most t.

    Returns:
        Numbers of tokens ``[count]``; where the example has fewer sites they come first, and others behind them.
    """
    places = jnp.arange(len(sites), dtype=jnp.uint32)
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, _SITES)))(places)
    luck = jax.vmap(jax.random.uniform)(keys)
    return jnp.argsort(jnp.where(sites, luck, jnp.inf))[:count]


def _booleans(values: Array, name: str) -> np.ndarray:
    values = host_arrays(values, name)
    if values.dtype != bool:  # an additive mask of 0 and -inf, cast to booleans, would be upside down
        raise ValueError(f"{name} must be booleans, True for the tokens that count, got {values.dtype}")
    return values
