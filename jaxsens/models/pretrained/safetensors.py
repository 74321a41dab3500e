"""Tensors of a folder in the safetensors format, whole or in shards. Nothing is ever unpickled.

Reading needs the package ``safetensors``, of the extra ``text``.
"""

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (NumPy then knows bfloat16)
import numpy as np

__all__ = ["INDEX", "WHOLE", "read", "read_json", "write"]

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ValueError: If there is no such file, or no object in it.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): give the folder of a pretrained model.") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {type(found).__name__}, but must hold an object.")
    return found


def read(folder: Path) -> Iterator[tuple[str, Path, np.ndarray]]:
    """Yield name, file and values of every tensor in ``model.safetensors``, or in the shards that its index names.

    Raises:
        ValueError: If a file is missing, truncated or corrupted, naming it and, where it can be told, the tensor; or if
            the shards do not hold what the index says.
    """
    if (folder / WHOLE).exists():
        yield from _read_file(folder / WHOLE)
        return
    if not (folder / INDEX).exists():
        others = sorted(path.name for path in folder.glob("*.bin"))
        hint = f" It has {', '.join(others)}: pickles are not read; convert them to safetensors." if others else ""
        raise ValueError(f"{folder} has neither {WHOLE} nor {INDEX}.{hint}")
    where = read_json(folder / INDEX).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(shard, str) for shard in where.values()):
        raise ValueError(f"{folder / INDEX} must map names of tensors to files, under 'weight_map'.")
    for shard in sorted(set(where.values())):
        if Path(shard).name != shard:  # an index may not lead out of the folder
            raise ValueError(f"{folder / INDEX} names the shard {shard!r}, which is not a file of its folder.")
        expected = {name for name, file in where.items() if file == shard}
        for name, path, tensor in _read_file(folder / shard):
            if name not in expected:
                raise ValueError(f"{path} holds {name}, which {INDEX} does not place there.")
            expected.remove(name)
            yield name, path, tensor
        if expected:
            raise ValueError(f"{folder / shard} lacks {sorted(expected)[0]}, which {INDEX} places there.")


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write tensors into a file of their own."""
    save_file = _package("safetensors.numpy").save_file
    # The package writes an array's memory, whatever its strides.
    save_file({name: np.ascontiguousarray(a) for name, a in tensors.items()}, path, metadata={"format": "pt"})


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError("checkpoints need safetensors: pip install 'jaxsens[text]'") from error


def _read_file(path: Path) -> Iterator[tuple[str, Path, np.ndarray]]:
    package = _package("safetensors")
    try:
        with package.safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  (the file itself cannot be iterated)
                yield name, path, _tensor(file, name, path)
    except package.SafetensorError as error:
        raise ValueError(f"{path} is truncated or corrupted{_first_lost(path)}: {error}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _tensor(file: Any, name: str, path: Path) -> np.ndarray:
    try:
        return file.get_tensor(name)
    except Exception as error:  # the package has no error of its own for kinds of numbers that NumPy lacks
        raise ValueError(f"{path} holds {name} in a form that cannot be read: {error}") from error


def _first_lost(path: Path) -> str:
    """Return which tensor is the first whose data lie beyond the end of the file, if that is what is wrong."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    try:
        header = json.loads(raw[8:start])
        ends = {name: entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"}
        lost = [name for name in sorted(ends, key=ends.__getitem__) if start + ends[name] > len(raw)]
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f" (it ends within {lost[0]})" if lost else ""
