"""The sizes of recognizers that F.1 of Kövér et al. draws at random."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxsens.models.recognizers.config import Config

__all__ = ["Sizes", "drawn"]


@dataclass(frozen=True, order=True)
class Sizes:
    """The sizes of an architecture that F.1 draws.

    Attributes:
        layers: 2 to 6 in the paper.
        heads: 1, 2, 4 or 8.
        head_size: 16, 32, 64 or 128.
        multiplier: Hidden units of the MLP, divided by the width; 2, 4 or 8.

    Example:
        >>> Sizes(layers=2, heads=4, head_size=16, multiplier=2).width
        64
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
        """The sizes that a program is compiled for if the number of layers is data."""
        return self.heads, self.head_size, self.multiplier

    def config(self, epsilon: float, **fields: Any) -> Config:
        """Return the recognizer's configuration; in the block of the paper the heads have the model's width.

        Args:
            epsilon: What the layer normalization adds to the variance.
            **fields: Further fields of ``recognizers.Config``.
        """
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
    """Yield sizes without end, each drawn uniformly from its choices.

    Example:
        >>> choices = {"layers": (2,), "heads": (1,), "head_sizes": (16,), "multipliers": (4,)}
        >>> next(drawn(np.random.default_rng(0), **choices))
        Sizes(layers=2, heads=1, head_size=16, multiplier=4)
    """
    while True:
        yield Sizes(*(int(generator.choice(grid)) for grid in (layers, heads, head_sizes, multipliers)))


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
