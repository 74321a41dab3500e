import jax
import numpy as np
import pytest
from scipy import special, stats

from jaxsens.statistics import estimate, intervals


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
    assert high - low == pytest.approx(1 - 0.025 ** (1 / 100))


@pytest.mark.parametrize("n", [2, 3, 10, 300])
def test_independent_trials_give_clopper_and_pearsons_interval(n):
    """One trial a unit: the effective number of trials is n."""
    counts = np.arange(n + 1)
    expected = estimate.clopper_pearson(counts, n)
    np.testing.assert_allclose(estimate.from_values(np.arange(n)[:, None] < counts).interval(), expected, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30, 100, 300])
def test_rates_of_independent_trials_are_covered_exactly(n):
    """Summed over all outcomes, not sampled; Wilson's interval had 0.84 at n = 300 and a rate of 5.8e-4."""
    counts = np.arange(n + 1)
    low, high = estimate.from_values(np.arange(n)[:, None] < counts).interval()
    rates = np.concatenate([np.geomspace(5e-4, 0.5, 150), 1 - np.geomspace(1e-3, 0.5, 150)])
    chance = stats.binom.pmf(counts[:, None], n, rates)
    inside = (low[:, None] <= rates) & (rates <= high[:, None])
    assert (chance * inside).sum(0).min() >= 0.95


def test_correlated_trials_are_not_counted_twice():
    once = np.random.default_rng(0).random(100) < 0.2
    ten_copies = np.repeat(once[:, None], 10, 1).mean(1)
    np.testing.assert_allclose(
        estimate.from_values(ten_copies, rate=True).interval(), estimate.from_values(once).interval()
    )


def test_a_single_unit_says_nothing_of_the_spread():
    assert np.isinf(estimate.from_values([3.0]).sem)
    assert estimate.from_values([3.0]).interval() == (-np.inf, np.inf)
    assert estimate.from_values([0.3], rate=True).interval() == pytest.approx((0, 1), abs=0.02)
    assert estimate.from_values([True]).interval() == pytest.approx((0.025, 1))  # a single trial


@pytest.mark.parametrize("level", [0, 1, 95])
def test_level_is_checked(level):
    with pytest.raises(ValueError, match=f"level must lie strictly between 0 and 1, got {level}"):
        estimate.from_values([1.0, 2.0]).interval(level)


def test_bad_values_are_refused():
    with pytest.raises(FloatingPointError, match=r"value \(1,\) is nan"):
        estimate.from_values([1.0, np.nan])
    with pytest.raises(ValueError, match="at least one unit"):
        estimate.from_values([])
    masked = np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[True, False], [False, False]])
    for call in (estimate.from_values, estimate.over_models):
        with pytest.raises(ValueError, match="must not be a masked array"):
            call(masked)
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


def test_zero_observed_difference_has_nonzero_standard_error():
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


def test_a_rate_of_models_without_a_change_counts_the_units():
    low, high = estimate.over_models(np.zeros((3, 500)), rate=True).interval()
    assert low == 0
    assert 0 < high < 0.05


def test_only_the_numbers_of_an_estimate_are_leaves():
    result = estimate.from_values([0.0, 0.25], rate=True)
    doubled = jax.tree.map(lambda a: 2 * a, result)
    assert doubled.mean == 2 * result.mean
    assert (doubled.count, doubled.rate) == (2, True)


def test_values_must_be_model_by_unit():
    for call in (estimate.over_models, lambda values: estimate.difference(values, values)):
        with pytest.raises(ValueError, match=r"must be \[m n \*k\]"):
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
        ([0], 0, {}, "total must be an integer of at least 1, got 0"),
        ([0], 4, {"comparisons": 0}, "comparisons must be an integer of at least 1, got 0"),
        ([0], np.nan, {}, "total must be an integer of at least 1, got nan"),
        ([0], 4.5, {}, "total must be an integer of at least 1, got 4.5"),
        ([0], 4, {"comparisons": np.nan}, "comparisons must be an integer of at least 1, got nan"),
        ([np.nan], 4, {}, r"counts must be integers from 0 to the total, 4, got \[nan\]"),
        ([True], 4, {}, r"counts must be integers from 0 to the total, 4, got \[True\]"),
        ([0], 4, {"level": np.nan}, "level must lie strictly between 0 and 1, got nan"),
        ([0], 4, {"level": 95}, "level must lie strictly between 0 and 1, got 95"),
    ],
)
def test_counts_out_of_range_are_named(counts, total, options, message):
    with pytest.raises(ValueError, match=message):
        estimate.clopper_pearson(np.array(counts), total, **options)


def test_counts_of_any_integer_type_do_not_wrap():
    expected = estimate.clopper_pearson(np.array([127]), 200)
    for count in (np.array([127], np.int8), np.array([127], np.uint64)):
        np.testing.assert_array_equal(estimate.clopper_pearson(count, np.int64(200)), expected)


