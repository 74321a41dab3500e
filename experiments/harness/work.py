"""The work of an experiment in parts, counted from its settings: model forwards and floating-point operations.

An experiment counts its own in the ``work.py`` of its folder, as ``work(config)``; ``experiments.plan`` adds them up.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax

from jaxsens.execution import flops
from jaxsens.typing import Key, PyTree

__all__ = ["GRADIENT", "HESSIAN_PRODUCT", "Work", "operations"]

GRADIENT = 3
"""Forwards that a forward and the gradient of its loss stand for: the backward pass has twice its operations."""

HESSIAN_PRODUCT = 2 * GRADIENT
"""Forwards that a product with the Hessian stands for: the derivative of a gradient along a direction."""


@dataclass(frozen=True)
class Work:
    """A part of the work of an experiment.

    Attributes:
        part: What is computed.
        kind: Which rate it is computed at, one of ``experiments.plan.rates.ESTIMATED``.
        forwards: Model forwards that it stands for, see ``GRADIENT``.
        operations: Floating-point operations of matrix products and convolutions.
        at_most: Whether it may be less, since trainings stop early or texts are shorter.
    """

    part: str
    kind: str
    forwards: float
    operations: float
    at_most: bool = False

    @classmethod
    def of(cls, part: str, kind: str, forwards: float, each: float, *, at_most: bool = False) -> "Work":
        """Return the work of forwards of so many operations each."""
        return cls(part, kind, forwards, forwards * each, at_most)

    def plus(self, forwards: float, each: float) -> "Work":
        """Return this work and that of more forwards, of so many operations each."""
        return replace(self, forwards=self.forwards + forwards, operations=self.operations + forwards * each)


def operations(apply: Callable[..., Any], init: Callable[[Key], PyTree], *inputs: tuple[tuple[int, ...], Any]) -> float:
    """Return the floating-point operations of a model's forward.

    Args:
        apply: ``apply(variables, *inputs)``.
        init: ``init(key)`` makes the variables; where JAX makes them, only their shapes are computed.
        *inputs: Shape and dtype of each input.
    """
    key = jax.random.key(0)  # no argument of the traced function, since some initializations look at it
    try:
        variables = jax.eval_shape(lambda: init(key))
    except jax.errors.TracerArrayConversionError:
        variables = init(key)
    return flops.count(apply, variables, *(jax.ShapeDtypeStruct(*one) for one in inputs)).operations
