"""Balls of l2 and l-infinity around 0 in the space of a pytree: norms, steepest directions, projections.

Norms are computed in float32 at least, and guarded: vectors of zeros, of 1e-30 and of 1e30 are all handled, and nothing
here gives NaN for finite input, float16 included. Directions are also right for subnormal numbers, below 1.2e-38 in
float32, which XLA takes for 0 in arithmetic on a CPU; a norm of such numbers may be 0.
"""

import jax
import jax.numpy as jnp

from jaxsens.changes import at_least_float32
from jaxsens.execution import checks
from jaxsens.typing import Array, PyTree

__all__ = ["NORMS", "largest_one", "norm", "project", "require_norm", "steepest_direction"]

NORMS = ("l2", "linf")
"""The norms: ``sqrt(sum_i x_i^2)``, and ``max_i |x_i|``, over all leaves together."""


def require_norm(kind: str) -> None:
    """Raise ValueError unless ``kind`` is one of ``NORMS``.

    Example:
        >>> require_norm("l1")
        Traceback (most recent call last):
        ValueError: norm must be one of ('l2', 'linf'), got 'l1'
    """
    if not isinstance(kind, str) or kind not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, got {kind!r}")


def norm(point: PyTree, kind: str) -> Array:
    """Return the norm of a pytree, all its leaves together, in float32 at least.

    Args:
        point: Arrays of any floating-point dtypes.
        kind: One of ``NORMS``.

    Example:
        >>> float(norm({"w": jnp.float16([3e-7, 0]), "b": jnp.float16(4e-7)}, "l2")) > 4e-7
        True
    """
    checks.require_numbers("point", point)
    require_norm(kind)
    leaves = [at_least_float32(leaf) for leaf in jax.tree.leaves(point)]
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]))
    if kind == "linf":
        return largest
    # Squares of what is divided by the largest neither overflow nor vanish.
    unit = jnp.where(largest > 0, largest, 1)
    return unit * jnp.sqrt(sum(jnp.sum((leaf / unit) ** 2) for leaf in leaves))


def steepest_direction(gradient: PyTree, kind: str) -> PyTree:
    """Return the direction of norm 1 with the largest product with the gradient; 0 where the gradient is 0.

    ``g / ||g||_2`` in l2, ``sign(g)`` in l-infinity.

    Args:
        gradient: Arrays of any floating-point dtypes.
        kind: One of ``NORMS``.

    Returns:
        A pytree of the shapes and dtypes of the gradient.

    Example:
        >>> steepest_direction((jnp.array([3e-30, 0.0]), jnp.array(-4e-30)), "l2")
        (Array([0.6, 0. ], dtype=float32), Array(-0.8, dtype=float32))
    """
    require_norm(kind)
    if kind == "linf":
        return jax.tree.map(lambda g: jnp.sign(_lifted(g)), gradient)
    scaled = largest_one(gradient)
    length = jnp.maximum(norm(scaled, "l2"), 1)  # it is 1 at least, or 0
    return jax.tree.map(lambda g, s: (s / length).astype(g.dtype), gradient, scaled)


def largest_one(point: PyTree) -> PyTree:
    """Return a pytree divided by its largest absolute value, in float32 at least; zeros stay zeros.

    Args:
        point: Arrays of any floating-point dtypes.

    Example:
        >>> largest_one({"w": jnp.float32([1e-40, -4e-40])})["w"].round(2)
        Array([ 0.25, -1.  ], dtype=float32)
    """
    point = jax.tree.map(at_least_float32, point)
    largest = norm(point, "linf")
    unit = jnp.where(largest > 0, largest, 1)

    def subnormal(point: PyTree) -> PyTree:
        lifted = jax.tree.map(_lifted, point)
        top = norm(lifted, "linf")
        return jax.tree.map(lambda a: a / jnp.where(top > 0, top, 1), lifted)

    return jax.lax.cond(largest > 0, lambda tree: jax.tree.map(lambda a: a / unit, tree), subnormal, point)


def project(point: PyTree, radius: Array, kind: str) -> PyTree:
    """Return the point of the ball ``||x|| <= radius`` that is nearest in l2.

    Args:
        point: Arrays of any floating-point dtypes.
        radius: A scalar.
        kind: One of ``NORMS``.

    Returns:
        A pytree of the shapes and dtypes of the point.

    Example:
        >>> project((jnp.array([3.0, 0.0]), jnp.array(-4.0)), 2.5, "l2")
        (Array([1.5, 0. ], dtype=float32), Array(-2., dtype=float32))
    """
    require_norm(kind)
    if kind == "linf":
        return jax.tree.map(lambda a: jnp.clip(a, -radius, radius).astype(a.dtype), point)
    length = norm(point, "l2")
    factor = jnp.where(length > radius, radius / jnp.where(length > 0, length, 1), 1)
    return jax.tree.map(lambda a: (factor * at_least_float32(a)).astype(a.dtype), point)


def _lifted(leaf: Array) -> Array:
    """Return subnormal float32 numbers times 2^149, which is exact, and others as they are."""
    if leaf.dtype != jnp.float32:
        return leaf
    bits = jax.lax.bitcast_convert_type(leaf, jnp.int32)
    size = bits & 0x7FFFFFFF
    whole = size.astype(leaf.dtype)
    return jnp.where(size < 2**23, jnp.where(bits < 0, -whole, whole), leaf)
