"""Average-case sharpness: how outputs, predictions and the loss change when the weights are perturbed.

The draws are the independent units, conditional on the data. All examples see the same draw.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import budget, changes, estimate, parallel, perturb
from jaxsens.estimate import Estimate
from jaxsens.typing import Array, Change, Key, Loss, Perturbation, PyTree, Where


def output_sharpness(
    apply: Callable[[PyTree, PyTree], Array],
    perturbation: Perturbation,
    *,
    draws: int,
    chunk: int | None = None,
    **options: Any,
) -> Callable[[Key, PyTree, PyTree], Estimate]:
    """Measure ``ShOp = E_x,xi sum_k |f_k(params + xi; x) - f_k(params; x)|``, in units of the logits.

    The absolute change is summed over the logits and averaged over examples, as published (Vasudeva et al.,
    Transformers Learn Low Sensitivity Functions, s.7.2; the sum is in its code), but in evaluation mode.

    Args:
        apply: ``apply(params, batch)`` -> outputs ``[b *k]``, deterministic.
        perturbation: How weights move, such as ``perturb.gaussian(variance=0.005**2)``.
        draws: The number of perturbed models.
        chunk: Model forwards evaluated at once on a device; ``None`` fits ``budget.BYTES``.
        **options: ``where``, ``backend``, ``devices``, ``progress`` and ``precision``, as in ``weight_changes``.

    Returns:
        ``measure(key, params, batch)`` -> ``Estimate`` over draws, for a batch with leading axis ``b``.

    Raises:
        ValueError: As ``weight_changes``.
        FloatingPointError: As ``weight_changes``.
    """
    return weight_changes(apply, perturbation, change=changes.absolute_change, draws=draws, chunk=chunk, **options)


def prediction_sharpness(
    apply: Callable[[PyTree, PyTree], Array],
    perturbation: Perturbation,
    *,
    draws: int,
    chunk: int | None = None,
    **options: Any,
) -> Callable[[Key, PyTree, PyTree], Estimate]:
    """Measure ``ShPred = P_x,xi[prediction(params + xi; x) != prediction(params; x)]``.

    The source, arguments, result and errors are those of ``output_sharpness``.
    """
    return weight_changes(apply, perturbation, change=changes.prediction_change, draws=draws, chunk=chunk, **options)


def average_sharpness(
    loss: Loss, perturbation: Perturbation, *, draws: int, chunk: int | None = None, **options: Any
) -> Callable[[Key, PyTree, PyTree], Estimate]:
    """Measure ``E_xi L(params + xi) - L(params)``, with ``L`` the mean of a loss per example.

    For small Gaussian noise it is ``variance / 2 * trace(Hessian)``; exactly so where L is quadratic. (Average-case
    sharpness as in Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization, s.2.)

    Args:
        loss: ``loss(params, batch)`` -> losses ``[b]``, deterministic.
        perturbation: How weights move.
        draws: The number of perturbed models.
        chunk: Model forwards evaluated at once on a device; ``None`` fits ``budget.BYTES``.
        **options: ``where``, ``backend``, ``devices``, ``progress`` and ``precision``, as in ``weight_changes``.

    Returns:
        ``measure(key, params, batch)`` -> ``Estimate`` over draws, in the units of the loss.

    Raises:
        ValueError: As ``weight_changes``.
        FloatingPointError: As ``weight_changes``.
    """
    return weight_changes(loss, perturbation, change=_increase, draws=draws, chunk=chunk, **options)


def weight_changes(
    apply: Callable[[PyTree, PyTree], PyTree],
    perturbation: Perturbation,
    *,
    change: Change,
    draws: int,
    chunk: int | None = None,
    where: Where | None = None,
    backend: str = "pmap",
    devices: Sequence[jax.Device] | None = None,
    progress: str | None = None,
    precision: str = "highest",
) -> Callable[[Key, PyTree, PyTree], PyTree]:
    """Measure ``E_x,xi change(f(params; x), f(params + xi; x))`` for any change: what the sharpnesses here are made of.

    Floating-point leaves are perturbed; where the variables have a collection ``params``, as Flax's do, only those in
    it (never batch statistics).

    Args:
        apply: ``apply(params, batch)`` -> outputs ``[b *k]``, a pytree of them allowed.
        perturbation: How weights move: a sampler on the tuple of chosen leaves.
        change: What is recorded of ``(clean [*k], changed [*k])`` for an example. Where it is a pytree of scalars, the
            result is one of estimates, all from one pass.
        draws: The number of perturbed models.
        chunk: Model forwards evaluated at once on a device (examples times draws). ``None`` fits ``budget.BYTES``.
        where: ``where(path, leaf)`` narrows the leaves further, to a layer for instance.
        backend: ``"pmap"`` or ``"shard_map"``; results are equal to the bit.
        devices: Devices to use, by default all of this process.
        progress: Label of a progress bar.
        precision: Of matrix products, as in ``jax.default_matmul_precision``.

    Returns:
        ``measure(key, params, batch)`` -> ``Estimate`` whose values are the means over examples, one for each draw.

    Raises:
        ValueError: If ``draws`` or ``chunk`` is smaller than 1; when called, if the batch is empty or does not fit the
            model, or if no leaf is chosen.
        FloatingPointError: When called, if an output is not finite; the message says where the first one is.
    """
    budget.require_counts(draws, chunk)
    numbers, rebuild = perturb.separate(perturbation)

    def measure(key: Key, params: PyTree, batch: PyTree) -> PyTree:
        batch = jax.tree.map(np.asarray, batch)
        count = _count(batch)
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), batch)
        _check_fit(apply, params, one)
        forwards = chunk or budget.chunk_of(apply, params, one)
        rows = min(forwards, count)
        blocks = -(-count // rows)
        index = np.minimum(np.arange(blocks * rows), count - 1)
        batch = jax.tree.map(lambda a: a[index].reshape(blocks, rows, *a.shape[1:]), batch)
        run = {"backend": backend, "devices": devices, "progress": progress}
        clean = parallel.map_items(_Outputs(apply, precision), batch, params, chunk=1, **run)
        _check_finite(clean, "the unperturbed model", count)
        fn = _DrawChanges(apply, rebuild, change, where, precision)
        # Every draw has weights of its own, and they take memory too.
        at_once = max(1, min(forwards // rows, budget.BYTES // _bytes(params)))
        recorded, nonfinite = parallel.map_items(
            fn, np.arange(draws, dtype=np.uint32), key, params, numbers, batch, clean, chunk=at_once, **run
        )
        if nonfinite.any():
            draw, example = np.argwhere(nonfinite.reshape(draws, -1)[:, :count])[0].tolist()
            raise FloatingPointError(
                f"the output of the model perturbed by draw {draw} is not finite for example {example}: "
                "a smaller perturbation, or a look at the parameters, may help"
            )
        return jax.tree.map(lambda leaf: _over_draws(leaf.reshape(draws, -1)[:, :count]), recorded)

    return measure


@dataclass(frozen=True)
class _Outputs:
    """The outputs of a block of examples; equal ones share compiled code."""

    apply: Callable[[PyTree, PyTree], PyTree]
    precision: str

    def __call__(self, block: PyTree, params: PyTree) -> PyTree:
        with jax.default_matmul_precision(self.precision):
            return self.apply(params, block)


@dataclass(frozen=True)
class _DrawChanges:
    """The changes ``[blocks rows]`` of all examples under one draw; equal ones share compiled code."""

    apply: Callable[[PyTree, PyTree], PyTree]
    rebuild: Callable[[tuple[Array, ...]], Perturbation]
    change: Change
    where: Where | None
    precision: str

    def __call__(
        self, draw: Array, key: Key, params: PyTree, numbers: tuple[Array, ...], batch: PyTree, clean: PyTree
    ) -> tuple[Array, Array]:
        weights, put_back = perturb.weights(params, self.where)
        moved = put_back(self.rebuild(numbers)(key, draw, weights))

        def block(pair: tuple[PyTree, PyTree]) -> tuple[Array, Array]:
            examples, before = pair
            after = self.apply(moved, examples)
            return jax.vmap(self.change)(before, after), changes.nonfinite(after)

        with jax.default_matmul_precision(self.precision):
            return jax.lax.map(block, (batch, clean))


def _over_draws(recorded: np.ndarray) -> Estimate:
    return estimate.from_values(recorded.mean(1, dtype=np.float64), rate=recorded.dtype == bool)


def _increase(before: Array, after: Array) -> Array:
    if before.ndim:
        raise ValueError(f"loss must give one number for an example, [b] for a batch, got [b, *{before.shape}]")
    return after - before


def _count(batch: PyTree) -> int:
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(counts) != 1 or () in counts or (0,) in counts:
        raise ValueError(f"batch must be arrays with one leading axis b of at least 1, got {sorted(counts)}")
    return counts.pop()[0]


def _bytes(params: PyTree) -> int:
    return max(1, sum(jnp.size(leaf) * jnp.result_type(leaf).itemsize for leaf in jax.tree.leaves(params)))


def _check_fit(apply: Callable, params: PyTree, one: PyTree) -> None:
    """Raise unless the model takes a batch of one example and gives outputs for one."""
    shapes = [a.shape[1:] for a in jax.tree.leaves(one)]
    try:
        outputs = jax.eval_shape(apply, params, one)
    except Exception as error:
        raise ValueError(f"batch (examples of shapes {shapes}) and params do not fit the model: {error}") from error
    for output in jax.tree.leaves(outputs):
        if output.shape[:1] != (1,):
            raise ValueError(
                f"the model (or loss) must give one result for each example, [b *k], got shape {output.shape} for a "
                "batch of one; a mean over the batch has neither error bar nor examples"
            )


def _check_finite(outputs: PyTree, whose: str, count: int) -> None:
    for leaf in jax.tree.leaves(outputs):
        bad = ~np.isfinite(leaf).reshape(leaf.shape[0] * leaf.shape[1], -1)[:count].all(1)
        if bad.any():
            raise FloatingPointError(f"the output of {whose} is not finite for example {int(np.argmax(bad))}")
