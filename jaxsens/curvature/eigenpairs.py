"""The top of a curvature matrix's spectrum: eigenvalues and eigenvectors, each with its residual."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import norm_balls, parameters
from jaxsens.curvature import lanczos, operator
from jaxsens.curvature.operator import Leaves, Product
from jaxsens.typing import Array, Key, PyTree

__all__ = ["ORDERS", "Eigenpairs", "top_eigenpairs"]

ORDERS = ("algebraic", "magnitude")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "vectors", "residuals", "converged"],
    meta_fields=["products"],
)
@dataclass(frozen=True)
class Eigenpairs:
    """Approximate eigenpairs of a symmetric matrix, the top ones first.

    Attributes:
        values: Rayleigh quotients ``v' A v``, float64 ``[k]``.
        vectors: Unit vectors: a tuple of arrays ``[k *leaf]``, one for each chosen leaf of the parameters.
        residuals: ``|A v - value v|``, float64 ``[k]``: the matrix has an eigenvalue that is no further from the value.
        converged: Whether the residual is under the tolerance ``[k]``.
        products: How many products with the matrix it took.
    """

    values: np.ndarray
    vectors: Leaves
    residuals: np.ndarray
    converged: np.ndarray
    products: int


def top_eigenpairs(
    product: Product, k: int, *, order: str = "algebraic", steps: int | None = None, tolerance: float = 1e-4
) -> Callable[[Key, PyTree, PyTree], Eigenpairs]:
    """Build the measurement of the ``k`` top eigenpairs of a curvature matrix, by Lanczos.

    From one random start, with full reorthogonalisation; residuals are measured with ``k`` further products rather than
    inferred. (Golub and Van Loan, Matrix Computations, s.10.1, 10.3.) A single start shows one copy of a multiple
    eigenvalue before it shows the next: fewer steps than there are different eigenvalues may miss copies, and then the
    pairs, though converged, are not all of the top. So it is with any Krylov method.

    Args:
        product: As built by ``hessian_product``, ``ggn_product`` or ``fisher_product``.
        k: The number of pairs.
        order: ``"algebraic"``: the largest first; ``"magnitude"``: the largest in absolute value first.
        steps: Products before those for the residuals, by default ``4 k + 40``; never more than there are parameters.
            The basis takes ``steps`` times the memory of the parameters, on each device.
        tolerance: Pairs whose residual is at most this part of the largest absolute eigenvalue have converged.

    Returns:
        ``measure(key, params, batch)`` -> ``Eigenpairs``.

    Raises:
        ValueError: If ``k``, ``order``, ``steps`` or ``tolerance`` is out of range; when called, if there are fewer
            than ``k`` parameters, or as ``Product``.
        FloatingPointError: When called, if a product is not finite.
    """
    steps = 4 * k + 40 if steps is None else steps
    if steps != int(steps) or k != int(k) or not 1 <= k <= steps:
        raise ValueError(f"k and steps must be integers, and k from 1 to steps, got {k} and {steps}")
    if order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")

    def measure(key: Key, params: PyTree, batch: PyTree) -> Eigenpairs:
        problem = product.prepare(params, batch)
        if k > problem.dimension:
            raise ValueError(f"k must be at most the number of parameters chosen, {problem.dimension}, got {k}")
        taken = min(steps, problem.dimension)
        basis, projected = lanczos.decompose(problem.product, taken, key, problem.params, problem.parts)
        operator.require_finite(projected)
        ritz, coordinates = lanczos.eigh(projected)
        top = np.argsort(-ritz if order == "algebraic" else -np.abs(ritz), kind="stable")[:k]
        values, vectors, residuals = _refine(
            problem.product, problem.params, problem.parts, basis, coordinates[:, top].T.astype(basis.dtype)
        )
        values, residuals = (np.asarray(a, np.float64) for a in (values, residuals))
        converged = residuals <= tolerance * np.abs(ritz).max()
        return Eigenpairs(values, vectors, residuals, converged, taken + k)

    return measure


@functools.partial(jax.jit, static_argnums=0)
def _refine(
    product: Product, params: PyTree, parts: PyTree, basis: Array, coordinates: Array
) -> tuple[Array, Leaves, Array]:
    """Turn coordinates ``[k m]`` in the basis ``[m n]`` into values, unit vectors and residuals."""
    multiply, _ = product.on_vectors(params, parts)
    with jax.default_matmul_precision("highest"):
        vectors = coordinates @ basis
    vectors = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)

    def check(vector: Array) -> tuple[Array, Array]:
        image = multiply(vector)
        value = jnp.vdot(vector, image, precision="highest")
        return value, norm_balls.norm(image - value * vector, "l2")

    values, residuals = jax.lax.map(check, vectors)
    return values, operator.split(vectors, parameters.weights(params, product.where)[0]), residuals
