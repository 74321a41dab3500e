"""The estimator of average-case sharpness: a model evaluated at many perturbed weights.

The draws, or groups of draws that depend on each other, are the independent units, conditional on the data.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import changes, labels, parameters, perturb
from jaxsens.execution import batches, memory, parallel
from jaxsens.execution.checks import device_arrays, host_arrays
from jaxsens.execution.execution import Execution
from jaxsens.execution.keys import require_key
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array, Change, Key, Perturbation, PyTree, Where

__all__ = ["WeightNoiseEstimator"]


@dataclass(frozen=True)
class WeightNoiseEstimator:
    """The measure that ``weight_changes`` and the sharpnesses return: call it, or ``over_models``.

    Attributes:
        apply: The model, or the loss.
        perturbation: Sampler of weight noise.
        change: Function recorded of the outputs of an example.
        draws: The number of perturbed models.
        where: Narrows the leaves that move.
        execution: How to run.

    Example:
        >>> from jaxsens.sharpness import average_sharpness
        >>> measure = average_sharpness(lambda w, x: (x @ w) ** 2, perturb.gaussian(0.1), draws=3)
        >>> isinstance(measure, WeightNoiseEstimator), measure.draws
        (True, 3)
    """

    apply: Callable[[PyTree, PyTree], PyTree]
    perturbation: Perturbation
    change: Change
    draws: int
    where: Where | None
    execution: Execution

    def __call__(self, key: Key, params: PyTree, batch: PyTree) -> PyTree:
        """Return the estimate, or the pytree of them, for one model and a batch with leading axis ``b``."""
        return self._estimates(key, params, None, batch)[0]

    def over_models(self, key: Key, stacked: PyTree, batch: PyTree) -> list[PyTree]:
        """Return the results of calls with the params of each model, up to rounding, from one launch.

        The draws are the same for every model. To average over models or to compare groups of them, pass the values to
        ``estimate.over_models`` and ``estimate.difference``.

        Args:
            key: Decides the draws.
            stacked: The params of all models, with a leading axis ``[m ...]``.
            batch: The examples, the same for every model.
        """
        return self._estimates(key, stacked, batches.count_of_models(stacked), batch)

    def _estimates(self, key: Key, params: PyTree, models: int | None, batch: PyTree) -> list[PyTree]:
        require_key(key)
        batch, params = host_arrays(batch, "batch"), device_arrays(params, "params")
        shapes = jax.eval_shape(lambda tree: tree if models is None else batches.select_model(tree, 0), params)
        batch = labels.check_batch(self.apply, shapes, batch)
        count, spec = batches.count_of(batch), batches.example_spec(batch)
        batches.require_fit(lambda params, block: _outputs(self.apply, self.where, block, params), shapes, spec)
        first = params if models is None else batches.select_model(params, 0)
        labels.check_examples(self.apply, self.apply, first, batch, execution=self.execution)
        forwards = self.execution.chunk or memory.chunk_of(self.apply, shapes, spec, execution=self.execution)
        # Every draw has its own weights, which take memory too.
        room = memory.room_for_copies(shapes, self.execution)
        rows, at_once = batches.split_blocks((models or 1) * self.draws, count, forwards, room)
        blocked = batches.in_blocks(batch, -(-count // rows), rows)
        clean = self._map(parallel.bind(_outputs, self.apply, self.where), blocked, params, models=models, chunk=1)
        for leaf in jax.tree.leaves(clean):
            bad = ~np.isfinite(leaf).reshape(models or 1, -1, *leaf.shape[3:])[:, :count]
            _require_finite(bad.reshape(models or 1, count, -1).any(2), models, "the unperturbed model")
        sampler = perturb.as_pytree(self.perturbation)
        fn = parallel.bind(_draw_changes, self.apply, self.change, self.where)
        per_model = (params, clean if models else jax.tree.map(lambda leaf: leaf[0], clean))
        draws = np.arange(self.draws, dtype=np.uint32)
        results = self._map(fn, draws, per_model, key, sampler, blocked, models=models, chunk=at_once)
        recorded, nonfinite = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:2], -1)[:, :, :count], results)
        draw = int(np.argmax(nonfinite.any((0, 2))))  # the first with one, if any has
        _require_finite(nonfinite[:, draw], models, f"the model perturbed by draw {draw}", _SMALLER)
        together = perturb.dependent_draws(self.perturbation)
        return [
            jax.tree.map(lambda leaf, model=model: _over_draws(leaf[model], together), recorded)
            for model in range(models or 1)
        ]

    def _map(
        self,
        fn: Callable[..., PyTree],
        items: PyTree,
        per_model: PyTree,
        *shared: PyTree,
        models: int | None,
        chunk: int,
    ) -> PyTree:
        """Return ``fn(item, of this model, *shared)`` for every model and item ``[m items ...]``."""
        execution = self.execution.replace(chunk=chunk)
        if models is None:
            results = parallel.map_items(fn, items, per_model, *shared, execution=execution)
            return jax.tree.map(lambda leaf: leaf[None], results)
        count = len(jax.tree.leaves(items)[0])
        index = np.divmod(np.arange(models * count, dtype=np.int32), np.int32(count))
        results = parallel.map_items(
            parallel.bind(_of_model, fn), index, items, per_model, *shared, execution=execution
        )
        return jax.tree.map(lambda leaf: leaf.reshape(models, count, *leaf.shape[1:]), results)


def _of_model(
    fn: Callable[..., PyTree], index: tuple[Array, Array], items: PyTree, per_model: PyTree, *shared: PyTree
) -> PyTree:
    """Return ``fn`` of one item and one model, of many."""
    model, item = index
    return fn(batches.select_model(items, item), batches.select_model(per_model, model), *shared)


def _outputs(apply: Callable[[PyTree, PyTree], PyTree], where: Where | None, block: PyTree, params: PyTree) -> PyTree:
    """Return the outputs of a block of examples."""
    weights, put_back = parameters.weights(params, where)
    return apply(put_back(parameters.widened(weights)), block)


def _draw_changes(
    apply: Callable[[PyTree, PyTree], PyTree],
    change: Change,
    where: Where | None,
    draw: Array,
    per_model: tuple[PyTree, PyTree],
    key: Key,
    perturbation: Perturbation,
    batch: PyTree,
) -> tuple[Array, Array]:
    """Return the changes ``[blocks rows]`` of all examples under one draw, and where outputs are not finite."""
    params, clean = per_model
    weights, put_back = parameters.weights(params, where)
    weights = parameters.widened(weights)
    moved = perturbation(key, draw, weights)
    still = jnp.stack([jnp.all(new == old) for old, new in zip(weights, moved, strict=True)]).all()

    def block(pair: tuple[PyTree, PyTree]) -> tuple[Array, Array]:
        examples, before = pair
        after = apply(put_back(moved), examples)
        # Evaluated together with other draws, outputs are rounded differently, which is not a change.
        after = jax.tree.map(lambda a, b: jnp.where(still, a, b), before, after)
        return jax.vmap(change)(before, after), changes.nonfinite(after)

    return jax.lax.map(block, (batch, clean))


_SMALLER = ": a smaller perturbation, or a look at the parameters, may help"


def _require_finite(nonfinite: np.ndarray, models: int | None, subject: str, advice: str = "") -> None:
    """Raise FloatingPointError at the first model and example ``[m b]`` that is marked."""
    if nonfinite.any():
        model, example = np.argwhere(nonfinite)[0].tolist()
        which = "" if models is None else f"params {model}: "
        raise FloatingPointError(f"{which}the output of {subject} is not finite for example {example}{advice}")


def _over_draws(recorded: np.ndarray, together: int) -> Estimate:
    """Return the estimate of ``[draws b]`` over examples, then over draws or groups of dependent draws."""
    values = recorded.mean(1, dtype=np.float64).reshape(-1, together).mean(1)
    unit = "draws" if together == 1 else "pairs of draws" if together == 2 else f"groups of {together} draws"
    return estimate.from_values(values, rate=recorded.dtype == bool, unit=unit)
