"""Programs with the same results, each at its best setting, in interleaved repeats; and the limits of the device."""

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

_SAMPLES = 0.002  # seconds between two samples of the memory of this process
_MOST_CALLS = 8  # calls of a repeat; where more are needed, one call takes more items instead


@dataclass(frozen=True)
class Program:
    """One way to compute the results of a case.

    Attributes:
        by: Its side: ``"jaxsens"``, ``"plain"`` (JAX, without sharing), ``"pytorch"`` or ``"published"``.
        how: Its block, batch or chunk; the best program of each side is compared.
        run: ``run(count)`` returns the results of the first ``count`` items, on the host, ``[count ...]``.
        operations: Floating-point operations of an item.
        evaluations: Evaluations of an item, in the case's unit, such as model forwards for perturbed inputs. A program
            that shares work among them counts the same number.
        bytes: Bytes that its matrix products read and write for an item; None if unknown.
        refine: Makes a version of it that may be faster but takes long to make; tried if this one is the best of its
            side.
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
    """A computation on which programs are compared.

    Attributes:
        name: Its name.
        unit: The unit of evaluations.
        items: The largest number of items.
        tolerance: The largest difference from the results of the first program, relative to the largest of them; or if
            ``statistical``, the largest difference of the means over items, in its standard errors.
        programs: In the order of the table.
        statistical: Whether every program draws its own random numbers.
    """

    name: str
    unit: str
    items: int
    tolerance: float
    programs: tuple[Program, ...]
    statistical: bool = False


def compare(case: Case, *, seconds: float, repeats: int) -> dict[str, Any]:
    """Return the best program of each side, its times, and the difference of its results from those of the first.

    Repeats of the sides are interleaved, so that a drift of the machine affects all of them. Each repeat takes about
    ``seconds``. The first call at that size, with compilation, is timed separately.

    Raises:
        ValueError: If results differ by more than the tolerance: the speed of a wrong answer does not count.
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
                f"case {case.name!r}: results of {program.by!r} ({program.how}) differ from those of "
                f"{programs[0].by!r} by {apart:.1e} {'standard errors' if case.statistical else 'of the largest'}, "
                f"more than {case.tolerance:.0e}; the speed of a wrong answer does not count"
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
    """The best program of a side; a repeat is ``calls`` of ``count`` items; results and time of the first such call."""

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
        if again < seconds:  # a short time is less precise
            again = min(again, _timed(program, trial)[0])
        return again, plan

    again, plan = min(map(tried, programs), key=operator.itemgetter(0))
    if plan.program.refine:
        again, plan = min((again, plan), tried(plan.program.refine()), key=operator.itemgetter(0))
    trials = seconds / again
    if trials <= _MOST_CALLS:
        return plan._replace(calls=max(1, round(trials)))
    return _first(plan.program, min(case.items, int(trials * trial)), 1)


def _first(program: Program, count: int, calls: int) -> _Plan:
    with _watched() as peak:
        spent, answer = _timed(program, count)
    return _Plan(program, count, calls, answer, spent, peak[0])


def _timed(program: Program, count: int) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    answer = np.asarray(program.run(count))
    return time.perf_counter() - start, answer


def _relative(expected: np.ndarray, results: np.ndarray) -> float:
    """Return the largest difference over the largest result; NaN marks results that a program does not compute."""
    shared = min(len(expected), len(results))
    scale = max(float(np.abs(expected[:shared]).max()), np.finfo(np.float32).tiny)
    return float(np.nanmax(np.abs(expected[:shared].astype(np.float64) - results[:shared])) / scale)


def _standard_errors(expected: np.ndarray, results: np.ndarray) -> float:
    """Return the difference of the means in standard errors; 0 for the reference itself."""
    if results is expected:
        return 0.0
    spread = np.sqrt(sum(np.var(a, ddof=1) / len(a) for a in (expected, results)))
    return float(np.abs(np.mean(expected) - np.mean(results)) / spread)


@contextlib.contextmanager
def _watched() -> Iterator[list[float]]:
    """Yield a list that will hold the peak memory beyond what was in use before, in bytes.

    On an accelerator, the peak of the device so far; on a CPU, the growth of the process, sampled every few
    milliseconds; NaN where the system does not report it.
    """
    peak = [float("nan")]
    device = jax.local_devices()[0]
    if stats := device.memory_stats():
        yield peak
        peak[0] = float((device.memory_stats() or stats)["peak_bytes_in_use"])
        return
    table = Path("/proc/self/statm")
    if not table.exists():
        yield peak
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
        yield peak
    finally:
        done.set()
        thread.join()
        peak[0] = float(max(0, most[0] - before))


def ceilings(seconds: float, precision: str = "highest") -> dict[str, float]:
    """Return the rates of all devices of this process: FLOP/s of a large matrix product, bytes/s of a large copy.

    Medians over ``seconds`` each; a copy reads and writes every byte. A product on one CPU device uses all cores.
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
