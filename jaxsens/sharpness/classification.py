"""A classifier with its labels: logits, cross-entropy and errors from one forward, and what changes in all of them."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import changes
from jaxsens import labels as class_labels
from jaxsens.execution import batches
from jaxsens.labels import Weighted
from jaxsens.typing import Array, PyTree

__all__ = ["ClassifierOutputs", "CrossEntropy", "NormalizedLogits", "all_changes"]


@dataclass(frozen=True)
class ClassifierOutputs:
    """The function ``(params, (inputs, labels [b])) -> {"logits" [b k], "loss" [b], "wrong" [b]}``.

    The loss is ``-log softmax(logits)[label]`` in nats, and NaN where a label is outside ``0 .. k - 1``; ``wrong`` is 1
    where the most likely class is not the label, else 0. All are float32 at least. Equal values share compiled code.

    Attributes:
        apply: ``apply(params, inputs)`` -> logits ``[b k]``.

    Raises:
        ValueError: When called, if logits are not ``[b k]`` of at least two classes, or labels not integers ``[b]``.

    Example:
        >>> outputs = ClassifierOutputs(lambda params, x: x)(None, (jnp.array([[2.0, 0.0]]), jnp.array([1])))
        >>> outputs["wrong"].tolist(), outputs["loss"]  # log(1 + e^2)
        ([1.0], Array([2.126928], dtype=float32))
    """

    apply: Callable[[PyTree, PyTree], Array]

    def __call__(self, params: PyTree, batch: tuple[PyTree, Array]) -> dict[str, Array]:
        """Return logits, losses and errors."""
        inputs, labels = batch
        logits = self.apply(params, inputs)
        if logits.ndim != 2 or labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise ValueError(
                f"apply must give logits [b k], and labels must be integers [b], got shapes {logits.shape} and "
                f"{labels.shape} of {labels.dtype}"
            )
        if logits.shape[1] == 1:
            raise ValueError(
                "apply must give logits [b k] of at least two classes, got k = 1, for which the loss is always 0: pass "
                "a score z as the two logits [0, z]"
            )
        # In float16 the loss would be rounded by more than noise changes it, and integers would wrap.
        logits = changes.at_least_float32(logits)
        return {
            "logits": logits,
            "loss": _losses(logits, labels),
            "wrong": (logits.argmax(1) != labels).astype(logits.dtype),
        }

    def logits(self, params: PyTree, batch: tuple[PyTree, Array]) -> Array:
        """Return the logits ``[b k]``."""
        return self.apply(params, batch[0])

    def check_batch(self, params: PyTree, batch: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        """Return the batch, or raise ValueError for labels that are no classes; see ``labels.check_batch``."""
        if not (isinstance(batch, tuple | list) and len(batch) == 2):
            raise ValueError(f"batch must be a pair (inputs, labels), got a {type(batch).__name__}")
        checked = CrossEntropy(self.apply).check_batch(params, batch)
        if isinstance(checked, Weighted):
            shape = checked.labels.shape
            raise ValueError(f"apply must give logits [b k], one row for each example, got labels of shape {shape}")
        return checked


@dataclass(frozen=True)
class CrossEntropy:
    """The losses ``(params, (inputs, labels [b])) -> -log softmax(logits)[label] [b]`` of a classifier, in nats.

    Logits may also be ``[b *t k]``, with a label for each token, ``[b *t]``: the loss of an example is then the mean
    over its labels. A loss is NaN where a label that counts is outside ``0 .. k - 1``.

    The batch may be ``(inputs, labels, mask)``, with a boolean for each label, ``[b *t]``, that says whether it counts.
    Where labels do not count, estimators leave out the examples without any other, and their mean over examples is the
    mean over all labels that count: ``sum over labels / number of labels``, as in training with an ignored index. The
    loss that they see of an example is then the sum over its labels that count, divided by the mean number of these
    for an example. In a direct call, which does not know the other examples, it is the mean over the example's own
    labels that count, and NaN if there is none.

    Equal values share compiled code.

    Attributes:
        apply: ``apply(params, inputs)`` -> logits ``[b *t k]``.
        ignore_index: A label that does not count, such as -100.

    Raises:
        ValueError: If ``ignore_index`` is no integer; when called, if logits are not ``[b *t k]`` of at least two
            classes, or labels not integers ``[b *t]``.

    Example:
        >>> loss = CrossEntropy(lambda w, x: x @ w, ignore_index=-100)
        >>> loss(jnp.zeros((3, 2)), (jnp.ones((1, 3)), jnp.array([0])))  # log 2
        Array([0.6931472], dtype=float32)
        >>> loss(jnp.zeros((3, 2)), (jnp.ones((1, 4, 3)), jnp.array([[0, 1, -100, -100]])))  # of two tokens
        Array([0.6931472], dtype=float32)
    """

    apply: Callable[[PyTree, PyTree], Array]
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        class_labels.require_ignore_index(self.ignore_index)

    def __call__(self, params: PyTree, batch: tuple[PyTree, Array] | tuple[PyTree, Array, Array]) -> Array:
        """Return the losses, in nats."""
        inputs, labels, *mask = batch
        if isinstance(batch, Weighted):
            losses, weights = self._of_labels(params, inputs, labels, batch.weights > 0), batch.weights
            return jnp.sum(weights.astype(losses.dtype) * losses, tuple(range(1, losses.ndim)))
        if not mask and labels.ndim == 1:
            return ClassifierOutputs(self.apply)(params, (inputs, labels))["loss"]
        counted = jnp.ones(labels.shape, bool) if not mask else jnp.asarray(mask[0])
        if counted.dtype != bool or counted.shape != labels.shape:
            raise ValueError(f"mask must be booleans {labels.shape}, got {counted.dtype} {counted.shape}")
        if self.ignore_index is not None:
            counted &= labels != self.ignore_index
        losses, tokens = self._of_labels(params, inputs, labels, counted), tuple(range(1, labels.ndim))
        number = jnp.sum(counted, tokens, dtype=losses.dtype)
        return jnp.where(number > 0, jnp.sum(losses, tokens) / jnp.maximum(number, 1), jnp.nan)

    def logits(self, params: PyTree, batch: tuple[PyTree, Array]) -> Array:
        """Return the logits ``[b *t k]``."""
        return self.apply(params, batch[0])

    def check_batch(self, params: PyTree, batch: tuple[PyTree, Array]) -> tuple[PyTree, Array] | Weighted:
        """Return the examples that have a label that counts; see ``labels.that_count``.

        Raises:
            ValueError: If the batch is neither ``(inputs, labels)`` nor ``(inputs, labels, mask)``, or does not fit the
                model, logits are not ``[b *t k]``, labels are no classes (see ``labels.require_labels``), or none
                counts.
        """
        if not (isinstance(batch, tuple | list) and len(batch) in (2, 3)):
            raise ValueError(f"batch must be a pair (inputs, labels) or with a mask, got a {type(batch).__name__}")
        inputs = jax.tree.map(np.asarray, batch[0])
        count, spec = batches.count_of(inputs), batches.example_spec(inputs)
        batches.require_fit(self.apply, params, spec)
        logits = jax.eval_shape(self.apply, params, spec)
        if getattr(logits, "ndim", 0) < 2:
            raise ValueError(f"apply must give logits [b *t k], got {logits} for one example")
        shape = (count, *logits.shape[1:])
        return class_labels.that_count((inputs, *batch[1:]), shape, ignore_index=self.ignore_index)

    def _of_labels(self, params: PyTree, inputs: PyTree, labels: Array, counted: Array) -> Array:
        """Return the loss of every label that counts, ``[b *t]``; 0 for the others, whatever their logits are."""
        logits = changes.at_least_float32(self.apply(params, inputs))
        if logits.shape[:-1] != labels.shape or not jnp.issubdtype(labels.dtype, jnp.integer) or logits.shape[-1] < 2:
            raise ValueError(
                f"apply must give logits [b *t k] of at least two classes, and labels must be integers [b *t], got "
                f"shapes {logits.shape} and {labels.shape} of {labels.dtype}"
            )
        # Selected twice: the gradient of a loss that is not counted must not be NaN, which 0 times NaN would be.
        losses = _losses(jnp.where(counted[..., None], logits, 0), jnp.where(counted, labels, 0))
        return jnp.where(counted, losses, 0)


@dataclass(frozen=True)
class NormalizedLogits:
    """The classifier ``f_k / sqrt(mean_j (f_j - mean f)^2)``: logits of deviation 1 for every example.

    Its predictions are those of ``apply``; the scale of the logits, which sharpness grows with, is removed
    (Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization, s.3). Logits that
    are all equal stay as they are. Equal values share compiled code.

    Attributes:
        apply: ``apply(params, inputs)`` -> logits ``[b k]``.

    Example:
        >>> NormalizedLogits(lambda params, x: x)(None, jnp.array([[30.0, 10.0]])).tolist()
        [[3.0, 1.0]]
    """

    apply: Callable[[PyTree, PyTree], Array]

    def __call__(self, params: PyTree, inputs: PyTree) -> Array:
        """Return the normalized logits ``[b k]``."""
        logits = self.apply(params, inputs)
        variance = jnp.var(logits, -1, keepdims=True)
        return jnp.where(variance > 0, logits / jnp.sqrt(jnp.where(variance > 0, variance, 1)), logits)


def _losses(logits: Array, labels: Array) -> Array:
    """Return ``-log softmax(logits)[label]`` of logits ``[*b k]``; NaN where a label is no class."""
    at_label = labels[..., None] == jnp.arange(logits.shape[-1]).reshape(*[1] * labels.ndim, -1)
    loss = jax.nn.logsumexp(logits, -1) - jnp.sum(jnp.where(at_label, logits, 0), -1)
    return jnp.where(at_label.any(-1), loss, jnp.nan)


def all_changes(clean: dict[str, Array], changed: dict[str, Array]) -> dict[str, Array]:
    """Return the rises of loss and error, and the changes of output and prediction, for one example.

    Args:
        clean: The ``ClassifierOutputs`` of one example.
        changed: The same, after the perturbation.

    Example:
        >>> model = ClassifierOutputs(lambda params, x: params * x)
        >>> batch = (jnp.array([[2.0, 0.0]]), jnp.array([1]))
        >>> clean, changed = (jax.tree.map(lambda a: a[0], model(params, batch)) for params in (1.0, -1.0))
        >>> {name: round(float(value), 3) for name, value in all_changes(clean, changed).items()}
        {'loss': -2.0, 'error': -1.0, 'output': 4.0, 'prediction': 1.0}
    """
    return {
        "loss": changed["loss"] - clean["loss"],
        "error": changed["wrong"] - clean["wrong"],
        "output": changes.absolute_change(clean["logits"], changed["logits"]),
        "prediction": changes.prediction_change(clean["logits"], changed["logits"]),
    }
