"""The result of ``token_influence``: changes by replaced token and prediction, and what follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from jaxsens.execution import checks
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.statistics.estimated import Estimated
from jaxsens.typing import Axes, Figure

__all__ = ["QUANTITIES", "TokenInfluence"]

QUANTITIES = ("prediction", "total variation", "KL")
"""What is recorded of a prediction: a change of the most probable token, total variation, divergence in nats."""


@partial(jax.tree_util.register_dataclass, data_fields=["changes", "sites", "real"], meta_fields=[])
@dataclass(frozen=True, repr=False)
class TokenInfluence(Estimated):
    """How the prediction after each token changes when each token is replaced.

    Its estimate is the total influence of a token in total variation: the sum over all predictions, averaged over the
    sites of a text, then over texts.

    Attributes:
        changes: Changes ``[b draws i j 3]`` of the prediction after token j, with token i replaced, in the order of
            ``QUANTITIES``; zero where i is no site or j is padding.
        sites: Which tokens were replaced ``[b t]``.
        real: Which tokens are real ``[b t]``.

    Example:
        >>> changes = np.zeros((2, 1, 3, 3, 3), np.float32)
        >>> changes[0, 0, 0, 1] = 0.3
        >>> influence = TokenInfluence(changes, np.ones((2, 3), bool), np.ones((2, 3), bool))
        >>> influence.by_distance().mean.round(3).tolist()
        [0.0, 0.075, 0.0]
    """

    changes: np.ndarray
    sites: np.ndarray
    real: np.ndarray

    @property
    def estimate(self) -> Estimate:
        """The total influence of a token in total variation, over texts."""
        return self.total()

    def total(self, quantity: str = "total variation") -> Estimate:
        """Estimate the total influence of a token: ``mean over texts and their sites i of sum over j``.

        Raises:
            ValueError: If the quantity is none of ``QUANTITIES``.

        Example:
            >>> changes = np.full((2, 1, 4, 4, 3), 0.25, np.float32)
            >>> float(TokenInfluence(changes, np.ones((2, 4), bool), np.ones((2, 4), bool)).total().mean)
            1.0
        """
        values = self._values(quantity).mean(1)
        return estimate.from_values(values.sum((1, 2)) / self.sites.sum(1), unit="texts")

    def matrix(self, quantity: str = "total variation", *, example: int | None = None) -> np.ndarray:
        """Return the mean over draws ``[i j]`` of one text, or of all; NaN where i is no site or j is padding.

        Raises:
            ValueError: If the quantity is none of ``QUANTITIES``, or there is no such text.
        """
        values, counted = self._of(quantity, example)
        count = counted.sum(0)
        total = np.where(counted, values.mean(1), 0).sum(0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def matrix_sem(self, quantity: str = "total variation", *, example: int) -> np.ndarray:
        """Return the standard error over draws ``[i j]`` of a text's matrix; infinite for one draw.

        Raises:
            ValueError: If the quantity is none of ``QUANTITIES``, or there is no such text.
        """
        values, counted = self._of(quantity, example)
        draws = values.shape[1]
        sem = values[0].std(0, ddof=1) / np.sqrt(draws) if draws > 1 else np.full(counted[0].shape, np.inf)
        return np.where(counted[0], sem, np.nan)

    def by_distance(self, quantity: str = "total variation") -> Estimate:
        """Estimate the influence on the prediction d tokens further on: ``mean over sites i of the change at i + d``.

        Means run over a text's sites that have a real token at that distance, then over texts. Where texts differ in
        length, only distances that all of them have are given.

        Returns:
            An estimate ``[d]`` over texts, from distance 0 on: the prediction after the replaced token itself.

        Raises:
            ValueError: If the quantity is none of ``QUANTITIES``.
        """
        values, counted = self._of(quantity, None)
        values, length = values.mean(1), self.sites.shape[1]
        total, count = np.zeros((2, len(values), length))
        for distance in range(length):
            pairs = np.arange(length - distance), np.arange(distance, length)
            where = counted[:, *pairs]
            total[:, distance] = np.where(where, values[:, *pairs], 0).sum(1)
            count[:, distance] = where.sum(1)
        reached = int(np.argmin([*(count > 0).all(0), False]))
        return estimate.from_values(total[:, :reached] / count[:, :reached], unit="texts")

    def effective_context(self, quantity: str = "total variation") -> Estimate:
        """Estimate on how many tokens a prediction depends: ``(sum_i v_ij)^2 / sum_i v_ij^2``, of all sites i.

        It is n where n tokens have equal influence and all others none. Means run over the predictions of a text that
        depend on a site at all, then over texts; a text without one counts as 0. Draws are averaged first: few of them
        make influences more unequal, and the number smaller. What rounding leaves of no influence counts as influence:
        ``models.substitution.causal`` leaves none.

        Raises:
            ValueError: If the quantity is none of ``QUANTITIES``.

        Example:
            >>> changes = np.ones((2, 1, 3, 3, 3), np.float32) * np.triu(np.ones((3, 3), np.float32))[..., None]
            >>> influence = TokenInfluence(changes, np.ones((2, 3), bool), np.ones((2, 3), bool))
            >>> float(influence.effective_context().mean)
            2.0
        """
        values = self._values(quantity).mean(1)
        depends = values.max(1) > 0
        number = np.where(depends, values.sum(1) ** 2 / np.where(depends, (values**2).sum(1), 1), 0)
        return estimate.from_values(number.sum(1) / np.maximum(depends.sum(1), 1), unit="texts")

    def plot(
        self,
        ax: Axes | None = None,
        *,
        example: int | None = None,
        words: Sequence[str] | None = None,
        quantity: str = "total variation",
    ) -> Figure:
        """Draw the matrix of one text, with its tokens at the sides, or of all.

        Args:
            ax: Where to draw, by default a new figure.
            example: The number of one text; by default the mean over all.
            words: Its tokens as strings ``[t]``.
            quantity: One of ``QUANTITIES``.

        Raises:
            ValueError: If there is no such text or quantity, or words do not fit the tokens.
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        length = self.sites.shape[1]
        if words is not None and (isinstance(words, str) or len(words) != length):
            got = "one string" if isinstance(words, str) else len(words)
            raise ValueError(f"words must be a list of {length} strings, one for each token, got {got}")
        values = self.matrix(quantity, example=example)
        unit = {"prediction": "share of changed predictions", "KL": "KL divergence in nats"}.get(quantity, quantity)
        return draw("token_matrix", ax, values, words=None if words is None else list(words), quantity=unit)

    def _values(self, quantity: str) -> np.ndarray:
        if quantity not in QUANTITIES:
            raise ValueError(f"quantity must be one of {', '.join(QUANTITIES)}, got {quantity!r}")
        return self.changes[..., QUANTITIES.index(quantity)].astype(np.float64)

    def _of(self, quantity: str, example: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Return changes ``[b draws i j]`` and where they count ``[b i j]``, of all texts or of one."""
        values, counted = self._values(quantity), self.sites[:, :, None] & self.real[:, None, :]
        if example is None:
            return values, counted
        if checks.require_count("example", example, 0) >= len(values):
            raise ValueError(f"example must be from 0 to {len(values) - 1}, got {example}")
        return values[example : example + 1], counted[example : example + 1]

    def _describe(self) -> Description:
        texts, draws, tokens = self.changes.shape[:3]
        facts = {"standard error": self.sem, "quantity": "total variation, summed over predictions"}
        facts |= {"tokens that a prediction depends on": self.effective_context().mean}

        def table() -> dict[str, np.ndarray]:
            counted = self.sites[:, :, None] & self.real[:, None, :]
            columns = {name.replace(" ", "_"): self._values(name).mean(1) for name in QUANTITIES}
            return tidy({"example": None, "token": None, "prediction_after": None}, columns, counted)

        return Description(
            times(texts=texts, tokens=tokens, draws=draws), self.mean, self.interval(), facts=facts, table=table
        )
