"""Which substitutions of a text are evaluated together, and from which position on; see ``prefixes``."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.substitution import chosen_sites
from jaxsens.typing import Array, PyTree

__all__ = ["Plan", "plan_of", "run", "tile_of"]


class Plan(NamedTuple):
    """Which substitutions are evaluated together, and from where on.

    Attributes:
        sites: The tokens that a block replaces ``[blocks rows]``, from the last to the first; -1 replaces none.
        first: The first tile that a block needs ``[blocks]``.
        order: The place of each substitution, and at the end that of the text itself, among the rows ``[n + 1]``.
        tiles: The number of tiles of a text.
        tile: The number of positions of a tile.

    Example:
        >>> plan_of(None, 5, rows=2, tile=2).sites.tolist()
        [[4, 3], [2, 1], [0, -1]]
    """

    sites: Array
    first: Array
    order: Array
    tiles: int
    tile: int


def plan_of(sites: Array | None, count: int, rows: int, tile: int) -> Plan:
    """Return the plan for all ``count`` tokens, in NumPy, or for ``sites [n]`` that may be traced.

    Example:
        >>> plan_of(None, 5, rows=2, tile=2).first.tolist()
        [1, 0, 0]
    """
    xp = np if sites is None else jnp
    sites = np.arange(count) if sites is None else chosen_sites(sites, count)
    rows, tile = min(rows, len(sites) + 1), min(tile, count)
    rank = xp.argsort(-sites)
    fill = xp.full(-len(sites) % rows or rows, -1)
    blocks = xp.concatenate([sites[rank], fill]).reshape(-1, rows)
    order = xp.append(xp.argsort(rank), len(sites))
    return Plan(blocks, xp.maximum(blocks.min(1), 0) // tile, order, -(-count // tile), tile)


def run(plan: Plan, step: Callable[[PyTree, Array, Array], PyTree], carry: PyTree) -> PyTree:
    """Apply ``step(carry, block, tile)`` to the tiles of every block in turn, and return the last carry.

    Example:
        >>> int(run(plan_of(None, 5, rows=2, tile=2), lambda carry, block, tile: carry + 1, 0))
        8
    """
    if isinstance(plan.first, np.ndarray):  # one loop of known length: it can be counted, and mapped without masking
        turns = [(block, tile) for block, first in enumerate(plan.first) for tile in range(first, plan.tiles)]
        return jax.lax.scan(lambda carry, turn: (step(carry, *turn), None), carry, jnp.array(turns, jnp.int32))[0]

    def one_block(block: Array, carry: PyTree) -> PyTree:
        return jax.lax.fori_loop(plan.first[block], plan.tiles, lambda tile, carry: step(carry, block, tile), carry)

    return jax.lax.fori_loop(0, len(plan.first), one_block, carry)


def tile_of(plan: Plan, x: jax.Array, block: Array, tile: Array) -> jax.Array:
    """Return what the substitutions of a block have in a tile ``[rows tile d]``, of ``x [2 t d]``.

    Example:
        >>> x = jnp.stack([jnp.zeros((4, 1)), jnp.ones((4, 1))])
        >>> tile_of(plan_of(None, 4, rows=2, tile=2), x, 0, 1)[..., 0].tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    start = tile * plan.tile
    clean, replaced = jax.lax.dynamic_slice_in_dim(x, start, plan.tile, axis=1)
    sites = jax.lax.dynamic_index_in_dim(jnp.asarray(plan.sites), block, keepdims=False)
    here = sites[:, None] == (start + jnp.arange(plan.tile))[None]
    return jnp.where(here[:, :, None], replaced[None], clean[None])


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
