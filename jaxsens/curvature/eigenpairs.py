"""The largest eigenvalues of a curvature matrix with their eigenvectors and residuals, by Lanczos."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import norm_balls, parameters
from jaxsens.curvature import lanczos, operator
from jaxsens.curvature.operator import Product
from jaxsens.execution import checks
from jaxsens.execution.keys import require_key
from jaxsens.execution.split_rows import SplitRows
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.typing import Array, Axes, Figure, Key, PyTree

__all__ = ["ORDERS", "Eigenpairs", "top_eigenpairs"]

ORDERS = ("algebraic", "magnitude")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "vectors", "residuals", "converged"],
    meta_fields=["products"],
)
@dataclass(frozen=True, repr=False)
class Eigenpairs(Result):
    """Approximate eigenpairs of a symmetric matrix, in the order that was chosen.

    Attributes:
        values: Rayleigh quotients ``v' A v``, float64 ``[k]``, in units of the matrix.
        vectors: Unit vectors on the host: a pytree like ``params`` with a leading axis ``[k ...]``, 0 where a leaf was
            not chosen.
        residuals: ``|A v - value v|_2``, float64 ``[k]``. The matrix has an eigenvalue within this distance of the
            value.
        converged: Whether the residual is at most the tolerance times the largest absolute eigenvalue ``[k]``.
        products: Number of products with the matrix.

    Example:
        >>> pairs = Eigenpairs(np.array([2.0]), {"a": np.array([[1.0, 0.0]])}, np.array([0.1]), np.array([False]), 5)
        >>> pairs
        Eigenpairs(2; 0 of 1 pair converged, 5 products)
        >>> pairs.vector(0)["a"].tolist()
        [1.0, 0.0]
    """

    values: np.ndarray
    vectors: PyTree
    residuals: np.ndarray
    converged: np.ndarray
    products: int

    _by_shape = ("vectors",)

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return ``values - residuals`` and ``values + residuals``: an eigenvalue lies between them, at any level."""
        checks.require_level("level", level)
        return self.values - self.residuals, self.values + self.residuals

    def vector(self, number: int = 0) -> PyTree:
        """Return one eigenvector, a pytree like ``params``: a direction for ``loss_plane``.

        Raises:
            ValueError: If there is no such pair.
        """
        if checks.require_count("number", number, 0) >= len(self.values):
            raise ValueError(f"number must be from 0 to {len(self.values) - 1}, got {number}")
        return jax.tree.map(lambda leaf: leaf[number], self.vectors)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the values in their order, with bars of their residuals.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        return draw("points", ax, self.values, *self.interval(), position="number of the pair", quantity="eigenvalue")

    def _describe(self) -> Description:
        count = len(self.values)
        counts = f"{self.converged.sum()} of {times(pairs=count)} converged, {times(products=self.products)}"
        table = {"value": self.values, "residual": self.residuals, "converged": self.converged}
        facts = {"residuals": self.residuals}
        return Description(counts, self.values, self.interval(), facts=facts, table=lambda: tidy({"pair": None}, table))


