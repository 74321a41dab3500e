"""Block sensitivity and certificate complexity of Boolean functions, by exhaustive search on small truth tables.

For the layout of tables see ``tables``. Definitions: Buhrman and de Wolf, Complexity Measures and Decision Tree
Complexity (2002).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxsens.boolean.tables import of_tables, variables
from jaxsens.execution import memory
from jaxsens.typing import Array

__all__ = ["LARGEST_SEARCHED", "block_sensitivity", "certificate_complexity"]

LARGEST_SEARCHED = 12
"""Largest number of variables, which takes seconds for one table."""


@of_tables
def block_sensitivity(table: Array, /) -> jax.Array:
    """Return the largest number of disjoint blocks of positions, over all strings, that each change the function.

    ``bs(f) = max_x max{k : B_1 .. B_k disjoint, f(x) != f(x with B_j flipped)}`` (Buhrman and de Wolf, Def. 4). For all
    strings at once, the number for a set of positions is computed from those for its subsets. Cost: ``6**n / 2``
    operations, ``2 * 4**n`` bytes (n = 12: 0.3 s on two cores).

    Args:
        table: Truth tables ``[..., 2**n]``.

    Returns:
        Block sensitivities ``[...]``, int32, from 0 to n.

    Raises:
        ValueError: If the table is no truth table, or if n is larger than ``LARGEST_SEARCHED``.

    Example:
        >>> int(block_sensitivity([0, 1, 1, 1]))      # "or" of two bits, at the string 00
        2
    """

    def of_one(row: Array) -> Array:
        changes = _changes(row).astype(jnp.int8)

        def most_within(members: Array, most: Array) -> Array:
            """Fill in one set: the block of its last member takes any of the others, further blocks the rest."""
            last = 1 << (31 - jax.lax.clz(members))
            others = members ^ last

            def better(state: tuple[Array, Array]) -> tuple[Array, Array]:
                taken, best = state
                return (taken - 1) & others, jnp.maximum(best, changes[last | taken] + most[others ^ taken])

            start = ((others - 1) & others, changes[members] + most[0])  # the subsets after the whole, to the empty one
            _, best = jax.lax.while_loop(lambda state: state[0] != others, better, start)
            return most.at[members].set(best)

        most = jax.lax.fori_loop(1, len(row), most_within, jnp.zeros_like(changes))
        return most[-1].max().astype(jnp.int32)

    return _one_by_one(of_one, table, "block_sensitivity")


@of_tables
def certificate_complexity(table: Array, /) -> jax.Array:
    """Return how many bits of a string determine the function there, for the string that needs the most.

    ``C(f) = max_x min{|S| : f(y) = f(x) for all y that agree with x on S}`` (Buhrman and de Wolf, Def. 3). Cost: ``n
    4**n`` operations, ``2 * 4**n`` bytes (n = 12: 0.2 s on two cores).

    Args:
        table: Truth tables ``[..., 2**n]``.

    Returns:
        Certificate complexities ``[...]``, int32, from 0 to n.

    Raises:
        ValueError: If the table is no truth table, or if n is larger than ``LARGEST_SEARCHED``.

    Example:
        >>> int(certificate_complexity([0, 1, 1, 1]))      # "or" of two bits, at the string 00
        2
    """
    n = variables(table)

    def of_one(row: Array) -> Array:
        unsure = _changes(row)  # whether some flip within this set of unknown positions changes the function
        for i in range(n):
            pairs = unsure.reshape(2**i, 2, -1, len(row))
            unsure = jnp.stack([pairs[:, 0], pairs[:, 0] | pairs[:, 1]], 1).reshape(unsure.shape)
        sizes = jax.lax.population_count(jnp.arange(len(row), dtype=jnp.int32))
        return n - jnp.where(unsure, 0, sizes[:, None]).max(0).min()

    return _one_by_one(of_one, table, "certificate_complexity")


def _changes(row: Array) -> Array:
    """Return whether flipping the set B changes f(x), ``[B x]``, for one table ``[2**n]``."""
    indices = jnp.arange(len(row), dtype=jnp.int32)
    return row[indices[:, None] ^ indices[None]] != row[None]


def _one_by_one(fn: Callable[[Array], Array], table: Array, name: str) -> jax.Array:
    """Return ``fn`` of every table, as many at once as fit ``memory.budget``."""
    n, size = variables(table), table.shape[-1]
    if n > LARGEST_SEARCHED:
        raise ValueError(f"table: {name} searches at most {LARGEST_SEARCHED} variables, got n = {n}")
    rows = table.reshape(-1, size)
    batch = min(len(rows), max(1, memory.budget() // (2 * size**2)))
    return jax.lax.map(fn, rows, batch_size=batch).reshape(table.shape[:-1])
