"""The second derivative of a function along a line, at half the cost of a product with its Hessian.

The function is taken as a program, ``x_k = F_k(x_i, x_j, ...)`` step by step. Along a line every value has a velocity
``x'_k``, and the result accelerates by

    ``d^2 f / dt^2 = sum_k a_k . D^2 F_k [x', x']``,  ``a_k = d f / d x_k``,

because the second-order term of each step reaches the result at first order. The ``a_k`` do not depend on the
direction: one backward pass computes all of them. A direction then takes three matrix products for each one of the
program whose factors both move (``x' W + x W'`` and ``x' W'``), where forward over reverse differentiation takes six;
steps that are linear in the moving values add nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxsens.typing import Array

__all__ = ["along_lines", "has_forward_derivative"]

_INLINED = ("jit", "pjit")


@dataclass(frozen=True)
class _Step:
    """One operation on values that depend on the variables.

    Attributes:
        operation: Maps the moving values that it reads to those that it computes.
        reads: Indices of the values that it reads.
        gives: Indices of the values that it computes.
    """

    operation: Callable[..., tuple[Array, ...]]
    reads: tuple[int, ...]
    gives: tuple[int, ...]


def along_lines(fn: Callable[[tuple[Array, ...]], Array], at: tuple[Array, ...]) -> Callable[..., Array]:
    """Return ``direction -> d^2 fn(at + t direction) / dt^2`` at t = 0, for ``fn`` to a scalar; for use under jit.

    Loops and functions with custom derivatives are single steps: equally exact, but not at half the cost.

    Args:
        fn: A function of arrays that is differentiable in reverse mode and, see ``has_forward_derivative``, in forward
            mode.
        at: The point at which the derivative is taken.

    Example:
        >>> along_lines(lambda x: x[0] ** 3, (jnp.float32(2.0),))((jnp.float32(1.0),))
        Array(12., dtype=float32)
    """
    values, steps, result = _recorded(fn, at)
    curved = [_is_curved(step, values) for step in steps]

    def replay(offsets: list[tuple[Array, ...]]) -> Array:
        """Return the result with offsets added to the values of the curved steps."""
        now, left = dict(enumerate(at)), iter(offsets)
        for step, is_curved in zip(steps, curved, strict=True):
            outputs = step.operation(*[now[i] for i in step.reads])
            if is_curved:
                outputs = [g + o for g, o in zip(outputs, next(left), strict=True)]
            now.update(zip(step.gives, outputs, strict=True))
        return now.get(result, values[result])

    still = [
        tuple(jnp.zeros_like(values[i]) for i in step.gives)
        for step, is_curved in zip(steps, curved, strict=True)
        if is_curved
    ]
    adjoints = jax.grad(replay)(still)

    def second(direction: tuple[Array, ...]) -> Array:
        velocity, left, total = dict(enumerate(direction)), iter(adjoints), jnp.zeros_like(values[result])
        for step, is_curved in zip(steps, curved, strict=True):
            place, speed = (tuple(of[i] for i in step.reads) for of in (values, velocity))

            def first(*place: Array, step: _Step = step, speed: tuple[Array, ...] = speed) -> tuple[Array, ...]:
                return jax.jvp(step.operation, place, speed)[1]

            if is_curved:
                moved, accelerated = jax.jvp(first, place, speed)
                total += sum(jnp.sum(a * b).real for a, b in zip(next(left), accelerated, strict=True))
            else:
                moved = first(*place)
            velocity.update(zip(step.gives, moved, strict=True))
        return total

    return second


def has_forward_derivative(fn: Callable[[tuple[Array, ...]], Array], at: tuple[Array, ...]) -> bool:
    """Return whether a function has forward-mode derivatives: one that uses ``jax.custom_vjp`` has none.

    Example:
        >>> has_forward_derivative(lambda x: x[0] ** 3, (jnp.float32(2.0),))
        True
    """

    def backwards_only(program: core.Jaxpr) -> bool:
        named = any(equation.primitive.name.startswith("custom_vjp_call") for equation in program.eqns)
        return named or any(backwards_only(inner) for inner in core.subjaxprs(program))

    return not backwards_only(jax.make_jaxpr(fn)(at).jaxpr)


def _recorded(fn: Callable[[tuple[Array, ...]], Array], at: tuple[Array, ...]) -> tuple[list[Array], list[_Step], int]:
    """Run a function and return all its values, its steps that depend on ``at``, and the index of its result.

    The first values are those of ``at``.
    """
    values, moving, steps = list(at), set(range(len(at))), []

    def number(value: Array) -> int:
        values.append(value)
        return len(values) - 1

    def walk(program: core.ClosedJaxpr, inputs: list[int]) -> list[int]:
        jaxpr = program.jaxpr
        numbers = dict(zip(jaxpr.invars, inputs, strict=True))
        numbers.update((v, number(value)) for v, value in zip(jaxpr.constvars, program.consts, strict=True))

        def look_up(v: core.Var | core.Literal) -> int:
            return number(v.val) if isinstance(v, core.Literal) else numbers[v]

        for equation in jaxpr.eqns:
            read = [look_up(v) for v in equation.invars]
            if equation.primitive.name in _INLINED:
                gives = walk(equation.params["jaxpr"], read)
            else:
                gives = [number(value) for value in _evaluate(equation, [values[i] for i in read])]
                record(equation, read, gives)
            numbers.update(zip(equation.outvars, gives, strict=True))
        return [look_up(v) for v in jaxpr.outvars]

    def record(equation: core.JaxprEqn, read: list[int], gives: list[int]) -> None:
        reads = tuple(i for i in dict.fromkeys(read) if i in moving)
        moved = [k for k, i in enumerate(gives) if jnp.issubdtype(values[i].dtype, jnp.inexact)]
        if not (reads and moved):
            return

        def operation(*places: Array) -> tuple[Array, ...]:
            now = dict(zip(reads, places, strict=True))
            results = _evaluate(equation, [now.get(i, values[i]) for i in read])
            return tuple(results[k] for k in moved)

        steps.append(_Step(operation, reads, tuple(gives[k] for k in moved)))
        moving.update(steps[-1].gives)

    (result,) = walk(jax.make_jaxpr(lambda *leaves: fn(leaves))(*at), list(range(len(at))))
    return values, steps, result


def _evaluate(equation: core.JaxprEqn, inputs: list[Array]) -> list[Array]:
    results = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
    return list(results) if equation.primitive.multiple_results else [results]


def _is_curved(step: _Step, values: list[Array]) -> bool:
    """Return whether the derivative of a step depends on the point at which it is taken."""
    places = tuple(values[i] for i in step.reads)
    program = jax.make_jaxpr(lambda *at: jax.jvp(step.operation, at, places)[1])(*places).jaxpr
    touched = set(program.invars)
    for equation in program.eqns:
        if any(v in touched for v in equation.invars if not isinstance(v, core.Literal)):
            touched.update(equation.outvars)
    return any(v in touched for v in program.outvars if not isinstance(v, core.Literal))
