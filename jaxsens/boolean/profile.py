"""Sensitivity profiles: on how many bits of a string its acceptance depends, for a sample of strings or for all."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import substitution
from jaxsens.boolean import bit_flips
from jaxsens.boolean.decisions import UNDEFINED, decide, require_margin
from jaxsens.boolean.strings import require_bits
from jaxsens.execution import checks, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.statistics.estimated import Estimated
from jaxsens.typing import Array, Axes, Figure, Key, PyTree, Substitute

__all__ = ["Audit", "Profile", "sensitivity_profile"]


@partial(jax.tree_util.register_dataclass, data_fields=["changed", "error"], meta_fields=[])
@dataclass(frozen=True, repr=False)
class Audit(Result):
    """Difference between float64 and the precision in which a profile was measured.

    Attributes:
        changed: The fraction of decisions that differ in float64, of the n + 1 of a string (with no bit or one bit
            flipped); the units are strings.
        error: The largest ``|logit - logit in float64|``, in standard deviations of the float64 logits.
    """

    changed: Estimate
    error: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of ``changed``; see ``Estimate.interval``."""
        return self.changed.interval(level)

    def _describe(self) -> Description:
        changed = self.changed
        table = {"changed": [changed.mean], "sem": [changed.sem], "error": [self.error]}
        facts = {"largest error": self.error}
        counts = f"share of decisions changed; {times(strings=changed.count)}"
        return Description(counts, changed.mean, self.interval(), facts=facts, table=lambda: table)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["flips", "decisions", "audit"],
    meta_fields=["exhaustive", "margin", "chunk"],
)
@dataclass(frozen=True, repr=False)
class Profile(Estimated):
    """Which bits of which strings turn acceptance into rejection or back, with counts, means and intervals.

    Intervals, scaled counts and means refer to all ``2^n`` strings and assume that the strings were drawn uniformly. If
    they are all of them, everything is exact, and intervals have no width.

    Attributes:
        flips: Whether flipping a bit turns acceptance into rejection or back ``[b n]``; False where one of the two
            decisions is undefined.
        decisions: Decisions about the unchanged strings, int8 ``[b]``; see ``decisions.decide``.
        exhaustive: Whether the strings are all ``2^n``, each once, in any order.
        audit: Comparison of the decisions with float64; ``None`` without an audit.
        margin: Margin of recognition, in units of the logit.
        chunk: Number of model forwards to evaluate at once.
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
        """Numbers of strings with sensitivity 0 to n, int ``[n+1]``."""
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

        Exact Python integers where the strings are all ``2^n``.

        Raises:
            ValueError: If a count exceeds float64, from n = 1024 on.
        """
        return tuple(self.counts.tolist()) if self.exhaustive else self._scaled(self.shares)

    def scaled_intervals(self, level: float = 0.95) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return intervals ``(low, high)`` that hold ``K_0 .. K_n`` at once: those of the shares, times 2^n.

        Raises:
            ValueError: If ``level`` is not strictly between 0 and 1, or a limit exceeds float64.
        """
        low, high = self.share_intervals(level)
        return (self.scaled, self.scaled) if self.exhaustive else (self._scaled(low), self._scaled(high))

    @cached_property
    def average_sensitivity(self) -> Estimate:
        """Mean of ``s(x)`` (Def. 2.3), in bits, from 0 to n; the units are strings, drawn uniformly.

        Its interval has no width where all sampled strings are equally sensitive; that of ``normalized_average`` has.
        """
        return _over_strings(self.sensitivities, rate=False, exact=self.exhaustive)

    @cached_property
    def normalized_average(self) -> Estimate:
        """Mean of ``s(x) / n``, a rate in [0, 1]: the fraction of bit flips that change the decision."""
        return _over_strings(self.sensitivities / self.flips.shape[1], rate=True, exact=self.exhaustive)

    @property
    def influences(self) -> np.ndarray:
        """Fraction of the strings on which flipping bit i changes the decision ``[n]``; the sum is the average."""
        return self.flips.mean(0)

    def influence_intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return intervals ``(low, high)``, each ``[n]``, that hold all n influences at once with this confidence.

        Clopper and Pearson's, each at level ``1 - (1 - level) / n`` (Bonferroni).

        Raises:
            ValueError: If ``level`` is not strictly between 0 and 1.
        """
        return self._intervals(self.flips.sum(0), level)

    @property
    def estimate(self) -> Estimate:
        """The mean sensitivity in bits, ``average_sensitivity``; exact, without width, of all ``2^n`` strings."""
        return self.average_sensitivity

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the shares of strings by sensitivity, with 95 % intervals that hold at once.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        shares = self.shares, *self.share_intervals()
        return draw("bars_by_position", ax, *shares, position="sensitivity of a string (bits)", quantity="share")

    def _describe(self) -> Description:
        strings, bits = self.flips.shape
        counts = f"{'all ' if self.exhaustive else ''}{times(strings=strings, bits=bits)}"
        facts = {"least": self.min_sensitivity, "most": self.max_sensitivity, "undefined": self.undefined.mean}

        def table() -> dict[str, np.ndarray]:
            low, high = self.share_intervals()
            return tidy({"sensitivity": None}, {"count": self.counts, "share": self.shares, "low": low, "high": high})

        return Description(counts, self.mean, self.interval(), facts=facts, table=table)

    @cached_property
    def undefined(self) -> Estimate:
        """Fraction of the strings without a decision at this margin."""
        return _over_strings(self.decisions == UNDEFINED, rate=True, exact=self.exhaustive)

    @property
    def min_sensitivity(self) -> int:
        """Smallest sensitivity of a string: that of the function (Def. 2.5), or more if the strings are a sample."""
        return int(self.sensitivities.min())

    @property
    def max_sensitivity(self) -> int:
        """Largest sensitivity of a string: that of the function (Def. 2.4), or less if the strings are a sample."""
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
            raise ValueError(f"counts of 2^{n} strings exceed float64: use shares and share_intervals") from error


