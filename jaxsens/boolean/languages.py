"""Languages of bit strings with their exact sensitivity profiles, for any length.

The functions of Kövér et al., Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions,
s.2.1. Positions count from 0, unlike in the paper.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.boolean import strings as bit_strings
from jaxsens.execution import checks
from jaxsens.execution.keys import require_key
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import shortened, times
from jaxsens.typing import Array, Axes, Figure, Key

__all__ = [
    "NAMES",
    "Language",
    "dictator",
    "first",
    "majority",
    "parity",
    "random_language",
    "sparse_majority",
    "sparse_parity",
]

NAMES = ("parity", "majority", "first", "dictator", "sparse_parity", "sparse_majority", "random")
"""Names of languages."""


@dataclass(frozen=True, repr=False)
class Language(Result):
    """A set of strings of one length, built by the functions of this file; equal languages share compiled code.

    Attributes:
        name: One of ``NAMES``.
        n: Positions of a string.
        indices: Positions that a dictator or a sparse function reads, in ascending order; ``None`` for the others.
        key: The two words of the random language's key; ``None`` for the others.

    Example:
        >>> language = majority(3)
        >>> language.profile(), language.average_sensitivity
        ((2, 0, 6, 0), Fraction(3, 2))
        >>> language.accept([[1, 1, 0], [0, 1, 0]]).tolist()
        [True, False]
    """

    name: str
    n: int
    indices: tuple[int, ...] | None = None
    key: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"name must be one of {', '.join(NAMES)}, got {self.name!r}")
        object.__setattr__(self, "n", bit_strings.require_positions(self.n))
        if (self.indices is not None) != (self.name in ("dictator", "sparse_parity", "sparse_majority")):
            raise ValueError(f"indices must be given for dictator and sparse functions only, got {self.indices}")
        if self.indices is not None:
            object.__setattr__(self, "indices", _validated(self.indices, self.n))
        if (self.key is not None) != (self.name == "random"):
            raise ValueError(f"key must be given for the random language only, got {self.key}")
        if self.key is not None:
            object.__setattr__(self, "key", tuple(int(word) for word in self.key))

    def __repr__(self) -> str:
        arguments = {"n": self.n, "indices": self.indices, "key": self.key}
        text = f"{self.name!r}, {', '.join(f'{k}={v}' for k, v in arguments.items() if v is not None)}"
        return f"Language({shortened(text, 180)})"

    def _describe(self) -> Description:
        counts = times(bits=self.n)
        read = {"positions read": ", ".join(map(str, self.positions))}
        if self.name == "random":
            return Description(counts, words="random function", table=lambda: {"position": self.positions})

        def table() -> dict[str, Sequence[int]]:
            return {"sensitivity": range(self.n + 1), "count": list(self.profile())}

        value, ends = float(self.average_sensitivity), self.interval()
        return Description(counts, value, ends, words=self.name, facts=read, table=table)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the average sensitivity twice: it is exact. ValueError for the random language."""
        checks.require_level("level", level)
        return float(self.average_sensitivity), float(self.average_sensitivity)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the shares of strings by sensitivity; ValueError for the random language.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        shares = [float(Fraction(count, 2**self.n)) for count in self.profile()]
        position = "sensitivity of a string (bits)"
        return draw("bars_by_position", ax, shares, shares, shares, position=position, quantity="share")

    def accept(self, strings: Array) -> jax.Array:
        """Return which strings belong to the language; a pure function, for ``jit`` and ``vmap``.

        Args:
            strings: Zeros and ones ``[*b n]``, integers or booleans.

        Returns:
            Booleans ``[*b]``.

        Raises:
            ValueError: If strings have another length or type, or (outside ``jit``) values other than 0 and 1.
        """
        return _accept(self, _bits(strings, self.n))

    @property
    def positions(self) -> tuple[int, ...]:
        """The positions on which acceptance depends."""
        if self.name == "first":
            return (0,)
        return tuple(range(self.n)) if self.indices is None else self.indices

    def profile(self) -> tuple[int, ...]:
        """Return ``(K_0, ..., K_n)``, the numbers of the ``2**n`` strings with sensitivity 0 to n (Def. 2.6).

        With m the number of positions read and h = m // 2 + 1: parity has sensitivity m on all strings. Majority has h
        on strings with h ones, where each one matters, m - h + 1 on those with h - 1 ones, where each zero does, and 0
        elsewhere. Positions that are not read multiply the counts by ``2**(n - m)``.

        Raises:
            ValueError: If the language is random.
        """
        if self.name == "random":
            raise ValueError(
                f"{self} has no closed form; for small n use boolean.truth_tables, on "
                "truth_tables.truth_table(accept, n)"
            )
        size = len(self.positions)
        counts = [0] * (self.n + 1)
        if self.name in ("parity", "sparse_parity"):
            counts[size] = 2**size
        else:
            half = size // 2 + 1
            counts[half] += math.comb(size, half)
            counts[size - half + 1] += math.comb(size, half - 1)
            counts[0] = 2**size - sum(counts)
        return tuple(count << (self.n - size) for count in counts)

    @property
    def average_sensitivity(self) -> Fraction:
        """Mean sensitivity over all strings (Def. 2.3), in flips; ValueError for the random language."""
        return Fraction(sum(k * count for k, count in enumerate(self.profile())), 2**self.n)

    @property
    def min_sensitivity(self) -> int:
        """Smallest sensitivity of a string (Def. 2.5); ValueError for the random language."""
        return min(k for k, count in enumerate(self.profile()) if count)

    @property
    def max_sensitivity(self) -> int:
        """Largest sensitivity of a string (Def. 2.4); ValueError for the random language."""
        return max(k for k, count in enumerate(self.profile()) if count)


