"""The rules of verdicts: which verdicts they give, and what they refuse."""

import math
import re
from functools import partial

import numpy as np
import pytest
from scipy import stats

from experiments.harness import verdicts
from experiments.harness.verdicts import NOT_TRAINED, Design
from jaxsens.statistics import estimate

GRID = (1e-4, 1e-3, 1e-2)
TRAINED = Design(3, GRID, {"vit": 1e-3})


def three(make, values):
    """Return the names of the verdicts of a rule on several measurements."""
    return [make(value).name for value in values]


ALL = ["supported", "contradicted", "inconclusive"]


def test_a_mean_reaches_all_verdicts_with_three_units():
    units = [np.array([-1.0, 0.0, 1.0]) + shift for shift in (9, -9, 1)]
    above = three(lambda v: verdicts.mean(estimate.from_values(v), design=TRAINED, above=0.0), units)
    below = three(lambda v: verdicts.mean(estimate.from_values(-v), design=TRAINED, below=0.0), units)
    within = three(
        lambda v: verdicts.mean(estimate.from_values(v - 9), design=TRAINED, within=(-4, 4)), [*units[:2], units[0] + 4]
    )
    assert above == below == within == ALL


def test_a_mean_without_a_spread_is_not_judged():
    """Eight equal pairs were within 0.1 with probability 0.16 where the mean is -0.12."""
    found = verdicts.mean(estimate.from_values(np.zeros(8)), design=NOT_TRAINED, within=(-0.1, 0.1))
    assert found.name == "inconclusive"
    assert "all units agree" in found.reason
    alone = verdicts.mean(estimate.from_values([1.0]), design=NOT_TRAINED, above=0.0)
    assert (alone.name, alone.low, alone.reason) == ("inconclusive", None, "a single unit has no spread to judge by")


def test_the_error_of_a_verdict_is_twice_the_p_value():
    values = np.array([1.0, 2.0, 3.5, 2.0])
    found = verdicts.mean(estimate.from_values(values), design=NOT_TRAINED, above=0.0)
    assert found.error == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, rel=1e-6)
    assert (found.units, found.level) == (4, 0.025)
    assert found.note.startswith(
        "mean above 0; contradicted if interval wholly below 0; 4 independent units; level 0.0"
    )


def test_a_bounded_mean_counts_failures_that_were_not_seen():
    perfect = verdicts.bounded_mean(np.ones(3), (0, 1), design=TRAINED, above=0.95)
    assert perfect.name == "inconclusive"
    assert perfect.low == pytest.approx(0.0125 ** (1 / 3))
    assert "86 are needed" in perfect.reason
    assert verdicts.bounded_mean(np.ones(86), (0, 1), design=TRAINED, above=0.95).name == "supported"
    pairs = verdicts.bounded_mean(np.zeros(8), (-1, 1), design=NOT_TRAINED, within=(-0.1, 0.1))
    assert pairs.name == "inconclusive"
    assert pairs.power == 0
    make = lambda v: verdicts.bounded_mean(v, (-1, 1), design=NOT_TRAINED, within=(-0.1, 0.1))  # noqa: E731
    assert three(make, [np.zeros(60), np.ones(60), np.arange(60) < 6]) == ALL
    with pytest.raises(ValueError, match=r"values must lie within \(0, 1\), got 0.0 to 2.0"):
        verdicts.bounded_mean(np.array([0.0, 2.0]), (0, 1), design=NOT_TRAINED, above=0.5)


def test_nothing_decides_nothing():
    for rule in (partial(verdicts.mean, above=0.0), partial(verdicts.slope, tolerance=0.1)):
        found = rule(None, design=NOT_TRAINED)
        assert (found.name, found.units, found.power, found.reason) == ("inconclusive", 0, 0, "no unit to judge by")
    alone = verdicts.bounded_mean([1.0], (0, 1), design=NOT_TRAINED, above=0.5)
    assert (alone.name, alone.power) == ("inconclusive", 0)
    assert "7 are needed" in alone.reason


def test_a_share_reaches_all_verdicts_or_is_not_judged():
    make = lambda k: verdicts.share(k, 36, design=TRAINED, above=0.9)  # noqa: E731
    assert three(make, [36, 20, 34]) == ALL
    few = verdicts.share(6, 6, design=TRAINED, above=0.9)
    assert (few.name, few.power) == ("inconclusive", 0)
    assert "36 are needed" in few.reason
    assert verdicts.share(0, 6, design=TRAINED, above=0.9).name == "inconclusive", "a rule of one direction"
    assert verdicts.share(0, 6, design=TRAINED, above=0.5).name == "contradicted"
    assert verdicts.share(6, 6, design=TRAINED, above=0.5).name == "supported"
    assert verdicts.share(0, 6, design=TRAINED, above=0.5, undecided=4).name == "inconclusive"
    assert verdicts.share(0, 6, design=TRAINED, below=0.5).name == "supported"
    with pytest.raises(ValueError, match="more than total = 3"):
        verdicts.share(2, 3, design=TRAINED, above=0.5, undecided=2)


