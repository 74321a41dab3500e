"""Levels and powers of the rules of verdicts, by simulation."""

import numpy as np
import pytest

from experiments.harness import verdicts
from experiments.harness.verdicts import NOT_TRAINED
from jaxsens.statistics import estimate

REPEATS = 2000


def rate_of(make, name="supported"):
    """Return how often a rule gives a verdict, over data that ``make`` draws and judges."""
    rng = np.random.default_rng(0)
    return sum(make(rng).name == name for _ in range(REPEATS)) / REPEATS


def difference_of_logits(rng, deviation):
    """Judge two groups of three models with rare rates of one law: 16 tokens of 50 images, some more sensitive."""
    rates = 1 / (1 + 99 * np.exp(deviation * rng.normal(size=(2, 3, 1))))
    shares = rng.binomial(16, rng.beta(2 * rates, 2 - 2 * rates, (2, 3, 50))) / 16
    found = estimate.difference(*(verdicts.on_logits(group, 16) for group in shares))
    return verdicts.mean(found, design=NOT_TRAINED, below=0.0, models=(3, 3))


def given_a_common_cause(r, n):
    """Two quantities that depend on a third one, and on nothing else in common."""
    z, x, y = r.normal(size=(3, n))
    return verdicts.correlation(z + x, z + y, covariate=z, design=NOT_TRAINED)


def nulls():
    """Yield a name, what draws data where the claim is false but nearly true, and judges it, and the level it has."""
    laws = {"normal": lambda rng, n: rng.normal(size=n), "t3": lambda rng, n: rng.standard_t(3, size=n)}
    for law, draw in laws.items():
        for n in (3, 5, 10, 30):
            at = lambda rng, draw=draw, n=n: estimate.from_values(draw(rng, n))  # noqa: E731
            yield f"mean above, {law}, n={n}", lambda r, at=at: verdicts.mean(at(r), design=NOT_TRAINED, above=0.0)
            yield (
                f"mean within, {law}, n={n}",
                lambda r, at=at: verdicts.mean(at(r), design=NOT_TRAINED, within=(-9.0, 0.0)),
            )
            yield (
                f"slope, {law}, n={n}",
                lambda r, at=at: verdicts.slope(at(r), design=NOT_TRAINED, at_most=-0.1, tolerance=0.1),
            )
            yield (
                f"rises in each, {law}, n={n}",
                lambda r, d=draw, n=n: verdicts.rises_in_each(
                    [estimate.from_values(d(r, n) + shift) for shift in (0, 0.5, 9)], design=NOT_TRAINED
                ),
            )
    for n in (40, 60):
        yield (
            f"share, n={n}",
            lambda r, n=n: verdicts.share(int(r.binomial(n, 0.9)), n, design=NOT_TRAINED, above=0.9),
        )
    for n in (3, 8, 90):
        failing = lambda r, n: np.where(r.random(n) < 0.1, 0.5, 1 - 0.001 * r.random(n))  # noqa: E731
        yield (
            f"bounded mean with failures, n={n}",
            lambda r, n=n, f=failing: verdicts.bounded_mean(f(r, n), (0, 1), design=NOT_TRAINED, above=0.95),
        )
    for n in (10, 20, 40):
        yield (
            f"correlation, n={n}",
            lambda r, n=n: verdicts.correlation(r.normal(size=n), r.normal(size=n), design=NOT_TRAINED),
        )
        yield f"correlation given what both depend on, n={n}", lambda r, n=n: given_a_common_cause(r, n)
    for deviation in (0.1, 0.5):
        yield f"difference of logits, deviation {deviation}", lambda r, d=deviation: difference_of_logits(r, d)


@pytest.mark.slow
def test_levels_of_all_rules(capsys):
    """The probability of "supported" at the edge of the null is at most 0.03; about two minutes, printed with -s."""
    for name, make in nulls():
        found = rate_of(make)
        with capsys.disabled():
            print(f"\nlevel of {name}: {found:.4f}", end="")
        assert found <= 0.03 + 3 * np.sqrt(0.03 * 0.97 / REPEATS)


