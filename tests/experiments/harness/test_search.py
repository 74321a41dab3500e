"""The search for a learning rate on a grid that grows."""

import pytest

from experiments import harness


def itself(score):
    return score


@pytest.mark.parametrize(
    ("at", "added", "tried"),
    [
        (0.003, 5, [0.001, 0.003, 0.01]),  # inside
        (0.03, 5, [0.001, 0.003, 0.01, 0.0333, 0.111]),  # until the best is inside
        (0.0003, 5, [0.001, 0.003, 0.01, 0.000333, 0.000111]),
        (1.0, 2, [0.001, 0.003, 0.01, 0.0333, 0.111]),  # or no more rates may be added
        (1.0, 0, [0.001, 0.003, 0.01]),
    ],
)
def test_the_grid_grows_until_the_best_rate_is_inside(at, added, tried):
    found = harness.search_rates([0.001, 0.003, 0.01], lambda rate: -abs(rate - at), itself, added)
    assert list(found) == tried


def test_a_grid_of_one_rate_does_not_grow():
    assert list(harness.search_rates([0.1], itself, itself, 3)) == [0.1]


def test_rates_that_are_equally_good_add_none():
    assert list(harness.search_rates([0.1, 0.2, 0.3], lambda rate: rate < 0.25, itself, 3)) == [0.1, 0.2, 0.3]
