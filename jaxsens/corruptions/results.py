"""The result of ``corruption_error``: which images a classifier gets wrong, by corruption and severity."""

from collections.abc import Sequence
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

__all__ = ["CorruptionError"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["wrong", "wrong_clean"],
    meta_fields=["names", "severities", "constants"],
)
@dataclass(frozen=True, repr=False)
class CorruptionError(Estimated):
    """Errors of a classifier on corrupted images; its mean is the error over all corruptions and severities.

    The images are the units: all corruptions of an image are in one unit, so that error bars hold for new images of the
    same kind, with these corruptions.

    Attributes:
        wrong: Whether the predicted class is not the label, bool ``[n c s]``: image, corruption, severity.
        wrong_clean: The same for the images as they are, bool ``[n]``.
        names: The corruptions.
        severities: The severities.
        constants: The benchmark whose constants were used.

    Example:
        >>> wrong = np.array([[[False, True]], [[True, True]], [[False, False]]])
        >>> CorruptionError(wrong, np.array([False, True, False]), ("fog",), (1, 5), "cifar10")
        CorruptionError(0.5 [95% 0.0387, 0.961]; 3 images x 1 corruption x 2 severities)
    """

    wrong: np.ndarray
    wrong_clean: np.ndarray
    names: tuple[str, ...]
    severities: tuple[int, ...]
    constants: str

    @classmethod
    def joined(cls, parts: "Sequence[CorruptionError]") -> "CorruptionError":
        """Return the result over all images of several parts of a data set, measured one after the other.

        Raises:
            ValueError: If there is no part, or they are of different corruptions, severities or constants.

        Example:
            >>> part = CorruptionError(np.array([[[True]]]), np.array([False]), ("fog",), (1,), "cifar10")
            >>> CorruptionError.joined([part, part]).count
            2
        """
        if not isinstance(parts, Sequence) or len(parts) == 0 or not isinstance(parts[0], CorruptionError):
            raise ValueError(f"parts must be a list of at least one CorruptionError, got {parts!r}")
        for part in parts:
            parts[0]._of_same_corruptions(part)
        wrong, clean = (np.concatenate([getattr(part, name) for part in parts]) for name in ("wrong", "wrong_clean"))
        return cls(wrong, clean, parts[0].names, parts[0].severities, parts[0].constants)

    @cached_property
    def per_example(self) -> np.ndarray:
        """Share of an image's corrupted versions that are wrong ``[n]``."""
        return self.wrong.mean((1, 2), dtype=np.float64)

    @cached_property
    def estimate(self) -> Estimate:
        """The mean error over corruptions and severities, over images."""
        return estimate.from_values(self.per_example, rate=True, unit="images")

    @cached_property
    def accuracy(self) -> Estimate:
        """The accuracy for each corruption and severity ``[c s]``; an interval holds for its own entry only."""
        return estimate.from_values((~self.wrong).astype(np.float64), rate=True, unit="images")

    @cached_property
    def per_corruption(self) -> Estimate:
        """The error for each corruption, mean over severities ``[c]``; an interval holds for its own entry only."""
        return estimate.from_values(self.wrong.mean(2, dtype=np.float64), rate=True, unit="images")

    @cached_property
    def clean(self) -> Estimate:
        """The error on the images as they are."""
        return estimate.from_values(self.wrong_clean, unit="images")

    def minus(self, other: "CorruptionError") -> Estimate:
        """Estimate how much larger the mean error is than that of another model on the same images, in order.

        Raises:
            ValueError: If ``other`` is no ``CorruptionError``, or of other images, corruptions, severities or
                constants.

        Example:
            >>> clean = np.array([False, False])
            >>> first, second = (
            ...     CorruptionError(np.array([[[one]], [[True]]]), clean, ("fog",), (1,), "cifar10")
            ...     for one in (True, False)
            ... )
            >>> float(first.minus(second).mean)
            0.5
        """
        return self.estimate.minus(self._paired(other).estimate)

    def relative_to(self, reference: "CorruptionError", *, degradation: bool = False) -> Estimate:
        """Estimate the mean corruption error relative to a reference model on the same images (1: as the reference).

        ``mCE = mean over c of sum_s E[c, s] / sum_s E_ref[c, s]``, with E the errors; with ``degradation`` the clean
        error is subtracted from each, which gives the relative mCE. (Hendrycks and Dietterich, s.4, where it is in
        percent and the reference AlexNet.)

        Units are images, paired. The standard error is that of the linearized ratio, with values ``mCE + mean over c of
        (e[i, c] - r[c] e_ref[i, c]) / mean e_ref[c]`` for image i, r the ratios. In a simulation of two models with
        errors of 0.2 to 0.5 the 95 % interval covered 0.95, with 50 and with 400 images.

        Args:
            reference: The errors of the reference model.
            degradation: Whether to subtract the clean errors.

        Raises:
            ValueError: If the results cannot be paired, or the reference has no errors for a corruption (with
                ``degradation``: no more than on clean images).

        Example:
            >>> clean = np.array([False, False])
            >>> first, second = (
            ...     CorruptionError(np.array([[[one]], [[True]]]), clean, ("fog",), (1,), "cifar10")
            ...     for one in (True, False)
            ... )
            >>> float(first.relative_to(second).mean)
            2.0
        """
        self._paired(reference)
        ours, theirs = (result.wrong.mean(2, dtype=np.float64) for result in (self, reference))
        if degradation:
            ours, theirs = ours - self.wrong_clean[:, None], theirs - reference.wrong_clean[:, None]
        below = theirs.mean(0)
        if (below <= 0).any():
            name = self.names[int((below <= 0).argmax())]
            more = "more errors than on clean images" if degradation else "errors"
            raise ValueError(f"reference has no {more} for {name!r}, so that no ratio exists: leave {name!r} out")
        ratios = ours.mean(0) / below
        values = ratios.mean() + ((ours - ratios * theirs) / below).mean(1)
        return estimate.from_values(values, rate=False, unit="images")

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the error for each corruption, mean over severities, with its interval, in the order of ``names``.

        Args:
            ax: Where to draw, by default a new figure.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        ends = self.per_corruption.interval()
        labels = [name.replace("_", " ") for name in self.names]
        return draw("bars_by_position", ax, self.per_corruption.mean, *ends, position=labels, quantity="error")

    def _of_same_corruptions(self, other: "CorruptionError") -> None:
        if not isinstance(other, CorruptionError):
            raise ValueError(f"other must be a CorruptionError, got a {type(other).__name__}")
        for name in ("names", "severities", "constants"):
            value, other_value = getattr(self, name), getattr(other, name)
            if value != other_value:
                raise ValueError(
                    f"other must be of the same corruptions: {name} is {value} here and {other_value} there"
                )

    def _paired(self, other: "CorruptionError") -> "CorruptionError":
        self._of_same_corruptions(other)
        if self.wrong.shape != other.wrong.shape:
            raise ValueError(f"other must be of the same {len(self.wrong)} images, got {len(other.wrong)}")
        return other

    def _describe(self) -> Description:
        counts = times(images=len(self.wrong), corruptions=len(self.names), severities=len(self.severities))
        facts = {"standard error": self.sem, "clean error": self.clean.mean, "constants": self.constants}

        def table() -> dict[str, np.ndarray]:
            low, high = self.accuracy.interval()
            columns = {"accuracy": self.accuracy.mean, "sem": self.accuracy.sem, "low": low, "high": high}
            return tidy({"corruption": list(self.names), "severity": list(self.severities)}, columns)

        return Description(counts, self.mean, self.interval(), facts=facts, table=table)
