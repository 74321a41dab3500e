"""Turns: every way of a case once in each, so that a drift of the machine affects all equally."""

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.benchmark.accelerator.compiling import Ready
from experiments.benchmark.accelerator.machine import Ceilings
from experiments.benchmark.accelerator.record import Record
from experiments.benchmark.accelerator.ways import Run, Way, predicted_ms

__all__ = ["time_case"]


@dataclass
class _Racer:
    """A way with the right answer, how many runs make a turn, and the seconds of a run in each turn."""

    way: Way
    run: Run
    error: float
    first_seconds: float
    calls: int
    spent: list[float]


def time_case(record: Record, ready: Ready, ceilings: Ceilings, turns: int, turn_seconds: float) -> None:
    """Compare the answers of a case's ways, time those that are right, and record a row for each."""
    case = ready.case
    racers = _with_right_answers(record, ready, turn_seconds)
    if not racers:
        return
    needed = turns * sum(racer.calls * min(racer.spent) for racer in racers)
    if needed > record.left:
        record.skip(f"times of {case.name}", f"{turns} turns take {needed:.0f} s, {record.left:.0f} s are left")
        return
    for racer in racers:
        racer.spent.clear()
    for turn in range(turns):
        for racer in racers if turn % 2 == 0 else racers[::-1]:
            try:
                racer.spent.append(_seconds(racer.run, racer.calls)[0] / racer.calls)
            except Exception as error:
                record.failed(f"{case.name}, {racer.way.name}, turn {turn}", error)
    for racer in racers:
        if racer.spent:
            row = _row(ready, racer, ceilings)
            record.add("timings", row)
            record.say(line(row))


def _with_right_answers(record: Record, ready: Ready, turn_seconds: float) -> list[_Racer]:
    """Run every way twice: once for its answer, and once to see how long it takes."""
    case, racers, reference = ready.case, [], None
    for way, run in ready.runs:
        what = f"{case.name}, {way.name}"
        if record.left <= 0:
            record.skip(what, "no time left")
            continue
        try:
            first, answer = _seconds(run, 1)
            again, _ = _seconds(run, 1)
        except Exception as error:
            record.failed(what, error)
            continue
        reference = answer if reference is None else reference
        error = float(case.differ(reference, answer))
        if not error <= way.tolerance or not np.isfinite(answer).all():
            record.wrong(what, f"off the answer of {ready.runs[0][0].name} by {error:.2e}, allowed {way.tolerance:.0e}")
            continue
        calls = max(1, math.ceil(turn_seconds / max(again, 1e-6)))
        racers.append(_Racer(way, run, error, first, calls, [again]))
    return racers


def _seconds(run: Run, calls: int) -> tuple[float, np.ndarray]:
    """Return the seconds of several runs, each of which ends with its results on the host."""
    start = time.perf_counter()
    for _ in range(calls):
        answer = run()
    return time.perf_counter() - start, np.asarray(answer)


def _row(ready: Ready, racer: _Racer, ceilings: Ceilings) -> dict[str, Any]:
    case, way = ready.case, racer.way
    work = None
    if way.work is not None:
        work = way.work()
    median = statistics.median(racer.spent)
    return {
        "case": case.name, "way": way.name, "by": way.by, "precision": way.precision, "unit": case.unit,
        "count": case.count, "ms": 1e3 * median, "lowest_ms": 1e3 * min(racer.spent),
        "highest_ms": 1e3 * max(racer.spent), "turns": len(racer.spent), "calls": racer.calls,
        "first_ms": 1e3 * racer.first_seconds, "per_second": case.count / median, "error": racer.error,
        "operations": work and work.operations, "bytes": work and work.bytes,
        "predicted_ms": predicted_ms(work, way.precision, ceilings), "notes": list(way.notes),
    }  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    predicted = "-" if row["predicted_ms"] is None else f"{row['predicted_ms']:.4g}"
    name = f"{row['case']}: {row['way']}"
    ms = f"{row['ms']:9.4g} [{row['lowest_ms']:.4g}, {row['highest_ms']:.4g}] ms"
    return f"{name:58.58} {ms}, predicted {predicted:>7}, {row['per_second']:9.3g} /s, off {row['error']:.0e}"
