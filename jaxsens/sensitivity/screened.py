"""Token sensitivity in low precision first, and in float32 again where low precision cannot decide."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import changes, perturb, substitution
from jaxsens.execution import parallel
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.sensitivity import screening
from jaxsens.sensitivity import sites as token_sites
from jaxsens.sensitivity.screening import Screening
from jaxsens.sensitivity.token import Sensitivity, token_sensitivity
from jaxsens.typing import Array, Change, Key, Perturbation, PyTree, Substitute, SubstituteAt

__all__ = ["ScreenedSensitivity", "screened_token_sensitivity"]


@partial(jax.tree_util.register_dataclass, data_fields=["measured"], meta_fields=["screening"])
@dataclass(frozen=True)
class ScreenedSensitivity:
    """What float32 says of every change, and how much of it had to be asked.

    Attributes:
        measured: The changes.
        screening: Of changes: how many were trusted, asked again and audited; its bound is on errors of differences of
            logits.
    """

    measured: Sensitivity
    screening: Screening

    @property
    def mean(self) -> float:
        """Mean over examples."""
        return self.measured.mean

    @property
    def sem(self) -> float:
        """Standard error of the mean over examples."""
        return self.measured.sem

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean; see ``Estimate.interval``."""
        return self.measured.interval(level)


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
    """Measure how often predictions change, with the answer of float32 at most of the speed of low precision.

    Let ``m`` be the margin of a prediction: the largest logit less the second, or the size of a score. Low precision
    has the right class wherever its margin exceeds the error of its differences of logits. On ``calibration`` examples,
    and all their substitutions, both precisions are computed; ``bound = safety * max (max_k e_k - min_k e_k)`` over
    errors e of their logits (of a score ``|e|``). Then all is computed in low precision. A change is trusted if clean
    and changed margin exceed the bound; the others' examples are evaluated again at those sites, and so are ``audit``
    trusted ones drawn at random, which tells how far the bound can be trusted itself.

    It pays where margins are large, as those of trained models are, and where products of matrices dominate.

    Args:
        substitute: The primitive, in full precision; with sites as a fifth argument, only those are evaluated again.
        perturbation: What replaces a token.
        screen: The primitive in low precision, of the same parameters: that of a model with ``dtype="bfloat16"``, say.
            By default ``substitute``, with products in ``screen_precision``.
        screen_precision: Of products of matrices while screening: on a GPU ``"default"`` is TF32, on a TPU bfloat16,
            and on a CPU float32.
        calibration: Examples on which the bound is measured; all, if there are no more.
        safety: How many times the largest error that was seen is not trusted.
        audit: Trusted changes that are checked.
        change: ``changes.prediction_change`` or ``changes.sign_change``, which margins decide.
        draws: Independent replacements of every token.
        execution: How to run, as in ``token_sensitivity``; its precision is the full one.

    Returns:
        ``measure(key, params, tokens [b t *s], mask=None, sites=None)`` -> ``ScreenedSensitivity``. What is not
        trusted is, bit for bit, what ``token_sensitivity`` records with the same key.

    Raises:
        ValueError: If ``change`` is another one, ``calibration`` smaller than 1, ``safety`` or ``audit`` negative; also
            as ``token_sensitivity`` does.
        FloatingPointError: When called, if an output is not finite, in either precision. TF32 and bfloat16 have the
            range of float32; float16 has not.
    """
    if change not in (changes.prediction_change, changes.sign_change):
        raise ValueError(
            f"change must be prediction_change or sign_change, which a margin decides, got {change}; other changes "
            "are not events, and need full precision throughout: use token_sensitivity"
        )
    screening.require(calibration, safety, audit)
    screen = substitute if screen is None else screen
    low = token_sensitivity(
        screen,
        perturbation,
        change=_signed_margin,
        draws=draws,
        execution=execution.replace(precision=screen_precision),
    )
    silent = execution.replace(progress=None)
    full = partial(token_sensitivity, substitute, perturbation, change=change, draws=draws, execution=silent)
    full()  # what cannot be measured is refused now
    errors = parallel.bind(_errors, substitute, screen, execution.precision, screen_precision)

    def measure(
        key: Key, params: PyTree, tokens: Array, mask: Array | None = None, sites: Array | None = None
    ) -> ScreenedSensitivity:
        tokens, mask, sites = token_sites.checked(tokens, mask, sites)
        screened = low(key, params, tokens, mask, sites)

        which = screening.for_calibration(key, len(tokens), calibration)
        spread = parallel.map_items(
            errors,
            (which.astype(np.uint32), tokens[which], None if mask is None else mask[which]),
            key,
            params,
            perturb.as_pytree(perturbation),
            execution=silent.replace(chunk=1),
        )
        counted = np.concatenate([np.ones((len(which), 1), bool), sites[which]], 1)
        bound = safety * float(spread[counted].max())

        found = screened.changes < 0
        trusted = np.abs(screened.changes) > bound
        doubtful = sites & ~trusted.all(1)
        again = partial(_again, full, substitute, key, params, tokens, mask)
        screening.revise(found, doubtful[:, None], again(doubtful))
        checked = screening.for_audit(key, sites & ~doubtful, -(-audit // draws))
        disagreed = screening.revise(found, checked[:, None], again(checked))
        return ScreenedSensitivity(
            Sensitivity(found & sites[:, None], sites, True, screened.chunk),
            Screening(
                bound,
                total=draws * int(sites.sum()),
                redone=draws * int(doubtful.sum()),
                audited=draws * int(checked.sum()),
                disagreed=disagreed,
            ),
        )

    return measure


def _signed_margin(clean: Array, changed: Array) -> Array:
    """Return the smaller margin of both predictions, negative where these differ."""
    differ = changes.prediction_change(clean, changed)
    margin = jnp.minimum(_margin(clean), _margin(changed))
    # A margin of 0 is nobody's: it is not above any bound.
    return jnp.where(differ, -margin, margin)


def _margin(output: Array) -> Array:
    if output.size == 1:
        return jnp.abs(output).reshape(()).astype(jnp.float32)
    first, second = jax.lax.top_k(output, 2)[0]
    return (first - second).astype(jnp.float32)


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
    """Return how far differences of an example's logits are off in low precision, ``[1 + t]``, the clean ones first."""
    index, tokens, mask = item
    alternatives = perturbation(jax.random.fold_in(key, index), jnp.uint32(0), tokens)
    outputs = []
    for evaluate, at in ((substitute, precision), (screen, screen_precision)):
        with jax.default_matmul_precision(at):
            clean, changed = evaluate(params, tokens, alternatives, mask)
        outputs.append(jnp.concatenate([clean[None], changed]).reshape(1 + len(tokens), -1).astype(jnp.float32))
    off = outputs[1] - outputs[0]
    return jnp.abs(off[:, 0]) if off.shape[1] == 1 else off.max(1) - off.min(1)


def _again(
    full: Callable[..., Callable[..., Sensitivity]],
    substitute: Substitute | SubstituteAt,
    key: Key,
    params: PyTree,
    tokens: np.ndarray,
    mask: np.ndarray | None,
    wanted: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield numbers of examples and their changes ``[b draws t]`` in full precision, right at the sites ``wanted``."""
    for size, which in screening.by_size(wanted, few=substitution.takes_sites(substitute)):
        few = {} if size == wanted.shape[1] else {"sites_drawn": size}
        part = full(**few)(
            key, params, tokens[which], None if mask is None else mask[which], wanted[which], index=which
        )
        yield which, part.changes
