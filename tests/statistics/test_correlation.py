import numpy as np
import pytest
from scipy import stats

from jaxsens.statistics.correlation import fisher_interval, rank_correlation


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


def test_a_perfect_correlation_has_a_width():
    """Five perfect ranks gave [1, 1]; coverage was 0.75 at a correlation of 0.9, 0.31 at 0.99."""
    r, low, high = rank_correlation(range(5), range(5))
    assert (r, high) == (1, 1)
    assert 0 < low < 0.2
    assert rank_correlation(range(5), range(0, -5, -1)) == (-1, -1, -low)
    widths = [1 - rank_correlation(range(n), range(n))[1] for n in (5, 10, 20, 40)]
    assert (np.diff(widths) < 0).all()


@pytest.mark.parametrize(("n", "rho"), [(5, 0.9), (5, 0.99), (8, 0.99), (20, 0.99)])
def test_intervals_cover_high_correlations_of_few_units(n, rho):
    x, noise = np.random.default_rng(0).normal(size=(2, 4000, n))
    ranks = [np.argsort(np.argsort(column)) - (n - 1) / 2 for column in (x, rho * x + np.sqrt(1 - rho**2) * noise)]
    low, high = fisher_interval((ranks[0] * ranks[1]).sum(1) * 12 / (n**3 - n), n - 2)
    truth = 6 / np.pi * np.arcsin(rho / 2)
    assert np.mean((low <= truth) & (truth <= high)) >= 0.93


def test_where_few_arrangements_exist_the_interval_contains_0_unless_permutations_reject():
    """Of four groups of two, all falling alike: 2 of 16 arrangements, p = 0.125; of six groups 2 of 64, p = 0.031."""
    for groups, apart in ((4, False), (6, True)):
        names = np.repeat(np.arange(groups), 2)
        _, low, high = rank_correlation(names * 10 + [0, 1] * groups, names * 7 + [0, 1] * groups, groups=names)
        assert (low > 0) is apart
        assert high == 1
    x = np.array([1.0, 2, 3, 4, 5])
    assert rank_correlation(x, [1, 2, 3, 5, 4], level=0.9)[1] > 0, "10 of 120, p = 0.083"
    assert rank_correlation(x, [1, 2, 3, 5, 4], level=0.95)[1] <= 0


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
    with pytest.raises(ValueError, match="masked"):
        rank_correlation(np.ma.masked_array(x, x > 5), x)
    with pytest.raises(ValueError, match="freedom must be an integer of at least 2, got 1"):
        fisher_interval(0.5, 1)


def test_a_covariate_leaves_the_partial_correlation_of_ranks():
    """``(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))``, with an interval of one unit fewer and 10 % wider."""
    z, noise = np.random.default_rng(0).normal(size=(2, 30))
    x, y = z + noise, z + np.random.default_rng(1).normal(size=30)
    xy, xz, yz = (stats.spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    r, low, high = rank_correlation(x, y, covariate=z)
    np.testing.assert_allclose(r, expected, rtol=1e-9)
    narrow = np.arctanh(fisher_interval(np.array(r), 27))
    np.testing.assert_allclose(np.arctanh(high) - np.arctanh(low), 1.1 * (narrow[1] - narrow[0]), rtol=1e-3)
    assert abs(r) < xy / 2, "x and y have only z in common"
    assert rank_correlation(x, y, covariate=x) is None, "nothing is left"
    assert rank_correlation(x[:5], y[:5], covariate=z[:5]) is None, "five units have an interval without a covariate"
    with pytest.raises(ValueError, match="vectors of one length"):
        rank_correlation(x, y, covariate=z[:4])
