"""An experiment as a command: settings from the command line, processes and devices, then the run."""

import contextlib
import dataclasses
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.harness import cli
from experiments.harness.start import start

__all__ = ["Experiment"]


@dataclass(frozen=True)
class Experiment:
    """What ``python -m experiments.NAME`` runs.

    Attributes:
        name: Its folder in ``experiments``.
        presets: Configurations by name: ``smoke``, ``laptop`` and ``paper``.
        execute: ``execute(config, out)`` runs it, or what is left of it, in the folder ``out``.
        description: First text of ``--help``.
        out_fields: Fields of the configuration that the default folder is named by.
        every_core: Whether every core of a CPU is a separate device: for many small models.
        default: The preset if none is asked for.
        compilation_cache: Whether compiled programs may be kept for later processes.
    """

    name: str
    presets: Mapping[str, Any]
    execute: Callable[..., Path]
    description: str
    out_fields: Sequence[str] = ()
    every_core: bool = False
    default: str = "laptop"
    compilation_cache: bool = True

    def main(self, argv: Sequence[str] | None = None) -> Path:
        """Run the experiment from the command line, and return its folder."""
        command = cli.parse(
            self.name,
            self.presets,
            argv,
            default=self.default,
            out_fields=self.out_fields,
            description=self.description,
        )
        if not self.compilation_cache:
            command = dataclasses.replace(command, compilation_cache=False)
        start(command, every_core=self.every_core)
        with _signals():
            try:
                folder = self.execute(command.config, command.out)
            except KeyboardInterrupt as error:
                name = error.args[0] if error.args else "SIGINT"
                # One line, not a traceback: what is computed is kept, and the next step is to continue.
                sys.exit(f"interrupted by {name}: finished units are kept in '{command.out}'; the same command resumes")
        print(f"\nresults in {folder}")
        return folder


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does, so that the manifest records them."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        raise KeyboardInterrupt(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
