"""Margin recognition: what a logit decides, and whether the decision is that of a language."""

import math

import jax
import numpy as np

from jaxsens.typing import Array

__all__ = ["decide", "recognizes", "require_margin"]

ACCEPT, REJECT, UNDEFINED = 1, 0, -1
"""The decisions about a string: in the language, not in it, or neither."""


def decide(logits: Array, margin: float = 0.0) -> Array:
    """Return what logits decide at a margin: ``ACCEPT``, ``REJECT`` or ``UNDEFINED``.

    ``alpha(T) = 1 if T >= margin, 0 if T <= -margin, undefined between``: Eq. 15 (s.2.3) of Kövér et al.,
    Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions (arXiv 2606.08768). At margin
    0 nothing is undefined but NaN, and a logit of exactly 0 is rejected, as ``changes.sign_change`` has it.

    Args:
        logits: ``[*k]``; on the host they keep their precision, on a device (and under ``jit``) they stay there.
        margin: In units of the logit. A traced one is not checked.

    Returns:
        int8 ``[*k]``.

    Raises:
        ValueError: If the margin is negative or not finite.
    """
    require_margin(margin)
    logits = logits if isinstance(logits, jax.Array) else np.asarray(logits)
    # Both conditions: 0 must not be accepted at margin 0, nor at one that underflows in the precision of the logits.
    accepted = (logits >= margin) & (logits > 0)
    undefined = ~(accepted | (logits <= -margin))
    return accepted.astype(np.int8) - undefined.astype(np.int8)


def recognizes(logits: Array, labels: Array, margin: float = 0.0) -> np.ndarray:
    """Return for every string whether the decision about it is its label; an undefined one never is.

    ``alpha(T(x)) = f(x)``: Def. 2.8 of Kövér et al. (arXiv 2606.08768) asks it of all strings of all lengths.

    Args:
        logits: ``[b]``.
        labels: Whether the strings are in the language, ``[b]``, booleans or 0 and 1.
        margin: In units of the logit.

    Returns:
        bool ``[b]``, on the host.

    Raises:
        ValueError: If labels are not 0 or 1 or not of the logits' shape, or if the margin is negative or not finite.
    """
    labels = np.asarray(labels)
    if labels.shape != np.shape(logits):
        raise ValueError(f"labels must have the shape {np.shape(logits)} of the logits, got {labels.shape}")
    bad = (labels != ACCEPT) & (labels != REJECT)
    if bad.any():
        raise ValueError(f"labels must be 0 or 1, got {labels[bad].flat[0]}")
    return np.asarray(decide(logits, margin)) == labels


def require_margin(margin: float) -> None:
    """Raise ValueError unless the margin is a finite number of at least 0; a traced one has no value to check."""
    if not isinstance(margin, jax.core.Tracer) and not 0 <= margin < math.inf:
        raise ValueError(f"margin must be a finite number of at least 0, got {margin}")
