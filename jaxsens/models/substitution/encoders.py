"""All single-token substitutions of an input through a transformer, exactly, for less work.

Substitutions of one input share everything that a single token does not change:

- *First layer*: queries, keys and values of the other tokens. The scores of a substitution are the clean ones but for
  one row and one column, which one more product of matrices gives for all substitutions together.
- *Last layer*: where one row is read (a class token, the last token of a GPT-2), one query is enough, see
  ``last_layer``. Where the mean over tokens is read, every row is needed and nothing is saved.

- *Layers between*, where heads are as wide as the model and have no biases, as in the first paper's ViTs: the matrices
  of queries and keys are multiplied once, and those of values and outputs, so that no keys and values are formed.

Where a token enters the embeddings of its neighbors, too, as in a ViT with shifted patch tokenization, all of them are
substituted together: the embedding is computed for each substitution, and the first layer shares the queries, keys,
values and scores of all other tokens.

The layers between are evaluated for every token, because attention carries the change to all. For depth l, width d,
hidden width f and T tokens, a row of a layer takes ``8 d^2 + 4 d f + 4 T d`` operations; the first layer keeps
``2 d^2 + 4 d f + 2 T d`` of them, the last one next to none. ``operations`` counts: with f = 4 d, T = 128 and a class
token the ratio, plain over shared, is 1.26 for 6 layers of width 384, 1.12 for 12 layers of width 768; with a mean over
tokens, 1.05 and 1.02. For the first paper's ViTs on CIFAR-10 it is 1.77 with a class token, 1.24 (shifts by a pixel, 5
embeddings for a patch), 1.23 (by half a patch, 9 embeddings) and 1.48 (the simple one). Two CPU cores gave 1.26 for the
first of all, both ways in blocks of 2, the best for both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsens.models.common import require, require_flags, require_rows
from jaxsens.models.substitution.last_layer import last_layer, row_that_is_read
from jaxsens.models.text import encoder
from jaxsens.models.transformer import Block, Config, Transformer, attention_weights
from jaxsens.substitution import chosen_sites, require_matching
from jaxsens.typing import Array, PyTree, SubstituteAt

__all__ = ["SharedLayers", "operations", "substitute"]


def substitute(module: Transformer, rows: int | None = None, *, embeddings: bool = False) -> SubstituteAt:
    """Make the primitive for a transformer, equal to ``one_at_a_time(evaluation(module))`` up to rounding.

    Args:
        module: A ``bert.Bert``, a ``gpt2.GPT2``, a ``pretrained.vit.PretrainedViT``, or a ``vit.ViT``, among them a
            ``small_data_vit.SmallDataViT`` and a ``simple_vit.SimpleViT``.
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
    first = inputs * total * (2 * d * e + mlp + 2 * total * e)
    if config.reach is None:
        first += 2 * total * 6 * d * e + 3 * 2 * total**2 * e
    else:
        first += (total + inputs * config.reach.shape[1]) * 6 * d * e
        first += (total + 2 * inputs * config.reach.shape[1]) * 2 * total * e
    last = inputs * total * row
    if config.reads_one_row:
        last = inputs * (8 * d * e + mlp + total * 4 * h * d)
    plain = config.depth * inputs * total * row
    if config.depth == 1:
        return plain, first
    between = inputs * total * row
    if _folds(config):
        between = inputs * total * (4 * d * d * h + mlp + 4 * total * h * d) + 4 * d * d * e
        if not config.reads_one_row:
            last = between
    return plain, first + (config.depth - 2) * between + last


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
        local = self.embeddings or config.reach is None
        first_layer, real = (self._of_a_token if local else self._of_neighbors)(variables, tokens, alternatives, mask)

        def outputs(sites: jax.Array) -> jax.Array:
            """Evaluate the substitutions at sites ``[r]``, from the first layer to the read-out."""
            seen = None if real is None else jnp.broadcast_to(real, (len(sites), *real.shape))
            y = first_layer(sites, seen)
            one_row = config.depth > 1 and config.reads_one_row
            for index in range(1, config.depth - 1 if one_row else config.depth):
                layer = params[f"block_{index}"]
                folded = {"method": partial(_folded, weights=layer["attention"])} if _folds(config) else {}
                y = Block(config).apply({"params": layer}, y, seen, **folded)
            if one_row:
                last, place = params[f"block_{config.depth - 1}"], row_that_is_read(config, real, y.shape[1])
                y, seen = (
                    Block(config).apply({"params": last}, y, seen, place, last["attention"], method=last_layer),
                    None,
                )
            return self.module.apply(variables, self.module.apply(variables, y, method="finish"), seen, method="read")

        # Site -1 is no token: that copy is the input itself, repeated to fill the blocks.
        rows = min(self.rows or count + 1, count + 1)
        sites = jnp.append(sites, jnp.full(rows - count % rows, -1))
        results = jax.lax.map(outputs, sites.reshape(-1, rows))
        results = results.reshape(-1, *results.shape[2:])
        return results[count], results[:count]

    def _enter(self, variables: PyTree, copies: Array, mask: Array | None) -> tuple[jax.Array, Array | None]:
        return encoder.enter(self.module, variables, copies, mask, embeddings=self.embeddings)

    def _of_a_token(
        self, variables: PyTree, tokens: Array, alternatives: Array, mask: Array | None
    ) -> tuple["_FirstLayer", Array | None]:
        """Return the first layer for tokens that change one embedding each, and the mask of the layers."""
        config, params = self.module.config, {"params": variables["params"]["block_0"]}
        x, real = self._enter(variables, jnp.stack([tokens, alternatives]), mask)
        shared = Block(config).apply(params, *x, method=_share)

        def first_layer(sites: jax.Array, seen: jax.Array | None) -> jax.Array:
            places = jnp.where(sites < 0, -1, sites + config.added_tokens)
            return Block(config).apply(params, shared, places, seen, method=_first_layer)

        return first_layer, real

    def _of_neighbors(
        self, variables: PyTree, tokens: Array, alternatives: Array, mask: Array | None
    ) -> tuple["_FirstLayer", Array | None]:
        """Return the first layer for tokens that change several embeddings each, and the mask of the layers."""
        config, params = self.module.config, {"params": variables["params"]["block_0"]}
        x, real = self._enter(variables, tokens[None], mask)
        clean = Block(config).apply(params, x[0], method=_share_clean)
        reach = jnp.asarray(config.reach + config.added_tokens)

        def first_layer(sites: jax.Array, seen: jax.Array | None) -> jax.Array:
            here = (sites[:, None] == jnp.arange(len(tokens))[None])[:, :, None]
            y, _ = self._enter(variables, jnp.where(here, alternatives[None], tokens[None]), mask)
            return Block(config).apply(params, clean, y, reach[sites.clip(0)], seen, method=_first_layer_of_several)

        return first_layer, real


