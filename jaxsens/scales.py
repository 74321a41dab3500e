"""How large a weight is: scales against which perturbations are measured.

A scale maps a pytree of weights to multipliers of the same shapes. Samplers (``perturb.relative``), worst-case
sharpness, loss planes and ASAM all take one. All but ``absolute`` make a measure blind to a rescaling of its unit, a
leaf, a filter or an element, that the function of the network does not feel. What is 0 does not move relatively.
"""

import jax
import jax.numpy as jnp

from jaxsens.changes import at_least_float32
from jaxsens.typing import Array, PyTree, Scale

__all__ = ["absolute", "by_element", "by_filter", "by_leaf", "rescale"]


def absolute(weights: PyTree) -> PyTree:
    """Return 1 for every element: perturbations in the units of the weights."""
    return jax.tree.map(jnp.ones_like, weights)


def by_leaf(weights: PyTree) -> PyTree:
    """Return the root mean square of the leaf: noise of deviation ``s`` moves it by ``s ||w||_2``, in mean square."""
    return jax.tree.map(lambda w: _root_mean_square(w, tuple(range(jnp.ndim(w)))), weights)


def by_filter(weights: PyTree) -> PyTree:
    """Return the root mean square of the filter, as in Li et al., Visualizing the Loss Landscape of Neural Nets, s.4.

    A filter is what feeds one output: the slice of a kernel ``[... in out]`` along its last axis, the layout of Flax's
    dense layers and convolutions. Of a kernel ``[in heads size]`` the heads count as inputs. A vector or a scalar, a
    bias say, is one filter as a whole (in that paper's code it stays where it is; leave it out by ``where`` for the
    same).
    """
    return jax.tree.map(lambda w: _root_mean_square(w, tuple(range(max(jnp.ndim(w) - 1, 1)))[: jnp.ndim(w)]), weights)


def by_element(weights: PyTree) -> PyTree:
    """Return ``|w|``: adaptive perturbations, as in Kwon et al., ASAM (ICML 2021), s.3, without its offset."""
    return jax.tree.map(jnp.abs, weights)


def rescale(direction: PyTree, weights: PyTree, scale: Scale) -> PyTree:
    """Return ``direction * scale(weights) / scale(direction)``: a direction as large as the weights; 0 where it is 0.

    With ``by_filter`` this is filter normalisation: every filter of the direction gets the norm of the weights'.
    """
    return jax.tree.map(_rescaled, direction, scale(weights), scale(direction))


def _root_mean_square(w: Array, axes: tuple[int, ...]) -> Array:
    w = jnp.asarray(w)
    # In float32 at least: the square of 1e-4 is nothing in float16.
    size = jnp.sqrt(jnp.mean(at_least_float32(w) ** 2, axes, keepdims=True))
    return jnp.broadcast_to(size, w.shape).astype(w.dtype)


def _rescaled(direction: Array, size: Array, current: Array) -> Array:
    moved = at_least_float32(direction) * at_least_float32(size) / jnp.where(current > 0, at_least_float32(current), 1)
    return jnp.where(current > 0, moved, 0).astype(jnp.result_type(direction))
