"""Settings of an experiment: fields that are also flags, and what they may be."""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

import numpy as np

__all__ = ["Settings", "option"]


def option(
    default: Any,
    text: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Collection[str] | None = None,
    distinct: bool = False,
    rising: bool = False,
    fewest: int = 0,
    **metadata: Any,
) -> Any:
    """Return a field of a `Settings` class: its default, the text of its flag, and what it may be.

    Bounds hold for a number, or for each number of a tuple; None, where the field allows it, is not checked.

    Args:
        default: The default, in its own type.
        text: Text of ``--help``.
        at_least: The smallest value allowed.
        above: Values must be larger.
        below: Values must be smaller.
        choices: The strings allowed.
        distinct: Whether the entries of a tuple must differ (numbers: in six digits, as they may name files).
        rising: Whether they must also be in rising order.
        fewest: Smallest number of entries of a tuple.
        **metadata: Other metadata of the field: ``flag=False`` (no flag), ``identity=False`` (it never changes a
            number that is measured).
    """
    bounds = {"at_least": at_least, "above": above, "below": below, "choices": choices}
    bounds |= {"distinct": distinct or rising, "rising": rising, "fewest": fewest}
    return dataclasses.field(default=default, metadata={"help": text, "bounds": bounds, **metadata})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of an experiment's ``Config``: checks every field made by `option`.

    A class that checks more calls ``super().__post_init__()`` first.

    Raises:
        ValueError: A field is not what its `option` allows; the message names the field, its value and what is allowed.
    """

    resume_elsewhere: bool = option(
        False, "continue although units were trained with other cores, devices or versions", identity=False
    )

    reproducible: bool = option(
        False, "train with equal bits on any number of CPU cores and devices; slower", identity=False
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if bounds := field.metadata.get("bounds"):
                _check(field.name, getattr(self, field.name), **bounds)


def _check(
    name: str,
    value: Any,
    *,
    at_least: float | None,
    above: float | None,
    below: float | None,
    choices: Collection[str] | None,
    distinct: bool,
    rising: bool,
    fewest: int,
) -> None:
    if value is None:
        return
    entries = value if isinstance(value, tuple) else (value,)
    if len(entries) < fewest:
        raise ValueError(f"{name} must have at least {fewest} {'entry' if fewest == 1 else 'entries'}, got {value}")
    if choices is not None and (unknown := [entry for entry in entries if entry not in choices]):
        raise ValueError(f"{name} must be of {', '.join(map(str, choices))}, got {unknown[0]!r}")
    numbers = [entry for entry in entries if isinstance(entry, int | float | np.number) and not isinstance(entry, bool)]
    if (at_least, above, below) != (None, None, None) and len(numbers) < len(entries):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if any(not math.isfinite(number) for number in numbers):
        raise ValueError(f"{name} must be finite, got {value}")
    for text, bound, holds in (
        ("at least", at_least, lambda number: number >= at_least),
        ("above", above, lambda number: number > above),
        ("below", below, lambda number: number < below),
    ):
        if bound is not None and not all(map(holds, numbers)):
            raise ValueError(f"{name} must be {text} {bound:g}, got {value}")
    labels = [f"{entry:g}" if isinstance(entry, float) else entry for entry in entries]
    if distinct and len(set(labels)) < len(labels):
        raise ValueError(f"{name} must hold different entries, got {value}")
    if rising and list(entries) != sorted(entries):
        raise ValueError(f"{name} must be in rising order, got {value}")
