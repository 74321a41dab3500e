"""The layers of a causal transformer over a part of a text, with the keys and values of what comes before it.

A layer of GPT-2 and one of a Llama remember different things: where one row of the last layer is read, GPT-2's needs
what enters it alone, since keys and values need no matrix there (``last_layer``); rotations depend on the position, so
that a Llama's last layer needs the keys and values of all tokens, but one query and one row of the MLP.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxsens.models.substitution.last_layer import last_layer
from jaxsens.models.text import gpt2, llama
from jaxsens.models.transformer import Block, attention_weights
from jaxsens.typing import Array, PyTree

__all__ = ["Cache", "Layers"]

Cache = tuple[jax.Array, ...]
"""Keys and values ``[r heads t k]`` of a layer, or nothing where it needs none."""


@dataclasses.dataclass(frozen=True)
class Layers:
    """The layers of one model.

    Attributes:
        module: The model.
        variables: Its variables.
        places: The positions of the tokens ``[t]``.
        seen: Which tokens are real ``[t]``; None for all.

    Example:
        >>> from jaxsens.models.text import encoder
        >>> module = gpt2.GPT2(gpt2.Config(width=4, depth=2, heads=2, hidden=4, vocabulary=5, positions=4))
        >>> layers = Layers(module, encoder.init(module, jax.random.key(0)), jnp.arange(4), None)
        >>> x, cache = layers.onward(0, jnp.ones((1, 3, 4)), layers.empty(0), 1)
        >>> x.shape, cache[0].shape
        ((1, 3, 4), (1, 2, 4, 2))
    """

    module: gpt2.GPT2 | llama.Llama
    variables: PyTree
    places: jax.Array
    seen: jax.Array | None

    def empty(self, index: int) -> Cache:
        """Return the cache of a layer that has seen no token, of one text."""
        config = self.module.config
        rotated = isinstance(self.module, llama.Llama)
        if not rotated and self._read_only(index):
            return ()
        heads = config.key_heads if rotated else config.heads
        return (jnp.zeros((1, heads, len(self.places), config.head_size), config.dtype),) * 2

    def onward(self, index: int, x: jax.Array, cache: Cache, first: Array | int) -> tuple[jax.Array, Cache]:
        """Return what leaves a layer for the tokens ``x [r p d]`` from ``first`` on, and the cache with theirs.

        Of a last layer of which one row is read, what enters it is returned.
        """
        if isinstance(self.module, llama.Llama):
            block, params = self._rotated(index)
            here = self._part(first, x.shape[1])[None]
            cache = _updated(cache, block.apply(params, x, here, method="remembered"), first)
            if self._read_only(index):
                return x, cache
            return block.apply(params, x, here, *cache, self.places[None], self._mask(), method="attend"), cache
        if self._read_only(index):
            return x, cache
        params = {"params": self._params(index)}
        return Block(self.module.config).apply(params, x, *cache, self.seen, first, method=_onward)

    def last_row(self, x: jax.Array, cache: Cache, place: Array | int, real: jax.Array) -> jax.Array:
        """Return the one row ``place`` that leaves the last layer ``[r 1 d]``, of what enters it ``x [r t d]``.

        Args:
            x: What enters the last layer at all positions.
            cache: The last layer's.
            place: The number of the row, which sees all real tokens.
            real: Which tokens it may see ``[t]``.
        """
        index = self.module.config.depth - 1
        if isinstance(self.module, llama.Llama):
            block, params = self._rotated(index)
            row = jax.lax.dynamic_slice_in_dim(x, place, 1, axis=1)
            here, mask = self._part(place, 1)[None], real[None]
            return block.apply(params, row, here, *cache, self.places[None], mask, method="attend")
        params, mask = self._params(index), jnp.broadcast_to(real[None], x.shape[:2])
        inputs = (x, mask, place, params["attention"])
        return Block(self.module.config).apply({"params": params}, *inputs, method=last_layer)

    def _read_only(self, index: int) -> bool:
        config = self.module.config
        return config.reads_one_row and index == config.depth - 1

    def _params(self, index: int) -> PyTree:
        return self.variables["params"][f"block_{index}"]

    def _rotated(self, index: int) -> tuple[llama.Block, PyTree]:
        return llama.Block(self.module.config, index), {"params": self._params(index)}

    def _part(self, first: Array | int, count: int) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(self.places, first, count)

    def _mask(self) -> jax.Array | None:
        return None if self.seen is None else self.seen[None]


def _onward(
    block: Block, x: jax.Array, keys: jax.Array, values: jax.Array, seen: jax.Array | None, first: Array | int
) -> tuple[jax.Array, Cache]:
    """Return the activations after a layer of the tokens ``x [r p d]`` from ``first`` on, and all keys and values."""
    attention, mask = block.attention, None if seen is None else seen[None]
    query, key, value = attention.project(block.attended(x))
    keys, values = _updated((keys, values), (key, value), first)
    scores = attention.scores(query, keys)
    weights = attention_weights(block.config, scores, mask, causal=True, first=first).astype(block.config.dtype)
    mixed = attention.join(jnp.einsum("rhpt,rhtk->rhpk", weights, values))
    return block.after_attention(x, mixed), (keys, values)


def _updated(cache: Cache, new: Cache, first: Array | int) -> Cache:
    """Return keys and values with those of some tokens from ``first`` on, and no values of the tokens after them.

    What an earlier block left there is not seen: its weight is 0. But 0 times NaN is NaN, so that one alternative with
    values that are not finite would make the outputs of others NaN.
    """
    keys, values = (jax.lax.dynamic_update_slice_in_dim(*pair, first, axis=2) for pair in zip(cache, new, strict=True))
    before = jnp.arange(values.shape[2]) < first + new[1].shape[2]
    return keys, jnp.where(before[:, None], values, 0)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
