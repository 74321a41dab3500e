"""A curvature matrix over a data set, as the function that multiplies a vector by it.

The matrix is a mean over examples, and so is the product: exact, in micro-batches, and without the matrix in memory.
Vectors are tuples of arrays, one for each chosen leaf of the parameters, as ``parameters.weights(params, where)`` gives
them. The file is long, since a product, its checks and the layout of its data belong together.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import labels, parameters
from jaxsens.curvature import microbatches
from jaxsens.execution import backends, batches, checks, memory, parallel
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.typing import Array, PyTree, Where

__all__ = [
    "Leaves",
    "Matrix",
    "OfExamples",
    "Problem",
    "Product",
    "require_finite",
    "require_product",
    "split",
    "written_out_diagonal",
]

Leaves = tuple[Array, ...]
"""The chosen leaves of the parameters, or a direction in their space."""


class OfExamples(Protocol):
    """The part of a matrix that a micro-batch contributes, at ``restore(at)``; ``weights [b]`` of its examples.

    Example:
        >>> def least_squares(restore, at, examples, weights):    # A = sum_i weights_i x_i x_i'
        ...     return lambda direction: (examples.T @ (weights * (examples @ direction[0])),)
    """

    def __call__(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array, /
    ) -> Callable[[Leaves], PyTree]:
        """Return a function of a direction; what does not depend on the direction is computed before."""
        ...


class Matrix(Protocol):
    """A curvature matrix A that is a sum over examples; hashable, since equal ones share compiled code.

    Attributes:
        product: Returns ``v -> A v``.
        form: Returns ``v -> v' A v``, which costs less.

    A matrix whose ``check_batch`` puts some of its settings into the data also has ``program``, the matrix without
    these settings: matrices that differ in them only then share compiled code.

    Example:
        >>> from jaxsens.curvature import hessian_product
        >>> matrix = hessian_product(lambda w, x: 0.5 * (x @ w) ** 2).matrix
        >>> matrix.forward(jnp.ones(2), jnp.ones((3, 2))).tolist()    # the loss of each example
        [2.0, 2.0, 2.0]
    """

    product: OfExamples
    form: OfExamples

    def forward(self, params: PyTree, examples: PyTree, /) -> PyTree:
        """Return losses or outputs ``[b ...]``, all of which must be finite; raise ValueError for other shapes."""
        ...

    def check_batch(self, params: PyTree, batch: PyTree, /) -> PyTree:
        """Return the examples that count, all of them checked on the host; see ``labels.check_batch``."""
        ...


@dataclass(frozen=True)
class Product:
    """The product of a curvature matrix with a vector; equal ones share compiled code.

    Attributes:
        matrix: The matrix, as ``hessian_product``, ``ggn_product`` and the others set it.
        where: ``where(path, leaf)`` chooses among the floating-point leaves of the parameters, a layer for instance;
            the matrix is then the diagonal block of those.
        execution: How to run; its ``chunk`` counts examples. At most ``batches.PARTS`` devices are used. Results are
            equal to the bit on two or more, and equal up to rounding on one: there the data are a single part, and what
            does not depend on the vector is kept between products (see ``microbatches``).

    Example:
        >>> from jaxsens.curvature import hessian_product
        >>> product = hessian_product(lambda w, x: 0.5 * (x @ w["a"]) ** 2)    # the Hessian is X' X / n
        >>> x, ones = jnp.array([[2.0, 0.0], [0.0, 1.0]]), {"a": jnp.ones(2)}
        >>> product({"a": jnp.zeros(2)}, x, ones)["a"].tolist()
        [2.0, 0.5]
    """

    matrix: Matrix
    where: Where | None = None
    execution: Execution = DEFAULT

    _variables: ClassVar[str] = "params"

    def __call__(self, params: PyTree, batch: PyTree, direction: PyTree) -> PyTree:
        """Return the product with ``direction``, a pytree like ``params``, as such a pytree.

        Leaves that are not chosen have no part in it, and are 0 in the product. A tuple of arrays with the shapes of
        the chosen leaves is a direction too; its product is such a tuple.

        Raises:
            ValueError: If no leaf is chosen, if the direction has other shapes, or if the batch is empty, holds labels
                that are no classes, or does not fit the model.
            FloatingPointError: If the loss of an example or the result is not finite.
        """
        problem, like = self.prepare(params, batch), self.variables(params, batch)
        shapes = [jnp.shape(leaf) for leaf in parameters.weights(like, self.where)[0]]
        whole = jax.tree.structure(direction) == jax.tree.structure(like)
        leaves = parameters.leaves_of(direction, like, self.where) if whole else direction
        if not isinstance(leaves, tuple) or [jnp.shape(leaf) for leaf in leaves] != shapes:
            raise ValueError(
                f"direction must be a pytree like {self._variables}, or a tuple of arrays of shapes {shapes}, those of "
                f"the chosen leaves, got {jax.tree.map(jnp.shape, direction)}"
            )
        result = _product(problem.product, problem.params, problem.parts, leaves)
        require_finite(result)
        return parameters.in_zeros(like, result, self.where) if whole else result

    def variables(self, params: PyTree, batch: PyTree) -> PyTree:
        """Return the pytree whose leaves the matrix is over: the parameters."""
        del batch
        return params

    def leaves(self, params: PyTree) -> Leaves:
        """Return the chosen leaves; ``params`` as ``prepare`` gives them; for use under jit."""
        return parameters.weights(params, self.where)[0]

    def prepare(self, params: PyTree, batch: PyTree) -> "Problem":
        """Check that parameters and data fit, and lay the data out in parts of micro-batches.

        The model is evaluated once on all examples: where a loss is not finite, its derivatives may be 0, and products
        with them would take the example for a flat one. Chosen weights in float16 or bfloat16 are copied to float32,
        and the model is evaluated with the copies, since vectors rounded to 8 bits are no eigenvectors.

        Raises:
            ValueError: If no leaf is chosen, or the batch is empty, holds labels that are no classes, or does not fit
                the model, or if the model's output for an example depends on other examples.
            FloatingPointError: If the loss or an output is not finite for an example, which the message names.
        """
        params = checks.device_arrays(params, "params")
        leaves, put_back = parameters.weights(params, self.where)
        return self._laid_out(put_back(parameters.widened(leaves)), checks.host_arrays(batch, "batch"))

    def _laid_out(self, params: PyTree, batch: PyTree) -> "Problem":
        """Return the problem, after all checks."""
        batches.count_of(batch)
        batch = labels.check_batch(self.matrix, params, batch)
        matrix = getattr(self.matrix, "program", self.matrix)
        count, spec = batches.count_of(batch), batches.example_spec(batch)
        batches.require_fit(matrix.forward, params, spec)
        forward = parallel.bind(_forward, matrix)
        labels.check_examples(forward, matrix, params, batch, execution=self.execution)
        chunk = self.execution.chunk or memory.chunk_of(matrix.forward, params, spec, derivative=True)
        devices = backends.local_devices(self.execution.devices)[: batches.PARTS]
        execution = Execution(devices=devices, precision=self.execution.precision)
        layout = _layout(count, batches.parts_on(len(devices)), chunk)
        parts = batches.in_blocks(batch, *layout), _weights(count, *layout)
        product = replace(self, matrix=matrix, execution=execution)
        problem = Problem(product, backends.replicate(params, devices), parts)
        _require_finite_forward(problem, count)
        return problem

    def on_leaves(self, params: PyTree, parts: PyTree) -> Callable[[Leaves], Leaves]:
        """Return ``v -> A v`` over data laid out by ``prepare``; for use under jit."""
        return self._over_data(self.matrix.product, params, parts)

    def on_vectors(self, params: PyTree, parts: PyTree) -> tuple[Callable[[Array], Array], jax.ShapeDtypeStruct]:
        """Return the product as a function of one long vector ``[n]``, and shape and dtype of vectors; under jit."""
        leaves, like = self._vectors(params)
        product = self.on_leaves(params, parts)

        def on_vector(vector: Array) -> Array:
            return jnp.concatenate([jnp.ravel(leaf).astype(like.dtype) for leaf in product(split(vector, leaves))])

        return on_vector, like

    def form_on_vectors(self, params: PyTree, parts: PyTree) -> tuple[Callable[[Array], Array], jax.ShapeDtypeStruct]:
        """Return ``v -> v' A v`` as a function of one long vector, and shape and dtype of vectors; under jit."""
        leaves, like = self._vectors(params)
        form = self._over_data(self.matrix.form, params, parts)
        return lambda vector: form(split(vector, leaves)).astype(like.dtype), like

    def _vectors(self, params: PyTree) -> tuple[Leaves, jax.ShapeDtypeStruct]:
        leaves = self.leaves(params)
        dtype = functools.reduce(jnp.promote_types, [leaf.dtype for leaf in leaves], jnp.float32)
        return leaves, jax.ShapeDtypeStruct((sum(leaf.size for leaf in leaves),), dtype)

    def _over_data(self, of_examples: OfExamples, params: PyTree, parts: PyTree) -> Callable[[Leaves], PyTree]:
        leaves, _ = parameters.weights(params, self.where)

        def of_blocks(params: PyTree) -> Callable[[PyTree], Callable[[Leaves], PyTree]]:
            at, restore = parameters.weights(params, self.where)

            def of_block(block: tuple[PyTree, Array]) -> Callable[[Leaves], PyTree]:
                with jax.default_matmul_precision(self.execution.precision):
                    of_direction = of_examples(restore, at, *block)

                def precisely(direction: Leaves) -> PyTree:
                    with jax.default_matmul_precision(self.execution.precision):
                        return of_direction(direction)

                return precisely

            return of_block

        if len(self.execution.devices) == 1:
            blocks = jax.tree.map(lambda a: a[0], parts)
            total = microbatches.sum_kept_over_blocks(of_blocks(params), blocks, leaves, params)
        else:

            def part(blocks: PyTree, params: PyTree, direction: Leaves) -> PyTree:
                return microbatches.sum_over_blocks(of_blocks(params), blocks)(direction)

            def total(direction: Leaves) -> PyTree:
                return parallel.sum_over_parts(part, parts, params, direction, devices=self.execution.devices)

        def along(direction: Leaves) -> PyTree:
            return total(tuple(jnp.asarray(d, jnp.result_type(a)) for d, a in zip(direction, leaves, strict=True)))

        return along


