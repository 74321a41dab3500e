"""The result of a measurement of noise stability: a curve over correlations, with error bars."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Self

import jax
import numpy as np

from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Axes, Figure

__all__ = ["NoiseStability"]


@partial(jax.tree_util.register_dataclass, data_fields=["rhos", "values"], meta_fields=["rate", "draws"])
@dataclass(frozen=True, repr=False)
class NoiseStability(Result):
    """Products of outputs for correlated inputs, and the curve that they estimate.

    Attributes:
        rhos: The correlations ``[r]``.
        values: Mean product over an example's draws ``[b r]``, float64.
        rate: Whether products are events, so that the stability is a probability.
        draws: Correlated copies of each example.

    Example:
        >>> NoiseStability(np.array([0.5]), np.array([[0.1], [0.3], [0.2]]), False, 1)
        NoiseStability(0.2; 1 correlation x 3 examples x 1 draw)
    """

    rhos: np.ndarray
    values: np.ndarray
    rate: bool
    draws: int

    @cached_property
    def estimate(self) -> Estimate:
        """The estimate ``[r]`` over examples, the independent units."""
        return estimate.from_values(self.values, rate=self.rate, unit="examples")

    @property
    def mean(self) -> np.ndarray:
        """The curve ``[r]``."""
        return self.estimate.mean

    @property
    def sem(self) -> np.ndarray:
        """Its standard error over examples ``[r]``."""
        return self.estimate.sem

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return confidence intervals ``(low, high)`` ``[r]``, each for one correlation, not for all at once."""
        return self.estimate.interval(level)

    def minus(self, other: Self) -> Estimate:
        """Estimate the difference ``[r]`` to the curve of another model on the same examples, in order.

        Raises:
            ValueError: If the correlations differ, or the examples cannot be paired; see ``Estimate.minus``.
        """
        if not isinstance(other, NoiseStability) or not np.array_equal(self.rhos, other.rhos):
            raise ValueError("other must be a NoiseStability at the same rhos")
        return self.estimate.minus(other.estimate)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the curve over the correlation, with its 95 % intervals as a band."""
        order = np.argsort(self.rhos)
        low, high = (end[order] for end in self.interval())
        across = {"across": "correlation of the inputs", "quantity": "noise stability"}
        return draw("line_with_band", ax, self.rhos[order], self.mean[order], low, high, **across)

    def _describe(self) -> Description:
        low, high = self.interval()
        columns = {"rho": self.rhos, "mean": self.mean, "sem": self.sem, "low": low, "high": high}
        counts = times(correlations=len(self.rhos), examples=len(self.values), draws=self.draws)
        facts = {"correlations": self.rhos, "standard error": self.sem}
        return Description(counts, self.mean, (low, high), facts=facts, table=lambda: tidy({"point": None}, columns))
