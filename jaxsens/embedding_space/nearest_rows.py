"""A search for the nearest rows of a table, block by block: for its own rows, and for any other vectors.

Scores ``row . q - ||row||^2 / 2`` are products of matrices, and fast; but where rows have much in common (an offset, or
one large dimension) float32 loses the digits that tell them apart. Therefore

1. rows and queries are centered at the mean row (for cosine, at the mean of the rows scaled to length 1, whose squared
   distance is ``2 - 2 cos``), which leaves distances as they are;
2. each score comes with a bound on its rounding error; the best few by their upper bounds are measured again by
   differences;
3. where the bounds do not prove that the nearest rows are among these few, or the few are too close to be ordered, the
   query is searched for again on the host, in float64 (``search_exactly``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution import checks, memory
from jaxsens.typing import Array

__all__ = ["BLOCK", "METRICS", "SPARE", "Rows", "Search", "search_exactly", "searchable"]

METRICS = ("cosine", "l2")

BLOCK = 4096
"""Rows of the table that are compared at once: 12 MiB of a table of width 768."""

SPARE = 4
"""How many rows beyond the k nearest ones are measured again by differences."""


class Rows(NamedTuple):
    """A table to search in. A row's place is ``scale * row - center``; the center is the mean of all scaled rows.

    Attributes:
        table: ``[v d]``.
        scale: ``1 / ||row||`` for cosine, for l2 a power of two that makes the largest place about 1 ``[v]``.
        center: ``[d]``.
        sizes: Lengths of the places ``[v]``.
        penalty: ``sizes^2 / 2``, infinite for rows that are nearest to no query ``[v]``.
        groups: Rows that are not each other's neighbors have the same number ``[v]``, at least 0.

    Example:
        >>> rows, _ = searchable(np.eye(2, dtype=np.float32), None, None, "l2")
        >>> rows.center.tolist()
        [0.5, 0.5]
    """

    table: Array
    scale: Array
    center: Array
    sizes: Array
    penalty: Array
    groups: Array


def searchable(
    table: Array, exclude: Array | Sequence[int] | None, groups: Array | None, metric: str
) -> tuple[Rows, np.ndarray]:
    """Check a table ``[v d]``, and return it ready to be searched, with the rows that take part ``[v]``.

    Example:
        >>> rows, allowed = searchable(np.array([[1.0, 0.0], [0.0, 0.0]], np.float32), None, None, "cosine")
        >>> allowed.tolist()  # a row of zeros has no direction
        [True, False]
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    table = checks.host_values(table, "table", narrow=True)
    if table.ndim != 2 or 0 in table.shape or not jnp.issubdtype(table.dtype, jnp.floating):
        raise ValueError(f"table must be floats [v d], got {table.dtype} {table.shape}")
    parts = [slice(start, start + BLOCK) for start in range(0, len(table), BLOCK)]
    lengths = np.concatenate([_lengths(table[part].astype(np.float64)) for part in parts])
    if not np.isfinite(lengths).all():
        raise ValueError(f"table must be finite, but row {int(np.argmin(np.isfinite(lengths)))} is not")
    allowed = (lengths > 0) & ~_chosen(exclude, len(table))
    wide = jnp.promote_types(table.dtype, jnp.float32)
    scale = 1 / np.where(lengths > 0, lengths, 1) if metric == "cosine" else np.ones(len(table))
    used = np.where(allowed, 1 / max(1, allowed.sum()), 0)
    center = sum((used[part] * scale[part]) @ table[part].astype(np.float64) for part in parts)
    if metric == "l2":
        largest = max(np.abs(table[part].astype(np.float64) - center[None]).max() for part in parts)
        scale = scale * 2.0 ** -np.clip(np.frexp(largest)[1], -_POWERS, _POWERS)
        center = center * scale[0]
    center = center.astype(wide)
    sizes = np.concatenate(
        [
            _lengths(scale[part, None] * table[part].astype(np.float64) - center[None].astype(np.float64))
            for part in parts
        ]
    )
    penalty = np.where(allowed, sizes**2 / 2, np.inf)
    with np.errstate(over="ignore"):  # rows shorter than the smallest float32: searched for on the host
        narrow = [a.astype(wide) for a in (scale, center, sizes, penalty)]
    return Rows(table, *narrow, _groups(groups, len(table))), allowed