@dataclass(frozen=True)
class Problem:
    """A product with its parameters and its data.

    Attributes:
        product: The product, with its devices resolved.
        params: The parameters, on each device.
        parts: The data, ``[parts blocks rows ...]``, and the weights of the examples ``[parts blocks rows]``.

    Example:
        >>> from jaxsens.curvature import hessian_product
        >>> product = hessian_product(lambda w, x: 0.5 * (x @ w) ** 2)
        >>> product.prepare(np.zeros(2, np.float32), np.ones((3, 2), np.float32)).dimension
        2
    """

    product: Product
    params: PyTree
    parts: PyTree

    @property
    def dimension(self) -> int:
        """The number of chosen scalar parameters."""
        return sum(leaf.size for leaf in self.product.leaves(self.params))


def _forward(matrix: Matrix, params: PyTree, examples: PyTree) -> PyTree:
    """Return ``matrix.forward``, as a function that ``parallel.bind`` makes equal for equal matrices."""
    return matrix.forward(params, examples)


def split(vector: Array, leaves: Leaves) -> Leaves:
    """Cut a vector, or vectors ``[... n]``, into arrays like the leaves ``[... *leaf]``.

    Example:
        >>> [piece.tolist() for piece in split(jnp.arange(3.0), (jnp.zeros((1, 2)), jnp.zeros(1)))]
        [[[0.0, 1.0]], [2.0]]
    """
    ends = np.cumsum([leaf.size for leaf in leaves])
    pieces = [vector[..., end - leaf.size : end] for end, leaf in zip(ends, leaves, strict=True)]
    return tuple(p.reshape(*vector.shape[:-1], *leaf.shape) for p, leaf in zip(pieces, leaves, strict=True))


