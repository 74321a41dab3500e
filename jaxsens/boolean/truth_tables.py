"""Boolean functions as truth tables: exact, over all ``2**n`` strings.

A table ``[..., 2**n]`` holds ``f(x)`` at the index whose bits are the string x, the first position the most significant
bit: booleans, or integers 0 and 1. All functions batch over leading axes, and work under ``jit`` and ``vmap``, where
integers are not checked and all but 0 count as 1. Tables have at most ``2**30`` entries, the batch included: indices
and counts are int32. Costs are those of one table, in operations and in bytes beyond the table, which has ``2**n``.
Each of several processes computes whole results.

Definitions: Kövér et al., Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions, s.2.1;
O'Donnell, Analysis of Boolean Functions (2014). ``block_sensitivity`` and ``certificate_complexity`` come from
``certificates``. The file is long since every function comes with its definition, cost and an example.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.boolean import strings
from jaxsens.boolean.certificates import block_sensitivity, certificate_complexity
from jaxsens.boolean.tables import LARGEST, of_tables, variables
from jaxsens.execution import checks
from jaxsens.typing import Array

__all__ = [
    "average_sensitivity",
    "block_sensitivity",
    "certificate_complexity",
    "degree",
    "degree_weights",
    "influences",
    "max_sensitivity",
    "min_sensitivity",
    "noise_stability",
    "profile",
    "sensitivity",
    "truth_table",
    "walsh",
]


def truth_table(accept: strings.Accept, n: int, *, chunk: int = 2**16) -> np.ndarray:
    """Evaluate a function on all ``2**n`` strings.

    ``accept`` is called once a chunk, always with ``chunk`` strings: pass ``jax.jit(accept)`` where it is slow, and
    ``functools.partial(jitted, params)`` for a model, which then compiles once for all ``params``. Cost: ``2**n``
    evaluations; ``4 n chunk`` bytes of strings, and the memory of ``accept``.

    Args:
        accept: ``accept(strings [b n]) -> bool [b]``; strings are int32 zeros and ones.
        n: Positions of a string.
        chunk: Strings to evaluate at once.

    Returns:
        The table ``[2**n]``, booleans, on the host.

    Raises:
        ValueError: If ``n`` is not from 1 to 30, if ``chunk`` is smaller than 1, or if ``accept`` returns anything but
            booleans ``[b]``.

    Example:
        >>> truth_table(lambda x: x.sum(1) % 2 == 1, 2)
        array([False,  True,  True, False])
    """
    size = 2 ** strings.require_positions(n, LARGEST)
    table, chunk = np.empty(size, bool), min(checks.require_count("chunk", chunk), size)
    for start in range(0, size, chunk):
        indices = np.minimum(np.arange(start, start + chunk), size - 1).astype(np.int32)
        table[start : start + chunk] = strings.labels(accept, strings.from_indices(indices, n))[: size - start]
    return table


@of_tables
def sensitivity(table: Array, /) -> jax.Array:
    """Count for every string the flips of one bit that change the function (Def. 2.2).

    ``s(x) = #{i : f(x) != f(x with bit i flipped)}``. Cost: ``n 2**n / 4`` word operations, ``2**n`` bytes.

    Args:
        table: Truth tables ``[..., 2**n]``.

    Returns:
        Sensitivities ``[..., 2**n]``, int8.

    Raises:
        ValueError: If the table is no truth table.

    Example:
        >>> sensitivity([0, 1, 1, 1]).tolist()      # "or" of two bits
        [2, 1, 1, 0]
    """
    return jax.lax.platform_dependent(table, tpu=_sensitivity_in_lanes, default=_sensitivity_in_words)


@of_tables
def profile(table: Array, /) -> jax.Array:
    """Count the strings of each sensitivity: ``K_k = #{x : s(x) = k}`` (Def. 2.6), which sum to ``2**n``.

    Cost: as ``sensitivity``, and ``2**n`` increments; ``9 * 2**n`` bytes.

    Args:
        table: Truth tables ``[..., 2**n]``.

    Returns:
        Exact counts ``[..., n + 1]``, int32, of sensitivities 0 to n.

    Raises:
        ValueError: If the table is no truth table.

    Example:
        >>> profile([0, 1, 1, 1]).tolist()      # one string of sensitivity 0, two of 1, one of 2
        [1, 2, 1]
    """
    counts, n = sensitivity(table).reshape(-1, table.shape[-1]), variables(table)

    # On an accelerator, all threads would add to a few addresses.
    profiles = jax.lax.platform_dependent(
        counts, cpu=functools.partial(_profile_by_addition, n=n), default=functools.partial(_profile_by_comparison, n=n)
    )
    return profiles.reshape(*table.shape[:-1], -1)


@of_tables
def average_sensitivity(table: Array, /) -> jax.Array:
    """Average the sensitivity over all strings: ``as(f) = 2**-n sum_x s(x)`` (Def. 2.3), in flips, from 0 to n.

    It is the sum of the influences. Cost: as ``profile``, which gives the numbers as integers.

    Args:
        table: Truth tables ``[..., 2**n]``.

    Returns:
        Averages ``[...]``, float32, exact while ``n 2**n`` is below 2**24, n = 19, and rounded beyond.

    Raises:
        ValueError: If the table is no truth table.

    Example:
        >>> float(average_sensitivity([0, 1, 1, 1]))
        1.0
    """
    counts = jnp.moveaxis(profile(table), -1, 0)
    return sum(k * count.astype(jnp.float32) for k, count in enumerate(counts)) / table.shape[-1]


@of_tables
def min_sensitivity(table: Array, /) -> jax.Array:
    """Return the smallest sensitivity of a string (Def. 2.5). Cost: as ``sensitivity``.

    Args:
        table: Truth tables ``[..., 2**n]``.

    Returns:
        Sensitivities ``[...]``, int8, from 0 to n.

    Raises:
        ValueError: If the table is no truth table.

    Example:
        >>> int(min_sensitivity([0, 1, 1, 1]))
        0
    """
    return sensitivity(table).min(-1)


@of_tables
def max_sensitivity(table: Array, /) -> jax.Array:
    """Return the largest sensitivity of a string (Def. 2.4). Cost: as ``sensitivity``.

    Args:
        table: Truth tables ``[..., 2**n]``.

    Returns:
        Sensitivities ``[...]``, int8, from 0 to n.

    Raises:
        ValueError: If the table is no truth table.

    Example:
        >>> int(max_sensitivity([0, 1, 1, 1]))
        2
    """
    return sensitivity(table).max(-1)


@of_tables
def influences(table: Array, /) -> jax.Array:
    """Return how often each position matters: ``Inf_i = P_x[f(x) != f(x with bit i flipped)]`` (O'Donnell, Def. 2.13).

    Cost: ``n 2**n / 4`` word operations, ``2**n`` bytes.

    Args:
        table: Truth tables ``[..., 2**n]``.

    Returns:
        Probabilities ``[..., n]`` in [0, 1], float32, in the order of positions; exact to n = 25, rounded beyond.

    Raises:
        ValueError: If the table is no truth table.

    Example:
        >>> influences([0, 0, 1, 1]).tolist()      # the first of two bits
        [1.0, 0.0]
    """
    return jax.lax.platform_dependent(table, tpu=_influences_in_lanes, default=_influences_in_words)


@of_tables
def walsh(table: Array, /) -> jax.Array:
    """Transform to the Walsh-Fourier spectrum: ``fhat(S) = 2**-n sum_x (-1)**f(x) (-1)**(sum of x_i, i in S)``.

    Values 0 and 1 stand for +1 and -1, so that ``sum_S fhat(S)**2 = 1`` (Parseval; O'Donnell, s.1.2 - 1.4). Sums
    are int32, exact for all n, and each coefficient is rounded once (not at all to n = 24). Cost: ``n 2**n`` additions,
    ``8 * 2**n`` bytes, the result among them.

    Args:
        table: Truth tables ``[..., 2**n]``.

    Returns:
        Coefficients ``[..., 2**n]``, float32; the bits of an index mark the positions in the set S, the first position
        the most significant bit.

    Raises:
        ValueError: If the table is no truth table.

    Example:
        >>> walsh([0, 1, 1, 0]).tolist()      # parity of two bits
        [0.0, 0.0, 0.0, 1.0]
    """
    return _sums(table).astype(jnp.float32) / table.shape[-1]


@of_tables
def degree_weights(table: Array, /) -> jax.Array:
    """Sum the squared spectrum by degree: ``W_k = sum over |S| = k of fhat(S)**2``, with sum 1 (O'Donnell, s.1.4).

    Summed in pairs, so that rounding grows as n, not as 2**n. Cost: as ``walsh``, and ``4 * 2**n`` additions;
    ``16 * 2**n`` bytes.

    Args:
        table: Truth tables ``[..., 2**n]``.

    Returns:
        Weights ``[..., n + 1]``, float32, of degrees 0 to n.

    Raises:
        ValueError: If the table is no truth table.

    Example:
        >>> degree_weights([0, 1, 1, 0]).tolist()
        [0.0, 0.0, 1.0]
    """
    weights = jnp.square(walsh(table))[..., None, :]  # [... degree 2**i]
    for _ in range(variables(table)):
        without, with_it = jnp.split(weights, 2, -1)  # the most significant position left
        one_more = [(0, 0)] * (weights.ndim - 2)
        weights = jnp.pad(without, [*one_more, (0, 1), (0, 0)]) + jnp.pad(with_it, [*one_more, (1, 0), (0, 0)])
    return weights[..., 0]


@of_tables
def degree(table: Array, /) -> jax.Array:
    """Return the largest ``|S|`` with ``fhat(S) != 0``, 0 for constants (O'Donnell, Def. 1.10): exact, in integers.

    Cost: as ``walsh``.

    Args:
        table: Truth tables ``[..., 2**n]``.

    Returns:
        Degrees ``[...]``, int32, from 0 to n.

    Raises:
        ValueError: If the table is no truth table.

    Example:
        >>> int(degree([0, 1, 1, 0]))
        2
    """
    sizes = jax.lax.population_count(jnp.arange(table.shape[-1], dtype=jnp.int32))
    return jnp.where(_sums(table) != 0, sizes.reshape((1,) * (table.ndim - 1) + (-1,)), 0).max(-1)


def noise_stability(table: Array, rho: float) -> jax.Array:
    """Correlate a function with itself under noise: ``Stab_rho = E[F(x) F(y)] = sum_k rho**k W_k``, F of values +-1.

    Every bit of y has correlation rho with that of x: for rho >= 0 it is kept with that probability and drawn again
    otherwise (O'Donnell, Def. 2.42, Thm. 2.49). Cost: as ``degree_weights``.

    Args:
        table: Truth tables ``[..., 2**n]``.
        rho: The correlation, a number from -1 to 1.

    Returns:
        Stabilities ``[...]`` in [-1, 1], float32.

    Raises:
        ValueError: If the table is no truth table, or if ``rho`` is not from -1 to 1 (unchecked under ``jit``).

    Example:
        >>> float(noise_stability([0, 1, 1, 0], 0.5))      # parity of two bits: rho**2
        0.25
    """
    if not isinstance(rho, jax.core.Tracer) and (
        np.ndim(rho) or np.asarray(rho).dtype.kind not in "iuf" or not -1 <= rho <= 1
    ):
        raise ValueError(f"rho must be a number from -1 to 1, got {rho}")
    return _stability(table, rho)


@of_tables
def _stability(table: Array, rho: Array, /) -> jax.Array:
    weights = jnp.moveaxis(degree_weights(table), -1, 0)
    total = jnp.zeros_like(weights[0])
    for weight in weights[::-1]:  # Horner's rule, which has no 0**0
        total = total * rho + weight
    return total


def _profile_by_addition(counts: Array, n: int) -> Array:
    return jax.vmap(lambda row: jnp.zeros(n + 1, jnp.int32).at[row.astype(jnp.int32)].add(1))(counts)


def _profile_by_comparison(counts: Array, n: int) -> Array:
    return jnp.stack([(counts == k).sum(-1, dtype=jnp.int32) for k in range(n + 1)], -1)


_LANES = 128
"""Entries of a tile's last axis on a TPU, which a shorter axis would leave empty."""


def _in_lanes(table: Array) -> Array:
    """Return tables ``[..., 2**n]`` as ``[..., 2**n / lanes, lanes]``."""
    return table.reshape(*table.shape[:-1], -1, min(_LANES, table.shape[-1]))


def _with_bit_flipped(table: Array, distance: int) -> Array:
    """Return a table in lanes with each entry replaced by the one at that distance, whose index differs in one bit."""
    lanes = table.shape[-1]
    axis = -1 if distance < lanes else -2
    step = distance if distance < lanes else distance // lanes
    index = jnp.arange(table.shape[axis])
    at_one = ((index & step) != 0).reshape((1,) * (table.ndim + axis) + (-1,) + (1,) * (-1 - axis))
    return jnp.where(at_one, jnp.roll(table, step, axis), jnp.roll(table, -step, axis))


def _influences_in_lanes(table: Array) -> Array:
    lanes, n = _in_lanes(table.astype(jnp.int32)), variables(table)
    flips = [(lanes != _with_bit_flipped(lanes, 2**i)).sum((-2, -1), dtype=jnp.int32) for i in reversed(range(n))]
    if n == 0:
        return jnp.zeros((*table.shape[:-1], 0), jnp.float32)
    return (jnp.stack(flips, -1) / table.shape[-1]).astype(jnp.float32)


def _influences_in_words(table: Array) -> Array:
    words, n = _words(table), variables(table)
    counts = []
    for difference in _differences(words):
        repeats = words.shape[-1] // (difference.shape[-3] * difference.shape[-1])
        ones = jax.lax.population_count(difference).astype(jnp.int32)
        counts.append(repeats * ones.sum((-3, -2, -1)))
    if n == 0:
        return jnp.zeros((*table.shape[:-1], 0), jnp.float32)
    return (jnp.stack(counts[len(counts) - n :], -1) / (4 * words.shape[-1])).astype(jnp.float32)


def _sensitivity_in_lanes(table: Array) -> Array:
    lanes = _in_lanes(table.astype(jnp.int32))
    flips = [(lanes != _with_bit_flipped(lanes, 2**i)).astype(jnp.int32) for i in range(variables(table))]
    return sum(flips, jnp.zeros_like(lanes)).astype(jnp.int8).reshape(table.shape)


def _sensitivity_in_words(table: Array) -> Array:
    words = _words(table)
    total = jnp.zeros_like(words)
    for difference in _differences(words):  # bytes cannot overflow: at most 30 ones each
        total = (total.reshape(*difference.shape[:-2], -1, difference.shape[-1]) + difference).reshape(words.shape)
    counts = jax.lax.bitcast_convert_type(total, jnp.int8)
    return counts.reshape(*table.shape[:-1], -1)[..., : table.shape[-1]]


def _sums(table: Array) -> Array:
    """Return ``2**n fhat`` as integers."""
    return jax.lax.platform_dependent(table, tpu=_sums_in_lanes, default=_sums_in_pairs)


def _sums_in_lanes(table: Array) -> Array:
    sums = _in_lanes(1 - 2 * table.astype(jnp.int32))
    index = jnp.arange(table.shape[-1]).reshape((1,) * (table.ndim - 1) + sums.shape[-2:])
    for i in range(variables(table)):
        partner = _with_bit_flipped(sums, 2**i)
        sums = jnp.where((index & 2**i) != 0, partner - sums, sums + partner)
    return sums.reshape(table.shape)


def _sums_in_pairs(table: Array) -> Array:
    """Add up as a butterfly does, two positions at a time, which halves the passes over memory."""
    sums = 1 - 2 * table.astype(jnp.int32)
    lead, left = table.shape[:-1], variables(table)
    while left:
        bits = min(2, left)
        parts = sums.reshape(*lead, -1, 2**bits, 2 ** (left - bits))
        parts = [parts[..., i, :] for i in range(2**bits)]
        for distance in (2, 1)[2 - bits :]:
            parts = [
                parts[i ^ distance] - parts[i] if i & distance else parts[i] + parts[i ^ distance]
                for i in range(len(parts))
            ]
        sums, left = jnp.stack(parts, -2), left - bits
    return sums.reshape(table.shape)


def _words(table: Array) -> Array:
    """Return tables as words of four entries, a byte each, ``[... 2**n / 4]``; shorter tables are repeated."""
    repeated = jnp.concatenate([table] * max(1, 4 // table.shape[-1]), -1).astype(jnp.uint8)
    return jax.lax.bitcast_convert_type(repeated.reshape(*table.shape[:-1], -1, 4), jnp.uint32)


def _differences(words: Array) -> list[Array]:
    """Return f(x) XOR f(x with bit i flipped), in words, for every position i.

    Words are ``[... a 2 d]`` by the position's bit, and differences, the same for both, ``[... a 1 d]``. The last two
    positions lie within a word: all differences, ``[... 2**n / 4 1 1]``.
    """
    lead, count = words.shape[:-1], words.shape[-1]
    across = [words.reshape(*lead, 2**i, 2, -1) for i in range(count.bit_length() - 1)]
    halves = (words >> 16) | (words << 16)
    even = jnp.uint32(0x00FF00FF)
    bytes_ = ((words >> 8) & even) | ((words & even) << 8)
    within = [(words ^ swapped)[..., None, None] for swapped in (halves, bytes_)]
    return [pair[..., :1, :] ^ pair[..., 1:, :] for pair in across] + within


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
