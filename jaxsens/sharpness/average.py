"""Average-case sharpness: how outputs, predictions and the loss change when the weights are perturbed.

The draws, or antithetic pairs of them, are the independent units, conditional on the data. All examples see the same
draw, and so do all models that are measured together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import changes, parameters, perturb
from jaxsens.execution import batches, memory, parallel
from jaxsens.execution.checks import device_arrays, host_arrays, require_count
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.execution.keys import require_key
from jaxsens.sharpness import classification
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array, Change, Key, Loss, Perturbation, PyTree, Where

__all__ = [
    "WeightNoiseEstimator",
    "average_sharpness",
    "classifier_sharpness",
    "output_sharpness",
    "prediction_sharpness",
    "weight_changes",
]


def output_sharpness(
    apply: Callable[[PyTree, PyTree], Array],
    perturbation: Perturbation,
    *,
    draws: int,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> "WeightNoiseEstimator":
    """Measure ``ShOp = E_x,xi sum_k |f_k(params + xi; x) - f_k(params; x)|``, in units of the logits.

    The absolute change is summed over the logits and averaged over examples, as published (Vasudeva et al.,
    Transformers Learn Low Sensitivity Functions, s.7.2; the sum is in its code), but in evaluation mode.

    Args:
        apply: ``apply(params, batch)`` -> outputs ``[b *k]``, deterministic.
        perturbation: How weights move, such as ``perturb.gaussian(variance=0.005**2)``.
        draws: The number of perturbed models.
        where: ``where(path, leaf)`` narrows the leaves that move, to a layer for instance.
        execution: How to run; its ``chunk`` counts model forwards, examples times draws.

    Returns:
        ``measure(key, params, batch)`` -> ``Estimate`` over draws, for a batch with leading axis ``b``; and
        ``measure.over_models(key, stacked, batch)`` for many models at once.

    Raises:
        ValueError: As ``weight_changes``.
        FloatingPointError: As ``weight_changes``.
    """
    return weight_changes(
        apply, perturbation, change=changes.absolute_change, draws=draws, where=where, execution=execution
    )


def prediction_sharpness(
    apply: Callable[[PyTree, PyTree], Array],
    perturbation: Perturbation,
    *,
    draws: int,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> "WeightNoiseEstimator":
    """Measure ``ShPred = P_x,xi[prediction(params + xi; x) != prediction(params; x)]``.

    The source, arguments, result and errors are those of ``output_sharpness``.
    """
    return weight_changes(
        apply, perturbation, change=changes.prediction_change, draws=draws, where=where, execution=execution
    )


def average_sharpness(
    loss: Loss,
    perturbation: Perturbation,
    *,
    draws: int,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> "WeightNoiseEstimator":
    """Measure ``E_xi L(params + xi) - L(params)``, with ``L`` the mean of a loss per example.

    For small Gaussian noise it is ``variance / 2 * trace(Hessian)``; exactly so where L is quadratic. (Average-case
    sharpness as in Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization, s.2.)

    Args:
        loss: ``loss(params, batch)`` -> losses ``[b]``, deterministic.
        perturbation: How weights move.
        draws: The number of perturbed models.
        where: ``where(path, leaf)`` narrows the leaves that move, to a layer for instance.
        execution: How to run; its ``chunk`` counts model forwards, examples times draws.

    Returns:
        ``measure(key, params, batch)`` -> ``Estimate`` over draws, in the units of the loss.

    Raises:
        ValueError: As ``weight_changes``.
        FloatingPointError: As ``weight_changes``.
    """
    return weight_changes(loss, perturbation, change=_increase, draws=draws, where=where, execution=execution)


def classifier_sharpness(
    apply: Callable[[PyTree, PyTree], Array],
    perturbation: Perturbation,
    *,
    draws: int,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> "WeightNoiseEstimator":
    """Measure four sharpnesses of a classifier in one pass, from the same draws.

    ``loss``: the rise of the mean cross-entropy, in nats. ``error``: the rise of the fraction of wrong predictions.
    ``output`` and ``prediction``: as ``output_sharpness`` and ``prediction_sharpness``. (Loss and error sharpness as in
    Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization.)

    Args:
        apply: ``apply(params, inputs)`` -> logits ``[b k]``, deterministic.
        perturbation: How weights move.
        draws: The number of perturbed models.
        where: ``where(path, leaf)`` narrows the leaves that move, to a layer for instance.
        execution: How to run; its ``chunk`` counts model forwards, examples times draws.

    Returns:
        ``measure(key, params, (inputs, labels [b]))`` -> ``{"loss", "error", "output", "prediction"}``, each an
        ``Estimate`` over draws.

    Raises:
        ValueError: As ``weight_changes``; and when called, if logits are not ``[b k]`` or labels not integers.
        FloatingPointError: As ``weight_changes``. The loss of a label outside of ``0 .. k - 1`` is not finite.
    """
    return weight_changes(
        classification.Classified(apply),
        perturbation,
        change=classification.all_changes,
        draws=draws,
        where=where,
        execution=execution,
    )


def weight_changes(
    apply: Callable[[PyTree, PyTree], PyTree],
    perturbation: Perturbation,
    *,
    change: Change,
    draws: int,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> "WeightNoiseEstimator":
    """Measure ``E_x,xi change(f(params; x), f(params + xi; x))`` for any change: what the sharpnesses here are made of.

    Floating-point leaves are perturbed; where the variables have a collection ``params``, as Flax's do, only those in
    it (never batch statistics). A draw that leaves all weights as they are changes nothing, to the bit.

    Args:
        apply: ``apply(params, batch)`` -> outputs ``[b *k]``, a pytree of them allowed.
        perturbation: How weights move: a sampler on the tuple of chosen leaves.
        change: What is recorded of ``(clean [*k], changed [*k])`` for an example. Where it is a pytree of scalars, the
            result is one of estimates, all from one pass.
        draws: The number of perturbed models.
        where: ``where(path, leaf)`` narrows the leaves further, to a layer for instance.
        execution: How to run; its ``chunk`` counts model forwards, examples times draws.

    Returns:
        ``measure(key, params, batch)`` -> ``Estimate`` whose values are the means over examples, one for each draw, or
        for each antithetic pair; and ``measure.over_models(key, stacked, batch)`` for many models at once.

    Raises:
        ValueError: If ``draws`` is smaller than 1, or draws do not fill up pairs; when called, if the
            batch is empty or does not fit the model, or if no leaf is chosen.
        FloatingPointError: When called, if an output is not finite; the message says where the first one is.
    """
    draws = require_count("draws", draws)
    together = perturb.dependent_draws(perturbation)
    if draws % together:
        raise ValueError(f"draws must be a multiple of {together}, for so many depend on each other, got {draws}")
    return WeightNoiseEstimator(apply, perturbation, change, draws, where, execution)


@dataclass(frozen=True)
class WeightNoiseEstimator:
    """A measure, as ``weight_changes`` and the sharpnesses build it: call it, or ``over_models``."""

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
        """Return what a call with each model's params would return, up to rounding, from one launch.

        The draws are the same for every model. To average over models, or to compare groups of them, hand the values
        to ``estimate.over_models`` and ``estimate.difference``.

        Args:
            key: Decides the draws.
            stacked: The params of all models, with a leading axis ``[m ...]``.
            batch: The examples, the same for every model.
        """
        return self._estimates(key, stacked, batches.count_of_models(stacked), batch)

    def _estimates(self, key: Key, params: PyTree, models: int | None, batch: PyTree) -> list[PyTree]:
        require_key(key)
        batch, params = host_arrays(batch, "batch"), device_arrays(params, "params")
        count, one = batches.count_of(batch), batches.example_spec(batch)
        shapes = jax.eval_shape(lambda tree: tree if models is None else batches.select_model(tree, 0), params)
        batches.require_fit(self.apply, shapes, one)
        forwards = self.execution.chunk or memory.chunk_of(self.apply, shapes, one)
        # Every draw has weights of its own, and they take memory too.
        room = memory.BYTES // batches.bytes_of(shapes)
        rows, at_once = batches.split_blocks((models or 1) * self.draws, count, forwards, room)
        blocked = batches.in_blocks(batch, -(-count // rows), rows)
        clean = self._map(parallel.bind(_outputs, self.apply, self.where), blocked, params, models=models, chunk=1)
        for leaf in jax.tree.leaves(clean):
            bad = ~np.isfinite(leaf).reshape(models or 1, -1, *leaf.shape[3:])[:, :count]
            _require_finite(bad.reshape(models or 1, count, -1).any(2), models, "the unperturbed model")
        sampler = perturb.as_pytree(self.perturbation)
        fn = parallel.bind(_draw_changes, self.apply, self.change, self.where)
        own = (params, clean if models else jax.tree.map(lambda leaf: leaf[0], clean))
        draws = np.arange(self.draws, dtype=np.uint32)
        found = self._map(fn, draws, own, key, sampler, blocked, models=models, chunk=at_once)
        recorded, nonfinite = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:2], -1)[:, :, :count], found)
        draw = int(np.argmax(nonfinite.any((0, 2))))  # the first with one, if any has
        _require_finite(nonfinite[:, draw], models, f"the model perturbed by draw {draw}", _SMALLER)
        together = perturb.dependent_draws(self.perturbation)
        return [
            jax.tree.map(lambda leaf, model=model: _over_draws(leaf[model], together), recorded)
            for model in range(models or 1)
        ]

    def _map(
        self, fn: Callable[..., PyTree], items: PyTree, own: PyTree, *shared: PyTree, models: int | None, chunk: int
    ) -> PyTree:
        """Return ``fn(item, own, *shared)`` for every model, each with an ``own``, and every item ``[m items ...]``."""
        execution = self.execution.replace(chunk=chunk)
        if models is None:
            found = parallel.map_items(fn, items, own, *shared, execution=execution)
            return jax.tree.map(lambda leaf: leaf[None], found)
        count = len(jax.tree.leaves(items)[0])
        index = np.divmod(np.arange(models * count, dtype=np.int32), np.int32(count))
        found = parallel.map_items(parallel.bind(_of_model, fn), index, items, own, *shared, execution=execution)
        return jax.tree.map(lambda leaf: leaf.reshape(models, count, *leaf.shape[1:]), found)


def _of_model(
    fn: Callable[..., PyTree], index: tuple[Array, Array], items: PyTree, own: PyTree, *shared: PyTree
) -> PyTree:
    """Return ``fn`` of an item and of what belongs to one model, for one of many models."""
    model, item = index
    return fn(batches.select_model(items, item), batches.select_model(own, model), *shared)


def _outputs(
    apply: Callable[[PyTree, PyTree], PyTree], where: Where | None, block: PyTree, params: PyTree
) -> PyTree:
    """Return the outputs of a block of examples."""
    weights, put_back = parameters.weights(params, where)
    return apply(put_back(parameters.widened(weights)), block)


def _draw_changes(
    apply: Callable[[PyTree, PyTree], PyTree],
    change: Change,
    where: Where | None,
    draw: Array,
    own: tuple[PyTree, PyTree],
    key: Key,
    perturbation: Perturbation,
    batch: PyTree,
) -> tuple[Array, Array]:
    """Return the changes ``[blocks rows]`` of all examples under one draw, and where outputs are not finite."""
    params, clean = own
    weights, put_back = parameters.weights(params, where)
    weights = parameters.widened(weights)
    moved = perturbation(key, draw, weights)
    still = jnp.stack([jnp.all(new == old) for old, new in zip(weights, moved, strict=True)]).all()

    def block(pair: tuple[PyTree, PyTree]) -> tuple[Array, Array]:
        examples, before = pair
        after = apply(put_back(moved), examples)
        # Evaluated beside other draws, outputs are rounded in another way, and that is no change.
        after = jax.tree.map(lambda a, b: jnp.where(still, a, b), before, after)
        return jax.vmap(change)(before, after), changes.nonfinite(after)

    return jax.lax.map(block, (batch, clean))


_SMALLER = ": a smaller perturbation, or a look at the parameters, may help"


def _require_finite(nonfinite: np.ndarray, models: int | None, whose: str, advice: str = "") -> None:
    """Raise FloatingPointError at the first model and example ``[m b]`` that is marked."""
    if nonfinite.any():
        model, example = np.argwhere(nonfinite)[0].tolist()
        which = "" if models is None else f"params {model}: "
        raise FloatingPointError(f"{which}the output of {whose} is not finite for example {example}{advice}")


def _increase(before: Array, after: Array) -> Array:
    if before.ndim:
        raise ValueError(f"loss must give one number for an example, [b] for a batch, got [b, *{before.shape}]")
    return changes.at_least_float32(after) - changes.at_least_float32(before)


def _over_draws(recorded: np.ndarray, together: int) -> Estimate:
    """Average ``[draws b]`` over examples and over draws that depend on each other, and estimate over the rest."""
    values = recorded.mean(1, dtype=np.float64).reshape(-1, together).mean(1)
    return estimate.from_values(values, rate=recorded.dtype == bool)
