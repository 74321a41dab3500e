"""The results of ``blow_ups`` and ``influences``: how far a recognizer moves when one bit is flipped.

Numbers of sections, definitions and equations are those of Kövér et al., Understanding the Parameter Space Geometry of
Transformers Encoding Boolean Functions.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import jax
import numpy as np

from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.statistics.estimated import Estimated
from jaxsens.typing import Axes, Figure

__all__ = ["BlowUps", "Influences", "accumulated"]


@partial(jax.tree_util.register_dataclass, data_fields=["tau"], meta_fields=["chunk"])
@dataclass(frozen=True, repr=False)
class BlowUps(Estimated):
    """Blow-ups of a recognizer.

    Attributes:
        tau: The blow-up of every normalization on every string, Eq. 17 ``[b r]``.
        chunk: Number of model forwards evaluated at once.

    Example:
        >>> result = BlowUps(np.array([[1.0, 2.0], [3.0, 2.0]]), chunk=2)
        >>> result.beta.tolist(), round(result.mean, 3)
        ([[1.0, 2.0], [3.0, 6.0]], 1.242)
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
        return Description(counts, self.mean, self.interval(), facts=facts, table=table)


@partial(
    jax.tree_util.register_dataclass, data_fields=["states", "logits", "sites"], meta_fields=["positions", "chunk"]
)
@dataclass(frozen=True, repr=False)
class Influences(Estimated):
    """Absolute influences of ``s`` flipped bits on the logit and on the activations of ``p`` positions.

    Attributes:
        states: ``||y(x) - y(x with bit n flipped)||_2`` after the last layer ``[b s p]``, or after every layer
            ``[b s l+1 p]``, the embeddings first; in units of the states.
        logits: ``|T(x) - T(x with bit n flipped)|`` ``[b s]``, in units of the logit.
        sites: The flipped bits, counted from 0 ``[s]``.
        positions: The positions, counted from 0, of the last axis of ``states``.
        chunk: Number of model forwards to evaluate at once.

    Example:
        >>> result = Influences(np.ones((2, 1, 1)), np.array([[1.0], [2.0]]), np.array([0]), (3,), chunk=2)
        >>> result.mean, float(result.states_estimate.mean[0])
        (1.5, 1.0)
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

        return Description(counts, self.mean, self.interval(), table=table)


def accumulated(tau: np.ndarray) -> np.ndarray:
    """Return ``tau_1 ... tau_r`` along the last axis, in float64.

    Example:
        >>> accumulated(np.array([[2.0, 3.0]])).tolist()
        [[2.0, 6.0]]
    """
    with np.errstate(over="ignore"):  # beyond float64 it is infinite
        return np.cumprod(tau, -1, dtype=np.float64)
