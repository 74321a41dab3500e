"""Truth tables: their layout, and the check that all functions of them share.

A table ``[..., 2**n]`` holds ``f(x)`` at the index whose bits are the string x, the first position the most significant
bit: booleans, or integers 0 and 1.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.boolean import strings
from jaxsens.execution import checks
from jaxsens.typing import Array

__all__ = ["LARGEST", "of_tables", "require_table", "variables"]

LARGEST = strings.LARGEST_INDEXED
"""Largest number of variables: 30, where int32 indices end."""

P = ParamSpec("P")


def of_tables(fn: Callable[P, jax.Array]) -> Callable[P, jax.Array]:
    """Make ``fn`` check and convert the table, its first argument, with ``require_table``, and run compiled.

    Example:
        >>> share = of_tables(lambda table: table.mean(-1, dtype=jnp.float32))
        >>> float(share(np.array([True, False, False, False])))
        0.25
    """
    compiled = jax.jit(fn)

    @wraps(fn)
    def checked(*args: P.args, **kwargs: P.kwargs) -> jax.Array:
        table, *others = args
        return compiled(require_table(table), *others, **kwargs)

    return checked


def require_table(table: Array) -> jax.Array:
    """Return truth tables as booleans.

    Args:
        table: ``[..., 2**n]``; integers are not checked under ``jit``, where all but 0 count as 1.

    Returns:
        Booleans ``[..., 2**n]``.

    Raises:
        ValueError: If the last axis is no power of two, if there are no entries or more than ``2**LARGEST``, or if they
            are neither booleans nor integers 0 and 1.

    Example:
        >>> require_table([0, 1, 1, 0])
        Array([False,  True,  True, False], dtype=bool)
    """
    if not isinstance(table, jax.Array):
        table = checks.host_values(table, "table")
    if table.dtype != bool and not jnp.issubdtype(table.dtype, jnp.integer):
        raise ValueError(f"table must hold booleans, or integers 0 and 1, got {table.dtype}")
    size = table.shape[-1] if table.ndim else 0
    if size.bit_count() != 1:
        raise ValueError(f"table must have 2**n entries along its last axis, got shape {table.shape}")
    if not 0 < table.size <= 2**LARGEST:
        raise ValueError(f"table must have from 1 to 2**{LARGEST} entries in all, got shape {table.shape}")
    if table.dtype != bool and not isinstance(table, jax.core.Tracer):
        wrong = np.asarray((table != 0) & (table != 1))
        if wrong.any():
            raise ValueError(f"table must hold only 0 and 1, got {np.asarray(table)[wrong][0]}")
    return jnp.asarray(table.astype(bool))


def variables(table: Array) -> int:
    """Return n, the number of variables of the functions that tables ``[..., 2**n]`` hold.

    Example:
        >>> variables(np.zeros(8, bool))
        3
    """
    return table.shape[-1].bit_length() - 1