def test_rises_in_each_looks_at_the_smallest_lower_end():
    """Not at the layer of the smallest mean: a noisier one that does not rise was not seen in 0.33 of all runs."""
    rng = np.random.default_rng(0)

    def steps(*means_and_spreads):
        return [estimate.from_values(m + s * rng.normal(size=60)) for m, s in means_and_spreads]

    make = lambda means: verdicts.rises_in_each(steps(*means), design=NOT_TRAINED)  # noqa: E731
    rising, noisy = ((0.05, 0.02), (0.3, 0.1)), ((0.05, 0.02), (0.1, 1.0))
    assert three(make, [rising, ((0.05, 0.02), (-0.3, 0.1)), noisy]) == ALL
    flat = verdicts.rises_in_each([*steps((1, 0.1)), estimate.from_values(np.ones(9))], design=NOT_TRAINED)
    assert flat.reason == "without a spread to judge by: numbers [2]"


@pytest.mark.parametrize("noise", [0.1, 0.01, 0.0003])
def test_precise_data_do_not_turn_a_right_slope_into_a_wrong_one(noise):
    """``c / (N + 1)`` is O(1/N), its slope -0.996 here."""
    lengths, rng = np.log([128, 256, 512]), np.random.default_rng(0)

    def slope(law):
        values = law(np.exp(lengths)) + noise * rng.normal(size=(40, 3))
        return estimate.from_values(np.polyfit(lengths, values.T, 1)[0])

    make = lambda law: verdicts.slope(slope(law), design=NOT_TRAINED, tolerance=0.05)  # noqa: E731
    assert make(lambda n: -np.log(n + 1)).name == ("inconclusive" if noise == 0.1 else "supported")
    assert make(lambda n: -0.5 * np.log(n)).name == "contradicted"
    assert make(lambda n: -0.95 * np.log(n)).name == "inconclusive"
    assert make(lambda n: -2 * np.log(n)).name == "supported"


def test_a_correlation_takes_ten_units():
    x = np.arange(12.0)
    make = lambda y: verdicts.correlation(x, y, design=NOT_TRAINED)  # noqa: E731
    assert three(make, [x, -x, x[::-1] * (-1) ** x]) == ALL
    assert verdicts.correlation(x, -x, sign=-1, design=NOT_TRAINED).name == "supported"
    few = verdicts.correlation(x[:9], x[:9], design=NOT_TRAINED)
    assert few.reason == "9 independent units; 10 are needed for a rank correlation"
    groups = np.arange(12) // 2
    grouped = verdicts.correlation(x, x, design=NOT_TRAINED, groups=groups)
    assert grouped.reason.startswith("7 independent units, less one for each further group; 10 are needed")
    clusters = np.arange(12) // 4
    assert verdicts.correlation(x, x, design=NOT_TRAINED, clusters=clusters).units == 3


def test_one_exception_contradicts_and_enough_cases_without_support():
    make = lambda e, n: verdicts.no_exception(e, n, design=NOT_TRAINED).name  # noqa: E731
    assert [make(0, 72), make(1, 72), make(0, 71)] == ALL
    assert make(1, 1) == "contradicted"
    assert verdicts.no_exception(0, 8, design=NOT_TRAINED, exhaustive=True).name == "supported"
    assert verdicts.no_exception(0, 80, design=NOT_TRAINED).error == pytest.approx(2 * 0.95**80)


