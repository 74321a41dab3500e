"""The cost of compiling: the number of programs, and the time of the run and of its background thread."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from jaxsens.execution import dry_run

_AHEAD = "compile-ahead"  # the name of the thread


class Compiling:
    """Counts from `start` to `close`.

    Attributes:
        programs: how many were compiled, in all threads.
        seconds: what they took where the run waited for them.
        waited_seconds: what the run waited for the thread that compiles ahead.
        ahead_seconds: what that thread took.
    """

    def __init__(self) -> None:
        self.programs = 0
        self.seconds = self.waited_seconds = self.ahead_seconds = 0.0

    def start(self) -> None:
        """Count from now on."""
        jax.monitoring.register_event_duration_secs_listener(self._count)

    def close(self) -> None:
        """Count no more."""
        jax.monitoring.unregister_event_duration_listener(self._count)

    def _count(self, event: str, seconds: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            if threading.current_thread().name.startswith(_AHEAD):
                self.ahead_seconds += seconds
            else:
                self.seconds += seconds
            self.programs += event.endswith("backend_compile_duration")

    def to_json(self) -> dict[str, float]:
        """Return the numbers by name."""
        names = ("programs", "seconds", "waited_seconds", "ahead_seconds")
        return {name: getattr(self, name) for name in names}

    def summary(self, wall: float) -> str:
        """Return them as a sentence, with their share of the wall time in seconds."""
        seconds, ahead = self.seconds + self.waited_seconds, self.ahead_seconds - self.waited_seconds
        return f"{self.programs} programs compiled in {seconds:.0f} s, {seconds / wall:.0%} of {wall:.0f} s" + (
            f"; {ahead:.0f} s more while computing" if ahead > 0 else ""
        )

    @contextlib.contextmanager
    def ahead(self) -> Iterator[Callable[[Callable[[], object] | None], None]]:
        """Give ``prepare(compute)``: waits for the last one, then lets a thread compile what ``compute`` needs, if any.

        ``compute`` is called within `dry_run.compiling_only`.
        """
        with ThreadPoolExecutor(1, _AHEAD) as thread:
            running = None

            def prepare(compute: Callable[[], object] | None) -> None:
                nonlocal running
                if running is not None:
                    start = time.perf_counter()
                    running.result()
                    self.waited_seconds += time.perf_counter() - start
                running = None if compute is None else thread.submit(_compile, compute)

            yield prepare


def _compile(compute: Callable[[], object]) -> None:
    # What is wrong with it shows where it is computed.
    with contextlib.suppress(Exception), dry_run.compiling_only():
        compute()
