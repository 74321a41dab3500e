"""Sparse and frequent tokens: what an example holds, and the exact sensitivity of both rules against replacements."""

from dataclasses import replace
from fractions import Fraction

import jax
import numpy as np
import pytest

from jaxsens.data.sparse_tokens import SOLUTIONS, TIES, SparseTokens, exact_sensitivity

TASK = SparseTokens(vocabulary=59, length=50, sparse=3, frequent=5, excess=1, pool=16)
SMALL = SparseTokens(vocabulary=15, length=9, sparse=1, frequent=4, excess=2, pool=5)
KEY = jax.random.key(0)


def test_an_example_has_the_tokens_that_the_definition_names():
    ids, labels = TASK.draw(KEY, 300)
    positive = labels == 1
    assert 100 < positive.sum() < 200
    assert (ids < 59).all()
    for label, sign in ((positive, 0), (~positive, 1)):
        mine = ids[label]
        assert ((mine == sign).sum(1) == 3).all()
        assert ((mine == 1 - sign).sum(1) == 0).all()
        frequent = (mine >= 2) & (mine < 34)
        assert (frequent.sum(1) == 5).all()
        assert ((frequent & (mine % 2 == sign)).sum(1) == 3).all()
        assert all(len(set(row[chosen])) == 5 for row, chosen in zip(mine, frequent, strict=True))
    counts = np.bincount(ids.ravel(), minlength=59)
    assert (counts[34:] > 0.7 * counts[34:].mean()).all()
    assert (np.abs((ids < 2).mean(0) - 3 / 50) < 0.06).all()  # positions are random


def test_out_of_distribution_only_the_sparse_tokens_differ():
    (ids, labels), (other, same) = TASK.draw(KEY, 50), TASK.draw(KEY, 50, sparse_of_other_label=True)
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_array_equal(np.where(ids < 2, 1 - ids, ids), other)
    signs = {name: np.sign(TASK.weights(name)[other].sum(1)) for name in SOLUTIONS}
    np.testing.assert_array_equal(signs["frequent"], 2 * labels - 1)
    np.testing.assert_array_equal(signs["sparse"], 1 - 2 * labels)


def test_the_first_examples_do_not_depend_on_the_count():
    np.testing.assert_array_equal(TASK.draw(KEY, 300)[0][:50], TASK.draw(KEY, 50)[0])


@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("solution", SOLUTIONS)
def test_the_exact_sensitivity_is_that_of_all_replacements(solution, ties, itself):
    weights = SMALL.weights(solution)
    for ids, label in zip(*SMALL.draw(KEY, 4), strict=True):
        total, count = Fraction(0), 0
        for place in range(9):
            for new in range(15):
                if new == ids[place] and not itself:
                    continue
                changed = np.where(np.arange(9) == place, new, ids)
                score = int(weights[changed].sum() * (2 * label - 1))
                total += TIES[ties] if score == 0 else Fraction(score < 0)
                count += 1
        assert SMALL.sensitivity(solution, ties=ties, replace_by_itself=itself) == total / count


def test_three_rows_of_the_published_table_have_59_ids_and_the_others_none():
    for frequent, pool, published in ((5, 16, 0.2878), (7, 28, 0.4502)):
        task = replace(TASK, frequent=frequent, pool=pool)
        assert round(float(task.sensitivity("frequent")), 4) == published
        assert task.sensitivity("sparse") == 0
    second = SparseTokens(59, 50, 1, 17, 7, 20)
    assert second.sensitivity("frequent") == 0
    assert round(float(second.sensitivity("sparse")), 4) == 0.0363
    found = {m: float(replace(second, vocabulary=m).sensitivity("sparse")) for m in range(43, 200)}
    assert [m for m, value in found.items() if round(value, 4) == 0.0339] == [69]
    with pytest.raises(ValueError, match="frequent must be above sparse"):
        replace(TASK, frequent=3, pool=6)  # the first row
    assert round(float(exact_sensitivity(own=2, other=1, ids=6, length=50, vocabulary=59)), 4) == 0.1315
    with pytest.raises(ValueError, match="vocabulary must be above"):
        replace(second, frequent=32, pool=36, vocabulary=69)  # the last row


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparse": 5}, "frequent must be above sparse = 5"),
        ({"sparse": 0}, "sparse must be"),
        ({"frequent": 16}, "frequent must be below"),
        ({"length": 8}, r"frequent must be below min\(pool, length - sparse\) = 5"),
        ({"excess": 6}, "excess must be at most frequent = 5"),
        ({"vocabulary": 34}, r"vocabulary must be above 2 pool \+ 2 = 34"),
        ({"frequent": 4, "excess": 1}, "excess must leave more than half"),
        ({"pool": 1.5}, "pool must be"),
        ({"vocabulary": -3}, "vocabulary must be"),
    ],
)
def test_numbers_that_cannot_be_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TASK, **changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TASK.sensitivity("both"), "solution must be one of"),
        (lambda: TASK.sensitivity("sparse", ties="some"), "ties must be one of"),
        (lambda: exact_sensitivity(1, 1, 1, 5, 9), "own must be above other"),
        (lambda: TASK.draw(KEY, 0), "count must be"),
        (lambda: TASK.draw(0, 3), "key must be"),
    ],
)
def test_bad_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
