"""Projected gradient ascent in a ball with the step schedule of APGD: one compiled loop over all starts.

Croce and Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks (ICML
2020), s.3: steps begin at twice the radius, with momentum, and are halved at checkpoints where the ascent stalls; it
then continues from the best point so far. Differences: the momentum is 0 after such a return, and the center of the
ball is evaluated first. What is returned is never worse than the center; but an ascent never returns to it, since the
gradient may be 0 there, at a saddle or a minimum.

In few iterations one start may end below the maximum. On a saddle with curvatures from -100 to 10, 20 % of random
starts were more than 1 % below it after 20 iterations, and none after 50; first steps of the radius, or of half of it,
were no better. Where a function has several maxima, only more starts help.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import norm_balls
from jaxsens.typing import Array, PyTree

__all__ = ["AscentResult", "ascend"]

_MOMENTUM = 0.75  # the share of the new step
_PROGRESS = 0.75  # the fraction of steps between two checkpoints that must go up


class AscentResult(NamedTuple):
    """The result of an ascent from ``r`` starts.

    Attributes:
        values: The function at the center, at the start and at every later iterate ``[r iterations+1]``.
        points: The best point of each ascent ``[r ...]``; the center, 0, where no other point is better.
        uphill: Whether the gradient at the center is not 0 ``[r]``.

    Example:
        >>> AscentResult(values=np.zeros((1, 3)), points=np.zeros((1, 2)), uphill=np.array([False])).values.shape
        (1, 3)
    """

    values: Array
    points: PyTree
    uphill: Array


class _State(NamedTuple):
    point: PyTree
    before: PyTree
    value: Array
    best: Array
    best_point: PyTree
    best_gradient: PyTree
    step: Array
    rises: Array
    halved: Array
    best_at_mark: Array
    uphill: Array


def ascend(
    evaluate: Callable[[PyTree], tuple[Array, PyTree]],
    starts: PyTree,
    radius: Array,
    *,
    norm: str,
    iterations: int,
) -> AscentResult:
    """Maximize a function over ``||point|| <= radius``, from several starts at once.

    Unless the gradient at the center is 0, the first start is replaced by the maximum of the linearized function,
    ``radius * steepest_direction(gradient at 0)``.

    Args:
        evaluate: ``evaluate(points [r ...])`` -> ``(values [r], gradients [r ...])``.
        starts: Where the ascents begin ``[r ...]``, in float32 at least.
        radius: The radius of the ball, a scalar.
        norm: One of ``norm_balls.NORMS``.
        iterations: Evaluations after the one at the center; the first is that of the start.

    Returns:
        Values at all points of the ascents, and the best points.

    Example:
        >>> evaluate = lambda points: (jnp.sum(points**2 / 2, 1), points)
        >>> result = ascend(evaluate, jnp.array([[0.1, 0.1]]), 2.0, norm="l2", iterations=5)
        >>> float(result.values.max().round(3))
        2.0
    """
    count = len(jax.tree.leaves(starts)[0])
    center = jax.tree.map(jnp.zeros_like, starts)
    kind = jax.eval_shape(evaluate, starts)[0].dtype
    lowest = jnp.full(count, -jnp.inf, kind)
    step = jnp.full(count, 2 * radius, kind)
    nothing = jnp.zeros(count, jnp.int32)
    # At the first checkpoint there is no earlier one that may have halved already.
    state = _State(
        center, center, -lowest, lowest, center, center, step, nothing, jnp.ones(count, bool), lowest,
        jnp.zeros(count, bool),
    )  # fmt: skip
    advance = jax.vmap(_advance, in_axes=(0, 0, 0, 0, 0, None, None, None, None))
    greedy = jnp.arange(count) == 0

    def one(state: _State, now: tuple[Array, Array]) -> tuple[_State, Array]:
        number, window = now
        values, gradients = evaluate(state.point)
        return advance(state, starts, greedy, values, gradients, number, window, radius, norm), values

    # The evaluation at the center is one more turn of the same loop: there the function is equal to the bit.
    turns = (jnp.arange(iterations + 1), jnp.asarray(_windows(iterations)))
    state, values = jax.lax.scan(one, state, turns)
    points = jax.vmap(_select)(state.best > values[0], state.best_point, center)
    return AscentResult(values.T, points, state.uphill)


def _advance(
    state: _State,
    start: PyTree,
    greedy: Array,
    value: Array,
    gradient: PyTree,
    number: Array,
    window: Array,
    radius: Array,
    norm: str,
) -> _State:
    """Update the state by the value and the gradient at its point, and choose the next point; for one start."""
    first = number == 0
    better = (value > state.best) & ~first
    best = jnp.where(better, value, state.best)
    best_point = _select(better, state.point, state.best_point)
    best_gradient = _select(better, gradient, state.best_gradient)
    rises = state.rises + (value > state.value)

    mark = window > 0
    stalled = ~state.halved & (best <= state.best_at_mark)
    halve = mark & ((rises < _PROGRESS * window) | stalled)
    step = jnp.where(halve, state.step / 2, state.step)
    point = _select(halve, best_point, state.point)
    before = _select(halve, best_point, state.before)
    uphill = jnp.where(first, norm_balls.norm(gradient, "linf") > 0, state.uphill)

    toward = _combine(point, step, norm_balls.steepest_direction(_select(halve, best_gradient, gradient), norm))
    toward = norm_balls.project(toward, radius, norm)
    moved = jax.tree.map(
        lambda p, t, b: (p + _MOMENTUM * (t - p) + (1 - _MOMENTUM) * (p - b)).astype(p.dtype), point, toward, before
    )
    follow = greedy & uphill
    begin = _select(
        follow,
        norm_balls.project(_combine(point, radius, norm_balls.steepest_direction(gradient, norm)), radius, norm),
        start,
    )
    return _State(
        point=_select(first, begin, norm_balls.project(moved, radius, norm)),
        before=_select(first & ~follow, start, point),
        value=jnp.where(halve, best, value),
        best=best,
        best_point=best_point,
        best_gradient=best_gradient,
        step=step,
        rises=jnp.where(mark, 0, rises),
        halved=jnp.where(mark, halve, state.halved),
        best_at_mark=jnp.where(mark, best, state.best_at_mark),
        uphill=uphill,
    )


def _windows(iterations: int) -> np.ndarray:
    """Return for every turn 0 unless it is a checkpoint, else the number of turns since the last ``[iterations + 1]``.

    The checkpoints are ``ceil(p_j iterations)`` with ``p_0 = 0``, ``p_1 = 0.22`` and ``p_{j+1} = p_j + max(p_j -
    p_{j-1} - 0.03, 0.06)``; in hundredths, so that rounding moves none of them.
    """
    windows = np.zeros(iterations + 1, np.int32)
    before, share, last = 0, 22, 0
    while share <= 100:
        turn = -(-share * iterations // 100)
        if turn > last:  # with few iterations several fall together
            windows[turn] = turn - last
        before, share, last = share, share + max(share - before - 3, 6), turn
    return windows


def _select(condition: Array, one: PyTree, other: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def _combine(point: PyTree, step: Array, direction: PyTree) -> PyTree:
    return jax.tree.map(lambda p, d: (p + step * d).astype(p.dtype), point, direction)
