"""Sharpness-aware training: the gradient where the loss near the weights is largest, to first order.

``delta = radius s^2 g / ||s g||_2`` with ``g`` the gradient at the weights and ``s`` their scale: 1 in SAM (Foret et
al., Sharpness-Aware Minimization, ICLR 2021, Eq. 2), ``|w|`` in ASAM (Kwon et al., ASAM, ICML 2021, s.3; without the
offset of its code). A gradient of 0 gives ``delta = 0``.

There are two forms of the same step: an ``Objective`` for ``training.fit``, which keeps its optimizer, schedule, parts
and checkpoints; and an optax transformation for your own training loops.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxsens import norm_balls, scales
from jaxsens.execution.checks import require_functions
from jaxsens.training.checks import require_number
from jaxsens.training.objectives import CrossEntropy, Objective
from jaxsens.typing import Array, Key, PyTree, Scale, TrainApply

__all__ = ["SharpnessAware", "sharpness_aware", "worst_step"]


def worst_step(params: PyTree, gradient: PyTree, radius: Array | float, scale: Scale = scales.absolute) -> PyTree:
    """Return ``radius s^2 g / ||s g||_2``, the maximum of the linearized loss over ``||delta / s||_2 <= radius``.

    Norms are computed in float32 or wider, whatever the dtype of the weights, and of numbers divided by the largest:
    in float16 the reciprocal of a gradient below 1.5e-5 overflows, and in float32 the product ``s g`` may vanish.

    Args:
        params: The weights.
        gradient: The gradient ``g`` at the weights.
        radius: The radius of the ball, in units of the weights for ``scales.absolute``, else without a unit.
        scale: The scale ``s`` of the weights.

    Returns:
        The step, in the structure and the dtypes of the weights; 0 where the gradient is 0.

    Example:
        >>> worst_step({"w": jnp.zeros(2)}, {"w": jnp.array([3.0, 4.0])}, 0.5)["w"]
        Array([0.3, 0.4], dtype=float32)
    """
    sizes = jax.tree.map(_at_least_float32, scale(params))
    # Divided first: products of small numbers would vanish.
    factors = norm_balls.largest_one(sizes), norm_balls.largest_one(gradient)
    uphill = norm_balls.steepest_direction(jax.tree.map(jnp.multiply, *factors), "l2")
    return jax.tree.map(lambda w, s, u: (radius * s * u).astype(w.dtype), params, sizes, uphill)


def _at_least_float32(leaf: Array) -> Array:
    return jnp.asarray(leaf, jnp.promote_types(leaf.dtype, jnp.float32))


@dataclass(frozen=True)
class SharpnessAware:
    """The loss at the worst weights nearby, ``L(w + delta)``, as an objective: SAM, or ASAM by its scale.

    The gradient treats ``delta`` as a constant, as SAM does. Both evaluations use the same dropout and noise, and batch
    statistics are those at the weights themselves. With ``parts`` above 1 in ``training.Config`` each part has its own
    ``delta``, which is m-sharpness for parts of m examples (s.4.1 of Foret et al.).

    Attributes:
        objective: The loss ``L``.
        radius: The radius of the ball, in the units of the weights for SAM, without units for ASAM; 0 gives ``L``.
        scale: ``scales.absolute`` for SAM, ``scales.by_element`` for ASAM.

    Raises:
        ValueError: If the radius is negative or not finite.

    Example:
        >>> SharpnessAware(radius=0.1).radius
        0.1
    """

    objective: Objective = CrossEntropy()  # noqa: RUF009 (a frozen dataclass)
    radius: float = 0.05
    scale: Scale = scales.absolute

    def __post_init__(self) -> None:
        require_functions(objective=self.objective, scale=self.scale)
        _require_radius(self.radius)

    @property
    def class_labels(self) -> bool:
        """Whether labels are class numbers, which depends on the objective."""
        return getattr(self.objective, "class_labels", False)

    def __call__(
        self, train_apply: TrainApply, variables: PyTree, tokens: Array, labels: Array, key: Key
    ) -> tuple[Array, PyTree]:
        """Return the loss and the updated variables."""

        def loss(params: PyTree) -> tuple[Array, PyTree]:
            return self.objective(train_apply, {**variables, "params": params}, tokens, labels, key)

        # Constants: neither the way there nor the batch statistics are differentiated.
        here = jax.lax.stop_gradient(variables["params"])
        gradient, updated = jax.grad(loss, has_aux=True)(here)
        delta = worst_step(here, gradient, self.radius, self.scale)
        return loss(jax.tree.map(jnp.add, variables["params"], delta))[0], updated


def sharpness_aware(
    optimizer: optax.GradientTransformation, radius: float, scale: Scale = scales.absolute
) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer that steps by the gradient at the worst weights nearby: SAM, or ASAM by its scale.

    Args:
        optimizer: The optimizer that uses that gradient, such as ``optax.sgd(0.1)``.
        radius: The radius of the ball, in the units of the weights for SAM, without units for ASAM.
        scale: ``scales.absolute`` for SAM, ``scales.by_element`` for ASAM.

    Returns:
        A transformation whose ``update(gradient, state, params, gradient_of=...)`` needs the gradient of the step's own
        batch as a function of the params; the state is that of ``optimizer``.

    Raises:
        ValueError: If the radius is negative or not finite; from ``update``, without params.

    Example:
        >>> rule = sharpness_aware(optax.sgd(1.0), radius=0.5)
        >>> params = jnp.array([2.0])
        >>> step, _ = rule.update(2 * params, rule.init(params), params, gradient_of=lambda w: 2 * w)
        >>> step  # minus the gradient at 2.5
        Array([-5.], dtype=float32)
    """
    _require_radius(radius)
    require_functions(scale=scale)
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(f"optimizer must be an optax transformation, such as optax.sgd(0.1), got {optimizer!r}")
    inner = optax.with_extra_args_support(optimizer)

    def update(
        gradient: PyTree,
        state: PyTree,
        params: PyTree | None = None,
        *,
        gradient_of: Callable[[PyTree], PyTree],
        **extra: Any,
    ) -> tuple[PyTree, PyTree]:
        if params is None:
            raise ValueError("params must be given to update: the gradient is taken near them, got None")
        worst = jax.tree.map(jnp.add, params, worst_step(params, gradient, radius, scale))
        return inner.update(gradient_of(worst), state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _require_radius(radius: float) -> None:
    require_number("radius", radius, "a finite number of at least 0", 0, float("inf"))
