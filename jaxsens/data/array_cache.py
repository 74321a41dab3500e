"""A cache on disk for arrays that take long to compute, stored under a hash of everything they depend on."""

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

__all__ = ["Arrays", "cached", "digest", "fingerprint", "folder", "working_folder"]

Arrays = dict[str, np.ndarray]

_log = logging.getLogger(__name__)


def folder() -> Path:
    """Return the cache folder: ``$JAXSENS_CACHE``, else ``$XDG_CACHE_HOME/jaxsens``, else ``~/.cache/jaxsens``.

    Example:
        >>> from unittest import mock
        >>> with mock.patch.dict(os.environ, JAXSENS_CACHE="scratch/mine"):
        ...     folder().name
        'mine'
    """
    if chosen := os.environ.get("JAXSENS_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxsens"


def fingerprint(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return path, size and modification time of files, which tell apart different data of the same name.

    Raises:
        OSError: If a file does not exist.

    Example:
        >>> path, size, changed = fingerprint([Path(__file__)])[0]
        >>> size == Path(path).stat().st_size
        True
    """
    described = [(str(file.resolve()), file.stat()) for file in sorted(files)]
    return [(path, status.st_size, status.st_mtime_ns) for path, status in described]


def digest(key: Mapping[str, object]) -> str:
    """Return a hash of a key of JSON values; equal keys have equal hashes, on every machine and in every run.

    Example:
        >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
        True
    """
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def cached(name: str, key: Mapping[str, object], make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays stored for a key, or make and store them.

    If the file is damaged, the arrays are made again; if the folder cannot be written, they are not stored. Both are
    logged as warnings. Nothing is ever unpickled; the checksums of the zip format are verified on reading.

    Args:
        name: The first part of the file's name, for human readers.
        key: Everything that the arrays depend on, as JSON values.
        make: A function that makes the arrays.

    Returns:
        The arrays by name.

    Example:
        >>> from unittest import mock
        >>> with tempfile.TemporaryDirectory() as place, mock.patch.dict(os.environ, JAXSENS_CACHE=place):
        ...     made = cached("numbers", {"version": 1}, lambda: {"x": np.arange(3)})
        ...     again = cached("numbers", {"version": 1}, lambda: {})
        >>> made["x"].tolist(), again["x"].tolist()
        ([0, 1, 2], [0, 1, 2])
    """
    path = folder() / f"{name}-{digest(key)}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {field: stored[field] for field in stored.files}
    except FileNotFoundError:
        pass
    except Exception as error:  # whatever the damage, the arrays can be made again
        _log.warning("the cached arrays %s cannot be read (%s): making them again", path, error)
    arrays = make()
    try:
        _write_whole(path, arrays)
    except OSError as error:
        _log.warning("arrays are not cached, %s cannot be written (%s); set JAXSENS_CACHE to change it", path, error)
    return arrays


def _write_whole(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextlib.contextmanager
def working_folder(name: str) -> Iterator[Path]:
    """Yield a folder of this name inside the cache, or a temporary one if the cache folder cannot be written.

    Example:
        >>> from unittest import mock
        >>> with tempfile.TemporaryDirectory() as place, mock.patch.dict(os.environ, JAXSENS_CACHE=place):
        ...     with working_folder("images") as inside:
        ...         print(inside.name, inside.is_dir())
        images True
    """
    kept = folder() / name
    try:
        kept.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=kept).close()
    except OSError as error:
        _log.warning("%s cannot be written (%s): working in a temporary folder", kept, error)
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        yield kept
