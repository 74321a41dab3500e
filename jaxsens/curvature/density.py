"""The spectral density of a curvature matrix: stochastic Lanczos quadrature."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from jaxsens.curvature import lanczos, operator
from jaxsens.curvature.operator import Product
from jaxsens.execution import checks
from jaxsens.execution.keys import require_key
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array, Axes, Figure, Key, PyTree

__all__ = ["SpectralDensity", "smoothed", "spectral_density"]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["atoms", "weights", "grid", "curve", "width"], meta_fields=[]
)
@dataclass(frozen=True, repr=False)
class SpectralDensity(Result):
    """The distribution of eigenvalues, with total mass 1.

    Attributes:
        atoms: Nodes of the quadrature for every probe, float64 ``[p m]``, ascending: estimates of eigenvalues.
        weights: Their mass ``[p m]``, with sum 1 for every probe. A single eigenvalue has a mass of about ``1 / n``.
        grid: Eigenvalues at which the curve is evaluated ``[g]``.
        curve: The density there, an ``Estimate`` over probes ``[g]``; its integral over the grid is 1.
        width: Standard deviation of the Gaussian in place of each atom.

    Example:
        >>> from jaxsens.statistics import estimate
        >>> atoms, weights, grid = np.array([[0.0, 2.0]] * 2), np.full((2, 2), 0.5), np.linspace(-1.0, 3.0, 5)
        >>> density = SpectralDensity(atoms, weights, grid, smoothed(atoms, weights, grid, 0.5), 0.5)
        >>> density.estimate.mean.round(2)
        array([0.05, 0.4 , 0.11, 0.4 , 0.05])
    """

    atoms: np.ndarray
    weights: np.ndarray
    grid: np.ndarray
    curve: Estimate
    width: float

    @property
    def estimate(self) -> Estimate:
        """The density on the grid, ``curve``."""
        return self.curve

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the confidence interval ``(low, high)`` of the density on the grid; see ``Estimate.interval``."""
        return self.curve.interval(level)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the density with its 95 % interval, on a logarithmic axis.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        lines = self.grid, self.curve.mean, *self.interval()
        smallest = 1e-3 * float(self.curve.mean.max())
        return draw("line_with_band", ax, *lines, across="eigenvalue", quantity="density", smallest=smallest)

    def _describe(self) -> Description:
        probes, steps = self.atoms.shape
        shown = f"eigenvalues {self.atoms.min():.3g} to {self.atoms.max():.3g}"

        def table() -> dict[str, np.ndarray]:
            low, high = self.interval()
            columns = {"density": self.curve.mean, "sem": self.curve.sem, "low": low, "high": high}
            return tidy({"eigenvalue": self.grid}, columns)

        return Description(times(probes=probes, steps=steps), words=shown, facts={"width": self.width}, table=table)

    def smoothed(self, grid: Array, width: float) -> Estimate:
        """Return the density on another grid ``[g]``, for instance one that several models share; see ``smoothed``."""
        return smoothed(self.atoms, self.weights, grid, width)


