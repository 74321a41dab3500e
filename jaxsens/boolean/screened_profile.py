"""Sensitivity profiles in low precision first, and in float32 again where low precision cannot decide."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import substitution
from jaxsens.boolean import bit_flips
from jaxsens.boolean import decisions as recognition
from jaxsens.boolean.profile import Profile
from jaxsens.boolean.strings import require_bits
from jaxsens.execution import parallel
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.sensitivity import screening
from jaxsens.sensitivity.screening import Screening
from jaxsens.typing import Array, Key, PyTree, Substitute, SubstituteAt

__all__ = ["ScreenedProfile", "screened_sensitivity_profile"]


@partial(jax.tree_util.register_dataclass, data_fields=["measured"], meta_fields=["screening"])
@dataclass(frozen=True)
class ScreenedProfile:
    """What float32 decides about every string and its neighbours, and how much of it had to be asked.

    Attributes:
        measured: The profile.
        screening: Of decisions, n + 1 for a string: how many were trusted, asked again and audited; its bound is on
            errors of logits.
    """

    measured: Profile
    screening: Screening


def screened_sensitivity_profile(
    substitute: Substitute | SubstituteAt,
    *,
    screen: Substitute | None = None,
    screen_precision: str = "default",
    calibration: int = 32,
    safety: float = 2.0,
    audit: int = 1000,
    margin: float = 0.0,
    execution: Execution = DEFAULT,
) -> Callable[..., ScreenedProfile]:
    """Measure a sensitivity profile, with the answer of float32 at most of the speed of low precision.

    On ``calibration`` strings and all their neighbours logits are computed in both precisions; ``bound = safety * max
    |logit in low precision - logit|``. Then all is computed in low precision. A decision is trusted if ``||logit| -
    margin| > bound``; the others are computed again, and so are ``audit`` trusted ones drawn at random, which tells how
    far the bound can be trusted itself. Where weights are large, as with initialisations that are not scaled, logits
    lie close together and most are computed twice: ``screening.redone`` says so.

    Args:
        substitute: The primitive, in full precision; with sites as a fifth argument, only those are evaluated again.
        screen: The primitive in low precision, of the same parameters; by default ``substitute``, with products in
            ``screen_precision``.
        screen_precision: Of products of matrices while screening: on a GPU ``"default"`` is TF32, on a TPU bfloat16,
            and on a CPU float32.
        calibration: Strings on which the bound is measured; all, if there are no more.
        safety: How many times the largest error that was seen is not trusted.
        audit: Trusted decisions that are checked.
        margin: As in ``sensitivity_profile``, and so are the rest.
        execution: How to run; its ``chunk`` counts model forwards, and its precision is the full one.

    Returns:
        ``measure(key, params, strings [b n])`` -> ``ScreenedProfile``. What is not trusted is what
        ``sensitivity_profile`` decides, up to the rounding of logits.

    Raises:
        ValueError: If ``calibration`` is smaller than 1, ``safety`` or ``audit`` negative; also as
            ``sensitivity_profile`` does.
        FloatingPointError: When called, if a logit is not finite, in either precision.
    """
    recognition.require_margin(margin)
    screening.require(calibration, safety, audit)
    full = bit_flips.Logits(substitute, execution.precision)
    low = bit_flips.Logits(substitute if screen is None else screen, screen_precision)

    def measure(key: Key, params: PyTree, strings: Array) -> ScreenedProfile:
        strings = require_bits(strings)
        count, length = strings.shape
        for logits in (full, low):
            bit_flips.check_fit(logits, length, params)
        forwards = execution.chunk or bit_flips.default_chunk(full, length, params)
        at_once = execution.replace(chunk=max(1, forwards // (length + 1)))
        silent = execution.replace(progress=None)

        which = screening.for_calibration(key, count, calibration)
        errors, nonfinite = parallel.map_items(
            _Errors(low, full), strings[which], params, execution=at_once.replace(progress=None)
        )
        bit_flips.check_finite(nonfinite, which)
        bound = safety * float(errors.max())

        decisions, trusted, nonfinite = parallel.map_items(
            _Trusted(low), strings, params, np.float64(margin), np.float64(bound), execution=at_once
        )  # fmt: skip
        bit_flips.check_finite(nonfinite, np.arange(count), " in low precision")

        again = partial(_again, full, strings, params, margin, execution=silent.replace(chunk=forwards))
        doubtful = ~trusted
        screening.revise(decisions, doubtful, again(doubtful))
        audited = screening.for_audit(key, trusted, audit)
        disagreed = screening.revise(decisions, audited, again(audited))
        measured = Profile(
            bit_flips.flips(decisions), decisions[:, 0], bit_flips.exhaustive(strings), None, float(margin), forwards
        )
        return ScreenedProfile(
            measured, Screening(bound, decisions.size, int(doubtful.sum()), int(audited.sum()), disagreed)
        )

    return measure


@dataclass(frozen=True)
class _Errors:
    """How far logits ``[n+1]`` of a string and its neighbours are off in low precision, and which are not finite."""

    low: bit_flips.Logits
    full: bit_flips.Logits

    def __call__(self, bits: Array, params: PyTree) -> tuple[Array, Array]:
        full = self.full(bits, params)
        return jnp.abs(_at_least_float32(self.low(bits, params)) - full), ~jnp.isfinite(full)


@dataclass(frozen=True)
class _Trusted:
    """Decisions about a string and its neighbours ``[n+1]``, which of them are trusted, and which are not finite."""

    logits: bit_flips.Logits

    def __call__(self, bits: Array, params: PyTree, margin: Array, bound: Array) -> tuple[Array, Array, Array]:
        logits = _at_least_float32(self.logits(bits, params))
        trusted = jnp.abs(jnp.abs(logits) - margin) > bound
        return recognition.decide(logits, margin), trusted, ~jnp.isfinite(logits)


def _at_least_float32(logits: Array) -> Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


@dataclass(frozen=True)
class _DecisionsAt:
    """Decisions about a string and some of its neighbours ``[j+1]``, or all, and which logits are not finite."""

    logits: bit_flips.Logits

    def __call__(self, item: tuple[Array, Array | None], params: PyTree, margin: Array) -> tuple[Array, Array]:
        bits, sites = item
        logits = self.logits(bits, params, sites)
        return recognition.decide(logits, margin), ~jnp.isfinite(logits)


def _again(
    full: bit_flips.Logits,
    strings: np.ndarray,
    params: PyTree,
    margin: float,
    wanted: np.ndarray,
    *,
    execution: Execution,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield numbers of strings and their decisions ``[b n+1]`` in full precision, right where ``wanted``.

    A string's own decision comes with that of any neighbour, so that one is computed where it alone is wanted.
    """
    flipped = wanted[:, 1:].copy()
    flipped[:, 0] |= wanted[:, 0] & ~flipped.any(1)
    for size, which in screening.by_size(flipped, few=substitution.takes_sites(full.substitute)):
        every = size == flipped.shape[1]
        # Those that are wanted come first; where they are fewer than are evaluated, others fill up.
        sites = np.argsort(~flipped[which], axis=1, kind="stable")[:, :size]
        sites = np.broadcast_to(np.arange(size), sites.shape) if every else sites
        found = parallel.map_items(
            _DecisionsAt(full),
            (strings[which], None if every else sites.astype(np.int32)),
            params,
            np.float64(margin),
            execution=execution.replace(chunk=max(1, execution.chunk // (size + 1))),
        )
        places = np.concatenate([np.zeros((len(which), 1), int), 1 + sites], 1)
        decisions, nonfinite = (np.zeros((len(which), wanted.shape[1]), values.dtype) for values in found)
        for whole, values in zip((decisions, nonfinite), found, strict=True):
            np.put_along_axis(whole, places, values, 1)
        bit_flips.check_finite(nonfinite, which)
        yield which, decisions
