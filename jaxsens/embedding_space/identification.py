"""Identifiability: is a state still nearest to its own token's row of the embedding table?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.embedding_space import states as encoding
from jaxsens.embedding_space.nearest_rows import BLOCK, Rows, Search, searchable
from jaxsens.execution import memory, parallel
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.sensitivity import sites as token_sites
from jaxsens.statistics import estimate
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["Identifiability", "identifiability"]


@partial(jax.tree_util.register_dataclass, data_fields=["nearest", "tokens", "sites"], meta_fields=["layers", "chunk"])
@dataclass(frozen=True)
class Identifiability:
    """Which row of the table is nearest to every state.

    Attributes:
        nearest: Rows ``[b t l]`` int32; -1 where a token is no site.
        tokens: The ids themselves ``[b t]``.
        sites: Which tokens are counted ``[b t]``.
        layers: Numbers of the states.
        chunk: Sequences evaluated at once, for the record.
    """

    nearest: np.ndarray
    tokens: np.ndarray
    sites: np.ndarray
    layers: tuple[int, ...]
    chunk: int

    @property
    def identified(self) -> np.ndarray:
        """Whether the nearest row is the token's own ``[b t l]``; False where a token is no site."""
        return self.sites[..., None] & (self.nearest == self.tokens[..., None])

    @property
    def per_sequence(self) -> np.ndarray:
        """Share of a sequence's sites that are identified ``[b l]``."""
        return self.identified.sum(1) / self.sites.sum(1)[:, None]

    def rate(self, layer: int) -> estimate.Estimate:
        """Estimate the share of tokens that are identified at a layer, over sequences, the independent units.

        Raises:
            ValueError: If the layer was not measured.
        """
        if layer not in self.layers:
            raise ValueError(f"layer must be one of those measured, {self.layers}, got {layer}")
        return estimate.from_values(self.per_sequence[:, self.layers.index(layer)], rate=True)


def identifiability(
    encode: Apply,
    *,
    layers: encoding.Layers = "all",
    metric: str = "cosine",
    block: int = BLOCK,
    execution: Execution = DEFAULT,
) -> Callable[..., Identifiability]:
    """Measure how often ``argmax_j cos(h_l at i, E_j)`` is the token at i itself, by layer l.

    Conti et al., Probing the Embedding Space of Transformers via Minimal Token Perturbations, s.3.3. Ties go to the
    smallest id. The table is searched in blocks, as in ``nearest_tokens``.

    Args:
        encode: ``encode(params, tokens [b t], mask [b t]) -> states [l+1 b t d]``.
        layers: Numbers of the states wanted, negative from the last on; ``"all"`` of them.
        metric: ``"cosine"`` or ``"l2"``.
        block: Rows of the table compared at once.
        execution: How to run; its ``chunk`` counts sequences, a model forward each.

    Returns:
        ``measure(params, table [v d], tokens [b t], mask=None, sites=None, exclude=None)`` -> ``Identifiability``.
        ``tokens`` may be ``[b t 2]``, with types. ``exclude`` names rows that are nobody's nearest, as in
        ``nearest_tokens``.

    Raises:
        ValueError: When called, if arguments do not fit each other or the model.
        FloatingPointError: When called, if a state is not finite.
    """
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")

    def measure(
        params: PyTree,
        table: Array,
        tokens: Array,
        mask: Array | None = None,
        sites: Array | None = None,
        exclude: Array | Sequence[int] | None = None,
    ) -> Identifiability:
        tokens, mask, sites = token_sites.checked(tokens, mask, sites)
        if tokens.dtype.kind not in "iu":
            raise ValueError(f"tokens must be ids, integers, got {tokens.dtype}")
        rows, allowed = searchable(table, exclude, None, metric)
        if not allowed.any():
            raise ValueError("exclude leaves no row of the table that is not all zeros")
        wanted = encoding.chosen_layers(encode, layers, params, tokens, mask)
        compared = min(block, len(rows.table))
        most = max(1, memory.BYTES // (4 * compared * tokens.shape[1]))
        at_once = execution.chunk or min(most, encoding.default_chunk(encode, params, tokens, mask))
        found, finite = parallel.map_items(
            _OfStates(encoding.Encoding(encode, wanted), Search(1, compared, metric)),
            (tokens, mask),
            params,
            rows,
            execution=execution.replace(chunk=at_once),
        )
        encoding.require_finite([np.where(finite, 0, np.nan)], sites)
        ids = tokens if tokens.ndim == 2 else tokens[..., 0]
        return Identifiability(np.where(sites[..., None], found, -1), ids, sites, wanted, at_once)

    return measure


@dataclass(frozen=True)
class _OfStates:
    """The nearest rows of one sequence's states; equal ones share compiled code."""

    encode: encoding.Encoding
    search: Search

    def __call__(self, item: PyTree, params: PyTree, rows: Rows) -> tuple[Array, Array]:
        """Return the nearest row ``[t l]`` of every state, and whether the state is finite."""
        tokens, mask = item
        nothing = jnp.zeros((1, len(tokens)), bool)
        states = self.encode(params, tokens, tokens, mask, nothing)[:, 0]
        added, _ = encoding.real_states(tokens, mask, states)
        states = states[:, added:]

        def one_layer(states: Array) -> Array:
            return jax.vmap(lambda query: self.search(query, jnp.int32(-1), rows)[0][0])(states)

        return jax.lax.map(one_layer, states).T, jnp.isfinite(states).all(-1).T
