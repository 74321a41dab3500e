"""The nearest rows of an embedding table, without ever holding a matrix of all rows by all rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.embedding_space.nearest_rows import BLOCK, Rows, Search, searchable
from jaxsens.execution import memory, parallel
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.typing import Array, Key

__all__ = ["Nearest", "nearest_tokens"]


@partial(jax.tree_util.register_dataclass, data_fields=["ids", "distances"], meta_fields=[])
@dataclass(frozen=True)
class Nearest:
    """The nearest neighbours of every row, nearest first.

    It is a perturbation too, ``(key, draw, tokens)``, whose draw r is every token's neighbour r: with
    ``sensitivity.token_sensitivity`` and a change of the prediction it tells how often minimal replacements change the
    prediction. Tokens without neighbours have to be left out of the sites there: the models of this library answer -1
    with NaN, which is told; a model of your own may take it for the last row.

    Attributes:
        ids: Rows ``[v k]`` int32; -1 for a row that has no neighbours.
        distances: ``[v k]``; for ``cosine`` ``1 - cos``, in 0 .. 2. Not a number where there is no neighbour.
    """

    ids: np.ndarray
    distances: np.ndarray

    @property
    def replaceable(self) -> np.ndarray:
        """Which rows have neighbours ``[v]``; ``sites & nearest.replaceable[tokens]`` leaves out the other tokens."""
        return np.asarray(self.ids)[:, 0] >= 0

    def replace(self, tokens: Array, rank: int = 0) -> np.ndarray:
        """Return every token's neighbour, of the shape of the tokens; -1 where it has none.

        Args:
            tokens: Ids ``[b t]``; or ``[b t 2]`` with the types of the tokens beside them, which stay.
            rank: 0 for the nearest, 1 for the next one.

        Raises:
            ValueError: If a token is no row of the table, or ``rank`` is not below k.
        """
        tokens = np.asarray(tokens)
        rows, k = np.shape(self.ids)
        if not 0 <= rank < k:
            raise ValueError(f"rank must be from 0 to {k - 1}, got {rank}: ask nearest_tokens for a larger k")
        if tokens.dtype.kind not in "iu" or not (tokens.ndim == 2 or (tokens.ndim == 3 and tokens.shape[2] == 2)):
            raise ValueError(f"tokens must be integers [b t] or [b t 2], got {tokens.dtype} {tokens.shape}")
        ids = tokens if tokens.ndim == 2 else tokens[..., 0]
        if ids.size and (ids.min() < 0 or ids.max() >= rows):
            raise ValueError(f"tokens must be rows of the table, 0 to {rows - 1}, got {ids.min()} to {ids.max()}")
        found = np.asarray(self.ids)[ids, rank].astype(tokens.dtype)
        return found if tokens.ndim == 2 else np.stack([found, tokens[..., 1]], -1)

    def __call__(self, key: Key, draw: Array, x: Array) -> Array:
        """Return neighbour number ``draw`` of the tokens ``[t]`` or ``[t 2]``; -1 if there is none."""
        del key  # nothing is random
        ids = x if x.ndim == 1 else x[..., 0]
        pick = jnp.asarray(self.ids).at[ids, jnp.asarray(draw, jnp.int32)]
        found = pick.get(mode="fill", fill_value=-1, wrap_negative_indices=False).astype(x.dtype)
        return found if x.ndim == 1 else jnp.stack([found, x[..., 1]], -1)


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
    Perturbations, s.3; ``l2``: ``argmin_j ||E_i - E_j||_2``. Scores are compared in the table's precision, float32 at
    least; of equal ones the smallest id is the nearer.

    A row of zeros (padding) and excluded rows have no neighbours and are nobody's. Beside the table, a device holds
    ``4 chunk (block + k d)`` bytes, 64 MiB by default, and the host ``8 block d``: a table of 250,000 rows of width 768
    (768 MB, once on every device) needs 0.2 GiB more.

    Args:
        table: Embeddings ``[v d]``.
        k: How many neighbours.
        exclude: Rows that take no part: booleans ``[v]``, or ids. See ``vocabulary.special_tokens``.
        groups: Integers ``[v]`` of at least 0: rows with the same one are variants of each other, and not neighbours.
            By default every row is a group of its own. See ``vocabulary.spelling_groups``.
        metric: ``"cosine"`` or ``"l2"``.
        block: Rows compared at once.
        execution: How to run; its ``chunk`` counts rows searched for.

    Raises:
        ValueError: If the table is no matrix of finite numbers, another argument does not fit it, or a row has fewer
            than k others to choose from (it is its own only neighbour, say); the row is named.
    """
    rows, allowed = searchable(table, exclude, groups, metric)
    if k < 1 or block < 1:
        raise ValueError(f"k and block must be at least 1, got {k} and {block}")
    _require_candidates(rows.groups, allowed, k)
    count, width = rows.table.shape
    block = min(block, count)
    asked = np.flatnonzero(allowed).astype(np.int32)
    ids, distances = parallel.map_items(
        parallel.bind(_of_row, Search(k, block, metric)),
        asked,
        rows,
        execution=execution.replace(chunk=execution.chunk or max(1, memory.BYTES // (4 * (block + k * width)))),
    )
    found = Nearest(np.full((count, k), -1, np.int32), np.full((count, k), np.nan, distances.dtype))
    found.ids[asked], found.distances[asked] = ids, distances
    return found


def _of_row(search: Search, row: Array, rows: Rows) -> tuple[Array, Array]:
    """Search for the neighbours of a row of the table itself."""
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
            "exclude it, or let exclude and groups leave more rows"
        )
