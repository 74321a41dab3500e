"""Worst-case sharpness: how far the loss can rise in a ball around the weights, by projected gradient ascent.

The independent units are groups of examples, each with its own perturbation (m-sharpness). The result is a lower bound
of the maximum.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import labels, norm_balls, parameters, perturb, scales
from jaxsens.changes import at_least_float32
from jaxsens.execution import backends, batches, checks, memory, parallel
from jaxsens.execution.checks import device_arrays, host_arrays, require_count
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.sharpness import apgd
from jaxsens.sharpness.worst_case_result import WorstCase
from jaxsens.typing import Array, Key, Loss, PyTree, Scale, Where

__all__ = ["WorstCase", "WorstCaseSharpness", "worst_case_sharpness"]

# The state of an ascent: three points and two gradients, and the weights at the point.
_COPIES = 6


def worst_case_sharpness(
    loss: Loss,
    radius: float,
    *,
    norm: str = "l2",
    scale: Scale = scales.absolute,
    group: int | None = None,
    iterations: int = 20,
    restarts: int = 1,
    keep: bool = True,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> "WorstCaseSharpness":
    """Measure ``mean over groups S of max over ||delta / s(w)|| <= radius of L_S(w + delta) - L_S(w)``.

    ``L_S`` is the mean loss over the examples of a group, ``s`` the scale; elements with ``s = 0`` stay. The ascent,
    APGD, is in ``delta / s(w)``, so that the ball is the same for every scale. (Andriushchenko et al., A Modern Look at
    the Relationship between Sharpness and Generalization; Croce and Hein, Reliable Evaluation of Adversarial
    Robustness, s.3, for the ascent. The one step is that of Foret et al., Sharpness-Aware Minimization, Eq. 2, and with
    ``scales.by_element`` that of ASAM.) Weights in float16 or bfloat16 are moved and evaluated as float32, so that
    neither gradients nor perturbations are lost to rounding.

    With ``group=None`` each of several processes computes the whole result; otherwise they share the groups.

    Args:
        loss: ``loss(params, batch)`` -> losses ``[b]``, deterministic.
        radius: The radius of the ball, in the units of the weights, or a number where the scale has these; 0 gives 0.
        norm: ``"l2"`` over all weights together, or ``"linf"``.
        scale: What perturbations are measured against, such as ``scales.by_element`` for adaptive sharpness.
        group: The number m of examples that share a perturbation, in the order of the batch; groups are distributed
            over the devices. By default all examples share one, and are distributed themselves: eight parts, whose sums
            are added in order, but a single part on a single GPU or TPU, which differs by rounding.
        iterations: Gradients after the one at the weights themselves.
        restarts: Starts: the step of SAM first, then random ones on the sphere (l2) or in the box (l-infinity). The
            result is a lower bound of the maximum; at a saddle, one start of 20 iterations may fall far short of it.
        keep: Whether to return perturbations, one copy of ``params`` for each group.
        where: ``where(path, leaf)`` narrows the leaves that move, to a layer for instance.
        execution: How to run; its ``chunk`` counts model forwards, examples times starts.

    Returns:
        ``measure(key, params, batch)`` -> ``WorstCase``; and ``measure.over_models(key, stacked, batch)`` for many
        models at once. The key decides random starts, which a first start with a gradient does not need.

    Raises:
        ValueError: If the radius is negative or not finite, a count is not an integer of at least 1, or the norm is
            unknown; when called, if the key is not a typed threefry key, the batch is empty, does not fit the model or
            is not a multiple of ``group``, losses depend on the batch or are not one number for each example, or no
            leaf is chosen.
        FloatingPointError: When called, if a loss is not finite; the message says at which group and iterate.

    Example:
        >>> loss = lambda w, x: x @ w
        >>> measure = worst_case_sharpness(loss, radius=0.5, iterations=3)
        >>> measure(jax.random.key(0), np.zeros(2, np.float32), np.float32([[3, 4]])).values.round(4).tolist()
        [2.5]
    """
    keep = checks.require_flag("keep", keep)
    radius = checks.require_finite("radius", radius)
    require_execution(execution)
    checks.require_functions(loss=loss, scale=scale, where=where)
    norm_balls.require_norm(norm)
    iterations, restarts = require_count("iterations", iterations), require_count("restarts", restarts)
    group = None if group is None else require_count("group", group)
    fn = _Ascent(loss, norm, scale, iterations, restarts, keep, where, execution.precision)
    return WorstCaseSharpness(fn, float(radius), group, execution)


@dataclass(frozen=True)
class WorstCaseSharpness:
    """The measure that ``worst_case_sharpness`` returns: call it, or ``over_models``.

    Attributes:
        fn: The ascent.
        radius: The radius of the ball.
        group: The number of examples that share a perturbation; None for all.
        execution: How to run.

    Example:
        >>> measure = worst_case_sharpness(lambda w, x: (x @ w) ** 2, 0.1)
        >>> isinstance(measure, WorstCaseSharpness), measure.radius
        (True, 0.1)
    """

    fn: "_Ascent"
    radius: float
    group: int | None
    execution: Execution

    def __call__(self, key: Key, params: PyTree, batch: PyTree) -> WorstCase:
        """Return the result for one model and a batch with leading axis ``b``."""
        if self.group is None:
            return self._over_all(key, params, batch)
        return self.over_models(key, batches.stack_of_one(params), batch)[0]

    def over_models(self, key: Key, stacked: PyTree, batch: PyTree) -> list[WorstCase]:
        """Return the results of calls with the params of each model, up to rounding, from one launch.

        Args:
            key: Decides random starts, the same for every model.
            stacked: The params of all models, with a leading axis ``[m ...]``; models and groups are distributed over
                the devices.
            batch: The examples, the same for every model.
        """
        require_key(key)
        batch, stacked = host_arrays(batch, "batch"), device_arrays(stacked, "params")
        models = batches.count_of_models(stacked)
        one_model = jax.eval_shape(lambda tree: batches.select_model(tree, 0), stacked)
        batch = labels.check_batch(self.fn.loss, one_model, batch)
        count = batches.count_of(batch)
        params = jax.eval_shape(lambda tree: batches.select_model(tree, 0), stacked)
        each = self.group or count
        if count % each:
            raise ValueError(
                f"group must divide the number of examples, {count}, got {each}: leave the last {count % each} out"
            )
        groups, forwards = count // each, self._forwards(batches.select_model(stacked, 0), batch)
        room = memory.room_for_copies(params, self.execution) // (_COPIES * self.fn.restarts)
        rows, at_once = batches.split_blocks(models * groups, each, max(1, forwards // self.fn.restarts), room)
        blocks = -(-each // rows)
        within = np.minimum(np.arange(blocks * rows), each - 1).reshape(blocks, rows)
        cut = jax.tree.map(lambda a: np.asarray(a)[each * np.arange(groups)[:, None, None] + within], batch)
        counted = (np.arange(blocks * rows) < each).reshape(blocks, rows)
        index = np.divmod(np.arange(models * groups, dtype=np.int32), np.int32(groups))
        shared = key, stacked, np.asarray(self.radius), cut, counted
        results = parallel.map_items(self.fn, index, *shared, execution=self.execution.replace(chunk=at_once))
        results = jax.tree.map(lambda leaf: leaf.reshape(models, groups, *leaf.shape[1:]), results)
        return [self._result(batches.select_model(results, i), forwards, f"params {i}: ") for i in range(models)]

    def _over_all(self, key: Key, params: PyTree, batch: PyTree) -> WorstCase:
        """Return the result for one perturbation of all examples, which are distributed over the devices."""
        require_key(key)
        batch, params = host_arrays(batch, "batch"), device_arrays(params, "params")
        batch = labels.check_batch(self.fn.loss, params, batch)
        count, forwards = batches.count_of(batch), self._forwards(params, batch)
        devices = backends.local_devices(self.execution.devices)[: batches.PARTS]
        # A single accelerator would evaluate the parts in turn, each too small to occupy it.
        number = 1 if len(devices) == 1 and self.execution.platform != "cpu" else batches.PARTS
        rows = batches.evenly(-(-count // number), max(1, forwards // self.fn.restarts))
        blocks = -(-count // (number * rows))
        parts = batches.in_blocks(batch, number, blocks, rows)
        counted = (np.arange(number * blocks * rows) < count).reshape(number, blocks, rows)
        radius = device_arrays(np.asarray(self.radius), "radius")
        arguments = backends.replicate((key, params, radius, (parts, counted)), devices)
        results = jax.tree.map(lambda leaf: np.asarray(leaf)[None], _over_parts(self.fn, devices)(*arguments))
        return self._result(results, forwards)

    def _forwards(self, params: PyTree, batch: PyTree) -> int:
        spec = batches.example_spec(batch)
        batches.require_fit(self.fn.loss, params, spec, scalar=True)
        labels.check_examples(self.fn.loss, self.fn.loss, params, batch, execution=self.execution)
        return self.execution.chunk or memory.chunk_of(self.fn.loss, params, spec, derivative=True)

    def _result(self, results: tuple[np.ndarray, np.ndarray, PyTree], forwards: int, prefix: str = "") -> WorstCase:
        values, uphill, perturbation = results
        if not np.isfinite(values).all():
            group, start, turn = np.argwhere(~np.isfinite(values))[0].tolist()
            raise FloatingPointError(
                f"{prefix}the loss of group {group} is {values[group, start, turn]} at iterate {turn} of start "
                f"{start}: try a smaller radius, or examine the loss there and its gradient"
            )
        rises = values - values[:, :, :1]
        return WorstCase(rises, np.where(uphill, rises[:, 0, 1], 0), perturbation, forwards)


@dataclass(frozen=True)
class _Ascent:
    """The ascent of one model for one group of examples; equal values share compiled code."""

    loss: Loss
    norm: str
    scale: Scale
    iterations: int
    restarts: int
    keep: bool
    where: Where | None
    precision: str

    def __call__(
        self, item: tuple[Array, Array], key: Key, stacked: PyTree, radius: Array, groups: PyTree, counted: Array
    ) -> tuple[Array, Array, PyTree]:
        model, group = item
        params, examples = batches.select_model(stacked, model), batches.select_model(groups, group)
        evaluate = partial(self.sums, (examples, counted), params)
        return self.maximize(jax.random.fold_in(key, group), params, radius, evaluate, counted.sum())

    def maximize(
        self, key: Key, params: PyTree, radius: Array, sums: Callable[[PyTree], tuple[Array, PyTree]], count: Array
    ) -> tuple[Array, Array, PyTree]:
        """Return the losses ``[r iterations+1]``, whether the first gradient was not 0, and the best perturbation."""
        weights, _ = parameters.weights(params, self.where)
        weights = parameters.widened(weights)
        radius = radius.astype(jnp.result_type(*weights))
        sampler = perturb.Sphere(radius) if self.norm == "l2" else perturb.Uniform(radius)
        center = tuple(jnp.zeros_like(w) for w in weights)
        starts = jax.vmap(lambda start: sampler(key, start, center))(jnp.arange(self.restarts, dtype=jnp.uint32))

        def means(points: PyTree) -> tuple[Array, PyTree]:
            return jax.tree.map(lambda total: (total / count).astype(total.dtype), sums(points))

        ascent = apgd.ascend(means, starts, radius, norm=self.norm, iterations=self.iterations)
        if not self.keep:
            return ascent.values, ascent.uphill[0], None
        best = ascent.values.max(1) - ascent.values[:, 0]
        point = batches.select_model(ascent.points, best.argmax())
        perturbation = [s * p for s, p in zip(self.scale(weights), point, strict=True)]
        _, put_into_zeros = parameters.weights(parameters.zeros_like(params), self.where)
        return ascent.values, ascent.uphill[0], put_into_zeros(perturbation)

    def sums(self, part: tuple[PyTree, Array], params: PyTree, points: PyTree) -> tuple[Array, PyTree]:
        """Return the sums over examples ``[blocks rows]`` of losses and of gradients, for points ``[r ...]``."""
        weights, put_back = parameters.weights(params, self.where)
        weights = parameters.widened(weights)
        scale = self.scale(weights)

        def total(point: PyTree, examples: PyTree, counted: Array) -> Array:
            moved = put_back([w + s * p for w, s, p in zip(weights, scale, point, strict=True)])
            return jnp.sum(jnp.where(counted, at_least_float32(self.loss(moved, examples)), 0))

        def block(points: PyTree, piece: tuple[PyTree, Array]) -> tuple[Array, PyTree]:
            return jax.vmap(jax.value_and_grad(total), (0, None, None))(points, *piece)

        def add(so_far: PyTree, piece: tuple[PyTree, Array]) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, so_far, block(points, piece)), None

        with jax.default_matmul_precision(self.precision):
            shapes = jax.eval_shape(block, points, jax.tree.map(lambda a: a[0], part))
            nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
            return jax.lax.scan(add, nothing, part)[0]


@functools.lru_cache(maxsize=64)
def _over_parts(fn: _Ascent, devices: tuple[jax.Device, ...]) -> Callable[..., tuple[Array, Array, PyTree]]:
    """Compile an ascent over examples on several devices; partial sums are added in order."""

    def run(key: Key, params: PyTree, radius: Array, parts: PyTree) -> tuple[Array, Array, PyTree]:
        def sums(points: PyTree) -> tuple[Array, PyTree]:
            return parallel.sum_over_parts(fn.sums, parts, params, points, devices=devices)

        return fn.maximize(jax.random.fold_in(key, 0), params, radius, sums, parts[1].sum())

    return jax.jit(run)
