"""Files of results: an archive of arrays with a header in JSON, written whole or not at all; nothing is pickled."""

import contextlib
import dataclasses
import importlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["VERSION", "ResultFileError", "load", "part", "save"]

VERSION = 1
"""Of the format: raised when older readers would misread newer files."""

_FORMAT = "jaxsens result"
_HEADER = "header.json"
_TYPES: dict[str, type] = {}
_NAMES: dict[type, str] = {}

Class = TypeVar("Class", bound=type)
Loaded = TypeVar("Loaded")


class ResultFileError(ValueError):
    """A file that is no saved result, or is damaged, newer, of another type or with other fields; the message says.

    Example:
        >>> issubclass(ResultFileError, ValueError)
        True
    """


def part(cls: Class) -> Class:
    """Register a dataclass or a ``NamedTuple`` as a result or as a part of one, which files name by its class.

    A class of a name that a class of another module has is named with its module.

    Example:
        >>> from jaxsens.sensitivity.screening import Screening
        >>> part(Screening) is Screening
        True
    """
    name = cls.__name__
    if name in _TYPES and _TYPES[name].__module__ != cls.__module__:
        name = f"{cls.__module__}.{cls.__qualname__}"
    _TYPES[name], _NAMES[cls] = cls, name
    return cls


def save(path: str | os.PathLike[str], result: Any) -> None:
    """Write a result to a file, whole or not at all.

    Raises:
        ValueError: If a field holds an object that is no array, number, text, or dict, list or tuple of them.
        OSError: If the file cannot be written; a file that was there stays.

    Example:
        >>> import tempfile
        >>> from jaxsens.statistics import estimate
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/mine.npz", estimate.from_values([0.0, 1.0]))
        ...     load(f"{folder}/mine.npz").count
        2
    """
    path = Path(path)
    arrays: dict[str, np.ndarray] = {}
    content = _encoded(result, type(result).__name__, arrays)
    header = {"format": _FORMAT, "version": VERSION, "result": content}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                archive.writestr(_HEADER, json.dumps(header, allow_nan=False))
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], kind: type[Loaded] = object) -> Loaded:
    """Read a result that ``Result.save`` wrote, of any class; arrays are numpy arrays.

    Args:
        path: The file.
        kind: The class that is expected, by default any.

    Raises:
        ResultFileError: If the file is no saved result, is damaged, has a newer version, or holds a result of another
            type or with other fields.
        OSError: If the file is not there or cannot be read.

    Example:
        >>> import tempfile
        >>> from jaxsens.statistics import estimate
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     estimate.from_values([0.0, 1.0, 1.0]).save(f"{folder}/mine.npz")
        ...     load(f"{folder}/mine.npz").values
        array([0., 1., 1.])
    """
    content = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            header = json.loads(archive.read(_HEADER))
            if header["format"] != _FORMAT:
                raise ValueError(f"its format is {header['format']!r}")
            if header["version"] > VERSION:
                raise ValueError(f"its version is {header['version']}, and this jaxsens reads up to {VERSION}")
            result = _decoded(header["result"], _arrays(archive))
    except Exception as error:  # a damaged archive raises errors of many types
        raise ResultFileError(f"{os.fspath(path)} is no result that can be read, or is damaged: {error!r}") from error
    if not isinstance(result, kind):
        raise ResultFileError(f"{os.fspath(path)} holds a {type(result).__name__}, not a {kind.__name__}")
    return result


def _arrays(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    arrays = {}
    for name in archive.namelist():
        if name != _HEADER:
            with io.BytesIO(archive.read(name)) as member:
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays


def _encoded(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return a value as JSON that refers to arrays by name; ``name`` is where the value is, for the message."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _encoded_array(value, name, arrays)
    if isinstance(value, float):
        return {"is": "float", "value": value.hex()}
    if type(value) in _NAMES:
        names = _names(type(value))
        fields = {field: _encoded(getattr(value, field), f"{name}.{field}", arrays) for field in names}
        return {"is": _NAMES[type(value)], "module": type(value).__module__, "fields": fields}
    if type(value) is dict:
        keys = [key if isinstance(key, str) else {"key": _encoded(key, name, arrays)} for key in value]
        items = [_encoded(item, f"{name}[{key!r}]", arrays) for key, item in value.items()]
        return {"is": "dict", "keys": keys, "items": items}
    if type(value) in (list, tuple):
        items = [_encoded(item, f"{name}[{i}]", arrays) for i, item in enumerate(value)]
        return {"is": type(value).__name__, "items": items}
    raise ValueError(
        f"{name} is a {type(value).__name__}, which cannot be saved: allowed are arrays, numbers, texts, and dicts, "
        "lists and tuples of them; dataclasses.replace(result, ...) puts another value in its place"
    )


def _encoded_array(value: Any, name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    extra = {}
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{name} is traced by jit, vmap or grad, and has no values to save")
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        extra = {"generator": str(jax.random.key_impl(value))}
        value = jax.random.key_data(value)
    array = np.asarray(value)
    dtype = array.dtype.name
    if (array.dtype.kind == "V" and array.dtype.names is None) or array.dtype.kind not in "biufcUV":
        # The narrow types of ml_dtypes, such as bfloat16, are written as integers of their size.
        if not hasattr(jnp, dtype):
            raise ValueError(f"{name} has the dtype {array.dtype}, which cannot be saved")
        array = np.ascontiguousarray(array).reshape(array.shape).view(np.dtype(f"u{array.dtype.itemsize}"))
        extra["dtype"] = dtype
    label = f"array{len(arrays)}"
    arrays[label] = array
    return {"is": "scalar" if isinstance(value, np.generic) else "array", "name": label, **extra}


def _decoded(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    kind = value["is"]
    if kind in ("array", "scalar"):
        array = arrays[value["name"]]
        if "dtype" in value:
            array = array.view(jnp.dtype(value["dtype"]))
        if "generator" in value:
            return jax.random.wrap_key_data(array, impl=value["generator"])
        return array[()] if kind == "scalar" else array
    if kind == "float":
        return float.fromhex(value["value"])
    if kind == "dict":
        keys = [key if isinstance(key, str) else _decoded(key["key"], arrays) for key in value["keys"]]
        return dict(zip(keys, (_decoded(item, arrays) for item in value["items"]), strict=True))
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](_decoded(item, arrays) for item in value["items"])
    cls = _class(kind, value["module"])
    fields = value["fields"]
    if set(fields) != set(_names(cls)):
        raise ValueError(f"a {kind} has the fields {sorted(_names(cls))}, and the file has {sorted(fields)}")
    return cls(**{name: _decoded(item, arrays) for name, item in fields.items()})


def _class(name: str, module: str) -> type:
    """Return a registered class; its module, one of this package, is imported if need be."""
    if name not in _TYPES and module.split(".")[0] == __name__.split(".")[0]:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    if name not in _TYPES:
        raise ValueError(f"{name} is no class of results")
    return _TYPES[name]


def _names(cls: type) -> tuple[str, ...]:
    return cls._fields if hasattr(cls, "_fields") else tuple(field.name for field in dataclasses.fields(cls))
