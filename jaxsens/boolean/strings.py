"""Samplers of bit strings: uniform, all of them, balanced by label, and at the boundary of a language.

Strings are int32 ``[count n]`` of zeros and ones. Position 0 is the most significant bit of a string's index. Draw
number i hangs on the key and on i alone, so that the first k of 2k strings are the k strings.
"""

import operator
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

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
"""Most positions whose strings have an int32 index."""

LARGEST_LISTED = 24
"""Most positions whose strings are listed in memory, 1.5 GiB of them."""

_ROWS = 2**14  # strings that acceptance is asked for at once, here; no result depends on it


def uniform(key: Key, count: int, n: int) -> jax.Array:
    """Draw strings whose bits are independent and fair.

    Args:
        key: Folded by the number of each string.
        count: How many.
        n: Positions of a string.

    Returns:
        Strings ``[count n]``, int32.

    Raises:
        ValueError: If ``count`` or ``n`` is smaller than 1.
    """
    return _drawn(key, np.arange(_require_count(count), dtype=np.uint32), require_positions(n))


def exhaustive(n: int) -> jax.Array:
    """List all strings in the order of their indices, big-endian: ``0..00, 0..01, 0..10, ...``.

    It takes ``4 n 2**n`` bytes; ``cube.truth_table`` needs no such list.

    Returns:
        Strings ``[2**n n]``, int32.

    Raises:
        ValueError: If ``n`` is smaller than 1 or larger than ``LARGEST_LISTED``.
    """
    return from_indices(np.arange(2 ** require_positions(n, LARGEST_LISTED), dtype=np.int32), n)