@functools.partial(jax.jit, static_argnums=0)
def written_out_diagonal(product: Product, params: PyTree, parts: PyTree) -> Array:
    """Return the diagonal of a matrix ``[n]`` from its products with all n unit vectors.

    Example:
        >>> from jaxsens.curvature import hessian_product
        >>> product = hessian_product(lambda w, x: 0.5 * (x @ w) ** 2)    # the Hessian is X' X / n
        >>> problem = product.prepare(np.zeros(2, np.float32), np.array([[2.0, 0.0], [0.0, 1.0]], np.float32))
        >>> written_out_diagonal(problem.product, problem.params, problem.parts).tolist()
        [2.0, 0.5]
    """
    multiply, like = product.on_vectors(params, parts)
    unit = functools.partial(jax.nn.one_hot, num_classes=like.size, dtype=like.dtype)
    return jax.lax.map(lambda i: multiply(unit(i))[i], jnp.arange(like.size))


def require_product(product: Product) -> None:
    """Raise ValueError unless the value is a ``Product``.

    Example:
        >>> require_product(3)
        Traceback (most recent call last):
        ValueError: product must be a curvature.Product, as hessian_product builds it, got 3
    """
    if not isinstance(product, Product):
        raise ValueError(f"product must be a curvature.Product, as hessian_product builds it, got {product!r}")


