"""TFDS data sets that were prepared as array_record: opened without TensorFlow, or an error that says what to do."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["data_folder", "open_splits"]


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
        splits: from the caller's names of the splits to those of TFDS.
        data_dir: TFDS folder, see ``data_folder``.
        other_places: where else the caller has looked, for the error.

    Returns:
        from the caller's names to ``tfds.data_source``s.

    Raises:
        ValueError: if the data set is not there, or cannot be read without TensorFlow; it names the places looked in
            and the command that prepares the data set.
    """
    import tensorflow_datasets as tfds

    root = data_folder(data_dir)
    try:
        return {
            ours: tfds.data_source(name, split=theirs, data_dir=str(root), download=False)
            for ours, theirs in splits.items()
        }
    except Exception as error:  # TFDS has no one type for this: KeyError, NotImplementedError, AssertionError, ...
        places = " and in ".join(str(place) for place in (root / name, *other_places))
        found = "is not there"
        if (root / name).is_dir():
            reason = str(error).partition("\n")[0] or type(error).__name__
            found = f"is there, but not as array_record of this version (tensorflow-datasets says: {reason})"
        raise ValueError(
            f"data set {name!r} {found}: looked in {places}. "
            f"Prepare it with: python scripts/prepare_data {name} --data-dir {root}"
        ) from error
