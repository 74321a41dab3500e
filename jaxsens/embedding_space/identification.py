"""Identifiability: whether the nearest row of the embedding table to a state is that of its own token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.embedding_space import states
from jaxsens.embedding_space.nearest_rows import BLOCK, METRICS, Rows, Search, search_exactly, searchable
from jaxsens.execution import checks, memory, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.sensitivity import sites as token_sites
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Apply, Array, Axes, Figure, PyTree

__all__ = ["Identifiability", "identifiability"]


@partial(jax.tree_util.register_dataclass, data_fields=["nearest", "tokens", "sites"], meta_fields=["layers", "chunk"])
@dataclass(frozen=True, repr=False)
class Identifiability(Result):
    """The row of the table that is nearest to every state.

    Attributes:
        nearest: Rows ``[b t l]`` int32; -1 where a token is no site.
        tokens: The ids of the tokens ``[b t]``.
        sites: Which tokens are counted ``[b t]``.
        layers: Indices of the states.
        chunk: Number of sequences evaluated at once.

    Example:
        >>> nearest, tokens = np.array([[[3], [5]]]), np.array([[3, 4]])
        >>> result = Identifiability(nearest, tokens, np.ones((1, 2), bool), layers=(0,), chunk=1)
        >>> result.per_sequence.tolist()
        [[0.5]]
    """

    nearest: np.ndarray
    tokens: np.ndarray
    sites: np.ndarray
    layers: tuple[int, ...]
    chunk: int

    @property
    def identified(self) -> np.ndarray:
        """Whether the nearest row is that of the token itself ``[b t l]``; False where a token is no site."""
        return self.sites[..., None] & (self.nearest == self.tokens[..., None])

    @property
    def per_sequence(self) -> np.ndarray:
        """Share of a sequence's sites that are identified ``[b l]``."""
        return self.identified.sum(1) / self.sites.sum(1)[:, None]

    @property
    def estimate(self) -> Estimate:
        """The share of tokens that are identified by layer ``[l]``; the independent units are sequences."""
        return estimate.from_values(self.per_sequence, rate=True, unit="sequences")

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the confidence interval of the share by layer, each end ``[l]``; see ``Estimate.interval``."""
        return self.estimate.interval(level)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the share of identified tokens against the layer, with its 95 % interval.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        shown, quantity = self.estimate, "share of tokens identified"
        lines = self.layers, shown.mean, *shown.interval()
        return draw("line_with_band", ax, *lines, across="layer", quantity=quantity)

    def _describe(self) -> Description:
        sequences, tokens = self.sites.shape
        counts = f"share by layer; {times(sequences=sequences, tokens=tokens, layers=len(self.layers))}"

        def table() -> dict[str, np.ndarray]:
            axes = {"sequence": None, "token": None, "layer": self.layers}
            columns = {"nearest": self.nearest, "identified": self.identified}
            return tidy(axes, columns, np.broadcast_to(self.sites[..., None], self.nearest.shape))

        return Description(counts, self.estimate.mean, self.interval(), table=table)

    def rate(self, layer: int) -> Estimate:
        """Estimate the share of tokens that are identified at a layer; the independent units are sequences.

        Raises:
            ValueError: If the layer was not measured.
        """
        if layer not in self.layers:
            raise ValueError(f"layer must be one of those measured, {self.layers}, got {layer}")
        return estimate.from_values(self.per_sequence[:, self.layers.index(layer)], rate=True, unit="sequences")


def identifiability(
    encode: Apply,
    *,
    layers: states.Layers = "all",
    metric: str = "cosine",
    block: int = BLOCK,
    execution: Execution = DEFAULT,
) -> Callable[..., Identifiability]:
    """Measure how often ``argmax_j cos(h_l at i, E_j)`` is the token at i itself, by layer l.

    Conti et al., Probing the Embedding Space of Transformers via Minimal Token Perturbations, s.3.3. The table is
    searched in blocks; where float32 cannot tell which row is nearest, float64 on the host decides, and of equal
    distances the smallest id is the nearer (see ``nearest_rows``).

    Args:
        encode: ``encode(params, tokens [b t], mask [b t]) -> states [l+1 b t d]``.
        layers: Indices of the states to measure, negative ones from the end; ``"all"`` for all.
        metric: ``"cosine"`` or ``"l2"``.
        block: Rows of the table compared at once.
        execution: How to run; its ``chunk`` counts sequences, a model forward each.

    Returns:
        ``measure(params, table [v d], tokens [b t], mask=None, sites=None, exclude=None)`` -> ``Identifiability``.
        ``tokens`` may be ``[b t 2]``, ids and types. ``exclude``, booleans ``[v]`` or ids, leaves out rows.

    Raises:
        ValueError: If ``metric`` or ``block`` is out of range; when called, if arguments do not fit each other or the
            model, states depend on the other sequences of a batch, or the id of a site is no row of the table.
        FloatingPointError: When called, if a state is not finite.

    Example:
        >>> table = np.eye(3, dtype=np.float32)
        >>> measure = identifiability(lambda params, tokens: params[tokens][None])       # states are the embeddings
        >>> float(measure(table, table, np.array([[0, 2], [1, 1]])).rate(0).mean)
        1.0
    """
    require_execution(execution)
    checks.require_functions(encode=encode)
    block = checks.require_count("block", block)
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")

    def measure(
        params: PyTree,
        table: Array,
        tokens: Array,
        mask: Array | None = None,
        sites: Array | None = None,
        exclude: Array | Sequence[int] | None = None,
    ) -> Identifiability:
        tokens, mask, sites = token_sites.checked(tokens, mask, sites)
        if tokens.dtype.kind not in "iu" or not (tokens.ndim == 2 or (tokens.ndim == 3 and tokens.shape[2] == 2)):
            raise ValueError(f"tokens must be integers [b t] or [b t 2], got {tokens.dtype} {tokens.shape}")
        rows, allowed = searchable(table, exclude, None, metric)
        if not allowed.any():
            raise ValueError("exclude leaves no row of the table that is not all zeros")
        ids = tokens if tokens.ndim == 2 else tokens[..., 0]
        _require_rows(ids, sites, len(rows.table))
        indices = states.chosen_layers(encode, layers, params, tokens, mask)
        states.require_independent_states(encode, params, tokens, mask, execution)
        compared = min(block, len(rows.table))
        most = max(1, memory.budget() // (4 * compared * tokens.shape[1]))
        at_once = execution.chunk or min(most, states.default_chunk(encode, params, tokens, mask, execution))
        encoding, running = states.Encoding(encode, indices), execution.replace(chunk=at_once)
        nearest, proven, finite = parallel.map_items(
            parallel.bind(_nearest_to_states, encoding, Search(1, compared, metric)),
            (tokens, mask),
            params,
            rows,
            execution=running,
        )
        states.require_finite([np.where(finite, 0, np.nan)], sites)
        unsure = sites[..., None] & ~proven
        for which in np.array_split(np.flatnonzero(unsure.any((1, 2))), max(1, len(tokens) // at_once)):
            if len(which):  # these sequences are evaluated again, for their states
                values = parallel.map_items(
                    parallel.bind(_token_states, encoding),
                    jax.tree.map(lambda a, which=which: a[which], (tokens, mask)),
                    params,
                    execution=running.replace(progress=None),
                )
                queries = np.moveaxis(values, 1, 2)[unsure[which]]
                groups = np.full(len(queries), -1)
                exact, _ = search_exactly(queries, groups, rows, 1, metric)
                place = np.nonzero(unsure[which])
                nearest[(which[place[0]], *place[1:])] = exact[:, 0]
        return Identifiability(np.where(sites[..., None], nearest, -1), ids, sites, indices, at_once)

    return measure


def _require_rows(ids: np.ndarray, sites: np.ndarray, count: int) -> None:
    """Raise ValueError unless the ids of all sites are rows of the table."""
    wrong = np.argwhere(sites & ((ids < 0) | (ids >= count)))
    if len(wrong):
        sequence, place = wrong[0].tolist()
        raise ValueError(
            f"tokens must be rows of the table, 0 to {count - 1}, got {ids[sequence, place]} in sequence {sequence} at "
            f"position {place}"
        )


def _token_states(encoding: states.Encoding, item: PyTree, params: PyTree) -> Array:
    """Return the states ``[l t d]`` of one sequence's tokens."""
    tokens, mask = item
    unchanged = jnp.zeros((1, len(tokens)), bool)
    values = encoding(params, tokens, tokens, mask, unchanged)[:, 0]
    added, _ = states.real_states(tokens, mask, values)
    return values[:, added:]


def _nearest_to_states(
    encoding: states.Encoding, search: Search, item: PyTree, params: PyTree, rows: Rows
) -> tuple[Array, Array, Array]:
    """Return for every state ``[t l]`` the nearest row, whether that is proven, and whether the state is finite."""
    values = _token_states(encoding, item, params)

    def of_layer(layer: Array) -> tuple[Array, Array]:
        ids, _, proven = jax.vmap(lambda query: search(query, jnp.int32(-1), rows))(layer)
        return ids[:, 0], proven

    nearest, proven = jax.lax.map(of_layer, values)
    return nearest.T, proven.T, jnp.isfinite(values).all(-1).T
