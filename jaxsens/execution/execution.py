"""How a measurement runs: one value that every estimator takes."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import jax

__all__ = ["BACKENDS", "DEFAULT", "Execution"]

BACKENDS = ("pmap", "shard_map")


@dataclass(frozen=True)
class Execution:
    """How a measurement runs. Results do not depend on it beyond rounding, and not at all on devices or backend.

    It is passed to every estimator as ``execution=``; there is no ambient setting, so that a call says all that decides
    its numbers.

    Attributes:
        chunk: Model forwards evaluated at once on a device, at least one item's. ``None`` fits ``memory.BYTES``, the
            same on every machine. Draws do not depend on it; values do by rounding only.
        precision: Of matrix products, as in ``jax.default_matmul_precision``; ``"highest"`` is float32 on every
            platform, where the default of JAX is TF32 on a GPU and bfloat16 on a TPU.
        backend: ``"pmap"`` or ``"shard_map"``; results are equal to the bit.
        devices: Devices of this process to use, by default all of them.
        progress: Label of a progress bar, which appears after two seconds; by default there is none.

    Raises:
        ValueError: If ``chunk`` is not an integer of at least 1, the backend is unknown, or ``devices`` is empty or
            holds something else than devices.

    Example:
        >>> Execution(chunk=4096, precision="default").replace(progress="noise on patches").chunk
        4096
    """

    chunk: int | None = None
    precision: str = "highest"
    backend: str = "pmap"
    devices: Sequence[jax.Device] | None = None
    progress: str | None = None

    def __post_init__(self) -> None:
        if self.chunk is not None:
            object.__setattr__(self, "chunk", _count(self.chunk))
        if self.backend not in BACKENDS:
            raise ValueError(f"backend must be one of {BACKENDS}, got {self.backend!r}")
        if self.devices is not None:
            if not isinstance(self.devices, Sequence) or not all(isinstance(d, jax.Device) for d in self.devices):
                raise ValueError(f"devices must be a list of jax.Device, or None for all, got {self.devices!r}")
            if not self.devices:
                raise ValueError("devices must name one at least, or be None for all of this process, got none")
            object.__setattr__(self, "devices", tuple(self.devices))

    def replace(self, **changes: Any) -> Self:
        """Return this value with some attributes replaced."""
        return replace(self, **changes)


def _count(chunk: Any) -> int:
    try:
        count = operator.index(chunk)
    except TypeError:
        count = 0
    if isinstance(chunk, bool) or count < 1:
        raise ValueError(f"chunk must be an integer of at least 1 model forward, or None, got {chunk!r}")
    return count


DEFAULT = Execution()
"""All devices, full precision, a chunk that fits ``memory.BYTES``, no progress bar."""
