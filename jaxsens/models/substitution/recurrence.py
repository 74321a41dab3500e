"""The evaluation of an LSTM with one token replaced, from the state of the text before that token; see ``prefixes``."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.models.substitution.prefix_plan import Plan, tile_of
from jaxsens.models.text import lstm
from jaxsens.typing import Array, PyTree

__all__ = ["outputs", "rows_of_tiles"]


class _Recurrence(NamedTuple):
    """What an LSTM knows of the positions before a tile.

    Attributes:
        layers: Hidden states and cells of each layer ``[rows d]``.
        total: The sum of the last layer's hidden states ``[rows d]`` over real tokens.
    """

    layers: tuple[tuple[jax.Array, jax.Array], ...]
    total: jax.Array


_Onward = Callable[[_Recurrence, jax.Array, Array], _Recurrence]


def outputs(
    module: lstm.LSTM, variables: PyTree, plan: Plan, x: jax.Array, seen: jax.Array | None, count: int
) -> jax.Array:
    """Return the outputs of an LSTM for the text and all its substitutions, in the places that a plan gives them.

    Args:
        module: The LSTM.
        variables: Its variables.
        plan: Of all tokens, or of chosen sites.
        x: Embeddings of the text and of its alternatives ``[2 p d]``, with positions added up to a whole tile.
        seen: Which positions are real ``[p]``; None if all are.
        count: The number of tokens.

    Returns:
        ``[blocks rows classes]``.

    Example:
        >>> from jaxsens.models.substitution.prefix_plan import plan_of
        >>> from jaxsens.models.text import encoder
        >>> module = lstm.LSTM(lstm.Config(vocabulary=5, width=4, depth=1, classes=3))
        >>> variables = encoder.init(module, jax.random.key(0))
        >>> outputs(module, variables, plan_of(None, 6, 4, 3), jnp.zeros((2, 6, 4)), None, 6).shape
        (2, 4, 3)
    """
    config, params, layer_of = module.config, variables["params"], lstm.Layer(module.config)
    layers = [params[f"layer_{index}"] for index in range(config.depth)]

    def onward(before: _Recurrence, y: jax.Array, tile: Array) -> _Recurrence:
        """Return what is known after a tile ``y [r p d]``."""
        real = None if seen is None else jax.lax.dynamic_slice_in_dim(seen, tile * plan.tile, plan.tile)
        mask, after = None if real is None else jnp.broadcast_to(real[None], y.shape[:2]), []
        for layer, state in zip(layers, before.layers, strict=True):
            state, y = layer_of.apply({"params": layer}, state, y, mask, method="onward")
            after.append(state)
        counted = y if real is None else jnp.where(real[None, :, None], y, 0)
        return _Recurrence(tuple(after), before.total + counted.sum(1))

    zero = jnp.zeros((1, config.width), x.dtype)
    nothing = _Recurrence(((zero, zero),) * config.depth, zero)
    every_token = isinstance(plan.first, np.ndarray)
    final = (_in_one_pass if every_token else _in_blocks)(plan, x, nothing, onward)
    read = final.layers[-1][0]
    if config.read_out == "mean":
        read = final.total / jnp.maximum(count if seen is None else seen.sum(), 1).astype(x.dtype)
    return module.apply(variables, read, method=_classified)


def _in_one_pass(plan: Plan, x: jax.Array, nothing: _Recurrence, onward: _Onward) -> _Recurrence:
    """Return what is known of the text and all its substitutions at the end, ``[blocks rows d]``.

    One pass over the text, with a row for the text itself and one for every token replaced so far: the sequential steps
    are those of one text, and a tile begins with the state of the text in the rows that join.
    """
    state = nothing
    for tile, rows in enumerate(rows_of_tiles(plan)):
        start, end = tile * plan.tile, (tile + 1) * plan.tile
        joined = rows - len(state.total)
        state = jax.tree.map(lambda a, n=joined: jnp.concatenate([a, jnp.repeat(a[:1], n, axis=0)]), state)
        clean, replaced = x[:, start:end]
        here = (jnp.arange(len(state.total)) - 1)[:, None] == jnp.arange(start, end)[None]
        state = onward(state, jnp.where(here[:, :, None], replaced[None], clean[None]), tile)
    return jax.tree.map(lambda a: a[plan.sites + 1], state)


def rows_of_tiles(plan: Plan) -> list[int]:
    """Return the number of rows of every tile of a plan of all tokens: one for the text, and one for each token so far.

    Example:
        >>> from jaxsens.models.substitution.prefix_plan import plan_of
        >>> rows_of_tiles(plan_of(None, 7, rows=4, tile=3))
        [4, 7, 8]
    """
    return (np.minimum(np.arange(1, plan.tiles + 1) * plan.tile, plan.sites.max() + 1) + 1).tolist()


def _in_blocks(plan: Plan, x: jax.Array, nothing: _Recurrence, onward: _Onward) -> _Recurrence:
    """Return the same for the sites of a plan that are traced, from the first tile of each block on."""

    def of_the_text(before: _Recurrence, tile: Array) -> tuple[_Recurrence, _Recurrence]:
        y = jax.lax.dynamic_slice_in_dim(x[:1], tile * plan.tile, plan.tile, axis=1)
        return onward(before, y, tile), before

    before = jax.lax.scan(of_the_text, nothing, jnp.arange(plan.tiles))[1]  # [tiles 1 d]

    def one_block(block: Array) -> _Recurrence:
        start = jax.tree.map(lambda a: jnp.repeat(a[plan.first[block]], plan.sites.shape[1], axis=0), before)
        return jax.lax.fori_loop(
            plan.first[block], plan.tiles,
            lambda tile, state: onward(state, tile_of(plan, x, block, tile), tile), start,
        )  # fmt: skip

    return jax.lax.map(one_block, jnp.arange(len(plan.first)))


def _classified(module: lstm.LSTM, x: jax.Array) -> jax.Array:
    return module.classifier(x)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
