"""Random vectors that estimate a trace: mean zero, covariance the identity.

A sampler is ``sampler(key, like [n]) -> vector [n]``; ``like`` has the shape and dtype of the vectors.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxsens.typing import Array, Key

__all__ = ["Sampler", "draw", "normal", "signs", "span", "sphere"]

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


def span(
    multiply: Callable[[Array], Array], sampler: Sampler, like: jax.ShapeDtypeStruct, probes: int, key: Key
) -> tuple[Array, Array, Array]:
    """Return probes V ``[p n]``, and ``Q [n p]`` with orthonormal columns and ``R [p p]`` of ``Q R = A V``.

    Args:
        multiply: ``v -> A v`` for vectors ``[n]``.
        sampler: Draws a probe.
        like: Shape ``[n]`` and dtype of the probes.
        probes: Their number p, at most n.
        key: Decides the probes.

    Example:
        >>> vectors, basis, triangle = span(lambda v: 2 * v, signs, jnp.zeros(3), 2, jax.random.key(0))
        >>> bool(jnp.allclose(basis @ triangle, 2 * vectors.T, atol=1e-6))
        True
    """

    def drawn(probe: Array) -> tuple[Array, Array]:
        vector = draw(sampler, like, key, probe)
        return vector, multiply(vector)

    vectors, images = jax.lax.map(drawn, jnp.arange(probes, dtype=jnp.uint32))
    basis, triangle = jnp.linalg.qr(images.T)
    return vectors, basis, triangle
