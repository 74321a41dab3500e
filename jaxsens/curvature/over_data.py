"""A curvature matrix over a data set, as the function that multiplies a vector by it.

The matrix is a mean over examples, and so is the product: exact, in micro-batches, and never with a matrix in memory.
Vectors are tuples of arrays, one for each chosen leaf of the parameters, as ``perturb.weights(params, where)`` gives
them.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import budget, parallel, perturb
from jaxsens.typing import Array, PyTree, Where

Leaves = tuple[Array, ...]
"""The chosen leaves of the parameters, or a direction in their space."""

PARTS = 8
"""Partial sums over the data. A constant, so that results do not hang on the devices; at most so many are used."""


class Matrix(Protocol):
    """A curvature matrix that is a sum over examples; hashable, since equal ones share compiled code."""

    def forward(self, params: PyTree, examples: PyTree, /) -> Array:
        """Evaluate the model, and raise ValueError where shapes are not as they must be."""
        ...

    def __call__(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array, direction: Leaves, /
    ) -> Leaves:
        """Return the weighted sum of the examples' products with a direction, at ``restore(at)``; ``weights [b]``."""
        ...


@dataclass(frozen=True)
class Product:
    """The product of a curvature matrix with a vector; equal ones share compiled code.

    Attributes:
        matrix: Which matrix, as ``hessian_product``, ``ggn_product`` and ``fisher_product`` set it.
        where: ``where(path, leaf)`` chooses among the floating-point leaves of the parameters, a layer for instance;
            the matrix is then the block of those.
        chunk: Examples evaluated at once on a device; ``None`` fits ``budget.BYTES``.
        devices: Devices to use, by default all of this process, at most ``PARTS``. Results are equal to the bit on two
            or more, and to rounding on one (see ``parallel.sum_over_parts``).
        precision: Of matrix products, as in ``jax.default_matmul_precision``.
    """

    matrix: Matrix
    where: Where | None = None
    chunk: int | None = None
    devices: Sequence[jax.Device] | None = None
    precision: str = "highest"

    def __post_init__(self) -> None:
        budget.require_counts(1, self.chunk)
        if self.devices is not None:
            object.__setattr__(self, "devices", tuple(self.devices))

    def __call__(self, params: PyTree, batch: PyTree, direction: Leaves) -> Leaves:
        """Return the product with ``direction``, a tuple of arrays like the chosen leaves.

        Raises:
            ValueError: If no leaf is chosen, if the direction is not like the leaves, or if the batch is empty or does
                not fit the model.
            FloatingPointError: If the result is not finite.
        """
        problem = self.prepare(params, batch)
        shapes = [jnp.shape(leaf) for leaf in perturb.weights(params, self.where)[0]]
        if not isinstance(direction, tuple) or [jnp.shape(leaf) for leaf in direction] != shapes:
            raise ValueError(f"direction must be a tuple of arrays of shapes {shapes}, like the leaves that are chosen")
        result = _product(problem.product, problem.params, problem.parts, direction)
        require_finite(result)
        return result

    def prepare(self, params: PyTree, batch: PyTree) -> "Problem":
        """Check that parameters and data fit, and lay the data out in ``PARTS`` parts of micro-batches.

        Raises:
            ValueError: As ``__call__``.
        """
        leaves, _ = perturb.weights(params, self.where)
        batch = jax.tree.map(np.asarray, batch)
        counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
        if len(counts) != 1 or () in counts or (0,) in counts:
            raise ValueError(f"batch must be arrays with one leading axis b of at least 1, got {sorted(counts)}")
        one = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), jax.dtypes.canonicalize_dtype(a.dtype)), batch
        )
        self._check_fit(params, one)
        chunk = self.chunk or budget.chunk_of(self.matrix.forward, params, one)
        devices = parallel.local_devices(self.devices)[:PARTS]
        product = Product(self.matrix, self.where, None, devices, self.precision)
        dimension = sum(int(np.prod(jnp.shape(leaf))) for leaf in leaves)
        return Problem(
            product, parallel.replicate(params, devices), _in_parts(batch, counts.pop()[0], chunk), dimension
        )

    def on_leaves(self, params: PyTree, parts: PyTree, direction: Leaves) -> Leaves:
        """Return the product over data that ``prepare`` laid out; for use under jit."""

        def part(blocks: PyTree, params: PyTree, direction: Leaves) -> Leaves:
            at, restore = perturb.weights(params, self.where)

            def add_block(total: Leaves, block: tuple[PyTree, Array]) -> tuple[Leaves, None]:
                with jax.default_matmul_precision(self.precision):
                    product = self.matrix(restore, at, *block, direction)
                return jax.tree.map(jnp.add, total, product), None

            return jax.lax.scan(add_block, jax.tree.map(jnp.zeros_like, direction), blocks)[0]

        leaves, _ = perturb.weights(params, self.where)
        direction = tuple(jnp.asarray(d, jnp.result_type(a)) for d, a in zip(direction, leaves, strict=True))
        return parallel.sum_over_parts(part, parts, params, direction, devices=self.devices)

    def on_vectors(self, params: PyTree, parts: PyTree) -> tuple[Callable[[Array], Array], jax.ShapeDtypeStruct]:
        """Return the product as a function of one long vector ``[n]``, and what such vectors are like; under jit."""
        leaves, _ = perturb.weights(params, self.where)
        sizes = [leaf.size for leaf in leaves]
        dtype = functools.reduce(jnp.promote_types, [leaf.dtype for leaf in leaves], jnp.float32)

        def product(vector: Array) -> Array:
            result = self.on_leaves(params, parts, split(vector, leaves))
            return jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in result])

        return product, jax.ShapeDtypeStruct((sum(sizes),), dtype)

    def _check_fit(self, params: PyTree, one: PyTree) -> None:
        try:
            jax.eval_shape(self.matrix.forward, params, one)
        except Exception as error:
            shapes = [a.shape[1:] for a in jax.tree.leaves(one)]
            raise ValueError(f"batch (examples of shapes {shapes}), params and model do not fit: {error}") from error


