"""The primitive: the outputs of all inputs that differ from an example in one token."""

import inspect
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.typing import Apply, Array, PyTree, Substitute, SubstituteAt

__all__ = ["OneAtATime", "chosen_sites", "one_at_a_time", "require_matching", "require_sites", "takes_sites"]


def one_at_a_time(apply: Apply, rows: int | None = None) -> SubstituteAt:
    """Make the primitive from any model, by evaluating the example and its t changed copies.

    The plain way, which works for every pure function; a model family may bring a faster exact one.

    Args:
        apply: ``apply(params, tokens [b t *s], mask [b t])`` -> outputs ``[b *k]``, a pytree of them allowed; called
            without a mask where there is none.
        rows: Evaluate at most this many copies at once (``None``: all ``t + 1``), to bound memory or to stay in cache.

    Returns:
        ``substitute(params, tokens [t *s], alternatives [t *s], mask [t])`` -> ``(clean [*k], changed [t *k])``, with
        ``mask=None`` where all tokens are real. A fifth argument, ``sites [n]``, numbers the tokens to replace: only
        these copies are then evaluated, which gives ``(clean [*k], changed [n *k])``, the rows ``sites`` of the whole.

    Raises:
        ValueError: If ``rows`` is smaller than 1; when called, if alternatives do not match the tokens, or sites are
            no numbers of tokens.
    """
    if rows is not None and rows < 1:
        raise ValueError(f"rows must be at least 1, or None for all at once, got {rows}")
    return OneAtATime(apply, rows)


def require_matching(tokens: Array, alternatives: Array) -> None:
    """Raise ValueError unless there is an alternative of the same kind for every token."""
    if tokens.shape != alternatives.shape or tokens.dtype != alternatives.dtype:
        raise ValueError(
            f"alternatives must have the shape and dtype of the tokens, {tokens.shape} {tokens.dtype}, "
            f"got {alternatives.shape} {alternatives.dtype}"
        )


def require_sites(sites: Array, count: int) -> None:
    """Raise ValueError unless ``sites [n]`` are integers from 0 to ``count - 1``; traced ones are trusted in that."""
    known = not isinstance(sites, jax.core.Tracer)
    found = np.asarray(sites) if known else sites
    whole = jnp.issubdtype(found.dtype, jnp.integer) and found.ndim == 1 and found.size
    if not whole or (known and not ((found >= 0) & (found < count)).all()):
        raise ValueError(f"sites must be a vector of integers from 0 to {count - 1}, numbers of tokens, got {sites}")


def takes_sites(substitute: Substitute | SubstituteAt) -> bool:
    """Return whether a primitive can evaluate a few sites only: whether it takes a fifth argument."""
    try:
        inspect.signature(substitute).bind(None, None, None, None, None)
    except (TypeError, ValueError):  # another number of arguments, or a callable that does not tell
        return False
    return True


def chosen_sites(sites: Array | None, count: int) -> Array:
    """Return the sites to evaluate: all ``count``, or those given, if they are numbers of tokens."""
    if sites is None:
        return jnp.arange(count)
    require_sites(sites, count)
    return jnp.asarray(sites, jnp.int32)


@dataclass(frozen=True)
class OneAtATime:
    """The substitution that ``one_at_a_time`` returns; equal ones share compiled code."""

    apply: Apply
    rows: int | None = None

    def __call__(
        self, params: PyTree, tokens: Array, alternatives: Array, mask: Array | None = None, sites: Array | None = None
    ) -> tuple[PyTree, PyTree]:
        """Return the clean output and, for every token or site, the output with that token alone replaced."""
        require_matching(tokens, alternatives)
        count = len(tokens)
        sites = chosen_sites(sites, count)
        total = len(sites)
        rows = min(self.rows or total + 1, total + 1)

        def outputs(sites: Array) -> PyTree:
            """Evaluate one copy for each site; the copy for site -1 is the example itself."""
            chosen = sites[:, None] == jnp.arange(count)[None]
            chosen = chosen.reshape(chosen.shape + (1,) * (tokens.ndim - 1))
            copies = jnp.where(chosen, alternatives[None], tokens[None])
            if mask is None:  # not passed on, so that models without a mask do as well
                return self.apply(params, copies)
            return self.apply(params, copies, jnp.broadcast_to(mask, (rows, count)))

        blocks = -(-(total + 1) // rows)
        sites = jnp.pad(sites, (1, blocks * rows - total - 1), constant_values=-1)
        if blocks == 1:
            results = outputs(sites)
        else:
            results = jax.lax.map(outputs, sites.reshape(blocks, rows))
            results = jax.tree.map(lambda a: a.reshape(blocks * rows, *a.shape[2:]), results)
        return jax.tree.map(lambda a: a[0], results), jax.tree.map(lambda a: a[1 : total + 1], results)
