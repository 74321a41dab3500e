"""Blow-up and influence: how far a recognizer of bit strings moves when one bit is flipped.

Numbers of sections, definitions and equations are those of Kövér et al., Understanding the Parameter Space Geometry of
Transformers Encoding Boolean Functions. Each function has its definition and an example, which makes the file long.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.boolean.blow_up_results import BlowUps, Influences, accumulated
from jaxsens.boolean.strings import require_bits
from jaxsens.execution import checks, memory, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.independence import require_independent
from jaxsens.typing import Array, Internals, PyTree

__all__ = [
    "LAYERS",
    "BlowUps",
    "ComputeInternals",
    "Influences",
    "blow_up",
    "blow_up_bound",
    "blow_ups",
    "cumulative_blow_up",
    "influences",
]

LAYERS = ("last", "all")


class ComputeInternals(Protocol):
    """A recognizer that also returns its states and normalizers.

    Example:
        >>> def internals(params, strings):
        ...     states = jnp.cumsum(jnp.pad(strings, ((0, 0), (0, 1))), 1)[:, None, :, None] * params
        ...     return Internals(states[:, 0, -1, 0], states, jnp.ones((len(strings), 1, strings.shape[1] + 1)))
        >>> internals(2.0, jnp.array([[1, 1]])).logits.tolist()
        [4.0]
    """

    def __call__(self, params: PyTree, strings: Array, /) -> Internals:
        """Map strings ``[b n]`` of bits to the logits, states and normalizers, with ``t = n + 1`` positions."""
        ...


def blow_up(normalizers: Array) -> Array:
    """Return ``tau = max_t (1 + z_t)``, how much a normalization can amplify a change of its input (Eq. 17).

    Args:
        normalizers: ``z = 1 / sqrt(variance + epsilon)`` ``[..., r t]``; infinite where ``tau`` is infinite.

    Returns:
        ``tau`` ``[..., r]``, on the device of the normalizers.

    Example:
        >>> blow_up(np.array([[1.0, 3.0], [0.5, 0.0]]))
        array([4. , 1.5])
    """
    normalizers = normalizers if isinstance(normalizers, jax.Array) else _at_least_0(normalizers)
    return (1 + normalizers).max(-1)


def cumulative_blow_up(normalizers: Array) -> np.ndarray:
    """Return ``beta_r = tau_1 ... tau_r``, the blow-up through the first ``r`` normalizations (Eq. 18).

    The product is computed on the host in float64, since that of two layers may exceed float32. It is infinite from the
    first infinite ``tau`` on.

    Args:
        normalizers: ``[..., r t]``, at least 0, in the order in which they are applied.

    Returns:
        ``beta`` ``[..., r]``; the last entry is that of the whole model.

    Raises:
        ValueError: If a normalizer is NaN or negative.

    Example:
        >>> cumulative_blow_up(np.array([[1.0, 3.0], [0.5, 0.0]]))
        array([4., 6.])
    """
    normalizers = _at_least_0(normalizers)
    return accumulated(blow_up(normalizers))


def blow_up_bound(epsilon: float, layers: int) -> float:
    """Return ``(1 + 1 / sqrt(epsilon))^layers``, an upper bound of the cumulative blow-up (Lem. 3.2).

    Args:
        epsilon: The number added to the variance; for 0 the bound is infinite.
        layers: Number of normalizations: L in the paper, which has one in each layer.

    Raises:
        ValueError: If ``epsilon`` is negative or not finite, or ``layers`` no integer of at least 1.

    Example:
        >>> blow_up_bound(0.25, 3)
        27.0
    """
    checks.require_finite("epsilon", epsilon)
    layers = checks.require_count("layers", layers)
    with np.errstate(divide="ignore", over="ignore"):
        return float((1 + 1 / np.sqrt(np.float64(epsilon))) ** layers)


def blow_ups(
    internals: ComputeInternals,
    *,
    execution: Execution = DEFAULT,
) -> Callable[[PyTree, Array], BlowUps]:
    """Measure the blow-up of every normalization on every string, per normalization and cumulative (s.2.5).

    Args:
        internals: ``internals(params, strings [b n])`` -> ``Internals``.
        execution: How to run; see ``Execution``.

    Returns:
        ``measure(params, strings [b n])`` -> ``BlowUps``.

    Raises:
        ValueError: When called, if the strings are not bits or do not fit the model, or if what it gives for a string
            depends on other strings.
        FloatingPointError: When called, if a normalizer is NaN or negative; the message names the first one.

    Example:
        >>> def internals(params, strings):      # one normalization of two positions, with z = 1 and 3
        ...     count = len(strings)
        ...     normalizers = jnp.broadcast_to(jnp.array([1.0, 3.0]), (count, 1, 2))
        ...     return Internals(jnp.ones(count), jnp.ones((count, 2, 2, 3)), normalizers)
        >>> blow_ups(internals)(None, [[0], [1]]).tau.tolist()
        [[4.0], [4.0]]
    """
    require_execution(execution)
    checks.require_functions(internals=internals)

    def measure(params: PyTree, strings: Array) -> BlowUps:
        strings = require_bits(strings)
        spec = _one_of(strings)
        _check_internals(internals, params, spec)
        require_independent(internals, params, strings, execution=execution)
        forwards = execution.chunk or memory.chunk_of(internals, params, spec, execution=execution)
        tau = parallel.map_items(
            parallel.bind(_blow_ups, internals), strings, params, execution=execution.replace(chunk=forwards)
        )
        if at := _first(~(tau >= 1)):
            raise FloatingPointError(
                f"the blow-up of normalization {at[1]} on string {at[0]} is {tau[at]}, not 1 or more"
            )
        return BlowUps(tau, forwards)

    return measure


def influences(
    internals: ComputeInternals,
    *,
    positions: Sequence[int] | None = None,
    layers: str = "last",
    execution: Execution = DEFAULT,
) -> Callable[..., Influences]:
    """Measure ``I_n(f, x) = ||f(x) - f(x with bit n flipped)||_2``, the absolute influence of a bit (Def. 2.7).

    ``f`` is the activation of a position, in units of the states, and the logit. A bit that the model ignores has
    influence 0 up to rounding. States stay on the device.

    Args:
        internals: ``internals(params, strings [b n])`` -> ``Internals``.
        positions: Positions ``[p]`` of the activations, ``(-1,)`` for the end of string; by default all ``n + 1``.
        layers: ``"last"``, or ``"all"`` for the embeddings and every layer.
        execution: How to run; its ``chunk`` counts model forwards, ``s + 1`` for a string.

    Returns:
        ``measure(params, strings [b n], sites=None)`` -> ``Influences``, where ``sites [s]`` are the bits to flip,
        counted from 0, by default all.

    Raises:
        ValueError: If ``layers`` is unknown or ``positions`` are not integers; when called, if the strings are not bits
            or do not fit the model, if a site or position lies outside of them, or if what the model gives for a string
            depends on other strings.
        FloatingPointError: When called, if an influence is not finite; the message names the first one.

    Example:
        >>> def internals(params, strings):      # the logit is the first bit
        ...     count, n = strings.shape
        ...     logits = strings[:, 0].astype(jnp.float32)
        ...     return Internals(logits, jnp.zeros((count, 2, n + 1, 1)), jnp.ones((count, 1, n + 1)))
        >>> influences(internals)(None, [[0, 1]]).logits.tolist()
        [[1.0, 0.0]]
    """
    require_execution(execution)
    checks.require_functions(internals=internals)
    if layers not in LAYERS:
        raise ValueError(f"layers must be one of {LAYERS}, got {layers!r}")
    chosen = None if positions is None else _indices("positions", positions)

    def measure(params: PyTree, strings: Array, sites: Array | None = None) -> Influences:
        strings = require_bits(strings)
        spec, length = _one_of(strings), strings.shape[1]
        where = np.arange(length + 1) if chosen is None else _inside("positions", chosen, -length - 1, length + 1)
        flips = np.arange(length) if sites is None else _inside("sites", _indices("sites", sites), 0, length)
        _check_internals(internals, params, spec)
        require_independent(internals, params, strings, execution=execution)
        forwards = execution.chunk or memory.chunk_of(internals, params, spec, execution=execution)
        rows = min(forwards, len(flips) + 1)
        observed = tuple((where % (length + 1)).tolist())
        fn = parallel.bind(_bit_influences, internals, observed, layers, rows)
        at_once = execution.replace(chunk=max(1, forwards // (len(flips) + 1)))
        flips = flips.astype(np.int32)
        states, logits = parallel.map_items(fn, strings, params, flips, execution=at_once)
        for name, values in (("logit", logits), ("activations", states)):
            if at := _first(~np.isfinite(values)):
                raise FloatingPointError(
                    f"the influence of bit {flips[at[1]]} of string {at[0]} on the {name} is {values[at]}: a value in "
                    "the model is not finite, or too large to be squared; look at the parameters"
                )
        return Influences(states, logits, flips, observed, forwards)

    return measure


def _blow_ups(internals: ComputeInternals, string: Array, params: PyTree) -> Array:
    """Return the blow-ups ``[r]`` of one string."""
    return blow_up(internals(params, string[None]).normalizers[0])


def _bit_influences(
    internals: ComputeInternals,
    positions: tuple[int, ...],
    layers: str,
    rows: int,
    string: Array,
    params: PyTree,
    sites: Array,
) -> tuple[Array, Array]:
    """Return the influences of the sites ``[s]`` of one string, on states and on the logit."""
    blocks = -(-(len(sites) + 1) // rows)
    # Site -1 is the unchanged string: the first of the copies, so that one program evaluates all of them.
    flips = jnp.pad(sites, (1, blocks * rows - len(sites) - 1), constant_values=-1).reshape(blocks, rows)

    def observe(flips: Array) -> tuple[Array, Array]:
        flipped = flips[:, None] == jnp.arange(len(string))[None]
        values = internals(params, jnp.where(flipped, 1 - string[None], string[None]))
        states = values.states[:, :, np.asarray(positions)]
        return states if layers == "all" else states[:, -1], values.logits

    def block(clean: tuple[Array, Array], flips: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        copies = observe(flips)
        # Each block begins with a site, the first one with -1; only the last one is padded.
        clean = jax.tree.map(lambda old, new: jnp.where(flips[0] < 0, new[0], old), clean, copies)
        states, logits = jax.tree.map(lambda old, new: new - old[None], clean, copies)
        return clean, (jnp.linalg.norm(states, axis=-1), jnp.abs(logits))

    shapes = jax.eval_shape(observe, flips[0])
    empty = jax.tree.map(lambda a: jnp.zeros(a.shape[1:], a.dtype), shapes)
    _, changes = jax.lax.scan(block, empty, flips)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[1 : len(sites) + 1], changes)


def _one_of(strings: np.ndarray) -> jax.ShapeDtypeStruct:
    """Return the shape of one string as a batch."""
    return jax.ShapeDtypeStruct((1, strings.shape[1]), strings.dtype)


def _check_internals(internals: ComputeInternals, params: PyTree, one: jax.ShapeDtypeStruct) -> None:
    """Raise unless the recognizer gives, for a single string, internals of the promised shapes."""
    try:
        shapes = jax.eval_shape(internals, params, one)
    except Exception as error:
        raise ValueError(f"strings of {one.shape[1]} bits and params do not fit the recognizer: {error}") from error
    if not isinstance(shapes, Internals):
        raise ValueError(f"internals must return jaxsens.typing.Internals, got {type(shapes).__name__}")
    logits, states, normalizers = (leaf.shape for leaf in shapes)
    positions = one.shape[1] + 1
    if logits != (1,) or len(states) != 4 or states[::2] != (1, positions) or 0 in states:
        raise ValueError(
            f"internals must return logits [b] and states [b l+1 t d] with t = n + 1, got {logits} and {states} for "
            f"one string of {one.shape[1]} bits"
        )
    if len(normalizers) != 3 or normalizers[::2] != (1, positions):
        raise ValueError(f"internals must return normalizers [b r t] with t = n + 1 = {positions}, got {normalizers}")


def _indices(name: str, values: Array | Sequence[int]) -> np.ndarray:
    values = checks.host_values(values, name)
    if values.ndim != 1 or not len(values) or values.dtype.kind not in "iu":
        raise ValueError(f"{name} must be at least one index, a list of integers, got {values.tolist()!r}")
    return values.astype(np.int64)


def _inside(name: str, values: np.ndarray, low: int, stop: int) -> np.ndarray:
    if at := _first((values < low) | (values >= stop)):
        raise ValueError(f"{name} must lie in {low} .. {stop - 1} for strings of this length, got {values[at]}")
    return values


def _at_least_0(normalizers: Array) -> np.ndarray:
    normalizers = checks.host_values(normalizers, "normalizers")
    if at := _first(~(normalizers >= 0)):
        raise ValueError(f"normalizers must be at least 0, got {normalizers[at]} at {list(at)}")
    return normalizers


def _first(mask: np.ndarray) -> tuple[int, ...] | None:
    """Return the index of the first True, if there is one."""
    indices = np.argwhere(mask)
    return tuple(indices[0].tolist()) if len(indices) else None


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
