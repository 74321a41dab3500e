import jax
import numpy as np
import pytest
from scipy import special, stats

from jaxsens.statistics import estimate


def test_mean_and_standard_error_are_the_textbook_ones():
    result = estimate.from_values(np.array([1.0, 2.0, 4.0, 5.0]))
    assert result.mean == 3
    np.testing.assert_allclose(result.sem, np.sqrt((4 + 1 + 1 + 4) / 3 / 4))
    low, high = result.interval(0.95)
    np.testing.assert_allclose([low, high], [3 - 3.182446 * result.sem, 3 + 3.182446 * result.sem], rtol=1e-5)


def test_float32_values_are_reduced_in_float64():
    values = np.array([2**24, 1, 1, 1], np.float32)
    assert estimate.from_values(values).mean == (2**24 + 3) / 4
    assert np.cumsum(values)[-1] / 4 != (2**24 + 3) / 4


def test_axes_behind_the_units_are_kept():
    values = np.random.default_rng(0).normal(size=(50, 3, 2))
    result = estimate.from_values(values)
    one = estimate.from_values(values[:, 1, 1])
    assert result.mean.shape == result.sem.shape == (3, 2)
    np.testing.assert_allclose(np.array(result.interval())[:, 1, 1], one.interval())


@pytest.mark.parametrize(("flips", "inside"), [(0, 0.0), (100, 1.0)])
def test_a_rate_without_spread_keeps_an_interval(flips, inside):
    result = estimate.from_values(np.arange(100) < flips)
    low, high = result.interval()
    assert result.rate
    assert result.sem == 0
    assert low <= inside <= high
    assert 0.03 < high - low < 0.05  # t^2 / n


def test_independent_trials_give_wilsons_interval():
    """With one trial a unit the effective count is n, up to the estimate of the spread, and the textbook follows."""
    values = np.arange(200) < 30
    low, high = estimate.from_values(values).interval(0.95)
    z, n, p = 1.972, 200, 0.15
    centre, margin = (p + z**2 / 2 / n), z * np.sqrt(p * (1 - p) / n + z**2 / 4 / n**2)
    np.testing.assert_allclose([low, high], np.array([centre - margin, centre + margin]) / (1 + z**2 / n), rtol=2e-3)


def test_correlated_trials_are_not_counted_twice():
    once = np.random.default_rng(0).random(100) < 0.2
    ten_copies = np.repeat(once[:, None], 10, 1).mean(1)
    np.testing.assert_allclose(
        estimate.from_values(ten_copies, rate=True).interval(), estimate.from_values(once).interval()
    )


def test_a_single_unit_says_nothing_of_the_spread():
    assert np.isinf(estimate.from_values([3.0]).sem)
    assert estimate.from_values([3.0]).interval() == (-np.inf, np.inf)
    assert estimate.from_values([True]).interval() == (0, 1)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_level_is_checked(level):
    with pytest.raises(ValueError, match=f"level must lie strictly between 0 and 1, got {level}"):
        estimate.from_values([1.0, 2.0]).interval(level)


def test_bad_values_are_never_averaged_away():
    with pytest.raises(FloatingPointError, match=r"value \(1,\) is nan"):
        estimate.from_values([1.0, np.nan])
    with pytest.raises(ValueError, match="at least one unit"):
        estimate.from_values([])
    with pytest.raises(ValueError, match=r"rates must lie in \[0, 1\]"):
        estimate.from_values([0.5, 1.5], rate=True)


def coverage(sample, truth, repeats=1000):
    hits = 0
    for seed in range(repeats):
        low, high = sample(np.random.default_rng(seed)).interval()
        hits += low <= truth <= high
    return hits / repeats


def test_the_interval_of_models_covers_when_models_and_units_vary():
    """With the spread of units alone, or of models alone, coverage would be about 0.6 and 0.85."""

    def sample(rng):
        models, units = rng.normal(0, 0.5, (4, 1)), rng.normal(0, 4, (1, 60))
        return estimate.over_models(1 + models + units + rng.normal(0, 1, (4, 60)))

    assert 0.93 <= coverage(sample, 1) <= 0.995


def test_the_interval_of_a_difference_covers_and_gains_by_pairing():
    def groups(rng):
        units = rng.normal(0, 5, (1, 60))
        return [mean + rng.normal(0, 0.5, (4, 1)) + units + rng.normal(0, 0.5, (4, 60)) for mean in (1.0, 3.0)]

    assert 0.92 <= coverage(lambda rng: estimate.difference(*groups(rng)), -2) <= 0.995
    first, second = groups(np.random.default_rng(0))
    paired = estimate.difference(first, second).sem
    unpaired = np.hypot(estimate.over_models(first).sem, estimate.over_models(second).sem)
    assert paired < unpaired / 2


def test_a_single_model_leaves_its_spread_open():
    first, second = np.random.default_rng(0).normal(size=(2, 3, 30))
    assert np.isinf(estimate.difference(first[:1], second).sem)
    assert np.isinf(estimate.difference(first, second[:1]).sem)
    assert np.isfinite(estimate.difference(first, second).sem)


