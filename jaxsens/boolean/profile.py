"""Sensitivity profiles: on how many bits of a string its acceptance depends, for a sample of strings or for all."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import substitution
from jaxsens.boolean import bit_flips
from jaxsens.boolean.decisions import decide, require_margin
from jaxsens.boolean.profile_result import Audit, Profile, over_strings
from jaxsens.boolean.strings import require_bits
from jaxsens.execution import backends, checks, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.typing import Array, Key, PyTree, Substitute

__all__ = ["Audit", "Profile", "sensitivity_profile"]


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

    def evaluate(
        fn: Callable[..., PyTree], strings: np.ndarray, forwards: int, *shared: PyTree, how: Execution = execution
    ) -> PyTree:
        items = max(1, forwards // (strings.shape[1] + 1))
        return parallel.map_items(fn, strings, *shared, execution=how.replace(chunk=items))

    def audited(sample: np.ndarray, strings: np.ndarray, decisions: np.ndarray, forwards: int, params: PyTree) -> Audit:
        chosen = strings[sample]
        narrow = evaluate(plain, chosen, forwards, params)
        with jax.enable_x64(True):
            params = jax.tree.map(_widened, params)
            how = backends.in_float64(execution)
            at_once = execution.chunk or bit_flips.default_chunk(exact, strings.shape[1], params, how)
            wide = evaluate(exact, chosen, at_once, params, how=how)
        bit_flips.check_finite(~np.isfinite(wide), sample, " in float64")
        changed = (decide(wide, margin) != decisions[sample]).mean(1)
        everything = len(sample) == len(strings) and bit_flips.exhaustive(strings)
        return Audit(over_strings(changed, rate=True, exact=everything), _relative_error(narrow, wide))

    def measure(key: Key, params: PyTree, strings: Array) -> Profile:
        if audit:
            require_key(key)
        strings = require_bits(strings)
        count, length = strings.shape
        bit_flips.check_fit(plain, length, params)
        substitution.require_independent_outputs(substitute, params, strings, execution=execution)
        if audit:
            _check_width(exact, length, params)
        forwards = execution.chunk or bit_flips.default_chunk(plain, length, params, execution)
        decisions, nonfinite = evaluate(
            parallel.bind(bit_flips.decide_neighbors, plain), strings, forwards, params, np.float64(margin)
        )
        bit_flips.check_finite(nonfinite, np.arange(count))
        report = audited(_sample(key, count, audit), strings, decisions, forwards, params) if audit else None
        return Profile(
            bit_flips.flips(decisions), decisions[:, 0], bit_flips.exhaustive(strings), report, float(margin), forwards
        )

    return measure


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
