"""Checks of what enters a measure: counts, and arrays on their way to a device."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.typing import PyTree

__all__ = [
    "device_arrays",
    "host_arrays",
    "host_values",
    "require_count",
    "require_finite",
    "require_flag",
    "require_functions",
    "require_index",
    "require_level",
    "require_numbers",
    "require_outside",
]


def require_count(name: str, value: Any, minimum: int = 1, *, hint: str = "") -> int:
    """Return a count as an ``int``; integers of numpy and JAX are accepted.

    Args:
        name: The name of the argument, for the message.
        value: The value to check.
        minimum: The smallest valid value.
        hint: What follows ``an integer of at least {minimum}`` in the message, such as `` example``.

    Raises:
        ValueError: If the value is a boolean, not an integer, traced, or smaller than the minimum.

    Example:
        >>> require_count("draws", np.int64(5))
        5
        >>> require_count("draws", 0)
        Traceback (most recent call last):
        ValueError: draws must be an integer of at least 1, got 0
    """
    try:
        masked = isinstance(value, np.ma.MaskedArray)
        count = None if masked or isinstance(value, bool | np.bool_) or np.ndim(value) else operator.index(value)
    except (TypeError, ValueError, jax.errors.ConcretizationTypeError):
        count = None
    if count is None or count < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}{hint}, got {value!r}")
    return count


def host_arrays(tree: PyTree, name: str) -> PyTree:
    """Return the arrays of a pytree as numpy arrays, of the dtypes that they have on a device.

    JAX narrows 64-bit numbers to 32 bits (unless ``jax_enable_x64`` is set) and wraps integers that do not fit. Here a
    number that does not fit is an error.

    Args:
        tree: Arrays of numbers or booleans, or what ``numpy.asarray`` makes such arrays of.
        name: The name of the argument, for the message.

    Raises:
        ValueError: If an array is traced by ``jit``, ``vmap`` or ``grad``, is a masked array, does not hold numbers, or
            holds a number outside the range of the narrowed dtype.

    Example:
        >>> host_arrays([1, 2**31 - 1], "ids")
        [array(1, dtype=int32), array(2147483647, dtype=int32)]
        >>> host_arrays(np.array([2**32]), "ids")
        Traceback (most recent call last):
        ValueError: ids must fit int32, the dtype on the device, got 4294967296: ...
    """
    return jax.tree.map(lambda leaf: _narrowed(_on_host(leaf, name), name), tree)


def device_arrays(tree: PyTree, name: str) -> PyTree:
    """Return a pytree whose numpy arrays are narrowed as by ``host_arrays``; all other leaves stay as they are.

    Raises:
        ValueError: If a leaf is traced, or a numpy array is masked, does not hold numbers, or does not fit.

    Example:
        >>> device_arrays({"w": np.float64(0.5), "key": None}, "params")
        {'key': None, 'w': array(0.5, dtype=float32)}
    """

    def leaf_for_device(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array | int | float | complex | np.ndarray | np.generic) and _dtype(leaf) is None:
            raise ValueError(f"{name} must be a pytree of arrays, got the leaf {leaf!r}")
        on_host = isinstance(leaf, np.ndarray | np.generic | jax.core.Tracer)
        return _narrowed(_on_host(leaf, name), name) if on_host else leaf

    return jax.tree.map(leaf_for_device, tree)


def host_values(value: Any, name: str, *, narrow: bool = False) -> np.ndarray:
    """Return one array, or nested lists as one array, for use on the host, by default in its own precision.

    Args:
        value: An array of numbers or booleans, or nested lists of them.
        name: The name of the argument, for the message.
        narrow: Whether to return it in the dtype that it has on a device, as ``host_arrays`` does.

    Raises:
        ValueError: If the array is traced by ``jit``, ``vmap`` or ``grad``, is masked, or does not hold numbers, or if
            a number does not fit the narrowed dtype.

    Example:
        >>> host_values([0.5, 2.0], "shifts")
        array([0.5, 2. ])
    """
    array = _on_host(value, name)
    return _narrowed(array, name) if narrow else array


def require_finite(name: str, value: Any, least: float = 0, *, above: bool = False) -> float:
    """Return a number as a ``float`` that is finite and at least, or above, ``least``.

    Args:
        name: The name of the argument, for the message.
        value: A Python or NumPy number; booleans are not accepted.
        least: The smallest valid value.
        above: Whether ``least`` itself is not valid.

    Raises:
        ValueError: If the value is no such number.

    Example:
        >>> require_finite("margin", 1)
        1.0
    """
    number = _number(value)
    if number is None or not np.isfinite(number) or number < least or (above and number == least):
        raise ValueError(f"{name} must be a finite number {'above' if above else 'of at least'} {least}, got {value}")
    return number


def require_index(index: Any, count: int, what: str = "examples") -> np.ndarray:
    """Return the numbers of examples ``[b]``, uint32, which decide their draws: from 0 where they are not given.

    Args:
        index: The numbers, or None.
        count: The number of examples.
        what: The name of the examples, for the message.

    Raises:
        ValueError: If there is not one number, from 0 to 2^32 - 1, for each example.

    Example:
        >>> require_index(None, 3).tolist()
        [0, 1, 2]
    """
    if index is None:
        return np.arange(count, dtype=np.uint32)
    index = host_values(index, "index")
    if index.shape != (count,) or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= 2**32:
        raise ValueError(f"index must be a number below 2^32 for each of {count} {what}, got {index}")
    return index.astype(np.uint32)


def require_level(name: str, value: Any) -> float:
    """Return a number strictly between 0 and 1, such as a confidence level, as a ``float``.

    Raises:
        ValueError: If the value is no such number.

    Example:
        >>> require_level("level", np.float32(0.5))
        0.5
    """
    number = _number(value)
    if number is None or not 0 < number < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}")
    return number


def require_flag(name: str, value: Any) -> bool:
    """Return a flag as a ``bool``; only booleans of Python and NumPy are flags, not what Python takes for true.

    Raises:
        ValueError: If the value is not a boolean.

    Example:
        >>> require_flag("keep", np.bool_(True))
        True
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def require_functions(*, where: Any = None, **functions: Any) -> None:
    """Raise ValueError unless all values can be called.

    Args:
        where: The optional function of that name; None is accepted.
        **functions: The others, by the names of the arguments.

    Example:
        >>> require_functions(loss=abs)
        >>> require_functions(loss="cross entropy")
        Traceback (most recent call last):
        ValueError: loss must be a function, got 'cross entropy'
    """
    for name, value in {**functions, **({} if where is None else {"where": where})}.items():
        if not callable(value):
            sampler = name == "perturbation" and isinstance(value, int | float)
            remedy = f": pass a sampler, such as perturb.gaussian(variance={value})" if sampler else ""
            raise ValueError(f"{name} must be a function, got {value!r}{remedy}")


