"""Checks of arguments that the trainings of one model and of many share."""

import math
import numbers
import operator
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution import checks, keys, threads
from jaxsens.typing import Array, Key, PyTree

__all__ = [
    "as_folder",
    "finite_leaves",
    "key_words",
    "on_device_values",
    "output_shapes",
    "reproducible_setting",
    "require_counts",
    "require_dtype_holds",
    "require_key",
    "require_number",
    "require_reports",
    "require_reproducible",
]


def key_words(random_keys: Key, count: int) -> np.ndarray:
    """Return the words of a random key for each model ``[m 2]``; one key has the models' numbers folded in.

    Raises:
        ValueError: If keys are not one typed threefry key, or one for each model.

    Example:
        >>> key_words(jax.random.key(0), 3).shape
        (3, 2)
    """
    typed = isinstance(random_keys, jax.Array) and jnp.issubdtype(random_keys.dtype, jax.dtypes.prng_key)
    if not typed or random_keys.shape not in ((), (count,)):
        raise ValueError(
            f"keys must be one typed key, as of jax.random.key(seed), or one for each model, got {random_keys!r}"
        )
    single = random_keys.shape == ()
    keys.require_key(random_keys if single else random_keys[0])
    each = jax.vmap(partial(jax.random.fold_in, random_keys))(np.arange(count)) if single else random_keys
    return np.asarray(jax.random.key_data(each))


def require_counts(config: object, names: Sequence[str], *, optional: Sequence[str] = ()) -> None:
    """Raise ValueError unless the named fields are integers of at least 1; optional ones may be None.

    Fields are replaced by Python integers, so that a ``numpy.int64`` means the same as an ``int``.

    Example:
        >>> from types import SimpleNamespace
        >>> require_counts(SimpleNamespace(epochs=0), ["epochs"])
        Traceback (most recent call last):
        ValueError: epochs must be at least 1: an integer of at least 1, got 0
    """
    for name in names:
        value = getattr(config, name)
        if value is None and name in optional:
            continue
        try:
            whole = None if isinstance(value, bool | np.bool_) else operator.index(value)
        except TypeError:
            whole = None
        if whole is None or whole < 1:
            allowed = "an integer of at least 1" + (", or None" if name in optional else "")
            raise ValueError(f"{name} must be at least 1: {allowed}, got {value!r}")
        object.__setattr__(config, name, whole)


def require_number(name: str, value: object, allowed: str, low: float, high: float, *, open_low: bool = False) -> float:
    """Return a finite number in ``[low, high)``, without ``low`` itself if ``open_low``, or raise ValueError.

    Example:
        >>> require_number("learning_rate", 0.1, "a positive number", 0, math.inf, open_low=True)
        0.1
    """
    real = isinstance(value, numbers.Real | np.number) and not isinstance(value, bool | np.bool_)
    if not (real and math.isfinite(value) and (value > low if open_low else value >= low) and value < high):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return float(value)


def require_key(key: Key) -> None:
    """Raise ValueError unless ``key`` is one typed threefry key; see ``execution.require_key``.

    Example:
        >>> require_key(jax.random.key(0))
    """
    keys.require_key(key)


def output_shapes(apply: Callable[..., PyTree], variables: PyTree, tokens: jax.ShapeDtypeStruct, *key: Key) -> PyTree:
    """Return the shapes of the outputs for tokens ``[b t *s]``, or raise ValueError where they do not fit the model.

    Example:
        >>> tokens = jax.ShapeDtypeStruct((5, 2), np.float32)
        >>> output_shapes(lambda variables, x: x @ variables["w"], {"w": np.ones((2, 3), np.float32)}, tokens).shape
        (5, 3)
    """
    try:
        return jax.eval_shape(apply, variables, tokens, *key)
    except Exception as error:
        raise ValueError(
            f"tokens {tokens.shape} {tokens.dtype}, variables and the model do not fit together: {error}"
        ) from error


def require_reports(after_epoch: Callable[..., None] | None, progress: str | None) -> None:
    """Raise ValueError unless what is called after an epoch is a function, and the label of the bar a string.

    Example:
        >>> require_reports(None, progress="training")
        >>> require_reports(None, progress=3)
        Traceback (most recent call last):
        ValueError: progress must be a label, or None for no progress bar, got 3
    """
    if after_epoch is not None and not callable(after_epoch):
        raise ValueError(f"after_epoch must be a function, or None, got {after_epoch!r}")
    if progress is not None and not isinstance(progress, str):
        raise ValueError(f"progress must be a label, or None for no progress bar, got {progress!r}")


