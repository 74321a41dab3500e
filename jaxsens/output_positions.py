"""The change of a model that gives an output for each token: the mean of another change over output positions."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.typing import Array, Change, PyTree

__all__ = ["WORDS", "OverPositions", "one_position"]

WORDS = ("all", "sites", "replaced", "others", "onward")
"""Positions of the output by name; see ``changes.over_positions``."""


@dataclass(frozen=True)
class OverPositions:
    """The change that ``changes.over_positions`` returns.

    Attributes:
        change: The change of one position's output.
        positions: A word, or the numbers of positions in ascending order; see ``changes.over_positions``.

    Example:
        >>> OverPositions(jnp.subtract, (3,)) == OverPositions(jnp.subtract, (3,))
        True
    """

    change: Change
    positions: str | tuple[int, ...]

    def __call__(
        self, clean: PyTree, changed: PyTree, counted: Array | None = None, replaced: Array | None = None
    ) -> Array:
        """Return the mean over positions of outputs ``[t *k]``; NaN if there is none.

        Args:
            clean: Outputs, or a pytree of them.
            changed: The same, after the perturbation.
            counted: Which positions may count ``[t]``; by default all.
            replaced: Which tokens were replaced ``[t]``; some words for positions need it.
        """
        count = self.length_of(clean)
        if self.length_of(changed) != count:
            raise ValueError(f"changed must be as many outputs as clean, {count}, got {self.length_of(changed)}")
        if counted is not None and counted.shape != (count,):
            raise ValueError(
                f"over_positions needs an output for each of {len(counted)} tokens, [t *k] for an example, got outputs "
                f"for {count}"
            )
        if replaced is None and self.positions in ("replaced", "others", "onward"):
            raise ValueError(
                f"positions={self.positions!r} needs a token that is replaced: where none is, pass 'all' or numbers"
            )
        where = self.chosen(jnp.ones(count, bool) if counted is None else counted, replaced)
        values = jax.vmap(self.change)(clean, changed)
        if values.shape != (count,):
            raise ValueError(f"change must map a position's output to a scalar, got shape {values.shape[1:]}")
        return jnp.where(where, values.astype(jnp.promote_types(values.dtype, jnp.float32)), 0).sum() / where.sum()

    def length_of(self, outputs: PyTree) -> int:
        """Return the number of positions of outputs ``[t *k]``.

        Raises:
            ValueError: If an output is no array of numbers or has no axis, or their first axes differ.
        """
        for leaf in jax.tree.leaves(outputs):
            if not isinstance(leaf, jax.Array | np.ndarray) or leaf.dtype.kind not in "biufcV":
                raise ValueError(f"clean and changed must be arrays of numbers [t *k], got {type(leaf).__name__}")
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(outputs)}
        if len(sizes) != 1 or () in sizes:
            shapes = ", ".join(str(leaf.shape) for leaf in jax.tree.leaves(outputs))
            raise ValueError(f"clean and changed must hold an output for each token, [t *k], got {shapes or None}")
        return sizes.pop()[0]

    def chosen(self, counted: Array, replaced: Array | None) -> Array:
        """Return which of the positions that may count do so ``[... t]``, where ``replaced [... t]`` are replaced.

        Raises:
            ValueError: If a position is beyond the tokens.
        """
        if self.positions == "replaced":
            return counted & replaced
        if self.positions == "others":
            return counted & ~replaced
        if self.positions == "onward":
            return counted & (replaced.cumsum(-1) > 0)
        if isinstance(self.positions, tuple):
            if self.positions[-1] >= counted.shape[-1]:
                raise ValueError(f"positions must be from 0 to {counted.shape[-1] - 1}, got {self.positions[-1]}")
            return counted & np.isin(np.arange(counted.shape[-1]), self.positions)
        return counted


def one_position(change: Any) -> Any:
    """Return what is recorded of one position's output, if a change is over positions; else the change.

    Example:
        >>> one_position(OverPositions(abs, "all")) is one_position(abs) is abs
        True
    """
    return change.change if isinstance(change, OverPositions) else change