@dataclass(frozen=True)
class Search:
    """The k nearest rows of a query ``[d]``, block by block; equal ones share compiled code.

    Example:
        >>> Search(k=1, block=2, metric="l2") == Search(k=1, block=2, metric="l2")
        True
    """

    k: int
    block: int
    metric: str

    def __call__(self, query: Array, group: Array, rows: Rows) -> tuple[Array, Array, Array]:
        """Return ids ``[k]`` and distances ``[k]``, leaving out the rows of ``group`` (-1: none).

        The third result says whether they are proven to be right; if not, ``search_exactly`` decides.
        """
        (count, width), wide = rows.table.shape, rows.scale.dtype
        query = query.astype(wide)
        place = (_unit(query) if self.metric == "cosine" else query * rows.scale[0]) - rows.center
        bound = partial(_score_error, self.metric, width, wide, _length(place))
        kept = min(self.k + SPARE, count)

        def step(i: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
            # The last block is moved back to end with the table; rows of the block before it do not count again.
            start = jnp.minimum(i * self.block, count - self.block)
            table, scale, sizes, penalty, groups = (
                jax.lax.dynamic_slice_in_dim(a, start, self.block)
                for a in (rows.table, rows.scale, rows.sizes, rows.penalty, rows.groups)
            )
            ids = start + jnp.arange(self.block, dtype=jnp.int32)
            places = table.astype(wide) * scale[:, None] - rows.center[None]
            upper = jnp.dot(places, place, precision="highest") - penalty + bound(sizes)
            upper = jnp.where((groups == group) | (ids < i * self.block), -jnp.inf, upper)
            upper, places_of = jax.lax.top_k(upper, min(kept, self.block))
            merged, places_of_best = jax.lax.top_k(jnp.concatenate([best[0], upper]), kept)
            return merged, jnp.concatenate([best[1], ids[places_of]])[places_of_best]

        nothing = jnp.full(kept, -jnp.inf, wide), jnp.full(kept, -1, jnp.int32)
        upper, ids = jax.lax.fori_loop(0, -(-count // self.block), step, nothing)
        lower = jnp.sort(upper - 2 * bound(rows.sizes[ids]))[::-1]
        proven = (upper[-1] < lower[self.k - 1]) | (count <= kept)
        squared = jnp.where(upper > -jnp.inf, self._squared_distances(query, rows, ids), jnp.inf)
        order = jnp.lexsort((ids, squared))
        squared = squared[order]
        apart = squared[1:] - squared[:-1] > self._resolution(squared[1:], width)
        proven &= (apart | jnp.isinf(squared[1:]))[: self.k].all() & jnp.isfinite(squared[self.k - 1])
        nearest = squared[: self.k]
        distances = nearest / 2 if self.metric == "cosine" else jnp.sqrt(nearest) / rows.scale[0]
        return ids[order][: self.k], distances, proven

    def _squared_distances(self, query: Array, rows: Rows, ids: Array) -> Array:
        """Measure by differences, in units of places: ``1 - cos = ||q / |q| - r / |r|||^2 / 2`` is exact near 0."""
        candidates = rows.table[ids].astype(query.dtype)
        if self.metric == "l2":
            return jnp.sum(((candidates - query[None]) * rows.scale[0]) ** 2, 1)
        return jnp.sum((_unit(candidates) - _unit(query)[None]) ** 2, 1)

    def _resolution(self, squared: Array, width: int) -> Array:
        """Return the difference from which on the order of two squared distances is certain."""
        relative = _rounding(width, squared.dtype) * squared
        if self.metric == "l2":
            return relative
        eps = jnp.finfo(squared.dtype).eps
        return relative + 8 * eps * jnp.sqrt(squared) + 16 * eps**2


def search_exactly(
    queries: np.ndarray, groups: np.ndarray, rows: Rows, k: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids ``[n k]`` and distances ``[n k]`` of the nearest rows of queries ``[n d]``, in float64 on the host.

    Scores select the candidates that float64 cannot tell apart from the k nearest; their distances are then measured by
    differences. Of equal distances the smallest id comes first.

    Example:
        >>> table = np.array([[0.0], [1.0], [5.0]], np.float32)
        >>> rows, _ = searchable(table, None, None, "l2")
        >>> ids, distances = search_exactly(np.array([[4.0]]), np.array([-1]), rows, 2, "l2")
        >>> ids.tolist(), distances.tolist()
        ([[2, 1]], [[1.0, 3.0]])
    """
    at_once = max(1, memory.BYTES // (8 * len(rows.table)))
    pieces = [
        _search_block(np.asarray(queries[i : i + at_once], np.float64), groups[i : i + at_once], rows, k, metric)
        for i in range(0, len(queries), at_once)
    ]
    return tuple(np.concatenate(part) for part in zip(*pieces, strict=True))


def _search_block(
    queries: np.ndarray, groups: np.ndarray, rows: Rows, k: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    count, width = rows.table.shape
    # Float64 has room for places as they are, without the scale that float32 needs.
    unscaled = float(rows.scale[0]) if metric == "l2" else 1.0
    center = rows.center.astype(np.float64) / unscaled
    scaled = _unit_rows(queries) if metric == "cosine" else queries
    places = scaled - center[None]
    sizes = _lengths(places)[:, None]
    scores, bounds = np.empty((2, len(queries), count))
    for start in range(0, count, BLOCK):
        part = slice(start, start + BLOCK)
        table = rows.table[part].astype(np.float64)
        moved = (_unit_rows(table) if metric == "cosine" else table) - center[None]
        lengths = _lengths(moved)[None]
        scores[:, part] = places @ moved.T - lengths**2 / 2
        bounds[:, part] = _score_error(metric, width, np.float64, sizes, lengths)
    scores[(rows.groups[None] == groups[:, None]) | np.isinf(rows.penalty)[None]] = -np.inf
    ids, distances = np.empty((len(queries), k), np.int32), np.empty((len(queries), k))
    for i, query in enumerate(scaled):
        at_least = np.partition(scores[i] - bounds[i], count - k)[count - k]
        near = np.flatnonzero((scores[i] + bounds[i] >= at_least) & (scores[i] > -np.inf))
        table = rows.table[near].astype(np.float64)
        apart = _lengths((_unit_rows(table) if metric == "cosine" else table) - query[None])
        chosen = np.lexsort((near, apart))[:k]
        ids[i], distances[i] = near[chosen], apart[chosen]
    return ids, distances**2 / 2 if metric == "cosine" else distances


_POWERS = 100
"""Largest power of two by which l2 is scaled; float32 ends at 127."""


def _rounding(width: int, dtype: np.dtype) -> float:
    """Return a bound on the relative error of a sum of ``width`` products; it grows as the square root of the width."""
    return float((8 + 4 * np.sqrt(width)) * jnp.finfo(dtype).eps)


def _score_error(metric: str, width: int, dtype: np.dtype, query_size: Array, row_sizes: Array) -> Array:
    """Return how far rounding moves a score at most."""
    product = _rounding(width, dtype) * row_sizes * (query_size + row_sizes)
    # Scaling to length 1 rounds as well: each place moves by a few eps, whatever its size.
    return product + 8 * float(jnp.finfo(dtype).eps) * (query_size + row_sizes) if metric == "cosine" else product


def _length(x: Array) -> Array:
    # By the largest element first: squares of very small or large numbers are 0 or infinite.
    largest = jnp.max(jnp.abs(x), -1, keepdims=True)
    scaled = x / jnp.where(largest > 0, largest, 1)
    return largest[..., 0] * jnp.sqrt(jnp.sum(scaled**2, -1))


def _unit(x: Array) -> Array:
    largest = jnp.max(jnp.abs(x), -1, keepdims=True)
    x = x / jnp.where(largest > 0, largest, 1)
    length = jnp.sqrt(jnp.sum(x**2, -1, keepdims=True))
    return x / jnp.where(length > 0, length, 1)


def _lengths(x: np.ndarray) -> np.ndarray:
    """Return the norms ``[n]`` of rows ``[n d]`` in float64; not finite where a row is not."""
    largest = np.abs(x).max(1)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1)
    return scale * np.sqrt(np.sum((x / scale[:, None]) ** 2, 1))


def _unit_rows(x: np.ndarray) -> np.ndarray:
    lengths = _lengths(x)
    return x / np.where(lengths > 0, lengths, 1)[:, None]


def _chosen(exclude: Array | Sequence[int] | None, count: int) -> np.ndarray:
    """Return booleans ``[v]`` of a mask or of ids."""
    chosen = np.zeros(count, bool)
    excluded = checks.host_values([] if exclude is None else exclude, "exclude", narrow=True)
    if excluded.size == 0:
        return chosen
    if excluded.dtype == bool and excluded.shape == (count,):
        return excluded
    if excluded.dtype.kind not in "iu" or excluded.ndim != 1 or excluded.min() < 0 or excluded.max() >= count:
        raise ValueError(
            f"exclude must be booleans [v] = ({count},) or ids from 0 to {count - 1}, got {excluded.dtype} "
            f"{excluded.shape}" + (f" from {excluded.min()} to {excluded.max()}" if excluded.dtype.kind in "iu" else "")
        )
    chosen[excluded] = True
    return chosen


def _groups(groups: Array | None, count: int) -> np.ndarray:
    if groups is None:
        return np.arange(count, dtype=np.int32)
    groups = checks.host_values(groups, "groups", narrow=True)
    if groups.dtype.kind not in "iu" or groups.shape != (count,) or groups.min() < 0 or groups.max() >= 2**31:
        raise ValueError(
            f"groups must be integers [v] = ({count},) from 0 on, got {groups.dtype} {groups.shape}; "
            "np.unique(names, return_inverse=True)[1] makes them of names"
        )
    return groups.astype(np.int32)
