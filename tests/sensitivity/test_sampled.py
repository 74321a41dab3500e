import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import jaxsens
from jaxsens import perturb, substitution
from jaxsens.execution import Execution
from jaxsens.sensitivity import sampled, token
from jaxsens.statistics import sequential

KEY = jax.random.key(3)
NOISE = perturb.gaussian(2.25)


def linear(params, tokens, mask=None):
    return jnp.einsum("btd,td->b", tokens, params)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(6, 2)).astype(np.float32), rng.normal(size=(900, 6, 2)).astype(np.float32)


def measured(data, devices):
    measure = jaxsens.sampled_token_sensitivity(
        jaxsens.one_at_a_time(linear),
        NOISE,
        target_sem=0.02,
        pilot=20,
        pilot_sites=3,
        execution=Execution(chunk=64, devices=devices),
    )
    return measure(KEY, *data)


@pytest.fixture(scope="module")
def found(data, devices):
    return measured(data, devices[:1])


def test_it_stops_at_the_target_in_few_forwards(data, found):
    """And finds ``P[flip] = arctan(r / s) / pi``, with r the noise's deviation and s the score's."""
    assert isinstance(found, jaxsens.SampledSensitivity)
    assert found.reached
    assert sequential.precise_enough(found.estimate, 0.02)
    norms = np.linalg.norm(data[0], axis=1)
    truth = np.mean(np.arctan(1.5 * norms / np.linalg.norm(data[0])) / np.pi)
    low, high = found.interval(0.99)
    assert low <= truth <= high
    sites, draws = found.allocation[:2]
    assert found.forwards == 20 * 2 * (3 + 1) + found.count * draws * (sites + 1) < 900 * 7
    assert found.looks[-1] == (found.count, found.mean, found.sem)
    assert [look.examples for look in found.looks] == sequential.sizes(found.looks[0].examples, 880)[: len(found.looks)]
    assert found.interval(0.95) == found.measured.interval(sequential.level_of(len(found.looks), 0.95))
    twice = jax.tree.map(lambda a: 2 * a, found)
    assert (twice.components.sites, twice.forwards) == (2 * found.components.sites, found.forwards)


def test_every_change_is_that_of_the_full_grid(data, found, devices):
    """Same example, same draw, same site; none is counted twice, and they come in random order."""
    draws = found.allocation.draws
    plain = substitution.one_at_a_time(linear)
    full = token.token_sensitivity(plain, NOISE, draws=draws, execution=Execution(devices=devices[:1]))(KEY, *data)
    expected = full.changes[found.examples] & found.measured.sites[:, None]
    np.testing.assert_array_equal(found.measured.changes, expected)
    assert set(found.measured.sites.sum(1)) == {found.allocation.sites}
    assert found.count == len(set(found.examples.tolist()))
    assert abs(np.corrcoef(found.examples, np.arange(found.count))[0, 1]) < 0.3


def test_equal_bits_on_any_devices(data, found, devices):
    several = measured(data, devices[:3])
    np.testing.assert_array_equal(found.measured.changes, several.measured.changes)
    np.testing.assert_array_equal(found.examples, several.examples)
    assert found.looks == several.looks


def test_a_target_out_of_reach_is_reported(simulated):
    measure = simulated(lambda rng, n: np.full((n, 16), 0.3), target_sem=1e-4)
    with pytest.raises(ValueError, match=r"target_sem=0\.0001 is out of reach of 800 examples"):
        measure(KEY, None, np.zeros((1000, 16, 1)))
    with pytest.raises(ValueError, match="two pilots of 200 examples at least, got 399"):
        measure(KEY, None, np.zeros((399, 16, 1)))


@pytest.mark.parametrize("name", ["pilot", "pilot_sites", "target_sem"])
def test_bad_options_are_named(name):
    plain = substitution.one_at_a_time(linear)
    with pytest.raises(ValueError, match=f"{name} must be .*, got 0"):
        jaxsens.sampled_token_sensitivity(plain, NOISE, **{"target_sem": 0.1, name: 0})
    with pytest.raises(ValueError, match="fifth argument"):
        jaxsens.sampled_token_sensitivity(lambda params, x, alternatives, mask: None, NOISE, target_sem=0.1)


