"""Models with an output for each token: which positions of the output count, and what is recorded of them.

``counted`` says on the host which positions may count, and refuses examples where none would; ``recorded`` runs on the
devices. ``warn_of_tokens`` is for such models whose outputs are taken for one output.
"""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.output_positions import OverPositions
from jaxsens.substitution import OneAtATime
from jaxsens.typing import Array, Change, PyTree, Substitute, SubstituteAt

__all__ = ["all_fractions", "counted", "rate_of", "recorded", "replaced", "warn_of_tokens", "without_padding"]


def counted(
    change: Change, mask: np.ndarray | None, sites: np.ndarray, groups: np.ndarray | None, shape: tuple[int, int]
) -> np.ndarray | None:
    """Return which positions of the output may count ``[b t]``; None where the change is not over positions.

    Args:
        change: What is recorded.
        mask: Which tokens are real ``[b t]``, or None.
        sites: Which tokens or groups are sites, ``[b t]`` or ``[b g]``.
        groups: Which tokens are in which group ``[b g t]``, or None.
        shape: The numbers of examples and tokens.

    Raises:
        ValueError: If a position is beyond the tokens, or no position counts for a site of an example.

    Example:
        >>> last = OverPositions(jnp.subtract, (2,))
        >>> counted(last, None, np.ones((1, 3), bool), None, (1, 3)).tolist()
        [[False, False, True]]
    """
    if not isinstance(change, OverPositions):
        return None
    positions = change.positions
    may = np.ones(shape, bool) if mask is None else mask
    if positions == "sites":
        may = sites if groups is None else (groups & sites[..., None]).any(1)
    elif isinstance(positions, tuple):
        may = change.chosen(may, None)
    none = ~may.any(1)
    if positions == "others":  # the site is the only real token, or the group holds all of them
        whole = (may.sum(1) == 1)[:, None] if groups is None else ~(may[:, None] & ~groups).any(2)
        none = (whole & sites).any(1)
    if none.any():
        raise ValueError(
            f"positions: no position of the output counts for example {int(none.argmax())}, since {positions!r} has no "
            "real token there; leave the example out, or give other positions"
        )
    return may


def replaced(chosen: Array | None, count: int) -> Array:
    """Return which tokens are replaced at once ``[n t]``: those of each token, number ``[n]`` or group ``[n t]``.

    Example:
        >>> replaced(np.array([2]), 3).tolist()
        [[False, False, True]]
    """
    if chosen is not None and chosen.ndim == 2:
        return chosen
    return (jnp.arange(count) if chosen is None else chosen)[:, None] == jnp.arange(count)[None]


def recorded(
    clean: PyTree, changed: PyTree, change: Change, counted: Array | None = None, replaced: Array | None = None
) -> Array:
    """Return the changes ``[n]`` of outputs ``clean [*k]`` and ``changed [n *k]``, over positions where some count.

    Example:
        >>> recorded(np.zeros(2), np.eye(2), lambda clean, changed: (changed - clean)[0]).tolist()
        [1.0, 0.0]
    """
    if counted is None:
        return jax.vmap(change, in_axes=(None, 0))(clean, changed)
    return jax.vmap(change, in_axes=(None, 0, None, 0))(clean, changed, counted, replaced)


def without_padding(counted: Array | None, outputs: PyTree, axis: int = 0) -> PyTree:
    """Return outputs with zeros at the positions that do not count, so that what is there need not be finite.

    Example:
        >>> without_padding(np.array([True, False]), jnp.array([3.0, np.nan])).tolist()
        [3.0, 0.0]
    """
    if counted is None:
        return outputs

    def kept(leaf: Array) -> Array:
        if leaf.shape[axis : axis + 1] != counted.shape:  # the change says what is wrong
            return leaf
        where = counted.reshape(counted.shape + (1,) * (leaf.ndim - axis - 1))
        return jnp.where(where, leaf, jnp.zeros((), leaf.dtype))

    return jax.tree.map(kept, outputs)


