"""The base class of results that one estimate stands for."""

from typing import Self

from jaxsens.results.result import Result
from jaxsens.statistics.estimate import Estimate

__all__ = ["Estimated"]


class Estimated(Result, abstract=True):
    """A result with an ``estimate`` of one number over independent units: it has the mean, error and interval of it.

    Example:
        >>> from jaxsens.statistics import estimate
        >>> class Mine(Estimated, abstract=True):
        ...     estimate = estimate.from_values([1.0, 2.0, 3.0])
        >>> Mine().mean, Mine().count
        (2.0, 3)
    """

    estimate: Estimate

    @property
    def mean(self) -> float:
        """Mean over the independent units."""
        return float(self.estimate.mean)

    @property
    def sem(self) -> float:
        """Standard error of the mean over the independent units."""
        return float(self.estimate.sem)

    @property
    def count(self) -> int:
        """The number of independent units."""
        return self.estimate.count

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean; see ``Estimate.interval``."""
        low, high = self.estimate.interval(level)
        return float(low), float(high)

    def minus(self, other: Self) -> Estimate:
        """Estimate how much larger the mean is than another over the same units, in order; see ``Estimate.minus``.

        Raises:
            ValueError: If ``other`` is a result of another kind, or the units cannot be paired.
        """
        if not isinstance(other, type(self)):
            raise ValueError(f"other must be a {type(self).__name__}, got a {type(other).__name__}")
        return self.estimate.minus(other.estimate)
