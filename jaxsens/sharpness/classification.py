"""A classifier with its labels: logits, cross-entropy and errors from one forward, and what changes in all of them."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import changes
from jaxsens import labels as class_labels
from jaxsens.execution import batches
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
        at_label = labels[:, None] == jnp.arange(logits.shape[1])[None]
        loss = jax.nn.logsumexp(logits, 1) - jnp.sum(jnp.where(at_label, logits, 0), 1)
        return {
            "logits": logits,
            "loss": jnp.where(at_label.any(1), loss, jnp.nan),
            "wrong": (logits.argmax(1) != labels).astype(logits.dtype),
        }

    def logits(self, params: PyTree, batch: tuple[PyTree, Array]) -> Array:
        """Return the logits ``[b k]``."""
        return self.apply(params, batch[0])

    def check_batch(self, params: PyTree, batch: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        """Return the batch, or raise ValueError for labels that are no classes; see ``labels.check_batch``."""
        return CrossEntropy(self.apply).check_batch(params, batch)


@dataclass(frozen=True)
class CrossEntropy:
    """The losses ``(params, (inputs, labels [b])) -> -log softmax(logits)[label] [b]`` of a classifier, in nats.

    A loss is NaN where a label is outside ``0 .. k - 1``. Equal values share compiled code.

    Attributes:
        apply: ``apply(params, inputs)`` -> logits ``[b k]``.
        ignore_index: A label that marks examples without one, such as -100. Estimators leave these examples out, so
            that every mean is over the examples with a label; in a direct call their loss is NaN.

    Raises:
        ValueError: When called, if logits are not ``[b k]`` of at least two classes, or labels not integers ``[b]``.

    Example:
        >>> loss = CrossEntropy(lambda w, x: x @ w)
        >>> loss(jnp.zeros((3, 2)), (jnp.ones((1, 3)), jnp.array([0])))  # log 2
        Array([0.6931472], dtype=float32)
    """

    apply: Callable[[PyTree, PyTree], Array]
    ignore_index: int | None = None

    def __call__(self, params: PyTree, batch: tuple[PyTree, Array]) -> Array:
        """Return the losses, in nats."""
        return ClassifierOutputs(self.apply)(params, batch)["loss"]

    def logits(self, params: PyTree, batch: tuple[PyTree, Array]) -> Array:
        """Return the logits ``[b k]``."""
        return self.apply(params, batch[0])

    def check_batch(self, params: PyTree, batch: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        """Return the examples that have a label; see ``labels.check_batch``.

        Raises:
            ValueError: If the batch is no pair or does not fit the model, logits are not ``[b k]``, labels are no
                classes (see ``labels.require_labels``), or all are ignored.
        """
        if not (isinstance(batch, tuple | list) and len(batch) == 2):
            raise ValueError(f"batch must be a pair (inputs, labels), got a {type(batch).__name__}")
        inputs = jax.tree.map(np.asarray, batch[0])
        count, one = batches.count_of(inputs), batches.example_spec(inputs)
        batches.require_fit(self.apply, params, one)
        logits = jax.eval_shape(self.apply, params, one)
        if getattr(logits, "ndim", None) != 2:
            raise ValueError(f"apply must give logits [b k], got {logits} for one example")
        labels = class_labels.require_labels(batch[1], logits.shape[1], shape=(count,), ignore_index=self.ignore_index)
        if self.ignore_index is None:
            return inputs, labels
        return class_labels.leave_out((inputs, labels), labels == self.ignore_index)


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
