"""How many models a device trains at the same time, unless it is said: a function of shapes and of the platform."""

import jax
import numpy as np

from jaxsens.execution import Execution, backends, batches, memory
from jaxsens.typing import PyTree

__all__ = ["group_size"]

_COPIES = 5
"""What a model holds while it trains, in copies of its weights: weights, two moments, a gradient, and what is new."""

_MOST = 64
"""Models at the same time: their activations are memory, too, and a group ends with its last member."""


def group_size(variables: PyTree, count: int, execution: Execution, gradient: int = 0) -> int:
    """Return how many models a device trains at the same time.

    On a CPU it is one, where that is the fastest, or nearly so. On an accelerator it is all of the device's, or as many
    of them, in groups of one size, as fit the memory for weights of several models.

    Args:
        variables: The variables of one model, or their shapes.
        count: The number of models.
        execution: Its devices share the models.
        gradient: Bytes that the gradient of a step keeps, where that is known.

    Example:
        >>> group_size({"w": np.zeros(2)}, 1, Execution())
        1
    """
    if execution.platform == "cpu":
        return 1
    held = jax.ShapeDtypeStruct((_COPIES * batches.bytes_of(variables) + gradient,), np.uint8)
    room = max(1, memory.room_for_copies(held, execution))
    return batches.evenly(-(-count // backends.lanes(execution)), min(room, _MOST))