def balanced(key: Key, count: int, accept: Accept, n: int, *, tries: int | None = None) -> jax.Array:
    """Draw accepted and rejected strings by turns, each uniform among the strings of its label.

    Uniform strings are drawn until there are enough of both labels; rows 0, 2, ... are the accepted ones and rows 1,
    3, ... the rejected ones, independent of each other and in the order in which they came.

    Args:
        key: Folded by the number of each string drawn.
        count: How many in all; an odd number has one accepted string more.
        accept: ``accept(strings [b n]) -> bool [b]``.
        n: Positions of a string.
        tries: Strings to draw before giving up; ``None``: 64 for each one asked for, and at least 2**20.

    Returns:
        Strings ``[count n]``, int32.

    Raises:
        ValueError: If ``count``, ``n`` or ``tries`` is smaller than 1, if ``accept`` returns anything but booleans
            ``[b]``, or if a label is too rare to be found often enough in ``tries`` strings.
    """
    needed = {True: (_require_count(count) + 1) // 2, False: count // 2}
    tries = max(2**20, 64 * count) if tries is None else tries
    found = _search(key, require_positions(n), partial(labels, accept), needed, tries, "accept(string) is")
    result = np.empty((count, n), np.int32)
    result[0::2], result[1::2] = found[True], found[False]
    return jnp.asarray(result)


def near_boundary(key: Key, count: int, accept: Accept, n: int, *, tries: int | None = None) -> jax.Array:
    """Draw strings at the boundary: uniform among all strings, of either label, that some single flip relabels.

    The distribution is that of a uniform string given that its sensitivity is at least 1 (Def. 2.2 of Kövér et al.,
    Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions), with replacement. Uniform
    strings are drawn, each is evaluated with its n flips, and those that no flip relabels are thrown away.

    Args:
        key: Folded by the number of each string drawn.
        count: How many.
        accept: ``accept(strings [b n]) -> bool [b]``; asked for ``n + 1`` strings for each one drawn.
        n: Positions of a string.
        tries: Strings to draw before giving up; ``None``: 64 for each one asked for, and at least 2**14.

    Returns:
        Strings ``[count n]``, int32.

    Raises:
        ValueError: If ``count``, ``n`` or ``tries`` is smaller than 1, if ``accept`` returns anything but booleans
            ``[b]``, or if the boundary is too small to be found often enough in ``tries`` strings.
    """
    tries = max(2**14, 64 * _require_count(count)) if tries is None else tries
    flips = np.concatenate([np.zeros((1, require_positions(n)), np.int32), np.eye(n, dtype=np.int32)])

    def relabelled(strings: Array) -> np.ndarray:
        copies = strings[:, None] ^ flips[None]
        found = labels(accept, copies.reshape(-1, n)).reshape(-1, n + 1)
        return (found[:, :1] != found[:, 1:]).any(1)

    return jnp.asarray(_search(key, n, relabelled, {True: count}, tries, "some flip relabels the string:")[True])


@partial(jax.jit, static_argnums=1)
def from_indices(indices: Array, n: int) -> jax.Array:
    """Return the strings ``[*b n]``, int32, with these indices ``[*b]``; position 0 is the most significant bit."""
    bits = [(indices >> (n - 1 - position)) & 1 for position in range(n)]
    return jnp.stack(bits, -1).astype(jnp.int32)


def labels(accept: Accept, strings: Array) -> np.ndarray:
    """Return ``accept(strings [b n])`` on the host ``[b]``, once it is checked to be one boolean for each string.

    Raises:
        ValueError: If it is not.
    """
    found = np.asarray(accept(strings))
    if found.shape != strings.shape[:1] or found.dtype != bool:
        raise ValueError(
            f"accept must map strings of shape {strings.shape} to booleans of shape {strings.shape[:1]}, got "
            f"{found.dtype} of shape {found.shape}; compare logits with their threshold"
        )
    return found


def require_positions(n: int, largest: int | None = None) -> int:
    """Return ``n`` if it is an integer from 1 to ``largest``, where there is one; raise ValueError otherwise."""
    try:
        valid = operator.index(n) >= 1 and (largest is None or n <= largest)
    except TypeError:
        valid = False
    if not valid:
        limit = "of at least 1" if largest is None else f"from 1 to {largest}, to fit in memory"
        raise ValueError(f"n, the positions of a string, must be an integer {limit}, got {n}")
    return operator.index(n)


def require_bits(strings: Array) -> np.ndarray:
    """Return bit strings ``[b n]`` on the host as int32, once they are checked.

    Args:
        strings: Of any type whose values are 0 and 1.

    Raises:
        ValueError: If there is not at least one string of one bit, or if a value is neither 0 nor 1; the message says
            where the first one is.
    """
    strings = np.asarray(strings)
    if strings.ndim != 2 or 0 in strings.shape:
        raise ValueError(f"strings must be [b n] with at least one string and one bit, got shape {strings.shape}")
    if len(bad := np.argwhere((strings != 0) & (strings != 1))):
        string, bit = bad[0]
        raise ValueError(
            f"strings must hold 0 and 1 alone, got {strings[string, bit]} for bit {bit} of string {string}"
        )
    return strings.astype(np.int32)


def _require_count(count: int) -> int:
    if count < 1 or count != int(count):
        raise ValueError(f"count must be an integer of at least 1 string, got {count}")
    return int(count)


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
    if tries < 1:
        raise ValueError(f"tries must be at least 1 string to draw, got {tries}")
    found = {wanted: [] for wanted in needed}
    counts = dict.fromkeys(needed, 0)
    rows, drawn = max(1, _ROWS // (n + 1)), 0
    while any(counts[wanted] < needed[wanted] for wanted in needed):
        if drawn >= tries:
            wanted = min(needed, key=lambda label: counts[label] - needed[label])
            raise ValueError(
                f"accept: found {counts[wanted]} strings of {n} bits for which {meaning} {wanted}, of "
                f"{needed[wanted]} needed, among {drawn} uniform ones; raise tries, or construct such strings"
            )
        strings = _drawn(key, np.arange(drawn, drawn + rows, dtype=np.uint32), n)
        given = np.asarray(label(strings))[: tries - drawn]
        for wanted in needed:
            chosen = np.asarray(strings)[: len(given)][given == wanted][: needed[wanted] - counts[wanted]]
            found[wanted].append(chosen)
            counts[wanted] += len(chosen)
        drawn += len(given)
    return {wanted: np.concatenate(parts) if parts else np.empty((0, n), np.int32) for wanted, parts in found.items()}
