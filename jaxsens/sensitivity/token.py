"""Token sensitivity: how the output of a model changes when one token of its input is perturbed."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import changes, perturb, substitution
from jaxsens.execution import checks, memory, parallel
from jaxsens.execution.checks import device_arrays, require_count
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.independence import require_independent
from jaxsens.execution.keys import require_key
from jaxsens.sensitivity import sites as token_sites
from jaxsens.statistics import estimate
from jaxsens.typing import Apply, Array, Change, Key, Perturbation, PyTree, Substitute, SubstituteAt

__all__ = ["Sensitivity", "token_sensitivity"]


@partial(jax.tree_util.register_dataclass, data_fields=["changes", "sites"], meta_fields=["rate", "chunk"])
@dataclass(frozen=True)
class Sensitivity:
    """Changes per example, draw and token, and what follows from them.

    Attributes:
        changes: Values of ``change`` ``[b draws t]``; zero where a token is no site.
        sites: Which tokens were perturbed and counted ``[b t]``.
        rate: Whether changes are events, so that sensitivity is a rate in [0, 1].
        chunk: Model forwards to evaluate at once, for the record.
    """

    changes: np.ndarray
    sites: np.ndarray
    rate: bool
    chunk: int

    @cached_property
    def values(self) -> np.ndarray:
        """Mean change over draws ``[b t]``; NaN where a token is no site."""
        return np.where(self.sites, self.changes.mean(1, dtype=np.float64), np.nan)

    @cached_property
    def per_example(self) -> np.ndarray:
        """Mean change over an example's draws and sites ``[b]``."""
        return np.where(self.sites, self.values, 0).sum(1) / self.sites.sum(1)

    @cached_property
    def per_token(self) -> np.ndarray:
        """Mean change by position ``[t]``, over the examples where it is a site; NaN where it never is."""
        counted = self.sites.sum(0)
        total = np.where(self.sites, self.values, 0).sum(0)
        return np.where(counted > 0, total / np.maximum(counted, 1), np.nan)

    @cached_property
    def estimate(self) -> estimate.Estimate:
        """The estimate over examples, the independent units."""
        return estimate.from_values(self.per_example, rate=self.rate)

    @property
    def mean(self) -> float:
        """Mean over examples of ``per_example``."""
        return float(self.estimate.mean)

    @property
    def sem(self) -> float:
        """Standard error of the mean over examples."""
        return float(self.estimate.sem)

    @property
    def count(self) -> int:
        """The number of independent units: examples."""
        return self.estimate.count

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean; see ``Estimate.interval``."""
        low, high = self.estimate.interval(level)
        return float(low), float(high)


def token_sensitivity(
    substitute: Substitute | SubstituteAt,
    perturbation: Perturbation,
    *,
    change: Change = changes.prediction_change,
    draws: int = 1,
    sites_drawn: int | None = None,
    execution: Execution = DEFAULT,
) -> Callable[..., Sensitivity]:
    """Measure how the output changes when one token is perturbed, for all tokens of all examples.

    ``S = mean over examples X, draws and sites i of change(f(X), f(X with token i replaced))``. Values are averaged
    over an example's draws and sites, then over examples; the error bar is over examples. (With
    ``changes.prediction_change`` the normalized sensitivity of Def. 4.1 in Vasudeva et al., Transformers Learn Low
    Sensitivity Functions.)

    Args:
        substitute: The primitive, such as ``substitution.one_at_a_time(model.apply)``, whose model is checked to give
            outputs that do not depend on the batch; a substitute of your own is not checked for that.
        perturbation: Sampler of replacements for a token, such as ``perturb.gaussian(variance=1.0)``.
        change: Function recorded of ``(clean [*k], changed [*k])``, a scalar.
        draws: Independent replacements of every token.
        sites_drawn: Perturb this many of each example's sites, drawn without replacement, and count only those, or all
            sites of an example that has fewer. Each change equals the one recorded when all sites are perturbed, and
            the mean is an unbiased estimate of the mean over all sites. ``substitute`` must take sites. By default all
            sites are perturbed.
        execution: How to run; its ``chunk`` counts model forwards, ``t + 1`` (or ``sites_drawn + 1``) for an example
            and draw; at least one example and draw is evaluated at once.

    Returns:
        ``measure(key, params, tokens [b t *s], mask=None, sites=None, index=None)`` -> ``Sensitivity``. ``mask [b t]``
        says which tokens are real, by default all; ``sites [b t]`` (or ``[t]`` for all examples) which are perturbed
        and counted, by default the real ones; padding never is. ``index [b]`` numbers the examples, by default from 0:
        a part of a data set with its numbers in the whole gets the draws of the whole. Tokens in float16 or bfloat16
        are perturbed and evaluated as float32.

    Raises:
        ValueError: If ``draws`` or ``sites_drawn`` is not an integer of at least 1, or ``substitute`` does not take
            sites and ``sites_drawn`` is set; when called, if the key is not a typed threefry key, the model does not
            accept the tokens or its outputs depend on the batch, there is no example, an example has no site, there are
            fewer tokens than ``sites_drawn``, or tokens do not fit the dtype on the device.
        FloatingPointError: When called, if an output or change is not finite; the message says where the first one is.

    Example:
        >>> substitute = substitution.one_at_a_time(lambda params, bits: 2.0 * bits[:, 0] - 1)
        >>> measure = token_sensitivity(substitute, lambda key, draw, bits: 1 - bits)
        >>> measure(jax.random.key(0), None, np.array([[0, 1, 1], [1, 0, 1]])).per_token.tolist()
        [1.0, 0.0, 0.0]
    """
    require_execution(execution)
    checks.require_functions(substitute=substitute, perturbation=perturbation, change=change)
    draws = require_count("draws", draws)
    if sites_drawn is not None:
        sites_drawn = _require_few(substitute, sites_drawn)
    settings = _Settings(substitute, perturb.as_pytree(perturbation), change, draws, sites_drawn, execution)

    def measure(
        key: Key,
        params: PyTree,
        tokens: Array,
        mask: Array | None = None,
        sites: Array | None = None,
        index: Array | None = None,
    ) -> Sensitivity:
        tokens, mask, sites = token_sites.checked(tokens, mask, sites)
        return _measure(settings, require_key(key), params, tokens, mask, sites, _numbered(index, len(tokens)))

    return measure


class _Settings(NamedTuple):
    substitute: Substitute | SubstituteAt
    sampler: Perturbation
    change: Change
    draws: int
    sites_drawn: int | None
    execution: Execution


def _measure(
    settings: _Settings,
    key: Key,
    params: PyTree,
    tokens: np.ndarray,
    mask: np.ndarray | None,
    sites: np.ndarray,
    index: np.ndarray,
) -> Sensitivity:
    substitute, sampler, change, draws, sites_drawn, execution = settings
    length = tokens.shape[1]
    if sites_drawn is not None and sites_drawn > length:
        raise ValueError(f"sites_drawn must be at most the number of tokens, {length}, got {sites_drawn}")
    params = device_arrays(params, "params")
    _warn_of_coordinates(substitute, change)
    forwards_each = 1 + (length if sites_drawn is None else sites_drawn)
    # Where all sites are evaluated they are selected afterwards, and the devices do not need them.
    items = (index, tokens, mask, None if sites_drawn is None else sites)
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), items)
    forwards = execution.chunk or _default_chunk(substitute, params, one, sites_drawn)
    at_once = min(draws, max(1, forwards // forwards_each))
    fn = parallel.bind(_example_changes, substitute, change, draws, at_once, sites_drawn)
    _check_fit(fn, key, params, sampler, one)
    if isinstance(substitute, substitution.OneAtATime):
        batch = (tokens,) if mask is None else (tokens, mask)
        require_independent(parallel.bind(_on_batch, substitute.apply), params, batch, execution=execution)
    at_once_examples = max(1, forwards // (at_once * forwards_each))
    recorded, nonfinite, fractions, drawn_sites = parallel.map_items(
        fn, items, key, params, sampler, execution=execution.replace(chunk=at_once_examples)
    )
    if drawn_sites is not None:
        recorded = _at(drawn_sites, recorded, length)
        nonfinite = np.concatenate([nonfinite[..., :1], _at(drawn_sites, nonfinite[..., 1:], length)], -1)
        sites = sites & _at(drawn_sites, np.ones_like(drawn_sites, bool), length)
    _check_finite(nonfinite, sites, index)
    _check_changes(recorded, sites, index)
    if fractions is not None and fractions.all():
        _warn_of_probabilities()
    recorded = np.where(sites[:, None], recorded, np.zeros((), recorded.dtype))
    return Sensitivity(recorded, sites, recorded.dtype == bool, forwards)


def _on_batch(apply: Apply, params: PyTree, batch: tuple[Array, ...]) -> PyTree:
    return apply(params, *batch)


def _example_changes(
    substitute: Substitute | SubstituteAt,
    change: Change,
    draws: int,
    at_once: int,
    sites_drawn: int | None,
    item: PyTree,
    key: Key,
    params: PyTree,
    perturbation: Perturbation,
) -> tuple[Array, Array, Array | None, Array | None]:
    """Return what is recorded of one example.

    Returns:
        The changes ``[draws n]`` at all t tokens or at the drawn sites; whether the clean and the changed outputs are
        not finite ``[draws 1 + n]``; whether all scores lie strictly between 0 and 1, where predictions are read from
        a sign, else None; and the drawn sites ``[n]`` or None.
    """
    index, tokens, mask, sites = item
    example_key = jax.random.fold_in(key, index)
    chosen = None if sites_drawn is None else token_sites.drawn(example_key, sites, sites_drawn)
    few = () if chosen is None else (chosen,)

    def one_draw(draw: Array) -> tuple[Array, Array, Array | None]:
        alternatives = perturbation(example_key, draw, tokens)
        clean, changed = substitute(params, tokens, alternatives, mask, *few)
        recorded = jax.vmap(change, in_axes=(None, 0))(clean, changed)
        if recorded.shape != (len(tokens) if chosen is None else len(chosen),):
            raise ValueError(f"change must map an example's outputs to a scalar, got shape {recorded.shape[1:]}")
        nonfinite = [changes.nonfinite(jax.tree.map(lambda a: a[None], clean)), changes.nonfinite(changed)]
        fraction = None
        if change in (changes.prediction_change, changes.sign_change) and clean.size == 1:
            fraction = jnp.all((clean > 0) & (clean < 1)) & jnp.all((changed > 0) & (changed < 1))
        return recorded, jnp.concatenate(nonfinite), fraction

    return *jax.lax.map(one_draw, jnp.arange(draws, dtype=jnp.uint32), batch_size=at_once), chosen


def _warn_of_coordinates(substitute: Substitute | SubstituteAt, change: Change) -> None:
    """Warn where predictions would be read from an encoder of this library that has no classifier."""
    apply = getattr(substitute, "apply", substitute)
    # A model of this library is a module, or a function that `parallel.bind` bound to one.
    static = getattr(apply, "static", ())
    parts = (getattr(apply, "module", None), *(static if isinstance(static, tuple) else ()))
    config = next((part.config for part in parts if hasattr(part, "config")), None)
    headless = getattr(config, "classes", 0) is None and getattr(config, "read_out", "next") != "next"
    if headless and change is changes.prediction_change:
        warnings.warn(
            "the model has no classifier, so that the prediction is the number of its largest coordinate: build or "
            "load it with classes, or pass another change, such as changes.euclidean_change",
            UserWarning,
            stacklevel=4,
        )


def _warn_of_probabilities() -> None:
    warnings.warn(
        "every score lies between 0 and 1, as a sigmoid's does, and the prediction is read from its sign, which never "
        "changes: return the logit, or subtract 0.5",
        UserWarning,
        stacklevel=4,
    )


def _require_few(substitute: Substitute | SubstituteAt, sites_drawn: int) -> int:
    sites_drawn = require_count("sites_drawn", sites_drawn, hint=", or None for all")
    if not substitution.takes_sites(substitute):
        raise ValueError(
            f"substitute must take sites as a fifth argument where sites are drawn, got {substitute}, which evaluates "
            "all of them; substitution.one_at_a_time(apply) takes them"
        )
    return sites_drawn


def _numbered(index: Array | None, count: int) -> np.ndarray:
    """Return the numbers of the examples ``[b]``, which decide their draws."""
    if index is None:
        return np.arange(count, dtype=np.uint32)
    index = checks.host_values(index, "index")
    if index.shape != (count,) or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= 2**32:
        raise ValueError(f"index must be a number below 2^32 for each of {count} examples, got {index}")
    return index.astype(np.uint32)


def _at(chosen: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
    """Put ``values [b ... n]`` at the positions ``chosen [b n]`` of ``length``, and zeros at all others."""
    whole = np.zeros((*values.shape[:-1], length), values.dtype)
    positions = chosen.reshape(len(chosen), *(1,) * (values.ndim - 2), -1)
    np.put_along_axis(whole, np.broadcast_to(positions, values.shape), values, -1)
    return whole


def _default_chunk(substitute: Substitute | SubstituteAt, params: PyTree, one: PyTree, sites_drawn: int | None) -> int:
    """Return the forwards that fit the budget, from the memory of one example's substitution."""
    _, tokens, mask, _ = one
    few = () if sites_drawn is None else (jax.ShapeDtypeStruct((sites_drawn,), np.int32),)
    try:
        examples = memory.chunk_of(substitute, params, tokens, tokens, mask, *few)
    except Exception as error:
        raise _misfit(tokens, error) from error
    return examples * ((tokens.shape[0] if sites_drawn is None else sites_drawn) + 1)