def test_no_difference_seen_is_no_proof_of_none():
    low, high = estimate.difference(np.zeros((3, 50)), np.zeros((3, 50)), rate=True).interval()
    assert low < -0.02
    assert high > 0.02


def test_a_single_change_does_not_shrink_the_interval_to_nothing():
    """One changed trial of 245 in 300 examples, against none: of the same order."""
    values = np.zeros(300)
    none = estimate.from_values(values, rate=True).interval()[1]
    values[0] = 1 / 245
    one = estimate.from_values(values, rate=True).interval()[1]
    assert none / 5 < one < 2 * none


@pytest.mark.parametrize("size", [1e-3, 1e-2])
def test_rare_clustered_changes_are_covered(size):
    """Examples near the boundary change often, all others never: 300 examples, 49 tokens, 5 draws."""
    margins = np.abs(np.random.default_rng(0).normal(size=10**6))
    truth = special.ndtr(-margins / size).mean()

    def sample(rng):
        flips = rng.binomial(245, special.ndtr(-np.abs(rng.normal(size=300)) / size)) / 245
        return estimate.from_values(flips, rate=True)

    assert 0.92 <= coverage(sample, truth) <= 1


def test_different_units_cannot_be_compared():
    with pytest.raises(ValueError, match="same units"):
        estimate.difference(np.zeros((2, 3)), np.zeros((2, 4)))


def test_a_rate_of_models_without_a_change_believes_in_the_units():
    low, high = estimate.over_models(np.zeros((3, 500)), rate=True).interval()
    assert low == 0
    assert 0 < high < 0.05


def test_only_the_numbers_of_an_estimate_are_leaves():
    result = estimate.from_values([0.0, 0.25], rate=True)
    doubled = jax.tree.map(lambda a: 2 * a, result)
    assert doubled.mean == 2 * result.mean
    assert (doubled.count, doubled.rate, doubled.units) == (2, True, (2, 1))


def test_model_by_unit_is_asked_for():
    for call in (estimate.over_models, lambda values: estimate.difference(values, values)):
        with pytest.raises(ValueError, match=r"must be \[m n\]"):
            call(np.zeros(3))


def test_no_event_and_nothing_but_events_in_closed_form():
    """``P[X = 0] = (1 - p)^n = alpha / 2``, and its mirror image."""
    for n, alpha in ((1, 0.05), (30, 0.05), (1000, 0.2)):
        limit = 1 - (alpha / 2) ** (1 / n)
        low, high = estimate.clopper_pearson(np.array([0, n]), n, 1 - alpha)
        np.testing.assert_allclose(low, [0, 1 - limit], rtol=1e-12)
        np.testing.assert_allclose(high, [limit, 1], rtol=1e-12)


def test_binomial_tails_at_the_limits_are_half_of_what_is_left():
    counts, total, comparisons = np.arange(1, 20), 20, 7
    low, high = estimate.clopper_pearson(counts, total, 0.9, comparisons=comparisons)
    np.testing.assert_allclose(stats.binom.sf(counts - 1, total, low), 0.05 / comparisons, rtol=1e-9)
    np.testing.assert_allclose(stats.binom.cdf(counts, total, high), 0.05 / comparisons, rtol=1e-9)
    np.testing.assert_allclose(low, 1 - high[::-1], rtol=1e-12)  # failures are successes of the rest


@pytest.mark.parametrize("p", [0.003, 0.1, 0.5])
def test_clopper_and_pearson_cover_exactly(p):
    """Summed over all counts of 40 trials, not sampled."""
    low, high = estimate.clopper_pearson(np.arange(41), 40, 0.9)
    chance = stats.binom.pmf(np.arange(41), 40, p)
    assert chance[(low <= p) & (p <= high)].sum() >= 0.9


@pytest.mark.parametrize(
    ("counts", "total", "options", "message"),
    [
        ([1, 5], 4, {}, r"counts must be integers from 0 to the total, 4, got \[1, 5\]"),
        ([-1], 4, {}, r"counts .*got \[-1\]"),
        ([0.5], 4, {}, r"counts .*got \[0.5\]"),
        ([0], 0, {}, "total and comparisons must be at least 1, got 0 and 1"),
        ([0], 4, {"comparisons": 0}, "total and comparisons must be at least 1, got 4 and 0"),
        ([0], 4, {"level": 95}, "level must lie strictly between 0 and 1, got 95"),
    ],
)
def test_counts_out_of_range_are_named(counts, total, options, message):
    with pytest.raises(ValueError, match=message):
        estimate.clopper_pearson(np.array(counts), total, **options)


def test_unpaired_difference_is_welchs():
    rng = np.random.default_rng(0)
    first, second = rng.normal(1, 1, 6), rng.normal(0, 3, 4)
    found = estimate.unpaired_difference(first, second)
    low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(found.interval(), (low, high), rtol=1e-12)
    assert found.mean == pytest.approx(first.mean() - second.mean())
    swapped = estimate.unpaired_difference(second, first)
    np.testing.assert_allclose(swapped.interval(), (-high, -low), rtol=1e-12)
    assert np.isinf(estimate.unpaired_difference(first[:1], second).sem)
    with pytest.raises(ValueError, match="one value a model"):
        estimate.unpaired_difference(first[:, None], second)
