"""How the models behind a verdict were trained, and whether that allows a verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from jaxsens.execution.checks import require_count

__all__ = ["FEWEST_SEEDS", "NOT_TRAINED", "Design"]

FEWEST_SEEDS = 3
"""Independently trained models of each kind that a verdict needs."""

NARROWEST = 2.0
"""The smallest ratio of the ends of a range that learning rates are drawn from."""


@dataclass(frozen=True)
class Design:
    """How the models behind a verdict were trained; every rule asks for it.

    Learning rates are searched on a grid and the best one is used, or every model draws its own from a range. A verdict
    is then about models that are trained at such rates.

    Attributes:
        seeds: Independently trained models of each kind, the fewest where kinds differ; None where nothing is trained.
        rates: The grid of learning rates that was searched, or a grid by the name of each kind of model.
        best: The rate that was chosen, by the name of each kind of model that the verdict compares.
        drawn: The smallest and largest rate, where every model draws its own and none is chosen; in place of a grid.

    Raises:
        ValueError: If ``seeds`` is not an integer of at least 0, a rate is not a positive finite number, a best rate
            is not in the grid, or ``drawn`` is not two rates, the smaller first, or stands beside a grid.
    """

    seeds: int | None
    rates: Sequence[float] | Mapping[str, Sequence[float]] = ()
    best: Mapping[str, float] = field(default_factory=dict)
    drawn: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.seeds is not None:
            require_count("seeds", self.seeds, 0)
        if isinstance(self.rates, str) or not isinstance(self.rates, Sequence | Mapping | np.ndarray):
            raise ValueError(f"rates = {self.rates!r}: give a list of learning rates, or lists by name")
        if not isinstance(self.best, Mapping):
            raise ValueError(f"best = {self.best!r}: give the best learning rate by the name of each kind")
        rates = chain(*self.rates.values()) if isinstance(self.rates, Mapping) else self.rates
        for rate in chain(rates, () if self.drawn is None else self.drawn):
            if not (isinstance(rate, int | float | np.number) and math.isfinite(rate) and rate > 0):
                raise ValueError(f"{self.rates or self.drawn}: learning rates are positive finite numbers")
        if self.drawn is not None and (len(self.drawn) != 2 or self.drawn[0] > self.drawn[1] or self.rates):
            raise ValueError(f"drawn = {self.drawn}: give the smallest and the largest rate, and no grid beside them")
        for name, rate in self.best.items():
            if rate not in self.grid(name):
                raise ValueError(f"best = {rate} of {name} is not in its grid {self.grid(name)}")

    @classmethod
    def at_best(cls, seeds: int | None, rates: Sequence[float] | Mapping[str, Sequence[float]] = ()) -> "Design":
        """Return the design of a training with these settings whose best rates are in the middle of the grid.

        It allows a verdict if any outcome of the search for rates does.
        """
        kinds = rates if isinstance(rates, Mapping) else {"every kind": rates}
        return cls(
            seeds, dict(kinds), {name: sorted(grid)[len(grid) // 2] for name, grid in kinds.items() if len(grid)}
        )

    def grid(self, name: str) -> list[float]:
        """Return the different learning rates that were tried for a kind of model, ascending."""
        return sorted(set(self.rates.get(name, ()) if isinstance(self.rates, Mapping) else self.rates))

    def reason(self) -> str:
        """Return why the training allows no verdict; empty where it does.

        It does with `FEWEST_SEEDS` seeds, and a best rate of every kind strictly inside of the grid: that takes three
        rates. Rates that every model draws must come from a range of a factor of `NARROWEST` or more. Where nothing was
        trained it always does.
        """
        if self.seeds is None:
            return ""
        if self.seeds < FEWEST_SEEDS:
            return f"{self.seeds} independently trained models of each kind; {FEWEST_SEEDS} are needed"
        if self.drawn is not None:
            low, high = self.drawn
            narrow = f"learning rates drawn from {low:g} to {high:g}; a factor of {NARROWEST:g} is needed"
            return narrow if high < NARROWEST * low else ""
        if not self.best:
            return "the learning rate is not said to be the best of a grid"
        for name, rate in self.best.items():
            grid = self.grid(name)
            if len(grid) < 3:
                return (
                    f"no grid of learning rates of {name}: {len(grid)} tried; 3 are needed for the best to lie inside"
                )
            if rate in (grid[0], grid[-1]):
                return f"best learning rate of {name}, {rate:g}, is at the edge of the grid {grid[0]:g} to {grid[-1]:g}"
        return ""


NOT_TRAINED = Design(None)
"""The design of a claim about models that were not trained here, or about no models."""
