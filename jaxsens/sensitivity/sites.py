"""Which tokens of a batch are real, and which of them are perturbed and counted: one check for all measures."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution.checks import host_values
from jaxsens.typing import Array, Key

__all__ = ["checked", "drawn"]

# Sites are drawn with a separate key: the one that the last of 2^32 draws would have.
_SITES = 2**32 - 1


def checked(tokens: Array, mask: Array | None, sites: Array | None) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return tokens ``[b t *s]``, ``mask [b t]`` and sites ``[b t]`` as numpy arrays.

    Sites are by default, and at most, the real tokens. Tokens in float16 or bfloat16 become float32, so that noise
    below their rounding is not lost.

    Args:
        tokens: Ids, bits, patches or embeddings ``[b t *s]``.
        mask: Which tokens are real ``[b t]``; None where all are.
        sites: Which tokens are perturbed, ``[b t]`` or ``[t]``; None for all real ones.

    Raises:
        ValueError: If there is no example or no token, shapes do not fit, mask or sites are not booleans, an example
            has no site, an array is masked or traced, or a token does not fit the dtype on the device.

    Example:
        >>> tokens, mask, sites = checked(np.zeros((1, 3), np.int32), np.array([[True, True, False]]), None)
        >>> sites.tolist()
        [[True, True, False]]
    """
    tokens = host_values(tokens, "tokens", narrow=True)
    if jnp.issubdtype(tokens.dtype, jnp.floating):
        tokens = tokens.astype(np.promote_types(tokens.dtype, np.float32))
    if tokens.ndim < 2 or 0 in tokens.shape:
        raise ValueError(f"tokens must be [b t *s] with at least one example and one token, got shape {tokens.shape}")
    if tokens.ndim == 4 and tokens.shape[3] in (1, 3, 4):
        warnings.warn(
            f"tokens [b {' '.join(map(str, tokens.shape[1:]))}] look like images [b h w c], of which a token would be "
            "a row of pixels: pass one_at_a_time(jaxsens.from_images(apply, patch)) and the tokens "
            "jaxsens.data.patches.to_patches(images, patch)",
            UserWarning,
            stacklevel=3,
        )
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

    The first n of a larger count are those of a count of n. Each token's priority depends only on the key and its
    position, so that padding changes nothing.

    Args:
        key: The key of the example.
        sites: From which to draw, booleans ``[t]``.
        count: The number of sites; at most t.

    Returns:
        Numbers of tokens ``[count]``; where the example has fewer sites they come first, followed by other tokens.

    Example:
        >>> sorted(drawn(jax.random.key(0), jnp.array([True, False, True]), 2).tolist())
        [0, 2]
    """
    positions = jnp.arange(len(sites), dtype=jnp.uint32)
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, _SITES)))(positions)
    priority = jax.vmap(jax.random.uniform)(keys)
    return jnp.argsort(jnp.where(sites, priority, jnp.inf))[:count]


def _booleans(values: Array, name: str) -> np.ndarray:
    values = host_values(values, name)
    if values.dtype != bool:  # an additive mask of 0 and -inf, cast to booleans, would be upside down
        raise ValueError(f"{name} must be booleans, True for the tokens that count, got {values.dtype}")
    return values