def sensitivity_profile(
    substitute: Substitute,
    *,
    margin: float = 0.0,
    audit: int = 0,
    reference: Substitute | None = None,
    execution: Execution = DEFAULT,
) -> Callable[..., Profile]:
    """Measure on how many bits of a string its acceptance depends, for every string of a batch.

    ``s(x) = #{i : alpha(T(x)) and alpha(T(x with bit i flipped)) are acceptance and rejection, or the reverse}`` and
    ``K_j = #{x : s(x) = j}``: Defs. 2.2 to 2.6 of Kövér et al., Understanding the Parameter Space Geometry of
    Transformers Encoding Boolean Functions (arXiv 2606.08768), with alpha of Eq. 15. There acceptance is a Boolean
    function; here a string may be undefined at the margin, and a flip from or to such a string does not count.

    Args:
        substitute: The primitive, such as ``substitution.one_at_a_time(model.apply)``; its output is one logit, ``[]``
            or ``[1]``.
        margin: Margin of recognition, in units of the logit.
        audit: Number of strings, drawn with the key, to evaluate in float64 as well; at most all.
        reference: The primitive for the audit, by default ``substitute``. It is called with params in float64.
        execution: How to run; its ``chunk`` counts model forwards, ``n + 1`` for a string.

    Returns:
        ``measure(key, params, strings [b n])`` -> ``Profile``. The key decides only the audit.

    Raises:
        ValueError: If ``margin`` or ``audit`` is negative; when called, if strings are not ``[b n]`` of 0 and 1 with at
            least one bit, do not fit the model, the model has more than one logit, its output for a string depends on
            the others, or if the audited logits are not float64.
        FloatingPointError: When called, if a logit is not finite; the message names the first string and bit.

    Example:
        >>> from jaxsens import one_at_a_time
        >>> parity = one_at_a_time(lambda params, x, mask=None: 1.0 - 2.0 * (x.sum(1) % 2))
        >>> measured = sensitivity_profile(parity)(jax.random.key(0), None, np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
        >>> measured.scaled, float(measured.average_sensitivity.mean)
        ((0, 0, 4), 2.0)
    """
    require_execution(execution)
    substitution.require_substitute(substitute)
    require_margin(margin)
    audit = checks.require_count("audit", audit, 0)
    plain, exact = (
        parallel.bind(bit_flips.neighbor_logits, primitive, execution.precision)
        for primitive in (substitute, substitute if reference is None else reference)
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
        changed = (decide(wide, margin) != decisions[sample]).mean(1)
        everything = len(sample) == len(strings) and bit_flips.exhaustive(strings)
        return Audit(_over_strings(changed, rate=True, exact=everything), _relative_error(narrow, wide))

    def measure(key: Key, params: PyTree, strings: Array) -> Profile:
        if audit:
            require_key(key)
        strings = require_bits(strings)
        count, length = strings.shape
        bit_flips.check_fit(plain, length, params)
        substitution.require_independent_outputs(substitute, params, strings, execution=execution)
        if audit:
            _check_width(exact, length, params)
        forwards = execution.chunk or bit_flips.default_chunk(plain, length, params)
        decisions, nonfinite = evaluate(
            parallel.bind(bit_flips.decide_neighbors, plain), strings, forwards, params, np.float64(margin)
        )
        bit_flips.check_finite(nonfinite, np.arange(count))
        report = audited(_sample(key, count, audit), strings, decisions, forwards, params) if audit else None
        return Profile(
            bit_flips.flips(decisions), decisions[:, 0], bit_flips.exhaustive(strings), report, float(margin), forwards
        )

    return measure


def _over_strings(values: np.ndarray, *, rate: bool, exact: bool) -> Estimate:
    result = estimate.from_values(values, rate=rate, unit="strings")
    if exact:  # nothing was drawn
        return replace(result, sem=np.zeros_like(result.mean), rate=False)
    return result


def _sample(key: Key, count: int, size: int) -> np.ndarray:
    """Draw distinct indices of strings; the first ones do not depend on how many are drawn."""
    return np.arange(count) if size >= count else np.asarray(jax.random.permutation(key, count)[: int(size)])


def _widened(leaf: Any) -> Any:
    return np.asarray(leaf, np.float64) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf


def _relative_error(narrow: np.ndarray, wide: np.ndarray) -> float:
    error, scale = np.abs(narrow.astype(np.float64) - wide).max(), wide.std()
    return float(error / scale) if scale > 0 else (math.inf if error > 0 else 0.0)


def _check_width(logits: bit_flips.NeighborLogits, length: int, params: PyTree) -> None:
    with jax.enable_x64(True):
        dtype = bit_flips.check_fit(logits, length, jax.tree.map(_widened, params))
    if dtype != np.float64:
        raise ValueError(
            f"audit: this model computes in {dtype} whatever its params, since its logits are {dtype} for params in "
            "float64; pass reference=, a substitute that computes in float64, or audit=0"
        )


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
