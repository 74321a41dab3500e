"""How a measurement runs: one value that every estimator takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import jax

from jaxsens.execution.checks import require_count

__all__ = ["BACKENDS", "DEFAULT", "Execution", "require_devices", "require_execution"]

BACKENDS = ("pmap", "shard_map", "jit")


@dataclass(frozen=True)
class Execution:
    """How a measurement runs. Results do not depend on it beyond rounding, and not at all on devices or backend.

    It is passed to every estimator as ``execution=``; there is no ambient setting, so that a call says all that decides
    its numbers.

    Attributes:
        chunk: Model forwards evaluated at once on a device, at least one item's. ``None`` fits ``memory.budget``, the
            same on every machine of a platform. Draws do not depend on it; values do by rounding only.
        precision: Precision of matrix products, as in ``jax.default_matmul_precision``; ``"highest"`` is float32 on
            every platform, where the default of JAX is TF32 on a GPU and bfloat16 on a TPU. An algorithm of the
            platform is faster at nearly the same error, as ``"TF32_TF32_F32_X3"`` is on a GPU and
            ``"BF16_BF16_F32_X3"`` on a TPU: see ``execution.precision``, which measures it.
        backend: ``"pmap"`` or ``"shard_map"``; results are equal to the bit. ``"jit"`` uses the first device only, and
            on a CPU a thread for each core. XLA may round gradients otherwise in a program for several devices;
            ``"jit"`` has the program of one device, whatever the number of devices is.
        devices: Devices of this process to use, by default all of them.
        progress: Label of a progress bar, which appears after two seconds; by default there is none.
        check: Whether measures check on two examples that the model evaluates each example independently; see
            ``independence.require_independent``.

    Raises:
        ValueError: If ``chunk`` is not an integer of at least 1, the precision or the backend is unknown, ``devices``
            is empty, names a device twice or holds something other than devices, ``progress`` is not a string, or
            ``check`` is not a boolean.

    Example:
        >>> Execution(chunk=4096, precision="default").replace(progress="noise on patches").chunk
        4096
    """

    chunk: int | None = None
    precision: str = "highest"
    backend: str = "pmap"
    devices: Sequence[jax.Device] | None = None
    progress: str | None = None
    check: bool = True

    def __post_init__(self) -> None:
        if self.chunk is not None:
            chunk = require_count("chunk", self.chunk, hint=" model forward, or None")
            object.__setattr__(self, "chunk", chunk)
        try:
            with jax.default_matmul_precision(self.precision):
                pass
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"precision must be one of jax.default_matmul_precision, such as 'highest', got {self.precision!r}"
            ) from error
        if self.backend not in BACKENDS:
            raise ValueError(f"backend must be one of {BACKENDS}, got {self.backend!r}")
        object.__setattr__(self, "devices", require_devices(self.devices))
        if self.progress is not None and not isinstance(self.progress, str):
            raise ValueError(f"progress must be a label, or None for no progress bar, got {self.progress!r}")
        if not isinstance(self.check, bool):
            raise ValueError(f"check must be True or False, got {self.check!r}")

    @property
    def platform(self) -> str:
        """The platform of the devices: ``"cpu"``, ``"gpu"`` or ``"tpu"``."""
        platform = self.devices[0].platform if self.devices else jax.default_backend()
        return {"cuda": "gpu", "rocm": "gpu"}.get(platform, platform)

    def replace(self, **changes: Any) -> Self:
        """Return this value with some attributes replaced."""
        return replace(self, **changes)


def require_devices(devices: Any) -> tuple[jax.Device, ...] | None:
    """Return devices as a tuple, or None for all.

    Raises:
        ValueError: If there is none, one is named twice, or something other than a device is among them.

    Example:
        >>> require_devices(["cpu"])
        Traceback (most recent call last):
        ValueError: devices must be a list of jax.Device, or None for all, got ['cpu']
    """
    if devices is None:
        return None
    if not isinstance(devices, Sequence) or not all(isinstance(device, jax.Device) for device in devices):
        raise ValueError(f"devices must be a list of jax.Device, or None for all, got {devices!r}")
    if not devices:
        raise ValueError("devices must name at least one, or be None for all of this process, got none")
    if len(set(devices)) < len(devices):
        raise ValueError(f"devices must be different devices, got {devices!r}")
    return tuple(devices)


def require_execution(execution: Any) -> None:
    """Raise ValueError unless the value is an ``Execution``.

    Example:
        >>> require_execution("pmap")
        Traceback (most recent call last):
        ValueError: execution must be an Execution, such as Execution(chunk=64), got 'pmap'
    """
    if not isinstance(execution, Execution):
        raise ValueError(f"execution must be an Execution, such as Execution(chunk=64), got {execution!r}")


DEFAULT = Execution()
"""All devices, full precision, a chunk that fits ``memory.budget``, no progress bar."""