@pytest.mark.parametrize(
    ("design", "reason"),
    [
        (Design(2, GRID, {"vit": 1e-3}), "2 independently trained models of each kind; 3 are needed"),
        (Design(3), "the learning rate is not said to be the best of a grid"),
        (Design(3, GRID), "the learning rate is not said to be the best of a grid"),
        (
            Design(3, (1e-3,), {"vit": 1e-3}),
            "no grid of learning rates of vit: 1 tried; 3 are needed for the best to lie inside",
        ),
        (
            Design(3, {"vit": GRID, "cnn": GRID[:2]}, {"vit": 1e-3, "cnn": 1e-3}),
            "no grid of learning rates of cnn: 2 .*",
        ),
        (Design(0, drawn=(1e-4, 1e-2)), "0 independently trained models of each kind; 3 are needed"),
        (Design(3, drawn=(1e-3, 1e-3)), "learning rates drawn from 0.001 to 0.001; a factor of 2 is needed"),
        (Design(3, GRID, {"vit": 1e-3, "cnn": 1e-2}), "best learning rate of cnn, 0.01, is at the edge of the grid .*"),
    ],
)
def test_training_without_seeds_or_grid_allows_no_verdict(design, reason):
    rising = estimate.from_values(np.array([8.0, 9.0, 10.0]))
    every = [
        verdicts.mean(rising, design=design, above=0.0),
        verdicts.bounded_mean(np.ones(100), (0, 1), design=design, above=0.5),
        verdicts.share(36, 36, design=design, above=0.9),
        verdicts.rises_in_each([rising], design=design),
        verdicts.slope(rising, design=design, tolerance=0.1),
        verdicts.correlation(np.arange(20), np.arange(20), design=design),
        verdicts.no_exception(0, 100, design=design),
    ]
    for one in every:
        assert (one.name, one.error) == ("inconclusive", 1)
        assert re.fullmatch(reason, one.reason)
        assert "not judged: " in one.note


def judged(error):
    """Return a verdict of a mean with this error."""
    values = np.array([-1.0, 1.0, -1.0, 1.0])
    sem = values.std(ddof=1) / 2
    return verdicts.mean(estimate.from_values(values + sem * stats.t.isf(error / 2, 3)), design=NOT_TRAINED, above=0.0)


def test_several_verdicts_of_a_claim_are_corrected_together():
    every = [judged(error) for error in (0.039, 0.012, 0.02, 0.9, 0.039)]
    assert [one.name for one in every] == ["supported"] * 3 + ["inconclusive", "supported"]
    assert [one.name for one in verdicts.holm(every)] == ["inconclusive"] * 5
    assert [one.name for one in verdicts.holm(every[1:3])] == ["supported"] * 2
    assert (
        "supported alone (error 0.039), not after Holm's correction for 2"
        in verdicts.holm([every[0], every[3]])[0].reason
    )
    discovered = verdicts.false_discovery_rate(every)
    assert [one.name for one in discovered] == ["supported"] * 3 + ["inconclusive", "supported"]
    assert [one.name for one in verdicts.false_discovery_rate(every[:1] + [every[3]] * 9)] == ["inconclusive"] * 10
    assert verdicts.holm([]) == verdicts.false_discovery_rate([]) == []


def test_outer_units_count_once():
    found = verdicts.outer_means([1.0, 1.0, 1.0, 4.0, 10.0, 0.0], [0, 0, 0, 1, 2, 2])
    np.testing.assert_array_equal(found.values, [1, 4, 5])
    assert (found.count, found.mean) == (3, 10 / 3)
    low, high = verdicts.outer_means([1.0, 0.0, 1.0], [0, 0, 1], rate=True).interval()
    assert 0 < low < 0.75 < high <= 1
    with pytest.raises(ValueError, match="vectors of one length"):
        verdicts.outer_means([1.0], [0, 1])


def test_logits_of_rates():
    np.testing.assert_allclose(verdicts.empirical_logit([0, 5, 10], 10), np.log([0.5 / 10.5, 1, 10.5 / 0.5]))
    with pytest.raises(ValueError, match="count must lie from 0 to total"):
        verdicts.empirical_logit(3, 2)


def test_rates_on_the_logit_scale_keep_the_logit_of_each_model_and_the_spread_of_the_delta_method():
    rates = np.array([[0.0, 0.5, 0.25, 0.25], [0.0, 0.0, 0.0, 0.0]])
    logits = verdicts.on_logits(rates, 1)
    np.testing.assert_allclose(logits.mean(1), [np.log(1.5 / 3.5), np.log(0.5 / 4.5)])
    np.testing.assert_allclose(logits[0].std(), rates[0].std() / (0.3 * 0.7))
    np.testing.assert_allclose(verdicts.on_logits(rates, 10).mean(1), [np.log(10.5 / 30.5), np.log(0.5 / 40.5)])
    with pytest.raises(ValueError, match=r"rates must be frequencies in \[0, 1\], model by unit, got shape \(1, 1\)"):
        verdicts.on_logits([[1.5]], 1)


def test_the_units_of_a_difference_of_models_are_its_models():
    """Not the thousand images that it is paired over; its power is that of a simulation of the same intervals."""
    rng = np.random.default_rng(0)
    found = estimate.difference(*(rng.normal(shift, 0.1, (3, 1)) + np.zeros(1000) for shift in (1, 0)))
    judged = verdicts.mean(found, design=TRAINED, above=0.0, models=(3, 4), effect=4.0)
    assert (judged.units, judged.power_at) == (3, "4 times the standard deviation of a model beyond the bound")
    draws = [estimate.unpaired_difference(rng.normal(4, 1, 3), rng.normal(0, 1, 4)) for _ in range(1000)]
    hits = np.mean([verdicts.mean(one, design=TRAINED, above=0.0).name == "supported" for one in draws])
    assert hits == pytest.approx(judged.power, abs=0.05)
    assert judged.power < verdicts.mean(found, design=TRAINED, above=0.0, effect=4.0).power


