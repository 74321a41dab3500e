"""The primitive: the outputs of all inputs that differ from an example in one token."""

import inspect
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution import checks, parallel
from jaxsens.execution.checks import require_count
from jaxsens.execution.execution import Execution
from jaxsens.execution.independence import require_independent
from jaxsens.typing import Apply, Array, PyTree, Substitute, SubstituteAt

__all__ = [
    "OneAtATime",
    "chosen_sites",
    "one_at_a_time",
    "require_groups",
    "require_independent_outputs",
    "require_matching",
    "require_replaces_groups",
    "require_sites",
    "require_substitute",
    "takes_sites",
]


def one_at_a_time(apply: Apply, rows: int | None = None) -> SubstituteAt:
    """Make the substitution primitive from any model, by evaluating the example and its t changed copies.

    It works for every pure function; ``jaxsens.models.substitution`` has faster exact ones for some model families.

    Args:
        apply: ``apply(params, tokens [b t *s], mask [b t])`` -> outputs ``[b *k]``, or a pytree of them; called without
            a mask where there is none.
        rows: Evaluate at most this many copies at once, to bound memory or to stay in cache; by default all ``t + 1``.

    Returns:
        ``substitute(params, tokens [t *s], alternatives [t *s], mask [t])`` -> ``(clean [*k], changed [t *k])``, with
        ``mask=None`` where all tokens are real. A fifth argument, ``sites [n]``, numbers the tokens to replace: only
        these copies are then evaluated, and the result is ``(clean [*k], changed [n *k])``.

    Raises:
        ValueError: If ``rows`` is not an integer of at least 1; when called, if alternatives do not match the tokens,
            or sites are not numbers of tokens.

    Example:
        >>> substitute = one_at_a_time(lambda params, bits: bits.sum(1))
        >>> clean, changed = substitute(None, jnp.array([0, 1, 1]), jnp.array([1, 0, 0]))
        >>> int(clean), changed.tolist()
        (2, [3, 1, 1])
    """
    checks.require_functions(apply=apply)
    if rows is not None:
        rows = require_count("rows", rows, hint=", or None for all at once")
    return OneAtATime(apply, rows)


def require_matching(tokens: Array, alternatives: Array) -> None:
    """Raise ValueError unless there is an alternative of the same shape and dtype for every token.

    Example:
        >>> require_matching(jnp.zeros((3, 2)), jnp.ones((3, 2)))
    """
    if tokens.shape != alternatives.shape or tokens.dtype != alternatives.dtype:
        raise ValueError(
            f"alternatives must have the shape and dtype of the tokens, {tokens.shape} {tokens.dtype}, "
            f"got {alternatives.shape} {alternatives.dtype}"
        )


def require_sites(sites: Array, count: int) -> None:
    """Raise ValueError unless ``sites [n]`` are integers from 0 to ``count - 1``; traced values are not checked.

    Example:
        >>> require_sites(np.array([0, 2]), 3)
    """
    traced = isinstance(sites, jax.core.Tracer)
    numbers = sites if traced else np.asarray(sites)
    integers = jnp.issubdtype(numbers.dtype, jnp.integer) and numbers.ndim == 1 and numbers.size
    if not integers or (not traced and not ((numbers >= 0) & (numbers < count)).all()):
        raise ValueError(f"sites must be a vector of integers from 0 to {count - 1}, numbers of tokens, got {sites}")


def require_substitute(substitute: Any) -> None:
    """Raise ValueError unless a value can be called as a substitution; a model cannot.

    Example:
        >>> require_substitute(one_at_a_time(lambda params, x: x))
        >>> require_substitute(lambda params, tokens, mask=None: tokens.sum(1))
        Traceback (most recent call last):
        ValueError: substitute must be a function (params, tokens, alternatives, mask), ... one_at_a_time(apply)
    """
    checks.require_functions(substitute=substitute)
    try:
        signature = inspect.signature(substitute)
    except (TypeError, ValueError):  # a callable without a signature
        return
    try:
        signature.bind(None, None, None, None)
    except TypeError as error:
        raise ValueError(
            f"substitute must be a function (params, tokens, alternatives, mask), got {substitute} of other arguments, "
            f"{signature}: for a model apply(params, tokens, mask) pass one_at_a_time(apply)"
        ) from error


def require_groups(groups: Array, count: int) -> Array:
    """Return groups of tokens, or raise ValueError unless they are booleans ``[g t]``.

    Example:
        >>> require_groups(jnp.array([[True, True, False]]), 3).shape
        (1, 3)
    """
    if groups.dtype != bool or groups.ndim != 2 or groups.shape[1] != count or not len(groups):
        raise ValueError(f"groups must be booleans [g t] with t = {count}, got {groups.dtype} of shape {groups.shape}")
    return jnp.asarray(groups)


