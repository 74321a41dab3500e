"""Programs that compute the same, each at its best, timed in turns; and what the device can do at most."""

import contextlib
import operator
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.typing import Array

_SAMPLES = 0.002  # seconds between two looks at the memory of this process
_ENOUGH_TRIALS = 8  # as many as repeats are made of; where more are needed, a call takes more items instead


@dataclass(frozen=True)
class Program:
    """One way of computing what a case asks for.

    Attributes:
        by: Whose it is: ``"jaxsens"``, ``"plain"`` (ours, without sharing), ``"pytorch"`` or ``"published"``.
        how: Its block, batch or chunk; of those given, each side's best is compared.
        run: ``run(count)`` gives the results of the first ``count`` items, on the host, ``[count ...]``.
        operations: Floating-point operations of an item.
        evaluations: What an item stands for, in the case's unit: model forwards for perturbed inputs, say. It is the
            same for a program that shares work among them.
        bytes: What its matrix products read and write for an item; None if unknown.
        refine: Makes a version of it that may be faster but takes long to make; tried if this one is its side's best.
    """

    by: str
    how: str
    run: Callable[[int], Array]
    operations: float
    evaluations: float
    bytes: float | None = None
    refine: "Callable[[], Program] | None" = None


@dataclass(frozen=True)
class Case:
    """What programs are compared on.

    Attributes:
        name: What is computed.
        unit: What evaluations are counted in.
        items: How many there are at most.
        tolerance: How far results may lie from those of the first program: relative to the largest of them; or if
            ``statistical``, how far their means over items may, in standard errors of the difference.
        programs: In the order of the table.
        statistical: Whether every program draws at random by itself.
    """

    name: str
    unit: str
    items: int
    tolerance: float
    programs: tuple[Program, ...]
    statistical: bool = False


def compare(case: Case, *, seconds: float, repeats: int) -> dict[str, Any]:
    """Return for the best program of each side what it is, its times, and how far its results are from the first's.

    Sides take turns, so that a drift of the machine hits all alike. Each repeat is of as many items as take about
    ``seconds``. The first call at that size, with compilation, is timed apart.

    Raises:
        ValueError: If results differ by more than the tolerance: a speed with another answer does not count.
    """
    sides: dict[str, list[Program]] = {}
    for program in case.programs:
        sides.setdefault(program.by, []).append(program)
    best = [_best(case, programs, seconds) for programs in sides.values()]
    programs = [plan.program for plan in best]
    differ = _standard_errors if case.statistical else _relative
    off = [differ(best[0].answer, plan.answer) for plan in best]
    for program, apart in zip(programs, off, strict=True):
        if not apart <= case.tolerance:
            raise ValueError(
                f"case {case.name!r}: results of {program.by!r} ({program.how}) are off those of {programs[0].by!r} by "
                f"{apart:.1e} {'standard errors' if case.statistical else 'of the largest'}, more than "
                f"{case.tolerance:.0e}; a speed with another answer does not count"
            )
    times = np.empty((len(programs), repeats))
    for repeat in range(repeats):
        for row, plan in enumerate(best):
            times[row, repeat] = sum(_timed(plan.program, plan.count)[0] for _ in range(plan.calls))
    return {
        "by": np.asarray([program.by for program in programs]),
        "how": np.asarray([program.how for program in programs]),
        "items": np.asarray([plan.count * plan.calls for plan in best]),
        "seconds": times,
        "first_seconds": np.asarray([plan.first_seconds for plan in best]),
        "operations": np.asarray([program.operations for program in programs]),
        "bytes": np.asarray([np.nan if program.bytes is None else program.bytes for program in programs]),
        "peak_bytes": np.asarray([plan.peak_bytes for plan in best]),
        "difference": np.asarray(off),
        "evaluations": np.asarray([program.evaluations for program in programs], float),
        "unit": case.unit,
    }


class _Plan(NamedTuple):
    """The best program of a side, and what a repeat is: ``calls`` of ``count`` items; and its first call of those."""

    program: Program
    count: int
    calls: int
    answer: np.ndarray
    first_seconds: float
    peak_bytes: float


