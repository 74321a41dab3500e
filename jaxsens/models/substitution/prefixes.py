"""All single-token substitutions of a text through a causal model, exactly, for about half of the work.

In a causal model a token changes nothing before it. A substitution needs only the positions from its token on, and what
the text itself leaves there: keys and values of a GPT-2 or a Llama, the state of an LSTM. Over all tokens of a text
that is half of the positions. Where a decoder reads its last token, the last layer is evaluated for that one row, see
``cached_keys``.

Substitutions are evaluated in blocks of ``rows`` neighboring tokens, and positions in tiles of ``tile``, from the tile
of a block's first token to the end. Blocks are taken from the last to the first: a block then overwrites only positions
that are not needed again, and all keys and values before it are those of the text. Where a decoder has an output for
every token, those before the replaced token are the clean ones to the bit. For T tokens, plain over shared is
``2 / (1 + rows / T + tile / T)``, and for a depth l with one row read ``l / (l - 1)`` of that. On a CPU, products of
fewer than about 128 rows times positions are slow: there the plain way can be as fast. A sliding window only hides
keys: those before it are multiplied, too.

An LSTM goes over the text once, with a row for the text itself and one for every token replaced so far. A step then has
as many rows as it can have, and there are T steps in all; ``rows`` matters for chosen sites only. Plain over shared is
``2 / (1 + tile / T)``.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsens.models.common import require, require_flags, require_positive
from jaxsens.models.substitution import recurrence
from jaxsens.models.substitution.cached_keys import Cache, Layers
from jaxsens.models.substitution.last_layer import row_that_is_read
from jaxsens.models.substitution.prefix_plan import Plan, plan_of, run, tile_of
from jaxsens.models.text import encoder, gpt2, llama, lstm, token_ids
from jaxsens.substitution import chosen_sites, require_matching
from jaxsens.typing import Array, PyTree, SubstituteAt

__all__ = ["Causal", "SharedPrefixes", "operations", "substitute"]

Causal = gpt2.GPT2 | llama.Llama | lstm.LSTM
"""The causal models of this library."""


def substitute(module: Causal, rows: int = 8, tile: int = 16, *, embeddings: bool = False) -> SubstituteAt:
    """Make the primitive for a causal model, equal to ``one_at_a_time(evaluation(module))`` up to rounding.

    Args:
        module: A ``gpt2.GPT2``, a ``llama.Llama`` or an ``lstm.LSTM``.
        rows: Substitutions evaluated at once. Fewer skip more of the prefix. An LSTM evaluates all at once, unless
            sites are chosen.
        tile: Positions evaluated at once. Fewer skip more of the prefix.
        embeddings: Whether tokens and alternatives are embeddings ``[t d]``, as ``encoder.embed`` makes them; then it
            is equal to ``one_at_a_time(encoder.from_embeddings(module))``.

    Returns:
        ``substitute(variables, tokens [t *s], alternatives [t *s], mask [t] = None) -> (clean [*k], changed [t *k])``;
        with ``sites [n]``, a fifth argument, only those are substituted, ``changed [n *k]``. With an output for every
        token, ``[t k]``, those before the replaced token are equal to the clean ones, not only up to rounding. Equal
        arguments give equal functions, which share compiled code.

    Raises:
        ValueError: If ``rows`` or ``tile`` is no integer of at least 1, or the module is no causal model of this
            library; when called, if tokens, alternatives, mask, sites or variables do not fit.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> module = gpt2.GPT2(gpt2.Config(width=4, depth=1, heads=1, hidden=4, vocabulary=5, positions=4))
        >>> ids = np.array([1, 4, 2])
        >>> clean, changed = substitute(module, rows=2, tile=1)(encoder.init(module, jax.random.key(0)), ids, 4 - ids)
        >>> clean.shape, changed.shape
        ((5,), (3, 5))
    """
    require_positive(rows=rows, tile=tile)
    require_flags(embeddings=embeddings)
    require(isinstance(module, Causal), "module", type(module).__name__, "a GPT2, a Llama or an LSTM")
    return SharedPrefixes(module, rows, tile, embeddings)


def operations(
    config: gpt2.Config | llama.Config | lstm.Config, count: int, rows: int = 8, tile: int = 16
) -> tuple[int, int]:
    """Return the floating-point operations of a text and its substitutions: evaluated plainly, and as here.

    Multiplications and additions of matrix products, between the embedding and the read-out.

    Args:
        config: The sizes.
        count: The number of tokens t.
        rows: Substitutions evaluated at once.
        tile: Positions evaluated at once.

    Example:
        >>> sizes = {"vocabulary": 9, "positions": 128, "read_out": "last"}
        >>> plain, shared = operations(gpt2.Config(width=768, depth=12, heads=12, hidden=3072, **sizes), 128)
        >>> round(plain / shared, 2)
        1.73
    """
    plan = plan_of(None, count, rows, tile)
    blocks, rows = plan.sites.shape
    positions = plan.tiles * plan.tile
    evaluated = positions + int((plan.tiles - plan.first).sum()) * rows * plan.tile
    if isinstance(config, lstm.Config):
        each = 4 * lstm.GATES * config.width**2
        evaluated = sum(recurrence.rows_of_tiles(plan)) * plan.tile
        return config.depth * (count + 1) * count * each, config.depth * evaluated * each
    whole, last, remembered = _operations_of_a_row(config, positions)
    shared = (config.depth - config.reads_one_row) * evaluated * whole
    if config.reads_one_row:
        shared += blocks * rows * last + evaluated * remembered
    return config.depth * (count + 1) * count * _operations_of_a_row(config, count)[0], shared


def _operations_of_a_row(config: gpt2.Config | llama.Config, positions: int) -> tuple[int, int, int]:
    """Return the operations of a layer for one row; of a last layer for the row that is read, and for every other."""
    d, f = config.width, config.hidden
    if isinstance(config, llama.Config):
        queries, keys = config.heads * config.head_size, config.key_heads * config.head_size
        remembered = 4 * d * keys
        row = 4 * d * queries + 6 * d * f + 4 * positions * queries
        return row + remembered, row, remembered
    row = 8 * d**2 + 4 * d * f
    return row + 4 * positions * d, row + 4 * positions * config.heads * d, 0


@dataclass(frozen=True)
class SharedPrefixes:
    """The substitution that ``substitute`` returns.

    Example:
        >>> from jaxsens.models.text import lstm
        >>> module = lstm.LSTM(lstm.Config(vocabulary=10, width=4, depth=1, classes=2))
        >>> substitute(module, rows=2) == SharedPrefixes(module, rows=2)
        True
    """

    module: Causal
    rows: int = 8
    tile: int = 16
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
        encoder.require_variables(self.module, variables)
        count = len(tokens)
        plan = plan_of(sites, count, self.rows, self.tile)
        copies = jnp.stack([tokens, alternatives])
        x, real = encoder.enter(self.module, variables, copies, mask, embeddings=self.embeddings)
        more = plan.tiles * plan.tile - count
        x = jnp.pad(x, ((0, 0), (0, more), (0, 0)))
        evaluate = recurrence.outputs if isinstance(self.module, lstm.LSTM) else _decoder
        if real is None and more and evaluate is recurrence.outputs:
            real = jnp.ones(count, bool)  # positions beyond the text must not change the state
        seen = None if real is None else jnp.pad(real, (0, more))
        results = evaluate(self.module, variables, plan, x, seen, count)
        results = results.reshape(-1, *results.shape[2:])[plan.order]
        clean, changed = results[len(plan.order) - 1], results[: len(plan.order) - 1]
        chosen = chosen_sites(sites, count)
        # XLA may round the rows of a product differently; a token that is replaced by itself must change no bit.
        replaced = (x[0] != x[1]).any(1)[chosen]
        changed = jnp.where(replaced.reshape(-1, *[1] * clean.ndim), changed, clean[None])
        if evaluate is _decoder and not self.module.config.reads_one_row:
            # A block evaluates some positions before its tokens again, and may round them differently.
            before = jnp.arange(count)[None] < chosen[:, None]
            changed = jnp.where(before[:, :, None], clean[None], changed)
        return clean, changed


class _Sequences(NamedTuple):
    """What the substitutions of a block have at all positions, from their first tile on; before it, what the text has.

    Attributes:
        caches: Keys and values of each layer ``[rows heads t k]``.
        states: What enters the last layer ``[rows t d]``, if one row of it is read.
        results: The outputs of all blocks.
    """

    caches: tuple[Cache, ...]
    states: jax.Array | None
    results: jax.Array


def _decoder(
    module: gpt2.GPT2 | llama.Llama,
    variables: PyTree,
    plan: Plan,
    x: jax.Array,
    seen: jax.Array | None,
    count: int,
) -> jax.Array:
    """Return the outputs ``[blocks rows *k]`` of a GPT-2 or a Llama."""
    config, (blocks, rows) = module.config, plan.sites.shape
    places = token_ids.positions_of(None if seen is None else seen[None], (1, x.shape[1]))[0]
    layers = Layers(module, variables, places, seen)
    place = row_that_is_read(config, None if seen is None else seen[:count], count)
    # Where one row is read, no position after the text may be seen.
    real = jnp.arange(x.shape[1]) < count if seen is None else seen

    def through(y: jax.Array, caches: tuple[Cache, ...], start: Array | int) -> tuple[jax.Array, tuple[Cache, ...]]:
        after = []
        for index, cache in enumerate(caches):
            y, cache = layers.onward(index, y, cache, start)
            after.append(cache)
        return y, tuple(after)

    def read(states: jax.Array, cache: Cache) -> jax.Array:
        """Return the outputs of what leaves the layers, or enters the last of which one row is read ``[r t d]``."""
        if config.reads_one_row:
            states = layers.last_row(states, cache, place, real)
        return module.apply(variables, module.apply(variables, states, method="finish"), None, method="read")

    def step(carry: _Sequences, block: Array, tile: Array) -> _Sequences:
        start = tile * plan.tile
        y, caches = through(tile_of(plan, x, block, tile), carry.caches, start)
        states, results = carry.states, carry.results
        if config.reads_one_row:
            states = jax.lax.dynamic_update_slice_in_dim(states, y, start, axis=1)
            kept = jax.lax.dynamic_index_in_dim(results, block, keepdims=False)
            output = jax.lax.cond(
                tile == plan.tiles - 1, lambda states, _: read(states, caches[-1]), lambda _, kept: kept, states, kept
            )
            results = jax.lax.dynamic_update_index_in_dim(results, output, block, 0)
        else:
            place_of = [jnp.asarray(index, jnp.int32) for index in (block, 0, start, 0)]
            results = jax.lax.dynamic_update_slice(results, read(y, ())[None], place_of)
        return _Sequences(caches, states, results)

    y, caches = through(x[:1], tuple(layers.empty(index) for index in range(config.depth)), 0)
    clean = read(y, caches[-1])
    results = jnp.broadcast_to(clean, (blocks, rows, *clean.shape[1:]))
    caches, y = jax.tree.map(lambda a: jnp.repeat(a, rows, axis=0), (caches, y))
    carry = run(plan, step, _Sequences(caches, y if config.reads_one_row else None, results))
    return carry.results if config.reads_one_row else carry.results[:, :, :count]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