def require_replaces_groups(substitute: Any) -> None:
    """Raise ValueError unless a substitution can replace tokens together, as that of ``one_at_a_time`` can.

    Example:
        >>> require_replaces_groups(one_at_a_time(lambda params, x: x))
    """
    if not isinstance(substitute, OneAtATime):
        raise ValueError(
            f"sites are groups of tokens, and {_named(substitute)} replaces one token at a time: pass the plain way, "
            "substitution.one_at_a_time(apply), where apply is models.evaluation(module) for a module of this library"
        )


def takes_sites(substitute: Substitute | SubstituteAt) -> bool:
    """Return whether a primitive can evaluate a few sites only, that is, whether it takes a fifth argument.

    Example:
        >>> takes_sites(one_at_a_time(lambda params, x: x)), takes_sites(lambda params, x, y, mask: None)
        (True, False)
    """
    try:
        inspect.signature(substitute).bind(None, None, None, None, None)
    except (TypeError, ValueError):  # another number of arguments, or a callable without a signature
        return False
    return True


def chosen_sites(sites: Array | None, count: int) -> Array:
    """Return the sites to evaluate: all ``count`` by default, or ``sites``, if they are numbers of tokens.

    Example:
        >>> chosen_sites(None, 3).tolist()
        [0, 1, 2]
    """
    if sites is None:
        return jnp.arange(count)
    if getattr(sites, "ndim", 1) == 2 and sites.dtype == bool:
        raise ValueError(
            "sites are groups of tokens [g t], and this substitution replaces one token at a time: pass the plain way, "
            "substitution.one_at_a_time(apply)"
        )
    require_sites(sites, count)
    return jnp.asarray(sites, jnp.int32)


@dataclass(frozen=True)
class OneAtATime:
    """The substitution that ``one_at_a_time`` returns; equal values share compiled code.

    Attributes:
        apply: The model.
        rows: Number of copies evaluated at once; None for all.

    Example:
        >>> OneAtATime(len, 2) == OneAtATime(len, 2)
        True
    """

    apply: Apply
    rows: int | None = None

    def __call__(
        self,
        params: PyTree,
        tokens: Array,
        alternatives: Array | None = None,
        mask: Array | None = None,
        sites: Array | None = None,
    ) -> tuple[PyTree, PyTree]:
        """Return the clean output and, for every token or site, the output with only that token replaced.

        ``sites`` may also be booleans ``[g t]``: the tokens of a group are then replaced together.
        """
        if alternatives is None:
            raise ValueError(
                "alternatives are missing: one_at_a_time(apply) replaces tokens by them; measures of weights, states "
                "and curvature take the model, apply, itself"
            )
        require_matching(tokens, alternatives)
        count = len(tokens)
        groups = None
        if getattr(sites, "ndim", 1) == 2 and sites.dtype == bool:
            groups, sites = require_groups(sites, count), jnp.arange(len(sites))
        else:
            sites = chosen_sites(sites, count)
        total = len(sites)
        rows = min(self.rows or total + 1, total + 1)

        def outputs(sites: Array) -> PyTree:
            """Evaluate one copy for each site; the copy for site -1 is the example itself."""
            if groups is None:
                chosen = sites[:, None] == jnp.arange(count)[None]
            else:
                chosen = groups[sites] & (sites >= 0)[:, None]
            chosen = chosen.reshape(chosen.shape + (1,) * (tokens.ndim - 1))
            copies = jnp.where(chosen, alternatives[None], tokens[None])
            if mask is None:  # not passed on, for models without a mask
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


def require_independent_outputs(
    substitute: Substitute | SubstituteAt,
    params: PyTree,
    tokens: Array,
    mask: Array | None = None,
    *,
    execution: Execution,
) -> None:
    """Raise ValueError if a model's outputs for an example depend on the others, its place or the evaluation.

    Only the model of ``one_at_a_time`` is known; other primitives are not checked. See ``require_independent``.

    Args:
        substitute: The primitive.
        params: The model's parameters.
        tokens: Examples ``[b t *s]``.
        mask: Which tokens are real ``[b t]``, or None.
        execution: Its ``check`` switches the check off.

    Example:
        >>> mean = one_at_a_time(lambda params, x: x - x.mean(0, keepdims=True))
        >>> require_independent_outputs(mean, None, np.eye(3, dtype=np.float32), execution=Execution())
        Traceback (most recent call last):
        ValueError: the model gives other outputs for an example when another example is beside it, ...
    """
    if isinstance(substitute, OneAtATime):
        batch = (tokens,) if mask is None else (tokens, mask)
        require_independent(parallel.bind(_on_batch, substitute.apply), params, batch, execution=execution)


def _named(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def _on_batch(apply: Apply, params: PyTree, batch: tuple[Array, ...]) -> PyTree:
    return apply(params, *batch)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
