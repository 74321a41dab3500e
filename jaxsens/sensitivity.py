"""Token sensitivity: how the output of a model changes when one token of its input is perturbed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import budget, changes, estimate, parallel, perturb, token_sites
from jaxsens.typing import Array, Change, Key, Perturbation, PyTree, Substitute


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
    substitute: Substitute,
    perturbation: Perturbation,
    *,
    change: Change = changes.prediction_change,
    draws: int = 1,
    chunk: int | None = None,
    backend: str = "pmap",
    devices: Sequence[jax.Device] | None = None,
    progress: str | None = None,
    precision: str = "highest",
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
        chunk: Model forwards evaluated at once on a device, ``t + 1`` for an example and draw; at least one example and
            draw is. ``None`` fits ``budget.BYTES``. It alters results by rounding only.
        backend: ``"pmap"`` or ``"shard_map"``; results are equal to the bit.
        devices: Devices to use, by default all of this process.
        progress: Label of a progress bar.
        precision: Of matrix products, as in ``jax.default_matmul_precision``.

    Returns:
        ``measure(key, params, tokens [b t *s], mask=None, sites=None)`` -> ``Sensitivity``. ``mask [b t]`` says which
        tokens are real, by default all; ``sites [b t]`` (or ``[t]`` for all examples alike) which are perturbed and
        counted, by default the real ones; padding never is.

    Raises:
        ValueError: If ``draws`` or ``chunk`` is smaller than 1; when called, if the model cannot take the tokens, if
            there is no example, or if an example has no site.
        FloatingPointError: When called, if an output is not finite; the message says where the first one is.
    """
    budget.require_counts(draws, chunk)
    numbers, rebuild = perturb.separate(perturbation)

    def measure(
        key: Key, params: PyTree, tokens: Array, mask: Array | None = None, sites: Array | None = None
    ) -> Sensitivity:
        tokens, mask, sites = token_sites.checked(tokens, mask, sites)
        count, length = tokens.shape[:2]
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (tokens, mask))
        forwards = chunk or _default_chunk(substitute, params, *one)
        at_once = min(draws, max(1, forwards // (length + 1)))
        fn = _ExampleChanges(substitute, rebuild, change, draws, at_once, precision)
        index = np.arange(count, dtype=np.uint32)
        _check_fit(fn, key, params, numbers, *one)
        recorded, nonfinite = parallel.map_items(
            fn,
            (index, tokens, mask),
            key,
            params,
            numbers,
            chunk=max(1, forwards // (at_once * (length + 1))),
            backend=backend,
            devices=devices,
            progress=progress,
        )
        _check_finite(nonfinite, sites)
        _check_changes(recorded, sites)
        recorded = np.where(sites[:, None], recorded, np.zeros((), recorded.dtype))
        return Sensitivity(recorded, sites, recorded.dtype == bool, forwards)

    return measure


@dataclass(frozen=True)
class _ExampleChanges:
    """The changes of one example for all draws and tokens; equal ones share compiled code."""

    substitute: Substitute
    rebuild: Callable[[tuple[Array, ...]], Perturbation]
    change: Change
    draws: int
    at_once: int
    precision: str

    def __call__(self, item: PyTree, key: Key, params: PyTree, numbers: tuple[Array, ...]) -> tuple[Array, Array]:
        index, tokens, mask = item
        perturbation = self.rebuild(numbers)
        example_key = jax.random.fold_in(key, index)

        def one_draw(draw: Array) -> tuple[Array, Array]:
            alternatives = perturbation(example_key, draw, tokens)
            clean, changed = self.substitute(params, tokens, alternatives, mask)
            recorded = jax.vmap(self.change, in_axes=(None, 0))(clean, changed)
            if recorded.shape != tokens.shape[:1]:
                raise ValueError(f"change must map an example's outputs to a scalar, got shape {recorded.shape[1:]}")
            clean_bad = changes.nonfinite(jax.tree.map(lambda a: a[None], clean))
            return recorded, jnp.concatenate([clean_bad, changes.nonfinite(changed)])

        with jax.default_matmul_precision(self.precision):
            return jax.lax.map(one_draw, jnp.arange(self.draws, dtype=jnp.uint32), batch_size=self.at_once)


def _default_chunk(substitute: Substitute, params: PyTree, tokens: Any, mask: Any) -> int:
    """Return the forwards that fit the budget, from the memory of one example's substitution."""
    try:
        examples = budget.chunk_of(substitute, params, tokens, tokens, mask)
    except Exception as error:
        raise _misfit(tokens, error) from error
    return examples * (tokens.shape[0] + 1)


def _check_fit(fn: Callable, key: Key, params: PyTree, numbers: tuple, tokens: Any, mask: Any) -> None:
    try:
        jax.eval_shape(fn, (jax.ShapeDtypeStruct((), np.uint32), tokens, mask), key, params, numbers)
    except Exception as error:
        raise _misfit(tokens, error) from error


def _misfit(tokens: Any, error: Exception) -> ValueError:
    return ValueError(
        f"tokens of shape {tokens.shape} and type {tokens.dtype} (for one example), params, perturbation and change do "
        f"not fit together: {error}"
    )


def _check_finite(nonfinite: np.ndarray, sites: np.ndarray) -> None:
    """Raise if an output that counts is not finite: ``nonfinite [b draws 1 + t]``, the clean output first."""
    counted = np.concatenate([np.ones((len(sites), 1), bool), sites], 1)
    found = np.argwhere(nonfinite & counted[:, None])
    if len(found):
        example, draw, row = found[0].tolist()
        what = f"with token {row - 1} replaced in draw {draw}" if row else "as it is"
        raise FloatingPointError(
            f"the model's output is not finite for example {example} {what} ({len(found)} such outputs in all); "
            "look at the parameters, or at the size of the perturbation"
        )


def _check_changes(recorded: np.ndarray, sites: np.ndarray) -> None:
    found = np.argwhere(~np.isfinite(recorded) & sites[:, None])
    if len(found):
        example, draw, token = found[0].tolist()
        raise FloatingPointError(
            f"the change is {recorded[example, draw, token]} for example {example}, draw {draw}, token {token} "
            f"({len(found)} such changes in all), though the outputs are finite; look at the change function"
        )