@pytest.fixture
def simulated(monkeypatch):
    """Everything but the model: ``levels(rng, n)`` says how often, or how much, n examples' 16 sites change."""

    def build(levels, target_sem, *, rate=True, perturbation=NOISE, seed=0):
        rng = np.random.default_rng(seed)

        def token_sensitivity(substitute, perturbation, *, change, draws=1, sites_drawn=None, **options):
            def measure(key, params, tokens, mask, sites, index):
                level = levels(rng, len(index))[:, None]
                priority = np.where(sites, rng.random(sites.shape), 2)
                chosen = (priority.argsort(1).argsort(1) < sites_drawn) & sites
                shape = (len(index), draws, 16)
                found = rng.random(shape) < level if rate else level * rng.exponential(size=shape)
                return token.Sensitivity(np.where(chosen[:, None], found, np.zeros_like(found)), chosen, rate, 1)

            return measure

        monkeypatch.setattr(sampled, "token_sensitivity", token_sensitivity)
        return sampled.sampled_token_sensitivity(
            substitution.one_at_a_time(linear), perturbation, target_sem=target_sem
        )

    return build


def test_examples_of_different_lengths(simulated):
    mask = np.arange(16) < np.random.default_rng(1).integers(1, 17, (3000, 1))
    found = simulated(lambda rng, n: rng.random((n, 16)) ** 2, 0.02)(KEY, None, np.zeros((3000, 16, 1)), mask)
    assert found.reached
    assert (found.measured.sites <= mask[found.examples]).all()
    low, high = found.interval(0.999)
    assert low <= 1 / 3 <= high


def test_antithetic_draws_are_never_torn_apart(simulated):
    pairs = perturb.antithetic(NOISE)
    found = simulated(lambda rng, n: rng.random((n, 16)), 0.02, perturbation=pairs)(KEY, None, np.zeros((3000, 16, 1)))
    assert found.measured.changes.shape[1] == found.allocation.draws == 2
    assert found.forwards == 200 * 4 * 9 + found.count * 2 * (found.allocation.sites + 1)


def test_a_function_that_never_changes(simulated):
    """It takes ``1 / (2 target)`` examples to say so, and the interval does not collapse."""
    found = simulated(lambda rng, n: np.zeros((n, 16)), 0.001)(KEY, None, np.zeros((3000, 16, 1)))
    assert (found.mean, found.sem, found.reached, found.allocation.sites) == (0, 0, True, 8)
    assert [look.examples for look in found.looks] == [504]  # in four parts
    low, high = found.interval()
    assert low == 0 < 0.005 < high


def test_exhausted_examples_are_reported(simulated):
    """The pilot sees an even world, and the rest of it is not."""
    uneven = iter([0.1] + [0.0, 1.0] * 1000)
    found = simulated(lambda rng, n: np.full((n, 16), next(uneven)), 0.01)(KEY, None, np.zeros((400, 16, 1)))
    assert not found.reached
    assert found.count == found.looks[-1].examples == 200


SPREAD = np.geomspace(0.3, 3, 16)
WORLDS = {  # how often, or how much, an example's 16 sites change, and the standard error that is asked for
    "ordinary rate": (lambda rng, n: special.ndtr(-np.abs(rng.normal(size=(n, 1))) / (0.6 * SPREAD)), 0.02),
    "rare, in few examples": (lambda rng, n: special.ndtr(-np.abs(rng.normal(size=(n, 1))) / (0.01 * SPREAD)), 0.001),
    "very rare, in few examples": (
        lambda rng, n: special.ndtr(-np.abs(rng.normal(size=(n, 1))) / (0.001 * SPREAD)),
        5e-4,
    ),
    "rare, anywhere": (lambda rng, n: np.full((n, 16), 0.0005), 0.0005),
    "skewed": (lambda rng, n: np.exp(rng.normal(size=(n, 1))) * SPREAD, 0.1),
}


def coverage(simulated, world, repeats, available):
    """Return how many intervals of 95 % cover, how many runs reached the target, and the bias in units of it."""
    levels, target = WORLDS[world]
    measure = simulated(levels, target, rate=world != "skewed")
    truth = levels(np.random.default_rng(1), 10**6).mean()
    tokens, covered, reached, means = np.zeros((available, 16, 1)), 0, 0, []
    for seed in range(repeats):
        found = measure(jax.random.key(seed), None, tokens)
        low, high = found.interval(0.95)
        covered, reached = covered + (low <= truth <= high), reached + found.reached
        means.append(found.mean)
    return covered / repeats, reached / repeats, (np.mean(means) - truth) / target


@pytest.mark.parametrize("world", ["ordinary rate", "rare, in few examples"])
def test_intervals_cover_where_the_run_stops(simulated, world):
    covered, _, bias = coverage(simulated, world, 40, 6000)
    assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 40)
    assert abs(bias) < 1


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_intervals_cover_in_every_world(simulated, world, capsys):
    """1,000 runs each: coverage of 95 % or more, within three standard errors of the count."""
    covered, reached, bias = coverage(simulated, world, 1000, 40_000)
    with capsys.disabled():
        print(
            f"\n{world}: {covered:.1%} cover, {reached:.1%} reached, bias {bias:+.2f} of the standard error asked for"
        )
    assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 1000)
    assert abs(bias) < 0.3