def require_numbers(name: str, tree: PyTree) -> None:
    """Raise ValueError unless a pytree has leaves, and all of them are numbers or arrays of numbers, traced or not.

    Example:
        >>> require_numbers("weights", {"w": jnp.zeros(2)})
        >>> require_numbers("weights", {"w": "zeros"})
        Traceback (most recent call last):
        ValueError: weights must be arrays of numbers, got the leaf 'zeros'
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        raise ValueError(f"{name} must be arrays of numbers, got {tree!r}")
    for leaf in leaves:
        dtype = _dtype(leaf) or (np.dtype(type(leaf)) if isinstance(leaf, bool | int | float | complex) else None)
        masked = isinstance(leaf, np.ma.MaskedArray)
        number = dtype is not None and (jnp.issubdtype(dtype, jnp.bool_) or jnp.issubdtype(dtype, jnp.number))
        if masked or not number:
            raise ValueError(f"{name} must be arrays of numbers, got the leaf {leaf!r}")


def require_outside() -> None:
    """Raise ValueError within ``jax.jit``, where a measure would get tracers for its results.

    Example:
        >>> require_outside()
        >>> jax.jit(require_outside)()
        Traceback (most recent call last):
        ValueError: a measure must be called outside of jit; it compiles itself: ...
    """
    if isinstance(jnp.zeros(()), jax.core.Tracer):
        raise ValueError(
            "a measure must be called outside of jit; it compiles itself: let the compiled function take its results"
        )


def _dtype(leaf: Any) -> Any:
    """Return the dtype of an array, or of what stands for one; None for anything else."""
    return getattr(leaf, "dtype", None)


def _number(value: Any) -> float | None:
    """Return a real number of Python or NumPy as a float; None for anything else, booleans and masked ones included."""
    if isinstance(value, jax.core.Tracer | np.ma.MaskedArray | list | tuple | dict) or np.ndim(value) != 0:
        return None
    kind = np.asarray(value).dtype.kind
    return float(value) if kind in "iuf" else None


def _on_host(leaf: Any, name: str) -> np.ndarray:
    if isinstance(leaf, jax.core.Tracer):
        raise ValueError(
            f"{name} must be arrays with values, got {leaf.aval} traced by jit, vmap or grad: call the measure outside "
            "of them; it compiles itself"
        )
    if isinstance(leaf, np.ma.MaskedArray):
        raise ValueError(f"{name} must not be a masked array, whose mask would be lost: remove what is masked")
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise ValueError(f"{name} must be arrays of numbers, got random keys: pass indices, and fold them into one key")
    try:
        array = np.asarray(leaf)
    except ValueError as error:
        raise ValueError(f"{name} must be arrays of numbers: {error}") from error
    if not (array.dtype == bool or jnp.issubdtype(array.dtype, jnp.number)):
        raise ValueError(f"{name} must be arrays of numbers or booleans, got the dtype {array.dtype}")
    return array


def _narrowed(array: np.ndarray, name: str) -> np.ndarray:
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if dtype == array.dtype:
        return array
    if array.dtype.kind in "iu":
        limits = np.iinfo(dtype)
        outside = array[(array < limits.min) | (array > limits.max)]
    else:
        with np.errstate(over="ignore"):
            outside = array[np.isfinite(array) & ~np.isfinite(array.astype(dtype))]
    if outside.size:
        raise ValueError(
            f"{name} must fit {dtype}, the dtype on the device, got {outside.flat[0]}: correct the values, or set "
            "jax_enable_x64"
        )
    return array.astype(dtype)
