"""The experiment harness: a run is a list of units in a folder, each written completely or not at all.

Killed at any moment and started again, a run ends with the same bytes in its tables as one that was never interrupted.
In several processes only the first reads and writes, and the others get its results::

    with Run.open(out, config, experiment="vision", trains=True) as run:
        for seed in config.seeds:
            results = run.unit(f"vit-seed{seed}", partial(train_and_measure, config, seed))
        run.table("sensitivity", rows)
        run.comparison([Claim.of("C1", "token sensitivity", difference, subject="vit", reference="cnn", ...)])
        run.figure("sensitivity", plots.bars_with_intervals(...))

The folder holds ``units/*.npz`` (results), ``*.csv``, ``*.png`` and ``*.pdf`` (figures) and ``manifest.json``, which
says what was run, on what and in what time; nothing else holds a time. A run is identified by its experiment and its
configuration.

The file is longer than others because the states of a run (open, agreed, finished) belong to one class.
"""

import errno
import io
import itertools
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import jax
import numpy as np

from experiments.harness import cli, storage, tables
from experiments.harness import manifest as manifests
from experiments.harness.claims import Claim
from experiments.harness.compiling import Compiling
from jaxsens.execution import processes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIGURE_FILES = {"png": ("Software",), "pdf": ("Creator", "Producer", "CreationDate")}
"""The files of a figure, and what matplotlib would write into each of them besides the figure."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._=+-]{0,119}")


class Run:
    """One run of an experiment in one folder; a context manager. Made by `Run.open`."""

    def __init__(self, folder: Path, lock: int | None, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self._lock = lock  # the first process has it
        self._open = True
        self._agreed = True  # until an error, which may be one of this process only
        self._manifest = manifest
        # What a unit's file is checked against, in addition to its name.
        self._label = json.dumps([manifest["experiment"], manifest["config"]], sort_keys=True) + "\n"
        self._session = manifest["sessions"][-1]
        self._start = time.perf_counter()
        self._seen: set[str] = set()
        self._compiling = Compiling()

    @classmethod
    def open(cls, out: str | os.PathLike[str], config: Any, *, experiment: str, trains: bool = False) -> "Run":
        """Begin a run in the folder ``out``, or continue the one that is there.

        If versions, commit, platform or precision differ from those that made the units which are there, it says so
        on stderr; the manifest lists all sessions.

        Args:
            out: folder; made if it is not there.
            config: instance of a frozen dataclass (see `cli.describe`).
            experiment: name of the experiment.
            trains: Whether units train models: units that are there must then come from the same versions, cores and
                devices, unless ``config.resume_elsewhere`` is set.

        Raises:
            ValueError: the folder holds the run of another configuration or experiment, or something that is not a
                run, or is in use by another process; or ``config`` is not a frozen dataclass of JSON's types.
        """
        folder, lock = Path(out), None
        _check_name("experiment", experiment)
        identity, settings = cli.describe(config)

        def begin() -> bytes:
            nonlocal lock
            manifests.refuse_foreign(folder)
            folder.mkdir(parents=True, exist_ok=True)
            lock = storage.acquire(folder)
            manifest = manifests.previous(folder, experiment, identity)
            elsewhere = bool(getattr(config, "resume_elsewhere", False))
            same = bool(getattr(config, "reproducible", False))
            manifests.begin_session(folder, manifest, settings, trains=trains, elsewhere=elsewhere, reproducible=same)
            return json.dumps(manifest).encode()

        def make_room() -> bytes:
            (folder / "units").mkdir(exist_ok=True)
            storage.clean(folder)
            storage.clean(folder / "units")
            return b""

        try:
            manifest = json.loads(processes.from_first(begin))
            run = cls(folder, lock, manifest)
            run._write_manifest("running")
            processes.from_first(make_room)
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        run._compiling.start()
        return run

    def unit(
        self, name: str, compute: Callable[[], Mapping[str, Any]], *, allow_nonfinite: Collection[str] = ()
    ) -> dict[str, np.ndarray]:
        """Return the results of ``compute()``, from the folder if they are there, else computed and kept in it.

        Either way the result is what reading gives: numpy arrays of the same dtypes, with scalars and strings as
        arrays of shape ``()``.

        Args:
            name: identity of the unit in the run: lower-case letters, digits and ``. _ = + -``.
            compute: gives a dict of arrays, numbers, booleans and strings; it may depend on the configuration only.
            allow_nonfinite: keys whose values may hold NaN or infinity.

        Raises:
            ValueError: a name that was asked for before or is not allowed, or a value that is not of a plain type.
            FloatingPointError: NaN or infinity under a key where they are not allowed.
            OSError: the result cannot be written, as on a full disk; finished units are safe.
        """
        self._require_open()
        _check_name("unit", name)
        if name in self._seen:
            raise ValueError(f"unit {name!r} was requested before in this run: put what differs into the name")
        path = self._path(name)
        label = f"{self._label}{name}\n"
        content = processes.from_first(partial(_kept, path, label))
        computed = not content
        try:
            if computed:
                start = time.perf_counter()
                arrays = storage.plain_arrays(compute())
                storage.require_finite(arrays, allow_nonfinite)
                encoded = storage.encode(arrays, label)
                seconds = time.perf_counter() - start
                self._write(path, lambda: encoded, f"unit {name!r}")
                content = processes.from_first(lambda: encoded)
                session = len(self._manifest["sessions"]) - 1
                self._manifest["units"][name] = {"session": session, "seconds": seconds}
            result = storage.decode(content)
            storage.require_finite(result, allow_nonfinite)
        except Exception as error:
            error.add_note(f"in unit {name!r} of the run in {self.folder}")
            raise
        self._seen.add(name)
        self._manifest["units"][name]["number"] = len(self._seen)
        if computed:
            self._write_manifest("running")
        return result

    def units(
        self,
        computations: Iterable[tuple[str, Callable[[], Mapping[str, Any]]]],
        *,
        allow_nonfinite: Collection[str] = (),
        ahead: bool | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the results of many units in turn; while one is computed, a thread compiles what the next one needs.

        Args:
            computations: name and ``compute`` of each unit, as `unit` takes them. The thread calls ``compute`` within
                `dry_run.compiling_only`: it must have no effect but its result, and what takes long in it must be
                done by `parallel.map_items`, as estimators do.
            allow_nonfinite: as in `unit`.
            ahead: whether to compile ahead; by default where the host is idle while it waits for an accelerator.

        Raises:
            ValueError, FloatingPointError, OSError: as `unit` does.
        """
        ahead = jax.default_backend() != "cpu" if ahead is None else ahead
        computations = list(computations)
        with self._compiling.ahead() as prepare:
            for (name, compute), following in itertools.zip_longest(computations, computations[1:]):
                missing = ahead and following and not self._path(following[0]).exists()
                prepare(following[1] if missing else None)
                yield self.unit(name, compute, allow_nonfinite=allow_nonfinite)

    def _path(self, unit: str) -> Path:
        return self.folder / "units" / f"{unit}.npz"

    @property
    def compiling(self) -> str:
        """What this session has spent on compiling, as a sentence with its share of the wall time."""
        return self._compiling.summary(time.perf_counter() - self._start)

    def record(self, **entries: Any) -> None:
        """Keep facts about how this session works in the manifest, such as the chunk and the memory budget."""
        self._require_open()
        self._session["recorded"] |= cli.to_json(entries, "record")
        self._write_manifest("running")

    def table(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        columns: Sequence[str] | None = None,
        allow_nonfinite: Collection[str] = (),
    ) -> Path:
        """Write ``<name>.csv``, one line a row; numbers in the shortest form that reads back as the same float64.

        Args:
            name: name of the table.
            rows: one dict each, with the same keys; cells are str, bool, int, float, or None for an empty cell.
            columns: order of the columns; that of the first row if None.
            allow_nonfinite: columns that may hold NaN or infinity.

        Raises:
            ValueError: no rows, rows with other keys than the columns, or a cell that is not a scalar.
            FloatingPointError: NaN or infinity in a column where they are not allowed.
        """
        self._require_open()
        _check_name("table", name)
        content = tables.csv_bytes(name, rows, columns, allow_nonfinite)
        path = self.folder / f"{name}.csv"
        self._write(path, lambda: content, f"table {name!r}")
        return path

    def document(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write ``<name>.json``: what has a structure that no table has.

        Raises:
            ValueError: content that JSON cannot hold, or a number in it that is not finite; the message says where.
        """
        self._require_open()
        _check_name("document", name)
        text = json.dumps(cli.to_json(dict(content), name), indent=1, allow_nan=False) + "\n"
        path = self.folder / f"{name}.json"
        self._write(path, text.encode, f"document {name!r}")
        return path

    def comparison(self, claims: Sequence[Claim]) -> Path:
        """Write ``comparison.csv``: published and measured values, one `Claim` a row."""
        return self.table("comparison", [asdict(claim) for claim in claims])

    def figure(self, name: str, figure: "Figure") -> Path:
        """Write a matplotlib figure as ``<name>.png`` at 150 dots per inch and as ``<name>.pdf``, and close it.

        Neither file holds a date or a version, so that the same figure gives the same bytes.

        Returns:
            The path of the PNG.
        """
        self._require_open()
        _check_name("figure", name)
        for kind, left_out in _FIGURE_FILES.items():

            def drawn(kind: str = kind, left_out: Sequence[str] = left_out) -> bytes:
                image = io.BytesIO()
                figure.savefig(image, format=kind, dpi=150, metadata=dict.fromkeys(left_out))
                return image.getvalue()

            self._write(self.folder / f"{name}.{kind}", drawn, f"figure {name!r}")
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close(figure)
        return self.folder / f"{name}.png"

    def discard(self, folder: Path) -> None:
        """Remove a folder of checkpoints, in all processes at once: a late one must not remove what came after."""

        def remove() -> bytes:
            shutil.rmtree(folder, ignore_errors=True)
            return b""

        self._require_open()
        processes.from_first(remove)

    def finish(self, status: str = "finished") -> None:
        """Write the status and the total time, and leave the folder to others."""
        self._require_open()
        try:
            self._write_manifest(status)
        finally:
            self._open = False
            self._compiling.close()
            if self._lock is not None:
                os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._open:
            return
        try:
            self._agreed = error is None
            self.finish(_status(kind, error))
        except OSError as second:
            if error is None:
                raise
            error.add_note(str(second))  # the first error is the one to report

    def _require_open(self) -> None:
        if not self._open:
            raise ValueError(f"the run in {self.folder} is finished: open it again to continue")

    def _write_manifest(self, status: str) -> None:
        self._session["seconds"] = time.perf_counter() - self._start
        self._session["compiling"] = self._compiling.to_json()
        self._session["status"] = self._manifest["status"] = status
        self._manifest["seconds"] = sum(session["seconds"] for session in self._manifest["sessions"])
        text = json.dumps(self._manifest, indent=1, allow_nan=False) + "\n"
        self._write(self.folder / manifests.NAME, text.encode, "the manifest")

    def _write(self, path: Path, make: Callable[[], bytes], what: str) -> None:
        """Let the first process write a file; if that fails, it fails in all."""

        def write() -> bytes:
            content = make()
            if self._lock is not None and not storage.still_held(self.folder, self._lock):
                raise OSError(
                    errno.ESTALE,
                    f"'{self.folder}' was removed, or its lock was: another run may have it now, so that {what} is not "
                    "written; the same command starts again, or goes on from what is there",
                )
            try:
                storage.write(path, content)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{error.strerror or error}, while writing {what} ({len(content)} bytes) to '{path}': nothing of "
                    f"it is left there, and the finished units in '{self.folder}' are safe; the same command goes on "
                    "from them",
                ) from error
            return b""

        if self._agreed:
            processes.from_first(write)
        elif processes.is_first():
            write()


def _kept(path: Path, label: str) -> bytes:
    """Return the bytes of a unit that is there, and whole; none otherwise."""
    if not path.exists():
        return b""
    content = path.read_bytes()
    if not storage.is_whole(content, label):
        manifests.say(f"{path} is damaged, or was written for another unit or configuration: computing it again")
        return b""
    return content


def _status(kind: type[BaseException] | None, error: BaseException | None) -> str:
    if error is None:
        return "finished"
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted by {error.args[0] if error.args else 'SIGINT'}"
    return f"failed: {kind.__name__}: {error}".removesuffix(": ")


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r}: allowed are up to 120 lower-case letters, digits and . _ = + -, a letter or digit first"
        )
