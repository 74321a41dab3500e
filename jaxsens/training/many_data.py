"""The examples that many models learn, and those that decide their learning rates and stopping."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from jaxsens.execution import backends, batches
from jaxsens.labels import require_labels
from jaxsens.training import checks
from jaxsens.training.many_config import Members
from jaxsens.training.member_epoch import Criterion, Epoch
from jaxsens.typing import Array, PyTree

__all__ = ["Data", "Examples"]

Examples = tuple[Array, Array]
"""Strings ``[s n *]`` and targets ``[s n]`` of s data sets of one size."""


@dataclass(frozen=True)
class Data:
    """What the members of a training learn, checked against their numbers.

    Attributes:
        members: The numbers of the members.
        given: The examples, or a function that returns those of an epoch.
        validation: Examples that are not learned.
        criterion: Which targets are allowed.
        bits: Whether integers among the strings must be bits, and targets are those of the criterion in any case.

    Example:
        >>> members = Members(learning_rate=[0.1], batch=[1], dataset=[0])
        >>> examples = np.zeros((1, 1, 2), np.uint8), np.zeros((1, 1))
        >>> Data.checked(members, examples, None, Criterion(max, 0.5), bits=True).at(0)[0].shape
        (1, 1, 2)
    """

    members: Members
    given: Examples | Callable[[int], Examples]
    validation: Examples | None
    criterion: Criterion
    bits: bool

    @classmethod
    def checked(
        cls, members: Members, given: Examples | Callable[[int], Examples], validation: Examples | None,
        criterion: Criterion, *, bits: bool,
    ) -> "Data":  # fmt: skip
        """Return examples as devices hold them, or raise ValueError if they do not fit the members."""
        if validation is not None:
            validation = _checked("validation", validation, criterion, bits)
        data = cls(members, given, validation, criterion, bits)
        return data if callable(given) else replace(data, given=data._fitting(given))

    def at(self, done: int) -> Examples:
        """Return the examples of an epoch, or raise ValueError if they do not fit the members."""
        return self._fitting(self.given(done)) if callable(self.given) else self.given

    def on(self, devices: Sequence[jax.Device]) -> "Data":
        """Return the same data on the devices, so that they are not sent in every epoch."""
        given = self.given if callable(self.given) else backends.replicate(self.given, devices)
        return replace(self, given=given, validation=backends.replicate(self.validation, devices))

    def require_fit(self, epoch_of: Epoch, variables: PyTree, first: Examples) -> None:
        """Raise ValueError unless labels are classes of models ``[m ...]`` with a training mode, in the first epoch."""
        examples, labels = first
        spec = batches.item_spec(variables)
        tokens = jax.ShapeDtypeStruct((epoch_of.batch, *examples.shape[2:]), examples.dtype)
        logits, _ = checks.output_shapes(epoch_of.step.train_apply, spec, tokens, jax.random.key(0))
        scored = epoch_of.evaluate and self.criterion.threshold is None
        if getattr(epoch_of.step.objective, "class_labels", False) or scored:
            require_labels(np.ravel(labels), logits.shape[-1])
        if scored and self.validation is not None:
            require_labels(np.ravel(self.validation[1]), logits.shape[-1], name="validation: targets")

    def _fitting(self, examples: Examples) -> Examples:
        examples = _checked("data", examples, self.criterion, self.bits)
        count, size = examples[1].shape
        if self.validation is not None and len(self.validation[1]) != count:
            raise ValueError(f"validation must have the {count} data sets of data, got {len(self.validation[1])}")
        for name, largest, meaning in (
            ("dataset", count - 1, "the last data set"),
            ("batch", size, "all examples"),
        ):
            numbers = getattr(self.members, name)
            if numbers.max() > largest:
                member = int(numbers.argmax())
                raise ValueError(
                    f"{name} of member {member} must be at most {largest}, {meaning}, got {numbers[member]}"
                )
        return examples


def _checked(name: str, examples: Examples, criterion: Criterion, bits: bool) -> Examples:
    """Return examples as devices hold them, or raise ValueError."""
    if not isinstance(examples, tuple | list) or len(examples) != 2:
        raise ValueError(f"{name} must be strings [s n *] and targets [s n], got {type(examples).__name__}")
    strings, targets = (
        checks.on_device_values(f"{name}: {part}", a) for part, a in zip(("strings", "targets"), examples, strict=True)
    )
    shape = targets.shape
    if len(shape) != 2 or strings.shape[:2] != shape or 0 in shape:
        raise ValueError(f"{name} must be strings [s n *] and targets [s n], got shapes {strings.shape} and {shape}")
    if "c" in (strings.dtype.kind, targets.dtype.kind):
        raise ValueError(f"{name} must have real strings and targets, got {strings.dtype} and {targets.dtype}")
    if bits:
        _require_values(name, np.asarray(strings), np.asarray(targets), criterion)
    return strings, targets


def _require_values(name: str, strings: np.ndarray, targets: np.ndarray, criterion: Criterion) -> None:
    """Raise ValueError unless strings are bits or finite, and targets are those of the criterion."""
    wrong = (strings != 0) & (strings != 1) if strings.dtype.kind in "iu" else ~np.isfinite(strings)
    if wrong.any():
        raise ValueError(f"{name} must have strings of bits, 0 or 1, or finite floats, got {strings[wrong][0]}")
    low, high = criterion.targets
    wrong = ~((targets >= low) & (targets <= high))
    if wrong.any():
        raise ValueError(
            f"{name} must have targets from {low:g} to {high:g}, those of the criterion, got {targets[wrong][0]}"
        )
