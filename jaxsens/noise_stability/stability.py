"""Noise stability of a model: the similarity of its outputs for inputs of which all tokens are perturbed at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import changes, perturb
from jaxsens.execution import batches, checks, independence, memory, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.noise_stability.correlated import Correlation, require_rhos
from jaxsens.noise_stability.products import prediction_product
from jaxsens.noise_stability.result import NoiseStability
from jaxsens.sensitivity import sites as token_sites
from jaxsens.sensitivity.sites import Sites
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Apply, Array, Change, Key, Perturbation, PyTree

__all__ = ["NoiseStabilityMeasure", "all_tokens_change", "noise_stability"]


def noise_stability(
    apply: Apply,
    noise: Correlation,
    rhos: Sequence[float],
    *,
    product: Change = prediction_product,
    draws: int = 1,
    execution: Execution = DEFAULT,
) -> "NoiseStabilityMeasure":
    """Measure ``Stab_rho(f) = E[f(x) f(y)]``, x an example and y a copy with correlation rho in all tokens at once.

    A value is the mean product over an example's draws, and the curve is the mean over examples, the independent units.
    It estimates the noise stability of f if the examples are drawn from the law that the noise leaves as it is:
    ``boolean.strings.uniform`` for bits, normal vectors for ``CorrelatedGaussian``. For examples of a data set it is
    their mean similarity under this noise. (O'Donnell, Analysis of Boolean Functions, Def. 2.42; Haris, Zhang and
    Yoshida, Noise Stability of Transformer Models, 2026, arXiv 2602.08287, propose it in the place of sensitivity.)

    Args:
        apply: ``apply(params, tokens [b t *s], mask [b t])`` -> outputs ``[b *k]``; called without a mask where there
            is none.
        noise: Sampler ``(key, draw, x, rho) -> y``: ``CorrelatedBits()``, ``CorrelatedGaussian(variance)`` or
            ``Redrawn(sampler)``.
        rhos: Correlations ``[r]``, different numbers from -1 to 1 (from 0 for ``Redrawn``); they share their noise.
        product: Function recorded of the two outputs of an example: ``prediction_product``, or ``inner_product`` for
            functions with real values.
        draws: Correlated copies of each example, for each rho.
        execution: How to run; its ``chunk`` counts model forwards, ``1 + r draws`` for an example.

    Returns:
        ``measure(key, params, tokens, mask=None, sites=None, index=None)`` -> ``NoiseStability``, with arguments as
        those of ``token_sensitivity``: tokens that are no ``sites`` stay as they are. ``measure.over_models(key,
        stacked, ...)`` measures many models with the same draws.

    Raises:
        ValueError: If rhos are not different numbers that the noise takes, or ``draws`` is not an integer of at least
            1; when called, if the key is not a typed threefry key, the model or the noise does not accept the tokens,
            or outputs depend on the batch.
        FloatingPointError: When called, if an output or product is not finite; the message says where the first one is.

    Example:
        >>> from jaxsens.boolean import strings
        >>> from jaxsens.noise_stability import CorrelatedBits
        >>> measure = noise_stability(lambda params, bits: 1.0 - 2 * (bits.sum(1) % 2), CorrelatedBits(), [0.5, 1.0])
        >>> stability = measure(jax.random.key(0), None, strings.uniform(jax.random.key(1), 4000, 2))
        >>> bool(abs(stability.mean[0] - 0.5**2) < 4 * stability.sem[0]), stability.mean[1]  # parity of two bits: rho^2
        (True, np.float64(1.0))
    """
    require_execution(execution)
    checks.require_functions(apply=apply, noise=noise, product=product)
    numbers = tuple(require_rhos(rhos, noise).tolist())
    return NoiseStabilityMeasure(apply, noise, numbers, product, checks.require_count("draws", draws), execution)


def all_tokens_change(
    apply: Apply,
    perturbation: Perturbation,
    *,
    change: Change = changes.prediction_change,
    draws: int = 1,
    execution: Execution = DEFAULT,
) -> Callable[..., Estimate]:
    """Measure ``E[change(f(X), f(X'))]``, X' the example with all its tokens perturbed at once.

    It is the estimator of ``noise_stability`` with another noise and another function of the two outputs. Vasudeva et
    al. (Transformers Learn Low Sensitivity Functions, Table 4) report it with Gaussian noise and ``prediction_change``
    beside the sensitivity to one token. For predictions of values +-1, ``E[f(x) f(y)] = 1 - 2 P[f(x) != f(y)]``.

    Args:
        apply: As for ``noise_stability``.
        perturbation: Sampler of replacements for all tokens, such as ``perturb.gaussian(variance=0.025)``.
        change: Function recorded of ``(clean [*k], changed [*k])``, a scalar.
        draws: Perturbed copies of each example.
        execution: How to run; its ``chunk`` counts model forwards, ``1 + draws`` for an example.

    Returns:
        ``measure(key, params, tokens, mask=None, sites=None, index=None)`` -> ``Estimate`` over examples.

    Raises:
        ValueError: As ``noise_stability`` does.
        FloatingPointError: As ``noise_stability`` does.

    Example:
        >>> measure = all_tokens_change(lambda params, x: x.sum((1, 2)), lambda key, draw, x: -x)
        >>> measure(jax.random.key(0), None, np.ones((5, 3, 2), np.float32)).mean
        np.float64(1.0)
    """
    require_execution(execution)
    checks.require_functions(apply=apply, perturbation=perturbation, change=change)
    draws = checks.require_count("draws", draws)
    measure = NoiseStabilityMeasure(apply, _AnyCorrelation(perturbation), (0.0,), change, draws, execution)

    def measured(*args: PyTree, **kwargs: PyTree) -> Estimate:
        """Return the estimate for one model; the arguments are those of ``NoiseStabilityMeasure``."""
        result = measure(*args, **kwargs)
        return NoiseStability(result.rhos, result.values[:, 0], result.rate, result.draws).estimate

    return measured


@dataclass(frozen=True)
class NoiseStabilityMeasure:
    """The measure that ``noise_stability`` returns: call it, or ``over_models``.

    Attributes:
        apply: The model.
        noise: Sampler of correlated copies.
        rhos: The correlations.
        product: Function recorded of the two outputs of an example.
        draws: Correlated copies of each example.
        execution: How to run.

    Example:
        >>> from jaxsens.noise_stability import CorrelatedGaussian
        >>> noise_stability(lambda w, x: x @ w, CorrelatedGaussian(), [0.9], draws=3).draws
        3
    """

    apply: Apply
    noise: Correlation
    rhos: tuple[float, ...]
    product: Change
    draws: int
    execution: Execution

    def __call__(
        self,
        key: Key,
        params: PyTree,
        tokens: Array,
        mask: Array | None = None,
        sites: Sites | None = None,
        index: Array | None = None,
    ) -> NoiseStability:
        """Return the noise stability of one model; see ``noise_stability``."""
        return self._measure(key, params, None, tokens, mask, sites, index)[0]

    def over_models(
        self,
        key: Key,
        stacked: PyTree,
        tokens: Array,
        mask: Array | None = None,
        sites: Sites | None = None,
        index: Array | None = None,
    ) -> list[NoiseStability]:
        """Return the results of calls with the params of each model ``[m ...]``, up to rounding, from one launch."""
        return self._measure(key, stacked, batches.count_of_models(stacked), tokens, mask, sites, index)

    def _measure(
        self, key: Key, params: PyTree, models: int | None, tokens: Array, mask: Array | None, sites: Sites | None,
        index: Array | None,
    ) -> list[NoiseStability]:  # fmt: skip
        require_key(key)
        tokens, mask, sites = token_sites.checked(tokens, mask, sites)
        params = checks.device_arrays(params, "params")
        first = params if models is None else batches.select_model(params, 0)
        batch, fn = (tokens, mask), parallel.bind(_outputs, self.apply)
        spec = batches.example_spec(batch)
        batches.require_fit(fn, first, spec)
        independence.require_independent(fn, first, batch, execution=self.execution)
        forwards = self.execution.chunk or memory.chunk_of(fn, first, spec, execution=self.execution)
        at_once = min(self.draws, max(1, (forwards - 1) // len(self.rhos)))
        items = (checks.require_index(index, len(tokens)), tokens, mask, sites)
        rhos, noise = np.asarray(self.rhos, np.float32), perturb.as_pytree(self.noise)
        each = parallel.bind(_products, self.apply, self.product, self.draws, at_once)
        each = each if models is None else parallel.bind(batches.of_each_model, each)
        execution = self.execution.replace(chunk=max(1, forwards // (1 + at_once * len(self.rhos))))
        results = parallel.map_items(each, items, key, params, noise, rhos, execution=execution)
        results = [a[:, None] if models is None else a for a in results]  # [b m draws r]
        for name, bad in zip(("output", "product"), (results[1], ~np.isfinite(results[0])), strict=True):
            _require_finite(name, bad, items[0], self.rhos, models)
        rate = results[0].dtype == bool
        values = np.moveaxis(results[0].mean(2, dtype=np.float64), 1, 0)
        return [NoiseStability(np.asarray(self.rhos), of_model, rate, self.draws) for of_model in values]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class _AnyCorrelation:
    """A perturbation that does not depend on the correlation."""

    perturbation: Perturbation

    def __call__(self, key: Key, draw: Array, x: Array, rho: Array) -> Array:
        del rho
        return self.perturbation(key, draw, x)

    def tree_flatten(self) -> tuple[tuple[PyTree], None]:
        return (perturb.as_pytree(self.perturbation),), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[PyTree]) -> "_AnyCorrelation":
        return cls(*children)


def _outputs(apply: Apply, params: PyTree, batch: tuple[Array, Array | None]) -> PyTree:
    tokens, mask = batch
    return apply(params, tokens) if mask is None else apply(params, tokens, mask)


def _products(
    apply: Apply, product: Change, draws: int, at_once: int, item: PyTree, key: Key, params: PyTree, noise: Correlation,
    rhos: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """Return the products ``[draws r]`` of one example, and where outputs are not finite."""
    index, tokens, mask, sites = item
    example_key = jax.random.fold_in(key, index)
    moved_sites = sites.reshape(-1, *[1] * (tokens.ndim - 1))

    def batch(copies: Array) -> tuple[Array, Array | None]:
        return copies, None if mask is None else jnp.broadcast_to(mask, (len(copies), *mask.shape))

    clean = jax.tree.map(lambda a: a[0], _outputs(apply, params, batch(tokens[None])))

    def one_draw(draw: Array) -> tuple[Array, Array]:
        copies = jax.vmap(lambda rho: noise(example_key, draw, tokens, rho))(rhos)
        if copies.shape[1:] != tokens.shape or copies.dtype != tokens.dtype:
            raise ValueError(f"noise must return {tokens.shape} {tokens.dtype}, got {copies.shape[1:]} {copies.dtype}")
        changed = _outputs(apply, params, batch(jnp.where(moved_sites, copies, tokens)))
        recorded = jax.vmap(product, (None, 0))(clean, changed)
        if recorded.shape != rhos.shape:
            raise ValueError(f"product must map an example's outputs to a scalar, got shape {recorded.shape[1:]}")
        return recorded, changes.nonfinite(changed) | changes.nonfinite(jax.tree.map(lambda a: a[None], clean))

    return jax.lax.map(one_draw, jnp.arange(draws, dtype=jnp.uint32), batch_size=at_once)


def _require_finite(name: str, bad: np.ndarray, index: np.ndarray, rhos: tuple[float, ...], models: int | None) -> None:
    """Raise FloatingPointError at the first entry of ``bad [b m draws r]``."""
    if bad.any():
        example, model, draw, place = np.argwhere(bad)[0].tolist()
        prefix = "" if models is None else f"params {model}: "
        raise FloatingPointError(
            f"{prefix}the {name} is not finite for example {index[example]}, draw {draw}, rho {rhos[place]:g}; look at "
            "the parameters, or at the size of the noise"
        )
