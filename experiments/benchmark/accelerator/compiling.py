"""Compilation before anything is timed: of JAX in threads, of PyTorch meanwhile in the main thread."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from experiments.benchmark.accelerator.record import Record
from experiments.benchmark.accelerator.ways import Case, Run, Way

__all__ = ["Ready", "make_ready"]


@dataclass
class Ready:
    """A case whose programs are compiled.

    Attributes:
        case: The case.
        runs: Its ways that could be made, and what runs each, in the order of the case.
    """

    case: Case
    runs: list[tuple[Way, Run]] = field(default_factory=list)


def make_ready(
    record: Record, cases: Sequence[Case], threads: int, background: Sequence[Callable[[], Any]] = ()
) -> list[Ready] | None:
    """Compile all ways of all cases, and return them; None if time ran out while threads still compile.

    Args:
        record: Where failures are noted; nothing waits beyond its deadline.
        cases: Cases to compile.
        threads: Number of programs compiled at once.
        background: What else to do meanwhile, in threads; it has ended when this returns.
    """
    pool = ThreadPoolExecutor(threads)
    others = [pool.submit(job) for job in background]
    pending: list[tuple[Case, list[tuple[Way, Future | None]]]] = []
    for case in cases:
        try:
            ways = case.ways()
        except Exception as error:
            record.failed(case.name, error)
            continue
        pending.append((case, [(way, pool.submit(way.make) if way.by == "jaxsens" else None) for way in ways]))
    made: dict[int, Run] = {}
    for case, ways in pending:
        for way, future in ways:
            if future is None:
                _make_here(record, case, way, made)
    futures = others + [future for _, ways in pending for _, future in ways if future is not None]
    unfinished = wait(futures, timeout=record.left).not_done
    pool.shutdown(wait=False, cancel_futures=True)
    if unfinished:
        return None
    for future in others:
        if future.exception() is not None:
            record.failed("work in the background", future.exception())
    return [Ready(case, list(_made(record, case, ways, made))) for case, ways in pending]


def _make_here(record: Record, case: Case, way: Way, made: dict[int, Run]) -> None:
    if record.left <= 0:
        record.skip(f"{case.name}, {way.name}", "no time left to compile it")
        return
    try:
        made[id(way)] = way.make()
    except Exception as error:
        record.failed(f"{case.name}, {way.name}", error)


def _made(
    record: Record, case: Case, ways: list[tuple[Way, Future | None]], made: dict[int, Run]
) -> Iterator[tuple[Way, Run]]:
    """Yield the ways that could be made, with what runs them, and note the failure of the others."""
    for way, future in ways:
        if future is None:
            if id(way) in made:
                yield way, made[id(way)]
        elif future.exception() is None:
            yield way, future.result()
        elif "RESOURCE_EXHAUSTED" in str(future.exception()):  # the memory was shared; it may suffice for one
            _make_here(record, case, way, made)
            if id(way) in made:
                yield way, made[id(way)]
        else:
            record.failed(f"{case.name}, {way.name}", future.exception())
