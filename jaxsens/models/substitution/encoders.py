"""All single-token substitutions of an input through a transformer, exactly, for less work.

Substitutions of one input share everything that a single token does not change:

- *First layer*: queries, keys and values of the other tokens. The scores of a substitution are the clean ones but for
  one row and one column, which one more product of matrices gives for all substitutions together.
- *Last layer*: where one row is read (a class token, the last token of a GPT-2), one query is enough. Keys and values
  then need not be formed: ``q . (K y + b) = (K' q) . y + q . b`` and ``sum w (V y + b) = V (sum w y) + b sum w``. Where
  the mean over tokens is read, every row is needed and nothing is saved.

The layers between are evaluated plainly, because attention carries the change to every token. For depth l, width d,
hidden width f and T tokens, a row of a layer takes ``8 d^2 + 4 d f + 4 T d`` operations; the first layer keeps
``2 d^2 + 4 d f + 2 T d`` of them, the last one next to none. ``operations`` counts: with f = 4 d, T = 128 and a class
token the ratio, plain over shared, is 1.26 for 6 layers of width 384, 1.12 for 12 layers of width 768; with a mean over
tokens, 1.05 and 1.02. Two CPU cores gave 1.26 for the first, both ways in blocks of 2, the best for both.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsens.models.common import require, require_flags, require_rows
from jaxsens.models.text import encoder
from jaxsens.models.transformer import Block, Config, Transformer, attention_weights
from jaxsens.substitution import chosen_sites, require_matching
from jaxsens.typing import Array, PyTree, SubstituteAt

__all__ = ["SharedLayers", "operations", "substitute"]


def substitute(module: Transformer, rows: int | None = None, *, embeddings: bool = False) -> SubstituteAt:
    """Make the primitive for a transformer, equal to ``one_at_a_time(evaluation(module))`` up to rounding.

    Args:
        module: A ``bert.Bert``, ``gpt2.GPT2``, ``vit.ViT`` or ``pretrained.vit.PretrainedViT``.
        rows: Substitutions evaluated at once; ``None`` for all. On a CPU a block of a few stays in cache.
        embeddings: Whether tokens and alternatives are embeddings ``[t d]``, as ``encoder.embed`` makes them; then it
            is equal to ``one_at_a_time(encoder.from_embeddings(module))``.

    Returns:
        ``substitute(variables, tokens [t *s], alternatives [t *s], mask [t] = None) -> (clean [*k], changed [t *k])``;
        with ``sites [n]``, a fifth argument, only those are substituted, ``changed [n *k]``. Equal arguments give equal
        functions, which share compiled code.

    Raises:
        ValueError: If ``rows`` is no integer of at least 1, or the module is no transformer of this library; when
            called, if tokens, alternatives, mask, sites or variables do not fit.

    Example:
        >>> import numpy as np
        >>> from jaxsens import models
        >>> module = models.build("vit", "small", image_shape=(4, 4, 1), classes=3, patch=2)
        >>> tokens = np.zeros((4, 4), np.float32)
        >>> clean, changed = jax.jit(substitute(module))(models.init(module, jax.random.key(0)), tokens, tokens + 1)
        >>> clean.shape, changed.shape
        ((3,), (4, 3))
    """
    require_rows(rows)
    require_flags(embeddings=embeddings)
    require(
        isinstance(module, Transformer), "module", type(module).__name__, "a Bert, a GPT2, a ViT or a PretrainedViT"
    )
    return SharedLayers(module, rows, embeddings)


def operations(config: Config, count: int, sites: int | None = None) -> tuple[int, int]:
    """Return the floating-point operations of an input and its substitutions: evaluated plainly, and shared.

    Multiplications and additions of matrix products, between the embedding and the final activations; exponentials and
    normalizations, of lower order, are left out. ``lambda sites, draws: draws * operations(config, count, sites)[1]``
    is the cost of a sample of sites, for ``variance_components.allocate``.

    Args:
        config: The sizes.
        count: The number of tokens t, without a ViT's class token.
        sites: The number of tokens that are substituted, by default all.

    Example:
        >>> from jaxsens.models import text
        >>> plain, shared = operations(
        ...     text.bert.Config(width=384, depth=6, heads=12, hidden=1536, vocabulary=9, positions=128), 128
        ... )
        >>> round(plain / shared, 2)
        1.26
    """
    d, f, h, e = config.width, config.hidden, config.heads, config.heads * config.head_size
    total = count + config.added_tokens
    mlp = (6 if config.gated_mlp else 4) * d * f
    inputs, row = (count if sites is None else sites) + 1, 8 * d * e + mlp + 4 * total * e
    prepare = 2 * total * 6 * d * e + 3 * 2 * total**2 * e
    first = prepare + inputs * total * (2 * d * e + mlp + 2 * total * e)
    last = inputs * total * row
    if config.reads_one_row:
        last = inputs * (8 * d * e + mlp + total * 4 * h * d)
    plain = config.depth * inputs * total * row
    if config.depth == 1:
        return plain, first
    return plain, first + (config.depth - 2) * inputs * total * row + last


@dataclass(frozen=True)
class SharedLayers:
    """The substitution that ``substitute`` returns.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("vit", "small", image_shape=(4, 4, 1), classes=3, patch=2)
        >>> substitute(module, rows=2) == SharedLayers(module, rows=2)
        True
    """

    module: Transformer
    rows: int | None = None
    embeddings: bool = False

    def __call__(
        self,
        variables: PyTree,
        tokens: Array,
        alternatives: Array,
        mask: Array | None = None,
        sites: Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Return the clean output and, for every token or site, the output with only that token replaced."""
        require_matching(tokens, alternatives)
        sites = chosen_sites(sites, len(tokens))
        encoder.require_variables(self.module, variables)
        config, params, count = self.module.config, variables["params"], len(sites)
        x = jnp.stack([tokens, alternatives])
        real = None if mask is None else jnp.broadcast_to(mask, (2, *mask.shape))
        if not self.embeddings:
            x = self.module.apply(variables, x, real, method="embed")
        x, real = self.module.apply(variables, x, real, method="begin")
        real = None if real is None else real[0]
        shared = Block(config).apply({"params": params["block_0"]}, *x, method=_share)

        def outputs(sites: jax.Array) -> jax.Array:
            """Evaluate the substitutions at sites ``[r]``, from the first layer to the read-out."""
            seen = None if real is None else jnp.broadcast_to(real, (len(sites), *real.shape))
            y = Block(config).apply({"params": params["block_0"]}, shared, sites, seen, method=_first_layer)
            one_row = config.depth > 1 and config.reads_one_row
            for index in range(1, config.depth - 1 if one_row else config.depth):
                y = Block(config).apply({"params": params[f"block_{index}"]}, y, seen)
            if one_row:
                last, place = params[f"block_{config.depth - 1}"], _row_that_is_read(config, real, y.shape[1])
                y, seen = (
                    Block(config).apply({"params": last}, y, seen, place, last["attention"], method=_last_layer),
                    None,
                )
            return self.module.apply(variables, self.module.apply(variables, y, method="finish"), seen, method="read")

        # Site -1 is no token: that copy is the input itself, repeated to fill the blocks.
        rows = min(self.rows or count + 1, count + 1)
        sites = jnp.append(sites + config.added_tokens, jnp.full(rows - count % rows, -1))
        results = jax.lax.map(outputs, sites.reshape(-1, rows))
        results = results.reshape(-1, *results.shape[2:])
        return results[count], results[:count]


