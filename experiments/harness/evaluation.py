"""A model's outputs on many inputs, on all devices."""

from jaxsens.execution import Execution, map_items
from jaxsens.execution.parallel import bind
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["outputs_on"]


def outputs_on(apply: Apply, variables: PyTree, inputs: PyTree, *, execution: Execution) -> PyTree:
    """Return a model's outputs ``[n *k]`` on inputs ``[n ...]``, as numpy arrays in the order of the inputs.

    Args:
        apply: ``apply(variables, inputs [b ...])`` -> outputs ``[b *k]``; equal functions share compiled code.
        variables: The model's variables.
        inputs: An array or a pytree of arrays with leading axis ``n``.
        execution: How to run; its ``chunk`` counts inputs.
    """
    return map_items(bind(_output, apply), inputs, variables, execution=execution)


def _output(apply: Apply, one: Array, variables: PyTree) -> PyTree:
    return apply(variables, one[None])[0]
