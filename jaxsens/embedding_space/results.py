"""The result of ``embedding_shifts``: norms of shifts, their means and estimates."""

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from jaxsens.embedding_space.norms import NORMS
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Axes, Figure

__all__ = ["AT", "EmbeddingShifts"]

AT = ("own", "others", "whole")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["own", "others", "own_size", "others_size", "sites"],
    meta_fields=["norms", "layers", "chunk"],
)
@dataclass(frozen=True, repr=False)
class EmbeddingShifts(Result):
    """How far states moved when one token was replaced, for every sequence, site, layer and norm.

    Attributes:
        own: Norm of the change of the state at the replaced token itself ``[b t l n]``; 0 where a token is no site.
        others: Norm of the change of the states at all other real tokens together ``[b t l n]``.
        own_size: Norm of the state at the token, before the replacement ``[b t l n]``.
        others_size: Norm of the states at all other real tokens together, before the replacement ``[b t l n]``.
        sites: Which tokens were replaced and are counted ``[b t]``.
        norms: Names of the norms, ``n`` of them.
        layers: Indices of the states, ``l`` of them: 0 is the input of the first layer, i the output of layer i.
        chunk: Number of model forwards evaluated at once.

    Example:
        >>> one = np.ones((1, 2, 1, 1))
        >>> sites = np.ones((1, 2), bool)
        >>> result = EmbeddingShifts(3 * one, 4 * one, one, one, sites, norms=("l2",), layers=(1,), chunk=1)
        >>> result.values("l2").tolist(), result.values("l2", at="own").tolist()
        ([[[5.0], [5.0]]], [[[3.0], [3.0]]])
    """

    own: np.ndarray
    others: np.ndarray
    own_size: np.ndarray
    others_size: np.ndarray
    sites: np.ndarray
    norms: tuple[str, ...]
    layers: tuple[int, ...]
    chunk: int

    def values(self, norm: str = "l2", *, at: str = "whole", relative: bool = False) -> np.ndarray:
        """Return shifts ``[b t l]``, float64; NaN where a token is no site.

        Args:
            norm: One of ``norms``.
            at: ``"own"``, the replaced token; ``"others"``, all other real tokens; ``"whole"``, the whole sequence.
            relative: Whether to divide by the norm of the states at the same tokens; a shift of 0 stays 0.

        Raises:
            ValueError: If the norm was not measured, or ``at`` is none of the three.
        """
        if norm not in self.norms:
            raise ValueError(f"norm must be one of those measured, {', '.join(self.norms)}, got {norm!r}")
        shift = self._at(self.own, self.others, norm, at)
        if relative:
            size = self._at(self.own_size, self.others_size, norm, at)
            with np.errstate(divide="ignore"):  # a shift relative to states of 0 is infinite
                shift = np.divide(shift, size, out=np.zeros_like(shift), where=shift > 0)
        return np.where(self.sites[..., None], shift, np.nan)

    def per_sequence(
        self, norm: str = "l2", *, at: str = "whole", relative: bool = False, chosen: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the mean over a sequence's sites ``[b l]``, or over those ``chosen [b t]``; NaN where there is none.

        Raises:
            ValueError: If the norm was not measured, ``at`` is unknown, or ``chosen`` is not booleans ``[b t]``.
        """
        values = self.values(norm, at=at, relative=relative)
        counted = self.sites
        if chosen is not None:
            chosen = np.asarray(chosen)
            if chosen.dtype != bool or chosen.shape != counted.shape:
                raise ValueError(f"chosen must be booleans [b t] = {counted.shape}, got {chosen.dtype} {chosen.shape}")
            counted = counted & chosen
        number = counted.sum(1)[:, None]
        total = np.where(counted[..., None], values, 0).sum(1)
        return np.where(number > 0, total / np.maximum(number, 1), np.nan)

    def estimate(
        self, norm: str = "l2", *, at: str = "whole", relative: bool = False, chosen: np.ndarray | None = None
    ) -> Estimate:
        """Estimate the mean shift by layer ``[l]``; the independent units are sequences.

        Args:
            norm: One of ``norms``.
            at: ``"own"``, ``"others"`` or ``"whole"``.
            relative: Whether to divide by the norm of the states at the same tokens.
            chosen: Sites to count ``[b t]``, such as those of one token, ``tokens == id``; sequences without any are
                left out. By default all sites.

        Raises:
            ValueError: If the norm was not measured, ``at`` is unknown, or ``chosen`` is not booleans ``[b t]`` with at
                least one site.
        """
        means = self.per_sequence(norm, at=at, relative=relative, chosen=chosen)
        some = self.sites.any(1) if chosen is None else (self.sites & chosen).any(1)
        if not some.any():
            raise ValueError("chosen holds no site: there is nothing to average")
        return estimate.from_values(means[some], unit="sequences")

    def interval(
        self, level: float = 0.95, norm: str = "l2", *, at: str = "whole", relative: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the confidence interval of the mean shift by layer, each end ``[l]``; arguments as of ``estimate``."""
        return self.estimate(norm, at=at, relative=relative).interval(level)

    def minus(
        self, other: "EmbeddingShifts", norm: str = "l2", *, at: str = "whole", relative: bool = False
    ) -> Estimate:
        """Estimate how much larger the mean shift is than another of the same sequences, by layer ``[l]``.

        Raises:
            ValueError: If sequences, sites or layers differ, the norm was not measured, or ``at`` is unknown.
        """
        if not isinstance(other, EmbeddingShifts):
            raise ValueError(f"other must be an EmbeddingShifts, got a {type(other).__name__}")
        if self.layers != other.layers or not np.array_equal(self.sites, other.sites):
            raise ValueError("other must be of the same sequences, sites and layers: sites or layers differ")
        return self.estimate(norm, at=at, relative=relative).minus(other.estimate(norm, at=at, relative=relative))

    def plot(self, ax: Axes | None = None, norm: str = "l2", *, at: str = "whole", relative: bool = False) -> Figure:
        """Draw the mean shift against the layer, with its 95 % interval.

        Args:
            ax: Where to draw, by default a new figure.
            norm: One of ``norms``.
            at: ``"own"``, ``"others"`` or ``"whole"``.
            relative: Whether to divide by the norm of the states at the same tokens.

        Raises:
            ValueError: If the norm was not measured, or ``at`` is unknown.
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        shown = self.estimate(norm, at=at, relative=relative)
        quantity = f"{'relative shift' if relative else 'shift'} ({norm}, {at})"
        lines = self.layers, shown.mean, *shown.interval()
        return draw("line_with_band", ax, *lines, across="layer", quantity=quantity)

    def _describe(self) -> Description:
        sequences, tokens = self.sites.shape
        norm = "l2" if "l2" in self.norms else self.norms[0]  # that of ``estimate()``, where it was measured
        shown = self.estimate(norm)
        counts = f"{norm} shift by layer; {times(sequences=sequences, tokens=tokens, layers=len(self.layers))}"

        def table() -> dict[str, np.ndarray]:
            axes = {"sequence": None, "token": None, "layer": self.layers, "norm": self.norms}
            names = ("own", "others", "own_size", "others_size")
            where = np.broadcast_to(self.sites[..., None, None], self.own.shape)
            return tidy(axes, {name: getattr(self, name) for name in names}, where)

        return Description(counts, shown.mean, shown.interval(), facts={"norms": ", ".join(self.norms)}, table=table)

    def _at(self, own: np.ndarray, others: np.ndarray, norm: str, at: str) -> np.ndarray:
        if at not in AT:
            raise ValueError(f"at must be one of {', '.join(AT)}, got {at!r}")
        own, others = (a[..., self.norms.index(norm)].astype(np.float64) for a in (own, others))
        return {"own": own, "others": others}[at] if at != "whole" else NORMS[norm].join(own, others)
