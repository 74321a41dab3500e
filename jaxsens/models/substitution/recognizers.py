"""All single-token substitutions of a string through a recognizer, exactly, for a fraction of the work.

Two facts make this possible. In the first layer only one token differs, so that every attention row keeps its sum
except for one term. In the last layer only the end of string is read, so that one query is enough. The layers between
are evaluated plainly, in blocks of substitutions that stay in cache.

The first layer in full. With ``F_m`` what attention makes of token m (linear in its value), a row n of a head with
scores ``S_nm`` and maximum ``M_n`` has ``num_n / den_n = sum_m e^(S_nm - M_n) F_m / sum_m e^(S_nm - M_n)``. Replacing
token i by one with score ``S'`` and features ``F'`` takes one term out and merges another, as an online softmax does::

    ((num_n - e^(S_ni - M_n) F_i) e^(M_n - M') + e^(S' - M') F') / ((den_n - ...) e^(M_n - M') + e^(S' - M'))

with ``M' = max(S', M_n)``. The subtraction would cancel if the token that leaves dominates the row's sums, because
attention is saturated or because its features are far larger than the others'. Each row therefore has a *dominant*
token, that of the largest ``e^S |F|``, and sums without it; these are used where it is the one that leaves. The row of
the substituted token itself is computed separately.

``F`` is computed up to the next nonlinearity: through the heads' projection and the MLP's first matrix. In the standard
block a normalization lies between the two; it is linear but for the factor z of the row, which is put in at the end.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxsens.execution import memory
from jaxsens.models.common import require_rows
from jaxsens.models.recognizers import layers
from jaxsens.models.recognizers.config import Config
from jaxsens.models.recognizers.transformer import embed
from jaxsens.substitution import chosen_sites, require_matching
from jaxsens.typing import Array, PyTree, SubstituteAt

__all__ = ["SharedLayers", "operations", "substitute"]


def substitute(config: Config, rows: int | None = None) -> SubstituteAt:
    """Make the primitive for a recognizer, equal to ``one_at_a_time(evaluation(config))`` up to rounding.

    Args:
        config: The architecture.
        rows: Substitutions evaluated at once; ``None`` for all. On a CPU a block of 4 or 8 stays in cache.

    Returns:
        ``substitute(variables, tokens [n], alternatives [n], mask=None) -> (clean [], changed [n])``, logits; with
        ``sites [j]``, a fifth argument, only those are substituted, ``changed [j]``. Equal arguments give equal
        functions, which share compiled code.

    Raises:
        ValueError: If ``rows`` is no integer of at least 1; when called, if strings, alternatives, sites or variables
            do not fit, or with a mask.

    Example:
        >>> import numpy as np
        >>> from jaxsens.models import recognizers
        >>> config = recognizers.Config(depth=2, heads=1, head_size=4)
        >>> bits = np.array([0, 1, 1], np.int32)
        >>> clean, flipped = jax.jit(substitute(config))(recognizers.init(config, jax.random.key(0)), bits, 1 - bits)
        >>> flipped.shape
        (3,)
    """
    if not isinstance(config, Config):
        raise ValueError(f"config must be a recognizers.Config, got {config!r}")
    require_rows(rows)
    return SharedLayers(config, rows)


def operations(config: Config, depth: int, length: int, sites: int | None = None) -> tuple[int, int]:
    """Return the floating-point operations of a string's substitutions: evaluated plainly, and shared.

    Multiplications and additions of matrix products and of the first layer's mixing of features; normalizations and
    exponentials, of lower order, are left out.

    Args:
        config: The sizes.
        depth: The number of layers.
        length: Bits of the string.
        sites: The number of bits that are substituted, by default all.

    Example:
        >>> plain, shared = operations(Config(depth=2, heads=4, head_size=32), 2, 100)
        >>> round(plain / shared, 1)
        4.7
    """
    d, h, k, f, t = config.width, config.heads, config.head_size, config.multiplier * config.width, length + 1
    inputs = (length if sites is None else sites) + 1
    joined = 2 * h * k * d if config.standard else 0
    token = 6 * d * h * k + 4 * t * h * k + joined + 4 * d * f
    features = h * (f + (d if config.standard else 0))
    values = 2 * (h * k * d + h * d * f if config.standard else h * d * f)
    base = 2 * d * f if config.standard else 0
    # Projections of the string and of its replaced tokens; scores; sums of features, twice; the replaced tokens' rows.
    prepare = (t + inputs) * (6 * d * h * k + values + base) + (2 * t + 4 * inputs) * t * h * k
    prepare += (4 * t + 2 * inputs) * t * features + inputs * 2 * d * f
    first = prepare + inputs * t * (7 * features + 2 * d * f)
    last = inputs * t * 4 * h * d + inputs * (6 * d * h * k + joined + 4 * d * f)
    if depth == 1:  # only the row that is read
        return inputs * t * token, prepare + inputs * (7 * features + 2 * d * f)
    return depth * inputs * t * token, first + (depth - 2) * inputs * t * token + last


@dataclass(frozen=True)
class SharedLayers:
    """The substitution that ``substitute`` returns.

    Example:
        >>> config = Config(depth=2, heads=1, head_size=4)
        >>> substitute(config, rows=2) == SharedLayers(config, rows=2)
        True
    """

    config: Config
    rows: int | None = None

    def __call__(
        self, variables: PyTree, tokens: Array, alternatives: Array, mask: None = None, sites: Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Return the clean logit and, for every token or site, the logit with only that token replaced."""
        require_matching(tokens, alternatives)
        sites, config = chosen_sites(sites, len(tokens)), self.config
        params, x = embed(config, variables, jnp.stack([tokens, alternatives]), mask)
        stack, depth = params["layers"], variables.get("depth", config.depth)
        x, replaced = x
        # The clean string is the one in which token 0 is replaced by itself; as often as it takes to fill the blocks.
        count = len(sites)
        rows = min(self.rows or count + 1, count + 1)
        fill = rows - count % rows
        replaced = jnp.concatenate([replaced[sites], jnp.broadcast_to(x[:1], (fill, config.width))])
        sites = jnp.append(sites, jnp.zeros(fill, int))
        shared, own = _share(config, layers.take_layer(stack, 0), x, replaced, sites)

        def logits(one: _Own) -> jax.Array:
            """Evaluate a block of substitutions ``[r]`` from the first layer to the read-out."""
            x = _first_layer(config, layers.take_layer(stack, 0), shared, one)
            final = x[:, -1]
            if config.depth > 1:
                x = layers.through_layers(config, variables, x, 1, config.depth - 1)
                # Variables padded by ``at_depth`` may have a single layer, which is then first and last.
                final = jnp.where(depth > 1, _last_layer(config, layers.take_layer(stack, depth - 1), x), final)
            return layers.read_out(config, params["readout"], final)

        # Gathered, not sliced: XLA would fuse a slice into the mixing of features, which then runs at half the speed.
        blocks = jnp.arange(len(sites)).reshape(-1, rows)
        results = jax.lax.map(lambda block: logits(jax.tree.map(lambda a: a[block], own)), blocks).reshape(-1)
        return results[count], results[:count]


