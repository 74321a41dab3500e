"""The proof from start to end: ceilings, answers, times in the order of their importance, a table."""

import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from experiments.benchmark.accelerator import (
    answers,
    machine,
    repeats,
    report,
    substitutions,
    timing,
    truth_tables,
    weights,
)
from experiments.benchmark.accelerator.compiling import make_ready
from experiments.benchmark.accelerator.machine import Ceilings
from experiments.benchmark.accelerator.record import Record
from experiments.benchmark.accelerator.sizes import Sizes
from experiments.benchmark.accelerator.ways import Case
from experiments.benchmark.peers import pytorch

__all__ = ["groups", "leave", "print_digests", "prove"]


def prove(record: Record, sizes: Sizes, seed: int, *, rehearse: bool) -> bool:
    """Do everything that there is time for, and return whether no answer was wrong."""
    children: list[subprocess.Popen] = []
    watch = threading.Timer(record.left + GRACE, _give_up, (record, children))
    watch.daemon = True
    watch.start()
    record.results["machine"] = machine.describe() | {"seed": seed, "rehearsal": rehearse}
    record.save()
    record.say(str(record.results["machine"]))
    threads = max(2, min(16, record.results["machine"]["cores"] or 2))
    ceilings = machine.measure(record, sizes, seed)
    usable = answers.check_products(record, seed)
    answers.check(record, seed, threads, sizes.families)

    def bits() -> None:
        children.extend(repeats.start(rehearse, seed))
        repeats.compare(record, children)

    for number, group in enumerate(groups(sizes, seed, usable)):
        _time(record, group, ceilings, sizes, threads, [bits] if number == BESIDE else [])
        gc.collect()
        if pytorch:
            pytorch.strongest.release_memory()
    watch.cancel()
    return _conclude(record, children)


GRACE = 15.0
"""Seconds after the deadline at which whatever still runs is stopped."""


def _conclude(record: Record, children: list[subprocess.Popen]) -> bool:
    """End the child processes, print the table, and return whether no answer was wrong."""
    for child in children:
        child.kill()
    record.finish()
    print(report.table(record.results), flush=True)
    return not record.results["wrong"]


def _give_up(record: Record, children: list[subprocess.Popen]) -> None:
    """End this process though something is still running, with all results so far."""
    record.skip("the rest", f"something was still running {GRACE:.0f} s after the deadline")
    leave(0 if _conclude(record, children) else 1)


BESIDE = 2
"""The group during which the two processes of (k) run: PyTorch compiles it longest."""


def groups(sizes: Sizes, seed: int, usable: set[str]) -> Iterator[list[Case]]:
    """Yield cases that are compiled together, the most important first."""
    yield [*substitutions.encoders(sizes, seed, usable), *substitutions.recognizers(sizes, seed)]
    yield list(substitutions.images(sizes, seed))
    yield [*weights.trainings(sizes, seed), *weights.loss_surface(sizes, seed), *truth_tables.cubes(sizes, seed)]
    yield [*substitutions.in_chunks(sizes, seed), *substitutions.screened(sizes, seed)]


def _time(
    record: Record,
    cases: Sequence[Case],
    ceilings: Ceilings,
    sizes: Sizes,
    threads: int,
    background: Sequence[Callable[[], Any]],
) -> None:
    """Compile a group of cases, then time them."""
    names = ", ".join(case.name for case in cases)
    if record.left <= 0:
        record.skip(names, "no time left")
        return
    record.say(f"compiling {names}")
    ready = make_ready(record, cases, threads, background)
    if ready is None:
        record.skip(names, "still compiling at the deadline")
        return
    for one in ready:
        try:
            timing.time_case(record, one, ceilings, sizes.turns, sizes.turn_seconds)
        except Exception as error:
            record.failed(one.case.name, error)


def print_digests(sizes: Sizes, seed: int) -> None:
    """Print what ``repeats.compare`` reads."""
    print(json.dumps(repeats.digests(sizes, seed)), flush=True)


def leave(status: int) -> None:
    """End the process at once, without waiting for threads that still compile."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
