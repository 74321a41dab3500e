"""Token sensitivity: how the output of a model changes when one token of its input is perturbed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import changes, perturb, substitution
from jaxsens.execution import memory, parallel
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.sensitivity import sites as token_sites
from jaxsens.statistics import estimate
from jaxsens.typing import Array, Change, Key, Perturbation, PyTree, Substitute, SubstituteAt

__all__ = ["Sensitivity", "token_sensitivity"]


@partial(jax.tree_util.register_dataclass, data_fields=["changes", "sites"], meta_fields=["rate", "chunk"])
@dataclass(frozen=True)
class Sensitivity:
    """Changes per example, draw and token, and what follows from them.

    Attributes:
        changes: What ``change`` gave ``[b draws t]``; zero where a token is no site.
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

    ``S = mean over examples X, draws and sites i of change(f(X), f(X with token i replaced))``, the normalised
    sensitivity of Def. 4.1 in Vasudeva et al., Transformers Learn Low Sensitivity Functions, where the change is that
    of the prediction. Sites are averaged within an example first, then examples; the error bar is over examples.

    Args:
        substitute: The primitive, such as ``substitution.one_at_a_time(model.apply)``.
        perturbation: What replaces a token, such as ``perturb.gaussian(variance=1.0)``.
        change: What is recorded of ``(clean, changed)``.
        draws: Independent replacements of every token.
        sites_drawn: Perturb this many of each example's sites, drawn without replacement, and count those; they change
            as they would among all. The mean is still that over all sites, without bias, in fewer forwards;
            ``substitute`` must be able to evaluate a few sites only. By default, all; an example with fewer has all of
            its own.
        execution: How to run; its ``chunk`` counts model forwards, ``t + 1`` (or ``sites_drawn + 1``) for an example
            and draw; at least one example and draw is.

    Returns:
        ``measure(key, params, tokens [b t *s], mask=None, sites=None, index=None)`` -> ``Sensitivity``. ``mask [b t]``
        says which tokens are real, by default all; ``sites [b t]`` (or ``[t]`` for all examples alike) which are
        perturbed and counted, by default the real ones; padding never is. ``index [b]`` numbers the examples, by
        default from 0: a part of a data set, with its numbers in the whole, gets the draws that it gets there.

    Raises:
        ValueError: If ``draws`` or ``sites_drawn`` is smaller than 1, or ``substitute`` evaluates all sites
            only and few are asked for; when called, if the model cannot take the tokens, if there is no example, if an
            example has no site, or if there are not so many tokens as sites to draw.
        FloatingPointError: When called, if an output is not finite; the message says where the first one is.
    """
    memory.require_draws(draws)
    if sites_drawn is not None:
        _require_few(substitute, sites_drawn)
    sampler = perturb.as_pytree(perturbation)

    def measure(
        key: Key,
        params: PyTree,
        tokens: Array,
        mask: Array | None = None,
        sites: Array | None = None,
        index: Array | None = None,
    ) -> Sensitivity:
        tokens, mask, sites = token_sites.checked(tokens, mask, sites)
        index = _numbered(index, len(tokens))
        length = tokens.shape[1]
        if sites_drawn is not None and sites_drawn > length:
            raise ValueError(f"sites_drawn must be at most the number of tokens, {length}, got {sites_drawn}")
        evaluated = length if sites_drawn is None else sites_drawn
        # Where all sites are evaluated they are chosen afterwards, and the devices need not know them.
        items = (index, tokens, mask, None if sites_drawn is None else sites)
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), items)
        forwards = execution.chunk or _default_chunk(substitute, params, one, sites_drawn)
        at_once = min(draws, max(1, forwards // (evaluated + 1)))
        fn = parallel.bind(_example_changes, substitute, change, draws, at_once, sites_drawn)
        _check_fit(fn, key, params, sampler, one)
        recorded, nonfinite, chosen = parallel.map_items(
            fn,
            items,
            key,
            params,
            sampler,
            execution=execution.replace(chunk=max(1, forwards // (at_once * (evaluated + 1)))),
        )
        if chosen is not None:
            recorded = _at(chosen, recorded, length)
            nonfinite = np.concatenate([nonfinite[..., :1], _at(chosen, nonfinite[..., 1:], length)], -1)
            sites = sites & _at(chosen, np.ones_like(chosen, bool), length)
        _check_finite(nonfinite, sites, index)
        _check_changes(recorded, sites, index)
        recorded = np.where(sites[:, None], recorded, np.zeros((), recorded.dtype))
        return Sensitivity(recorded, sites, recorded.dtype == bool, forwards)

    return measure


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
) -> tuple[Array, Array, Array | None]:
    """Return the changes of one example for all draws and tokens, or some, where outputs are not finite, and which."""
    index, tokens, mask, sites = item
    example_key = jax.random.fold_in(key, index)
    chosen = None if sites_drawn is None else token_sites.drawn(example_key, sites, sites_drawn)
    few = () if chosen is None else (chosen,)

    def one_draw(draw: Array) -> tuple[Array, Array]:
        alternatives = perturbation(example_key, draw, tokens)
        clean, changed = substitute(params, tokens, alternatives, mask, *few)
        recorded = jax.vmap(change, in_axes=(None, 0))(clean, changed)
        if recorded.shape != (len(tokens) if chosen is None else len(chosen),):
            raise ValueError(f"change must map an example's outputs to a scalar, got shape {recorded.shape[1:]}")
        clean_bad = changes.nonfinite(jax.tree.map(lambda a: a[None], clean))
        return recorded, jnp.concatenate([clean_bad, changes.nonfinite(changed)])

    return *jax.lax.map(one_draw, jnp.arange(draws, dtype=jnp.uint32), batch_size=at_once), chosen


def _require_few(substitute: Substitute | SubstituteAt, sites_drawn: int) -> None:
    if sites_drawn != int(sites_drawn) or sites_drawn < 1:
        raise ValueError(f"sites_drawn must be an integer of at least 1, or None for all, got {sites_drawn}")
    if not substitution.takes_sites(substitute):
        raise ValueError(
            f"substitute must take sites as a fifth argument where sites are drawn, got {substitute}, which evaluates "
            "all of them; substitution.one_at_a_time(apply) can do with a few"
        )


def _numbered(index: Array | None, count: int) -> np.ndarray:
    """Return the numbers of the examples ``[b]``, which their draws hang on."""
    if index is None:
        return np.arange(count, dtype=np.uint32)
    index = np.asarray(index)
    if index.shape != (count,) or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= 2**32:
        raise ValueError(f"index must be a number below 2^32 for each of {count} examples, got {index}")
    return index.astype(np.uint32)


def _at(chosen: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
    """Put ``values [b ... n]`` at the places ``chosen [b n]`` of ``length``, and zeros at all others."""
    whole = np.zeros((*values.shape[:-1], length), values.dtype)
    places = chosen.reshape(len(chosen), *(1,) * (values.ndim - 2), -1)
    np.put_along_axis(whole, np.broadcast_to(places, values.shape), values, -1)
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
    found = np.argwhere(nonfinite & counted[:, None])
    if len(found):
        example, draw, row = found[0].tolist()
        what = f"with token {row - 1} replaced in draw {draw}" if row else "as it is"
        raise FloatingPointError(
            f"the model's output is not finite for example {index[example]} {what} ({len(found)} such outputs in all); "
            "look at the parameters, or at the size of the perturbation"
        )


def _check_changes(recorded: np.ndarray, sites: np.ndarray, index: np.ndarray) -> None:
    found = np.argwhere(~np.isfinite(recorded) & sites[:, None])
    if len(found):
        example, draw, token = found[0].tolist()
        raise FloatingPointError(
            f"the change is {recorded[example, draw, token]} for example {index[example]}, draw {draw}, token {token} "
            f"({len(found)} such changes in all), though the outputs are finite; look at the change function"
        )