def test_unpaired_difference_is_welchs():
    """From five models a group on to half a percent; with fewer it is wider."""
    rng = np.random.default_rng(0)
    for sizes, tolerance in (((6, 5), 5e-3), ((40, 30), 1e-4), ((2, 30), None)):
        first, second = rng.normal(1, 1, sizes[0]), rng.normal(0, 3, sizes[1])
        found = estimate.unpaired_difference(first, second)
        low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        if tolerance:
            np.testing.assert_allclose(found.interval(), (low, high), rtol=tolerance)
        else:
            assert found.interval()[0] < low < high < found.interval()[1]
        assert found.mean == pytest.approx(first.mean() - second.mean())
        swapped = estimate.unpaired_difference(second, first)
        np.testing.assert_allclose(swapped.interval(), tuple(-end for end in found.interval()[::-1]), rtol=1e-12)
    assert np.isinf(estimate.unpaired_difference(first[:1], second).sem)
    with pytest.raises(ValueError, match="one value a model"):
        estimate.unpaired_difference(first[:, None], second)


def test_two_equal_levels_have_satterthwaites_freedom_but_for_few_models():
    _, freedom = intervals.combine([(np.ones(()), 40.0), (np.ones(()), 40.0)])
    assert freedom == pytest.approx(80, rel=0.01)
    _, freedom = intervals.combine([(np.ones(()), 1.0), (np.zeros(()), 40.0)])
    assert freedom == 1
    sem, freedom = intervals.combine([(np.full(2, 0.09), 2.0), (np.full(2, 0.16), 20.0)])
    np.testing.assert_allclose(sem, 0.5)
    assert (freedom >= 2).all()
    assert (freedom < (0.25**2) / (0.09**2 / 2 + 0.16**2 / 20)).all()


def test_two_models_are_covered_whatever_the_share_of_the_variance_between_them():
    """Satterthwaite's degrees of freedom gave 0.87 where it is large."""
    rng = np.random.default_rng(0)
    for share in (0.0, 0.5, 0.95):
        models, units = share**0.5 * rng.normal(size=(2, 1, 4000)), rng.normal(size=(1, 30, 4000))
        values = models * 2**0.5 + (1 - share) ** 0.5 * 30**0.5 * units
        low, high = estimate.over_models(values).interval()
        assert np.mean((low <= 0) & (high >= 0)) > 0.925


def test_estimates_over_models_keep_the_axes_behind_the_units():
    values = np.random.default_rng(0).random((3, 20, 4))
    for rate in (False, True):
        together = np.array(estimate.over_models(values, rate=rate).interval())
        alone = np.array([estimate.over_models(values[..., i], rate=rate).interval() for i in range(4)]).T
        np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_intervals_of_skewed_means():
    values = np.random.default_rng(1).exponential(size=12)
    found = estimate.from_values(values)
    low, high = found.interval(method="log")
    relative, t = found.sem / found.mean, stats.t.ppf(0.975, 11)
    np.testing.assert_allclose(np.log(found.mean / low), t * relative, rtol=1e-12)
    np.testing.assert_allclose(np.log(high / found.mean), t * relative * (1 + 1.5 * relative), rtol=1e-12)
    np.testing.assert_allclose(estimate.from_values(8 * values).interval(method="log"), (8 * low, 8 * high))
    plain, hall = found.interval(), found.interval(method="skewed")
    assert hall[0] == plain[0] or hall[0] < plain[0]
    assert hall[1] > plain[1], "the tail is above"
    np.testing.assert_allclose(estimate.from_values(-values).interval(method="skewed"), (-hall[1], -hall[0]))
    symmetric = estimate.from_values([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(symmetric.interval(method="skewed"), symmetric.interval())
    assert symmetric.skewness == 0
    assert found.skewness == pytest.approx(stats.skew(values))
    assert estimate.from_values(np.zeros(4)).interval(method="log") == (0, 0)


def test_halls_end_solves_his_equation():
    values = np.random.default_rng(1).exponential(size=12)
    found = estimate.from_values(values)
    high = found.interval(method="skewed")[1]
    t, a = (found.mean - high) / found.sem, found.skewness / (3 * np.sqrt(12))
    assert t + a * t**2 + a**2 * t**3 / 3 + a / 2 == pytest.approx(-stats.t.ppf(0.975, 11))


def test_a_difference_of_skewed_groups_combines_their_intervals():
    rng = np.random.default_rng(0)
    first, second = rng.exponential(size=(2, 6))
    found = estimate.unpaired_difference(first, second)
    (low, _), (_, most) = (estimate.from_values(group).interval(method="log") for group in (first, second))
    expected = found.mean - np.hypot(first.mean() - low, most - second.mean())
    assert found.interval(method="log")[0] == pytest.approx(expected)


def test_methods_that_do_not_apply_are_refused():
    values = np.random.default_rng(0).random((3, 20))
    for found, method, message in (
        (estimate.from_values([1.0, 2.0]), "bootstrap", "method must be one of"),
        (estimate.from_values([0.5, 1.0], rate=True), "log", "rates have their own interval"),
        (estimate.from_values([-1.0, 2.0]), "log", "nonnegative values, got -1"),
        (estimate.from_values([1.0, 2.0]), "skewed", "3 units or more, got 2"),
        (estimate.over_models(values), "skewed", "use 'student'"),
        (estimate.difference(values, values[:, ::-1]), "log", "nonnegative values"),
    ):
        with pytest.raises(ValueError, match=message):
            found.interval(method=method)
