"""Results as values of JSON, and as columns of a tidy table."""

import dataclasses
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.typing import Array

__all__ = ["described", "jsonable", "tidy"]


def jsonable(value: Any) -> Any:
    """Return a value as JSON has it, arrays as nested lists.

    What is not finite is one of the words ``"nan"``, ``"inf"`` and ``"-inf"``, which ``float`` reads. Keys of
    ``jax.random`` become the words of their data, and other objects their ``repr``.

    Example:
        >>> jsonable({"mean": np.float32(0.5), "values": np.array([1.0, np.nan])})
        {'mean': 0.5, 'values': [1.0, 'nan']}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(value)).tolist()
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        native = array.dtype.kind in "biufcU"  # others are the narrow floats of ml_dtypes
        return jsonable((array if native else array.astype(np.float64)).tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: jsonable(item) for name, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return repr(value)


def described(tree: Any) -> Any:
    """Return shape and dtype of every array of a pytree by its path: what stands for parameters, which are many.

    Example:
        >>> described({"w": np.zeros((2, 3), np.float32)})
        {"['w']": {'dtype': 'float32', 'shape': [2, 3]}}
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}
        if hasattr(leaf, "dtype")
        else jsonable(leaf)
        for path, leaf in leaves
    }


def tidy(axes: Mapping[str, Any], columns: Mapping[str, Array], where: Array | None = None) -> dict[str, np.ndarray]:
    """Return arrays as columns of a table with a row for every element.

    Args:
        axes: Name of each axis -> labels along it, or None to count from 0.
        columns: Name of each column -> array; its axes are the first ones of ``axes``, and it is repeated along the
            others.
        where: Which elements become rows; its axes are the first ones, too. By default all.

    Example:
        >>> table = tidy({"example": None, "layer": ["a", "b"]}, {"shift": np.array([[1, 2], [3, 4]])})
        >>> {name: column.tolist() for name, column in table.items()}
        {'example': [0, 0, 1, 1], 'layer': ['a', 'b', 'a', 'b'], 'shift': [1, 2, 3, 4]}
    """
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    shape = max((array.shape for array in arrays.values()), key=len)

    def spread(array: np.ndarray) -> np.ndarray:
        return np.broadcast_to(array.reshape(array.shape + (1,) * (len(shape) - array.ndim)), shape)

    chosen = np.ones(shape, bool) if where is None else spread(np.asarray(where))
    table = {}
    for axis, (name, labels) in enumerate(axes.items()):
        values = np.arange(shape[axis]) if labels is None else np.asarray(labels)
        ahead = values.reshape((-1,) + (1,) * (len(shape) - axis - 1))
        table[name] = np.broadcast_to(ahead, shape)[chosen]
    return table | {name: spread(array)[chosen] for name, array in arrays.items()}
