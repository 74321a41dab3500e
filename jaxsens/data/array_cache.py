"""Arrays that took long to make, kept on disk: whole or not at all, and only for exactly what they were made from."""

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
    """Return the cache folder: ``$JAXSENS_CACHE``, else ``$XDG_CACHE_HOME/jaxsens``, else ``~/.cache/jaxsens``."""
    if chosen := os.environ.get("JAXSENS_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxsens"


def fingerprint(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Describe files by path, size and modification time, so that other data of the same name is never taken for them.

    Raises:
        OSError: if a file does not exist.
    """
    described = [(str(file.resolve()), file.stat()) for file in sorted(files)]
    return [(path, status.st_size, status.st_mtime_ns) for path, status in described]


def digest(key: Mapping[str, object]) -> str:
    """Hash a key made of what JSON can hold; equal keys have equal digests, on every machine and in every run."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def cached(name: str, key: Mapping[str, object], make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays kept for this key, or make and keep them.

    A damaged file is made again. A folder that cannot be written costs time, never the result. Both are logged as
    warnings. Nothing is ever unpickled; the checksums of the zip format are verified on reading.

    Args:
        name: begins the file's name, for the human reader.
        key: everything that the arrays depend on, as JSON holds it.
        make: makes the arrays.

    Returns:
        the arrays by name.
    """
    path = folder() / f"{name}-{digest(key)}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {field: stored[field] for field in stored.files}
    except FileNotFoundError:
        pass
    except Exception as error:  # whatever is wrong with the copy, the original is still there
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
    """Yield a folder of this name inside the cache, or a temporary one if the cache folder cannot be written."""
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