class _Shared(NamedTuple):
    """The parts of the first layer that all substitutions of a string share, for rows n and heads h.

    Attributes:
        x: Inputs ``[n d]``.
        base: What the residual adds to the hidden units before the factor z ``[n f]``; None in the paper's block.
        sums: ``num [2 n h f]``: over all tokens, and without the row's dominant one.
    """

    x: jax.Array
    base: jax.Array | None
    sums: jax.Array


class _Own(NamedTuple):
    """The parts of the first layer that belong to each substitution j.

    Attributes:
        site: The token replaced ``[j]``.
        row: The replaced token's own row after the layer ``[j d]``.
        features: Features of the token that leaves and of the one that comes, each ``[j h f]``.
        kept, left, come: Weights of the sum without the token, of the token that leaves, and of the one that comes,
            each ``[j n h]``.
        dominant: Whether the token that leaves is the row's dominant one ``[j n h]``.
    """

    site: jax.Array
    row: jax.Array
    features: tuple[jax.Array, jax.Array]
    kept: jax.Array
    left: jax.Array
    come: jax.Array
    dominant: jax.Array


def _share(
    config: Config, weights: PyTree, x: jax.Array, replaced: jax.Array, sites: jax.Array
) -> tuple[_Shared, _Own]:
    """Prepare the first layer for a string ``x [t d]`` and replaced tokens ``[j d]`` at ``sites [j]``."""
    count = len(x)
    seen = layers.attention_input(config, weights, jnp.concatenate([x, replaced]))[0]
    query, key, value = (layers.project(weights, name, seen) for name in ("query", "key", "value"))
    query *= layers.score_scale(config)
    features = _features(config, weights, value)
    old, new = features[:count], features[count:]
    first = 0 if config.depth > 1 else count - 1  # a single layer is read at the end of string only
    rows = query[first:count]

    scores = jnp.einsum("nhk,mhk->nhm", rows, key[:count])
    at_top, dominant = _at_maximum(scores), _at_maximum(scores + _extra_weight(old)[None])
    both = jnp.stack([scores, jnp.where(dominant, -jnp.inf, scores)])  # over all tokens, and without the dominant one
    highest = both.max(-1)
    exponentials = jnp.exp(both - highest[..., None])
    sums, norms = jnp.einsum("snhm,mhf->snhf", exponentials, old), exponentials.sum(-1)
    norm_without_top = jnp.where(at_top, 0, exponentials[0]).sum(-1)

    leaving = scores[:, :, sites].transpose(2, 0, 1)  # [j n h]
    coming = jnp.einsum("nhk,jhk->jnh", rows, key[count:])
    is_top, is_dominant = (which[:, :, sites].transpose(2, 0, 1) for which in (at_top, dominant))
    left = jnp.where(is_dominant, 0, jnp.exp(leaving - highest[0][None]))
    norm = jnp.where(is_top, norm_without_top[None], norms[0][None] - left)
    norm = jnp.where(is_dominant, norms[1][None], norm)
    peak = jnp.where(is_dominant, highest[1][None], highest[0][None])
    largest = jnp.maximum(peak, coming)
    kept, come = jnp.exp(peak - largest), jnp.exp(coming - largest)
    total = norm * kept + come
    kept, come = kept / total, come / total

    own_scores = jnp.einsum("jhk,mhk->jhm", query[count:], key[:count])
    itself = jnp.einsum("jhk,jhk->jh", query[count:], key[count:])
    at_site = jnp.arange(count)[None] == sites[:, None]
    attention = nn.softmax(jnp.where(at_site[:, None], itself[..., None], own_scores))
    at_itself = jnp.where(at_site[:, None], attention, 0).sum(-1)
    mixed = jnp.einsum("jhm,mhf->jf", jnp.where(at_site[:, None], 0, attention), old)
    mixed += jnp.einsum("jh,jhf->jf", at_itself, new)
    row = _after(config, weights, replaced, _base(config, weights, replaced), mixed)

    shared = _Shared(x[first:], _base(config, weights, x[first:]), sums)
    return shared, _Own(sites, row, (old[sites], new), kept, -left * kept, come, is_dominant)


