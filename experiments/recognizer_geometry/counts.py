"""Strings of sensitivity 0 of random models: their number K_0 against length (Thm. 4.5 and s.7)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from experiments.recognizer_geometry.config import Config
from experiments.recognizer_geometry.estimates import Units
from experiments.recognizer_geometry.fits import floor_exponent, lines_where_finite, log2_counts, log2_limits
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate


@dataclass(frozen=True)
class Counts:
    """What was counted in the models of one shape.

    Attributes:
        depth: Layers.
        width: The width D.
        lengths: ``[n]``.
        exact: Where all strings were evaluated ``[n]``.
        strings: How many were ``[n]``.
        zero: How many of them have sensitivity 0 ``[m n]``.
        constant: Whether all that were evaluated, and their neighbors, have one answer ``[m n]``.
    """

    depth: int
    width: int
    lengths: np.ndarray
    exact: np.ndarray
    strings: np.ndarray
    zero: np.ndarray
    constant: np.ndarray

    @property
    def exponent(self) -> float:
        """The exponent of the floor of Thm. 4.5."""
        return floor_exponent(self.depth, self.width)

    @property
    def floor(self) -> float:
        """The floor at the longest length, as ``log2 K_0``."""
        return self.exponent * math.log2(self.lengths[-1])

    @property
    def floor_growth(self) -> float:
        """By how many bits a position the floor grows over the last two lengths; 0 if it falls."""
        before, after = (float(n) for n in self.lengths[-2:])
        return max(self.exponent, 0.0) * math.log2(after / before) / (after - before)

    @property
    def logs(self) -> np.ndarray:
        """``log2 K_0`` ``[m n]``, NaN where no such string was observed."""
        return log2_counts(self.zero, self.strings, self.lengths)

    def limits(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Return limits of ``log2 K_0`` at the i-th length, each ``[m]``."""
        return log2_limits(self.zero[:, i], int(self.strings[i]), int(self.lengths[i]), bool(self.exact[i]))

    def against_floor(self) -> dict[str, np.ndarray]:
        """Sort models by whether ``K_0`` at the longest length is at least the floor, by its limits ``[m]``."""
        low, high = self.limits(-1)
        at_least, below = low >= self.floor, high < self.floor
        return {"at_least_floor": at_least, "below_floor": below, "floor_undecided": ~at_least & ~below}

    def late_growth(self) -> dict[str, np.ndarray]:
        """Sort models by whether ``log2 K_0`` grows faster than the floor over the last two lengths.

        Models without such a string at one of the two are a separate category: their growth cannot be measured.
        """
        gap = float(self.lengths[-1] - self.lengths[-2])
        (before_low, before_high), (low, high) = self.limits(-2), self.limits(-1)
        seen = (self.zero[:, -2:] > 0).all(1)
        before_low, low = np.where(seen, before_low, 0), np.where(seen, low, 0)
        faster = seen & ((low - before_high) / gap > self.floor_growth)
        slower = seen & ((high - before_low) / gap < self.floor_growth)
        return {"faster": faster, "slower": slower, "undecided": seen & ~faster & ~slower, "unseen": ~seen}


@dataclass(frozen=True)
class Group:
    """Some models of one shape.

    Attributes:
        counts: Counts of the shape.
        name: ``all models``, or ``not constant at the longest`` length.
        members: Which models ``[m]``.
    """

    counts: Counts
    name: str
    members: np.ndarray

    @property
    def size(self) -> int:
        """How many models."""
        return int(self.members.sum())

    @property
    def categories(self) -> dict[str, int]:
        """How many models there are in each category of `Counts.late_growth` and `Counts.against_floor`."""
        sorting = self.counts.late_growth() | self.counts.against_floor()
        return {name: int(members[self.members].sum()) for name, members in sorting.items()}

    @property
    def with_gaps(self) -> int:
        """How many models show no such string at some length."""
        return int((~(self.counts.zero[self.members] > 0).all(1)).sum())

    def growth(self) -> dict[str, Estimate]:
        """Estimate growth over the lengths at which a model shows such a string; without models with too few."""
        lengths, logs = self.counts.lengths, self.counts.logs[self.members]
        slopes, _, exponential_error, shown = lines_where_finite(lengths, logs)
        powers, _, polynomial_error, _ = lines_where_finite(np.log2(lengths), logs)
        # Two parameters each, so that the difference of AIC is that of the fits only; constants fit exactly.
        information = shown * np.log(np.maximum(polynomial_error, 1e-12) / np.maximum(exponential_error, 1e-12))
        fitted = np.isfinite(slopes)
        values = {
            "bits_a_position": slopes[fitted],
            "exact_bits_a_position": lines_where_finite(lengths[self.counts.exact], logs[:, self.counts.exact])[0],
            "late_bits_a_position": np.diff(logs[:, -2:], axis=1)[:, 0] / (lengths[-1] - lengths[-2]),
            "exponential_better": information[fitted] > 0,
            "aic_difference": information[fitted],
            "polynomial_exponent": powers[fitted],
        }
        finite = {quantity: value[np.isfinite(value)] for quantity, value in values.items()}
        return {quantity: estimate.from_values(value) for quantity, value in finite.items() if len(value) > 1}


def all_counts(config: Config, units: Units) -> Iterator[Counts]:
    """Yield the counts of each shape."""
    lengths = np.array([*config.exhaustive_lengths, *config.sampled_lengths])
    for depth, width in config.count_shapes:
        each = [units[depth, width, int(n)] for n in lengths]
        yield Counts(
            depth,
            width,
            lengths,
            np.isin(lengths, config.exhaustive_lengths),
            np.array([int(unit["strings"]) for unit in each]),
            np.stack([unit["zero"] for unit in each], 1),
            np.stack([unit["constant"] for unit in each], 1),
        )


def groups(counts: Counts) -> list[Group]:
    """Return all models and those that are not constant, each if there are two models at least."""
    # Constant models have all 2^N strings: no evidence on the others.
    varied = ~counts.constant[:, -1]
    both = (
        Group(counts, "all models", np.full(len(varied), True)),
        Group(counts, "not constant at the longest", varied),
    )
    return [group for group in both if group.size > 1]
