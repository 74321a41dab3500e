"""The loss along a line, on a plane or in a box through the weights, as arrays ready to plot.

Li et al., Visualizing the Loss Landscape of Neural Nets (NeurIPS 2018): s.4 for filter normalization.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import labels, parameters, perturb, scales
from jaxsens.execution import batches, checks, memory, parallel
from jaxsens.execution.checks import device_arrays, host_arrays, require_count
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array, Axes, Figure, Key, Loss, PyTree, Scale, Where

__all__ = ["LossPlane", "loss_plane", "random_directions"]


@partial(jax.tree_util.register_dataclass, data_fields=["coordinates", "losses"], meta_fields=[])
@dataclass(frozen=True, repr=False)
class LossPlane(Result):
    """The loss on a grid of points, as measured by ``loss_plane``.

    Attributes:
        coordinates: Along each direction, ``[p]`` or ``[p] [q]``.
        losses: The mean loss at each point, with its standard error over examples: ``losses.mean [p q]``,
            ``losses.sem [p q]``, ``losses.values [b p q]``.

    Example:
        >>> result = LossPlane((np.array([0.0, 1.0]),), estimate.from_values([[1.0, 2.0], [3.0, 4.0]], unit="examples"))
        >>> result.losses.mean.tolist()
        [2.0, 3.0]
    """

    coordinates: tuple[np.ndarray, ...]
    losses: Estimate

    @property
    def estimate(self) -> Estimate:
        """The mean loss at each point, ``losses``."""
        return self.losses

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the confidence interval ``(low, high)`` of the loss at each point; see ``Estimate.interval``."""
        return self.losses.interval(level)

    def minus(self, other: "LossPlane") -> Estimate:
        """Estimate how much larger the loss is than on another plane, at each point, over the same examples.

        Raises:
            ValueError: If coordinates or the numbers of examples differ.
        """
        same = isinstance(other, LossPlane) and len(self.coordinates) == len(other.coordinates)
        if not (same and all(map(np.array_equal, self.coordinates, other.coordinates))):
            raise ValueError("other must be a LossPlane at the same coordinates")
        return self.losses.minus(other.losses)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the loss along a line with its 95 % interval, or contours of it on a plane.

        Raises:
            ValueError: If there are more than two directions.
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        if len(self.coordinates) == 1:
            lines = self.coordinates[0], self.losses.mean, *self.interval()
            return draw("line_with_band", ax, *lines, across="coordinate", quantity="mean loss")
        if len(self.coordinates) > 2:
            raise ValueError(f"a loss along {len(self.coordinates)} directions cannot be drawn: measure two")
        return draw("plane", ax, *self.coordinates, self.losses.mean, quantity="mean loss")

    def _describe(self) -> Description:
        points = " x ".join(str(len(axis)) for axis in self.coordinates)
        counts = f"{points} points, {times(examples=self.losses.count)}"
        lowest, highest = float(self.losses.mean.min()), float(self.losses.mean.max())

        def table() -> dict[str, np.ndarray]:
            low, high = self.interval()
            axes = {f"coordinate_{i}": axis for i, axis in enumerate(self.coordinates)}
            return tidy(axes, {"loss": self.losses.mean, "sem": self.losses.sem, "low": low, "high": high})

        return Description(counts, words=f"loss {lowest:.3g} to {highest:.3g}", table=table)


def random_directions(
    key: Key, params: PyTree, count: int, *, scale: Scale = scales.by_filter, where: Where | None = None
) -> list[PyTree]:
    """Draw directions from ``N(0, I)`` and make them as large as the weights, ``d * s(w) / s(d)``.

    With ``scales.by_filter`` this is filter normalization (Li et al., Visualizing the Loss Landscape of Neural Nets,
    s.4): every filter of a direction has the norm of the same filter of the weights, so that planes of several networks
    can be compared. Directions are not made orthogonal; in many dimensions they nearly are.

    Args:
        key: Decides the draws.
        params: The weights that the directions belong to.
        count: The number of directions: 1 for a line, 2 for a plane.
        scale: The scale ``s`` that is made equal; ``scales.absolute`` leaves directions as drawn.
        where: ``where(path, leaf)`` narrows the leaves that move; the others get 0.

    Returns:
        ``count`` pytrees like ``params``, with weights in float32 at least.

    Raises:
        ValueError: If ``count`` is not an integer of at least 1, the key is not a typed threefry key, or no leaf is
            chosen.

    Example:
        >>> params = {"w": np.eye(2, dtype=np.float32)}
        >>> (direction,) = random_directions(jax.random.key(0), params, 1)
        >>> np.linalg.norm(direction["w"], axis=0).round(4).tolist()
        [1.0, 1.0]
    """
    checks.require_functions(scale=scale, where=where)
    require_key(key, traced=True)
    return _directions(key, params, require_count("count", count, hint=" direction"), scale, where)


@partial(jax.jit, static_argnames=("count", "scale", "where"))
def _directions(key: Key, params: PyTree, count: int, scale: Scale, where: Where | None) -> list[PyTree]:
    weights, _ = parameters.weights(params, where)
    weights = parameters.widened(weights)
    _, put_into_zeros = parameters.weights(parameters.zeros_like(params), where)
    center = tuple(jnp.zeros_like(w) for w in weights)
    drawn = [perturb.gaussian(1.0)(key, jnp.uint32(i), center) for i in range(count)]
    return [put_into_zeros(scales.rescale(direction, weights, scale)) for direction in drawn]


