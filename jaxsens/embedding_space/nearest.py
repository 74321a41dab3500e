"""The nearest rows of an embedding table, without a matrix of all rows by all rows in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.embedding_space.nearest_rows import BLOCK, SPARE, Rows, Search, search_exactly, searchable
from jaxsens.execution import checks, memory, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result
from jaxsens.results.words import times
from jaxsens.typing import Array, Key

__all__ = ["Nearest", "nearest_tokens"]


@partial(jax.tree_util.register_dataclass, data_fields=["ids", "distances"], meta_fields=[])
@dataclass(frozen=True, repr=False)
class Nearest(Result):
    """The nearest neighbors of every row, nearest first.

    It is also a perturbation, ``(key, draw, tokens)``, whose draw r is the r-th neighbor of every token: with
    ``sensitivity.token_sensitivity`` and a change of the prediction it measures how often minimal replacements change
    the prediction. Leave tokens without neighbors out of the sites there: for the id -1 the models of this library
    return NaN, which raises FloatingPointError, but another model may read the last row of its table.

    Attributes:
        ids: Rows ``[v k]`` int32; -1 for a row without neighbors.
        distances: ``[v k]``; ``1 - cos``, from 0 to 2, for ``cosine``; NaN where there is no neighbor.

    Example:
        >>> result = Nearest(np.array([[1], [0], [-1]], np.int32), np.array([[0.5], [0.5], [np.nan]]))
        >>> result.replace(np.array([[0, 1]])).tolist(), result.replaceable.tolist()
        ([[1, 0]], [True, True, False])
    """

    ids: np.ndarray
    distances: np.ndarray

    @property
    def replaceable(self) -> np.ndarray:
        """Whether a row has neighbors ``[v]``; ``sites & nearest.replaceable[tokens]`` leaves out the other tokens."""
        return np.asarray(self.ids)[:, 0] >= 0

    def _describe(self) -> Description:
        rows, neighbors = np.shape(self.ids)
        distances = np.asarray(self.distances)[self.replaceable]
        shown = f"median distance {np.median(distances[:, 0]):.3g}" if len(distances) else "no neighbors"

        def table() -> dict[str, np.ndarray]:
            return tidy({"row": None, "rank": None}, {"neighbor": self.ids, "distance": self.distances})

        return Description(times(rows=rows, neighbors=neighbors), words=shown, table=table)

    def replace(self, tokens: Array, rank: int = 0) -> np.ndarray:
        """Return the neighbor of every token, in the shape of the tokens; -1 where it has none.

        Args:
            tokens: Ids ``[b t]``; or ``[b t 2]``, ids and token types, of which the types stay.
            rank: 0 for the nearest, 1 for the next one.

        Raises:
            ValueError: If a token is no row of the table, or ``rank`` is not below k.
        """
        tokens = checks.host_values(tokens, "tokens", narrow=True)
        rows, k = np.shape(self.ids)
        if checks.require_count("rank", rank, 0) >= k:
            raise ValueError(f"rank must be from 0 to {k - 1}, got {rank}: call nearest_tokens with a larger k")
        if tokens.dtype.kind not in "iu" or not (tokens.ndim == 2 or (tokens.ndim == 3 and tokens.shape[2] == 2)):
            raise ValueError(f"tokens must be integers [b t] or [b t 2], got {tokens.dtype} {tokens.shape}")
        ids = tokens if tokens.ndim == 2 else tokens[..., 0]
        if ids.size and (ids.min() < 0 or ids.max() >= rows):
            raise ValueError(f"tokens must be rows of the table, 0 to {rows - 1}, got {ids.min()} to {ids.max()}")
        replaced = np.asarray(self.ids)[ids, rank]
        # The type of the tokens where it holds all ids: int8 has no token 200, and unsigned types have no -1.
        dtype = np.promote_types(tokens.dtype, np.min_scalar_type(-rows))
        dtype = tokens.dtype if np.can_cast(dtype, tokens.dtype) else np.promote_types(dtype, np.int32)
        replaced = replaced.astype(dtype)
        return replaced if tokens.ndim == 2 else np.stack([replaced, tokens[..., 1].astype(dtype)], -1)

    def __call__(self, key: Key, draw: Array, x: Array) -> Array:
        """Return neighbor number ``draw`` of the tokens ``[t]`` or ``[t 2]``; -1 if there is none.

        Raises:
            ValueError: If the dtype of the tokens cannot hold every id of the table and -1.
        """
        del key  # nothing is random
        if not np.can_cast(np.min_scalar_type(-len(self.ids)), x.dtype):
            raise ValueError(f"tokens of {x.dtype} cannot hold ids from -1 to {len(self.ids) - 1}: use int32")
        ids = x if x.ndim == 1 else x[..., 0]
        pick = jnp.asarray(self.ids).at[ids, jnp.asarray(draw, jnp.int32)]
        neighbors = pick.get(mode="fill", fill_value=-1, wrap_negative_indices=False).astype(x.dtype)
        return neighbors if x.ndim == 1 else jnp.stack([neighbors, x[..., 1]], -1)


def nearest_tokens(
    table: Array,
    *,
    k: int = 1,
    exclude: Array | Sequence[int] | None = None,
    groups: Array | None = None,
    metric: str = "cosine",
    block: int = BLOCK,
    execution: Execution = DEFAULT,
) -> Nearest:
    """Find for every row of an embedding table the k nearest other rows.

    ``cosine``: ``argmax_j cos(E_i, E_j)``, Conti et al., Probing the Embedding Space of Transformers via Minimal Token
    Perturbations, s.3; ``l2``: ``argmin_j ||E_i - E_j||_2``. Where float32 cannot tell which rows are nearest, float64
    on the host decides; of equal distances the smallest id is the nearer (see ``nearest_rows``).

    Excluded rows and rows of zeros (padding) have no neighbors and are neighbors of no row. In addition to the table, a
    device holds ``4 chunk (block + (k + 4) d)`` bytes, 64 MiB by default, and the host ``8 block d``: a table of
    250,000 rows of width 768 (768 MB, once on every device) needs 0.2 GiB more.

    Args:
        table: Embeddings ``[v d]``.
        k: Number of neighbors.
        exclude: Rows that take no part: booleans ``[v]``, or ids. See ``vocabulary.special_tokens``.
        groups: Integers ``[v]`` of at least 0: rows with the same number are variants of each other, and not neighbors.
            By default every row is its own group. See ``vocabulary.spelling_groups``.
        metric: ``"cosine"`` or ``"l2"``.
        block: Rows compared at once.
        execution: How to run; its ``chunk`` counts rows to search neighbors for.

    Returns:
        ``Nearest``, ids and distances ``[v k]``.

    Raises:
        ValueError: If the table is no matrix of finite numbers, another argument does not fit it, or a row has fewer
            than k others to choose from; the row is named.

    Example:
        >>> table = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], np.float32)
        >>> nearest_tokens(table).ids[:, 0]
        array([1, 0, 1], dtype=int32)
    """
    require_execution(execution)
    rows, allowed = searchable(table, exclude, groups, metric)
    k, block = checks.require_count("k", k), checks.require_count("block", block)
    _require_candidates(rows.groups, allowed, k)
    count, width = rows.table.shape
    block = min(block, count)
    searched = np.flatnonzero(allowed).astype(np.int32)
    room = max(1, memory.budget() // (4 * (block + (k + SPARE) * width)))
    ids, distances, proven = parallel.map_items(
        parallel.bind(_nearest_to_row, Search(k, block, metric)),
        searched,
        rows,
        execution=execution.replace(chunk=execution.chunk or room),
    )
    if not proven.all():
        unsure = searched[~proven]
        ids[~proven], distances[~proven] = search_exactly(rows.table[unsure], rows.groups[unsure], rows, k, metric)
    nearest = Nearest(np.full((count, k), -1, np.int32), np.full((count, k), np.nan, distances.dtype))
    nearest.ids[searched], nearest.distances[searched] = ids, distances
    return nearest


def _nearest_to_row(search: Search, row: Array, rows: Rows) -> tuple[Array, Array, Array]:
    """Search for the neighbors of a row of the table itself."""
    return search(rows.table[row], rows.groups[row], rows)


def _require_candidates(groups: np.ndarray, allowed: np.ndarray, k: int) -> None:
    if not allowed.any():
        raise ValueError("exclude leaves no row of the table that is not all zeros")
    _, kinds, sizes = np.unique(groups[allowed], return_inverse=True, return_counts=True)
    candidates = allowed.sum() - sizes[kinds]
    if candidates.min() < k:
        row = int(np.flatnonzero(allowed)[np.argmin(candidates)])
        raise ValueError(
            f"row {row} of the table has {candidates.min()} others to choose from, fewer than k={k}: "
            "exclude it, or leave more rows in exclude and groups"
        )
