"""How many model forwards to evaluate at once, computed from shapes only.

``chunk=None`` must mean the same on every machine of a platform, since the chunk decides how numbers are rounded (law
1): it is a function of shapes and of one constant for each platform, not of trials on the machine.
"""

from collections.abc import Callable, Iterator

import jax
from jax.extend import core

from jaxsens.execution.batches import bytes_of
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.execution.flops import programs_in
from jaxsens.typing import PyTree

__all__ = ["BYTES", "COPIES", "LARGEST", "budget", "bytes_of_results", "chunk_of", "fused", "room_for_copies"]

BYTES = 2**26
"""Bytes that the largest intermediate result of a chunk may take on a CPU, 64 MiB. More would leave its cache."""

LARGEST = {"gpu": 8}
"""Bytes that the largest result may take on other platforms, in multiples of ``BYTES``; 1 where none is given.

By estimates for an H100, a recognizer of width 128 runs at 2.3 times the rate with 1 GiB for the largest result, and at
most of that with 512 MiB; image models gain 3 to 28 percent. On a TPU v5e a recognizer is slower with more.
"""

COPIES = {"gpu": 128, "tpu": 32}
"""Bytes that the weights of several models may take together, in multiples of ``BYTES``; 1 where none is given.

On a CPU they would leave the cache. An accelerator has memory for them: 8 GiB of an H100's 80, 2 GiB of a TPU v5e's 16.
"""


def budget(execution: Execution = DEFAULT) -> int:
    """Return the bytes that the largest intermediate result of a chunk may take on a platform.

    Example:
        >>> budget() == BYTES * LARGEST.get(Execution().platform, 1)
        True
    """
    return BYTES * LARGEST.get(execution.platform, 1)


def room_for_copies(params: PyTree, execution: Execution = DEFAULT, *, budgets: int = 1) -> int:
    """Return how many models with parameters of this size may be in memory at once, possibly 0.

    Args:
        params: The parameters of one, or their shapes.
        execution: Its devices decide the platform.
        budgets: Bytes allowed, in multiples of those that weights may take.

    Example:
        >>> room_for_copies(jax.ShapeDtypeStruct((2**20,), np.float32)) >= 16
        True
    """
    return budgets * BYTES * COPIES.get(execution.platform, 1) // bytes_of(params)


def bytes_of_results(fn: Callable[..., PyTree], *args: PyTree) -> int:
    """Return the bytes of all intermediate results of ``fn(*args)``: what its gradient keeps, at most.

    Args:
        fn: A function of arrays.
        *args: Its arguments, or their shapes.

    Example:
        >>> bytes_of_results(lambda x: jnp.tanh(x) + 1, np.ones(5, np.float32))
        40
    """
    return _results(jax.make_jaxpr(fn)(*args).jaxpr)


def _results(jaxpr: core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        inner = [program for value in equation.params.values() for program in programs_in(value)]
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        total += times * sum(map(_results, inner)) if inner else _size(equation)
    return total


def chunk_of(
    fn: Callable[..., PyTree],
    *args: PyTree,
    budgets: int = 1,
    execution: Execution = DEFAULT,
    derivative: bool = False,
) -> int:
    """Return how many evaluations of ``fn(*args)`` fit the budget, or a multiple of it, at least one.

    ``chunk = budgets * budget // largest intermediate result in bytes``, for arguments or their shapes.

    Args:
        fn: The function to evaluate.
        *args: Its arguments, or their shapes.
        budgets: Size of the largest result allowed, in multiples of ``budget(execution)``.
        execution: Its devices decide the platform.
        derivative: Whether derivatives are taken: they keep all intermediate results, and not one at a time. The budget
            is ``BYTES`` on every platform then.

    Example:
        >>> chunk_of(lambda x: jnp.tanh(x), np.ones(2**20, np.float32)) == budget() // 2**22
        True
    """
    jaxpr = jax.make_jaxpr(fn)(*args)
    largest = max((_size(equation) for equation in _equations(jaxpr.jaxpr)), default=1)
    room = BYTES if derivative else budget(execution)
    return max(1, budgets * room // max(largest, 1))


def fused(fn: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Return a function of which ``chunk_of`` counts the results alone.

    For sums of elementwise operations over a short axis: XLA evaluates all terms of an element in one kernel, and the
    array of all terms is never in memory. It is not for matrix products, whose factors are.

    Example:
        >>> def doubled(x):
        ...     return jnp.broadcast_to(x, (2, *x.shape)).sum(0)
        >>> x = np.ones(2**20, np.float32)
        >>> chunk_of(fused(doubled), x) == 2 * chunk_of(doubled, x)
        True
    """

    def program(*args: PyTree) -> PyTree:
        return fn(*args)

    program.__name__ = _FUSED
    return jax.jit(program)


_FUSED = "counted_by_its_results"


def _equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """Yield the operations that hold no others, at every depth, and those of ``fused``."""
    for equation in jaxpr.eqns:
        fused_here = equation.params.get("name") == _FUSED
        inner = [] if fused_here else [program for value in equation.params.values() for program in programs_in(value)]
        if not inner:
            yield equation
        for jaxpr_inside in inner:
            yield from _equations(jaxpr_inside)


def _size(equation: core.JaxprEqn) -> int:
    """Return the bytes of an operation's results; its inputs may be weights, which a chunk shares."""
    results = [variable.aval for variable in equation.outvars]
    return sum(a.size * getattr(a.dtype, "itemsize", 0) for a in results if hasattr(a, "dtype"))
