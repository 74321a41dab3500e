"""Estimates with error bars: means and rates, rank correlations, components of variance, interim looks."""

from jaxsens.statistics.correlation import rank_correlation
from jaxsens.statistics.estimate import Estimate

__all__ = ["Estimate", "rank_correlation"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
