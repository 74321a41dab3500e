"""How large a weight is: scales against which perturbations are measured.

A scale maps a pytree of weights to multipliers of the same shapes. Samplers (``perturb.relative``), worst-case
sharpness, loss planes and ASAM all take one. With all but ``absolute``, a measure does not change under a rescaling of
its unit (a leaf, a filter or an element) that leaves the function of the network as it is. Elements of scale 0 do not
move.
"""

import jax
import jax.numpy as jnp

from jaxsens.changes import at_least_float32
from jaxsens.execution import checks
from jaxsens.typing import Array, PyTree, Scale

__all__ = ["absolute", "by_element", "by_filter", "by_leaf", "rescale"]


def absolute(weights: PyTree) -> PyTree:
    """Return 1 for every element: perturbations in the units of the weights.

    Example:
        >>> absolute((jnp.array([3.0, -4.0]),))
        (Array([1., 1.], dtype=float32),)
    """
    checks.require_numbers("weights", weights)
    return jax.tree.map(jnp.ones_like, weights)


def by_leaf(weights: PyTree) -> PyTree:
    """Return the root mean square of the leaf, ``||w||_2 / sqrt(size)``.

    Relative noise of deviation ``s`` then moves the leaf by ``s ||w||_2``, in mean square.

    Example:
        >>> by_leaf((jnp.array([3.0, -4.0]),))
        (Array([3.535534, 3.535534], dtype=float32),)
    """
    checks.require_numbers("weights", weights)
    return jax.tree.map(lambda w: _root_mean_square(w, tuple(range(jnp.ndim(w)))), weights)


def by_filter(weights: PyTree) -> PyTree:
    """Return the root mean square of the filter, as in Li et al., Visualizing the Loss Landscape of Neural Nets, s.4.

    A filter is the slice of a kernel ``[... in out]`` along its last axis, the weights of one output, in the layout of
    the dense layers and convolutions of Flax. Of a kernel ``[in heads size]`` the heads count as inputs. A vector or a
    scalar, such as a bias, is one filter. (The code of that paper does not move these; exclude them by ``where`` for
    the same.)

    Example:
        >>> by_filter((jnp.array([[1.0, 3.0], [1.0, -3.0]]),))
        (Array([[1., 3.], [1., 3.]], dtype=float32),)
    """
    checks.require_numbers("weights", weights)
    return jax.tree.map(lambda w: _root_mean_square(w, tuple(range(max(jnp.ndim(w) - 1, 1)))[: jnp.ndim(w)]), weights)


def by_element(weights: PyTree) -> PyTree:
    """Return ``|w|``: adaptive perturbations, as in Kwon et al., ASAM (ICML 2021), s.3, without its offset.

    Example:
        >>> by_element((jnp.array([3.0, -4.0]),))
        (Array([3., 4.], dtype=float32),)
    """
    checks.require_numbers("weights", weights)
    return jax.tree.map(jnp.abs, weights)


def rescale(direction: PyTree, weights: PyTree, scale: Scale) -> PyTree:
    """Return ``direction * scale(weights) / scale(direction)``: a direction as large as the weights; 0 where it is 0.

    With ``by_filter`` this is filter normalization: every filter of the direction gets the norm of the same filter of
    the weights.

    Args:
        direction: A pytree like ``weights``.
        weights: Arrays of floating-point numbers.
        scale: One of the scales of this module, or any other.

    Example:
        >>> rescale((jnp.array([1.0, -1.0]),), (jnp.array([3.0, 3.0]),), by_leaf)
        (Array([ 3., -3.], dtype=float32),)
    """
    checks.require_functions(scale=scale)
    checks.require_numbers("direction", direction)
    if jax.tree.map(jnp.shape, direction) != jax.tree.map(jnp.shape, weights):
        raise ValueError(f"direction must be a pytree of the shapes of weights, got {direction} for {weights}")
    return jax.tree.map(_rescaled, direction, scale(weights), scale(direction))


def _root_mean_square(w: Array, axes: tuple[int, ...]) -> Array:
    w = jnp.asarray(w)
    # In float32 at least: the square of 1e-4 is nothing in float16.
    size = jnp.sqrt(jnp.mean(at_least_float32(w) ** 2, axes, keepdims=True))
    return jnp.broadcast_to(size, w.shape).astype(w.dtype)


def _rescaled(direction: Array, size: Array, current: Array) -> Array:
    moved = at_least_float32(direction) * at_least_float32(size) / jnp.where(current > 0, at_least_float32(current), 1)
    return jnp.where(current > 0, moved, 0).astype(jnp.result_type(direction))


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
