"""An experiment as a command: settings from the command line, processes and devices, then the run."""

import contextlib
import dataclasses
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.harness import cli
from experiments.harness.start import start

__all__ = ["Experiment"]

_INPUTS = (
    "experiments.harness.inputs", "experiments.harness.manifest", "experiments.harness.storage", "experiments.images",
    "experiments.robustness.probe", "experiments.vision.pretrained", "jaxsens.data",
    "jaxsens.models.pretrained", "jaxsens.models.text.tokenizer",
)  # fmt: skip
"""Where errors are about what a user gave, beside the modules ``data`` of experiments."""


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
        """Run the experiment from the command line, and return its folder.

        A run that is refused, since its folder holds another configuration or its data are not there, ends the program
        with status 1 and one line that says what to do. Errors of the computation itself keep their traceback.
        """
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
            except (ValueError, OSError, ImportError) as error:
                if not _is_of_inputs(error):
                    raise
                sys.exit(f"python -m experiments.{self.name}: {' '.join(str(error).split())}")
        print(f"\nresults in {folder}")
        return folder


def _is_of_inputs(error: Exception) -> bool:
    """Return whether an error says what is wrong with the folder, the data or the models that a user gave."""
    if getattr(error, "__notes__", None):  # a unit was being computed
        return False
    frame, _ = list(traceback.walk_tb(error.__traceback__))[-1]
    module = frame.f_globals.get("__name__", "")
    return module.startswith(_INPUTS) or (module.startswith("experiments.") and module.endswith(".data"))


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
