"""Sensitivity profiles in low precision first, and again in float32 where low precision cannot decide."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import substitution
from jaxsens.boolean import bit_flips
from jaxsens.boolean.decisions import decide, require_margin
from jaxsens.boolean.profile_result import Profile
from jaxsens.boolean.strings import require_bits
from jaxsens.execution import parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.results.result import Description
from jaxsens.sensitivity import screening
from jaxsens.sensitivity.screening import Screening
from jaxsens.statistics.estimate import Estimate
from jaxsens.statistics.estimated import Estimated
from jaxsens.typing import Array, Axes, Figure, Key, PyTree, Substitute, SubstituteAt

__all__ = ["ScreenedProfile", "screened_sensitivity_profile"]


@partial(jax.tree_util.register_dataclass, data_fields=["measured"], meta_fields=["screening"])
@dataclass(frozen=True, repr=False)
class ScreenedProfile(Estimated):
    """The profile of float32 decisions, and which share of them was computed in float32.

    Attributes:
        measured: The profile.
        screening: How many decisions, n + 1 for a string, were accepted, recomputed and audited; its bound is on errors
            of logits.

    Example:
        >>> flips = np.array([[True, True], [True, False], [False, False]])
        >>> measured = Profile(flips, np.ones(3, np.int8), exhaustive=False, audit=None, margin=0.0, chunk=3)
        >>> ScreenedProfile(measured, Screening(1e-3, total=9, redone=2, audited=3, disagreed=0)).mean
        1.0
    """

    measured: Profile
    screening: Screening

    @property
    def estimate(self) -> Estimate:
        """The mean sensitivity, ``measured.average_sensitivity``."""
        return self.measured.average_sensitivity

    def minus(self, other: "ScreenedProfile | Profile") -> Estimate:
        """Estimate the difference of average sensitivities on the same strings; see ``Profile.minus``."""
        return self.measured.minus(other)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the shares of strings by sensitivity; see ``Profile.plot``."""
        return self.measured.plot(ax)

    def _describe(self) -> Description:
        whole = self.measured._describe()
        return replace(whole, facts={**whole.facts, **self.screening.facts()})


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
    """Measure a sensitivity profile with the decisions of float32, at nearly the speed of low precision.

    On ``calibration`` strings and all their neighbors logits are computed in both precisions; ``bound = safety * max
    |logit in low precision - logit|``. Then all logits are computed in low precision. A decision is accepted if
    ``||logit| - margin| > bound``; the others are recomputed, and so is a random sample of ``audit`` accepted ones,
    which gives an interval for the fraction of wrong decisions among those accepted. Where weights are large, as with
    unscaled initializations, logits lie close together and most are computed twice; see ``screening.redone``.

    Screening is for accelerators. On a CPU, where the default precision is float32, it took 1.7 times the CPU time of
    ``sensitivity_profile`` at equal answers (96 strings of 32 bits, a recognizer of width 64: ``python -m
    experiments.benchmark.micro.screening --cases recognizer``). On an accelerator it was not measured yet.

    Args:
        substitute: The primitive, in full precision; with sites as a fifth argument, only those are recomputed.
        screen: The primitive in low precision, of the same parameters; by default ``substitute``, with products in
            ``screen_precision``.
        screen_precision: Precision of matrix products while screening: ``"default"`` is TF32 on a GPU, bfloat16 on a
            TPU, and float32 on a CPU.
        calibration: Number of strings on which the bound is measured, at most all.
        safety: Factor between the largest error measured and the bound.
        audit: Number of accepted decisions to check.
        margin: Margin of recognition, in units of the logit.
        execution: How to run; its ``chunk`` counts model forwards, and its precision is the full one.

    Returns:
        ``measure(key, params, strings [b n])`` -> ``ScreenedProfile``. The key decides the strings for calibration and
        the audit. Recomputed decisions are those of ``sensitivity_profile``, up to the rounding of logits.

    Raises:
        ValueError: If ``calibration`` is smaller than 1, or ``safety``, ``audit`` or ``margin`` negative; when called,
            if strings are not ``[b n]`` of 0 and 1, do not fit the model, or the model has more than one logit.
        FloatingPointError: When called, if a logit is not finite, in either precision.

    Example:
        >>> from jaxsens import one_at_a_time
        >>> parity = one_at_a_time(lambda params, x, mask=None: 1.0 - 2.0 * (x.sum(1) % 2))
        >>> strings = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> screened_sensitivity_profile(parity)(jax.random.key(0), None, strings).measured.scaled
        (0, 0, 4)
    """
    require_execution(execution)
    substitution.require_substitute(substitute)
    require_margin(margin)
    screening.require(calibration, safety, audit)
    full = parallel.bind(bit_flips.neighbor_logits, substitute, execution.precision)
    low = parallel.bind(bit_flips.neighbor_logits, substitute if screen is None else screen, screen_precision)
    few = substitution.takes_sites(substitute)

    def measure(key: Key, params: PyTree, strings: Array) -> ScreenedProfile:
        require_key(key)
        strings = require_bits(strings)
        count, length = strings.shape
        for logits in (full, low):
            bit_flips.check_fit(logits, length, params)
        substitution.require_independent_outputs(substitute, params, strings, execution=execution)
        forwards = execution.chunk or bit_flips.default_chunk(full, length, params, execution)
        at_once = execution.replace(chunk=max(1, forwards // (length + 1)))
        silent = execution.replace(progress=None)

        which = screening.for_calibration(key, count, calibration)
        errors, nonfinite = parallel.map_items(
            parallel.bind(_errors, low, full), strings[which], params, execution=at_once.replace(progress=None)
        )
        bit_flips.check_finite(nonfinite, which)
        bound = safety * float(errors.max())

        decisions, accepted, nonfinite = parallel.map_items(
            parallel.bind(_accepted, low), strings, params, np.float64(margin), np.float64(bound), execution=at_once
        )
        bit_flips.check_finite(nonfinite, np.arange(count), " in low precision")

        recompute = partial(_recomputed, full, few, strings, params, margin, execution=silent.replace(chunk=forwards))
        doubtful = ~accepted
        screening.revise(decisions, doubtful, recompute(doubtful))
        audited = screening.for_audit(key, accepted, audit)
        disagreed = screening.revise(decisions, audited, recompute(audited))
        measured = Profile(
            bit_flips.flips(decisions), decisions[:, 0], bit_flips.exhaustive(strings), None, float(margin), forwards
        )
        return ScreenedProfile(
            measured, Screening(bound, decisions.size, int(doubtful.sum()), int(audited.sum()), disagreed)
        )

    return measure


def _errors(
    low: bit_flips.NeighborLogits, full: bit_flips.NeighborLogits, bits: Array, params: PyTree
) -> tuple[Array, Array]:
    """Return the errors of low precision ``[n+1]`` for a string and its neighbors, and which logits are not finite."""
    logits = full(bits, params)
    return jnp.abs(_at_least_float32(low(bits, params)) - logits), ~jnp.isfinite(logits)


def _accepted(
    low: bit_flips.NeighborLogits, bits: Array, params: PyTree, margin: Array, bound: Array
) -> tuple[Array, Array, Array]:
    """Return decisions about a string and its neighbors ``[n+1]``, which are accepted, and which are not finite."""
    logits = _at_least_float32(low(bits, params))
    return decide(logits, margin), jnp.abs(jnp.abs(logits) - margin) > bound, ~jnp.isfinite(logits)


def _at_least_float32(logits: Array) -> Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _decisions_at(
    full: bit_flips.NeighborLogits, item: tuple[Array, Array | None], params: PyTree, margin: Array
) -> tuple[Array, Array]:
    """Return decisions about a string and some of its neighbors ``[j+1]``, or all, and which are not finite."""
    bits, sites = item
    logits = full(bits, params, sites)
    return decide(logits, margin), ~jnp.isfinite(logits)


def _recomputed(
    full: bit_flips.NeighborLogits,
    few: bool,
    strings: np.ndarray,
    params: PyTree,
    margin: float,
    needed: np.ndarray,
    *,
    execution: Execution,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield numbers of strings and their decisions ``[b n+1]`` in full precision, valid where ``needed``.

    The decision about a string comes with that of any neighbor, so one is computed where only the string is needed.
    """
    flipped = needed[:, 1:].copy()
    flipped[:, 0] |= needed[:, 0] & ~flipped.any(1)
    for size, which in screening.by_size(flipped, few=few):
        every = size == flipped.shape[1]
        # Needed sites come first; others fill up the rest.
        sites = np.argsort(~flipped[which], axis=1, kind="stable")[:, :size]
        sites = np.broadcast_to(np.arange(size), sites.shape) if every else sites
        computed = parallel.map_items(
            parallel.bind(_decisions_at, full),
            (strings[which], None if every else sites.astype(np.int32)),
            params,
            np.float64(margin),
            execution=execution.replace(chunk=max(1, execution.chunk // (size + 1))),
        )
        places = np.concatenate([np.zeros((len(which), 1), int), 1 + sites], 1)
        decisions, nonfinite = (np.zeros((len(which), needed.shape[1]), values.dtype) for values in computed)
        for whole, values in zip((decisions, nonfinite), computed, strict=True):
            np.put_along_axis(whole, places, values, 1)
        bit_flips.check_finite(nonfinite, which)
        yield which, decisions