def _at_maximum(scores: jax.Array) -> jax.Array:
    """Return which token a row's largest score belongs to, the first of equals: booleans of scores ``[n h m]``."""
    return jnp.arange(scores.shape[-1])[None, None] == scores.argmax(-1)[..., None]


def _extra_weight(features: jax.Array) -> jax.Array:
    """Return what features ``[m h f]`` of unusual size add to a token's score when dominant terms are looked for.

    It is the logarithm of a token's largest feature over 8 times the smallest token's, and 0 below: among tokens of
    similar features the dominant one is that of the largest score. With it a term that is subtracted is at most 8 times
    one that stays. The bound on the ratio keeps exponentials of the scores of dominant tokens from underflowing.
    """
    size = jnp.abs(features).max(-1)
    size = jnp.maximum(size, jnp.maximum(1e-15 * size.max(0, keepdims=True), jnp.finfo(size.dtype).tiny))
    return jnp.maximum(jnp.log(size / (8 * size.min(0, keepdims=True))), 0).T


def _features(config: Config, weights: PyTree, value: jax.Array) -> jax.Array:
    """Return what a token's values ``[m h k]`` become, a head at a time, up to the next nonlinearity ``[m h f]``.

    In the standard block these are the projected value and, of that one centered, the hidden units it leads to.
    """
    if not config.standard:
        return value @ weights["expand"]
    out = jnp.einsum("mhk,hkd->mhd", value, weights["out"])
    return jnp.concatenate([out, _hidden(config, weights, out)], -1)


def _hidden(config: Config, weights: PyTree, x: jax.Array) -> jax.Array:
    """Return what ``x [... d]`` adds to the hidden units, before the normalization's factor z."""
    gain = weights["mlp_gain" if config.norm_first else "attention_gain"]
    return (x - x.mean(-1, keepdims=True)) @ (gain[:, None] * weights["expand"])


