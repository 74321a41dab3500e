"""Balls of l2 and l-infinity around 0 in the space of a pytree: sizes, the steepest way up, projections.

Norms are guarded: vectors of zeros, of 1e-30 and of 1e30 are all handled, and nothing here gives NaN for finite input.
"""

import jax
import jax.numpy as jnp

from jaxsens.typing import Array, PyTree

__all__ = ["NORMS", "project", "require_norm", "size", "steepest"]

NORMS = ("l2", "linf")


def require_norm(norm: str) -> None:
    """Raise ValueError unless the norm is one of ``NORMS``."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")


def size(point: PyTree, norm: str) -> Array:
    """Return the norm of a pytree, all its leaves together."""
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(point)]))
    if norm == "linf":
        return largest
    # Squares of what is divided by the largest neither overflow nor vanish.
    unit = jnp.where(largest > 0, largest, 1)
    return unit * jnp.sqrt(sum(jnp.sum((leaf / unit) ** 2) for leaf in jax.tree.leaves(point)))


def steepest(gradient: PyTree, norm: str) -> PyTree:
    """Return the direction of norm 1 with the largest product with the gradient; 0 where the gradient is 0.

    ``g / ||g||_2`` in l2, ``sign(g)`` in l-infinity.
    """
    if norm == "linf":
        return jax.tree.map(jnp.sign, gradient)
    largest = size(gradient, "linf")
    unit = jnp.where(largest > 0, largest, 1)
    scaled = jax.tree.map(lambda g: g / unit, gradient)
    length = jnp.maximum(size(scaled, "l2"), 1)  # it is 1 at least, or 0
    return jax.tree.map(lambda g, s: (s / length).astype(g.dtype), gradient, scaled)


def project(point: PyTree, radius: Array, norm: str) -> PyTree:
    """Return the point of the ball of a radius that is nearest in l2."""
    if norm == "linf":
        return jax.tree.map(lambda a: jnp.clip(a, -radius, radius).astype(a.dtype), point)
    length = size(point, "l2")
    factor = jnp.where(length > radius, radius / jnp.where(length > 0, length, 1), 1)
    return jax.tree.map(lambda a: (factor * a).astype(a.dtype), point)
