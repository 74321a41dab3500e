"""Times of kernels by a roofline: the longest of computing, moving bytes, and launching."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.benchmark.estimate.program_text import Kernel

__all__ = ["MACHINES", "Machine", "Roofline", "roofline"]


@dataclass(frozen=True)
class Machine:
    """Rates that a machine reaches at best.

    Attributes:
        name: The machine.
        rates: Floating-point operations per second by precision of products.
        bandwidth: Bytes per second between memory and chip.
        launch: Seconds that a kernel takes at least.
        clock: Cycles per second, where the compiler estimates cycles; else 0.
    """

    name: str
    rates: dict[str, float]
    bandwidth: float
    launch: float
    clock: float = 0.0


MACHINES = {
    "cuda": Machine(
        "H100",
        {
            "highest": 60e12, "default": 400e12, "high": 400e12, "TF32_TF32_F32": 400e12, "TF32_TF32_F32_X3": 133e12,
            "BF16_BF16_F32": 800e12, "BF16_BF16_F32_X3": 267e12, "BF16_BF16_F32_X6": 133e12, "BF16_BF16_F32_X9": 89e12,
        },
        3.0e12,
        3e-6,
    ),
    "tpu": Machine(
        "TPU v5e",
        {
            "highest": 197e12 / 6, "high": 197e12 / 3, "default": 197e12, "BF16_BF16_F32": 197e12,
            "BF16_BF16_F32_X3": 197e12 / 3, "BF16_BF16_F32_X6": 197e12 / 6,
        },
        0.82e12,
        0.0,
        1.5e9,
    ),
}  # fmt: skip
"""81 to 90 % of the vendor's figures for an H100; the vendor's for a TPU v5e, whose float32 is made of bfloat16."""


@dataclass(frozen=True)
class Roofline:
    """A program's kernels together.

    Attributes:
        kernels: Number of kernels that run.
        operations: Floating-point operations of products and convolutions.
        bytes: Bytes read and written.
        seconds: Sum of the kernels' times.
        shares: The part of ``seconds`` in kernels bound by ``"operations"``, by ``"bytes"`` and by the ``"launch"``.
        compiler_seconds: The compiler's own estimate, where it makes one; else None.
    """

    kernels: int
    operations: float
    bytes: float
    seconds: float
    shares: dict[str, float]
    compiler_seconds: float | None


def roofline(kernels: Sequence[Kernel], machine: Machine, precision: str) -> Roofline:
    """Return the sum over kernels of ``max(operations / rate, bytes / bandwidth, launch)``: a lower bound of the time.

    Bytes that stay in a cache between kernels are counted as if they did not, and rates of products are those of large
    ones; it serves to compare two forms of one program.

    Raises:
        ValueError: If the machine has no rate for the precision.
    """
    if precision not in machine.rates:
        raise ValueError(f"precision must be one of {sorted(machine.rates)} on {machine.name}, got {precision!r}")
    spent = dict.fromkeys(("operations", "bytes", "launch"), 0.0)
    for kernel in kernels:
        times = {
            "operations": kernel.operations / machine.rates[precision],
            "bytes": kernel.bytes / machine.bandwidth,
            "launch": machine.launch,
        }
        bound = max(times, key=times.get)
        spent[bound] += kernel.times * times[bound]
    seconds = sum(spent.values())
    return Roofline(
        sum(kernel.times for kernel in kernels),
        sum(kernel.times * kernel.operations for kernel in kernels),
        sum(kernel.times * kernel.bytes for kernel in kernels),
        seconds,
        {bound: time / seconds if seconds else 0.0 for bound, time in spent.items()},
        sum(k.times * k.cycles for k in kernels) / machine.clock if machine.clock else None,
    )
