"""Products of an output and the output for a correlated input: what noise stability is the mean of."""

import jax
import jax.numpy as jnp

from jaxsens import changes
from jaxsens.typing import Array

__all__ = ["inner_product", "prediction_product"]


def prediction_product(first: Array, second: Array) -> jax.Array:
    """Return the product of two predictions: of signs +-1 for a score, whether the classes are equal for logits.

    A score ``[]`` or ``[1]`` of 0 counts as negative, as in ``changes.sign_change``. For logits ``[k]`` the mean is the
    probability of equal classes, ``sum_c E[1_c(x) 1_c(y)]``: the noise stability of the k indicators of the classes,
    added up.

    Args:
        first: Logits ``[k]``, or a score ``[]`` or ``[1]``.
        second: The same, of the correlated input.

    Returns:
        A scalar: float32 of -1 or 1 for a score, boolean for logits.

    Raises:
        ValueError: If outputs have more than one axis, or are complex.

    Example:
        >>> float(prediction_product(jnp.array(0.3), jnp.array(-2.0)))
        -1.0
    """
    changed = changes.prediction_change(first, second)
    return 1.0 - 2.0 * changed if jnp.size(first) == 1 else ~changed


def inner_product(first: Array, second: Array) -> jax.Array:
    """Return ``sum_k f_k(x) f_k(y)``, in squared units of the output: for functions with real values.

    Args:
        first: Outputs ``[*k]``, real.
        second: The same, of the correlated input.

    Raises:
        ValueError: If the shapes differ, or outputs are complex.

    Example:
        >>> float(inner_product(jnp.array([1.0, 2.0]), jnp.array([3.0, -1.0])))
        1.0
    """
    first, second = jnp.asarray(first), jnp.asarray(second)
    if first.shape != second.shape or jnp.iscomplexobj(first):
        raise ValueError(f"outputs must be real and of one shape, got {first.dtype} {first.shape} and {second.shape}")
    return (changes.at_least_float32(first) * changes.at_least_float32(second)).sum()
