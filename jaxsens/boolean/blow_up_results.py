"""The results of ``blow_ups`` and ``influences``: how far a recognizer moves when one bit is flipped.

Numbers of sections, definitions and equations are those of Kövér et al., Understanding the Parameter Space Geometry of
Transformers Encoding Boolean Functions.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import jax
import numpy as np

from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Axes, Figure

__all__ = ["BlowUps", "Influences", "accumulated"]


@partial(jax.tree_util.register_dataclass, data_fields=["tau"], meta_fields=["chunk"])
@dataclass(frozen=True, repr=False)
class BlowUps(Result):
    """Blow-ups of a recognizer.

    Attributes:
        tau: The blow-up of every normalization on every string, Eq. 17 ``[b r]``.
        chunk: Number of model forwards evaluated at once.
    """

    tau: np.ndarray
    chunk: int

    @cached_property
    def beta(self) -> np.ndarray:
        """The cumulative blow-up up to every normalization, Eq. 18, in float64 ``[b r]``."""
        return accumulated(self.tau)

    @cached_property
    def estimate(self) -> Estimate:
        """Mean of ``log beta`` of the whole model, in nats; the units are strings. Infinite blow-ups are an error."""
        return estimate.from_values(np.log(self.beta[:, -1]), unit="strings")

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean of ``log beta``; see ``Estimate.interval``."""
        low, high = self.estimate.interval(level)
        return float(low), float(high)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw ``beta`` against the normalization: the median over strings, and the range of the middle half.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        low, middle, high = np.quantile(self.beta, [0.25, 0.5, 0.75], 0)
        lines = np.arange(1, len(middle) + 1), middle, low, high
        return draw("line_with_band", ax, *lines, across="normalization", quantity="cumulative blow-up", log=True)

    def _describe(self) -> Description:
        strings, normalizations = self.tau.shape
        counts = times(strings=strings, normalizations=normalizations)
        facts = {"largest": self.beta[:, -1].max()}

        def table() -> dict[str, np.ndarray]:
            return tidy({"string": None, "normalization": None}, {"tau": self.tau, "beta": self.beta})

        if not np.isfinite(self.beta).all():
            return Description(counts, words="infinite", facts=facts, table=table)
        counts = f"mean log beta; {counts}"
        return Description(counts, float(self.estimate.mean), self.interval(), facts=facts, table=table)


@partial(
    jax.tree_util.register_dataclass, data_fields=["states", "logits", "sites"], meta_fields=["positions", "chunk"]
)
@dataclass(frozen=True, repr=False)
class Influences(Result):
    """Absolute influences of ``s`` flipped bits on the logit and on the activations of ``p`` positions.

    Attributes:
        states: ``||y(x) - y(x with bit n flipped)||_2`` after the last layer ``[b s p]``, or after every layer
            ``[b s l+1 p]``, the embeddings first; in units of the states.
        logits: ``|T(x) - T(x with bit n flipped)|`` ``[b s]``, in units of the logit.
        sites: The flipped bits, counted from 0 ``[s]``.
        positions: The positions, counted from 0, of the last axis of ``states``.
        chunk: Number of model forwards to evaluate at once.
    """

    states: np.ndarray
    logits: np.ndarray
    sites: np.ndarray
    positions: tuple[int, ...]
    chunk: int

    @cached_property
    def states_estimate(self) -> Estimate:
        """Mean influence on activations over the flipped bits, ``[p]`` or ``[l+1 p]``; the units are strings."""
        return estimate.from_values(self.states.mean(1, dtype=np.float64), unit="strings")

    @cached_property
    def logits_estimate(self) -> Estimate:
        """Mean influence on the logit over the flipped bits; the units are strings."""
        return estimate.from_values(self.logits.mean(1, dtype=np.float64), unit="strings")

    @property
    def estimate(self) -> Estimate:
        """Mean influence on the logit, ``logits_estimate``."""
        return self.logits_estimate

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean influence on the logit; see ``Estimate.interval``."""
        low, high = self.logits_estimate.interval(level)
        return float(low), float(high)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the mean influence of every flipped bit on the logit, with its 95 % interval.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        of_bits = estimate.from_values(self.logits, unit="strings")
        labels = [str(site) for site in self.sites]
        lines = of_bits.mean, *of_bits.interval()
        return draw("bars_by_position", ax, *lines, position=labels, quantity="influence on the logit")

    def _describe(self) -> Description:
        strings, bits = self.logits.shape
        counts = f"on the logit; {times(strings=strings, bits=bits, positions=len(self.positions))}"

        def table() -> dict[str, np.ndarray]:
            return tidy({"string": None, "bit": self.sites}, {"logit": self.logits})

        return Description(counts, float(self.logits_estimate.mean), self.interval(), table=table)


def accumulated(tau: np.ndarray) -> np.ndarray:
    """Return ``tau_1 ... tau_r`` along the last axis, in float64."""
    with np.errstate(over="ignore"):  # beyond float64 it is infinite
        return np.cumprod(tau, -1, dtype=np.float64)
