"""Random vectors that estimate a trace: mean zero, covariance the identity.

A sampler is ``sampler(key, like [n]) -> vector [n]``; ``like`` has the shape and dtype of the vectors.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxsens.typing import Array, Key

__all__ = ["Sampler", "draw", "normal", "signs", "sphere"]

Sampler = Callable[[Key, jax.ShapeDtypeStruct], Array]
"""``sampler(key, like [n]) -> vector [n]`` of mean zero and covariance I."""


def signs(key: Key, like: jax.ShapeDtypeStruct) -> jax.Array:
    """Draw independent signs, -1 or 1 with equal probability (Rademacher).

    Example:
        >>> signs(jax.random.key(0), jax.ShapeDtypeStruct((100,), jnp.float32)).shape
        (100,)
        >>> np.unique(signs(jax.random.key(0), jax.ShapeDtypeStruct((100,), jnp.float32)))
        array([-1.,  1.], dtype=float32)
    """
    return jax.random.rademacher(key, like.shape, like.dtype)


def normal(key: Key, like: jax.ShapeDtypeStruct) -> jax.Array:
    """Draw independent standard normal numbers.

    Example:
        >>> normal(jax.random.key(0), jax.ShapeDtypeStruct((3,), jnp.float32)).shape
        (3,)
    """
    return jax.random.normal(key, like.shape, like.dtype)


def sphere(key: Key, like: jax.ShapeDtypeStruct) -> jax.Array:
    """Draw a vector uniformly from the sphere of radius ``sqrt(n)``, which makes the covariance the identity.

    Example:
        >>> vector = sphere(jax.random.key(0), jax.ShapeDtypeStruct((4,), jnp.float32))
        >>> round(float(jnp.linalg.norm(vector)), 4)
        2.0
    """
    vector = normal(key, like)
    return vector * (jnp.sqrt(jnp.asarray(like.shape[0], like.dtype)) / jnp.linalg.norm(vector))


def draw(sampler: Sampler, like: jax.ShapeDtypeStruct, key: Key, probe: Array) -> Array:
    """Draw one probe with its own key, so that the first few of many are those of few.

    Example:
        >>> like = jax.ShapeDtypeStruct((3,), jnp.float32)
        >>> draw(signs, like, jax.random.key(0), 5).shape
        (3,)
    """
    return sampler(jax.random.fold_in(key, probe), like)
