"""Batches of examples cut into blocks, for measures that walk over all the examples with one set of weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.typing import PyTree

__all__ = [
    "PARTS",
    "bytes_of",
    "count_of",
    "count_of_models",
    "evenly",
    "in_blocks",
    "member",
    "one_of",
    "require_fit",
    "shared_out",
    "stack_of_one",
]

PARTS = 8
"""Partial sums over the data on several devices. A constant, so that results do not hang on how many they are."""


def count_of(batch: PyTree) -> int:
    """Return the number of examples.

    Raises:
        ValueError: If the arrays do not share one leading axis, or there is no example.
    """
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(counts) != 1 or () in counts or (0,) in counts:
        raise ValueError(f"batch must be arrays with one leading axis b of at least 1, got {sorted(counts)}")
    return counts.pop()[0]


def one_of(batch: PyTree) -> PyTree:
    """Return the shapes and dtypes of a batch of one example."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), batch)


def evenly(count: int, room: int) -> int:
    """Return how many of ``count`` to take at once, at most ``room``: in as few rounds, but with little left idle."""
    return -(-count // -(-count // room))


def shared_out(copies: int, count: int, forwards: int, room: int) -> tuple[int, int]:
    """Return how many examples a block holds, and how many models to evaluate on one block at once.

    Args:
        copies: How many models there are in all, each with weights of its own.
        count: The number of examples.
        forwards: How many model forwards, models times examples, may run at once.
        room: For how many models' weights there is memory.
    """
    rows = evenly(count, forwards)
    return rows, evenly(copies, max(1, min(forwards // rows, room)))


def in_blocks(batch: PyTree, *shape: int) -> PyTree:
    """Return a batch ``[b ...]`` as ``[*shape ...]``, its last example repeated where the shape has room for more."""
    index = np.minimum(np.arange(int(np.prod(shape))), count_of(batch) - 1).reshape(shape)
    return jax.tree.map(lambda a: np.asarray(a)[index], batch)


def bytes_of(params: PyTree) -> int:
    """Return the memory that parameters take, at least 1."""
    shapes = jax.tree.leaves(jax.eval_shape(lambda tree: tree, params))
    return max(1, sum(leaf.size * leaf.dtype.itemsize for leaf in shapes))


def require_fit(
    apply: Callable[[PyTree, PyTree], PyTree], params: PyTree, one: PyTree, *, scalar: bool = False
) -> None:
    """Raise ValueError unless the model gives one result for each example, a ``scalar`` if need be.

    It is asked for two: of a batch of ``one`` the mean has the shape of a result.
    """
    shapes = [a.shape[1:] for a in jax.tree.leaves(one)]
    two = jax.tree.map(lambda a: jax.ShapeDtypeStruct((2, *a.shape[1:]), a.dtype), one)
    try:
        outputs = jax.eval_shape(apply, params, two)
    except Exception as error:
        raise ValueError(f"batch (examples of shapes {shapes}) and params do not fit the model: {error}") from error
    for output in jax.tree.leaves(outputs):
        if output.shape[:1] != (2,):
            raise ValueError(
                f"the model (or loss) must give one result for each example, [b *k], got shape {output.shape} for a "
                "batch of two; a mean over the batch has neither error bar nor examples"
            )
        if scalar and output.shape != (2,):
            raise ValueError(f"loss must give one number for an example, [b] for a batch, got [b, *{output.shape[1:]}]")


def stack_of_one(params: PyTree) -> PyTree:
    """Return the parameters of one model as those of several, with a leading axis ``[1 ...]``."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], params)


def count_of_models(stacked: PyTree) -> int:
    """Return how many models have their parameters in ``stacked``.

    Raises:
        ValueError: If leaves disagree, or there is no model.
    """
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(stacked)}
    if len(counts) != 1 or () in counts or (0,) in counts:
        raise ValueError(f"stacked must be params with one leading axis m of at least 1, got {sorted(counts)}")
    return counts.pop()[0]


def member(stacked: PyTree, model: int | jax.Array) -> PyTree:
    """Return the parameters of one model."""
    return jax.tree.map(lambda leaf: leaf[model], stacked)
