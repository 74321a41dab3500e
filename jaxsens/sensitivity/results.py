"""The results of token sensitivity: changes per example, draw and token, and what follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import numpy as np

from jaxsens.execution import checks
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.statistics.estimated import Estimated
from jaxsens.typing import Array, Axes, Figure

__all__ = ["Delegated", "Sensitivity"]


class Delegated(Estimated, abstract=True):
    """A result that holds a ``Sensitivity`` as ``measured``: it has all that a ``Sensitivity`` has.

    Example:
        >>> from jaxsens.sensitivity import ScreenedSensitivity
        >>> issubclass(ScreenedSensitivity, Delegated)
        True
    """

    measured: "Sensitivity"

    @property
    def values(self) -> np.ndarray:
        """Mean change over draws ``[b t]``; NaN where a token is no site."""
        return self.measured.values

    @property
    def per_example(self) -> np.ndarray:
        """Mean change over an example's draws and sites ``[b]``."""
        return self.measured.per_example

    @property
    def per_token(self) -> np.ndarray:
        """Mean change by position ``[t]``, over the examples where it is a site; NaN where it never is."""
        return self.measured.per_token

    def per_token_intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return intervals ``(low, high)`` for all positions at once; see ``Sensitivity.per_token_intervals``."""
        return self.measured.per_token_intervals(level)

    @property
    def estimate(self) -> Estimate:
        """The estimate over examples, the independent units."""
        return self.measured.estimate

    def minus(self, other: "Sensitivity | Delegated") -> Estimate:
        """Estimate the difference to the sensitivity of another model on the same examples; see ``Sensitivity``."""
        return self.measured.minus(other)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        example: int | None = None,
        image: Array | None = None,
        patch: int | None = None,
        words: Sequence[str] | None = None,
    ) -> Figure:
        """Draw the sensitivity to every token; see ``Sensitivity.plot``."""
        return self.measured.plot(ax, example=example, image=image, patch=patch, words=words)


@partial(jax.tree_util.register_dataclass, data_fields=["changes", "sites"], meta_fields=["rate", "chunk"])
@dataclass(frozen=True, repr=False)
class Sensitivity(Estimated):
    """Changes per example, draw and token, and what follows from them.

    Attributes:
        changes: Values of ``change`` ``[b draws t]``; zero where a token is no site.
        sites: Which tokens were perturbed and counted ``[b t]``.
        rate: Whether changes are events, so that sensitivity is a rate in [0, 1].
        chunk: Model forwards to evaluate at once, for the record.

    Example:
        >>> Sensitivity(np.array([[[True, False]], [[True, True]], [[True, False]]]), np.ones((3, 2), bool), True, 9)
        Sensitivity(0.667 [95% 0.0943, 0.992]; 3 examples x 2 tokens x 1 draw)
    """

    changes: np.ndarray
    sites: np.ndarray
    rate: bool
    chunk: int

    @cached_property
    def values(self) -> np.ndarray:
        """Mean change over draws ``[b t]``; NaN where a token is no site."""
        return np.where(self.sites, self.changes.mean(1, dtype=np.float64), np.nan)

    @cached_property
    def per_example(self) -> np.ndarray:
        """Mean change over an example's draws and sites ``[b]``."""
        return np.where(self.sites, self.values, 0).sum(1) / self.sites.sum(1)

    @cached_property
    def per_token(self) -> np.ndarray:
        """Mean change by position ``[t]``, over the examples where it is a site; NaN where it never is."""
        counted = self.sites.sum(0)
        total = np.where(self.sites, self.values, 0).sum(0)
        return np.where(counted > 0, total / np.maximum(counted, 1), np.nan)

    def per_token_intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return intervals ``(low, high)``, each ``[t]``, that hold the means at all positions at once; NaN as there.

        Each is at level ``1 - (1 - level) / positions`` (Bonferroni); the units are the examples where it is a site.

        Raises:
            ValueError: If ``level`` is not strictly between 0 and 1.
        """
        level = checks.require_level("level", level)
        positions = np.flatnonzero(self.sites.any(0))
        ends = np.full((2, self.sites.shape[1]), np.nan)
        for t in positions:
            token_estimate = estimate.from_values(self.values[self.sites[:, t], t], rate=self.rate)
            ends[:, t] = token_estimate.interval(1 - (1 - level) / len(positions))
        return ends[0], ends[1]

    @cached_property
    def estimate(self) -> Estimate:
        """The estimate over examples, the independent units."""
        return estimate.from_values(self.per_example, rate=self.rate, unit="examples")

    def minus(self, other: "Sensitivity | Delegated") -> Estimate:
        """Estimate how much larger this sensitivity is than another on the same examples, in the same order.

        ``mean(per_example - other.per_example)``, with the standard error of these differences: see ``Estimate.minus``.

        Raises:
            ValueError: If the examples cannot be paired: their number or their sites differ, or one is a rate and the
                other a mean of distances.

        Example:
            >>> first = Sensitivity(np.array([[[1.0, 3.0]], [[2.0, 4.0]]]), np.ones((2, 2), bool), False, 1)
            >>> second = Sensitivity(np.array([[[1.0, 1.0]], [[2.0, 2.0]]]), np.ones((2, 2), bool), False, 1)
            >>> float(first.minus(second).mean)
            1.0
        """
        other = other.measured if isinstance(other, Delegated) else other
        if not isinstance(other, Sensitivity):
            raise ValueError(f"other must be a Sensitivity, got a {type(other).__name__}")
        if self.rate != other.rate:
            kinds = ["a rate of events" if rate else "a mean of distances" for rate in (self.rate, other.rate)]
            raise ValueError(f"other must be recorded by the same change: this is {kinds[0]}, other is {kinds[1]}")
        if self.sites.shape != other.sites.shape:
            raise ValueError(
                f"other must be of the same examples and tokens, {self.sites.shape}, got {other.sites.shape}"
            )
        differ = (self.sites != other.sites).any(1)
        if differ.any():
            raise ValueError(
                f"other must have the same sites: those of {differ.sum()} examples differ, first of example "
                f"{differ.argmax()}"
            )
        return self.estimate.minus(other.estimate)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        example: int | None = None,
        image: Array | None = None,
        patch: int | None = None,
        words: Sequence[str] | None = None,
    ) -> Figure:
        """Draw the sensitivity to every token: bars by position, a map beside its image, or a text with colored tokens.

        Args:
            ax: Where to draw, by default a new figure.
            example: The number of one example; by default the mean over all, whose bars have intervals that hold at
                once.
            image: ``[h w c]``, floats in [0, 1] or integers in [0, 255], whose patches are the tokens.
            patch: Side of a patch in pixels.
            words: The tokens as strings ``[t]``.

        Raises:
            ValueError: If there is no such example, image or words do not fit the tokens, or both are given.
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        count, _, length = self.changes.shape
        if example is not None and checks.require_count("example", example, 0) >= count:
            raise ValueError(f"example must be from 0 to {count - 1}, got {example}")
        values = self.per_token if example is None else self.values[example]
        quantity = "share of changed predictions" if self.rate else "change of the output"
        if image is not None and words is not None:
            raise ValueError("image and words are both given: draw one of them")
        if image is not None:
            patch = checks.require_count("patch", patch, hint=" pixel, the side of a token's patch")
            return draw("map_beside_image", ax, image, values, patch=patch, quantity=quantity)
        if words is not None:
            if isinstance(words, str) or len(words) != length:
                got = "one string" if isinstance(words, str) else len(words)
                raise ValueError(f"words must be a list of {length} strings, one for each token, got {got}")
            return draw("colored_text", ax, list(words), values, quantity=quantity)
        low, high = self.per_token_intervals() if example is None else (values, values)
        return draw("bars_by_position", ax, values, low, high, position="token", quantity=quantity)

    def _describe(self) -> Description:
        examples, draws, tokens = self.changes.shape
        counts = times(examples=examples, tokens=tokens, draws=draws)
        some = "" if self.sites.all() else f"{self.sites.sum()} of {self.sites.size} tokens"
        facts = {"standard error": self.sem, "change": "event" if self.rate else "distance"}
        facts |= {"sites": some} if some else {}

        def table() -> dict[str, np.ndarray]:
            return tidy({"example": None, "token": None}, {"change": self.values}, self.sites)

        return Description(counts, self.mean, self.interval(), facts=facts, table=table)
