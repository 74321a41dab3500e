"""The record of all results, written to a file after each one, and the time left."""

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["Record"]


class Record:
    """Results in a JSON file that is whole at every moment, and a deadline.

    Attributes:
        results: Everything that is written: sections by name.
    """

    def __init__(self, out: Path, seconds: float, started: float | None = None) -> None:
        self.out = out
        self._lock = threading.RLock()
        self.started = time.monotonic() if started is None else started
        self.deadline = self.started + seconds
        self.results: dict[str, Any] = {
            "finished": False, "machine": {}, "ceilings": {}, "products": [], "answers": [], "timings": [],
            "repeats": [], "wrong": [], "failed": [], "skipped": [],
        }  # fmt: skip

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def say(self, text: str) -> None:
        """Print a line of progress at once."""
        print(f"[{self.elapsed:5.0f} s] {text}", flush=True)

    def put(self, section: str, name: str, value: Any) -> None:
        """Set one value of a section that is a mapping."""
        with self._lock:
            self.results[section][name] = value
            self.save()

    def add(self, section: str, row: Any) -> None:
        """Append to a section that is a list."""
        with self._lock:
            self.results[section].append(row)
            self.save()

    def wrong(self, what: str, why: str) -> None:
        """Note an answer that is not what it must be."""
        self.add("wrong", {"what": what, "why": why})
        self.say(f"WRONG   {what}: {why}")

    def failed(self, what: str, error: BaseException) -> None:
        """Note a program that raised."""
        text = f"{type(error).__name__}: {error}"
        self.add("failed", {"what": what, "error": text[:2000]})
        self.say(f"FAILED  {what}: {text.splitlines()[0][:200]}")

    def skip(self, what: str, why: str) -> None:
        """Note what was left out."""
        self.add("skipped", {"what": what, "why": why})
        self.say(f"skipped {what}: {why}")

    def finish(self) -> None:
        """Record that nothing is missing except the skipped parts."""
        self.results["finished"] = True
        self.save()

    def save(self) -> None:
        """Write the file anew: to another name first, so that no moment sees half of it."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        self.results["seconds"] = round(self.elapsed, 3)
        partial = self.out.with_name(self.out.name + ".partial")
        with partial.open("w") as file:
            file.write(json.dumps(_plain(self.results), indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.out)


def _plain(value: Any) -> Any:
    """Return what JSON can hold: numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
