"""Token sensitivity: how the output of a model changes when one token of its input is perturbed."""

import warnings
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import changes, perturb, substitution
from jaxsens.execution import batches, checks, memory, parallel
from jaxsens.execution.checks import device_arrays, require_count
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.output_positions import one_position
from jaxsens.sensitivity import misfits, outputs
from jaxsens.sensitivity import sites as token_sites
from jaxsens.sensitivity.recorded import sensitivity_of
from jaxsens.sensitivity.results import Sensitivity
from jaxsens.sensitivity.sites import Groups, Members, Sites
from jaxsens.typing import Array, Change, Key, Perturbation, PyTree, Substitute, SubstituteAt

__all__ = ["Sensitivity", "TokenSensitivity", "token_sensitivity"]


def token_sensitivity(
    substitute: Substitute | SubstituteAt,
    perturbation: Perturbation,
    *,
    change: Change = changes.prediction_change,
    draws: int = 1,
    sites_drawn: int | None = None,
    execution: Execution = DEFAULT,
) -> "TokenSensitivity":
    """Measure how the output changes when one token is perturbed, for all tokens of all examples.

    ``S = mean over examples X, draws and sites i of change(f(X), f(X with token i replaced))``. Values are averaged
    over an example's draws and sites, then over examples; the error bar is over examples. (With
    ``changes.prediction_change`` the normalized sensitivity of Def. 4.1 in Vasudeva et al., Transformers Learn Low
    Sensitivity Functions.)

    Args:
        substitute: The primitive, such as ``substitution.one_at_a_time(model.apply)``, whose model is checked to give
            outputs that do not depend on the batch; a substitute of your own is not checked for that.
        perturbation: Sampler of replacements for a token, such as ``perturb.gaussian(variance=1.0)``.
        change: Function recorded of ``(clean [*k], changed [*k])``, a scalar. For a model with an output for each
            token, ``[b t *k]``, pass ``changes.over_positions(change)``: the mean over positions of the output.
        draws: Independent replacements of every token.
        sites_drawn: Perturb this many of each example's sites, drawn without replacement, and count only those, or all
            sites of an example that has fewer. Each change equals the one recorded when all sites are perturbed, and
            the mean is an unbiased estimate of the mean over all sites. ``substitute`` must take sites. By default all
            sites are perturbed.
        execution: How to run; its ``chunk`` counts model forwards, ``t + 1`` (or ``sites_drawn + 1``) for an example
            and draw; at least one example and draw is evaluated at once.

    Returns:
        ``measure(key, params, tokens [b t *s], mask=None, sites=None, index=None)`` -> ``Sensitivity``. ``mask [b t]``
        says which tokens are real, by default all; ``sites [b t]`` (or ``[t]`` for all examples, or lists of positions)
        which are perturbed and counted, by default the real ones; padding never is. With ``sites=Groups(labels)`` the
        tokens of a group change together, and groups have the place of tokens in the result; ``substitute`` must then
        be that of ``one_at_a_time``. ``index [b]`` numbers the examples, by default from 0: a part of a data set with
        its numbers in the whole gets the draws of the whole. Tokens in float16 or bfloat16 are perturbed and evaluated
        as float32. ``measure.over_models`` measures many models at once.

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
    misfits.require_parts(substitute, perturbation, change)
    draws = require_count("draws", draws)
    if sites_drawn is not None:
        sites_drawn = _require_few(substitute, sites_drawn)
    return TokenSensitivity(substitute, perturbation, change, draws, sites_drawn, execution)


@dataclass(frozen=True)
class TokenSensitivity:
    """The measure that ``token_sensitivity`` returns: call it, or ``over_models``.

    Attributes:
        substitute: The primitive.
        perturbation: Sampler of replacements for a token.
        change: Function recorded of a clean and a changed output.
        draws: Independent replacements of every token.
        sites_drawn: How many of each example's sites are perturbed; None for all.
        execution: How to run.

    Example:
        >>> total = substitution.one_at_a_time(lambda params, x: x.sum(1))
        >>> measure = token_sensitivity(total, perturb.gaussian(1.0), draws=3)
        >>> isinstance(measure, TokenSensitivity), measure.draws
        (True, 3)
    """

    substitute: Substitute | SubstituteAt
    perturbation: Perturbation
    change: Change
    draws: int
    sites_drawn: int | None
    execution: Execution

    def __call__(
        self,
        key: Key,
        params: PyTree,
        tokens: Array,
        mask: Array | None = None,
        sites: Sites | Groups | Members | None = None,
        index: Array | None = None,
    ) -> Sensitivity:
        """Return the sensitivity of one model; see ``token_sensitivity``."""
        items = _items(self, tokens, mask, sites, index)
        return _measure(self, require_key(key), params, None, *items, index is None)[0]

    def over_models(
        self,
        key: Key,
        stacked: PyTree,
        tokens: Array,
        mask: Array | None = None,
        sites: Sites | Groups | Members | None = None,
        index: Array | None = None,
    ) -> list[Sensitivity]:
        """Return the results of calls with the params of each model, up to rounding, from one launch.

        The draws are the same for every model. To average over models or to compare groups of them, pass their
        ``per_example`` to ``estimate.over_models`` and ``estimate.difference``; ``first.minus(second)`` compares two.

        Args:
            key: Decides the draws.
            stacked: The params of all models, with a leading axis ``[m ...]``, on each device.
            tokens: The examples, the same for every model; like the arguments after it as in a call.
            mask: Which tokens are real.
            sites: Which tokens are perturbed and counted.
            index: Numbers of the examples.
        """
        items, models = _items(self, tokens, mask, sites, index), batches.count_of_models(stacked)
        return _measure(self, require_key(key), stacked, models, *items, index is None)


def _items(
    measure: TokenSensitivity,
    tokens: Array,
    mask: Array | None,
    sites: Sites | Groups | Members | None,
    index: Array | None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray | None, np.ndarray]:
    """Return tokens ``[b t *s]``, mask, sites ``[b t]`` or ``[b g]``, groups ``[b g t]`` or None, and numbers."""
    tokens, mask, sites, groups = token_sites.checked_groups(tokens, mask, sites)
    if groups is not None:
        substitution.require_replaces_groups(measure.substitute)
    return tokens, mask, sites, groups, checks.require_index(index, len(tokens))


def _measure(
    measure: TokenSensitivity,
    key: Key,
    params: PyTree,
    models: int | None,
    tokens: np.ndarray,
    mask: np.ndarray | None,
    sites: np.ndarray,
    groups: np.ndarray | None,
    index: np.ndarray,
    whole: bool,
) -> list[Sensitivity]:
    """Return the sensitivity of one model, or with ``models`` of each of many, whose params are stacked."""
    substitute, change, draws = measure.substitute, measure.change, measure.draws
    sites_drawn, execution = measure.sites_drawn, measure.execution
    sampler, length = perturb.as_pytree(measure.perturbation), sites.shape[1]
    if sites_drawn is not None and sites_drawn > length:
        what = "tokens" if groups is None else "groups"
        raise ValueError(f"sites_drawn must be at most the number of {what}, {length}, got {sites_drawn}")
    params = device_arrays(params, "params")
    misfits.require_mask(substitute, mask)
    changes.warn_of_coordinates(getattr(substitute, "apply", substitute), change)
    forwards_each = 1 + (length if sites_drawn is None else sites_drawn)
    # Where all sites are evaluated they are selected afterwards, and the devices do not need them.
    drawn_from = None if sites_drawn is None else sites
    items = (index, tokens, mask, drawn_from, groups, outputs.counted(change, mask, sites, groups, tokens.shape[:2]))
    spec = batches.item_spec(items)
    first = params if models is None else batches.select_model(params, 0)
    try:
        forwards = execution.chunk or _default_chunk(substitute, first, spec, sites_drawn, execution)
        at_once = min(draws, max(1, forwards // forwards_each))
        fn = parallel.bind(_example_changes, substitute, change, draws, at_once, sites_drawn)
        jax.eval_shape(fn, spec, key, first, sampler)
    except Exception as error:
        raise misfits.misfit(substitute, sampler, change, key, first, *spec[1:3], error) from error
    try:
        rate = outputs.rate_of(substitute, change, first, *spec[1:3])
        substitution.require_independent_outputs(substitute, first, tokens, mask, execution=execution)
    except ValueError as error:  # another axis may have been taken for that of the examples
        raise misfits.misfit_of_model(substitute.apply, first, *spec[1:3]) or error from None
    outputs.warn_of_tokens(substitute, change, first, *spec[1:3])
    at_once_examples = max(1, forwards // (at_once * forwards_each))
    each = fn if models is None else parallel.bind(batches.of_each_model, fn)
    results = parallel.map_items(each, items, key, params, sampler, execution=execution.replace(chunk=at_once_examples))
    per_model = [results] if models is None else [jax.tree.map(lambda a, i=i: a[:, i], results) for i in range(models)]
    by_argmax = one_position(change) is changes.prediction_change
    if per_model[0][2] is not None and any(result[2].all() for result in per_model):
        _warn_of_probabilities()
    elif whole and per_model[0][2] is not None and by_argmax and not results[0].any():
        _warn_of_one_score()
    prefixes = [""] if models is None else [f"params {i}: " for i in range(models)]
    return [
        sensitivity_of(recorded, nonfinite, drawn, sites, index, forwards, prefix, rate)
        for (recorded, nonfinite, _, drawn), prefix in zip(per_model, prefixes, strict=True)
    ]


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
        The changes ``[draws n]`` of all t tokens or groups, or of the drawn ones; whether the clean and the changed
        outputs are not finite ``[draws 1 + n]``; whether all scores lie strictly between 0 and 1, where predictions are
        read from a sign, else None; and the numbers of what was drawn ``[n]`` or None.
    """
    index, tokens, mask, sites, groups, counted = item
    example_key = jax.random.fold_in(key, index)
    # Numbers of tokens or groups where some are drawn; else None for all tokens.
    numbers = None if sites_drawn is None else token_sites.drawn(example_key, sites, sites_drawn)
    chosen = numbers if groups is None else groups if numbers is None else groups[numbers]
    few = () if chosen is None else (chosen,)
    evaluated = len(tokens) if chosen is None else len(chosen)
    along = (change,) if counted is None else (change, counted, outputs.replaced(chosen, len(tokens)))

    def one_draw(draw: Array) -> tuple[Array, Array, Array | None]:
        alternatives = perturbation(example_key, draw, tokens)
        clean, changed = substitute(params, tokens, alternatives, mask, *few)
        clean, changed = outputs.without_padding(counted, clean), outputs.without_padding(counted, changed, 1)
        recorded = outputs.recorded(clean, changed, *along)
        if recorded.shape != (evaluated,):
            raise ValueError(f"change must map an example's outputs to a scalar, got shape {recorded.shape[1:]}")
        nonfinite = [changes.nonfinite(jax.tree.map(lambda a: a[None], clean)), changes.nonfinite(changed)]
        fraction = None
        scores = 1 if counted is None else len(tokens)
        by_sign = one_position(change) in (changes.prediction_change, changes.sign_change)
        if by_sign and hasattr(clean, "size") and clean.size == scores:
            fraction = outputs.all_fractions(counted, clean) & outputs.all_fractions(counted, changed)
        return recorded, jnp.concatenate(nonfinite), fraction

    results = jax.lax.map(one_draw, jnp.arange(draws, dtype=jnp.uint32), batch_size=at_once)
    return *results, numbers


def _warn_of_probabilities() -> None:
    warnings.warn(
        "every score lies between 0 and 1, as a sigmoid's does, and the prediction is read from its sign, which never "
        "changes: return the logit, or subtract 0.5",
        UserWarning,
        stacklevel=4,
    )


def _warn_of_one_score() -> None:
    warnings.warn(
        "no prediction changed, and the model gives one number for an example, whose sign is taken for the prediction: "
        "for a regression pass change=changes.squared_change; for a classifier with another threshold subtract it; "
        "change=changes.sign_change says that the sign is meant",
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


def _default_chunk(
    substitute: Substitute | SubstituteAt, params: PyTree, one: PyTree, sites_drawn: int | None, execution: Execution
) -> int:
    """Return the forwards that fit the budget, from the memory of one example's substitution."""
    tokens, mask = one[1:3]
    few = () if sites_drawn is None else (jax.ShapeDtypeStruct((sites_drawn,), np.int32),)
    examples = memory.chunk_of(substitute, params, tokens, tokens, mask, *few, execution=execution)
    return examples * ((tokens.shape[0] if sites_drawn is None else sites_drawn) + 1)
