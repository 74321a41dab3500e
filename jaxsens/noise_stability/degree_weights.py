"""Fourier weights by degree, recovered from a measured curve of noise stability."""

from dataclasses import dataclass
from functools import cached_property, partial

import jax
import numpy as np
from scipy import optimize

from jaxsens.execution import checks
from jaxsens.noise_stability.result import NoiseStability
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Axes, Figure

__all__ = ["DegreeWeights", "degree_weights"]

_BEYOND = 400
"""How many degrees beyond the fitted ones are looked at: the powers of correlations below 1 have vanished then."""


@partial(
    jax.tree_util.register_dataclass, data_fields=["values", "constrained", "condition", "leakage"], meta_fields=[]
)
@dataclass(frozen=True, repr=False)
class DegreeWeights(Result):
    """Weights by degree, with what the fit does to noise and to higher degrees.

    Attributes:
        values: The weights that each example's curve gives by least squares ``[b k]``, for degrees 0 to k - 1.
        constrained: The weights of at least 0 that fit the mean curve best ``[k]``, without an error bar.
        condition: The condition number of the powers of rho: how much larger errors of the weights, relative to them,
            may be than errors of the curve.
        leakage: The largest part of a weight of a higher degree that is counted as weight of degree j ``[k]``: the bias
            of weight j is at most that times the weight above the last degree.

    Example:
        >>> DegreeWeights(np.array([[0.2, 0.8], [0.0, 1.0]]), np.array([0.1, 0.9]), 3.0, np.zeros(2)).mean.tolist()
        [0.1, 0.9]
    """

    values: np.ndarray
    constrained: np.ndarray
    condition: float
    leakage: np.ndarray

    @cached_property
    def estimate(self) -> Estimate:
        """The estimate ``[k]`` over examples, the independent units: linear in the curve, hence unbiased as it is."""
        return estimate.from_values(self.values, rate=False, unit="examples")

    @property
    def mean(self) -> np.ndarray:
        """The weights ``[k]``; noise may make small ones negative."""
        return self.estimate.mean

    @property
    def sem(self) -> np.ndarray:
        """Their standard errors over examples ``[k]``."""
        return self.estimate.sem

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return confidence intervals ``(low, high)`` ``[k]``, each for one degree, without the bias of ``leakage``."""
        return self.estimate.interval(level)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the weights by degree with their 95 % intervals."""
        return draw("bars_by_position", ax, self.mean, *self.interval(), position="degree", quantity="weight")

    def _describe(self) -> Description:
        low, high = self.interval()
        columns = {
            "mean": self.mean, "sem": self.sem, "low": low, "high": high, "constrained": self.constrained,
            "leakage": self.leakage,
        }  # fmt: skip
        counts = times(degrees=len(self.constrained), examples=len(self.values))
        facts = {"standard error": self.sem, "condition number": self.condition}
        return Description(counts, self.mean, (low, high), facts=facts, table=lambda: tidy({"degree": None}, columns))


def degree_weights(stability: NoiseStability, degree: int) -> DegreeWeights:
    """Recover the weights ``W_0 .. W_degree`` from ``Stab_rho = sum_k rho^k W_k`` by least squares.

    ``W = A^+ Stab``, with ``A = rho^k`` of r correlations. The estimate is linear, hence unbiased for functions without
    weight above ``degree``, and each example gives its own weights, whose spread is the error bar; ``leakage`` bounds
    the bias for other functions. The condition number of A grows about as ``(1 + sqrt(2))^degree`` for correlations
    spread over [-1, 1], and much faster for positive ones only: then degrees beyond 5 or 6 cannot be told apart. For
    all degrees of functions of few bits use ``truth_tables.degree_weights``, which is exact.

    Weights are those of the Walsh expansion for bits and of the Hermite expansion for Gaussian inputs (O'Donnell,
    Thm. 2.49 and Prop. 11.37), and need examples drawn from that law. For outputs of several numbers they are sums over
    outputs.

    Args:
        stability: A curve at ``degree + 1`` correlations or more, with products of values, not of events, or of the
            indicators of classes.
        degree: The largest degree of the fit.

    Raises:
        ValueError: If ``stability`` is no ``NoiseStability``, ``degree`` is no integer of at least 0, or there are
            fewer correlations than weights.

    Example:
        >>> rhos = np.linspace(-1, 1, 5)
        >>> curve = NoiseStability(rhos, np.stack([rhos**2, rhos**2]), False, 1)      # a parity of two bits
        >>> (degree_weights(curve, 2).mean.round(6) + 0.0).tolist()
        [0.0, 0.0, 1.0]
    """
    if not isinstance(stability, NoiseStability):
        raise ValueError(f"stability must be a NoiseStability, got {stability!r}")
    degree = checks.require_count("degree", degree, 0)
    rhos = np.asarray(stability.rhos, np.float64)
    if len(rhos) <= degree:
        raise ValueError(f"rhos must be at least {degree + 1} for degree {degree}, got {len(rhos)}: measure more")
    powers = rhos[:, None] ** np.arange(degree + 1)
    inverse = np.linalg.pinv(powers)
    above = rhos[:, None] ** np.arange(degree + 1, degree + 1 + _BEYOND)
    constrained = optimize.nnls(powers, stability.values.mean(0))[0]
    return DegreeWeights(
        stability.values @ inverse.T, constrained, float(np.linalg.cond(powers)), np.abs(inverse @ above).max(1)
    )
