"""Sharpness-aware training: the gradient where the loss near the weights is largest, to first order.

``delta = radius s^2 g / ||s g||_2`` with ``g`` the gradient at the weights and ``s`` their scale: 1 in SAM (Foret et
al., Sharpness-Aware Minimization, ICLR 2021, Eq. 2), ``|w|`` in ASAM (Kwon et al., ASAM, ICML 2021, s.3; without the
offset of its code). A gradient of 0 gives ``delta = 0``.

Two forms of one step: an ``Objective`` for ``training.fit``, whose optimiser, schedule, parts and checkpoints stay as
they are; and an optax transformation for loops of the user's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsens import norm_balls, scales
from jaxsens.training.objectives import CrossEntropy, Objective
from jaxsens.typing import Array, Key, PyTree, Scale, TrainApply

__all__ = ["SharpnessAware", "sharpness_aware", "worst_step"]


def worst_step(params: PyTree, gradient: PyTree, radius: Array | float, scale: Scale = scales.absolute) -> PyTree:
    """Return ``radius s^2 g / ||s g||_2``, the maximum of the linearised loss over ``||delta / s||_2 <= radius``."""
    sizes = scale(params)
    uphill = norm_balls.steepest_direction(jax.tree.map(jnp.multiply, sizes, gradient), "l2")
    return jax.tree.map(lambda w, s, u: (radius * s * u).astype(w.dtype), params, sizes, uphill)


@dataclass(frozen=True)
class SharpnessAware:
    """The loss at the worst weights nearby, ``L(w + delta)``, as an objective: SAM, or ASAM by its scale.

    Its gradient takes ``delta`` for a constant, as SAM does. Both evaluations have the same dropout and noise, and
    batch statistics are those at the weights themselves. With ``parts`` above 1 in ``training.Config`` each part has a
    ``delta`` of its own, which is m-sharpness for parts of m examples (s.4.1 of Foret et al.).

    Attributes:
        objective: What to be sharpness-aware about.
        radius: Of the ball, in the units of the weights for SAM, without units for ASAM; 0 gives the objective back.
        scale: ``scales.absolute`` for SAM, ``scales.by_element`` for ASAM.
    """

    objective: Objective = CrossEntropy()  # noqa: RUF009 (a frozen dataclass)
    radius: float = 0.05
    scale: Scale = scales.absolute

    def __post_init__(self) -> None:
        _require_radius(self.radius)

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
    optimiser: optax.GradientTransformation, radius: float, scale: Scale = scales.absolute
) -> optax.GradientTransformationExtraArgs:
    """Return an optimiser that steps by the gradient at the worst weights nearby: SAM, or ASAM by its scale.

    Args:
        optimiser: What makes a step of the gradient, such as ``optax.sgd(0.1)``.
        radius: Of the ball, in the units of the weights for SAM, without units for ASAM.
        scale: ``scales.absolute`` for SAM, ``scales.by_element`` for ASAM.

    Returns:
        A transformation whose ``update(gradient, state, params, gradient_of=...)`` needs the gradient of the step's own
        batch as a function of the params; the state is that of ``optimiser``.

    Raises:
        ValueError: If the radius is negative or not finite; from ``update``, without params.
    """
    _require_radius(radius)
    inner = optax.with_extra_args_support(optimiser)

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
    if not (np.isfinite(radius) and radius >= 0):
        raise ValueError(f"radius must be a finite number of at least 0, got {radius}")
