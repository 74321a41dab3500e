"""Curvature matrices in the inputs of a model, or in their embeddings, in the place of its parameters."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import parameters
from jaxsens.curvature import microbatches, operator
from jaxsens.curvature.operator import Leaves, Matrix, OfExamples, Problem, Product
from jaxsens.execution import backends, batches, checks, parallel
from jaxsens.typing import Array, PyTree, Where

__all__ = ["of_inputs"]


def of_inputs(product: Product, *, where: Where | None = None) -> Product:
    """Return the product with the matrix of the same kind in the inputs ``x``, at fixed parameters.

    The loss of an example depends on its own input only, so that the matrix is block-diagonal: block i is the Hessian
    ``d^2 loss(x_i) / dx_i^2`` of the example's own loss (or its Gauss-Newton or Fisher matrix). Blocks are not divided
    by the number of examples, and an example's block does not depend on the other examples. The trace is the sum of the
    blocks' traces, and the top eigenpairs are those of all blocks together; for those of one example pass a batch of
    one.

    ``trace``, ``xtrace``, ``diagonal``, ``xdiag``, ``top_eigenpairs`` and ``spectral_density`` take it as any other
    product. Directions, eigenvectors and diagonals are pytrees like the inputs of the batch, ``[b ...]``. For token ids
    pass their embeddings, and an ``apply`` that takes these.

    Each of several processes computes whole products; the work is not shared among them.

    Args:
        product: As built by ``hessian_product``, ``ggn_product``, ``fisher_product`` or
            ``monte_carlo_fisher_product``, without ``where``.
        where: ``where(path, leaf)`` chooses among the floating-point leaves of the inputs; by default all. Others, such
            as masks, are fixed.

    Returns:
        ``product(params, batch, v)`` -> ``A v``, in the units of the loss over those of the inputs, squared. The inputs
        are the first element of the batch where this is a tuple or list, ``(inputs, labels)``, else the batch itself.

    Raises:
        ValueError: If ``product`` is none, is one of inputs already, or has ``where``; when called, if no input is a
            floating-point number, if examples are left out since they have no label, or as the product in the
            parameters does.
        FloatingPointError: When called, if the loss of an example or the result is not finite.

    Example:
        >>> from jaxsens.curvature import hessian_product
        >>> product = of_inputs(hessian_product(lambda w, x: 0.5 * (x @ w) ** 2))  # every block is w w'
        >>> w, x = jnp.array([1.0, 2.0]), jnp.ones((2, 2))
        >>> product(w, x, jnp.array([[1.0, 0.0], [0.0, 1.0]])).tolist()
        [[1.0, 2.0], [2.0, 4.0]]
    """
    operator.require_product(product)
    checks.require_functions(where=where)
    if isinstance(product, _OfInputs) or product.where is not None:
        raise ValueError(
            "product must be one in the parameters, without where: to choose among inputs pass where to of_inputs"
        )
    return _OfInputs(_InInputs(product.matrix), where, product.execution)


@dataclass(frozen=True)
class _OfInputs(Product):
    """A product in the inputs; ``Problem.params`` are the parameters and all the inputs, which the blocks are at."""

    _variables: ClassVar[str] = "the inputs"

    def variables(self, params: PyTree, batch: PyTree) -> PyTree:
        del params
        return _inputs_of(batch)

    def leaves(self, params: tuple[PyTree, PyTree]) -> Leaves:
        return parameters.weights(params[1], self.where)[0]

    def prepare(self, params: PyTree, batch: PyTree) -> Problem:
        params = checks.device_arrays(params, "params")
        batch = checks.host_arrays(batch, "batch")
        count, inputs = batches.count_of(batch), _inputs_of(batch)
        if not any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(inputs)):
            dtypes = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(inputs)})
            raise ValueError(
                f"the inputs of the batch must be floating-point numbers, got {dtypes}: for token ids pass their "
                "embeddings, and an apply that takes these"
            )
        leaves, put_back = parameters.weights(inputs, self.where)
        inputs = put_back([np.asarray(leaf) for leaf in parameters.widened(leaves)])
        problem = self._laid_out(params, _with_inputs(batch, inputs))
        (examples, weights), devices = problem.parts, problem.product.execution.devices
        kept = int(np.sum(weights > 0))
        if kept < count:
            raise ValueError(
                f"the batch has {count - kept} of {count} examples without a label that counts, which have no loss: "
                "leave them out"
            )
        numbers = np.minimum(np.arange(weights.size, dtype=np.int32), count - 1).reshape(weights.shape)
        return dataclasses.replace(
            problem,
            params=backends.replicate((problem.params, inputs), devices),
            parts=(examples, np.where(weights > 0, 1.0, 0.0), numbers),
        )

    def _over_data(
        self, of_examples: OfExamples, params: tuple[PyTree, PyTree], parts: PyTree
    ) -> Callable[[Leaves], PyTree]:
        leaves = self.leaves(params)

        def of_block(params: PyTree, block: tuple[PyTree, Array, Array], direction: Leaves) -> PyTree:
            examples, weights, numbers = block
            at, put_back = parameters.weights(_inputs_of(examples), self.where)
            with jax.default_matmul_precision(self.execution.precision):
                of_direction = of_examples(lambda moved: (params, put_back(moved)), at, examples, weights)
                result = of_direction(tuple(d[numbers] for d in direction))
            if not isinstance(result, tuple):
                return result
            # Rows that fill a block repeat the last example, with a weight of 0.
            return tuple(jnp.zeros_like(d).at[numbers].add(r) for d, r in zip(direction, result, strict=True))

        def part(blocks: PyTree, params: PyTree, direction: Leaves) -> PyTree:
            return microbatches.sum_over_blocks(lambda block: partial(of_block, params, block), blocks)(direction)

        def along(direction: Leaves) -> PyTree:
            typed = tuple(jnp.asarray(d, a.dtype) for d, a in zip(direction, leaves, strict=True))
            if len(self.execution.devices) == 1:
                return part(jax.tree.map(lambda a: a[0], parts), params[0], typed)
            return parallel.sum_over_parts(part, parts, params[0], typed, devices=self.execution.devices)

        return along


@dataclass(frozen=True)
class _InInputs:
    """A matrix with derivatives in the inputs, at ``(params, inputs)``; its losses and outputs are unchanged."""

    matrix: Matrix

    @property
    def logits(self) -> Callable[[PyTree, PyTree], Array] | None:
        return getattr(self.matrix, "logits", None)

    @property
    def program(self) -> "_InInputs":
        return _InInputs(getattr(self.matrix, "program", self.matrix))

    def forward(self, params: PyTree, examples: PyTree) -> PyTree:
        return self.matrix.forward(params, examples)

    def check_batch(self, params: PyTree, batch: PyTree) -> PyTree:
        """Return the examples, each with the mean over its own labels for its loss."""
        checked = self.matrix.check_batch(params, batch)
        weights = getattr(checked, "weights", None) if isinstance(checked, tuple) else None
        if weights is None or weights.ndim == 1:
            return checked
        return checked._replace(weights=weights / weights.sum(axis=tuple(range(1, weights.ndim)), keepdims=True))

    def product(self, *where: Any) -> Callable[[Leaves], Leaves]:
        return self._moving.product(*where)

    def form(self, *where: Any) -> Callable[[Leaves], Array]:
        return self._moving.form(*where)

    @property
    def _moving(self) -> Matrix:
        """The matrix of a model with parameters ``(params, inputs)``, which does not read the inputs of the batch."""
        if hasattr(self.matrix, "loss"):
            return dataclasses.replace(self.matrix, loss=_MovingLoss(self.matrix.loss))
        return dataclasses.replace(self.matrix, apply=_MovingApply(self.matrix.apply))


@dataclass(frozen=True)
class _MovingLoss:
    loss: Callable[[PyTree, PyTree], Array]

    def __call__(self, at: tuple[PyTree, PyTree], batch: PyTree) -> Array:
        params, inputs = at
        return self.loss(params, _with_inputs(batch, inputs))


@dataclass(frozen=True)
class _MovingApply:
    apply: Callable[[PyTree, PyTree], Array]

    def __call__(self, at: tuple[PyTree, PyTree], inputs: PyTree) -> Array:
        del inputs
        return self.apply(*at)


def _inputs_of(batch: PyTree) -> PyTree:
    return batch[0] if isinstance(batch, tuple | list) and len(batch) else batch


def _with_inputs(batch: PyTree, inputs: PyTree) -> PyTree:
    if not isinstance(batch, tuple | list):
        return inputs
    return batch._replace(inputs=inputs) if hasattr(batch, "_replace") else type(batch)((inputs, *batch[1:]))