def test_levels_and_powers_are_those_of_closed_forms():
    assert verdicts.power("mean", 10, 0.0) == pytest.approx(0.025)
    assert verdicts.power("mean", 4, 1.0) == pytest.approx(stats.nct.sf(stats.t.ppf(0.975, 3), 3, 2))
    assert verdicts.power("rises_in_each", 4, 1.0, steps=2) == pytest.approx(verdicts.power("mean", 4, 1.0) ** 2)
    assert verdicts.power("share", 36, 0.99, above=0.9) == pytest.approx(0.99**36)
    assert verdicts.level("share", 36, above=0.9) == pytest.approx(0.9**36)
    assert verdicts.level("bounded_mean", 86, above=0.95) == pytest.approx(0.95**86)
    assert verdicts.level("no_exception", 100) == pytest.approx(0.95**100)
    assert 0.01 < verdicts.level("correlation", 20) < 0.03
    assert verdicts.power("correlation", 20, 0.95) > 0.99
    with pytest.raises(ValueError, match="rule must be one of"):
        verdicts.level("median", 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: verdicts.mean(e, design=NOT_TRAINED), "give exactly one of them"),
        (lambda e: verdicts.mean(e, design=NOT_TRAINED, above=0.0, below=1.0), "give exactly one of them"),
        (lambda e: verdicts.mean(e, design=NOT_TRAINED, above=math.nan), "lower bound = nan must be a finite number"),
        (lambda e: verdicts.mean(e, design=NOT_TRAINED, within=(2, -1)), "the lower bound comes first"),
        (lambda e: verdicts.mean(e, design=NOT_TRAINED, within=(-1, math.nan)), "upper bound = nan must be a finite"),
        (
            lambda e: verdicts.mean(estimate.from_values(np.ones((3, 2))), design=NOT_TRAINED, above=0.0),
            r"about one number, got a mean of shape \(2,\)",
        ),
        (lambda e: verdicts.rises_in_each([], design=NOT_TRAINED), "give at least one"),
        (lambda e: verdicts.slope(e, design=NOT_TRAINED, tolerance=0.0), "tolerance = 0.0 must be"),
        (
            lambda e: verdicts.share(math.nan, 3, design=NOT_TRAINED, above=0.5),
            "holding must be an integer of at least 0",
        ),
        (lambda e: verdicts.share(1, 3, design=NOT_TRAINED, above=1.5), r"a bound in \[0, 1\]"),
        (lambda e: verdicts.correlation([1.0], [1.0], sign=0, design=NOT_TRAINED), "sign = 0 must be 1 or -1"),
        (lambda e: verdicts.no_exception(3, 2, design=NOT_TRAINED), "out of range"),
        (lambda e: Design(math.nan), "seeds must be an integer of at least 0, got nan"),
        (lambda e: Design(True), "seeds must be an integer of at least 0, got True"),
        (lambda e: Design(3, GRID, {"vit": 0.5}), "best = 0.5 of vit is not in its grid"),
        (lambda e: Design(3, (0.0, 1.0)), "learning rates are positive finite numbers"),
        (lambda e: Design(3, drawn=(0.0, 1.0)), "learning rates are positive finite numbers"),
        (lambda e: Design(3, drawn=(1e-2, 1e-4)), "give the smallest and the largest rate"),
        (lambda e: Design(3, GRID, drawn=(1e-4, 1e-2)), "no grid beside them"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(estimate.from_values([1.0, 2.0, 3.0]))


def test_counts_may_be_numpy_integers():
    found = verdicts.share(np.int64(36), np.int32(36), design=Design(np.int64(3), GRID, {"a": 1e-3}), above=0.9)
    assert found.name == "supported"


def test_every_model_may_draw_its_rate():
    assert Design(3, drawn=(1e-4, 1e-2)).reason() == ""


def test_kinds_of_models_may_have_their_own_grids():
    grids = {"vit": GRID, "cnn": (0.1, 0.2, 0.4)}
    assert Design(3, grids, {"vit": 1e-3, "cnn": 0.2}).reason() == ""
    with pytest.raises(ValueError, match=r"best = 0.2 of vit is not in its grid \[0.0001, 0.001, 0.01\]"):
        Design(3, grids, {"vit": 0.2})