_FirstLayer = Callable[[jax.Array, jax.Array | None], jax.Array]
"""Activations ``[r t d]`` after the first layer for substitutions at sites ``[r]``, with the mask ``[r t]``."""


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
    self_scores = jnp.einsum("htk,htk->ht", new_query, new_key, preferred_element_type=scores[0].dtype)
    return _Shared((clean, replaced), (value, new_value), scores, self_scores * attention.scale())


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


def _folds(config: Config) -> bool:
    """Return whether a layer takes fewer operations without keys and values."""
    plain_scores = not (config.projection_biases or config.local_attention or config.fused_attention)
    return plain_scores and config.head_size >= config.width


def _folded(block: Block, x: jax.Array, mask: jax.Array | None, weights: PyTree) -> jax.Array:
    """Return activations ``[r t d]`` after a layer: ``(x Q)(x K)' = (x Q K') x'`` and ``w (x V) O = (w x) V O``."""
    config, attention = block.config, block.attention
    split = (config.width, config.heads, config.head_size)
    query, key, value = (weights[n]["kernel"].astype(config.dtype).reshape(split) for n in ("query", "key", "value"))
    out = weights["out"]["kernel"].astype(config.dtype).reshape(*split[1:], config.width)
    seen, heads = block.attended(x), (*x.shape[:2], config.heads, config.width)
    asked = seen @ jnp.einsum("dhk,ehk->dhe", query, key).reshape(config.width, -1)
    asked = asked.reshape(heads).swapaxes(1, 2)
    scores = jnp.einsum("rhqd,rtd->rhqt", asked, seen, preferred_element_type=config.logits_dtype)
    probs = attention_weights(config, scores * attention.scale(), mask, causal=config.causal).astype(config.dtype)
    means = jnp.einsum("rhqt,rtd->rhqd", probs, seen).swapaxes(1, 2).reshape(*x.shape[:2], -1)
    mixed = means @ jnp.einsum("dhk,hko->hdo", value, out).reshape(-1, config.width)
    if config.output_bias:
        mixed += weights["out"]["bias"].astype(config.dtype)[None, None]
    return block.after_attention(x, mixed)


def _share_clean(block: Block, x: jax.Array) -> tuple[jax.Array, ...]:
    """Return queries, keys and values ``[h t k]`` of an input ``[t d]``, and its scores ``[h t t]``."""
    query, key, value = block.attention.project(block.attended(x))
    return query, key, value, block.attention.scores(query, key)


def _first_layer_of_several(
    block: Block, clean: tuple[jax.Array, ...], x: jax.Array, places: jax.Array, mask: jax.Array | None
) -> jax.Array:
    """Return activations ``[r t d]`` after the first layer for inputs ``[r t d]`` that differ at places ``[r n]``."""
    attention, (query, key, value, scores) = block.attention, clean
    changed = jnp.take_along_axis(x, places[:, :, None], axis=1)
    new_query, new_key, new_value = attention.project(block.attended(changed))
    columns = jnp.einsum("htk,rhnk->rhtn", query, new_key, preferred_element_type=scores.dtype) * attention.scale()
    rows = attention.scores(new_query, _lay(key[None], new_key, places, axis=2))
    scores = _lay(_lay(scores[None], columns, places, axis=3), rows, places, axis=2)
    return block.after_attention(x, attention.mix(scores, _lay(value[None], new_value, places, axis=2), mask))


def _lay(clean: jax.Array, new: jax.Array, places: jax.Array, axis: int) -> jax.Array:
    """Return ``clean [1 ...]`` with its entries at places ``[r n]`` along an axis replaced by ``new [r ...]``."""
    for index in range(places.shape[1]):
        here = places[:, index, None] == jnp.arange(clean.shape[axis])[None]
        here = here.reshape(len(here), *(-1 if other == axis else 1 for other in range(1, new.ndim)))
        # Selections are fused into what reads the result; a scatter is many times slower on a CPU.
        clean = jnp.where(here, jax.lax.slice_in_dim(new, index, index + 1, axis=axis), clean)
    return clean
