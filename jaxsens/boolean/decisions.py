"""Margin recognition: the decision that a logit makes, and whether it agrees with a language."""

import jax
import numpy as np

from jaxsens.execution import checks
from jaxsens.typing import Array

__all__ = ["ACCEPT", "REJECT", "UNDEFINED", "decide", "recognizes", "require_margin"]

ACCEPT, REJECT, UNDEFINED = 1, 0, -1
"""The decisions about a string: in the language, not in the language, or undefined."""


def decide(logits: Array, margin: float = 0.0) -> Array:
    """Return the decisions of logits at a margin: ``ACCEPT`` (1), ``REJECT`` (0) or ``UNDEFINED`` (-1).

    ``alpha(T) = 1 if T >= margin, 0 if T <= -margin, undefined between``: Eq. 15 (s.2.3) of Kövér et al.,
    Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions (arXiv 2606.08768). At margin
    0 only NaN is undefined, and a logit of exactly 0 is rejected, as in ``changes.sign_change``.

    Args:
        logits: ``[*k]``; arrays on the host keep their precision, arrays on a device (and under ``jit``) stay there.
        margin: In units of the logit; not checked where it is traced.

    Returns:
        Decisions ``[*k]``, int8.

    Raises:
        ValueError: If the margin is negative or not finite.

    Example:
        >>> decide(np.array([-2.0, 0.3, 2.0]), margin=1.0)
        array([ 0, -1,  1], dtype=int8)
    """
    require_margin(margin)
    logits = logits if isinstance(logits, jax.Array) else checks.host_values(logits, "logits")
    if logits.dtype.kind == "c":
        raise ValueError(f"logits must be real numbers, got {logits.dtype}")
    # Both conditions: 0 must not be accepted at margin 0, nor at one that underflows in the precision of the logits.
    accepted = (logits >= margin) & (logits > 0)
    undefined = ~(accepted | (logits <= -margin))
    return accepted.astype(np.int8) - undefined.astype(np.int8)


def recognizes(logits: Array, labels: Array, margin: float = 0.0) -> np.ndarray:
    """Return for every string whether the decision about it equals its label; an undefined decision equals none.

    ``alpha(T(x)) = f(x)``: Def. 2.8 of Kövér et al. (arXiv 2606.08768) requires it of all strings of all lengths.

    Args:
        logits: ``[b]``.
        labels: Whether the strings are in the language, ``[b]``, booleans or 0 and 1.
        margin: In units of the logit.

    Returns:
        Booleans ``[b]``, on the host.

    Raises:
        ValueError: If labels are not 0 or 1 or have another shape than the logits, or if the margin is negative or not
            finite.

    Example:
        >>> recognizes(np.array([-2.0, 0.3, 2.0]), np.array([0, 1, 0]), margin=0.1)
        array([ True,  True, False])
    """
    labels = checks.host_values(labels, "labels")
    if labels.shape != np.shape(logits):
        raise ValueError(f"labels must have the shape {np.shape(logits)} of the logits, got {labels.shape}")
    bad = (labels != ACCEPT) & (labels != REJECT)
    if bad.any():
        raise ValueError(f"labels must be 0 or 1, got {labels[bad].flat[0]}")
    return np.asarray(decide(logits, margin)) == labels


def require_margin(margin: float) -> None:
    """Raise ValueError unless the margin is a finite number of at least 0; a traced one has no value to check.

    Example:
        >>> require_margin(0.5)
        >>> require_margin(-1.0)
        Traceback (most recent call last):
        ValueError: margin must be a finite number of at least 0, got -1.0
    """
    if not isinstance(margin, jax.core.Tracer):
        checks.require_finite("margin", margin)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
