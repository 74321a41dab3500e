"""A sum over blocks of data, as a function that is called many times: what does not depend on its argument is kept.

A product with a Hessian evaluates the model and its gradient, and neither depends on the vector. Lanczos computes
dozens of products; keeping the gradient saves a third of the work of each.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxsens.execution import memory
from jaxsens.typing import Array, PyTree

__all__ = ["KEPT", "sum_kept_over_blocks", "sum_over_blocks"]

KEPT = 16 * memory.BYTES
"""Most bytes to keep for several blocks, 1 GiB; beyond it every call evaluates the blocks again."""


def sum_over_blocks(
    of_block: Callable[[PyTree], Callable[[PyTree], PyTree]], blocks: PyTree
) -> Callable[[PyTree], PyTree]:
    """Return ``x -> sum_j of_block(block_j)(x)`` for blocks ``[j ...]``, evaluated again at each call.

    Example:
        >>> total = sum_over_blocks(lambda block: lambda x: block * x, jnp.array([1.0, 2.0, 3.0]))
        >>> float(total(jnp.float32(10.0)))
        60.0
    """

    def total(x: PyTree) -> PyTree:
        return _scanned(lambda block: of_block(block)(x), blocks)

    return total


def sum_kept_over_blocks(
    of_block: Callable[[PyTree], Callable[[PyTree], PyTree]], blocks: PyTree, like: PyTree, shared: PyTree
) -> Callable[[PyTree], PyTree]:
    """Return the same sum, keeping what ``of_block`` computes without ``x``; for use under jit.

    A single block is always kept (one evaluation holds it in memory in any case), several if they fit ``KEPT``.

    Args:
        of_block: Maps a block to its function of x.
        blocks: Pytree of arrays ``[j ...]``.
        like: An example of x; only shapes and dtypes matter.
        shared: Arrays that ``of_block`` may use and that are not copied for every block.

    Example:
        >>> squared = lambda block: lambda x: block**2 * x    # the square is computed once for each block
        >>> total = sum_kept_over_blocks(squared, jnp.array([1.0, 2.0, 3.0]), jnp.float32(0.0), ())
        >>> float(total(jnp.float32(10.0)))
        140.0
    """
    first = jax.tree.map(lambda a: a[0], blocks)
    count = len(jax.tree.leaves(blocks)[0])
    if count == 1:
        return of_block(first)
    arrays = jax.tree.leaves(shared)
    traced = {}

    def kept(block: PyTree) -> list[Array]:
        """Return the arrays that the block's function closes over, and record its program."""
        program, shape = jax.make_jaxpr(of_block(block), return_shape=True)(like)
        common = [next((a for a in arrays if a is const), None) for const in program.consts]
        traced.update(jaxpr=program.jaxpr, common=common, shape=shape)
        return [const for const, same in zip(program.consts, common, strict=True) if same is None]

    if count * sum(a.size * a.dtype.itemsize for a in jax.eval_shape(kept, first)) > KEPT:
        return sum_over_blocks(of_block, blocks)
    every = jax.lax.map(kept, blocks)
    if not every:  # all blocks are the same function: there is nothing to keep
        return lambda x: jax.tree.map(lambda a: count * a, of_block(first)(x))

    def total(x: PyTree) -> PyTree:
        def one(of_this_block: list[Array]) -> PyTree:
            rest = iter(of_this_block)
            consts = [next(rest) if same is None else same for same in traced["common"]]
            results = core.jaxpr_as_fun(core.ClosedJaxpr(traced["jaxpr"], consts))(*jax.tree.leaves(x))
            return jax.tree.unflatten(jax.tree.structure(traced["shape"]), results)

        return _scanned(one, every)

    return total


def _scanned(fn: Callable[[PyTree], PyTree], blocks: PyTree) -> PyTree:
    """Return the sum of ``fn(block)``, one block after the other."""
    shapes = jax.eval_shape(fn, jax.tree.map(lambda a: a[0], blocks))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(lambda total, block: (jax.tree.map(jnp.add, total, fn(block)), None), zero, blocks)[0]
