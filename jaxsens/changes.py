"""What is recorded of an output and the output after a perturbation, for one example.

Each function maps ``(clean [*k], changed [*k])`` to a scalar. Booleans are events, and their mean is a rate.
"""

import jax
import jax.numpy as jnp

from jaxsens.typing import Array, PyTree

__all__ = [
    "absolute_change",
    "euclidean_change",
    "largest_change",
    "nonfinite",
    "prediction_change",
    "sign_change",
    "squared_change",
]


def prediction_change(clean: Array, changed: Array) -> Array:
    """Return whether the predicted class changed: ``argmax clean != argmax changed``.

    An output ``[]`` or ``[1]`` is the score of a binary classifier and predicts by its sign, as in Def. 4.1 of Vasudeva
    et al., Transformers Learn Low Sensitivity Functions.
    """
    if clean.size == 1:
        return sign_change(clean, changed)
    if clean.ndim != 1:
        raise ValueError(f"prediction_change needs logits [k] for an example, got shape {clean.shape}")
    return clean.argmax() != changed.argmax()


def sign_change(clean: Array, changed: Array) -> Array:
    """Return whether the sign of a score changed; a score of exactly 0 counts as negative (rejected)."""
    if clean.size != 1:
        raise ValueError(f"sign_change needs one score for an example, got shape {clean.shape}")
    return ((clean > 0) != (changed > 0)).reshape(())


def squared_change(clean: Array, changed: Array) -> Array:
    """Return ``sum_k (changed_k - clean_k)^2``, in squared units of the output."""
    return jnp.sum((changed - clean) ** 2)


def absolute_change(clean: Array, changed: Array) -> Array:
    """Return ``sum_k |changed_k - clean_k|``: the l1 norm of the change of all outputs, not their mean."""
    return jnp.sum(jnp.abs(changed - clean))


def euclidean_change(clean: Array, changed: Array) -> Array:
    """Return ``sqrt(sum_k (changed_k - clean_k)^2)``: the l2 norm of the change."""
    return jnp.sqrt(squared_change(clean, changed))


def largest_change(clean: Array, changed: Array) -> Array:
    """Return ``max_k |changed_k - clean_k|``: the l-infinity norm of the change."""
    return jnp.max(jnp.abs(changed - clean))


def nonfinite(outputs: PyTree) -> Array:
    """Return for every example of a batch ``[b *k]`` whether any of its outputs is NaN or infinite, ``[b]``."""
    rows = [~jnp.isfinite(a).reshape(len(a), -1).all(1) for a in jax.tree.leaves(outputs)]
    return jnp.stack(rows).any(0)