def parity(n: int) -> Language:
    """Accept strings with an even number of ones; ValueError unless ``n`` is a positive integer.

    Example:
        >>> parity(3).average_sensitivity
        Fraction(3, 1)
        >>> parity(3).accept([[1, 1, 0], [1, 0, 0]]).tolist()
        [True, False]
    """
    return Language("parity", n)


def majority(n: int) -> Language:
    """Accept strings with more ones than zeros; reject ties; ValueError unless ``n`` is a positive integer.

    Example:
        >>> majority(3).profile()
        (2, 0, 6, 0)
    """
    return Language("majority", n)


def first(n: int) -> Language:
    """Accept strings that start with a one; ValueError unless ``n`` is a positive integer.

    Example:
        >>> first(3).positions, first(3).average_sensitivity
        ((0,), Fraction(1, 1))
    """
    return Language("first", n)


def dictator(n: int, index: int) -> Language:
    """Accept strings with a one at position ``index``, from 0; ValueError if there is no such position.

    Example:
        >>> dictator(3, 1).accept([[0, 1, 0], [1, 0, 1]]).tolist()
        [True, False]
    """
    return Language("dictator", n, (index,))


def sparse_parity(n: int, indices: Sequence[int]) -> Language:
    """Accept strings with an even number of ones at the positions ``indices``, from 0.

    Raises:
        ValueError: If there is no index, or if indices are not distinct integers from 0 to n - 1.

    Example:
        >>> sparse_parity(5, [0, 3]).average_sensitivity
        Fraction(2, 1)
    """
    return Language("sparse_parity", n, indices)


def sparse_majority(n: int, indices: Sequence[int]) -> Language:
    """Accept strings with more ones than zeros at the positions ``indices``, from 0; reject ties.

    Raises:
        ValueError: If there is no index, or if indices are not distinct integers from 0 to n - 1.

    Example:
        >>> sparse_majority(5, [0, 3, 4]).average_sensitivity
        Fraction(3, 2)
    """
    return Language("sparse_majority", n, indices)


def random_language(key: Key, n: int) -> Language:
    """Accept every string with probability 1/2, independently of all others, for any length.

    The label is a random bit from the key, with n and the string folded in, 32 positions at a time: a keyed hash, so
    that a string has the same label in every batch.

    Args:
        key: From ``jax.random.key(seed)``.
        n: Positions of a string.

    Raises:
        ValueError: If ``n`` is no positive integer, or ``key`` is not one threefry key; draws of other kinds of keys
            depend on the batch.

    Example:
        >>> random_language(jax.random.key(0), 8).accept(np.zeros((2, 8), np.int32)).shape
        (2,)
    """
    require_key(key)
    return Language("random", n, key=tuple(np.asarray(jax.random.key_data(key)).tolist()))


@partial(jax.jit, static_argnums=0)
def _accept(language: Language, strings: Array) -> jax.Array:
    if language.name == "random":
        flat = strings.reshape(-1, language.n)
        return jax.vmap(partial(_hashed, language))(flat).reshape(strings.shape[:-1])
    ones = strings[..., np.array(language.positions)].sum(-1, dtype=jnp.int32)
    if language.name in ("parity", "sparse_parity"):
        return ones % 2 == 0
    return 2 * ones > len(language.positions)  # a dictator is the majority of one


def _hashed(language: Language, string: Array) -> Array:
    padded = jnp.pad(string.astype(jnp.uint32), (0, -language.n % 32)).reshape(-1, 32)
    words = jnp.sum(padded << jnp.arange(32, dtype=jnp.uint32)[None], 1, dtype=jnp.uint32)
    key = jax.random.wrap_key_data(np.array(language.key, np.uint32), impl="threefry2x32")
    key = jax.random.fold_in(key, language.n)
    key, _ = jax.lax.scan(lambda key, word: (jax.random.fold_in(key, word), None), key, words)
    return jax.random.bits(key, (), jnp.uint32) >> 31 == 1


def _bits(strings: Array, n: int) -> Array:
    if not isinstance(strings, jax.Array):
        strings = checks.host_values(strings, "strings", narrow=True)
    strings = jnp.asarray(strings)
    if strings.ndim < 1 or strings.shape[-1] != n:
        raise ValueError(f"strings must be [b n] with n = {n} positions, got shape {strings.shape}")
    if strings.dtype != bool and not jnp.issubdtype(strings.dtype, jnp.integer):
        raise ValueError(f"strings must be integers or booleans, got {strings.dtype}")
    if strings.dtype != bool and not isinstance(strings, jax.core.Tracer):
        wrong = (strings != 0) & (strings != 1)
        if wrong.any():
            raise ValueError(f"strings must hold only 0 and 1, got {np.asarray(strings)[np.asarray(wrong)][0]}")
    return strings


def _validated(indices: Sequence[int], n: int) -> tuple[int, ...]:
    try:
        indices = tuple(indices)
        ordered = sorted(operator.index(index) for index in indices)
    except TypeError as error:
        raise ValueError(f"indices must be a list of integers, got {indices}") from error
    if any(isinstance(index, bool | np.bool_) for index in indices):
        raise ValueError(f"indices must be a list of integers, got booleans, {indices}; np.flatnonzero converts them")
    if not ordered or len(set(ordered)) < len(ordered) or ordered[0] < 0 or ordered[-1] >= n:
        raise ValueError(f"indices must be one or more distinct positions from 0 to {n - 1}, got {indices}")
    return tuple(ordered)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