@dataclass(frozen=True)
class Problem:
    """A product with its parameters and its data in place.

    Attributes:
        product: The product, on devices that are named.
        params: The parameters, on each of them.
        parts: The data, ``[parts blocks rows ...]``, and the weights of the examples ``[parts blocks rows]``.
        dimension: The number of parameters that are chosen.
    """

    product: Product
    params: PyTree
    parts: PyTree
    dimension: int


def split(vector: Array, leaves: Leaves) -> Leaves:
    """Cut a vector, or vectors ``[... n]``, into arrays like the leaves ``[... *leaf]``."""
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    pieces = jnp.split(vector, ends, -1)
    return tuple(p.reshape(*vector.shape[:-1], *leaf.shape) for p, leaf in zip(pieces, leaves, strict=True))


def require_finite(results: PyTree) -> None:
    """Raise FloatingPointError unless all results are finite."""
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(results)):
        raise FloatingPointError(
            "the product of the curvature with a vector is not finite: look for a loss or an output that is not, or "
            "that has no second derivative at these parameters"
        )


@functools.partial(jax.jit, static_argnums=0)
def _product(product: Product, params: PyTree, parts: PyTree, direction: Leaves) -> Leaves:
    return product.on_leaves(params, parts, direction)


def _in_parts(batch: PyTree, count: int, chunk: int) -> tuple[PyTree, np.ndarray]:
    """Lay ``count`` examples out as ``[PARTS blocks rows]``; those repeated to fill the last rows weigh nothing."""
    blocks = -(-count // (PARTS * chunk))
    rows = -(-count // (PARTS * blocks))
    index = np.arange(PARTS * blocks * rows).reshape(PARTS, blocks, rows)
    weights = np.where(index < count, 1 / count, 0.0)
    return jax.tree.map(lambda a: a[np.minimum(index, count - 1)], batch), weights