def require_finite(results: PyTree) -> None:
    """Raise FloatingPointError unless all results are finite.

    Example:
        >>> require_finite({"w": jnp.array([1.0, jnp.nan])})
        Traceback (most recent call last):
        FloatingPointError: the product of the curvature matrix with a vector is not finite, ...
    """
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(results)):
        raise FloatingPointError(
            "the product of the curvature matrix with a vector is not finite, although all losses are: the loss may "
            "have no second derivative at these parameters, or one that overflows"
        )


def _require_finite_forward(problem: Problem, count: int) -> None:
    """Raise FloatingPointError unless the loss, and an output, of each of the ``count`` examples is finite."""
    examples, weights = problem.parts
    numbers = np.arange(weights.size, dtype=np.int32).reshape(weights.shape)
    nonfinite = np.flatnonzero(np.asarray(_nonfinite(problem.product, problem.params, examples, numbers))[:count])
    if len(nonfinite):
        raise FloatingPointError(
            f"the loss (or an output) is not finite for example {nonfinite[0]} ({len(nonfinite)} such of {count}): "
            "look at its label, at its inputs and at the parameters"
        )


@functools.partial(jax.jit, static_argnums=0)
def _nonfinite(product: Product, params: PyTree, examples: PyTree, numbers: Array) -> Array:
    """Return how many values of the forward are not finite, by number of the example ``[parts * blocks * rows]``."""

    def part(blocks: tuple[PyTree, Array], params: PyTree) -> Array:
        def step(flags: Array, block: tuple[PyTree, Array]) -> tuple[Array, None]:
            with jax.default_matmul_precision(product.execution.precision):
                values = jax.tree.leaves(product.matrix.forward(params, block[0]))
            bad = sum(jnp.sum(~jnp.isfinite(v.reshape(len(v), -1)), 1, dtype=jnp.int32) for v in values)
            return flags.at[block[1]].set(bad), None

        return jax.lax.scan(step, jnp.zeros(numbers.size, jnp.int32), blocks)[0]

    return parallel.sum_over_parts(part, (examples, numbers), params, devices=product.execution.devices)


@functools.partial(jax.jit, static_argnums=0)
def _product(product: Product, params: PyTree, parts: PyTree, direction: Leaves) -> Leaves:
    return product.on_leaves(params, parts)(direction)


def _layout(count: int, parts: int, chunk: int) -> tuple[int, int, int]:
    """Return ``(parts, blocks, rows)``, with room for all examples and rows of at most a chunk."""
    blocks = -(-count // (parts * chunk))
    return parts, blocks, -(-count // (parts * blocks))


def _weights(count: int, *layout: int) -> np.ndarray:
    """Return the weights of the examples in their mean; 0 for those repeated to fill the last rows."""
    return np.where(np.arange(np.prod(layout)) < count, 1 / count, 0.0).reshape(layout)