def spectral_density(
    product: Product, *, probes: int, steps: int = 80, width: float | None = None, points: int = 1000
) -> Callable[[Key, PyTree, PyTree], SpectralDensity]:
    """Build the measurement of a curvature matrix's spectral density ``(1 / n) sum_i delta(x - eigenvalue_i)``.

    For a random unit vector q, Lanczos gives a quadrature of ``q' f(A) q`` with ``steps`` nodes, exact for polynomials
    of degree up to ``2 steps - 1``; its mean over q is ``trace(f(A)) / n``. (Ubaru, Chen and Saad, Fast Estimation of
    tr(f(A)) via Stochastic Lanczos Quadrature, 2017; Ghorbani et al., An Investigation into Neural Net Optimization via
    Hessian Eigenvalue Density, 2019.)

    Each of several processes computes the whole result; the work is not shared among them.

    Args:
        product: As built by ``hessian_product``, ``ggn_product`` or ``fisher_product``.
        probes: The number of random vectors, the independent units.
        steps: Products for each probe, at most the number of parameters.
        width: Standard deviation of the Gaussian that smooths the curve, in units of eigenvalues; by default a
            hundredth of the range of the atoms (of their absolute value where all are equal, of 1 where all are 0).
        points: Points of the grid, which extends six widths beyond the outermost atoms. With fewer than 200 the curve
            would not integrate to 1.

    Returns:
        ``measure(key, params, batch)`` -> ``SpectralDensity``. The key decides the probes.

    Raises:
        ValueError: If ``probes`` or ``steps`` is smaller than 1, ``points`` than 200, if ``width`` is not positive, or
            if the grid is too coarse for it; when called, if labels are no classes, or if batch and parameters do not
            fit the model.
        FloatingPointError: When called, if the loss of an example or a product is not finite.

    Example:
        >>> from jaxsens.curvature import hessian_product
        >>> product = hessian_product(lambda w, x: 0.5 * (x @ w) ** 2)    # the Hessian is X' X / n
        >>> x = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)                     # eigenvalues 1/2 and 2
        >>> density = spectral_density(product, probes=3)(jax.random.key(0), np.zeros(2, np.float32), x)
        >>> density.atoms[0].round(4), density.curve.mean.shape
        (array([0.5, 2. ]), (1000,))
    """
    probes, steps = checks.require_count("probes", probes), checks.require_count("steps", steps)
    points = checks.require_count("points", points, 200)
    width = None if width is None else checks.require_finite("width", width, above=True)
    operator.require_product(product)

    def measure(key: Key, params: PyTree, batch: PyTree) -> SpectralDensity:
        require_key(key)
        problem = product.prepare(params, batch)
        taken = min(steps, problem.dimension)
        pairs = []
        for probe in range(probes):
            start = jax.random.fold_in(key, probe)
            _, projected = lanczos.decompose(problem.product, taken, start, problem.params, problem.parts)
            operator.require_finite(projected)
            pairs.append(lanczos.eigh(projected))
        atoms = np.stack([values for values, _ in pairs])
        weights = np.stack([vectors[0] ** 2 for _, vectors in pairs])
        chosen = _width(atoms) if width is None else width
        low, high = atoms.min() - 6 * chosen, atoms.max() + 6 * chosen
        if (high - low) / (points - 1) > chosen:
            raise ValueError(
                f"points must be at least {int((high - low) / chosen) + 2} for a width of {chosen:.3g}, got {points}"
            )
        grid = np.linspace(low, high, points)
        return SpectralDensity(atoms, weights, grid, smoothed(atoms, weights, grid, chosen), chosen)

    return measure


def smoothed(atoms: Array, weights: Array, grid: Array, width: float) -> Estimate:
    """Return the density ``sum_j weight_j normal(grid; atom_j, width^2)`` of every probe, averaged over probes.

    Args:
        atoms: Nodes of the quadrature for every probe ``[p m]``.
        weights: Their mass ``[p m]``.
        grid: Points at which the density is evaluated ``[g]``.
        width: Standard deviation of the Gaussian in place of each atom.

    Returns:
        ``Estimate`` over probes ``[g]``, in units of 1 over those of the eigenvalues.

    Raises:
        ValueError: If the width is not positive.

    Example:
        >>> smoothed(np.array([[0.0, 2.0]]), np.array([[0.5, 0.5]]), np.array([0.0, 1.0]), 0.1).mean.round(3)
        array([1.995, 0.   ])
    """
    width = checks.require_finite("width", width, above=True)
    atoms, weights, grid = (
        checks.host_values(value, name) for name, value in (("atoms", atoms), ("weights", weights), ("grid", grid))
    )
    if atoms.ndim != 2 or atoms.shape != weights.shape or grid.ndim != 1 or 0 in (*atoms.shape, *grid.shape):
        raise ValueError(
            f"atoms and weights must be [p m] and grid [g], got shapes {atoms.shape}, {weights.shape} and {grid.shape}"
        )
    if not all(values.dtype.kind in "iuf" and np.isfinite(values).all() for values in (atoms, weights, grid)):
        raise ValueError("atoms, weights and grid must be real and finite")
    atoms, weights, grid = (values.astype(np.float64) for values in (atoms, weights, grid))
    values = np.zeros((len(atoms), len(grid)))
    for atom, weight in zip(np.transpose(atoms), np.transpose(weights), strict=True):
        values += weight[:, None] * np.exp(-0.5 * ((grid[None] - atom[:, None]) / width) ** 2)
    return estimate.from_values(values / (width * np.sqrt(2 * np.pi)), rate=False, unit="probes")


def _width(atoms: np.ndarray) -> float:
    spread, size = np.ptp(atoms), np.abs(atoms).max()
    # A spread below a millionth of the largest atom is due to rounding.
    return float(spread if spread > 1e-6 * size else size or 1.0) / 100
