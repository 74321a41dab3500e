"""Synthetic data with two solutions: a few sparse tokens, or many frequent ones, tell the label.

Definitions 4.2 and 4.3 of Vasudeva et al., Transformers Learn Low Sensitivity Functions. Of a vocabulary of M ids, 0 is
the sparse token of label +1 and 1 that of label -1; the next 2 m ids are frequent tokens, of the labels +1 and -1 by
turns; all others are irrelevant. Two rules are right on all examples: the sign of the number of sparse tokens of +1
minus that of -1, and the same of frequent tokens. Examples whose sparse tokens are those of the other label tell which
of the two a model has learned.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution import checks
from jaxsens.execution.keys import require_key
from jaxsens.typing import Array, Key

__all__ = ["SOLUTIONS", "TIES", "SparseTokens", "exact_sensitivity"]

SOLUTIONS = ("sparse", "frequent")
"""The two rules."""

TIES = {"change": Fraction(1), "half": Fraction(1, 2), "no change": Fraction(0)}
"""How much of a change it is when a replacement leaves as many tokens of +1 as of -1."""


@dataclass(frozen=True)
class SparseTokens:
    """The law of the examples.

    An example of label y has n_s sparse tokens of y; ``floor((n_f + n_d) / 2)`` different frequent tokens of y, and the
    rest of the n_f of -y; and irrelevant tokens, drawn with replacement; in random order.

    Attributes:
        vocabulary: M, the number of ids.
        length: T, the tokens of an example.
        sparse: n_s, the sparse tokens of an example.
        frequent: n_f, the frequent tokens of an example, of both labels.
        excess: n_d; at least one more of the n_f tokens must be of y than of -y.
        pool: m, the frequent ids of a label.

    Raises:
        ValueError: If a number is no integer of at least 1 (the excess: 0), or not ``n_s < n_f < min(m, T - n_s)``,
            ``n_d <= n_f``, ``M > 2 m + 2``; or if the frequent tokens of y and of -y would be equally many. The message
            names the argument.

    Example:
        >>> task = SparseTokens(vocabulary=59, length=50, sparse=3, frequent=5, excess=1, pool=16)
        >>> float(round(task.sensitivity("frequent"), 4)), float(task.sensitivity("sparse"))
        (0.2878, 0.0)
    """

    vocabulary: int
    length: int
    sparse: int
    frequent: int
    excess: int
    pool: int

    def __post_init__(self) -> None:
        for name in ("vocabulary", "length", "sparse", "frequent", "excess", "pool"):
            least = 0 if name == "excess" else 1
            object.__setattr__(self, name, checks.require_count(name, getattr(self, name), least))
        if not self.sparse < self.frequent:
            raise ValueError(f"frequent must be above sparse = {self.sparse} (n_s < n_f), got {self.frequent}")
        most = min(self.pool, self.length - self.sparse)
        if not self.frequent < most:
            raise ValueError(
                f"frequent must be below min(pool, length - sparse) = {most} (n_f < min(m, T - n_s)), got "
                f"{self.frequent}"
            )
        if self.excess > self.frequent:
            raise ValueError(f"excess must be at most frequent = {self.frequent} (n_d <= n_f), got {self.excess}")
        if not 2 * self.pool + 2 < self.vocabulary:
            raise ValueError(
                f"vocabulary must be above 2 pool + 2 = {2 * self.pool + 2} (some tokens are irrelevant), got "
                f"{self.vocabulary}"
            )
        if not self.margin("frequent"):
            raise ValueError(
                f"excess must leave more than half of the {self.frequent} frequent tokens to the label, got "
                f"{self.excess}, with floor((n_f + n_d) / 2) = {self.own} of them"
            )

    @property
    def own(self) -> int:
        """Frequent tokens of the example's label, ``floor((n_f + n_d) / 2)``."""
        return (self.frequent + self.excess) // 2

    def margin(self, solution: str) -> int:
        """Return how many more tokens of the label than of the other one a rule counts in an example."""
        return self.sparse if _known(solution) == "sparse" else 2 * self.own - self.frequent

    def weights(self, solution: str) -> np.ndarray:
        """Return what each id counts for in a rule ``[M]``: +1, -1 or 0."""
        weights = np.zeros(self.vocabulary, np.float32)
        first, last = (0, 2) if _known(solution) == "sparse" else (2, 2 * self.pool + 2)
        weights[first:last] = np.where(np.arange(last - first) % 2, -1, 1)
        return weights

    def sensitivity(self, solution: str, *, ties: str = "change", replace_by_itself: bool = True) -> Fraction:
        """Return the exact sensitivity of a rule, with tokens replaced by uniform ids: Def. 4.1, a sum over cases.

        ``(1 / T) sum over tokens, (1 / M) sum over ids``, of 1 where the count of +1 minus -1 changes its sign. All
        examples have the same numbers of tokens of each kind, hence the same sensitivity.

        Args:
            solution: ``"sparse"`` or ``"frequent"``.
            ties: Whether a count of 0 is a ``"change"``, since its sign is that of no label, ``"half"`` of one, or
                ``"no change"``.
            replace_by_itself: Whether a token may be replaced by itself, as Def. 4.1 does; else by the others only.

        Raises:
            ValueError: If a word is unknown.

        Example:
            >>> SparseTokens(59, 50, 1, 17, 7, 20).sensitivity("sparse")
            Fraction(107, 2950)
        """
        own, other = (self.sparse, 0) if _known(solution) == "sparse" else (self.own, self.frequent - self.own)
        ids = 1 if solution == "sparse" else self.pool
        options = {"ties": ties, "replace_by_itself": replace_by_itself}
        return exact_sensitivity(own, other, ids, self.length, self.vocabulary, **options)

    def draw(self, key: Key, count: int, *, sparse_of_other_label: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Draw examples; the first n of a larger count are those of a count of n.

        Args:
            key: Random key; the number of each example is folded in.
            count: Examples.
            sparse_of_other_label: Whether sparse tokens are those of the other label: out of distribution. All else is
                then as without, for the same key.

        Returns:
            Ids ``[count T]``, int32, and labels ``[count]``, float32 of 0 (label -1) and 1 (label +1).

        Raises:
            ValueError: If ``count`` is no integer of at least 1, or the key is no typed threefry key.

        Example:
            >>> task = SparseTokens(vocabulary=23, length=12, sparse=1, frequent=3, excess=1, pool=5)
            >>> ids, labels = task.draw(jax.random.key(0), 4)
            >>> bool((np.sign(task.weights("frequent")[ids].sum(1)) == 2 * labels - 1).all())
            True
        """
        flip = checks.require_flag("sparse_of_other_label", sparse_of_other_label)
        numbers = jnp.arange(checks.require_count("count", count), dtype=jnp.uint32)
        ids, labels = _drawn(self, flip, require_key(key), numbers)
        return np.asarray(ids), np.asarray(labels)


def exact_sensitivity(
    own: int,
    other: int,
    ids: int,
    length: int,
    vocabulary: int,
    *,
    ties: str = "change",
    replace_by_itself: bool = True,
) -> Fraction:
    """Return the sensitivity of the sign of a count to uniform replacements, for examples of one composition.

    ``SparseTokens.sensitivity`` without the constraints of the definition, which a published setting does not keep.

    Args:
        own: Tokens of an example that count for its label.
        other: Tokens that count for the other label.
        ids: Ids that count for each label.
        length: Tokens of an example.
        vocabulary: All ids.
        ties: See ``SparseTokens.sensitivity``.
        replace_by_itself: See ``SparseTokens.sensitivity``.

    Raises:
        ValueError: If a number is no integer of at least 0 (1 for ids, length and vocabulary), more tokens or ids are
            counted than there are, the label does not have more tokens than the other, or a word is unknown.

    Example:
        >>> exact_sensitivity(own=1, other=0, ids=1, length=2, vocabulary=4)      # 3 of 4 ids, and 1 of 4
        Fraction(1, 2)
    """
    numbers = {"own": own, "other": other, "ids": ids, "length": length, "vocabulary": vocabulary}
    for name, value in numbers.items():
        checks.require_count(name, value, 0 if name in ("own", "other") else 1)
    if not other < own or own + other > length or 2 * ids > vocabulary:
        raise ValueError(
            f"own must be above other, own + other at most length, 2 ids at most vocabulary, got {numbers}"
        )
    if not isinstance(ties, str) or ties not in TIES:
        raise ValueError(f"ties must be one of {tuple(TIES)}, got {ties!r}")
    checks.require_flag("replace_by_itself", replace_by_itself)
    total = Fraction(0)
    for old, count in ((1, own), (-1, other), (0, length - own - other)):
        for new, choices in ((1, ids), (-1, ids), (0, vocabulary - 2 * ids)):
            after = own - other - old + new
            changed = TIES[ties] if after == 0 else Fraction(after < 0)
            total += count * (choices - (old == new and not replace_by_itself)) * changed
    return total / (length * (vocabulary - (not replace_by_itself)))


@partial(jax.jit, static_argnums=(0, 1))
def _drawn(task: SparseTokens, flip: bool, key: Key, numbers: Array) -> tuple[Array, Array]:
    def one(number: Array) -> tuple[Array, Array]:
        keys = jax.random.split(jax.random.fold_in(key, number), 5)
        positive = jax.random.bernoulli(keys[0])
        sparse = jnp.full(task.sparse, jnp.where(positive ^ flip, 0, 1), jnp.int32)
        frequent = [
            2 + 2 * _shuffled(draw, task.pool)[:n] + label
            for draw, n, label in (
                (keys[1], task.own, 1 - positive),
                (keys[2], task.frequent - task.own, 1 * positive),
            )
        ]
        left = task.length - task.sparse - task.frequent
        irrelevant = jax.random.randint(keys[3], (left,), 2 * task.pool + 2, task.vocabulary)
        ids = jnp.concatenate([sparse, *frequent, irrelevant]).astype(jnp.int32)
        return ids[_shuffled(keys[4], task.length)], positive.astype(jnp.float32)

    return jax.vmap(one)(numbers)


def _shuffled(key: Key, count: int) -> Array:
    """Return the numbers below ``count`` in random order, by one sort, which compiles faster than ``permutation``."""
    return jnp.argsort(jax.random.bits(key, (count,)))


def _known(solution: str) -> str:
    if not isinstance(solution, str) or solution not in SOLUTIONS:
        raise ValueError(f"solution must be one of {SOLUTIONS}, got {solution!r}")
    return solution


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
