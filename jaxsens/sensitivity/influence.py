"""Which predictions of a language model change when a token is replaced: a matrix for each text.

A model that predicts after every token has as many outputs as inputs, and its sensitivity is a matrix: of the replaced
token i and the prediction after token j. ``token_sensitivity`` with ``changes.over_positions`` gives means of its rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import perturb, substitution
from jaxsens.changes import at_least_float32
from jaxsens.execution import batches, checks, memory, parallel
from jaxsens.execution.checks import device_arrays, require_count
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.sensitivity import misfits
from jaxsens.sensitivity import sites as token_sites
from jaxsens.sensitivity.influence_result import QUANTITIES, TokenInfluence
from jaxsens.sensitivity.sites import Sites
from jaxsens.typing import Array, Key, Perturbation, PyTree, Substitute, SubstituteAt

__all__ = ["TokenInfluence", "prediction_changes", "token_influence"]

Head = Callable[[PyTree, Array], Array]
"""``head(params, outputs [t *k]) -> logits [t v]``."""


def token_influence(
    substitute: Substitute | SubstituteAt,
    perturbation: Perturbation,
    *,
    head: Head | None = None,
    draws: int = 1,
    execution: Execution = DEFAULT,
) -> Callable[..., TokenInfluence]:
    """Measure how the prediction after every token j changes when token i is replaced, for all i and j of all texts.

    Three changes are recorded of the next-token distributions ``p`` of the text and ``q`` of the text with token i
    replaced: whether ``argmax p != argmax q``; the total variation ``sum |p - q| / 2``, in [0, 1]; and
    ``KL(p || q) = sum p log(p / q)``, in nats. They are exactly 0 where the outputs after token j are equal: for all
    j < i of a causal model with ``models.substitution.causal``, and with ``one_at_a_time`` up to rounding.

    Args:
        substitute: The primitive of a model with an output for each token, ``[b t *k]``: that of ``one_at_a_time``, or
            a faster one such as ``models.substitution.causal``.
        perturbation: Sampler of replacements for a token, such as ``perturb.replace_uniform(vocabulary)``.
        head: ``head(params, outputs [t *k]) -> logits [t v]``, for each position by itself, such as
            ``models.text.encoder.next_logits(module)`` of a model with the read-out ``"states"``. The logits of one
            text at a time are then in memory, and not those of all its substitutions. By default the outputs are the
            logits.
        draws: Independent replacements of every token.
        execution: How to run; its ``chunk`` counts model forwards, ``t + 1`` for a text; at least one text is
            evaluated at once. Draws follow one another.

    Returns:
        ``measure(key, params, tokens [b t *s], mask=None, sites=None, index=None)`` -> ``TokenInfluence``, with the
        arguments of ``token_sensitivity``; groups of tokens are not taken.

    Raises:
        ValueError: If ``draws`` is not an integer of at least 1; when called, if the key is not a typed threefry key,
            the model does not accept the tokens or has no logits ``[t v]`` for a text, its outputs depend on the batch,
            or a text has no site.
        FloatingPointError: When called, if a change is not finite; the message says where the first one is.

    Example:
        >>> bigram = substitution.one_at_a_time(lambda logits, ids: logits[ids])     # it sees the last token only
        >>> measure = token_influence(bigram, perturb.replace_uniform(3), draws=20)
        >>> influence = measure(jax.random.key(0), 9 * np.eye(3, dtype=np.float32), np.array([[0, 1, 2, 1]]))
        >>> influence.by_distance("prediction").mean[1:].tolist()
        [0.0, 0.0, 0.0]
    """
    require_execution(execution)
    misfits.require_parts(substitute, perturbation, prediction_changes)
    if head is not None:
        checks.require_functions(head=head)
    draws = require_count("draws", draws)

    def measure(
        key: Key,
        params: PyTree,
        tokens: Array,
        mask: Array | None = None,
        sites: Sites | None = None,
        index: Array | None = None,
    ) -> TokenInfluence:
        key, params = require_key(key), device_arrays(params, "params")
        tokens, mask, sites = token_sites.checked(tokens, mask, sites)
        misfits.require_mask(substitute, mask)
        items = (checks.require_index(index, len(tokens)), tokens, mask)
        spec = batches.item_spec(items)
        sampler, length = perturb.as_pytree(perturbation), tokens.shape[1]
        fn = parallel.bind(_example_changes, substitute, head, draws)
        try:
            jax.eval_shape(fn, spec, key, params, sampler)
        except _NoLogits:
            raise
        except Exception as error:
            raise misfits.misfit(substitute, sampler, _any_change, key, params, *spec[1:], error) from error
        substitution.require_independent_outputs(substitute, params, tokens, mask, execution=execution)
        texts = memory.chunk_of(fn, spec, key, params, sampler, execution=execution)
        texts = max(1, execution.chunk // (length + 1)) if execution.chunk else texts
        recorded = parallel.map_items(fn, items, key, params, sampler, execution=execution.replace(chunk=texts))
        real = np.ones(sites.shape, bool) if mask is None else mask
        counted = sites[:, :, None] & real[:, None, :]
        _require_finite(recorded, counted, items[0])
        return TokenInfluence(np.where(counted[:, None, :, :, None], recorded, np.float32(0)), sites, real)

    return measure


class _NoLogits(ValueError):
    """Outputs are no logits for each token."""


@dataclass(frozen=True)
class _Distributions:
    """What is compared of the predictions after every token.

    Attributes:
        log: Logarithms of probabilities ``[t v]``.
        first: The token of the largest ``[t]``.
    """

    log: Array
    first: Array


def prediction_changes(clean: Array, changed: Array) -> jax.Array:
    """Return the changes ``[... 3]`` of predictions with logits ``clean`` and ``changed [... v]``, as ``QUANTITIES``.

    Whether the largest logit is another one, 0 or 1; the total variation; and the Kullback-Leibler divergence of the
    changed distribution from the clean one, in nats.

    Example:
        >>> changes = prediction_changes(jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.25, 0.75])))
        >>> [round(value, 3) for value in changes.tolist()]
        [1.0, 0.25, 0.144]
    """
    return _compare(_distributions(clean), _distributions(changed))


def _distributions(logits: Array) -> _Distributions:
    logits = at_least_float32(logits)
    return _Distributions(jax.nn.log_softmax(logits), logits.argmax(-1))


def _compare(clean: _Distributions, changed: _Distributions) -> jax.Array:
    p, q = jnp.exp(clean.log), jnp.exp(changed.log)
    variation = jnp.abs(p - q).sum(-1) / 2
    # A token of probability 0 in both adds nothing; the logarithms are then infinite.
    divergence = jnp.where(p > 0, p * (clean.log - changed.log), 0).sum(-1)
    changes = (clean.first != changed.first, variation, jnp.maximum(divergence, 0))
    return jnp.stack([part.astype(jnp.float32) for part in changes], -1)


def _example_changes(
    substitute: Substitute | SubstituteAt,
    head: Head | None,
    draws: int,
    item: PyTree,
    key: Key,
    params: PyTree,
    perturbation: Perturbation,
) -> jax.Array:
    """Return the changes ``[draws t t 3]`` of one text."""
    index, tokens, mask = item
    example_key = jax.random.fold_in(key, index)

    def logits_of(outputs: Array) -> Array:
        logits = outputs if head is None else head(params, outputs)
        if getattr(logits, "ndim", 0) != 2 or len(logits) != len(tokens):
            raise _NoLogits(
                f"the model must give logits for each of the {len(tokens)} tokens of a text, [t v], got "
                f"{getattr(logits, 'shape', type(logits).__name__)}: load it with read_out='every', or with "
                "read_out='states' and pass head=models.text.encoder.next_logits(module)"
            )
        return logits

    def one_draw(draw: Array) -> Array:
        alternatives = perturbation(example_key, draw, tokens)
        clean, changed = substitute(params, tokens, alternatives, mask)
        before = _distributions(logits_of(clean))

        def compare(outputs: Array) -> jax.Array:
            changes = _compare(before, _distributions(logits_of(outputs)))
            equal = (outputs == clean).reshape(len(tokens), -1).all(1)[:, None]
            # In the loop, logits of equal outputs may be rounded differently. What is not finite stays and is reported.
            return jnp.where(equal & jnp.isfinite(changes), 0, changes)

        return jax.lax.map(compare, changed)

    return jax.lax.map(one_draw, jnp.arange(draws, dtype=jnp.uint32))


def _any_change(clean: Any, changed: Any) -> Array:  # noqa: ARG001
    """Return a scalar: stands for the change where only the other parts of a call are in question."""
    return jnp.float32(0)


def _require_finite(recorded: np.ndarray, counted: np.ndarray, index: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(recorded) & counted[:, None, :, :, None])
    if len(bad):
        example, draw, token, position, quantity = bad[0].tolist()
        raise FloatingPointError(
            f"the change ({QUANTITIES[quantity]}) of the prediction after token {position} of text {index[example]} is "
            f"{recorded[tuple(bad[0])]} with token {token} replaced in draw {draw} ({len(bad)} such changes in all): a "
            "logit is not finite; look at the parameters, or at the size of the perturbation"
        )


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