class _Shared(NamedTuple):
    """The parts of the first layer that all substitutions of an input share.

    Attributes:
        x: Inputs, clean and replaced ``[t d]`` each.
        values: Clean and replaced ``[h t k]`` each.
        scores: ``[h t t]`` of clean queries and keys; of clean queries, replaced keys; of replaced queries, clean keys.
        own: Scores of each replaced token with itself ``[h t]``.
    """

    x: tuple[jax.Array, jax.Array]
    values: tuple[jax.Array, jax.Array]
    scores: tuple[jax.Array, jax.Array, jax.Array]
    own: jax.Array


def _share(block: Block, clean: jax.Array, replaced: jax.Array) -> _Shared:
    attention = block.attention
    (query, key, value), (new_query, new_key, new_value) = (
        attention.project(block.attended(x)) for x in (clean, replaced)
    )
    scores = tuple(attention.scores(q, k) for q, k in ((query, key), (query, new_key), (new_query, key)))
    own = jnp.einsum("htk,htk->ht", new_query, new_key, preferred_element_type=scores[0].dtype)
    return _Shared((clean, replaced), (value, new_value), scores, own * block.config.head_size**-0.5)


def _first_layer(block: Block, shared: _Shared, sites: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Return activations ``[r t d]`` after the first layer for substitutions at ``sites [r]``."""
    clean, column, row = shared.scores
    here = sites[:, None] == jnp.arange(clean.shape[1])[None]  # [r t]
    as_query = as_value = here[:, None, :, None]
    as_key = here[:, None, None, :]
    scores = jnp.where(as_key, column[:, :, sites].transpose(2, 0, 1)[..., None], clean[None])
    new = jnp.where(as_key, shared.own[:, sites].T[:, :, None, None], row[:, sites].swapaxes(0, 1)[:, :, None])
    scores = jnp.where(as_query, new, scores)
    value = jnp.where(as_value, shared.values[1][:, sites].swapaxes(0, 1)[:, :, None], shared.values[0][None])
    x = jnp.where(here[:, :, None], shared.x[1][sites][:, None], shared.x[0][None])
    return block.after_attention(x, block.attention.mix(scores, value, mask))


def _last_layer(block: Block, x: jax.Array, mask: jax.Array | None, place: Array | int, weights: PyTree) -> jax.Array:
    """Return activations ``[r 1 d]`` after a layer, of the one row of ``x [r t d]`` that is read."""
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
    scores *= config.head_size**-0.5
    given = attention_weights(config, scores[:, :, None], mask, causal=False)[:, :, 0].astype(config.dtype)
    mean = jnp.einsum("rht,rtd->rhd", given, seen)
    mixed = jnp.einsum("rhd,dhk->rhk", mean, value)
    if config.projection_biases:
        bias = weights["value"]["bias"].astype(config.dtype).reshape(split[1:])
        mixed += given.sum(-1)[..., None] * bias[None]
    mixed = attention.out(mixed.reshape(len(x), 1, -1))
    return block.after_attention(jax.lax.dynamic_slice_in_dim(x, place, 1, axis=1), mixed)


def _row_that_is_read(config: Config, real: jax.Array | None, count: int) -> Array | int:
    """Return the place of the class token, or of a GPT-2's last token, among the real ones."""
    if real is None:
        return count - 1 if config.causal else 0
    return count - 1 - jnp.argmax(real[::-1]) if config.causal else jnp.argmax(real)
