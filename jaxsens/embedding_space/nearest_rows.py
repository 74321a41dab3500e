"""A search for the nearest rows of a table, block by block: for its own rows, and for any other vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.typing import Array

__all__ = ["BLOCK", "METRICS", "Rows", "Search", "searchable"]

METRICS = ("cosine", "l2")

BLOCK = 4096
"""Rows of the table that are compared at once: 12 MiB of a table of width 768."""


class Rows(NamedTuple):
    """A table to search in. A row's score for a query q, of length 1 for cosine, is ``scale * (row . q) - penalty``.

    Attributes:
        table: ``[v d]``.
        scale: ``1 / ||row||`` for cosine, 1 for l2 ``[v]``.
        penalty: 0 for cosine, ``||row||^2 / 2`` for l2, infinite for rows that are nobody's neighbour ``[v]``.
        groups: Rows that are not each other's neighbours have the same number ``[v]``, at least 0.
    """

    table: Array
    scale: Array
    penalty: Array
    groups: Array


def searchable(
    table: Array, exclude: Array | Sequence[int] | None, groups: Array | None, metric: str
) -> tuple[Rows, np.ndarray]:
    """Check a table ``[v d]``, and return it ready to be searched, with which rows take part ``[v]``."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    table = np.asarray(table)
    if table.ndim != 2 or 0 in table.shape or not jnp.issubdtype(table.dtype, jnp.floating):
        raise ValueError(f"table must be floats [v d], got {table.dtype} {table.shape}")
    dtype = jax.dtypes.canonicalize_dtype(table.dtype)
    squares = np.concatenate([np.sum(part.astype(np.float64) ** 2, 1) for part in _parts(table)])
    if not np.isfinite(squares).all():
        raise ValueError(f"table must be finite, but row {int(np.argmin(np.isfinite(squares)))} is not")
    allowed = (squares > 0) & ~_chosen(exclude, len(table))
    lengths = np.sqrt(np.where(squares > 0, squares, 1))
    scale, penalty = (1 / lengths, 0 * squares) if metric == "cosine" else (np.ones_like(squares), squares / 2)
    wide = jnp.promote_types(dtype, jnp.float32)
    penalty = np.where(allowed, penalty, np.inf)
    numbers = _groups(groups, len(table))
    return Rows(table.astype(dtype, copy=False), scale.astype(wide), penalty.astype(wide), numbers), allowed


@dataclass(frozen=True)
class Search:
    """The k nearest rows of a query ``[d]``, block by block; equal ones share compiled code."""

    k: int
    block: int
    metric: str

    def __call__(self, query: Array, group: Array, rows: Rows) -> tuple[Array, Array]:
        """Return ids ``[k]`` and distances ``[k]``, leaving out the rows of ``group`` (-1: none)."""
        count, wide = len(rows.table), rows.scale.dtype
        query = query.astype(wide)
        if self.metric == "cosine":
            query = _unit(query)

        def step(i: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
            # The last block is moved back to end with the table; what was seen already does not count again.
            start = jnp.minimum(i * self.block, count - self.block)
            table, scale, penalty, groups = (jax.lax.dynamic_slice_in_dim(a, start, self.block) for a in rows)
            ids = start + jnp.arange(self.block, dtype=jnp.int32)
            scores = scale * (table.astype(wide) @ query) - penalty
            scores = jnp.where((groups == group) | (ids < i * self.block), -jnp.inf, scores)
            scores, places = jax.lax.top_k(scores, min(self.k, self.block))
            # Of equal scores top_k puts the first one first: the earlier block, and in a block the smaller id.
            merged, places_of_best = jax.lax.top_k(jnp.concatenate([best[0], scores]), self.k)
            return merged, jnp.concatenate([best[1], ids[places]])[places_of_best]

        nothing = jnp.full(self.k, -jnp.inf, wide), jnp.full(self.k, -1, jnp.int32)
        _, ids = jax.lax.fori_loop(0, -(-count // self.block), step, nothing)
        return ids, self._distances(query, rows.table[ids].astype(wide))

    def _distances(self, query: Array, found: Array) -> Array:
        """Measure anew, by differences: ``1 - cos = ||q / |q| - r / |r|||^2 / 2`` is exact near 0."""
        if self.metric == "l2":
            return jnp.sqrt(jnp.sum((found - query[None]) ** 2, 1))
        return jnp.sum((_unit(found) - query[None]) ** 2, 1) / 2


def _unit(x: Array) -> Array:
    # By the largest element first: squares of very small or large numbers are 0 or infinite.
    largest = jnp.max(jnp.abs(x), -1, keepdims=True)
    x = x / jnp.where(largest > 0, largest, 1)
    length = jnp.sqrt(jnp.sum(x**2, -1, keepdims=True))
    return x / jnp.where(length > 0, length, 1)


def _parts(table: np.ndarray) -> list[np.ndarray]:
    return [table[start : start + BLOCK] for start in range(0, len(table), BLOCK)]


def _chosen(exclude: Array | Sequence[int] | None, count: int) -> np.ndarray:
    """Return booleans ``[v]`` of a mask or of ids."""
    chosen = np.zeros(count, bool)
    given = np.asarray([] if exclude is None else exclude)
    if given.size == 0:
        return chosen
    if given.dtype == bool and given.shape == (count,):
        return given
    if given.dtype.kind not in "iu" or given.ndim != 1 or given.min() < 0 or given.max() >= count:
        raise ValueError(
            f"exclude must be booleans [v] = ({count},) or ids from 0 to {count - 1}, got {given.dtype} {given.shape}"
            + (f" from {given.min()} to {given.max()}" if given.dtype.kind in "iu" else "")
        )
    chosen[given] = True
    return chosen


def _groups(groups: Array | None, count: int) -> np.ndarray:
    if groups is None:
        return np.arange(count, dtype=np.int32)
    groups = np.asarray(groups)
    if groups.dtype.kind not in "iu" or groups.shape != (count,) or groups.min() < 0 or groups.max() >= 2**31:
        raise ValueError(
            f"groups must be integers [v] = ({count},) from 0 on, got {groups.dtype} {groups.shape}; "
            "np.unique(names, return_inverse=True)[1] makes them of names"
        )
    return groups.astype(np.int32)
