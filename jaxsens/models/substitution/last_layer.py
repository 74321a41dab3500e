"""The last layer of a transformer, of which one row is read: one query is enough, and keys and values need no matrix.

``q . (K y + b) = (K' q) . y + q . b`` and ``sum w (V y + b) = V (sum w y) + b sum w``: the matrices of keys and values
are applied to one vector for each head, in place of all tokens.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxsens.models.transformer import Block, attention_weights, without_itself
from jaxsens.typing import Array, PyTree

__all__ = ["last_layer", "row_that_is_read"]


def last_layer(block: Block, x: jax.Array, mask: Array | None, place: Array | int, weights: PyTree) -> jax.Array:
    """Return activations ``[r 1 d]`` after a layer, of the one row ``place`` of ``x [r t d]``.

    The row must see all tokens that ``mask [r t]`` does not exclude, as the last token of a causal model does.

    Args:
        block: The layer, bound to its parameters: pass this function as ``method`` to its ``apply``.
        x: What enters the layer.
        mask: Which tokens are real; by default all.
        place: The number of the row.
        weights: The parameters of the layer's attention.

    Example:
        >>> from jaxsens.models.text import encoder, gpt2
        >>> module = gpt2.GPT2(gpt2.Config(width=4, depth=1, heads=2, hidden=4, vocabulary=5, positions=4))
        >>> params = encoder.init(module, jax.random.key(0))["params"]["block_0"]
        >>> block, x = Block(module.config), jax.random.normal(jax.random.key(1), (1, 3, 4))
        >>> row = block.apply({"params": params}, x, None, 2, params["attention"], method=last_layer)
        >>> bool(jnp.allclose(row[:, 0], block.apply({"params": params}, x, None)[:, 2], atol=1e-6))
        True
    """
    config, attention = block.config, block.attention
    split = (config.width, config.heads, config.head_size)
    key, value = (weights[name]["kernel"].astype(config.dtype).reshape(split) for name in ("key", "value"))
    seen = block.attended(x)
    at_place = jax.lax.dynamic_index_in_dim(seen, place, axis=1, keepdims=False)
    query = attention.query(at_place).reshape(-1, *split[1:])
    folded = jnp.einsum("rhk,dhk->rhd", query, key)
    # A bias of the keys would add the same to all scores of a query: softmax does not see it, but ReLU does.
    scores = jnp.einsum("rhd,rtd->rht", folded, seen, preferred_element_type=config.logits_dtype)
    if config.projection_biases:
        bias = weights["key"]["bias"].astype(config.dtype).reshape(split[1:])
        scores += jnp.einsum("rhk,hk->rh", query, bias)[..., None]
    scores = (scores * attention.scale())[:, :, None]
    if config.local_attention:
        scores = without_itself(scores, jnp.asarray(place)[None])
    probs = attention_weights(config, scores, mask, causal=False)[:, :, 0].astype(config.dtype)
    mean = jnp.einsum("rht,rtd->rhd", probs, seen)
    mixed = jnp.einsum("rhd,dhk->rhk", mean, value)
    if config.projection_biases:
        bias = weights["value"]["bias"].astype(config.dtype).reshape(split[1:])
        mixed += probs.sum(-1)[..., None] * bias[None]
    mixed = attention.out(mixed.reshape(len(x), 1, -1))
    return block.after_attention(jax.lax.dynamic_slice_in_dim(x, place, 1, axis=1), mixed)


def row_that_is_read(config: Any, real: Array | None, count: int) -> Array | int:
    """Return the place of the class token, or of a causal model's last token, among ``real [t]``, ``count`` tokens.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> config = gpt2.Config(width=4, depth=1, heads=1, hidden=4, vocabulary=5, positions=4)
        >>> row_that_is_read(config, None, 3), int(row_that_is_read(config, jnp.array([True, True, False]), 3))
        (2, 1)
    """
    if real is None:
        return count - 1 if config.causal else 0
    return count - 1 - jnp.argmax(real[::-1]) if config.causal else jnp.argmax(real)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
