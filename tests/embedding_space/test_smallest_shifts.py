"""Least-shifting tokens: where they are, how often, and whether norms agree."""

import numpy as np
import pytest
from scipy import stats

from jaxsens.embedding_space import agreement, count_tokens, least_shifting, rank_agreement

NAN = np.nan


def test_smallest_first_ties_by_position_and_never_where_nothing_counts():
    shifts = np.array([[3, 1, NAN, 1, 2], [NAN, 5, 4, NAN, 0]])
    np.testing.assert_array_equal(least_shifting(shifts, 3), [[1, 3, 4], [4, 2, 1]])
    with pytest.raises(ValueError, match="sequence 1 has 3 tokens"):
        least_shifting(shifts, 4)
    with pytest.raises(ValueError, match="shifts must be"):
        least_shifting(shifts[0])


def test_counts_by_token():
    tokens = np.array([[7, 2, 0, 2, 1], [0, 3, 2, 0, 7]])
    np.testing.assert_array_equal(count_tokens(tokens, [[1, 3, 4], [4, 2, 1]], 9), [0, 1, 3, 1, 0, 0, 0, 1, 0])
    with pytest.raises(ValueError, match="ids from 0 to 6"):
        count_tokens(tokens, [[0], [0]], 7)
    for positions in ([[-1], [0]], [[5], [0]]):
        with pytest.raises(ValueError, match="positions must be from 0 to 4"):
            count_tokens(tokens, positions, 9)
    for wrong in (tokens.astype(float), tokens[0]):
        with pytest.raises(ValueError, match="tokens must be integers"):
            count_tokens(wrong, [[0], [0]], 9)


def test_agreement_of_the_published_counts():
    """Figure 1 of the paper; over its ten tokens, as scipy has it."""
    l2 = np.array([1313, 206, 202, 137, 122, 47, 44, 30, 28, 23])
    l1 = np.array([1325, 207, 204, 148, 83, 66, 39, 31, 25, 28])
    found = agreement(np.append(l2, [0, 0]), np.append(l1, [0, 0]))
    assert found.pearson == pytest.approx(stats.pearsonr(l2, l1).statistic) == pytest.approx(0.999, abs=1e-3)
    assert found.spearman == pytest.approx(stats.spearmanr(l2, l1).statistic)
    assert found.share == 1
    few = agreement(l2, l1, top=4)
    assert few.spearman == pytest.approx(1)
    assert few.share == pytest.approx((l2 + l1)[:4].sum() / (l2 + l1).sum())
    with pytest.raises(ValueError, match="two different values"):
        agreement(l2, np.ones(10))
    with pytest.raises(ValueError, match="same tokens"):
        agreement(l2, l1[:3])
    for wrong in (NAN, np.inf, -1):
        with pytest.raises(
            ValueError, match=f"second must hold finite counts of at least 0, got {float(wrong)} for token 9"
        ):
            agreement(l2, np.append(l1[:9], wrong))
    for top in (1, 2.5, True):
        with pytest.raises(ValueError, match="top must be an integer of at least 2"):
            agreement(l2, l1, top=top)


def test_rank_agreement_within_sequences():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, (2, 4, 9)).astype(float)  # with ties
    first[0, 3:] = second[0, 3:] = NAN
    expected = [stats.spearmanr(a[~np.isnan(a)], b[~np.isnan(a)]).statistic for a, b in zip(first, second, strict=True)]
    found = rank_agreement(first, second)
    np.testing.assert_allclose(found.values, expected)
    assert found.count == 4
    np.testing.assert_allclose(rank_agreement(first, first**3).mean, 1)
    with pytest.raises(ValueError, match="same tokens"):
        rank_agreement(first, np.nan_to_num(second))