def _check_fit(fn: Callable, key: Key, params: PyTree, sampler: Perturbation, one: PyTree) -> None:
    try:
        jax.eval_shape(fn, one, key, params, sampler)
    except Exception as error:
        raise _misfit(one[1], error) from error


def _misfit(tokens: Any, error: Exception) -> ValueError:
    return ValueError(
        f"tokens of shape {tokens.shape} and type {tokens.dtype} (for one example), params, perturbation and change do "
        f"not fit together: {error}"
    )


def _check_finite(nonfinite: np.ndarray, sites: np.ndarray, index: np.ndarray) -> None:
    """Raise if an output that counts is not finite: ``nonfinite [b draws 1 + t]``, the clean output first."""
    counted = np.concatenate([np.ones((len(sites), 1), bool), sites], 1)
    bad = np.argwhere(nonfinite & counted[:, None])
    if len(bad):
        example, draw, row = bad[0].tolist()
        what = f"with token {row - 1} replaced in draw {draw}" if row else "as it is"
        raise FloatingPointError(
            f"the model's output is not finite for example {index[example]} {what} ({len(bad)} such outputs in all); "
            "look at the parameters, or at the size of the perturbation"
        )


def _check_changes(recorded: np.ndarray, sites: np.ndarray, index: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(recorded) & sites[:, None])
    if len(bad):
        example, draw, token = bad[0].tolist()
        raise FloatingPointError(
            f"the change is {recorded[example, draw, token]} for example {index[example]}, draw {draw}, token {token} "
            f"({len(bad)} such changes in all), though the outputs are finite; look at the change function"
        )
