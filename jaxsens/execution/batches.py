"""Batches of examples cut into blocks, for measures that evaluate all the examples with one set of weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.typing import Key, PyTree

__all__ = [
    "PARTS",
    "bytes_of",
    "count_of",
    "count_of_models",
    "evenly",
    "example_spec",
    "in_blocks",
    "item_spec",
    "of_each_model",
    "parts_on",
    "require_fit",
    "select_model",
    "split_blocks",
    "stack_of_one",
]

PARTS = 8
"""Partial sums over the data on several devices. A constant, so that results do not depend on the number of devices."""


def count_of(batch: PyTree) -> int:
    """Return the number of examples.

    Raises:
        ValueError: If the arrays do not share one leading axis, or there is no example.

    Example:
        >>> count_of((np.ones((3, 2)), np.ones(3)))
        3
    """
    return _leading(batch, "batch must be arrays with one leading axis b")


def example_spec(batch: PyTree) -> PyTree:
    """Return the shapes of a batch of one example, and the dtypes that it has on a device.

    Example:
        >>> example_spec(np.ones((3, 2)))
        ShapeDtypeStruct(shape=(1, 2), dtype=float32)
    """
    on_device = jax.dtypes.canonicalize_dtype
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), on_device(a.dtype)), batch)


def item_spec(items: PyTree) -> PyTree:
    """Return the shapes and dtypes of one of the items ``[n ...]``, without their leading axis.

    Example:
        >>> item_spec(np.ones((3, 2)))
        ShapeDtypeStruct(shape=(2,), dtype=float64)
    """
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), items)


def parts_on(devices: int) -> int:
    """Return the number of parts for some number of devices: ``PARTS`` on several, and one on a single device.

    Example:
        >>> parts_on(1), parts_on(3)
        (1, 8)
    """
    return PARTS if devices > 1 else 1


def evenly(count: int, room: int) -> int:
    """Return how many of ``count`` to take at once, at most ``room``: in as few rounds as possible, of equal size.

    Example:
        >>> evenly(10, 8)
        5
    """
    return -(-count // -(-count // room))


def split_blocks(copies: int, count: int, forwards: int, room: int) -> tuple[int, int]:
    """Return how many examples a block holds, and how many models to evaluate on one block at once.

    Args:
        copies: The number of models, each with its own weights.
        count: The number of examples.
        forwards: The number of model forwards, models times examples, that may run at once.
        room: The number of models whose weights fit in memory.

    Example:
        >>> split_blocks(copies=6, count=100, forwards=300, room=2)
        (100, 2)
    """
    rows = evenly(count, forwards)
    return rows, evenly(copies, max(1, min(forwards // rows, room)))


def in_blocks(batch: PyTree, *shape: int) -> PyTree:
    """Return a batch ``[b ...]`` as ``[*shape ...]``; the last example is repeated where the shape has more places.

    Example:
        >>> in_blocks(np.arange(3), 2, 2).tolist()
        [[0, 1], [2, 2]]
    """
    index = np.minimum(np.arange(int(np.prod(shape))), count_of(batch) - 1).reshape(shape)
    return jax.tree.map(lambda a: np.asarray(a)[index], batch)


def bytes_of(params: PyTree) -> int:
    """Return the number of bytes that parameters take, at least 1.

    Example:
        >>> bytes_of({"w": np.ones((5, 2), np.float32)})
        40
    """
    shapes = jax.tree.leaves(jax.eval_shape(lambda tree: tree, params))
    return max(1, sum(leaf.size * leaf.dtype.itemsize for leaf in shapes))


def require_fit(
    apply: Callable[[PyTree, PyTree], PyTree], params: PyTree, one: PyTree, *, scalar: bool = False
) -> None:
    """Raise ValueError unless the model accepts the batch and gives one result for each example.

    Only shapes are evaluated, for two examples: for one, a mean over the batch would have the shape of a result.

    Args:
        apply: ``apply(params, batch)`` -> results ``[b *k]``.
        params: Its parameters, or their shapes.
        one: The shapes of a batch of one example; see ``example_spec``.
        scalar: Whether results must be single numbers, ``[b]``.

    Raises:
        ValueError: If they do not fit together, or results are not ``[b *k]`` (``[b]``).

    Example:
        >>> require_fit(lambda w, x: (x @ w).mean(), np.ones((3, 2)), example_spec(np.ones((5, 3))))
        Traceback (most recent call last):
        ValueError: the model (or loss) must give one result for each example, [b *k], got shape () ...
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
    """Return the parameters of one model as those of several, with a leading axis ``[1 ...]``.

    Example:
        >>> stack_of_one({"w": np.ones(2)})["w"].shape
        (1, 2)
    """
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], params)


def count_of_models(stacked: PyTree) -> int:
    """Return the number of models with parameters in ``stacked [m ...]``.

    Raises:
        ValueError: If leaves disagree, or there is no model.

    Example:
        >>> count_of_models({"w": np.ones((3, 5)), "b": np.ones(3)})
        3
    """
    return _leading(stacked, "stacked must be params with one leading axis m")


def select_model(stacked: PyTree, model: int | jax.Array) -> PyTree:
    """Return the parameters of one model of ``stacked [m ...]``.

    Example:
        >>> select_model({"w": np.array([5, 6])}, 1)
        {'w': np.int64(6)}
    """
    return jax.tree.map(lambda leaf: leaf[model], stacked)


def of_each_model(fn: Callable[..., PyTree], item: PyTree, key: Key, stacked: PyTree, *shared: PyTree) -> PyTree:
    """Return ``fn(item, key, params, *shared)`` for the params of each model of ``stacked [m ...]``, ``[m ...]``.

    Example:
        >>> of_each_model(lambda item, key, params: item * params, 2.0, None, np.array([1.0, 3.0])).tolist()
        [2.0, 6.0]
    """
    return jax.lax.map(lambda params: fn(item, key, params, *shared), stacked)


def _leading(tree: PyTree, rule: str) -> int:
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(counts) != 1 or () in counts or (0,) in counts:
        raise ValueError(f"{rule} of at least 1, got {sorted(counts)}")
    return counts.pop()[0]
