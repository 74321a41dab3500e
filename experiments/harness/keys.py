"""Random keys of an experiment, by what they are for."""

from dataclasses import dataclass

import jax

from jaxsens.execution.checks import require_count
from jaxsens.typing import Key

__all__ = ["Keys"]


@dataclass(frozen=True)
class Keys:
    """The random keys of an experiment: one for each purpose, and for each number of it.

    ``fold_in(key(seed), index of the purpose)``, then folded by each number. Numbers of a purpose, such as a seed or a
    data set, get the same keys whatever else a run measures.

    Attributes:
        purposes: Names of what keys are used for. A purpose added at the end leaves the keys of the others as they are.

    Example:
        >>> KEYS = Keys("weights", "noise")
        >>> KEYS(0, "noise", 3).shape
        ()
    """

    purposes: tuple[str, ...]

    def __init__(self, *purposes: str) -> None:
        object.__setattr__(self, "purposes", purposes)

    def __call__(self, seed: int, purpose: str, *numbers: int) -> Key:
        """Return the key of a purpose, folded by ``numbers``.

        Raises:
            ValueError: If the purpose is not one of ``purposes``, or a number is not an integer of at least 0.
        """
        seed = require_count("seed", seed, 0)
        numbers = tuple(require_count("numbers", number, 0) for number in numbers)
        if purpose not in self.purposes:
            raise ValueError(f"purpose must be one of {self.purposes}, got {purpose!r}")
        key = jax.random.fold_in(jax.random.key(seed), self.purposes.index(purpose))
        for number in numbers:
            key = jax.random.fold_in(key, number)
        return key
