"""How many model forwards to evaluate at once, computed from shapes only.

``chunk=None`` must mean the same on every machine, since the chunk decides how numbers are rounded (law 1): it is a
function of shapes and of one constant, not of trials on the machine.
"""

from collections.abc import Callable, Iterator

import jax
from jax.extend import core

from jaxsens.execution.flops import programs_in
from jaxsens.typing import PyTree

__all__ = ["BYTES", "chunk_of"]

BYTES = 2**26
"""Bytes that the largest intermediate result of a chunk may take, 64 MiB.

On a CPU more would leave the cache and be slower; an accelerator is busy with less. Pass ``chunk`` to override it.
"""


def chunk_of(fn: Callable[..., PyTree], *args: PyTree, budgets: int = 1) -> int:
    """Return how many evaluations of ``fn(*args)`` fit the budget, or a multiple of it, at least one.

    ``chunk = budgets * BYTES // largest intermediate result in bytes``, for arguments or their shapes.

    Args:
        fn: The function to evaluate.
        *args: Its arguments, or their shapes.
        budgets: Size of the largest result allowed, in multiples of ``BYTES``.

    Example:
        >>> chunk_of(lambda x: jnp.tanh(x), np.ones(2**20, np.float32))
        16
    """
    jaxpr = jax.make_jaxpr(fn)(*args)
    largest = max((_size(equation) for equation in _equations(jaxpr.jaxpr)), default=1)
    return max(1, budgets * BYTES // max(largest, 1))


def _equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """Yield the operations that hold no others, at every depth."""
    for equation in jaxpr.eqns:
        inner = [program for value in equation.params.values() for program in programs_in(value)]
        if not inner:
            yield equation
        for jaxpr_inside in inner:
            yield from _equations(jaxpr_inside)


def _size(equation: core.JaxprEqn) -> int:
    """Return the bytes of an operation's results; its inputs may be weights, which a chunk shares."""
    results = [variable.aval for variable in equation.outvars]
    return sum(a.size * getattr(a.dtype, "itemsize", 0) for a in results if hasattr(a, "dtype"))
