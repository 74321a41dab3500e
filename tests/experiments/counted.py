"""What a run evaluates, counted while it runs: operations of its maps, and examples of its trainings."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxsens.execution import flops, parallel
from jaxsens.training import many_models, one_model
from jaxsens.training.batch_step import Step
from jaxsens.training.member_epoch import Epoch


@contextlib.contextmanager
def counted() -> Iterator[dict[str, float]]:
    """Count within the block, and give the counts.

    They are ``operations`` of all calls of ``map_items`` that do not train, and forwards of trainings in ``forwards``:
    three of an example in a step, times those that its objective makes, and one of an example that is validated.
    """
    found = {"operations": 0.0, "forwards": 0.0}
    of_map, of_epochs, of_members = parallel._capacity, one_model._epoch, many_models._advance

    def capacity(fn: Any, items: Any, shared: Any, chunk: int, total: int) -> int:
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), items)
        if not isinstance(fn, Epoch) and getattr(getattr(fn, "fn", fn), "__name__", "") != "_steps":
            found["operations"] += _operations(fn, one, shared) * len(jax.tree.leaves(items)[0])
        return of_map(fn, items, shared, chunk, total)

    def epoch(step: Step, epochs: int, batch: int) -> Any:
        run = of_epochs(step, epochs, batch)

        def counting(state: Any, tokens: Any, labels: Any, key: Any, *others: Any) -> Any:
            given = state.variables, tokens[:batch]
            once = flops.count(step.train_apply, *given, key).operations
            loss = functools.partial(step.objective, step.train_apply)
            passes = flops.count(loss, *given, labels[:batch], key).operations / once
            found["forwards"] += 3 * passes * (len(tokens) // batch * batch)
            return run(state, tokens, labels, key, *others)

        return counting

    def advance(resident: Any, numbers: Any, words: Any, active: Any, done: int, learned: Any) -> Any:
        data = learned.at(done)
        found["forwards"] += len(active) * (3 * data[1].shape[1] + (learned.validation or data)[1].shape[1])
        return of_members(resident, numbers, words, active, done, learned)

    parallel._capacity, one_model._epoch, many_models._advance = capacity, epoch, advance
    try:
        yield found
    finally:
        parallel._capacity, one_model._epoch, many_models._advance = of_map, of_epochs, of_members


def _operations(fn: Any, one: Any, shared: Any) -> float:
    """Return the operations of one item, counted once for equal functions and shapes."""
    leaves, structure = jax.tree.flatten((one, shared))
    return _counted(fn, structure, tuple((np.shape(leaf), leaf.dtype) for leaf in leaves))


@functools.lru_cache(maxsize=256)
def _counted(fn: Any, structure: Any, shapes: Any) -> float:
    one, shared = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return flops.count(fn, one, *shared).operations