def top_eigenpairs(
    product: Product, k: int, *, order: str = "algebraic", steps: int | None = None, tolerance: float = 1e-4
) -> Callable[[Key, PyTree, PyTree], Eigenpairs]:
    """Build the measurement of the ``k`` largest eigenvalues of a curvature matrix and their eigenvectors.

    Lanczos from one random start, with full reorthogonalization. (Golub and Van Loan, Matrix Computations, s.10.1,
    10.3.) Residuals are computed with ``k`` further products. A Krylov method finds one copy of a multiple eigenvalue
    before the next: with fewer steps than there are distinct eigenvalues it may miss copies, and the pairs are then
    converged, but not the k largest.

    Each of several processes computes the whole result; the work is not shared among them.

    Args:
        product: As built by ``hessian_product``, ``ggn_product`` or ``fisher_product``.
        k: The number of pairs.
        order: ``"algebraic"``: the largest first; ``"magnitude"``: the largest in absolute value first.
        steps: Products for the Krylov basis, by default ``4 k + 40``, and at most the number of parameters. The basis
            takes ``steps`` times the memory of the parameters, divided by the number of devices if these are 2, 4 or 8:
            for one pair 18 GiB for BERT-base and 50 GiB for ViT-L/16 on one device, 2.2 and 6.2 GiB on each of eight.
            Fewer steps take less, and so does ``where`` of the product.
        tolerance: Largest residual of a converged pair, relative to the largest absolute eigenvalue.

    Returns:
        ``measure(key, params, batch)`` -> ``Eigenpairs``. The key decides the start.

    Raises:
        ValueError: If ``k``, ``order``, ``steps`` or ``tolerance`` is out of range; when called, if there are fewer
            than ``k`` parameters, if labels are no classes, or if batch and parameters do not fit the model.
        FloatingPointError: When called, if the loss of an example or a product is not finite.

    Example:
        >>> from jaxsens.curvature import hessian_product
        >>> product = hessian_product(lambda w, x: 0.5 * (x @ w) ** 2)    # the Hessian is X' X / n
        >>> x = jnp.array([[2.0, 0.0], [0.0, 1.0]])
        >>> pairs = top_eigenpairs(product, 1)(jax.random.key(0), jnp.zeros(2), x)
        >>> pairs.values.round(4), pairs.converged
        (array([2.]), array([ True]))
    """
    k = checks.require_count("k", k)
    steps = 4 * k + 40 if steps is None else checks.require_count("steps", steps)
    if k > steps:
        raise ValueError(f"k must be at most steps, got k={k} and steps={steps}")
    if not isinstance(order, str) or order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
    tolerance = checks.require_finite("tolerance", tolerance)
    operator.require_product(product)

    def measure(key: Key, params: PyTree, batch: PyTree) -> Eigenpairs:
        require_key(key)
        problem = product.prepare(params, batch)
        if k > problem.dimension:
            raise ValueError(f"k must be at most the number of parameters chosen, {problem.dimension}, got {k}")
        taken = min(steps, problem.dimension)
        basis, projected = lanczos.decompose(problem.product, taken, key, problem.params, problem.parts)
        operator.require_finite(projected)
        ritz, coordinates = lanczos.eigh(projected)
        top = np.argsort(-ritz if order == "algebraic" else -np.abs(ritz), kind="stable")[:k]
        space = SplitRows(problem.dimension, problem.product.execution.devices)
        values, eigenvectors, residuals = _refine(
            problem.product, space, problem.params, problem.parts, basis, coordinates[:, top].T.astype(basis.dtype)
        )
        # On the host: of many pairs, the vectors would fill the devices more than the basis does.
        leaves = operator.split(np.asarray(eigenvectors)[:, : space.size], problem.product.leaves(problem.params))
        vectors = parameters.in_zeros(product.variables(params, batch), leaves, product.where)
        values, residuals = (np.asarray(a, np.float64) for a in (values, residuals))
        converged = residuals <= tolerance * np.abs(ritz).max()
        return Eigenpairs(values, vectors, residuals, converged, taken + k)

    return measure


@functools.partial(jax.jit, static_argnums=(0, 1))
def _refine(
    product: Product, space: SplitRows, params: PyTree, parts: PyTree, basis: Array, coordinates: Array
) -> tuple[Array, Array, Array]:
    """Return values, unit vectors as rows of ``space`` and residuals of coordinates ``[k m]`` in the basis."""
    multiply, _ = product.on_vectors(params, parts)
    with jax.default_matmul_precision("highest"):
        vectors = space.combinations(coordinates, basis)

    def check(number: Array) -> tuple[Array, Array, Array]:
        vector = space.row(vectors, number)
        length = jnp.linalg.norm(vector)
        vector = vector / length
        image = multiply(vector)
        value = jnp.vdot(vector, image, precision="highest")
        return value, length, norm_balls.norm(image - value * vector, "l2")

    values, lengths, residuals = jax.lax.map(check, jnp.arange(len(coordinates)))
    return values, vectors / lengths[:, None], residuals
