import itertools

import numpy as np
import pytest

from jaxsens.statistics import variance_components


def layout(seed, examples=6, draws=3, sites=4):
    rng = np.random.default_rng(seed)
    shape = (examples, draws, sites)
    parts = 3 * rng.normal(size=(examples, 1, 1)), 2 * rng.normal(size=(examples, 1, sites)), rng.normal(size=shape)
    return sum(parts), np.ones((examples, sites), bool)


def test_without_bias_to_the_last_digit():
    """Every pair of examples, every choice of 2 of 3 sites and all outcomes of 2 draws each, by their probabilities."""
    chances = np.array([[0.1, 0.5, 0.2], [0.7, 0.3, 0.9]])
    outcomes = []  # of an example: probability, changes [2 3], sites [3]
    for p in chances:
        found = []
        for chosen in itertools.combinations(range(3), 2):
            for bits in itertools.product((0, 1), repeat=4):
                changes = np.zeros((2, 3))
                changes[:, chosen] = np.reshape(bits, (2, 2))
                probability = np.where(changes, p, 1 - p)[:, chosen].prod() / 3
                found.append((probability, changes, np.isin(np.arange(3), chosen)))
        outcomes.append(found)
    mean, total = np.zeros(3), 0.0
    for first, second in itertools.product(outcomes, repeat=2):
        for (p, a, s), (q, b, t) in itertools.product(first, second):
            if p * q > 0:
                found = variance_components.from_changes(np.stack([a, b]), np.stack([s, t]), np.array([3, 3]))
                mean += p * q / 4 * np.array(found.unbiased)
                total += p * q / 4
    truth = [chances.mean(1).var(), chances.var(1, ddof=1).mean(), (chances * (1 - chances)).mean()]
    np.testing.assert_allclose(total, 1)
    np.testing.assert_allclose(mean, truth, atol=1e-12)


def test_on_a_balanced_layout_they_invert_the_expected_mean_squares():
    """``E MS_draws = v_d``, ``E MS_sites = r v_s + v_d``, ``E MS_examples = m r v_e + r v_s + v_d`` for T infinite."""
    changes, sites = layout(0)
    means, of_examples = changes.mean(1), changes.mean((1, 2))
    ms_draws = ((changes - means[:, None]) ** 2).sum() / (6 * 4 * 2)
    ms_sites = 3 * ((means - of_examples[:, None]) ** 2).sum() / (6 * 3)
    ms_examples = 12 * ((of_examples - of_examples.mean()) ** 2).sum() / 5
    found = variance_components.from_changes(changes, sites, np.full(6, 10**15))
    expected = [(ms_examples - ms_sites) / 12, (ms_sites - ms_draws) / 3, ms_draws]
    np.testing.assert_allclose(found.unbiased, expected, rtol=1e-12)


@pytest.mark.parametrize("population", [4, 7])
def test_the_variance_of_what_was_done_is_the_one_that_was_seen(population):
    changes, sites = layout(1)
    found = variance_components.from_changes(changes, sites, np.full(6, population))
    assert found.set_to_zero == ()
    np.testing.assert_allclose(found.variance(4, 3), changes.mean((1, 2)).var(ddof=1), rtol=1e-12)


def test_all_sites_leave_no_variance_between_sites():
    found = variance_components.Components(2.0, 5.0, 3.0, (2.0, 5.0, 3.0), np.array([8, 8]))
    assert found.variance(8, 1) == 2 + 3 / 8
    assert found.variance(8, 10**9) == pytest.approx(2)
    assert found.variance(99, 1) == found.variance(8, 1)
    assert found.variance(2, 3) == pytest.approx(2 + 5 * (1 / 2 - 1 / 8) + 3 / 6)


def test_components_below_zero_are_set_to_zero_and_named():
    """Examples with one mean each have less spread between them than their draws explain."""
    noise = np.random.default_rng(0).normal(size=(5, 4, 3))
    found = variance_components.from_changes(noise - noise.mean((1, 2), keepdims=True), np.ones((5, 3), bool))
    assert found.set_to_zero[0] == "examples"
    assert found.unbiased[0] < 0 == found.examples
    assert found.variance(1, 1) >= found.draws / 3