def _best(case: Case, programs: list[Program], seconds: float) -> _Plan:
    """Try all programs on a few items, and plan the fastest's repeats.

    A trial that takes long enough is repeated as it is, since another number of items may compile anew.
    """
    trial = min(case.items, jax.local_device_count())

    def tried(program: Program) -> tuple[float, _Plan]:
        plan = _first(program, trial, 1)
        again = _timed(program, trial)[0]
        if again < seconds:  # a short one is told less well
            again = min(again, _timed(program, trial)[0])
        return again, plan

    again, plan = min(map(tried, programs), key=operator.itemgetter(0))
    if plan.program.refine:
        again, plan = min((again, plan), tried(plan.program.refine()), key=operator.itemgetter(0))
    wanted = seconds / again  # trials
    if wanted <= _ENOUGH_TRIALS:
        return plan._replace(calls=max(1, round(wanted)))
    return _first(plan.program, min(case.items, int(wanted * trial)), 1)


def _first(program: Program, count: int, calls: int) -> _Plan:
    with _watched() as peak:
        spent, answer = _timed(program, count)
    return _Plan(program, count, calls, answer, spent, peak[0])


def _timed(program: Program, count: int) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    answer = np.asarray(program.run(count))
    return time.perf_counter() - start, answer


def _relative(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the largest difference over the largest result; NaN among those found is what was not computed."""
    shared = min(len(expected), len(found))
    scale = max(float(np.abs(expected[:shared]).max()), np.finfo(np.float32).tiny)
    return float(np.nanmax(np.abs(expected[:shared].astype(np.float64) - found[:shared])) / scale)


def _standard_errors(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the difference of the means in standard errors; 0 for the reference itself."""
    if found is expected:
        return 0.0
    spread = np.sqrt(sum(np.var(a, ddof=1) / len(a) for a in (expected, found)))
    return float(np.abs(np.mean(expected) - np.mean(found)) / spread)


@contextlib.contextmanager
def _watched() -> Iterator[list[float]]:
    """Yield a list that will hold the most memory that was used at once beyond what was before, in bytes.

    Of an accelerator, the most that any program so far has held there; of a CPU, what the process grows by, looked at
    every few milliseconds; NaN where the system does not say.
    """
    found = [float("nan")]
    device = jax.local_devices()[0]
    if stats := device.memory_stats():
        yield found
        found[0] = float((device.memory_stats() or stats)["peak_bytes_in_use"])
        return
    table = Path("/proc/self/statm")
    if not table.exists():
        yield found
        return

    def resident() -> int:
        return int(table.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, done, most = resident(), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(_SAMPLES):
            most[0] = max(most[0], resident())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        found[0] = float(max(0, most[0] - before))


def ceilings(seconds: float, precision: str = "highest") -> dict[str, float]:
    """Return what all devices of this process reach: FLOP/s of a large matrix product, bytes/s of a large copy.

    Medians over ``seconds`` each; a copy reads and writes every byte. A product on one CPU device already uses all
    cores.
    """
    on_cpu = jax.default_backend() == "cpu"
    size, length = (2048, 2**26) if on_cpu else (8192, 2**29)
    devices = 1 if on_cpu else jax.local_device_count()
    a = jax.random.normal(jax.random.key(0), (size, size))
    with jax.default_matmul_precision(precision):
        product = _rate(jax.jit(lambda a: a @ a), a, seconds)
    copy = _rate(jax.jit(lambda a: a + 1), jnp.zeros(length // 4), seconds)
    return {"operations_per_second": devices * 2 * size**3 * product, "bytes_per_second": devices * 2 * length * copy}


def _rate(fn: Callable[[jax.Array], jax.Array], argument: jax.Array, seconds: float) -> float:
    fn(argument).block_until_ready()
    spent, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(spent) < 3:
        before = time.perf_counter()
        fn(argument).block_until_ready()
        spent.append(time.perf_counter() - before)
    return 1 / statistics.median(spent)