def all_fractions(counted: Array | None, scores: Array) -> Array:
    """Return whether all scores that count, ``[... t]``, lie strictly between 0 and 1, as those of a sigmoid do.

    Example:
        >>> bool(all_fractions(np.array([True, False]), np.array([[0.3, 2.0]])))
        True
    """
    inside = (scores > 0) & (scores < 1)
    return inside.all() if counted is None else (inside.reshape(-1, len(counted)) | ~counted[None]).all()


def rate_of(
    substitute: Substitute | SubstituteAt,
    change: Change,
    params: PyTree,
    tokens: jax.ShapeDtypeStruct,
    mask: jax.ShapeDtypeStruct | None,
) -> bool | None:
    """Return whether a change over positions is a share of events; None for other changes, whose dtype says it.

    Example:
        >>> from jaxsens.substitution import one_at_a_time
        >>> tokens = jax.ShapeDtypeStruct((3,), np.int32)
        >>> rate_of(one_at_a_time(lambda params, x: x), OverPositions(jnp.not_equal, "all"), None, tokens, None)
        True
    """
    if not isinstance(change, OverPositions):
        return None
    clean = jax.eval_shape(substitute, params, tokens, tokens, mask)[0]
    return jax.eval_shape(jax.vmap(change.change), clean, clean).dtype == bool


def warn_of_tokens(
    substitute: Substitute | SubstituteAt,
    change: Change,
    params: PyTree,
    tokens: jax.ShapeDtypeStruct,
    mask: jax.ShapeDtypeStruct | None,
    *,
    stacklevel: int = 4,
) -> None:
    """Warn where a change of this library would be taken of the outputs of all tokens of an example at once.

    The model has an output for each token if its first axis has the number of tokens, and follows it. Shapes only are
    asked for, once for each substitution and set of shapes.

    Example:
        >>> from jaxsens import changes, substitution
        >>> tokens = jax.ShapeDtypeStruct((3,), np.int32)
        >>> substitute = substitution.one_at_a_time(lambda params, x: jnp.stack([1.0 * x, 2.0 * x], -1))
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_of_tokens(substitute, changes.squared_change, None, tokens, None)
        >>> len(caught)
        1
    """
    name = getattr(change, "__name__", "")
    if getattr(change, "__module__", "") != "jaxsens.changes" or isinstance(change, OverPositions):
        return
    leaves, structure = jax.tree.flatten((params, mask))
    shapes = tuple(jax.ShapeDtypeStruct(np.shape(leaf), jax.dtypes.result_type(leaf)) for leaf in leaves)
    try:
        output = _output_of_tokens(substitute, tokens, structure, shapes)
    except TypeError:  # a substitution, or a structure, that cannot be hashed
        return
    if output is not None:
        warnings.warn(
            f"the model gives an output for each token, {list(output)} for an example, and {name} takes all of them "
            f"for one output, padding included: pass change=changes.over_positions(changes.{name}) for the mean over "
            "positions, or return one output; a function of your own as the change says that all are meant",
            UserWarning,
            stacklevel=stacklevel,
        )


@functools.lru_cache(maxsize=256)
def _output_of_tokens(
    substitute: Any, tokens: jax.ShapeDtypeStruct, structure: Any, shapes: tuple[jax.ShapeDtypeStruct, ...]
) -> tuple[int, ...] | None:
    """Return the shape of an output that has an axis of tokens, or None."""
    params, mask = structure.unflatten(shapes)
    count = tokens.shape[0]

    def first(length: int) -> tuple[int, ...] | None:
        """Return the shape of the output for so many tokens; None if there is none, or several."""
        example = jax.ShapeDtypeStruct((length, *tokens.shape[1:]), tokens.dtype)
        real = None if mask is None else jax.ShapeDtypeStruct((length,), mask.dtype)
        try:
            if isinstance(substitute, OneAtATime):
                batch = [jax.ShapeDtypeStruct((1, *a.shape), a.dtype) for a in (example, real) if a is not None]
                output = jax.eval_shape(substitute.apply, params, *batch)
                return output.shape[1:]
            return jax.eval_shape(substitute, params, example, example, real)[0].shape
        except Exception:  # a model may take one number of tokens only
            return None

    output = first(count)
    if not output or output[0] != count:
        return None
    others = [length for length in (count + 1, count - 1) if length]
    return output if any((first(length) or (0,))[0] == length for length in others) else None
