"""Products of a curvature matrix with a vector: Hessian, generalised Gauss-Newton matrix, empirical Fisher matrix.

Each is written down for a micro-batch; ``operator.Product`` sums it over a data set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxsens.curvature import directional
from jaxsens.curvature.operator import Leaves, Product
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.typing import Array, Loss, PyTree, Where

__all__ = ["OutputCurvature", "fisher_product", "ggn_product", "hessian_product", "of_convex", "softmax_cross_entropy"]


class OutputCurvature(Protocol):
    """The curvature of a convex loss in a model's outputs, as a product."""

    def __call__(self, outputs: Array, targets: PyTree, change: Array, /) -> Array:
        """Map ``outputs [b *k]`` and a change of them ``[b *k]`` to ``(d^2 loss / d outputs^2) change``, ``[b *k]``."""
        ...


def hessian_product(loss: Loss, *, where: Where | None = None, execution: Execution = DEFAULT) -> Product:
    """Build ``v -> H v`` with ``H = d^2 L / d params^2`` and ``L`` the mean over examples of a loss per example.

    Forward over reverse differentiation (Pearlmutter, Fast Exact Multiplication by the Hessian, 1994).

    Args:
        loss: ``loss(params, batch)`` -> losses ``[b]``, deterministic.
        where: ``where(path, leaf)`` chooses among the floating-point leaves; by default all.
        execution: How to run; its ``chunk`` counts examples. See ``Product``.

    Returns:
        ``product(params, batch, v)`` -> ``H v``, in the units of the loss over those of the parameters, squared.

    Raises:
        ValueError: When called, if the loss does not give one number for each example,
            or as ``Product``.
        FloatingPointError: When called, if the result is not finite.
    """
    return Product(_Hessian(loss), where, execution)


