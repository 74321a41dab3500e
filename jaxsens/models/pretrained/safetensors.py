"""Tensors of a folder in the safetensors format, in one file or in shards. Nothing is ever unpickled.

Headers are read first, so that names and shapes are checked against a model before any value is read.

Reading needs the package ``safetensors``, of the extra ``text``.
"""

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  (it registers bfloat16 with NumPy)
import numpy as np

__all__ = ["INDEX", "WHOLE", "Stored", "headers", "read", "read_json", "write"]

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_LARGEST_JSON = 2**28
_LARGEST_HEADER = 100_000_000  # that of the package


class Stored(NamedTuple):
    """A tensor in a file: its name there, the file, and its shape.

    Example:
        >>> Stored("weight", Path("model.safetensors"), (2, 3)).shape
        (2, 3)
    """

    name: str
    path: Path
    shape: tuple[int, ...]


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ValueError: If there is no such file, or no object in it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "config.json"
        ...     _ = path.write_text('{"layers": 2}')
        ...     read_json(path)
        {'layers': 2}
    """
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path} cannot be read (No such file): give the folder of a pretrained model.")
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, more than any settings: it is no JSON.")
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): give the folder of a pretrained model.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, but must hold an object.")
    return content


def headers(folder: Path) -> list[Stored]:
    """Return name, file and shape of every tensor in ``model.safetensors``, or in the shards that its index names.

    Raises:
        ValueError: If a file is missing, truncated or corrupted, naming it and, if possible, the tensor; or if the
            shards do not hold what the index says.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder) / WHOLE, {"weight": np.zeros((2, 3), np.float32)})
        ...     [(tensor.name, tensor.shape) for tensor in headers(Path(folder))]
        [('weight', (2, 3))]
    """
    if (folder / WHOLE).exists():
        return _header(folder / WHOLE)
    if not (folder / INDEX).exists():
        others = sorted(path.name for path in folder.glob("*.bin"))
        hint = f" It has {', '.join(others)}: pickles are not read; convert them to safetensors." if others else ""
        raise ValueError(f"{folder} has neither {WHOLE} nor {INDEX}.{hint}")
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise ValueError(f"{folder / INDEX} must map names of tensors to files, under 'weight_map'.")
    stored = []
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard:  # an index may not lead out of the folder
            raise ValueError(f"{folder / INDEX} names the shard {shard!r}, which is not a file of its folder.")
        expected = {name for name, file in places.items() if file == shard}
        for tensor in _header(folder / shard):
            if tensor.name not in expected:
                raise ValueError(f"{tensor.path} holds {tensor.name}, which {INDEX} does not place there.")
            expected.remove(tensor.name)
            stored.append(tensor)
        if expected:
            raise ValueError(f"{folder / shard} lacks {sorted(expected)[0]}, which {INDEX} places there.")
    return stored


def read(tensors: Iterable[Stored]) -> Iterator[tuple[Stored, np.ndarray]]:
    """Yield tensors with their values, file by file.

    Raises:
        ValueError: If a file or a tensor cannot be read, naming it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder) / WHOLE, {"weight": np.ones(3, np.float32)})
        ...     [(tensor.name, values.tolist()) for tensor, values in read(headers(Path(folder)))]
        [('weight', [1.0, 1.0, 1.0])]
    """
    by_file: dict[Path, list[Stored]] = {}
    for tensor in tensors:
        by_file.setdefault(tensor.path, []).append(tensor)
    for path, group in by_file.items():
        with _opened(path) as file:
            for tensor in group:
                try:
                    values = file.get_tensor(tensor.name)
                except Exception as error:  # the package has no error of its own for dtypes that NumPy lacks
                    raise ValueError(f"{path} holds {tensor.name} in a form that cannot be read: {error}") from error
                yield tensor, values


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write tensors into one file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder) / WHOLE, {"weight": np.ones(3, np.float32)})
        ...     (Path(folder) / WHOLE).is_file()
        True
    """
    save_file = _package("safetensors.numpy").save_file
    # The package writes an array's memory, whatever its strides.
    save_file({name: np.ascontiguousarray(a) for name, a in tensors.items()}, path, metadata={"format": "pt"})


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError("checkpoints need safetensors: pip install 'jaxsens[text]'") from error


def _header(path: Path) -> list[Stored]:
    with _opened(path) as file:
        names = list(file.keys())
        return [Stored(name, path, tuple(file.get_slice(name).get_shape())) for name in names]


def _opened(path: Path) -> Any:
    """Return an open file; the package then has checked that the file is as long as its header says."""
    package = _package("safetensors")
    if not path.is_file():
        raise ValueError(f"{path} cannot be read: it is no file.")
    try:
        return package.safe_open(path, framework="numpy")
    except package.SafetensorError as error:
        raise ValueError(f"{path} is truncated or corrupted{_first_lost(path)}: {error}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _first_lost(path: Path) -> str:
    """Return the first tensor whose data lie beyond the end of the file, if there is one, read from the header."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size, _LARGEST_HEADER):
                return ""
            header = json.loads(file.read(length))
        ends = {name: entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"}
        lost = [name for name in sorted(ends, key=ends.__getitem__) if 8 + length + ends[name] > size]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return f" (it ends within {lost[0]})" if lost else ""
