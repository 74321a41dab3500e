"""The base class of results that one estimate stands for."""

from jaxsens.results.result import Result
from jaxsens.statistics.estimate import Estimate

__all__ = ["Estimated"]


class Estimated(Result, abstract=True):
    """A result with an ``estimate`` of one number over independent units: it has the mean, error and interval of it."""

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
