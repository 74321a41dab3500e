"""The result of ``worst_case_sharpness``: the largest observed rise of the loss, and where it was."""

from dataclasses import dataclass
from functools import cached_property, partial

import jax
import numpy as np

from jaxsens.execution import batches, checks
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.statistics.estimated import Estimated
from jaxsens.typing import Axes, Figure, PyTree

__all__ = ["WorstCase"]


@partial(
    jax.tree_util.register_dataclass, data_fields=["trajectories", "one_step", "perturbation"], meta_fields=["chunk"]
)
@dataclass(frozen=True, repr=False)
class WorstCase(Estimated):
    """The result of ``worst_case_sharpness``, for ``g`` groups of examples and ``r`` starts.

    Attributes:
        trajectories: The rise of the loss at the weights themselves (0), at the start, and at all later iterates
            ``[g r iterations+1]``, in the units of the loss.
        one_step: The rise after the step of SAM, to the maximum of the linearized loss ``[g]``; 0 without gradient.
        perturbation: What to add to ``params`` for the largest observed rise: a pytree like ``params`` with a leading
            axis ``[g ...]``, 0 where nothing moves; None if it was not kept.
        chunk: Model forwards evaluated at once.

    Example:
        >>> result = WorstCase(np.array([[[0.0, 0.5, 1.0]], [[0.0, 2.0, 1.5]]]), np.array([0.5, 2.0]), None, chunk=2)
        >>> result.values.tolist(), result.mean
        ([1.0, 2.0], 1.5)
    """

    trajectories: np.ndarray
    one_step: np.ndarray
    perturbation: PyTree | None
    chunk: int

    _by_shape = ("perturbation",)

    @cached_property
    def values(self) -> np.ndarray:
        """The largest rise for each group ``[g]``: at least 0, which is that of the weights themselves."""
        return self.trajectories.max((1, 2)).astype(np.float64)

    @cached_property
    def estimate(self) -> Estimate:
        """The mean over groups, the independent units; of a single group the error is unknown, hence infinite."""
        return estimate.from_values(self.values, unit="groups")

    def minus(self, other: "WorstCase") -> Estimate:
        """Estimate how much larger the mean is than another over the same groups of examples; see ``Estimate.minus``.

        Raises:
            ValueError: If the numbers of groups differ.
        """
        if not isinstance(other, WorstCase):
            raise ValueError(f"other must be a WorstCase, got a {type(other).__name__}")
        return self.estimate.minus(other.estimate)

    def perturbation_of(self, group: int = 0) -> PyTree:
        """Return the perturbation of one group, a pytree like ``params``: a direction for ``loss_plane``.

        Raises:
            ValueError: If perturbations were not kept, or there is no such group.
        """
        if self.perturbation is None:
            raise ValueError("perturbation is None: measure with keep=True")
        if checks.require_count("group", group, 0) >= len(self.one_step):
            raise ValueError(f"group must be from 0 to {len(self.one_step) - 1}, got {group}")
        return batches.select_model(self.perturbation, group)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the largest rise so far against the iterate, a line for each group and start.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        so_far = np.maximum.accumulate(self.trajectories, -1).reshape(-1, self.trajectories.shape[-1])
        return draw("lines", ax, np.arange(so_far.shape[1]), so_far, across="iterate", quantity="largest rise so far")

    def _describe(self) -> Description:
        groups, starts, iterates = self.trajectories.shape
        counts = times(groups=groups, starts=starts, iterations=iterates - 1)
        facts = {"standard error": self.sem, "after one step": float(self.one_step.mean())}

        def table() -> dict[str, np.ndarray]:
            return tidy({"group": None, "start": None, "iterate": None}, {"rise": self.trajectories})

        return Description(counts, self.mean, self.interval(), facts=facts, table=table)
