"""What full precision recomputes: every requested decision, in few shapes, and a fair sample of the accepted ones."""

import jax
import numpy as np
import pytest

from jaxsens.sensitivity import screening


@pytest.mark.parametrize("few", [True, False])
def test_all_requested_sites_are_evaluated_in_few_shapes(few):
    draws = np.random.default_rng(0)
    shapes = set()
    for share in np.linspace(0.001, 0.9, 40):
        requested = draws.random((draws.integers(1, 300), 30)) < share
        evaluated = np.zeros_like(requested)
        for size, which in screening.by_size(requested, few=few):
            assert (requested[which].sum(1) <= size).all()
            assert len(which) < 2 * len(set(which))
            evaluated[which] = True
            shapes.add((size, len(which)))
        assert (evaluated >= requested).all()
        assert not evaluated[~requested.any(1)].any()
    assert {size for size, _ in shapes} == ({1, 4, 16, 30} if few else {30})
    assert len({count for _, count in shapes}) <= 7 + 3 * 8


def test_without_requests_nothing_is_evaluated():
    assert list(screening.by_size(np.zeros((4, 3), bool), few=True)) == []


def test_the_audit_is_a_sample_of_the_accepted_decisions():
    trusted = np.random.default_rng(0).random((50, 20)) < 0.4
    counts = np.zeros(trusted.shape)
    for seed in range(200):
        chosen = screening.for_audit(jax.random.key(seed), trusted, 40)
        assert chosen.sum() == 40
        assert not chosen[~trusted].any()
        counts += chosen
    expected = 200 * 40 / trusted.sum()
    # Chi-squared has as many degrees of freedom as there are trusted ones, less one; draws without replacement less.
    assert ((counts[trusted] - expected) ** 2 / expected).sum() < 1.3 * trusted.sum()
    assert screening.for_audit(jax.random.key(0), trusted, 10_000).sum() == trusted.sum()


def test_revising_replaces_requested_decisions_and_counts_each_change_once():
    decisions = np.zeros((4, 3), np.int8)
    requested = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]], bool)
    which = np.array([0, 2, 3, 0])  # an item may be named twice
    found = np.array([[1, 1, 0], [1, 1, 1], [0, 2, 2], [1, 1, 0]], np.int8)
    assert screening.revise(decisions, requested, [(which, found)]) == 4
    np.testing.assert_array_equal(decisions, [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 2, 2]])


def test_the_interval_of_what_is_wrong_is_that_of_the_audit():
    low, high = screening.Screening(0.1, 1000, 10, 300, 0).wrong()
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 300))
    with pytest.raises(ValueError, match="audited is 0"):
        screening.Screening(0.1, 1000, 1000, 0, 0).wrong()
