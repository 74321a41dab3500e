"""Errors of a classifier on corrupted images, which are made and classified in one program and never stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxsens import changes
from jaxsens.corruptions.constants import COMMON, SEVERITIES
from jaxsens.corruptions.corrupted_images import (
    Corruption,
    require_images,
    require_name,
    require_severity,
)
from jaxsens.corruptions.results import CorruptionError
from jaxsens.execution import batches, checks, memory, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.independence import require_independent
from jaxsens.execution.keys import require_key
from jaxsens.labels import require_labels
from jaxsens.typing import Apply, Array, Key, PyTree

__all__ = ["CorruptionErrors", "corruption_error"]


def corruption_error(
    apply: Apply,
    *,
    inputs: Callable[[Array], PyTree] | None = None,
    names: Sequence[str] = COMMON,
    severities: Sequence[int] = SEVERITIES,
    constants: str = "cifar10",
    execution: Execution = DEFAULT,
) -> "CorruptionErrors":
    """Measure the errors of a classifier on images with every corruption at every severity.

    ``E = mean over images, corruptions c and severities s of [argmax f(corrupt_cs(x)) != y]``, with the error bar over
    images. Every corruption is one compiled program for all severities, which makes the images and classifies them on
    the devices. What is random depends on the key, the corruption, the number of the image and the severity only, so
    that all models see the same images. (Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations, ICLR 2019, s.4.)

    Args:
        apply: ``apply(params, inputs)`` -> logits ``[b k]``.
        inputs: Makes inputs of bytes, ``[b h w c]`` uint8, such as ``lambda x: to_patches(normalize(x), 4)`` with those
            of ``jaxsens.data.images``. It is traced, and compiled once for each value by ``==``: define it once. By
            default the model gets the bytes themselves.
        names: Which corruptions, by default the 15 of the benchmark; see ``corruptions.EXTRA`` for the others.
        severities: Which severities.
        constants: ``"cifar10"`` or ``"imagenet"``.
        execution: How to run; its ``chunk`` counts images. A progress bar has the name of each corruption.

    Returns:
        ``measure(key, params, (images [n h w c] uint8, labels [n]), index=None)`` -> ``CorruptionError``. ``index [n]``
        numbers the images, by default from 0.

    Raises:
        ValueError: If there is no such corruption, severity or benchmark, or one is named twice; when called, if the
            key is not a typed threefry key, images are not uint8, are grayscale where color is needed or do not fit the
            model, labels are no classes, or outputs for an image depend on the others.
        FloatingPointError: When called, if logits are not finite; the message names the corruption and the image.

    Example:
        >>> images = np.stack([np.full((8, 8, 1), value, np.uint8) for value in (40, 90, 160, 210)])
        >>> def is_bright(threshold, x):
        ...     mean = x.mean((1, 2, 3))
        ...     return jnp.stack([threshold - mean, mean - threshold], 1)
        >>> measure = corruption_error(is_bright, names=["brightness"], severities=[1, 5])
        >>> result = measure(jax.random.key(0), 127.5, (images, np.array([0, 0, 1, 1])))
        >>> result.accuracy.mean.tolist(), float(result.clean.mean)
        ([[1.0, 0.75]], 0.0)
    """
    require_execution(execution)
    checks.require_functions(apply=apply)
    if inputs is not None:
        checks.require_functions(inputs=inputs)
    names = _each("names", names, require_name)
    severities = _each("severities", severities, require_severity)
    for name in names:
        Corruption(name, (1, 1, 3), constants)
    return CorruptionErrors(apply, inputs, names, severities, constants, execution)


@dataclass(frozen=True)
class CorruptionErrors:
    """The measure that ``corruption_error`` returns.

    Attributes:
        apply: The classifier.
        inputs: Makes its inputs of bytes, or None.
        names: The corruptions.
        severities: The severities.
        constants: The benchmark whose constants are used.
        execution: How to run.

    Example:
        >>> corruption_error(lambda params, x: x, names=["fog"]).severities
        (1, 2, 3, 4, 5)
    """

    apply: Apply
    inputs: Callable[[Array], PyTree] | None
    names: tuple[str, ...]
    severities: tuple[int, ...]
    constants: str
    execution: Execution

    def __call__(
        self, key: Key, params: PyTree, batch: tuple[Array, Array], index: Array | None = None
    ) -> CorruptionError:
        """Return the errors of one model; see ``corruption_error``."""
        key, params = require_key(key), checks.device_arrays(params, "params")
        if not (isinstance(batch, tuple | list) and len(batch) == 2):
            raise ValueError(f"batch must be a pair (images, labels), got a {type(batch).__name__}")
        images = require_images(batch[0])
        index = checks.require_index(index, len(images), "images")
        corruptions = [Corruption(name, images.shape[1:], self.constants) for name in self.names]
        model = _Model(self.apply, self.inputs)
        labels = _checked_labels(model, params, images, batch[1])
        require_independent(model, params, images, execution=self.execution)
        spec = jax.ShapeDtypeStruct((1, *images.shape[1:]), np.uint8)
        chunk = self.execution.chunk or memory.chunk_of(model, params, spec, execution=self.execution)
        execution = self.execution.replace(chunk=chunk)
        items, levels = (index, images, labels), np.asarray(self.severities, np.int32)
        clean = parallel.map_items(
            parallel.bind(_clean, model), items, params, execution=_labelled(execution, "clean images")
        )
        _require_finite(clean[1][:, None], index, "as it is", ())
        wrong = []
        for corruption in corruptions:
            fn, labelled = parallel.bind(_wrong, model, corruption), _labelled(execution, corruption.name)
            errors, nonfinite = parallel.map_items(
                fn, items, key, levels, params, corruption.tables(), execution=labelled
            )
            _require_finite(nonfinite, index, f"with {corruption.name}", self.severities)
            wrong.append(errors)
        return CorruptionError(np.stack(wrong, 1), clean[0], self.names, self.severities, self.constants)


@dataclass(frozen=True)
class _Model:
    apply: Apply
    inputs: Callable[[Array], PyTree] | None

    def __call__(self, params: PyTree, images: Array) -> Array:
        return self.apply(params, images if self.inputs is None else self.inputs(images))


def _clean(model: _Model, item: tuple[Array, Array, Array], params: PyTree) -> tuple[Array, Array]:
    _, image, label = item
    return _judged(model, params, image, label)


def _wrong(
    model: _Model,
    corruption: Corruption,
    item: tuple[Array, Array, Array],
    key: Key,
    severities: Array,
    params: PyTree,
    tables: PyTree,
) -> tuple[Array, Array]:
    """Return whether an image is misclassified, and whether logits are not finite, at every severity ``[s]``."""
    index, image, label = item

    def at(severity: Array) -> tuple[Array, Array]:
        changed = corruption(corruption.key(key, index, severity), image, severity, tables)
        return _judged(model, params, changed, label)

    return jax.lax.map(at, severities)


def _judged(model: _Model, params: PyTree, image: Array, label: Array) -> tuple[Array, Array]:
    logits = model(params, image[None])
    return logits[0].argmax() != label, changes.nonfinite(logits)[0]


def _checked_labels(model: _Model, params: PyTree, images: np.ndarray, labels: Any) -> np.ndarray:
    spec = batches.example_spec(images)
    try:
        batches.require_fit(model, params, spec)
        logits = jax.eval_shape(model, params, spec)
    except ValueError as error:
        raise ValueError(f"images of shape {images.shape[1:]} do not fit the model (or inputs): {error}") from error
    if getattr(logits, "ndim", 0) != 2 or logits.shape[1] < 2:
        raise ValueError(f"apply must give logits [b k] of at least two classes, got {logits} for one image")
    return require_labels(labels, logits.shape[1], shape=(len(images),))


def _require_finite(nonfinite: np.ndarray, index: np.ndarray, how: str, severities: tuple[int, ...]) -> None:
    bad = np.argwhere(nonfinite)
    if len(bad):
        image, level = bad[0].tolist()
        at = f" at severity {severities[level]}" if severities else ""
        raise FloatingPointError(
            f"the model's logits are not finite for image {index[image]} {how}{at} ({len(bad)} such images in all): "
            "look at params"
        )


def _labelled(execution: Execution, what: str) -> Execution:
    return execution if execution.progress is None else execution.replace(progress=f"{execution.progress}: {what}")


def _each(name: str, values: Any, require: Callable[[Any], Any]) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or len(values) == 0:
        raise ValueError(f"{name} must be a list of at least one, got {values!r}")
    values = tuple(require(value) for value in values)
    if len(set(values)) < len(values):
        raise ValueError(f"{name} must be different ones, got {values}")
    return values
