"""Token sensitivity in low precision first, recomputed in float32 where low precision cannot decide."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import changes, perturb, substitution
from jaxsens.execution import parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.results.result import Description
from jaxsens.sensitivity import misfits, screening
from jaxsens.sensitivity import sites as token_sites
from jaxsens.sensitivity.results import Delegated, Sensitivity
from jaxsens.sensitivity.screening import Screening
from jaxsens.sensitivity.sites import Groups, Sites
from jaxsens.sensitivity.token import token_sensitivity
from jaxsens.typing import Array, Change, Key, Perturbation, PyTree, Substitute, SubstituteAt

__all__ = ["ScreenedSensitivity", "screened_token_sensitivity"]


@partial(jax.tree_util.register_dataclass, data_fields=["measured"], meta_fields=["screening"])
@dataclass(frozen=True, repr=False)
class ScreenedSensitivity(Delegated):
    """The sensitivity, and how many of its changes were recomputed in float32.

    Attributes:
        measured: The changes.
        screening: How many changes were accepted, recomputed and audited; its bound is on the error of a difference of
            two logits.

    Example:
        >>> measured = Sensitivity(np.array([[[True, False]]]), np.ones((1, 2), bool), True, 3)
        >>> result = ScreenedSensitivity(measured, Screening(bound=0.1, total=2, redone=1, audited=1, disagreed=0))
        >>> result.mean, result.screening.redone
        (0.5, 1)
    """

    measured: Sensitivity
    screening: Screening

    def _describe(self) -> Description:
        whole = self.measured._describe()
        return replace(whole, facts={**whole.facts, **self.screening.facts()})


def screened_token_sensitivity(
    substitute: Substitute | SubstituteAt,
    perturbation: Perturbation,
    *,
    screen: Substitute | None = None,
    screen_precision: str = "default",
    calibration: int = 32,
    safety: float = 2.0,
    audit: int = 1000,
    change: Change = changes.prediction_change,
    draws: int = 1,
    execution: Execution = DEFAULT,
) -> Callable[..., ScreenedSensitivity]:
    """Measure how often predictions change: mostly in low precision, with the result of float32.

    ``S = mean over examples X, draws and sites i of [prediction(f(X)) != prediction(f(X with token i replaced))]``.

    The margin of a prediction is the largest logit less the second, or the absolute value of a score. Low precision has
    the right class wherever its margin exceeds the error of its differences of logits. That error is measured on
    ``calibration`` examples and all their substitutions: ``bound = safety * max (max_k e_k - min_k e_k)`` over the
    errors e of their logits (``|e|`` of a score). Then everything is computed in low precision. A change is accepted if
    the clean and the changed margin exceed the bound; the others are recomputed, and so are ``audit`` accepted ones
    drawn at random, to estimate how many accepted changes are wrong.

    Screening saves time where margins are large, as in trained models, and where matrix products dominate. It is for
    accelerators: on a CPU the default precision is float32, so that everything is computed as in ``token_sensitivity``,
    and then calibration and audit. ``python -m experiments.benchmark.micro.screening`` measures what it saves. On an
    accelerator it was not measured yet; ``scripts/prove_on_accelerator`` does so for a ViT.

    Args:
        substitute: The primitive, in full precision; if it takes sites, only the sites in doubt are recomputed.
        perturbation: Sampler of replacements for a token.
        screen: The primitive in low precision, for the same parameters, such as that of a model with
            ``dtype="bfloat16"``. By default ``substitute``, with matrix products in ``screen_precision``.
        screen_precision: Precision of matrix products while screening: ``"default"`` is TF32 on a GPU, bfloat16 on a
            TPU and float32 on a CPU.
        calibration: The number of examples on which the bound is measured; all, if there are fewer.
        safety: The bound in multiples of the largest observed error.
        audit: The number of accepted changes that are recomputed.
        change: ``changes.prediction_change`` or ``changes.sign_change``, which margins decide.
        draws: Independent replacements of every token.
        execution: How to run; its ``chunk`` counts model forwards, and its precision is the full one.

    Returns:
        ``measure(key, params, tokens [b t *s], mask=None, sites=None)`` -> ``ScreenedSensitivity``. Recomputed changes
        equal those of ``token_sensitivity`` with the same key to the bit. Sites are as there; with ``Groups(labels)``
        both primitives must be those of ``one_at_a_time``.

    Raises:
        ValueError: If ``change`` is another function, ``draws`` or ``calibration`` is smaller than 1, or ``safety`` or
            ``audit`` is negative; when called, if the key is not a typed threefry key, the model does not accept the
            tokens, or there is no example or an example without a site.
        FloatingPointError: When called, if an output is not finite, in either precision. TF32 and bfloat16 have the
            range of float32; float16 does not.

    Example:
        >>> substitute = substitution.one_at_a_time(lambda w, x: jnp.einsum("btd,d->b", x, w))
        >>> measure = screened_token_sensitivity(substitute, perturb.gaussian(1.0))
        >>> result = measure(jax.random.key(0), np.ones(2, np.float32), np.ones((8, 3, 2), np.float32))
        >>> result.screening.total, result.screening.disagreed
        (24, 0)
    """
    require_execution(execution)
    misfits.require_parts(substitute, perturbation, change)
    if change not in (changes.prediction_change, changes.sign_change):
        raise ValueError(
            f"change must be prediction_change or sign_change, which a margin decides, got {change}: use "
            "token_sensitivity for others"
        )
    screening.require(calibration, safety, audit)
    screen = substitute if screen is None else screen
    fast = execution.replace(precision=screen_precision)
    low = token_sensitivity(screen, perturbation, change=_signed_margin, draws=draws, execution=fast)
    sampler = perturb.as_pytree(perturbation)
    silent = execution.replace(progress=None)
    full = partial(token_sensitivity, substitute, perturbation, change=change, draws=draws, execution=silent)
    full()  # checks its arguments
    errors = parallel.bind(_errors, substitute, screen, execution.precision, screen_precision)

    def measure(
        key: Key, params: PyTree, tokens: Array, mask: Array | None = None, sites: Sites | Groups | None = None
    ) -> ScreenedSensitivity:
        require_key(key)
        tokens, mask, sites, groups = token_sites.checked_groups(tokens, mask, sites)
        if groups is not None:
            substitution.require_replaces_groups(substitute)
        screened = low(key, params, tokens, mask, token_sites.selected(sites, groups))
        which = screening.for_calibration(key, len(tokens), calibration)
        parts = (None if a is None else a[which] for a in (mask, groups))
        items = which.astype(np.uint32), tokens[which], *parts
        spread = parallel.map_items(errors, items, key, params, sampler, execution=silent.replace(chunk=1))
        counted = np.concatenate([np.ones((len(which), 1), bool), sites[which]], 1)
        bound = safety * float(spread[counted].max())
        decisions = screened.changes < 0
        trusted = np.abs(screened.changes) > bound
        doubtful = sites & ~trusted.all(1)
        recomputed = partial(_recomputed, full, substitute, key, params, tokens, mask, groups)
        screening.revise(decisions, doubtful[:, None], recomputed(doubtful))
        audited = screening.for_audit(key, sites & ~doubtful, -(-audit // draws))
        disagreed = screening.revise(decisions, audited[:, None], recomputed(audited))
        counts = (draws * int(which.sum()) for which in (sites, doubtful, audited))
        measured = Sensitivity(decisions & sites[:, None], sites, True, screened.chunk)
        return ScreenedSensitivity(measured, Screening(bound, *counts, disagreed))

    return measure


def _signed_margin(clean: Array, changed: Array) -> Array:
    """Return the smaller margin of both predictions, negative where the predictions differ."""
    differ = changes.prediction_change(clean, changed)
    margin = jnp.minimum(_margin(clean), _margin(changed))
    # A margin of 0 has no sign, but is never above the bound either.
    return jnp.where(differ, -margin, margin)


def _margin(output: Array) -> Array:
    output = changes.at_least_float32(output).astype(jnp.float32)
    if output.size == 1:
        return jnp.abs(output).reshape(())
    first, second = jax.lax.top_k(output, 2)[0]
    return first - second


def _errors(
    substitute: Substitute,
    screen: Substitute,
    precision: str,
    screen_precision: str,
    item: PyTree,
    key: Key,
    params: PyTree,
    perturbation: Perturbation,
) -> Array:
    """Return the largest error of a difference of logits in low precision, ``[1 + n]``, the clean output first."""
    index, tokens, mask, groups = item
    few = () if groups is None else (groups,)
    alternatives = perturbation(jax.random.fold_in(key, index), jnp.uint32(0), tokens)
    outputs = []
    for evaluate, at in ((substitute, precision), (screen, screen_precision)):
        with jax.default_matmul_precision(at):
            clean, changed = evaluate(params, tokens, alternatives, mask, *few)
        outputs.append(jnp.concatenate([clean[None], changed]).reshape(1 + len(changed), -1).astype(jnp.float32))
    errors = outputs[1] - outputs[0]
    return jnp.abs(errors[:, 0]) if errors.shape[1] == 1 else errors.max(1) - errors.min(1)


def _recomputed(
    full: Callable[..., Callable[..., Sensitivity]],
    substitute: Substitute | SubstituteAt,
    key: Key,
    params: PyTree,
    tokens: np.ndarray,
    mask: np.ndarray | None,
    groups: np.ndarray | None,
    requested: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield numbers of examples and their changes ``[b draws t]`` in full precision, valid at the requested sites."""
    for size, which in screening.by_size(requested, few=substitution.takes_sites(substitute)):
        few = {} if size == requested.shape[1] else {"sites_drawn": size}
        sites = token_sites.selected(requested, groups, which)
        part = full(**few)(key, params, tokens[which], None if mask is None else mask[which], sites, index=which)
        yield which, part.changes