def test_examples_of_different_lengths():
    """Simulated with padding: means [1 .. 12] of examples, 2 and 3 of sites and draws."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 13, 4000)
    real = np.arange(12) < lengths[:, None]
    site = np.where(real, rng.normal(size=(4000, 12)), 0)
    spread = site - site.sum(1, keepdims=True) / lengths[:, None]
    changes = 1.5 * rng.normal(size=(4000, 1, 1)) + 2 * spread[:, None] + 3 * rng.normal(size=(4000, 2, 12))
    luck = np.where(real, rng.random((4000, 12)), 2)
    chosen = (luck.argsort(1).argsort(1) < 3) & real
    found = variance_components.from_changes(np.where(chosen[:, None], changes, np.nan), chosen, lengths)
    share = np.mean(lengths > 1)  # an example of a single site has no variance between sites
    np.testing.assert_allclose(found.unbiased, [1.5**2, 4 * share, 9], rtol=0.1)


def test_antithetic_pairs_count_as_units():
    changes, sites = layout(2, draws=4)
    paired = variance_components.from_changes(changes, sites, dependent_draws=2)
    means = variance_components.from_changes(changes.reshape(6, 2, 2, 4).mean(2), sites)
    np.testing.assert_allclose(paired.unbiased, np.array(means.unbiased) * [1, 1, 2])
    np.testing.assert_allclose(paired.variance(4, 4), means.variance(4, 2))


def of(examples, sites, draws, population=64):
    return variance_components.Components(examples, sites, draws, (examples, sites, draws), np.array([population]))


@pytest.mark.parametrize("seed", range(5))
def test_the_allocation_is_next_to_cochrans(seed):
    """And a second draw does not pay while there are sites left."""
    examples, sites, draws = np.random.default_rng(seed).uniform(0.1, 1, 3) * [0.1, 1, 1]
    best = np.sqrt((sites + draws) / (examples - sites / 64))
    found = variance_components.allocate(of(examples, sites, draws), 0.001)
    assert abs(found.sites - best) < 1
    assert found.draws == 1
    assert found.examples == int(np.ceil(of(examples, sites, draws).variance(found.sites, 1) / 1e-6))


def test_extremes_of_allocation():
    assert variance_components.allocate(of(1.0, 0.0, 0.0), 0.1).sites == 1
    assert variance_components.allocate(of(0.0, 1.0, 0.0), 0.1)[:2] == (64, 1)
    assert variance_components.allocate(of(0.0, 0.0, 1.0), 0.1)[:2] == (64, 1)
    assert variance_components.allocate(of(1.0, 0.0, 9.0, population=1), 0.1)[:2] == (1, 1)
    # Where an example costs a hundred forwards before its first site, take more of it.
    costly = variance_components.allocate(of(1.0, 1.0, 9.0), 0.1, cost=lambda sites, draws: draws * (sites + 100))
    assert costly.sites == pytest.approx(np.sqrt(100 * 10 / (1 - 1 / 64)), abs=1)
    assert variance_components.allocate(of(1.0, 1.0, 1.0), 0.1, dependent_draws=2).draws == 2


def test_few_examples_ask_for_more_of_each():
    components = of(1.0, 4.0, 4.0)
    free = variance_components.allocate(components, 0.1)
    bound = variance_components.allocate(components, 0.1, available=free.examples // 2)
    assert bound.sites > free.sites
    assert bound.examples <= free.examples // 2
    assert bound.cost * bound.examples >= free.cost * free.examples
    # One draw of all sites takes 107 examples.
    assert variance_components.allocate(components, 0.1, available=102).draws > 1
    with pytest.raises(ValueError, match=r"target_sem=0.1 is out of reach of 99 examples.* expected to reach 0.101"):
        variance_components.allocate(components, 0.1, available=99)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"changes": np.zeros((1, 2, 3)), "sites": np.ones((1, 3), bool)}, "2 examples or more"),
        ({"changes": np.zeros((2, 1, 3))}, "2 draws or more"),
        ({"changes": np.zeros((2, 3, 3)), "dependent_draws": 2}, "whole units of 2"),
        ({"sites": np.ones((2, 4), bool)}, r"sites \[b t\] booleans"),
        ({"sites": np.ones((2, 3))}, r"sites \[b t\] booleans"),
        ({"sites": np.arange(3)[None] < [[1], [3]], "population": np.array([3, 3])}, "sites must have 2 or more"),
        ({"population": np.array([3, 2])}, "sites must have 2 or more"),
    ],
)
def test_bad_layouts_are_named(change, match):
    arguments = {"changes": np.zeros((2, 2, 3)), "sites": np.ones((2, 3), bool)} | change
    with pytest.raises(ValueError, match=match):
        variance_components.from_changes(**arguments)


def test_bad_requests_are_named():
    with pytest.raises(FloatingPointError, match="not finite"):
        variance_components.from_changes(np.full((2, 2, 3), np.nan), np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="target_sem must be a finite number above 0, got 0"):
        variance_components.allocate(of(1, 1, 1), 0)
    with pytest.raises(ValueError, match="nothing varied"):
        variance_components.allocate(of(0, 0, 0), 0.1)
    with pytest.raises(ValueError, match="most_draws must be at least dependent_draws"):
        variance_components.allocate(of(1, 1, 1), 0.1, most_draws=1, dependent_draws=2)
