"""Floating-point operations and traffic of a program, counted from its matrix products and convolutions."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core

__all__ = ["Work", "count", "programs_in"]


class Work(NamedTuple):
    """What a program does at the least.

    Attributes:
        operations: Multiplications and additions of matrix products and convolutions.
        bytes: What these read and write. Everything else could be fused with them, so that no program of these
            products moves less, unless operands stay in a cache.
    """

    operations: float
    bytes: float


def count(fn: Callable[..., Any], *args: Any) -> Work:
    """Count the work of ``fn(*args)``, loops as often as they run; arguments may be shapes.

    Raises:
        ValueError: If products stand in a loop whose length is data.
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
        inside = [found for value in equation.params.values() for found in programs_in(value)]
        if name == "cond":  # one branch is taken; those of a choice of platform do the same work
            inside = inside[:1]
        loops = equation.params["length"] if name == "scan" else 1
        for inner in inside:
            found = list(_products(inner, times * loops))
            if found and name == "while":
                raise ValueError("fn has matrix products in a loop whose length is data: their number is unknown")
            yield from found


def programs_in(parameter: object) -> Iterator[core.Jaxpr]:
    """Yield the programs that a parameter of an operation holds: the body of a loop, the branches of a choice."""
    if isinstance(parameter, core.ClosedJaxpr):
        yield parameter.jaxpr
    elif isinstance(parameter, core.Jaxpr):
        yield parameter
    elif isinstance(parameter, tuple | list):
        for part in parameter:
            yield from programs_in(part)
