"""Addition modulo p as a data set: all pairs of numbers, and a random part of them to learn.

The task on which grokking is studied (Power et al., Grokking, 2022, arXiv 2201.02177; Nanda et al., Progress Measures
for Grokking via Mechanistic Interpretability, ICLR 2023).
"""

from dataclasses import dataclass

import jax
import numpy as np

from jaxsens.execution import checks
from jaxsens.execution.keys import require_key
from jaxsens.typing import Key

__all__ = ["ModularAddition"]


@dataclass(frozen=True)
class ModularAddition:
    """All pairs of numbers below ``p``, with their sum modulo ``p`` as the class.

    Attributes:
        modulus: The modulus p.

    Raises:
        ValueError: If the modulus is not an integer of at least 2.

    Example:
        >>> task = ModularAddition(3)
        >>> task.pairs[:4].tolist(), task.labels[:6].tolist()
        ([[0, 0], [0, 1], [0, 2], [1, 0]], [0, 1, 2, 1, 2, 0])
    """

    modulus: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "modulus", checks.require_count("modulus", self.modulus, 2))

    @property
    def pairs(self) -> np.ndarray:
        """All pairs ``[p**2 2]``, int32: (a, b) is number ``a p + b``."""
        return np.stack(np.divmod(np.arange(self.modulus**2), self.modulus), 1).astype(np.int32)

    @property
    def labels(self) -> np.ndarray:
        """Sums modulo p ``[p**2]``, int32."""
        return self.pairs.sum(1, dtype=np.int32) % self.modulus

    @property
    def mirrors(self) -> np.ndarray:
        """The number of the pair (b, a) for every pair (a, b) ``[p**2]``, int32: both have the same sum.

        Example:
            >>> ModularAddition(3).mirrors.tolist()
            [0, 3, 6, 1, 4, 7, 2, 5, 8]
        """
        numbers = np.arange(self.modulus**2, dtype=np.int32)
        return numbers.reshape(self.modulus, self.modulus).T.ravel()

    def split(self, key: Key, fraction: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the examples to learn, ``floor(fraction p^2)`` of them, and of the others; both sorted.

        Args:
            key: Random key, which decides which ones.
            fraction: The part to learn, above 0 and below 1.

        Raises:
            ValueError: If the key is no typed threefry key, the fraction is out of range, or a part is empty.

        Example:
            >>> train, test = ModularAddition(5).split(jax.random.key(0), 0.4)
            >>> len(train), len(test), sorted({*train.tolist(), *test.tolist()}) == list(range(25))
            (10, 15, True)
        """
        fraction = checks.require_finite("fraction", fraction, above=True)
        total = self.modulus**2
        count = int(fraction * total)
        if not 0 < count < total:
            raise ValueError(f"fraction must leave pairs to learn and pairs to test, of {total}, got {fraction}")
        order = np.asarray(jax.random.permutation(require_key(key), total))
        return np.sort(order[:count]), np.sort(order[count:])


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
