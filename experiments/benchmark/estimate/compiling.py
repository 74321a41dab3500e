"""Programs compiled for a device, and a row of the table for each."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from experiments.benchmark.estimate.plugins import OPTIONS
from experiments.benchmark.estimate.program_text import kernels
from experiments.benchmark.estimate.programs import PROGRAMS, Recorded
from experiments.benchmark.estimate.roofline import MACHINES, roofline
from jaxsens.execution import Execution

__all__ = ["compiled", "memory_of", "rows"]

MIB = 2**20


def rows(
    platform: str, device: jax.Device, precision: str, only: tuple[str, ...], texts: Path | None
) -> Iterator[dict[str, Any]]:
    """Yield a row for each program whose name begins with one of ``only``, in their order.

    Raises:
        ValueError: If there is no such program.
    """
    chosen = list(dict.fromkeys(name for start in only for name in PROGRAMS if name.startswith(start)))
    if not chosen:
        raise ValueError(f"--only must begin the name of one of {'; '.join(PROGRAMS)}, got {'; '.join(only)}")
    execution = Execution(devices=[device], precision=precision, check=False)
    for name in chosen:
        recorded = PROGRAMS[name](execution)
        program, seconds = compiled(recorded.launch.lower(), platform)
        text = program.as_text()
        if texts:
            (texts / f"{name.replace(', ', '-').replace(' ', '-')}-{platform}.txt").write_text(text)
        yield _row(name, platform, precision, recorded, text, seconds) | memory_of(program)


def compiled(lowered: jax.stages.Lowered, platform: str) -> tuple[jax.stages.Compiled, float]:
    """Return the compiled program and the seconds of CPU that it took, in all threads and in tools that were called."""
    before = os.times()
    program = lowered.compile(compiler_options=OPTIONS.get(platform, {}))
    after = os.times()
    return program, sum(after[:4]) - sum(before[:4])


def memory_of(program: jax.stages.Compiled) -> dict[str, float]:
    """Return MiB of the arguments, the results and the temporary results of a program."""
    memory = program.memory_analysis()
    return {
        "arguments_mib": memory.argument_size_in_bytes / MIB,
        "results_mib": memory.output_size_in_bytes / MIB,
        "temporary_mib": memory.temp_size_in_bytes / MIB,
    }


def _row(
    name: str, platform: str, precision: str, recorded: Recorded, text: str, compile_seconds: float
) -> dict[str, Any]:
    machine, chunks = MACHINES[platform], recorded.launch.chunks
    totals = roofline(kernels(text, recorded.trips), machine, precision)
    return {
        "case": name, "machine": machine.name, "precision": precision,
        "chunk": recorded.count // chunks, "kernels": round(totals.kernels / chunks, 1),
        "gflop": totals.operations / chunks / 1e9, "gbytes": totals.bytes / chunks / 1e9,
        "milliseconds": 1e3 * totals.seconds / chunks, "forwards_per_second": recorded.count / totals.seconds,
        **{f"bound_by_{bound}": share for bound, share in totals.shares.items()},
        "compiler_milliseconds": totals.compiler_seconds and 1e3 * totals.compiler_seconds / chunks,
        "compile_cpu_seconds": compile_seconds, "jax": jax.__version__,
    }  # fmt: skip