def require_reproducible(reproducible: object) -> None:
    """Raise ValueError unless the setting is a boolean.

    Example:
        >>> require_reproducible("yes")
        Traceback (most recent call last):
        ValueError: reproducible must be True or False, got 'yes'
    """
    if not isinstance(reproducible, bool):
        raise ValueError(f"reproducible must be True or False, got {reproducible!r}")


def reproducible_setting(device: jax.Device) -> str:
    """Return what decides the bits of a reproducible training, for the fingerprint of its checkpoints.

    Raises:
        ValueError: If the device is a CPU whose number of threads is not fixed.

    Example:
        >>> from types import SimpleNamespace
        >>> reproducible_setting(SimpleNamespace(platform="gpu", device_kind="a GPU"))
        'a GPU'
    """
    if device.platform != "cpu":
        return device.device_kind
    count = threads.fixed_cpu_threads()
    if count is None:
        raise ValueError(
            "reproducible needs a fixed number of threads on a CPU: call execution.fix_cpu_threads() before the first "
            "computation, or start Python with NPROC=8 in its environment; the number must be at least that of the "
            f"CPU devices, {jax.local_device_count('cpu')}"
        )
    return f"cpu, {count} threads"


def as_folder(checkpoint: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder of checkpoints as a path.

    Raises:
        ValueError: If it is no path, or exists and is no folder.

    Example:
        >>> as_folder(None) is None, as_folder("run/weights").name
        (True, 'weights')
    """
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, str | os.PathLike) or not str(checkpoint):
        raise ValueError(f"checkpoint must be the path of a folder, or None, got {checkpoint!r}")
    folder = Path(checkpoint)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"checkpoint must be the path of a folder, but '{folder}' is a file")
    return folder


def on_device_values(name: str, values: Array) -> np.ndarray | jax.Array:
    """Return an array in the dtype that a device will hold it in.

    Without ``jax_enable_x64`` JAX narrows 64-bit numbers to 32 bits without a word; here that is an error where it
    changes an integer, or makes a finite number infinite.

    Raises:
        ValueError: In that case, naming the first such value; or if the array is masked or holds no numbers.

    Example:
        >>> on_device_values("labels", np.array([1, 2])).dtype
        dtype('int32')
    """
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{name} must not be a masked array, whose mask would be lost")
    if isinstance(values, jax.Array) and not isinstance(values, jax.core.Tracer):
        return values
    values = checks.host_values(values, name)
    if values.dtype.kind not in "biufcV":  # V: the floats of ml_dtypes
        raise ValueError(f"{name} must be an array of numbers, got dtype {values.dtype}")
    dtype = jax.dtypes.canonicalize_dtype(values.dtype)
    if dtype == values.dtype:
        return values
    require_dtype_holds(name, values, dtype)
    return values.astype(dtype)


def require_dtype_holds(name: str, values: np.ndarray, dtype: np.dtype) -> None:
    """Raise ValueError where a cast to ``dtype`` would change an integer or make a finite number infinite.

    Example:
        >>> require_dtype_holds("labels", np.array([1, 300]), np.uint8)
        Traceback (most recent call last):
        ValueError: labels holds 300, which does not fit into uint8
    """
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = values.astype(dtype)
    lost = (narrow != values) if values.dtype.kind in "biu" else (np.isfinite(values) & ~np.isfinite(narrow))
    if lost.any():
        raise ValueError(f"{name} holds {values[lost][0]}, which does not fit into {np.dtype(dtype)}")


def finite_leaves(tree: PyTree) -> jax.Array:
    """Return whether all floating leaves of a pytree are finite.

    Example:
        >>> bool(finite_leaves({"w": jnp.array([1.0, jnp.nan])}))
        False
    """
    floats = [leaf for leaf in jax.tree.leaves(tree) if jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)]
    return jax.numpy.stack([jax.numpy.isfinite(leaf).all() for leaf in floats] or [jax.numpy.bool_(True)]).all()