def ggn_product(
    apply: Callable[[PyTree, PyTree], Array],
    curvature: OutputCurvature | None = None,
    *,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> Product:
    """Build ``v -> G v`` with ``G = mean_x J' C J``, J the Jacobian of the outputs and C the loss's curvature in them.

    It is the Hessian without the curvature of the model itself, positive semi-definite for a convex loss, and equal to
    the Hessian where outputs are linear in the parameters. For a likelihood with natural parameters as outputs
    (cross-entropy, squared error) it is the Fisher matrix (Martens, New Insights and Perspectives on the Natural
    Gradient Method, 2020, s.9).

    Args:
        apply: ``apply(params, inputs)`` -> outputs ``[b *k]``, deterministic. The batch is ``(inputs, targets)``.
        curvature: ``softmax_cross_entropy``, which is the default, or ``of_convex(loss)``.
        where: ``where(path, leaf)`` chooses among the floating-point leaves; by default all.
        execution: How to run; its ``chunk`` counts examples. See ``Product``.

    Returns:
        ``product(params, (inputs, targets), v)`` -> ``G v``.

    Raises:
        ValueError: As ``hessian_product``.
        FloatingPointError: As ``hessian_product``.
    """
    return Product(_GaussNewton(apply, softmax_cross_entropy if curvature is None else curvature), where, execution)


def fisher_product(loss: Loss, *, where: Where | None = None, execution: Execution = DEFAULT) -> Product:
    """Build ``v -> F v`` with the empirical Fisher matrix ``F = mean_x g g'``, ``g`` the gradient of an example's loss.

    The gradients are those at the labels of the data. Where labels are drawn from the model it is the Fisher matrix
    proper, which ``ggn_product`` gives without drawing; the two may differ much (Kunstner et al., Limitations of the
    Empirical Fisher Approximation, 2019).

    Args:
        loss: ``loss(params, batch)`` -> losses ``[b]``, deterministic.
        where: ``where(path, leaf)`` chooses among the floating-point leaves; by default all.
        execution: How to run; its ``chunk`` counts examples. See ``Product``.

    Returns:
        ``product(params, batch, v)`` -> ``F v``.

    Raises:
        ValueError: As ``hessian_product``.
        FloatingPointError: As ``hessian_product``.
    """
    return Product(_Fisher(loss), where, execution)


def softmax_cross_entropy(outputs: Array, targets: PyTree, change: Array) -> Array:
    """Return ``(diag(p) - p p') change`` for probabilities ``p`` over the last axis: no matrix, and no label is needed.

    The curvature of ``-log p[label]``, summed over the other axes of an example if there are any (tokens, say).

    Args:
        outputs: Logits ``[b *t k]``.
        targets: The labels, which do not matter.
        change: ``[b *t k]``.

    Raises:
        ValueError: If there are not two classes at least.
    """
    del targets
    if outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise ValueError(
            f"outputs must be logits [b *t k] of k >= 2 classes, got shape {outputs.shape}; for one logit an example "
            "pass curvature=of_convex(loss) with a logistic loss"
        )
    probabilities = jax.nn.softmax(outputs)
    return probabilities * (change - jnp.sum(probabilities * change, -1, keepdims=True))


def of_convex(loss: Callable[[Array, PyTree], Array]) -> OutputCurvature:
    """Return the curvature of any loss of outputs, ``loss(outputs [b *k], targets) -> [b]``, by differentiation.

    ``loss`` must be convex in the outputs; only then is the matrix positive semi-definite. That is not checked.

    Raises:
        ValueError: When called, if the loss does not give one number for each example.
    """
    return _OfConvex(loss)


@dataclass(frozen=True)
class _OfConvex:
    loss: Callable[[Array, PyTree], Array]

    def __call__(self, outputs: Array, targets: PyTree, change: Array) -> Array:
        def total(outputs: Array) -> Array:
            return _one_each(self.loss(outputs, targets), outputs).sum()

        _, derivative = jax.linearize(jax.grad(total), outputs)
        return derivative(change)


@dataclass(frozen=True)
class _OfLoss:
    """A matrix made of the losses of examples."""

    loss: Loss

    def forward(self, params: PyTree, examples: PyTree) -> Array:
        return _one_each(self.loss(params, examples), examples)


@dataclass(frozen=True)
class _Hessian(_OfLoss):
    def product(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Leaves]:
        return jax.linearize(jax.grad(self._total(restore, examples, weights)), at)[1]

    def form(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Array]:
        total = self._total(restore, examples, weights)
        if directional.is_forwards(total, at):
            return directional.along_lines(total, at)
        product = self.product(restore, at, examples, weights)
        return lambda direction: sum(jnp.vdot(d, image) for d, image in zip(direction, product(direction), strict=True))

    def _total(
        self, restore: Callable[[Leaves], PyTree], examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Array]:
        def total(leaves: Leaves) -> Array:
            losses = self.loss(restore(leaves), examples)
            return jnp.sum(losses * weights.astype(losses.dtype))

        return total


@dataclass(frozen=True)
class _GaussNewton:
    apply: Callable[[PyTree, PyTree], Array]
    curvature: OutputCurvature

    def forward(self, params: PyTree, examples: PyTree) -> Array:
        if not (isinstance(examples, tuple | list) and len(examples) == 2):
            raise ValueError(f"batch must be a pair (inputs, targets), got a {type(examples).__name__}")
        inputs, targets = examples
        outputs = self.apply(params, inputs)
        if jnp.shape(outputs)[:1] != jnp.shape(jax.tree.leaves(inputs)[0])[:1]:
            raise ValueError(f"apply must give one array of outputs, [b *k], got shape {jnp.shape(outputs)}")
        self.curvature(outputs, targets, outputs)
        return outputs

    def product(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Leaves]:
        forward, bent = self._both(restore, at, examples, weights)
        backward = jax.linear_transpose(forward, at)
        return lambda direction: backward(bent(forward(direction)))[0]

    def form(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Array]:
        forward, bent = self._both(restore, at, examples, weights)

        def form(direction: Leaves) -> Array:
            change = forward(direction)
            return jnp.sum(change * bent(change))

        return form

    def _both(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> tuple[Callable[[Leaves], Array], Callable[[Array], Array]]:
        """Return how outputs change with the parameters, and the curvature of the weighted loss in the outputs."""
        inputs, targets = examples
        outputs, forward = jax.linearize(lambda leaves: self.apply(restore(leaves), inputs), at)

        def bent(change: Array) -> Array:
            found = self.curvature(outputs, targets, change)
            return weights.astype(found.dtype).reshape(-1, *[1] * (found.ndim - 1)) * found

        return forward, bent


@dataclass(frozen=True)
class _Fisher(_OfLoss):
    def product(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Leaves]:
        forward = self._along(restore, at, examples)
        backward = jax.linear_transpose(forward, at)

        def product(direction: Leaves) -> Leaves:
            slopes = forward(direction)
            return backward(weights.astype(slopes.dtype) * slopes)[0]

        return product

    def form(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Array]:
        forward = self._along(restore, at, examples)

        def form(direction: Leaves) -> Array:
            slopes = forward(direction)
            return jnp.sum(weights.astype(slopes.dtype) * slopes**2)

        return form

    def _along(self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree) -> Callable[[Leaves], Array]:
        """Return the slopes ``[b]`` of the examples' losses."""
        return jax.linearize(lambda leaves: self.loss(restore(leaves), examples), at)[1]


def _one_each(losses: Array, examples: PyTree) -> Array:
    count = jnp.shape(jax.tree.leaves(examples)[0])[0]
    if jnp.shape(losses) != (count,):
        raise ValueError(
            f"loss must give one number for each example, [b], got shape {jnp.shape(losses)} for a batch of {count}; "
            "the mean over examples is taken here"
        )
    return losses
