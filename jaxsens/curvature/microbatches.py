"""A sum over blocks of data, as a function that is called many times: what stays the same is computed once.

A product with a Hessian evaluates the model and its gradient, and neither depends on the vector. Lanczos asks for
dozens of products: kept, the gradient is a third of the work less for each of them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxsens.execution import memory
from jaxsens.typing import Array, PyTree

__all__ = ["KEPT", "sum_kept_over_blocks", "sum_over_blocks"]

KEPT = 16 * memory.BYTES
"""Bytes that what is kept of several blocks may take, 1 GiB; beyond it every call evaluates the blocks anew."""


def sum_over_blocks(
    of_block: Callable[[PyTree], Callable[[PyTree], PyTree]], blocks: PyTree
) -> Callable[[PyTree], PyTree]:
    """Return ``x -> sum_j of_block(block_j)(x)`` for blocks ``[j ...]``, evaluated anew at each call."""

    def total(x: PyTree) -> PyTree:
        return _scanned(lambda block: of_block(block)(x), blocks)

    return total


def sum_kept_over_blocks(
    of_block: Callable[[PyTree], Callable[[PyTree], PyTree]], blocks: PyTree, like: PyTree, shared: PyTree
) -> Callable[[PyTree], PyTree]:
    """Return the same sum, with what ``of_block`` computes before it sees ``x`` kept; for use under jit.

    A single block is always kept (one evaluation has it in memory in any case), several if they fit ``KEPT``.

    Args:
        of_block: Makes the function of x for one block.
        blocks: Pytree of arrays ``[j ...]``.
        like: An x.
        shared: Arrays that ``of_block`` may use, of which no block needs a copy.
    """
    first = jax.tree.map(lambda a: a[0], blocks)
    count = len(jax.tree.leaves(blocks)[0])
    if count == 1:
        return of_block(first)
    arrays = jax.tree.leaves(shared)
    seen = {}

    def kept(block: PyTree) -> list[Array]:
        """Return what the block's function closes over, and note its program."""
        program, shape = jax.make_jaxpr(of_block(block), return_shape=True)(like)
        common = [next((a for a in arrays if a is const), None) for const in program.consts]
        seen.update(jaxpr=program.jaxpr, common=common, shape=shape)
        return [const for const, known in zip(program.consts, common, strict=True) if known is None]

    if count * sum(a.size * a.dtype.itemsize for a in jax.eval_shape(kept, first)) > KEPT:
        return sum_over_blocks(of_block, blocks)
    every = jax.lax.map(kept, blocks)
    if not every:  # blocks that are all the same function leave nothing to keep
        return lambda x: jax.tree.map(lambda a: count * a, of_block(first)(x))

    def total(x: PyTree) -> PyTree:
        def one(own: list[Array]) -> PyTree:
            rest = iter(own)
            consts = [next(rest) if known is None else known for known in seen["common"]]
            results = core.jaxpr_as_fun(core.ClosedJaxpr(seen["jaxpr"], consts))(*jax.tree.leaves(x))
            return jax.tree.unflatten(jax.tree.structure(seen["shape"]), results)

        return _scanned(one, every)

    return total


def _scanned(fn: Callable[[PyTree], PyTree], blocks: PyTree) -> PyTree:
    """Return the sum of ``fn(block)``, one block after the other."""
    shapes = jax.eval_shape(fn, jax.tree.map(lambda a: a[0], blocks))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(lambda total, block: (jax.tree.map(jnp.add, total, fn(block)), None), zero, blocks)[0]
