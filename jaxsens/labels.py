"""One check of class labels, used wherever labels enter: training, accuracy, sharpness and curvature."""

import jax
import numpy as np

from jaxsens.typing import Array

__all__ = ["require_labels"]


def require_labels(labels: Array, classes: int | None) -> np.ndarray:
    """Return labels as int32 ``[n]`` after checking that each one is the number of a class.

    Labels outside the classes are dangerous because losses accept them: optax's cross-entropy takes -1 for the last
    class, and the derivative of a loss at any other label that is no class is 0.

    Args:
        labels: Class numbers ``[n]``, integers from 0 to ``classes - 1``.
        classes: The number of classes, or None if it is not known; then only the upper bound of int32 is checked.

    Raises:
        ValueError: If labels are traced, masked, empty, not integers, not one-dimensional (such as one-hot rows), or
            outside the classes; the first such label is named.

    Example:
        >>> require_labels([0, 2, 1], 3)
        array([0, 2, 1], dtype=int32)
        >>> require_labels([0, -1], 3)
        Traceback (most recent call last):
        ...
        ValueError: labels[1] is -1, but labels must be class numbers from 0 to 2
    """
    if isinstance(labels, jax.core.Tracer):
        raise ValueError("labels must be known, but they are traced: call this outside of jit, vmap and grad")
    if isinstance(labels, np.ma.MaskedArray):
        raise ValueError("labels must not be a masked array, whose mask would be lost: leave out the masked examples")
    labels = np.asarray(labels)
    if labels.ndim != 1 or not labels.size:
        remedy = "; for one-hot rows give labels.argmax(-1)" if labels.ndim == 2 else ""
        raise ValueError(f"labels must be class numbers [n], at least one, got shape {labels.shape}{remedy}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, the numbers of classes, got {labels.dtype}")
    largest = np.iinfo(np.int32).max if classes is None else classes - 1
    outside = (labels < 0) | (labels > largest)
    if outside.any():
        index = int(outside.argmax())
        raise ValueError(f"labels[{index}] is {labels[index]}, but labels must be class numbers from 0 to {largest}")
    return labels.astype(np.int32)
