"""Sensitivity profiles: on how many bits of a string its acceptance hangs, over a sample of strings or all of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.boolean import bit_flips
from jaxsens.boolean import decisions as recognition
from jaxsens.boolean.strings import require_bits
from jaxsens.execution import parallel
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.statistics import estimate
from jaxsens.typing import Array, Key, PyTree, Substitute

__all__ = ["Audit", "Profile", "sensitivity_profile"]


@partial(jax.tree_util.register_dataclass, data_fields=["changed", "error"], meta_fields=[])
@dataclass(frozen=True)
class Audit:
    """How far float64 disagrees with the precision that a profile was measured in.

    Attributes:
        changed: The share of decisions that float64 alters, of a string's n + 1 (its own, and those with one bit
            flipped); strings are the units.
        error: The largest ``|logit - logit in float64|``, in standard deviations of the float64 logits.
    """

    changed: estimate.Estimate
    error: float


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["flips", "decisions", "audit"],
    meta_fields=["exhaustive", "margin", "chunk"],
)
@dataclass(frozen=True)
class Profile:
    """Which bits of which strings turn acceptance into rejection or back, and what follows from it.

    Whatever speaks of all 2^n strings (intervals, scaled counts, means) presumes that the strings were drawn uniformly,
    or that they are all of them: everything is then exact, and the intervals have no width.

    Attributes:
        flips: Whether flipping a bit turns acceptance into rejection or back ``[b n]``; where one of the two decisions
            is undefined it does not.
        decisions: What was decided about the strings as they are, int8 ``[b]``; see ``recognition.decide``.
        exhaustive: Whether the strings are all 2^n, each once, in any order.
        audit: What float64 says of the decisions; ``None`` where it was not asked.
        margin: Of recognition, in units of the logit.
        chunk: Model forwards to evaluate at once, for the record.
    """

    flips: np.ndarray
    decisions: np.ndarray
    exhaustive: bool
    audit: Audit | None
    margin: float
    chunk: int

    @cached_property
    def sensitivities(self) -> np.ndarray:
        """Sensitivity ``s(x)`` of every string, int ``[b]``, from 0 to n; 0 for undefined strings (Def. 2.2)."""
        return self.flips.sum(1)

    @cached_property
    def counts(self) -> np.ndarray:
        """How many of the strings have sensitivity 0 to n, int ``[n+1]``."""
        return np.bincount(self.sensitivities, minlength=self.flips.shape[1] + 1)

    @property
    def shares(self) -> np.ndarray:
        """``counts / b``, ``[n+1]``."""
        return self.counts / len(self.flips)

    def share_intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return intervals ``(low, high)``, each ``[n+1]``, that hold all n + 1 shares at once with this confidence.

        Clopper and Pearson's, each at level ``1 - (1 - level) / (n + 1)`` (Bonferroni).

        Raises:
            ValueError: If ``level`` is not strictly between 0 and 1.
        """
        return self._intervals(self.counts, level)

    @property
    def scaled(self) -> tuple[float, ...]:
        """``K_0 .. K_n``, the profile of Def. 2.6: ``2^n shares``, for uniformly drawn strings.

        Python integers, and exact, where the strings are all there are.

        Raises:
            ValueError: If a count is beyond float64, which begins at n = 1024.
        """
        return tuple(self.counts.tolist()) if self.exhaustive else self._scaled(self.shares)

    def scaled_intervals(self, level: float = 0.95) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return intervals ``(low, high)`` that hold ``K_0 .. K_n`` at once: those of the shares, times 2^n.

        Raises:
            ValueError: If ``level`` is not strictly between 0 and 1, or a limit is beyond float64.
        """
        low, high = self.share_intervals(level)
        return (self.scaled, self.scaled) if self.exhaustive else (self._scaled(low), self._scaled(high))

    @cached_property
    def average_sensitivity(self) -> estimate.Estimate:
        """Mean of ``s(x)`` (Def. 2.3), in bits, from 0 to n; strings, drawn uniformly, are the units.

        Its interval has no width where all strings seen are equally sensitive; that of ``normalised_average`` has.
        """
        return _over_strings(self.sensitivities, rate=False, exact=self.exhaustive)

    @cached_property
    def normalised_average(self) -> estimate.Estimate:
        """Mean of ``s(x) / n``, a rate in [0, 1]: the share of bit flips that turn the decision."""
        return _over_strings(self.sensitivities / self.flips.shape[1], rate=True, exact=self.exhaustive)

    @property
    def influences(self) -> np.ndarray:
        """Share of the strings on which flipping bit i turns the decision, ``[n]``; their sum is the average."""
        return self.flips.mean(0)

    def influence_intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return intervals ``(low, high)``, each ``[n]``, that hold all n influences at once with this confidence.

        Clopper and Pearson's, each at level ``1 - (1 - level) / n`` (Bonferroni).

        Raises:
            ValueError: If ``level`` is not strictly between 0 and 1.
        """
        return self._intervals(self.flips.sum(0), level)

    @cached_property
    def undefined(self) -> estimate.Estimate:
        """Share of the strings about which nothing is decided at this margin."""
        return _over_strings(self.decisions == recognition.UNDEFINED, rate=True, exact=self.exhaustive)

    @property
    def min_sensitivity(self) -> int:
        """Smallest sensitivity seen: that of the function (Def. 2.5), or more if the strings are a sample."""
        return int(self.sensitivities.min())

    @property
    def max_sensitivity(self) -> int:
        """Largest sensitivity seen: that of the function (Def. 2.4), or less if the strings are a sample."""
        return int(self.sensitivities.max())

    def _intervals(self, counts: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        total = len(self.flips)
        low, high = estimate.clopper_pearson(counts, total, level, comparisons=len(counts))
        return (counts / total, counts / total) if self.exhaustive else (low, high)

    def _scaled(self, shares: np.ndarray) -> tuple[float, ...]:
        n = self.flips.shape[1]
        try:
            return tuple(math.ldexp(share, n) for share in shares.tolist())
        except OverflowError as error:
            raise ValueError(f"counts of 2^{n} strings are beyond float64: use shares and share_intervals") from error


def sensitivity_profile(
    substitute: Substitute,
    *,
    margin: float = 0.0,
    audit: int = 0,
    reference: Substitute | None = None,
    execution: Execution = DEFAULT,
) -> Callable[..., Profile]:
    """Measure on how many bits of a string its acceptance hangs, for every string given.

    ``s(x) = #{i : alpha(T(x)) and alpha(T(x with bit i flipped)) are acceptance and rejection, or the reverse}`` and
    ``K_j = #{x : s(x) = j}``: Defs. 2.2 to 2.6 of Kövér et al., Understanding the Parameter Space Geometry of
    Transformers Encoding Boolean Functions (arXiv 2606.08768), with alpha of Eq. 15. There acceptance is a Boolean
    function; here a string may stay undefined at the margin, and a flip from or to such a string does not count.

    Args:
        substitute: The primitive, such as ``substitution.one_at_a_time(model.apply)``; its output is one logit, ``[]``
            or ``[1]``.
        margin: Of recognition, in units of the logit.
        audit: How many strings, drawn with the key, to evaluate in float64 as well; all if there are no more.
        reference: What evaluates them, by default ``substitute``. It gets params whose floating leaves are float64.
        execution: How to run; its ``chunk`` counts model forwards, ``n + 1`` for a string.

    Returns:
        ``measure(key, params, strings [b n])`` -> ``Profile``. Only the audit is random.

    Raises:
        ValueError: If ``margin`` or ``audit`` is negative; when called, if strings are not
            0 or 1, if there is none or they are empty, if the model cannot take them or has more than one logit, or if
            the audited logits are not float64.
        FloatingPointError: When called, if a logit is not finite; the message says where the first one is.
    """
    recognition.require_margin(margin)
    if audit != int(audit) or audit < 0:
        raise ValueError(f"audit must be a number of strings, at least 0, got {audit}")
    plain, exact = (
        bit_flips.Logits(substitute, execution.precision),
        bit_flips.Logits(substitute if reference is None else reference, execution.precision),
    )

    def evaluate(fn: Callable[..., PyTree], strings: np.ndarray, forwards: int, *shared: PyTree) -> PyTree:
        items = max(1, forwards // (strings.shape[1] + 1))
        return parallel.map_items(fn, strings, *shared, execution=execution.replace(chunk=items))

    def audited(sample: np.ndarray, strings: np.ndarray, decisions: np.ndarray, forwards: int, params: PyTree) -> Audit:
        chosen = strings[sample]
        narrow = evaluate(plain, chosen, forwards, params)
        with jax.enable_x64(True):
            params = jax.tree.map(_widened, params)
            at_once = execution.chunk or bit_flips.default_chunk(exact, strings.shape[1], params)
            wide = evaluate(exact, chosen, at_once, params)
        bit_flips.check_finite(~np.isfinite(wide), sample, " in float64")
        changed = (recognition.decide(wide, margin) != decisions[sample]).mean(1)
        everything = len(sample) == len(strings) and bit_flips.exhaustive(strings)
        return Audit(_over_strings(changed, rate=True, exact=everything), _relative_error(narrow, wide))

    def measure(key: Key, params: PyTree, strings: Array) -> Profile:
        strings = require_bits(strings)
        count, length = strings.shape
        bit_flips.check_fit(plain, length, params)
        if audit:
            _check_width(exact, length, params)
        forwards = execution.chunk or bit_flips.default_chunk(plain, length, params)
        decisions, nonfinite = evaluate(bit_flips.Decisions(plain), strings, forwards, params, np.float64(margin))
        bit_flips.check_finite(nonfinite, np.arange(count))
        found = audited(_sample(key, count, audit), strings, decisions, forwards, params) if audit else None
        return Profile(
            bit_flips.flips(decisions), decisions[:, 0], bit_flips.exhaustive(strings), found, float(margin), forwards
        )

    return measure


def _over_strings(values: np.ndarray, *, rate: bool, exact: bool) -> estimate.Estimate:
    result = estimate.from_values(values, rate=rate)
    if exact:  # nothing was drawn
        return replace(result, sem=np.zeros_like(result.mean), rate=False)
    return result


def _sample(key: Key, count: int, size: int) -> np.ndarray:
    """Draw distinct indices of strings; the first of many are those of few."""
    return np.arange(count) if size >= count else np.asarray(jax.random.permutation(key, count)[: int(size)])


def _widened(leaf: Any) -> Any:
    return np.asarray(leaf, np.float64) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf


def _relative_error(narrow: np.ndarray, wide: np.ndarray) -> float:
    error, scale = np.abs(narrow.astype(np.float64) - wide).max(), wide.std()
    return float(error / scale) if scale > 0 else (math.inf if error > 0 else 0.0)


def _check_width(logits: bit_flips.Logits, length: int, params: PyTree) -> None:
    with jax.enable_x64(True):
        found = bit_flips.check_fit(logits, length, jax.tree.map(_widened, params))
    if found != np.float64:
        raise ValueError(
            f"audit: this model computes in {found} whatever its params, since its logits are {found} where they are "
            "float64; pass reference=, a substitute that computes in float64, or audit=0"
        )
