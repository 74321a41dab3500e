"""Samplers of bit strings: uniform, all of them, balanced by label, and at the boundary of a language.

Strings are int32 ``[count n]`` of zeros and ones. Position 0 is the most significant bit of a string's index. Draw
number i depends only on the key and on i, so that the first k of 2k strings are the k strings.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution import checks
from jaxsens.execution.keys import require_key
from jaxsens.typing import Array, Key

__all__ = [
    "LARGEST_INDEXED",
    "LARGEST_LISTED",
    "Accept",
    "balanced",
    "exhaustive",
    "from_indices",
    "labels",
    "near_boundary",
    "require_bits",
    "require_positions",
    "uniform",
]

Accept = Callable[[Array], Array]
"""A language's membership: ``accept(strings [b n]) -> bool [b]``."""

LARGEST_INDEXED = 30
"""Largest number of positions for which strings have an int32 index."""

LARGEST_LISTED = 24
"""Largest number of positions for which all strings are listed in memory, 1.5 GiB."""

_ROWS = 2**14  # strings for which acceptance is evaluated at once; no result depends on it


def uniform(key: Key, count: int, n: int) -> jax.Array:
    """Draw strings with independent, fair bits.

    Args:
        key: Random key; the number of each string is folded in.
        count: Number of strings.
        n: Positions of a string.

    Returns:
        Strings ``[count n]``, int32.

    Raises:
        ValueError: If ``count`` or ``n`` is no integer of at least 1.

    Example:
        >>> uniform(jax.random.key(0), 100, 8).shape
        (100, 8)
    """
    numbers = np.arange(checks.require_count("count", count), dtype=np.uint32)
    return _drawn(require_key(key, traced=True), numbers, require_positions(n))


