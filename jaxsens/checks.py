"""Checks of single arguments where they enter the library: numbers, and arrays with values that the host needs."""

import operator
from typing import Any

import jax
import numpy as np

__all__ = ["device_array", "host_array", "require_count", "require_finite"]


def require_count(name: str, value: Any, least: int = 1) -> int:
    """Return ``value`` as an ``int`` of at least ``least``.

    Args:
        name: Name of the argument, for the error.
        value: A Python or NumPy integer. Booleans and floats are no counts.
        least: Smallest count that is allowed.

    Raises:
        ValueError: If the value is not such an integer.

    Example:
        >>> require_count("draws", np.int64(3))
        3
    """
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, bool | np.bool_) or count < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return count


def host_array(name: str, value: Any) -> np.ndarray:
    """Return ``value`` as a NumPy array.

    Args:
        name: Name of the argument, for the error.
        value: An array, or nested lists of numbers.

    Raises:
        ValueError: If the value is traced (under ``jit``, ``vmap`` or ``grad``), or an array with masked entries.

    Example:
        >>> host_array("shifts", [0.5, 2.0])
        array([0.5, 2. ])
    """
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            f"{name} must be an array with values, got a tracer: this function checks its data on the host, so call it "
            "outside jit, vmap and grad"
        )
    if np.ma.is_masked(value):
        raise ValueError(f"{name} has masked entries, which would be used as if they were data: leave them out first")
    return np.asarray(value)


def device_array(name: str, value: Any) -> np.ndarray:
    """Return ``value`` as a NumPy array of the dtype that it has on a device, where that holds all values.

    Integers of 64 bits become int32 (or uint32), and float64 becomes float32, unless JAX is set to 64 bits. On their
    way to a device such integers would wrap around without an error.

    Args:
        name: Name of the argument, for the error.
        value: An array, or nested lists of numbers.

    Raises:
        ValueError: If the value is traced or masked (see ``host_array``), or holds an integer that the narrower dtype
            does not hold.

    Example:
        >>> device_array("tokens", [[1, 2]])
        array([[1, 2]], dtype=int32)
    """
    array = host_array(name, value)
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if array.dtype.kind in "iu" and array.dtype != dtype and array.size:
        allowed = np.iinfo(dtype)
        outside = (array < allowed.min) | (array > allowed.max)
        if outside.any():
            place = tuple(np.argwhere(outside)[0].tolist())
            raise ValueError(
                f"{name} must hold integers from {allowed.min} to {allowed.max}, those of {dtype} on a device, got "
                f"{array[place]} at {list(place)}"
            )
    return array.astype(dtype, copy=False)


def require_finite(name: str, value: Any, least: float = 0, *, above: bool = False) -> float:
    """Return ``value`` as a ``float`` that is finite and at least (or above) ``least``.

    Args:
        name: Name of the argument, for the error.
        value: A Python or NumPy number; booleans are no numbers here.
        least: Smallest value that is allowed.
        above: Whether ``least`` itself is refused.

    Raises:
        ValueError: If the value is no such number.

    Example:
        >>> require_finite("margin", 1)
        1.0
    """
    number = None
    if np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf":
        number = float(value)
    if number is None or not np.isfinite(number) or number < least or (above and number == least):
        raise ValueError(f"{name} must be a finite number {'above' if above else 'of at least'} {least}, got {value}")
    return number
