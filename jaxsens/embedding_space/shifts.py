"""How far the states of a model move, layer by layer, when one token is replaced."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.embedding_space import states
from jaxsens.embedding_space.norms import NORMS, one_and_others, require_norms
from jaxsens.embedding_space.results import EmbeddingShifts
from jaxsens.execution import checks, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.sensitivity import sites as token_sites
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["embedding_shifts"]


def embedding_shifts(
    encode: Apply,
    *,
    norms: Sequence[str] = tuple(NORMS),
    layers: states.Layers = "all",
    execution: Execution = DEFAULT,
) -> Callable[..., EmbeddingShifts]:
    """Measure how far embeddings and states move when a token is replaced, for all tokens of all sequences.

    ``||h_l(x) - h_l(x with token i replaced)||`` for every layer l: of the state at i (``own``), of the states at all
    other real tokens (``others``: how far the change has spread), and of both (``whole``); in units of the states, or
    divided by the norm of ``h_l(x)`` at the same tokens. (Conti et al., Probing the Embedding Space of Transformers
    via Minimal Token Perturbations, s.3; there the replacement is the nearest token, and norms are absolute.) Padding
    is neither replaced nor counted. Only norms leave the device.

    Args:
        encode: ``encode(params, tokens [b t *s], mask [b t]) -> states [l+1 b t d]``, such as
            ``models.text.encoder.hidden_states(module)``; states of added tokens (a class token's) come first.
        norms: Names out of ``l1``, ``l2`` and ``linf``.
        layers: Indices of the states to measure, negative ones from the end; ``"all"`` for all. Layers above the last
            of them are not computed: ``[0]`` costs almost nothing.
        execution: How to run; its ``chunk`` counts model forwards, ``t + 1`` for a sequence: of several sequences where
            they fit, else of some of the replacements in one sequence. On a CPU 2 to 4 may be faster.

    Returns:
        ``measure(params, tokens [b t *s], alternatives [b t *s], mask=None, sites=None)`` -> ``EmbeddingShifts``.
        ``alternatives`` replace the tokens, for instance ``nearest.replace(tokens)``. ``mask [b t]`` marks the real
        tokens, by default all; ``sites [b t]`` (or ``[t]``) those to replace, by default the real ones.

    Raises:
        ValueError: If norms are unknown; when called, if arguments do not fit each other or the model, states depend on
            the other sequences of a batch, a sequence has no site, or a token to replace has no neighbor.
        FloatingPointError: When called, if a state is not finite; the message names its sequence and position.

    Example:
        >>> measure = embedding_shifts(lambda params, tokens: params[tokens][None])      # states are the embeddings
        >>> table, tokens = np.eye(3, dtype=np.float32), np.array([[0, 1]], np.int32)
        >>> measure(table, tokens, tokens + 1).values("l1", at="own")[..., 0]
        array([[2., 2.]])
    """
    require_execution(execution)
    checks.require_functions(encode=encode)
    norms = require_norms(norms)

    def measure(
        params: PyTree, tokens: Array, alternatives: Array, mask: Array | None = None, sites: Array | None = None
    ) -> EmbeddingShifts:
        tokens, mask, sites = token_sites.checked(tokens, mask, sites)
        alternatives = states.checked_alternatives(tokens, alternatives, sites)
        indices = states.chosen_layers(encode, layers, params, tokens, mask)
        states.require_independent_states(encode, params, tokens, mask, execution)
        length = tokens.shape[1]
        forwards = execution.chunk or states.default_chunk(encode, params, tokens, mask, execution)
        rows = min(forwards, length + 1)
        places = _places(sites, rows)
        parts = parallel.map_items(
            parallel.bind(_sequence_shifts, states.Encoding(encode, indices), norms, rows),
            (tokens, alternatives, mask, places, sites.sum(1, dtype=np.int32)),
            params,
            execution=execution.replace(chunk=max(1, forwards // (length + 1))),
        )
        values = [_by_position(part, places, sites) for part in parts]
        states.require_finite(values, sites)
        return EmbeddingShifts(*values, sites, norms, indices, forwards)

    return measure


def _sequence_shifts(
    encoding: states.Encoding, norms: tuple[str, ...], rows: int, item: PyTree, params: PyTree
) -> tuple[Array, ...]:
    """Return own and others' shifts and sizes of one sequence's replacements, ``rows`` of them at once.

    Each is ``[places l n]``, in the order of ``places``.
    """
    tokens, alternatives, mask, places, count = item

    def block(i: Array, clean: Array | None) -> tuple[Array, tuple[Array, ...]]:
        """Evaluate replacements ``[i rows, (i + 1) rows)``; the first of all is the sequence without replacement."""
        at = jax.lax.dynamic_slice_in_dim(places, i * rows, rows)
        which = at[:, None] == jnp.arange(len(tokens))[None]
        values = encoding(params, tokens, alternatives, mask, which)
        clean = values[:, 0] if clean is None else jnp.where(i == 0, values[:, 0], clean)
        added, real = states.real_states(tokens, mask, values)
        at = jnp.maximum(at, 0) + added
        shift = one_and_others(values - clean[:, None], at, real, norms)
        size = one_and_others(clean[:, None], at, real, norms)
        return clean, (*shift, *size)

    if len(places) == rows:
        return block(jnp.int32(0), None)[1]
    clean_shape, shapes = jax.eval_shape(lambda: block(jnp.int32(0), None))
    empty = (
        jnp.zeros(clean_shape.shape, clean_shape.dtype),
        tuple(jnp.zeros((len(places), *part.shape[1:]), part.dtype) for part in shapes),
    )

    def step(i: Array, carry: tuple[Array, tuple[Array, ...]]) -> tuple[Array, tuple[Array, ...]]:
        clean, parts = block(i, carry[0])
        put = jax.lax.dynamic_update_slice_in_dim
        return clean, tuple(put(whole, part, i * rows, 0) for whole, part in zip(carry[1], parts, strict=True))

    # As many blocks as the sites of this sequence need: padding costs nothing.
    return jax.lax.fori_loop(0, (count + rows) // rows, step, empty)[1]


def _places(sites: np.ndarray, rows: int) -> np.ndarray:
    """Return for every sequence -1, its sites in order, and -1 up to a multiple of ``rows``: ``[b places]`` int32."""
    count, length = sites.shape
    places = np.full((count, -(-(length + 1) // rows) * rows), -1, np.int32)
    order = np.argsort(~sites, axis=1, kind="stable")
    places[:, 1 : length + 1] = np.where(np.take_along_axis(sites, order, 1), order, -1)
    return places


def _by_position(values: np.ndarray, places: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Return ``[b places l n]`` as ``[b t l n]``, 0 where a token is no site."""
    result = np.zeros((*sites.shape, *values.shape[2:]), values.dtype)
    sequence, slot = np.nonzero(places >= 0)
    result[sequence, places[sequence, slot]] = values[sequence, slot]
    return result