def exhaustive(n: int) -> jax.Array:
    """List all strings in the order of their indices, big-endian: ``0..00, 0..01, 0..10, ...``.

    They take ``4 n 2**n`` bytes; ``truth_tables.truth_table`` needs no such list.

    Returns:
        Strings ``[2**n n]``, int32.

    Raises:
        ValueError: If ``n`` is no integer from 1 to ``LARGEST_LISTED``.

    Example:
        >>> exhaustive(2).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    return from_indices(np.arange(2 ** require_positions(n, LARGEST_LISTED), dtype=np.int32), n)


def balanced(key: Key, count: int, accept: Accept, n: int, *, tries: int | None = None) -> jax.Array:
    """Draw accepted and rejected strings in turn, each uniform among the strings of its label.

    Uniform strings are drawn until there are enough of both labels; rows 0, 2, ... are the accepted ones and rows 1,
    3, ... the rejected ones, independent of each other and in the order in which they were drawn.

    Args:
        key: Random key; the number of each drawn string is folded in.
        count: Number of strings; an odd number has one accepted string more.
        accept: ``accept(strings [b n]) -> bool [b]``.
        n: Positions of a string.
        tries: Largest number of strings to draw; by default 64 times ``count``, and at least 2**20.

    Returns:
        Strings ``[count n]``, int32.

    Raises:
        ValueError: If ``count``, ``n`` or ``tries`` is no integer of at least 1, if ``accept`` returns anything but
            booleans ``[b]``, or if ``tries`` strings hold too few of a label.

    Example:
        >>> np.asarray(balanced(jax.random.key(0), 4, lambda x: x[:, 0] == 1, 5))[:, 0]
        array([1, 0, 1, 0], dtype=int32)
    """
    count = checks.require_count("count", count)
    needed = {True: (count + 1) // 2, False: count // 2}
    tries = max(2**20, 64 * count) if tries is None else tries
    chosen = _search(key, require_positions(n), partial(labels, accept), needed, tries, "accept(string) is")
    result = np.empty((count, n), np.int32)
    result[0::2], result[1::2] = chosen[True], chosen[False]
    return jnp.asarray(result)


def near_boundary(key: Key, count: int, accept: Accept, n: int, *, tries: int | None = None) -> jax.Array:
    """Draw strings at the boundary: uniform among all strings, of either label, that some single flip relabels.

    The distribution is that of a uniform string given that its sensitivity is at least 1 (Def. 2.2 of Kövér et al.,
    Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions), with replacement. Uniform
    strings are drawn, each is evaluated with its n flips, and those that no flip relabels are discarded.

    Args:
        key: Random key; the number of each drawn string is folded in.
        count: Number of strings.
        accept: ``accept(strings [b n]) -> bool [b]``; evaluated on ``n + 1`` strings for each drawn one.
        n: Positions of a string.
        tries: Largest number of strings to draw; by default 64 times ``count``, and at least 2**14.

    Returns:
        Strings ``[count n]``, int32.

    Raises:
        ValueError: If ``count``, ``n`` or ``tries`` is no integer of at least 1, if ``accept`` returns anything but
            booleans ``[b]``, or if ``tries`` strings hold too few at the boundary.

    Example:
        >>> at_zero_or_one = near_boundary(jax.random.key(0), 5, lambda x: x.any(1), 3).sum(1)   # "or" of three bits
        >>> bool((at_zero_or_one <= 1).all())
        True
    """
    count = checks.require_count("count", count)
    tries = max(2**14, 64 * count) if tries is None else tries
    flips = np.concatenate([np.zeros((1, require_positions(n)), np.int32), np.eye(n, dtype=np.int32)])

    def relabeled(strings: Array) -> np.ndarray:
        copies = strings[:, None] ^ flips[None]
        accepted = labels(accept, copies.reshape(-1, n)).reshape(-1, n + 1)
        return (accepted[:, :1] != accepted[:, 1:]).any(1)

    return jnp.asarray(_search(key, n, relabeled, {True: count}, tries, "some flip relabels the string:")[True])


@partial(jax.jit, static_argnums=1)
def from_indices(indices: Array, n: int) -> jax.Array:
    """Return the strings ``[*b n]``, int32, with these indices ``[*b]``; position 0 is the most significant bit.

    Example:
        >>> from_indices(np.array([1, 6]), 3).tolist()
        [[0, 0, 1], [1, 1, 0]]
    """
    bits = [(indices >> (n - 1 - position)) & 1 for position in range(n)]
    return jnp.stack(bits, -1).astype(jnp.int32)


def labels(accept: Accept, strings: Array) -> np.ndarray:
    """Return ``accept(strings [b n])`` on the host ``[b]``.

    Raises:
        ValueError: If it is not one boolean for each string.

    Example:
        >>> labels(lambda strings: strings[:, 0] == 1, np.array([[0, 1], [1, 1]]))
        array([False,  True])
    """
    accepted = np.asarray(accept(strings))
    if accepted.shape != strings.shape[:1] or accepted.dtype != bool:
        raise ValueError(
            f"accept must map strings of shape {strings.shape} to booleans of shape {strings.shape[:1]}, got "
            f"{accepted.dtype} of shape {accepted.shape}; compare logits with their threshold"
        )
    return accepted


def require_positions(n: int, largest: int | None = None) -> int:
    """Return ``n`` if it is an integer from 1 to ``largest`` (by default without limit); raise ValueError otherwise.

    Example:
        >>> require_positions(3)
        3
        >>> require_positions(30, largest=20)
        Traceback (most recent call last):
        ValueError: n, the positions of a string, must be an integer from 1 to 20, to fit in ...
    """
    name = "n, the positions of a string,"
    if largest is None:
        return checks.require_count(name, n)
    try:
        count = checks.require_count(name, n)
    except ValueError:
        count = 0
    if not 1 <= count <= largest:
        raise ValueError(f"{name} must be an integer from 1 to {largest}, to fit in memory, got {n}")
    return count


def require_bits(strings: Array) -> np.ndarray:
    """Return bit strings ``[b n]`` on the host as int32.

    Args:
        strings: Zeros and ones, as booleans, integers or floats.

    Raises:
        ValueError: If there is not at least one string of one bit, or if a value is neither 0 nor 1; the message names
            the string and the bit of the first one.

    Example:
        >>> require_bits([[True, False]])
        array([[1, 0]], dtype=int32)
    """
    strings = checks.host_values(strings, "strings")
    if strings.ndim != 2 or 0 in strings.shape:
        raise ValueError(f"strings must be [b n] with at least one string and one bit, got shape {strings.shape}")
    if len(bad := np.argwhere((strings != 0) & (strings != 1))):
        string, bit = bad[0]
        raise ValueError(f"strings must hold only 0 and 1, got {strings[string, bit]} for bit {bit} of string {string}")
    return strings.astype(np.int32)


@partial(jax.jit, static_argnums=2)
def _drawn(key: Key, numbers: Array, n: int) -> jax.Array:
    """Return the uniform strings with these numbers."""

    def draw(number: Array) -> Array:
        words = jax.random.bits(jax.random.fold_in(key, number), (-(-n // 32),), jnp.uint32)
        bits = (words[:, None] >> jnp.arange(32, dtype=jnp.uint32)[None]) & 1
        return bits.ravel()[:n].astype(jnp.int32)

    return jax.vmap(draw)(numbers)


def _search(
    key: Key, n: int, label: Accept, needed: dict[bool, int], tries: int, meaning: str
) -> dict[bool, np.ndarray]:
    """Return the first strings of each label, as many as needed, in the order in which uniform strings are drawn."""
    require_key(key)
    tries = checks.require_count("tries", tries)
    parts = {value: [] for value in needed}
    counts = dict.fromkeys(needed, 0)
    rows, drawn = max(1, _ROWS // (n + 1)), 0
    while any(counts[value] < needed[value] for value in needed):
        if drawn >= tries:
            rarest = min(needed, key=lambda value: counts[value] - needed[value])
            raise ValueError(
                f"accept: found {counts[rarest]} strings of {n} bits for which {meaning} {rarest}, of "
                f"{needed[rarest]} needed, among {drawn} uniform ones; raise tries, or construct such strings"
            )
        strings = _drawn(key, np.arange(drawn, drawn + rows, dtype=np.uint32), n)
        values = np.asarray(label(strings))[: tries - drawn]
        for value in needed:
            chosen = np.asarray(strings)[: len(values)][values == value][: needed[value] - counts[value]]
            parts[value].append(chosen)
            counts[value] += len(chosen)
        drawn += len(values)
    return {value: np.concatenate(some) if some else np.empty((0, n), np.int32) for value, some in parts.items()}


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