def loss_plane(
    loss: Loss,
    *coordinates: Array,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> Callable[[PyTree, Sequence[PyTree], PyTree], LossPlane]:
    """Measure ``L(w + a d_1 + b d_2)`` on a grid of ``a`` and ``b``, with ``L`` the mean of a loss per example.

    Args:
        loss: ``loss(params, batch)`` -> losses ``[b]``, deterministic.
        *coordinates: The values of ``a [p]``, then of ``b [q]``, in units of the directions; one vector for each
            direction.
        where: ``where(path, leaf)`` narrows the leaves that move, to a layer for instance.
        execution: How to run; its ``chunk`` counts model forwards, examples times points.

    Returns:
        ``measure(params, directions, batch)`` -> ``LossPlane``. Directions are a list of pytrees like ``params``, such
        as those of ``random_directions``, or the difference of two checkpoints; or one such pytree with a leading axis
        of directions, such as the vectors of ``curvature.top_eigenpairs``. Weights in float16 or bfloat16 are
        moved and evaluated as float32.

    Raises:
        ValueError: If there are no coordinates, or they are not finite vectors; when called, if there is not one
            direction like ``params`` for each of them, the batch is empty or does not fit the model, losses depend on
            the batch or are not one number for each example, or no leaf is chosen.
        FloatingPointError: When called, if a loss is not finite; the message says at which coordinates.

    Example:
        >>> loss = lambda w, x: ((x @ w) ** 2).sum(1)
        >>> w = np.eye(2, dtype=np.float32)
        >>> loss_plane(loss, [0, 1])(w, [w], np.ones((3, 2), np.float32)).losses.mean.tolist()
        [2.0, 8.0]
    """
    require_execution(execution)
    checks.require_functions(loss=loss, where=where)
    axes = _coordinates(coordinates)
    points = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], 1)

    def measure(params: PyTree, directions: Sequence[PyTree], batch: PyTree) -> LossPlane:
        batch, params = host_arrays(batch, "batch"), device_arrays(params, "params")
        directions = device_arrays(directions, "directions")
        batch = labels.check_batch(loss, params, batch)
        count, spec = batches.count_of(batch), batches.example_spec(batch)
        batches.require_fit(loss, params, spec, scalar=True)
        directions = _separate(params, directions, len(axes))
        labels.check_examples(loss, loss, params, batch, execution=execution)
        forwards = execution.chunk or memory.chunk_of(loss, params, spec, execution=execution)
        rows, at_once = batches.split_blocks(len(points), count, forwards, memory.room_for_copies(params, execution))
        losses = parallel.map_items(
            parallel.bind(_losses, loss, where),
            points.astype(jax.dtypes.canonicalize_dtype(points.dtype)),
            params,
            tuple(directions),
            batches.in_blocks(batch, -(-count // rows), rows),
            execution=execution.replace(chunk=at_once),
        )
        losses = losses.reshape(len(points), -1)[:, :count]
        if not np.isfinite(losses).all():
            point, example = np.argwhere(~np.isfinite(losses))[0].tolist()
            raise FloatingPointError(
                f"the loss is {losses[point, example]} at coordinates {points[point].tolist()} for example {example}: "
                "coordinates nearer to 0 may help"
            )
        return LossPlane(axes, estimate.from_values(losses.T.reshape(count, *map(len, axes)), unit="examples"))

    return measure


def _losses(
    loss: Loss, where: Where | None, point: Array, params: PyTree, directions: tuple[PyTree, ...], batch: PyTree
) -> Array:
    """Return the losses ``[blocks rows]`` of all examples at one point."""
    weights, put_back = parameters.weights(params, where)
    moved = list(parameters.widened(weights))
    for i, direction in enumerate(directions):
        steps, _ = parameters.weights(direction, where)
        moved = [(w + point[i] * d).astype(w.dtype) for w, d in zip(moved, steps, strict=True)]
    return jax.lax.map(lambda examples: loss(put_back(moved), examples), batch)


def _coordinates(coordinates: tuple[Array, ...]) -> tuple[np.ndarray, ...]:
    """Return the coordinates in float64, if they are finite vectors of numbers."""

    def vector(values: Array) -> np.ndarray | None:
        try:
            array = np.asarray(values)
        except (TypeError, ValueError):  # traced, or ragged
            return None
        valid = (
            array.dtype.kind in "iuf" and array.ndim == 1 and array.size and not isinstance(values, np.ma.MaskedArray)
        )
        return array.astype(np.float64) if valid and np.isfinite(array).all() else None

    axes = tuple(map(vector, coordinates))
    if not axes or any(axis is None for axis in axes):
        raise ValueError(f"coordinates must be finite vectors, one for each direction, got {coordinates}")
    return axes


def _separate(params: PyTree, directions: PyTree, count: int) -> Sequence[PyTree]:
    """Return the directions as a list of pytrees like ``params``, or raise ValueError."""
    structure, shapes = jax.tree.structure(params), [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
    stacked = [(count, *shape) for shape in shapes]
    if jax.tree.structure(directions) == structure and stacked == [jnp.shape(a) for a in jax.tree.leaves(directions)]:
        return [batches.select_model(directions, i) for i in range(count)]
    if not isinstance(directions, list | tuple):
        raise ValueError(
            f"directions must be a list of pytrees like params, or one with a leading axis of {count}, got a "
            f"{type(directions).__name__}"
        )
    if len(directions) != count:
        raise ValueError(
            f"directions must be as many as there are vectors of coordinates, {count}, got {len(directions)}"
        )
    like = jax.eval_shape(lambda tree: tree, params)
    for i, direction in enumerate(directions):
        shapes = jax.eval_shape(lambda tree: tree, direction)
        same = jax.tree.structure(shapes) == jax.tree.structure(like) and all(
            a.shape == b.shape for a, b in zip(jax.tree.leaves(shapes), jax.tree.leaves(like), strict=True)
        )
        if not same:
            raise ValueError(f"directions[{i}] must be a pytree like params, got {shapes} for {like}")
    return directions
