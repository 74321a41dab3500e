"""TFDS data sets that were prepared as array_record: opened without TensorFlow, or an error that says what to do."""

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["data_folder", "open_splits", "record", "require_limit"]


def require_limit(argument: str, value: int | None) -> None:
    """Raise ValueError unless the value is None or an integer of at least 1.

    Example:
        >>> require_limit("limit", None)
        >>> require_limit("limit", 0)
        Traceback (most recent call last):
        ValueError: limit=0 must be an integer of at least 1, or None
    """
    try:
        whole = value is None or (not isinstance(value, bool | np.bool_) and operator.index(value) >= 1)
    except TypeError:
        whole = False
    if not whole:
        raise ValueError(f"{argument}={value!r} must be an integer of at least 1, or None")


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """Return the TFDS folder: the given one, else ``$TFDS_DATA_DIR``, else ``~/tensorflow_datasets``."""
    import tensorflow_datasets as tfds

    return Path(tfds.core.constants.DATA_DIR if data_dir is None else data_dir).expanduser()


def open_splits(
    name: str, splits: Mapping[str, str], data_dir: str | os.PathLike[str] | None, other_places: Iterable[Path] = ()
) -> dict[str, Any]:
    """Open splits of a prepared data set for random access; nothing is downloaded or decoded yet.

    Args:
        name: TFDS name, with its configuration if it has one.
        splits: From the caller's names of the splits to those of TFDS.
        data_dir: TFDS folder, see ``data_folder``.
        other_places: Other places in which the caller has looked, for the error.

    Returns:
        A ``tfds.data_source`` for each of the caller's names.

    Raises:
        ValueError: If the data set is not there, cannot be read without TensorFlow, or its files hold another number of
            records than its description says. The error names the places looked in and the command that prepares the
            data set.
    """
    import tensorflow_datasets as tfds

    root = data_folder(data_dir)
    try:
        sources = {
            ours: tfds.data_source(name, split=theirs, data_dir=str(root), download=False)
            for ours, theirs in splits.items()
        }
    except Exception as error:  # TFDS has no one type for this: KeyError, NotImplementedError, AssertionError, ...
        places = " and in ".join(str(place) for place in (root / name, *other_places))
        state = "is not there"
        if (root / name).is_dir():
            reason = str(error).partition("\n")[0] or type(error).__name__
            state = f"is there, but not as array_record of this version (tensorflow-datasets says: {reason})"
        raise ValueError(
            f"data set {name!r} {state}: looked in {places}. "
            f"Prepare it with: python scripts/prepare_data {name} --data-dir {root}"
        ) from error
    for ours, theirs in splits.items():
        _require_whole(sources[ours], name, theirs)
    return sources


def record(source: Sequence, index: int, name: str, split: str) -> Any:
    """Return a decoded record.

    Raises:
        ValueError: If its file is damaged; the data set, its folder and the command that prepares it are named.

    Example:
        >>> record([3, 1, 2], 1, "numbers", "train")
        1
    """
    try:
        return source[index]
    except Exception as error:  # of Riegeli, Pillow or TFDS, depending on the damage
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise ValueError(f"record {index} of split {split!r} {_damaged(source, name)}: {reason}") from error


def _require_whole(source: Any, name: str, split: str) -> None:
    """Raise ValueError unless the files of a split hold as many records as the description of the data set says."""
    files = [path for path in _files(source, split) if path.is_file()]
    if not files:  # mocked data
        return
    from array_record.python.array_record_module import ArrayRecordReader

    count = 0
    for path in files:
        try:
            reader = ArrayRecordReader(str(path))
            count += reader.num_records()
            reader.close()
        except Exception as error:
            reason = str(error).partition("\n")[0][:200]
            raise ValueError(f"file {path.name} of split {split!r} {_damaged(source, name)}: {reason}") from error
    if count != len(source):
        raise ValueError(
            f"split {split!r} {_damaged(source, name)}: its description lists {len(source)} records, its files hold "
            f"{count}"
        )


def _files(source: Any, split: str) -> list[Path]:
    try:
        return [Path(path) for path in source.dataset_info.splits[split].filepaths]
    except (AttributeError, KeyError, ValueError):  # a part of a split, or mocked data
        return []


def _damaged(source: Any, name: str) -> str:
    folder = getattr(getattr(source, "dataset_info", None), "data_dir", "")
    return (
        f"of data set {name!r} is damaged, in {folder}: delete that folder and prepare it again with: "
        f"python scripts/prepare_data {name}"
    )
