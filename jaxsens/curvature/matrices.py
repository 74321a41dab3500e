"""Products of a curvature matrix with a vector: Hessian, generalized Gauss-Newton matrix, empirical Fisher matrix.

Each is written down for a micro-batch; ``operator.Product`` sums it over a data set. (Arguments and errors of all three
are documented here, which makes the file long.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxsens import labels
from jaxsens.curvature import directional
from jaxsens.curvature.operator import Leaves, Product
from jaxsens.execution import batches, checks
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.typing import Array, Loss, PyTree, Where

__all__ = ["OutputCurvature", "fisher_product", "ggn_product", "hessian_product", "of_convex", "softmax_cross_entropy"]


class OutputCurvature(Protocol):
    """The curvature of a convex loss in a model's outputs, as a product.

    Example:
        >>> squared: OutputCurvature = lambda outputs, targets, change: 2 * change    # of (outputs - targets)^2
    """

    def __call__(self, outputs: Array, targets: PyTree, change: Array, /) -> Array:
        """Map ``outputs [b *k]`` and a change of them ``[b *k]`` to ``(d^2 loss / d outputs^2) change``, ``[b *k]``."""
        ...


def hessian_product(loss: Loss, *, where: Where | None = None, execution: Execution = DEFAULT) -> Product:
    """Build ``v -> H v`` with ``H = d^2 L / d params^2`` and ``L`` the mean over examples of a loss per example.

    Forward over reverse differentiation (Pearlmutter, Fast Exact Multiplication by the Hessian, 1994). No matrix is
    held: a product takes the memory of one micro-batch.

    Each of several processes computes whole products; the work is not shared among them.

    Args:
        loss: ``loss(params, batch)`` -> losses ``[b]``, deterministic, of each example independently.
            ``classification.CrossEntropy(apply)`` also checks the labels.
        where: ``where(path, leaf)`` chooses among the floating-point leaves; by default all.
        execution: How to run; its ``chunk`` counts examples. See ``Product``.

    Returns:
        ``product(params, batch, v)`` -> ``H v``, in the units of the loss over those of the parameters, squared. ``v``
        is a tuple of arrays, one for each chosen leaf, and so is ``H v``.

    Raises:
        ValueError: When called, if the loss does not give one number for each example, if labels are no classes, or if
            the batch, the parameters or ``v`` do not fit each other.
        FloatingPointError: When called, if the loss of an example or the result is not finite.

    Example:
        >>> product = hessian_product(lambda w, x: 0.5 * (x @ w) ** 2)     # the Hessian is X' X / n
        >>> x = jnp.array([[1.0, 0.0], [1.0, 2.0]])
        >>> product(jnp.zeros(2), x, (jnp.array([1.0, 0.0]),))
        (Array([1., 1.], dtype=float32),)
    """
    require_execution(execution)
    checks.require_functions(loss=loss, where=where)
    return Product(_Hessian(loss), where, execution)


def ggn_product(
    apply: Callable[[PyTree, PyTree], Array],
    curvature: OutputCurvature | None = None,
    *,
    ignore_index: int | None = None,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> Product:
    """Build ``v -> G v`` with ``G = mean_x J' C J``, J the Jacobian of the outputs and C the loss's curvature in them.

    It is the Hessian without the curvature of the model itself, positive semi-definite for a convex loss, and equal to
    the Hessian where outputs are linear in the parameters. For a likelihood with natural parameters as outputs
    (cross-entropy, squared error) it is the Fisher matrix (Martens, New Insights and Perspectives on the Natural
    Gradient Method, 2020, s.9).

    Each of several processes computes whole products; the work is not shared among them.

    Args:
        apply: ``apply(params, inputs)`` -> outputs ``[b *k]``, deterministic. The batch is ``(inputs, targets)``.
        curvature: ``softmax_cross_entropy``, which is the default, or ``of_convex(loss)``. For the default, outputs are
            logits ``[b *t k]``, and targets are labels ``[b *t]`` from 0 to ``k - 1``, or ``None``: the matrix depends
            on a label only by whether it counts. The mean is then over all labels, ``b t`` of them, as it is for
            ``classification.CrossEntropy(apply)``, and the batch may be ``(inputs, targets, mask)``, with a boolean for
            each label, ``[b *t]``, that says whether it counts.
        ignore_index: A label that does not count; for the default curvature only. Labels that do not count have no
            curvature, and the mean is over the others.
        where: ``where(path, leaf)`` chooses among the floating-point leaves; by default all.
        execution: How to run; its ``chunk`` counts examples. See ``Product``.

    Returns:
        ``product(params, (inputs, targets), v)`` -> ``G v``, in the units of the loss over those of the parameters,
        squared; ``v`` and ``G v`` are tuples of arrays, one for each chosen leaf.

    Raises:
        ValueError: If ``ignore_index`` is no integer, or passed with another curvature; when called, if outputs are not
            one array ``[b *k]``, if labels are no classes, the mask is not boolean, or batch, parameters and ``v`` do
            not fit each other.
        FloatingPointError: When called, if an output, the loss of ``of_convex``, or the result is not finite.

    Example:
        >>> product = ggn_product(lambda w, x: x * w[None])      # two logits, both p = 1/2: G is diag(p) - p p'
        >>> batch = jnp.ones((1, 2)), jnp.array([0])
        >>> product(jnp.zeros(2), batch, (jnp.array([1.0, 0.0]),))
        (Array([ 0.25, -0.25], dtype=float32),)
    """
    require_execution(execution)
    checks.require_functions(apply=apply, where=where)
    labels.require_ignore_index(ignore_index)
    curvature = softmax_cross_entropy if curvature is None else curvature
    if ignore_index is not None and curvature is not softmax_cross_entropy:
        raise ValueError("ignore_index belongs to softmax_cross_entropy: another curvature reads its targets itself")
    return Product(_GaussNewton(apply, curvature, ignore_index), where, execution)


def fisher_product(loss: Loss, *, where: Where | None = None, execution: Execution = DEFAULT) -> Product:
    """Build ``v -> F v`` with the empirical Fisher matrix ``F = mean_x g g'``, ``g`` the gradient of an example's loss.

    The gradients are those at the labels of the data. With labels drawn from the model it would be the Fisher matrix,
    which ``ggn_product`` computes without drawing; the two may differ much (Kunstner et al., Limitations of the
    Empirical Fisher Approximation, 2019).

    Each of several processes computes whole products; the work is not shared among them.

    Args:
        loss: ``loss(params, batch)`` -> losses ``[b]``, deterministic, of each example independently.
            ``classification.CrossEntropy(apply)`` also checks the labels.
        where: ``where(path, leaf)`` chooses among the floating-point leaves; by default all.
        execution: How to run; its ``chunk`` counts examples. See ``Product``.

    Returns:
        ``product(params, batch, v)`` -> ``F v``, in the squared units of the loss over those of the parameters; ``v``
        and ``F v`` are tuples of arrays, one for each chosen leaf.

    Raises:
        ValueError: When called, if the loss does not give one number for each example, if labels are no classes, or if
            the batch, the parameters or ``v`` do not fit each other.
        FloatingPointError: When called, if the loss of an example or the result is not finite.

    Example:
        >>> product = fisher_product(lambda w, x: x @ w)      # gradients are the examples: F is X' X / n
        >>> x = jnp.array([[1.0, 0.0], [1.0, 2.0]])
        >>> product(jnp.zeros(2), x, (jnp.array([1.0, 0.0]),))
        (Array([1., 1.], dtype=float32),)
    """
    require_execution(execution)
    checks.require_functions(loss=loss, where=where)
    return Product(_Fisher(loss), where, execution)


def softmax_cross_entropy(outputs: Array, targets: PyTree, change: Array) -> Array:
    """Return ``(diag(p) - p p') change`` for probabilities ``p`` over the last axis, without the matrix.

    It is the curvature of ``-log p[label]`` in the logits, summed over the other axes of an example if there are any
    (tokens, for instance); it is the same for every label.

    Args:
        outputs: Logits ``[b *t k]``.
        targets: Not used.
        change: ``[b *t k]``.

    Raises:
        ValueError: If there are fewer than two classes.

    Example:
        >>> softmax_cross_entropy(jnp.zeros((1, 2)), None, jnp.array([[1.0, 0.0]]))
        Array([[ 0.25, -0.25]], dtype=float32)
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

    Example:
        >>> curvature = of_convex(lambda outputs, targets: (outputs - targets)[:, 0] ** 2)
        >>> curvature(jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.ones((1, 1)))
        Array([[2.]], dtype=float32)
    """
    return _ConvexCurvature(loss)


@dataclass(frozen=True)
class _ConvexCurvature:
    """The curvature of a convex loss; a class, so that the values of the loss can be checked, too."""

    loss: Callable[[Array, PyTree], Array]

    def __call__(self, outputs: Array, targets: PyTree, change: Array) -> Array:
        def total(outputs: Array) -> Array:
            return _one_each(self.loss(outputs, targets), outputs).sum()

        _, derivative = jax.linearize(jax.grad(total), outputs)
        return derivative(change)


@dataclass(frozen=True)
class _LossMatrix:
    """A matrix made of the losses of examples."""

    loss: Loss

    @property
    def logits(self) -> Callable[[PyTree, PyTree], Array] | None:
        return getattr(self.loss, "logits", None)

    def forward(self, params: PyTree, examples: PyTree) -> Array:
        return _one_each(self.loss(params, examples), examples)

    def check_batch(self, params: PyTree, batch: PyTree) -> PyTree:
        return labels.check_batch(self.loss, params, batch)


@dataclass(frozen=True)
class _Hessian(_LossMatrix):
    def product(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Leaves]:
        return jax.linearize(jax.grad(self._total(restore, examples, weights)), at)[1]

    def form(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Array]:
        total = self._total(restore, examples, weights)
        if directional.has_forward_derivative(total, at):
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
    ignore_index: int | None

    @property
    def logits(self) -> Callable[[PyTree, PyTree], Array] | None:
        if self.curvature is not softmax_cross_entropy:
            return None
        return lambda params, batch: self.apply(params, batch[0])

    def forward(self, params: PyTree, examples: PyTree) -> tuple[Array, ...]:
        closed = self.curvature is softmax_cross_entropy
        if not (isinstance(examples, tuple | list) and len(examples) in ((2, 3) if closed else (2,))):
            mask = "; a mask is for the default curvature" if isinstance(examples, tuple | list) and not closed else ""
            raise ValueError(f"batch must be a pair (inputs, targets), got a {type(examples).__name__}{mask}")
        inputs, targets = examples[:2]
        outputs = self.apply(params, inputs)
        if jnp.shape(outputs)[:1] != jnp.shape(jax.tree.leaves(inputs)[0])[:1]:
            raise ValueError(f"apply must give one array of outputs, [b *k], got shape {jnp.shape(outputs)}")
        self.curvature(outputs, targets, outputs)
        if isinstance(self.curvature, _ConvexCurvature):
            return outputs, self.curvature.loss(outputs, targets)
        if isinstance(examples, labels.Weighted):  # outputs that do not count may be anything
            outputs = jnp.where((examples.weights > 0)[..., None], outputs, 0)
        return (outputs,)

    def check_batch(self, params: PyTree, batch: tuple[PyTree, PyTree]) -> PyTree:
        batches.require_fit(self.forward, params, batches.example_spec(batch))
        if self.curvature is not softmax_cross_entropy:
            return batch
        logits = jax.eval_shape(self.apply, params, batch[0])
        return labels.that_count(batch, logits.shape, ignore_index=self.ignore_index, name="targets")

    def product(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Leaves]:
        forward, curve = self._linearized(restore, at, examples, weights)
        backward = jax.linear_transpose(forward, at)
        return lambda direction: backward(curve(forward(direction)))[0]

    def form(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Array]:
        forward, curve = self._linearized(restore, at, examples, weights)

        def form(direction: Leaves) -> Array:
            change = forward(direction)
            return jnp.sum(change * curve(change))

        return form

    def _linearized(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> tuple[Callable[[Leaves], Array], Callable[[Array], Array]]:
        """Return how outputs change with the parameters, and the curvature of the weighted loss in the outputs."""
        inputs, targets = examples[:2]
        outputs, forward = jax.linearize(lambda leaves: self.apply(restore(leaves), inputs), at)

        def curve(change: Array) -> Array:
            result = self.curvature(outputs, targets, change)
            if isinstance(examples, labels.Weighted):
                of_label = examples.weights.astype(result.dtype)[..., None]
                result = jnp.where(of_label > 0, of_label * result, 0)
            return weights.astype(result.dtype).reshape(-1, *[1] * (result.ndim - 1)) * result

        return forward, curve


@dataclass(frozen=True)
class _Fisher(_LossMatrix):
    def product(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Leaves]:
        forward = self._slopes(restore, at, examples)
        backward = jax.linear_transpose(forward, at)

        def product(direction: Leaves) -> Leaves:
            slopes = forward(direction)
            return backward(weights.astype(slopes.dtype) * slopes)[0]

        return product

    def form(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Array]:
        forward = self._slopes(restore, at, examples)

        def form(direction: Leaves) -> Array:
            slopes = forward(direction)
            return jnp.sum(weights.astype(slopes.dtype) * slopes**2)

        return form

    def _slopes(self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree) -> Callable[[Leaves], Array]:
        """Return the slopes ``[b]`` of the examples' losses along a direction."""
        return jax.linearize(lambda leaves: self.loss(restore(leaves), examples), at)[1]


def _one_each(losses: Array, examples: PyTree) -> Array:
    count = jnp.shape(jax.tree.leaves(examples)[0])[0]
    if jnp.shape(losses) != (count,):
        raise ValueError(
            f"loss must give one number for each example, [b], got shape {jnp.shape(losses)} for a batch of {count}; "
            "the mean over examples is taken here"
        )
    return losses
