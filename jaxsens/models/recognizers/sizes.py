"""The sizes of a recognizer that F.1 of Kövér et al. draws, and the shape that a program is compiled for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxsens.models.recognizers.config import Config

__all__ = ["Sizes", "drawn"]


@dataclass(frozen=True, order=True)
class Sizes:
    """What F.1 draws of an architecture.

    Attributes:
        layers: 2 to 6 in the paper.
        heads: 1, 2, 4 or 8.
        head_size: 16, 32, 64 or 128.
        multiplier: Of the MLP; 2, 4 or 8.
    """

    layers: int
    heads: int
    head_size: int
    multiplier: int

    @property
    def width(self) -> int:
        """The model dimension: heads times head size."""
        return self.heads * self.head_size

    @property
    def shape(self) -> tuple[int, int, int]:
        """What an evaluation is compiled for, where the number of layers is data."""
        return self.heads, self.head_size, self.multiplier

    def config(self, epsilon: float, **fields: Any) -> Config:
        """Return the recognizer's configuration; in the block of the paper the heads have the model's width."""
        head_size = self.width if fields.get("block") == "paper" else self.head_size
        return Config(
            depth=self.layers,
            heads=self.heads,
            head_size=head_size,
            multiplier=self.multiplier,
            epsilon=epsilon,
            **fields,
        )


def drawn(
    generator: np.random.Generator,
    *,
    layers: tuple[int, ...],
    heads: tuple[int, ...],
    head_sizes: tuple[int, ...],
    multipliers: tuple[int, ...],
) -> Iterator[Sizes]:
    """Yield sizes for ever, each drawn uniformly from its own choices."""
    while True:
        yield Sizes(*(int(generator.choice(grid)) for grid in (layers, heads, head_sizes, multipliers)))
