"""Files that are written completely or not at all, and results with checksums, so that damage is detected."""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LOCK = ".lock"
TEMPORARY = ".tmp-"
_DIGEST = 64  # hexadecimal digits of SHA-256
_TYPES = {"bool", "float16", "float32", "float64", "complex64", "complex128"}
_TYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def write(path: Path, content: bytes) -> None:
    """Write a file so that a reader, a crash or a full disk sees the old one or the new one, never a part.

    Raises:
        OSError: the file cannot be written; nothing of it is left.
    """
    temporary = path.with_name(TEMPORARY + path.name)
    temporary.unlink(missing_ok=True)  # what a killed write left, or a link that somebody laid
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)  # the new name itself has to reach the disk
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def clean(folder: Path) -> None:
    """Remove what a killed `write` left; only the holder of the lock may."""
    for left in folder.glob(TEMPORARY + "*"):
        left.unlink()


def acquire(folder: Path) -> int:
    """Lock a folder for this process, until the returned descriptor is closed or the process ends in any way.

    Raises:
        ValueError: Another process holds the lock, or the lock is a link or no file.
    """
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise ValueError(f"'{folder / LOCK}' must be a plain file, not a link or a folder: delete it") from error
        raise
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        raise ValueError(
            f"out = '{folder}' is in use by another run (process {holder}): wait for it, end it, or give another --out"
        ) from error
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def still_held(folder: Path, lock: int) -> bool:
    """Return whether the lock of ``folder`` is the one that `acquire` returned: the folder was not taken over."""
    try:
        there = os.stat(folder / LOCK, follow_symlinks=False)
    except OSError:
        return False
    held = os.fstat(lock)
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def plain_arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn scalars, strings and arrays of any library into numpy arrays that can be kept without pickling.

    Raises:
        ValueError: a key that is not a printable string, or a value of another type; the message names the key.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"results = {type(values).__name__}: allowed is a dict of arrays, numbers and strings")
    arrays = {}
    for key, value in values.items():
        if not isinstance(key, str) or not key or not key.isprintable():
            raise ValueError(f"key {key!r}: allowed are printable strings")
        try:
            array = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"key {key!r} holds a {type(value).__name__}, which is no array: {error}") from error
        if array.dtype.kind != "U" and array.dtype.name not in _TYPES:
            raise ValueError(
                f"key {key!r} holds {array.dtype} values ({type(value).__name__}): allowed are booleans, integers, "
                "floats, complex numbers and strings of numpy's own; cast others (bfloat16 to float32), and "
                "flatten nests into one dict"
            )
        arrays[key] = array
    return arrays


def require_finite(values: Mapping[str, np.ndarray], allowed: Any = ()) -> None:
    """Raise where a value is NaN or infinite, except under the keys ``allowed``.

    Raises:
        FloatingPointError: names the key and the first index.
        ValueError: ``allowed`` names a key that is not there.
    """
    if unknown := [key for key in allowed if key not in values]:
        raise ValueError(f"allow_nonfinite = {unknown} are not keys of the results: allowed are {sorted(values)}")
    for key, array in values.items():
        if key in allowed or array.dtype.kind not in "fc":
            continue
        if (bad := ~np.isfinite(array)).any():
            index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), array.shape))
            raise FloatingPointError(
                f"key {key!r} holds {array[index]} at index {index}, the first of {int(bad.sum())} values that are "
                f"not finite of {array.size}: find where it arises, or pass allow_nonfinite=({key!r},) to keep it"
            )


def encode(arrays: Mapping[str, np.ndarray], label: str = "") -> bytes:
    """Return the bytes of an .npz file, the same for the same arrays.

    At its end stands a SHA-256 of ``label`` and of all the rest, so that a file copied over another is noticed.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{key}.npy"), member.getvalue())  # ZipInfo's date is a constant
        archive.comment = bytes(_DIGEST)  # the room that a zip file has for remarks, at its very end
    body = buffer.getvalue()[:-_DIGEST]
    return body + _digest(body, label)


def is_whole(content: bytes, label: str = "") -> bool:
    """Return whether ``content`` is what `encode` returned for this label, to the bit."""
    return _digest(content[:-_DIGEST], label) == content[-_DIGEST:]


def _digest(body: bytes, label: str) -> bytes:
    return hashlib.sha256(label.encode() + body).hexdigest().encode()


def decode(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of `encode`, with their dtypes and shapes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {
            name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
            for name in archive.namelist()
        }
