"""Class labels and logits: checks used wherever they enter (curvature, sharpness, training, accuracy).

A label outside of ``0 .. classes - 1`` is dangerous: gradients of a selected NaN are 0, negative indices count from the
end, and the example counts as flat or as one of the last class.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxsens.execution import checks, parallel
from jaxsens.execution.execution import Execution
from jaxsens.execution.independence import independent_outputs, require_independent
from jaxsens.typing import Array, PyTree

__all__ = [
    "Weighted",
    "check_batch",
    "check_examples",
    "leave_out",
    "require_ignore_index",
    "require_labels",
    "that_count",
    "warn_of_probabilities",
]


class Weighted(NamedTuple):
    """Examples with several labels each, and the weight of every label in the loss of its example.

    The loss of an example is ``sum_t weights[t] loss[t]``. ``that_count`` makes such batches.

    Attributes:
        inputs: ``[b ...]``.
        labels: ``[b *t]``, or None.
        weights: ``[b *t]``; 0 for labels that do not count.

    Example:
        >>> Weighted(np.ones((1, 2)), np.array([[0, 3]]), np.array([[1.0, 0.0]])).weights.sum()
        np.float64(1.0)
    """

    inputs: PyTree
    labels: Array | None
    weights: Array


def require_labels(
    labels: Array,
    classes: int | None,
    *,
    shape: tuple[int, ...] | None = None,
    ignore_index: int | None = None,
    name: str = "labels",
) -> np.ndarray:
    """Return labels as int32, all of them from 0 to ``classes - 1``, or equal to ``ignore_index``.

    Args:
        labels: Integers, one for each example ``[b]``, or of ``shape``.
        classes: The number of classes k, or None where it is not known: then any from 0 on that int32 holds.
        shape: Shape that the labels must have; by default any ``[b]``.
        ignore_index: The one other value that is allowed, for examples (or tokens) without a label.
        name: Name of the argument, for the errors.

    Raises:
        ValueError: If labels are not integers, have another shape, or one is no class; the message names the first
            such label, its index, and a remedy.

    Example:
        >>> require_labels(np.array([2, 0, 1]), classes=3)
        array([2, 0, 1], dtype=int32)
    """
    labels = checks.host_values(labels, name, narrow=True)
    classes = np.iinfo(np.int32).max if classes is None else classes
    one_hot = labels.ndim == (1 if shape is None else len(shape)) + 1 and labels.shape[-1] == classes
    if labels.dtype.kind not in "iu" or one_hot:
        remedy = (
            f"; {name}.argmax(-1) makes them of one-hot rows"
            if one_hot
            else f"; {name}.astype(int) converts them if they number the classes from 0"
        )
        raise ValueError(f"{name} must be integers from 0 to {classes - 1}, got {labels.dtype} {labels.shape}{remedy}")
    if labels.ndim != 1 if shape is None else labels.shape != tuple(shape):
        expected = "[b], one for each example" if shape is None else f"of shape {tuple(shape)}"
        rows = labels.ndim == (1 if shape is None else len(shape)) + 1
        remedy = f"; for one-hot rows pass {name}.argmax(-1)" if rows and labels.shape[-1] > 1 else ""
        raise ValueError(f"{name} must be integers {expected}, got shape {labels.shape}{remedy}")
    wrong = (labels < 0) | (labels >= classes)
    if ignore_index is not None:
        wrong &= labels != ignore_index
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0].tolist())
        from_one = labels[wrong].max() == classes and labels.min() >= 1
        remedy = f"subtract 1 if {name} count from 1" if from_one else "leave out examples without a label"
        if not from_one and ignore_index is None:
            remedy += ", or pass ignore_index where a function has it"
        raise ValueError(
            f"{name} must be classes from 0 to {classes - 1}, got {labels[first]} at {list(first)} ({wrong.sum()} such "
            f"of {labels.size}): {remedy}"
        )
    return labels.astype(np.int32)


def require_ignore_index(value: int | None) -> None:
    """Raise ValueError unless a label that does not count is an integer of int32, or None where all count.

    Example:
        >>> require_ignore_index(-100)
    """
    if value is not None and checks.require_count("ignore_index", value, -(2**31)) >= 2**31:
        raise ValueError(f"ignore_index must fit int32, got {value}")


def check_batch(loss: Any, params: PyTree, batch: PyTree) -> PyTree:
    """Return the examples that count, after a check by the loss where it has one.

    A loss may have a method ``check_batch(params, batch) -> batch``, as ``classification.CrossEntropy`` has: it raises
    ValueError for labels that are no classes, and leaves out the ignored ones. Estimators call this function once,
    before they lay their data out, so that the mean is over examples that count.

    Args:
        loss: A loss, or any other function of ``(params, batch)``.
        params: The model's parameters; only their shapes are read.
        batch: All examples, on the host.

    Example:
        >>> batch = np.ones((2, 3))
        >>> check_batch(lambda params, batch: batch.sum(1), None, batch) is batch
        True
    """
    check = getattr(loss, "check_batch", None)
    return batch if check is None else check(params, batch)


def check_examples(
    forward: Callable[[PyTree, PyTree], PyTree], loss: Any, params: PyTree, batch: PyTree, *, execution: Execution
) -> None:
    """Check with two examples that outputs are independent, and warn where logits look like probabilities.

    It is ``require_independent``, of the logits where the loss has a method ``logits(params, batch) -> [b *t k]``, as
    ``classification.CrossEntropy`` has.

    Args:
        forward: ``forward(params, batch)`` -> outputs ``[b *k]``, for a loss without logits.
        loss: The loss.
        params: The model's parameters.
        batch: All examples, on the host.
        execution: Its ``check`` switches both off.

    Raises:
        ValueError: If outputs for an example depend on the others, its place or the evaluation.

    Example:
        >>> from jaxsens.execution import Execution
        >>> loss = lambda params, batch: (batch @ params) ** 2
        >>> check_examples(loss, loss, np.ones(2, np.float32), np.eye(2, dtype=np.float32), execution=Execution())
    """
    if not callable(getattr(loss, "logits", None)):
        require_independent(forward, params, batch, execution=execution)
        return
    outputs = independent_outputs(parallel.bind(_logits, loss), params, batch, execution=execution)
    if outputs is not None:
        warn_of_probabilities(outputs[0])


def _logits(loss: Any, params: PyTree, batch: PyTree) -> Array:
    return loss.logits(params, batch)


def warn_of_probabilities(outputs: np.ndarray) -> None:
    """Warn if outputs ``[b *t k]`` lie between 0 and 1 with sum 1 for every example, where logits are meant.

    Example:
        >>> warn_of_probabilities(np.array([[0.5, 0.6], [0.2, 0.8]]))
    """
    inside = ((outputs >= 0) & (outputs <= 1)).all()
    if inside and outputs.shape[-1] > 1 and np.allclose(outputs.sum(-1, dtype=np.float64), 1, atol=1e-3):
        warnings.warn(
            "the outputs of apply are probabilities, between 0 and 1 with sum 1 for every example, but the loss is "
            "computed from logits: return the values before the softmax",
            UserWarning,
            stacklevel=5,
        )


def leave_out(batch: PyTree, ignored: np.ndarray) -> PyTree:
    """Return the examples of a batch ``[b ...]`` that are not ``ignored [b]``.

    Raises:
        ValueError: If all are.

    Example:
        >>> leave_out({"x": np.array([1, 2, 3])}, np.array([False, True, False]))
        {'x': array([1, 3])}
    """
    if ignored.all():
        raise ValueError(
            f"labels: all {len(ignored)} examples have the ignored label, or none in the mask, so that nothing is left"
        )
    if not ignored.any():
        return batch
    return jax.tree.map(lambda a: np.asarray(a)[~ignored], batch)


def that_count(
    batch: PyTree, logits: tuple[int, ...], *, ignore_index: int | None = None, name: str = "labels"
) -> tuple[PyTree, Array | None] | Weighted:
    """Return the examples of a batch that have a label that counts, with all labels checked.

    Args:
        batch: ``(inputs, labels [b *t])``, or ``(inputs, labels, mask [b *t])`` with a boolean for each label that says
            whether it counts. Labels may be None where only their number matters. Labels that do not count may have any
            value.
        logits: The shape of the logits, ``(b, *t, k)``.
        ignore_index: A label that does not count.
        name: Name of the labels, for the errors.

    Returns:
        ``(inputs, labels [b])`` where an example has one label. Where it has several, ``Weighted`` with ``weights = b /
        n`` for each of the ``n`` labels that count: the mean over examples is then the mean over these labels.

    Raises:
        ValueError: If the batch is neither, labels are no classes (see ``require_labels``), the mask is not boolean or
            has another shape, or nothing counts.

    Example:
        >>> labels, mask = np.array([[1, 0], [1, 7]]), np.array([[True, True], [True, False]])
        >>> that_count((np.ones((2, 3)), labels, mask), (2, 2, 2)).weights.round(3)
        array([[0.667, 0.667],
               [0.667, 0.   ]], dtype=float32)
    """
    if not (isinstance(batch, tuple | list) and len(batch) in (2, 3)):
        raise ValueError(f"batch must be a pair (inputs, {name}), or (inputs, {name}, mask), got {_kind(batch)}")
    inputs, labels, mask = (*batch, None)[:3]
    shape = tuple(logits[:-1])
    counted = np.ones(shape, bool) if mask is None else checks.host_values(mask, "mask")
    if counted.dtype != bool or counted.shape != shape:
        raise ValueError(
            f"mask must be booleans of shape {shape}, one for each label, got {counted.dtype} {counted.shape}"
        )
    if labels is not None:
        labels = checks.host_values(labels, name, narrow=True)
        if labels.dtype.kind in "iu" and labels.shape == shape:
            labels = np.where(counted, labels, 0)
        labels = require_labels(labels, logits[-1], shape=shape, ignore_index=ignore_index, name=name)
        counted = counted if ignore_index is None else counted & (labels != ignore_index)
        labels = np.where(counted, labels, np.int32(0))
    ignored = ~counted.any(axis=tuple(range(1, counted.ndim)))
    inputs, labels, counted = leave_out((inputs, labels, counted), ignored)
    if len(shape) == 1:
        return inputs, labels
    weights = counted * (len(counted) / counted.sum())
    return Weighted(inputs, labels, weights.astype(jax.dtypes.canonicalize_dtype(weights.dtype)))


def _kind(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, tuple | list) else f"a {type(value).__name__}"
