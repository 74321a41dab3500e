"""Floating-point operations and traffic of a program, counted from its matrix products and convolutions."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core

__all__ = ["Work", "count", "programs_in"]


class Work(NamedTuple):
    """The least work of a program.

    Attributes:
        operations: Multiplications and additions of matrix products and convolutions.
        bytes: The bytes that these read and write. All other operations could be fused with them, so that this is the
            least traffic, unless operands stay in a cache.

    Example:
        >>> Work(operations=1e9, bytes=1e6).operations
        1000000000.0
    """

    operations: float
    bytes: float


def count(fn: Callable[..., Any], *args: Any) -> Work:
    """Return the work of ``fn(*args)``; the body of a loop counts as often as it runs, and arguments may be shapes.

    Of the branches of a condition, the one with the most operations counts.

    Raises:
        ValueError: If there are matrix products in a loop whose length is data.

    Example:
        >>> count(jnp.matmul, jnp.zeros((3, 4)), jnp.zeros((4, 5)))
        Work(operations=120.0, bytes=188.0)
    """
    operations = traffic = 0.0
    for times, equation in _products(jax.make_jaxpr(fn)(*args).jaxpr, 1):
        operations += times * _operations(equation)
        traffic += times * sum(v.aval.size * v.aval.dtype.itemsize for v in (*equation.invars, *equation.outvars))
    return Work(operations, traffic)


def _operations(equation: core.JaxprEqn) -> float:
    result = math.prod(equation.outvars[0].aval.shape)
    left, right = (variable.aval.shape for variable in equation.invars[:2])
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * result * math.prod(left[axis] for axis in contracted)
    features = equation.params["dimension_numbers"].rhs_spec[0]
    return 2 * result * math.prod(right) / right[features]


def _products(jaxpr: core.Jaxpr, times: int) -> Iterator[tuple[int, core.JaxprEqn]]:
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in ("dot_general", "conv_general_dilated"):
            yield times, equation
        inside = [program for value in equation.params.values() for program in programs_in(value)]
        loops = equation.params["length"] if name == "scan" else 1
        parts = [list(_products(program, times * loops)) for program in inside]
        if name == "while" and any(parts):
            raise ValueError("fn has matrix products in a loop whose length is data: their number is unknown")
        if name == "cond":  # one branch is taken; those of a choice of platform do the same work
            parts = [max(parts, key=lambda part: sum(times * _operations(product) for times, product in part))]
        for part in parts:
            yield from part


def programs_in(parameter: object) -> Iterator[core.Jaxpr]:
    """Yield the programs in a parameter of an operation, such as the body of a loop or the branches of a condition.

    Example:
        >>> equation = jax.make_jaxpr(jax.jit(jnp.sin))(1.0).jaxpr.eqns[0]
        >>> len([program for value in equation.params.values() for program in programs_in(value)])
        1
    """
    if isinstance(parameter, core.ClosedJaxpr):
        yield parameter.jaxpr
    elif isinstance(parameter, core.Jaxpr):
        yield parameter
    elif isinstance(parameter, tuple | list):
        for part in parameter:
            yield from programs_in(part)
