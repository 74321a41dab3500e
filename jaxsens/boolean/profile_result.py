"""The results of ``sensitivity_profile``: which bits of which strings turn acceptance into rejection or back."""

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial

import jax
import numpy as np

from jaxsens.boolean.decisions import UNDEFINED
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.statistics.estimated import Estimated
from jaxsens.typing import Axes, Figure

__all__ = ["Audit", "Profile", "over_strings"]


@partial(jax.tree_util.register_dataclass, data_fields=["changed", "error"], meta_fields=[])
@dataclass(frozen=True, repr=False)
class Audit(Result):
    """Difference between float64 and the precision in which a profile was measured.

    Attributes:
        changed: The fraction of decisions that differ in float64, of the n + 1 of a string (with no bit or one bit
            flipped); the units are strings.
        error: The largest ``|logit - logit in float64|``, in standard deviations of the float64 logits.

    Example:
        >>> Audit(estimate.from_values([0.0, 0.5], rate=True, unit="strings"), 1e-7)
        Audit(0.25 [95% 0.000217, 0.939]; share of decisions changed; 2 strings)
    """

    changed: Estimate
    error: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of ``changed``; see ``Estimate.interval``."""
        return self.changed.interval(level)

    def _describe(self) -> Description:
        changed = self.changed
        table = {"changed": [changed.mean], "sem": [changed.sem], "error": [self.error]}
        facts = {"largest error": self.error}
        counts = f"share of decisions changed; {times(strings=changed.count)}"
        return Description(counts, changed.mean, self.interval(), facts=facts, table=lambda: table)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["flips", "decisions", "audit"],
    meta_fields=["exhaustive", "margin", "chunk"],
)
@dataclass(frozen=True, repr=False)
class Profile(Estimated):
    """Which bits of which strings turn acceptance into rejection or back, with counts, means and intervals.

    Intervals, scaled counts and means refer to all ``2^n`` strings and assume that the strings were drawn uniformly. If
    they are all of them, everything is exact, and intervals have no width.

    Attributes:
        flips: Whether flipping a bit turns acceptance into rejection or back ``[b n]``; False where one of the two
            decisions is undefined.
        decisions: Decisions about the unchanged strings, int8 ``[b]``; see ``decisions.decide``.
        exhaustive: Whether the strings are all ``2^n``, each once, in any order.
        audit: Comparison of the decisions with float64; ``None`` without an audit.
        margin: Margin of recognition, in units of the logit.
        chunk: Number of model forwards to evaluate at once.

    Example:
        >>> flips = np.array([[True, True], [True, False], [False, False]])
        >>> profile = Profile(flips, np.ones(3, np.int8), exhaustive=False, audit=None, margin=0.0, chunk=3)
        >>> profile.counts.tolist(), profile.mean
        ([1, 1, 1], 1.0)
    """

    flips: np.ndarray
    decisions: np.ndarray
    exhaustive: bool
    audit: Audit | None
    margin: float
    chunk: int

    @cached_property
    def sensitivities(self) -> np.ndarray:
        """Sensitivity ``s(x)`` of every string, int ``[b]``, from 0 to n; 0 for undefined strings (Def. 2.2)."""
        return self.flips.sum(1)

    @cached_property
    def counts(self) -> np.ndarray:
        """Numbers of strings with sensitivity 0 to n, int ``[n+1]``."""
        return np.bincount(self.sensitivities, minlength=self.flips.shape[1] + 1)

    @property
    def shares(self) -> np.ndarray:
        """``counts / b``, ``[n+1]``."""
        return self.counts / len(self.flips)

    def share_intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return intervals ``(low, high)``, each ``[n+1]``, that hold all n + 1 shares at once with this confidence.

        Clopper and Pearson's, each at level ``1 - (1 - level) / (n + 1)`` (Bonferroni).

        Raises:
            ValueError: If ``level`` is not strictly between 0 and 1.
        """
        return self._intervals(self.counts, level)

    @property
    def scaled(self) -> tuple[float, ...]:
        """``K_0 .. K_n``, the profile of Def. 2.6: ``2^n shares``, for uniformly drawn strings.

        Exact Python integers where the strings are all ``2^n``.

        Raises:
            ValueError: If a count exceeds float64, from n = 1024 on.
        """
        return tuple(self.counts.tolist()) if self.exhaustive else self._scaled(self.shares)

    def scaled_intervals(self, level: float = 0.95) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return intervals ``(low, high)`` that hold ``K_0 .. K_n`` at once: those of the shares, times 2^n.

        Raises:
            ValueError: If ``level`` is not strictly between 0 and 1, or a limit exceeds float64.
        """
        low, high = self.share_intervals(level)
        return (self.scaled, self.scaled) if self.exhaustive else (self._scaled(low), self._scaled(high))

    @cached_property
    def average_sensitivity(self) -> Estimate:
        """Mean of ``s(x)`` (Def. 2.3), in bits, from 0 to n; the units are strings, drawn uniformly.

        Its interval has no width where all sampled strings are equally sensitive; that of ``normalized_average`` has.
        """
        return over_strings(self.sensitivities, rate=False, exact=self.exhaustive)

    @cached_property
    def normalized_average(self) -> Estimate:
        """Mean of ``s(x) / n``, a rate in [0, 1]: the fraction of bit flips that change the decision."""
        return over_strings(self.sensitivities / self.flips.shape[1], rate=True, exact=self.exhaustive)

    @property
    def influences(self) -> np.ndarray:
        """Fraction of the strings on which flipping bit i changes the decision ``[n]``; the sum is the average."""
        return self.flips.mean(0)

    def influence_intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return intervals ``(low, high)``, each ``[n]``, that hold all n influences at once with this confidence.

        Clopper and Pearson's, each at level ``1 - (1 - level) / n`` (Bonferroni).

        Raises:
            ValueError: If ``level`` is not strictly between 0 and 1.
        """
        return self._intervals(self.flips.sum(0), level)

    @property
    def estimate(self) -> Estimate:
        """The mean sensitivity in bits, ``average_sensitivity``; exact, without width, of all ``2^n`` strings."""
        return self.average_sensitivity

    def minus(self, other: "Profile") -> Estimate:
        """Estimate how much larger the average sensitivity is than that of another function on the same strings.

        ``mean(sensitivities - other.sensitivities)``, in bits, with the standard error of these differences; strings
        are paired in their order. Of all ``2^n`` strings it is exact, and its interval has no width.

        Raises:
            ValueError: If ``other`` is no profile, or strings or margins differ as far as profiles tell: their number,
                their length, and whether they are all ``2^n``.

        Example:
            >>> first, second = (
            ...     Profile(np.array(flips), np.ones(2, np.int8), False, None, 0.0, 2)
            ...     for flips in ([[True, True], [True, False]], [[False, True], [False, False]])
            ... )
            >>> float(first.minus(second).mean)
            1.0
        """
        other = getattr(other, "measured", other)
        if not isinstance(other, Profile):
            raise ValueError(f"other must be a Profile, got a {type(other).__name__}")
        for name, value, other_value in (
            ("the number of strings and bits", self.flips.shape, other.flips.shape),
            ("exhaustive", self.exhaustive, other.exhaustive),
            ("the margin", self.margin, other.margin),
        ):
            if value != other_value:
                raise ValueError(
                    f"other must be of the same strings and margin: {name} is {value} here and {other_value} there"
                )
        return over_strings(self.sensitivities - other.sensitivities, rate=False, exact=self.exhaustive)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the shares of strings by sensitivity, with 95 % intervals that hold at once.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        shares = self.shares, *self.share_intervals()
        return draw("bars_by_position", ax, *shares, position="sensitivity of a string (bits)", quantity="share")

    def _describe(self) -> Description:
        strings, bits = self.flips.shape
        counts = f"{'all ' if self.exhaustive else ''}{times(strings=strings, bits=bits)}"
        facts = {"least": self.min_sensitivity, "most": self.max_sensitivity, "undefined": self.undefined.mean}

        def table() -> dict[str, np.ndarray]:
            low, high = self.share_intervals()
            return tidy({"sensitivity": None}, {"count": self.counts, "share": self.shares, "low": low, "high": high})

        return Description(counts, self.mean, self.interval(), facts=facts, table=table)

    @cached_property
    def undefined(self) -> Estimate:
        """Fraction of the strings without a decision at this margin."""
        return over_strings(self.decisions == UNDEFINED, rate=True, exact=self.exhaustive)

    @property
    def min_sensitivity(self) -> int:
        """Smallest sensitivity of a string: that of the function (Def. 2.5), or more if the strings are a sample."""
        return int(self.sensitivities.min())

    @property
    def max_sensitivity(self) -> int:
        """Largest sensitivity of a string: that of the function (Def. 2.4), or less if the strings are a sample."""
        return int(self.sensitivities.max())

    def _intervals(self, counts: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        total = len(self.flips)
        low, high = estimate.clopper_pearson(counts, total, level, comparisons=len(counts))
        return (counts / total, counts / total) if self.exhaustive else (low, high)

    def _scaled(self, shares: np.ndarray) -> tuple[float, ...]:
        n = self.flips.shape[1]
        try:
            return tuple(math.ldexp(share, n) for share in shares.tolist())
        except OverflowError as error:
            raise ValueError(f"counts of 2^{n} strings exceed float64: use shares and share_intervals") from error


def over_strings(values: np.ndarray, *, rate: bool, exact: bool) -> Estimate:
    """Estimate a mean over strings, without error where they are all that there are.

    Example:
        >>> float(over_strings(np.array([1.0, 0.0]), rate=True, exact=True).sem)
        0.0
    """
    result = estimate.from_values(values, rate=rate, unit="strings")
    if exact:  # nothing was drawn
        return replace(result, sem=np.zeros_like(result.mean), rate=False)
    return result