@pytest.mark.slow
def test_levels_of_skewed_means(capsys):
    """Student's rule errs toward "below" for units skewed to the right; on the log scale up to 0.06."""
    for method, most in (("student", 0.16), ("log", 0.065)):
        for law, draw in (
            ("exponential", lambda r, n: r.exponential(size=n)),
            ("lognormal", lambda r, n: np.exp(r.normal(size=n) - 0.5)),
        ):
            for n in (3, 10, 30):
                found = {
                    side: rate_of(
                        lambda r, draw=draw, n=n, m=method, side=side: verdicts.mean(
                            estimate.from_values(draw(r, n)), design=NOT_TRAINED, method=m, **{side: 1.0}
                        )
                    )
                    for side in ("above", "below")
                }
                with capsys.disabled():
                    print(f"\nlevel of mean, {method}, {law}, n={n}: {found}", end="")
                assert max(found.values()) <= most + 3 * np.sqrt(most / REPEATS)


@pytest.mark.slow
def test_powers_that_are_printed_are_the_simulated_ones(capsys):
    cases = {
        "mean": (
            lambda r: verdicts.mean(estimate.from_values(r.normal(1, 1, 6)), design=NOT_TRAINED, above=0.0),
            verdicts.power("mean", 6, 1.0),
        ),
        "mean within": (
            lambda r: verdicts.mean(estimate.from_values(r.normal(0, 1, 9)), design=NOT_TRAINED, within=(-1.2, 1.2)),
            verdicts.power("mean", 9, 1.2, within=True),
        ),
        "share": (
            lambda r: verdicts.share(int(r.binomial(50, 0.99)), 50, design=NOT_TRAINED, above=0.9),
            verdicts.power("share", 50, 0.99, above=0.9),
        ),
        "bounded mean": (
            lambda r: verdicts.bounded_mean(1.0 * (r.random(100) > 0.005), (0, 1), design=NOT_TRAINED, above=0.9),
            verdicts.power("bounded_mean", 100, 0.005, above=0.9),
        ),
        "rises in each": (
            lambda r: verdicts.rises_in_each(
                [estimate.from_values(r.normal(1, 1, 8)) for _ in range(3)], design=NOT_TRAINED
            ),
            verdicts.power("rises_in_each", 8, 1.0, steps=3),
        ),
        "correlation": (
            lambda r: verdicts.correlation(
                *np.linalg.cholesky([[1, 0.8], [0.8, 1]]) @ r.normal(size=(2, 12)), design=NOT_TRAINED
            ),
            verdicts.power("correlation", 12, 0.8),
        ),
    }
    for name, (make, expected) in cases.items():
        found = rate_of(make)
        with capsys.disabled():
            print(f"\npower of {name}: simulated {found:.3f}, printed {expected:.3f}", end="")
        assert found == pytest.approx(expected, abs=4 * np.sqrt(0.25 / REPEATS))


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(4, 4, 4), (4, 4, 3), (1, 2, 9)])
def test_outer_units_cover_where_inner_ones_are_taken_for_independent(counts):
    """70 % of the variance between languages; over models, coverage is 0.70."""
    rng, hits, naive = np.random.default_rng(0), 0, 0
    outer = np.repeat(np.arange(3), counts)
    for _ in range(REPEATS):
        values = rng.normal(0, 0.7**0.5, 3)[outer] + rng.normal(0, 0.3**0.5, len(outer))
        for found in (verdicts.outer_means(values, outer), estimate.from_values(values)):
            low, high = found.interval()
            if found.count == 3:
                hits += low <= 0 <= high
            else:
                naive += low <= 0 <= high
    assert hits / REPEATS > 0.93
    assert naive / REPEATS < 0.85
