"""The check that a model evaluates each example independently of the others, and twice with the same result."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from jaxsens.execution import batches, checks
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.typing import PyTree

__all__ = ["independent_outputs", "require_independent"]

# Between evaluations of one shape, the row of an example is computed by the same instructions: it is equal to the bit.
_SAME_ROW = 1e-4, 1e-6
# Another row of the batch, or another launch, may be rounded differently, which networks can amplify.
_OTHER_ROW = 3e-2, 1e-4


def require_independent(
    apply: Callable[[PyTree, PyTree], PyTree], params: PyTree, batch: PyTree, *, execution: Execution = DEFAULT
) -> None:
    """Raise ValueError if the outputs for an example depend on the other examples, its place or the evaluation.

    Batch normalization in training mode, dropout and other noise do so, and every measure of such a model depends on
    the chunk. Two examples are evaluated: the first with the last, the first with itself, and the former again.
    This is done once for each function and set of shapes, and not at all with ``Execution(check=False)``. Outputs that
    are not finite are left to the measure, which names them.

    Args:
        apply: ``apply(params, batch)`` -> outputs ``[b *k]``, or losses ``[b]``.
        params: Its parameters.
        batch: Examples with a leading axis ``b``; the first and the last are evaluated.
        execution: Its ``check`` switches the check off, and its ``precision`` is that of matrix products.

    Raises:
        ValueError: If outputs for the first example differ.

    Example:
        >>> require_independent(lambda w, x: x @ w, np.ones((3, 2)), np.eye(3))
        >>> require_independent(lambda w, x: x - x.mean(0, keepdims=True), None, np.eye(3))
        Traceback (most recent call last):
        ValueError: the model gives other outputs for an example when another example is beside it, ...
    """
    independent_outputs(apply, params, batch, execution=execution)


def independent_outputs(
    apply: Callable[[PyTree, PyTree], PyTree], params: PyTree, batch: PyTree, *, execution: Execution = DEFAULT
) -> list[np.ndarray] | None:
    """Check as ``require_independent`` does, and return the leaves of the outputs for the first and the last example.

    None is returned where nothing was evaluated, since the check was passed before or is off.

    Example:
        >>> independent_outputs(lambda w, x: x @ w, np.ones((3, 2)), np.eye(3))
        [array([[1., 1.],
               [1., 1.]], dtype=float32)]
    """
    checks.device_arrays(params, "params")  # refuses traced ones
    checks.require_outside()
    if not execution.check:
        return None
    passed = _passed(apply, execution.precision, _signature(params, batch))
    if passed:
        return None
    count = batches.count_of(batch)

    def outputs(*rows: int) -> list[np.ndarray]:
        examples = jax.tree.map(lambda a: np.asarray(a)[list(rows)], batch)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(_evaluate(apply, execution.precision, params, examples))]

    beside, alone, again = outputs(0, count - 1), outputs(0, 0), outputs(0, count - 1)
    if not all(np.isfinite(leaf).all() for leaf in (*beside, *alone, *again)):
        return None
    for leaf in beside:
        if leaf.shape[:1] != (2,):
            raise ValueError(f"the model must give outputs [b *k], one for each example, got {leaf.shape} for two")
    remedy = "; use its evaluation mode, or Execution(check=False) if this is intended"
    for one, both, repeated in zip(alone, beside, again, strict=True):
        if _differ(both[0], one[0], *_SAME_ROW):
            raise ValueError(
                "the model gives other outputs for an example when another example is beside it, as batch "
                f"normalization in training mode does{remedy}"
            )
        if _differ(one[0], one[1], *_OTHER_ROW):
            raise ValueError(
                "the model gives other outputs for the same example at another place in the batch, as dropout in "
                f"training mode does{remedy}"
            )
        if _differ(both, repeated, *_OTHER_ROW):
            raise ValueError(
                f"the model gives other outputs when it is evaluated again on the same examples: it is random{remedy}"
            )
    passed.append(True)
    return beside


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(apply: Callable[[PyTree, PyTree], PyTree], precision: str, params: PyTree, batch: PyTree) -> PyTree:
    with jax.default_matmul_precision(precision):
        return apply(params, batch)


@functools.lru_cache(maxsize=256)
def _passed(*_: object) -> list[bool]:
    """Return the mark of a function and its shapes, which holds something once the check is passed."""
    return []


def _signature(params: PyTree, batch: PyTree) -> tuple[object, ...]:
    leaves, structure = jax.tree.flatten((params, jax.tree.map(lambda a: a[:1], batch)))
    return structure, *((np.shape(leaf), str(getattr(leaf, "dtype", type(leaf)))) for leaf in leaves)


def _differ(first: np.ndarray, second: np.ndarray, relative: float, absolute: float) -> bool:
    first, second = (np.asarray(a, np.complex128 if np.iscomplexobj(a) else np.float64) for a in (first, second))
    return bool(np.abs(first - second).max(initial=0) > relative * np.abs(first).max(initial=0) + absolute)
