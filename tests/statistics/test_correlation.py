import numpy as np
import pytest

from jaxsens.statistics.correlation import rank_correlation


def test_rank_correlation_is_spearmans():
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(2, 30))
    ranks = [np.argsort(np.argsort(column)) for column in (x, y)]
    r, low, high = rank_correlation(x, y)
    assert r == pytest.approx(1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (30 * (30**2 - 1)))
    assert low < r < high
    np.testing.assert_allclose(rank_correlation(np.exp(x), -y), (-r, -high, -low))
    assert rank_correlation(x, x**3)[0] == 1
    assert rank_correlation(x[:4], y[:4]) is None
    assert rank_correlation(x[:5], y[:5]) is not None
    assert rank_correlation(x, np.ones(30)) is None


@pytest.mark.parametrize("count", [1, 4])
def test_intervals_of_unrelated_quantities_contain_0(count):
    generator = np.random.default_rng(2)
    groups, covered = np.repeat(np.arange(count), 24 // count), 0
    for _ in range(400):
        x, y = generator.normal(size=(2, 24)) + 10 * groups
        _, low, high = rank_correlation(x, y, groups=groups)
        covered += low <= 0 <= high
    assert 370 <= covered <= 395, "95 % of 400, within its error"


def test_within_groups_the_levels_of_groups_do_not_count():
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(4), 8)
    x = generator.normal(size=32) + 10 * groups
    falling = 1000 * groups - x  # along the levels of the groups, against everything within one
    assert rank_correlation(x, falling)[0] > 0.8
    assert rank_correlation(x, falling, groups=groups)[0] == -1
    shifted = rank_correlation(x - 10 * groups, falling, groups=groups)
    assert shifted == rank_correlation(x, falling, groups=groups)
    order = generator.permutation(32)
    assert rank_correlation(x[order], falling[order], groups=groups[order]) == shifted
    y = generator.normal(size=32)
    assert rank_correlation(x, y, groups=np.full(32, "all")) == rank_correlation(x, y)
    assert rank_correlation(x, groups, groups=groups) is None, "nothing is left of what is the group's alone"


@pytest.mark.parametrize(("spread", "count"), [(3, 1), (10, 1), (10, 4)])
def test_models_that_are_alike_are_one_unit(spread, count):
    """Eight treatments of four seeds, in one group or four, with levels that have nothing to do with each other."""
    generator = np.random.default_rng(4)
    clusters, naive, covered = np.repeat(np.arange(8), 4), 0, 0
    groups = clusters // (8 // count)
    for _ in range(300):
        levels = spread * generator.normal(size=(2, 8))
        x, y = levels[:, clusters] + generator.normal(size=(2, 32))
        _, low, high = rank_correlation(x, y, groups=groups)
        naive += low <= 0 <= high
        _, low, high = rank_correlation(x, y, groups=groups, clusters=clusters)
        covered += low <= 0 <= high
    assert naive < 240, "taken for independent they are not"
    assert covered >= 276, "92 % and more"


def test_bad_input_is_named():
    x = np.arange(8.0)
    with pytest.raises(ValueError, match="one length"):
        rank_correlation(x, x[:7])
    with pytest.raises(ValueError, match="one length"):
        rank_correlation(x, x, groups=np.zeros(7))
    with pytest.raises(ValueError, match="one length"):
        rank_correlation(x, x, clusters=np.zeros((8, 1)))
    with pytest.raises(ValueError, match="level"):
        rank_correlation(x, x, level=95)
    with pytest.raises(FloatingPointError, match="finite"):
        rank_correlation(x, np.append(x[:7], np.nan))