def _base(config: Config, weights: PyTree, x: jax.Array) -> jax.Array | None:
    return _hidden(config, weights, x + weights["out_bias"][None]) if config.standard else None


def _first_layer(config: Config, weights: PyTree, shared: _Shared, own: _Own) -> jax.Array:
    """Return the activations ``[r n d]`` after the first layer for a block of substitutions."""
    mixed = jax.lax.platform_dependent(shared.sums, own, cpu=_mixed_in_turn, default=_mixed_at_once)
    x = _after(config, weights, shared.x[None], None if shared.base is None else shared.base[None], mixed)
    if config.depth == 1:  # then the end of string is the only row, and it is never the one replaced
        return x
    at_site = jnp.arange(len(shared.x))[None] == own.site[:, None]
    return jnp.where(at_site[..., None], own.row[:, None], x)


def _mixed_in_turn(sums: jax.Array, own: _Own) -> jax.Array:
    """Return the features ``[r n f]`` mixed by attention, for a CPU: one fused loop, faster than matrix products."""
    every, without_dominant = sums
    leaving, coming = own.features
    mixed = jnp.zeros((), every.dtype)
    for h in range(every.shape[1]):
        of_head = jnp.where(own.dominant[:, :, h, None], without_dominant[None, :, h], every[None, :, h])
        mixed += own.kept[:, :, h, None] * of_head
        mixed += own.left[:, :, h, None] * leaving[:, None, h] + own.come[:, :, h, None] * coming[:, None, h]
    return mixed


@memory.fused
def _mixed_at_once(sums: jax.Array, own: _Own) -> jax.Array:
    """Return the same for an accelerator, as a sum over the axis of heads.

    The loop's 30 operations for each head make XLA fuse kernels for a GPU for 13 s of 21. Without the barrier XLA would
    repeat the sum in several kernels.
    """
    every, without_dominant = sums
    leaving, coming = own.features
    kept, left, come = (weight[..., None] for weight in (own.kept, own.left, own.come))
    of_head = jnp.where(own.dominant[..., None], without_dominant[None], every[None])
    terms = kept * of_head + (left * leaving[:, None] + come * coming[:, None])
    return jax.lax.optimization_barrier(terms.sum(2))


def _after(config: Config, weights: PyTree, x: jax.Array, base: Any, mixed: jax.Array) -> jax.Array:
    """Return the rest of the first layer, from features mixed by attention: ``layers.after_attention``."""
    across = range(mixed.ndim - 1)
    bias = jnp.expand_dims(weights["expand_bias"], across)
    if not config.standard:
        return layers.normalize(config, x + layers.contract(weights, mixed + bias))[0]
    width = config.width
    x = x + (mixed[..., :width] + jnp.expand_dims(weights["out_bias"], across))
    which = "mlp" if config.norm_first else "attention"
    normalized, z = layers.normalize(config, x, weights, which)
    bias = bias + jnp.expand_dims(weights[f"{which}_offset"] @ weights["expand"], across)
    contracted = layers.contract(weights, layers.finite_factor(z) * (mixed[..., width:] + base) + bias)
    if config.norm_first:
        return x + contracted
    return layers.normalize(config, normalized + contracted, weights, "mlp")[0]


def _last_layer(config: Config, weights: PyTree, x: jax.Array) -> jax.Array:
    """Return the end of string's activation ``[r d]`` after a layer, from ``x [r t d]``.

    With a single query, keys and values need not be formed: ``q . (K y) = (K' q) . y`` and ``sum w (V y) = V sum w y``.
    """
    seen = layers.attention_input(config, weights, x)[0]
    query = layers.project(weights, "query", seen[:, -1]) * layers.score_scale(config)
    scores = jnp.einsum("rhd,rmd->rhm", jnp.einsum("rhk,dhk->rhd", query, weights["key"]), seen)
    mixed = jnp.einsum("rhm,rmd->rhd", nn.softmax(scores), seen)
    value = jnp.einsum("rhd,dhk->rhk", mixed, weights["value"])
    if "value_bias" in weights:
        value += weights["value_bias"][None]
    return layers.after_attention(config, weights, x[:, -1], layers.join_heads(weights, value))[0]
