"""Laws of the fits: planted slopes and exponents are recovered, and what has no value is left out."""

import numpy as np
import pytest

from experiments.recognizer_geometry import fits, measure
from experiments.recognizer_geometry.constructions import CONSTRUCTIONS
from jaxsens.statistics import estimate


def test_lines_recover_planted_slopes():
    rng = np.random.default_rng(0)
    n, slopes = np.array([8, 16, 32, 64, 128.0]), rng.normal(size=6)
    exact = slopes[:, None] * np.log(n)[None] + np.arange(6.0)[:, None]
    fitted, offsets, residuals = fits.line(np.log(n), exact)
    np.testing.assert_allclose(fitted, slopes)
    np.testing.assert_allclose(offsets, np.arange(6), atol=1e-12)
    np.testing.assert_allclose(residuals, 0, atol=1e-20)
    with pytest.raises(ValueError, match="two different values"):
        fits.line(np.ones(3), np.ones((1, 3)))


def test_decays_recover_planted_exponents_and_their_intervals_cover():
    rng, lengths = np.random.default_rng(1), np.array([8, 16, 32, 64])
    covered, fitted = [], []
    for _ in range(300):
        level = rng.uniform(0.1, 0.9, (20, 1))  # centers differ
        rates = rng.binomial(400, level * lengths[None] ** -0.8) / 400
        exponent, offset, _ = fits.decay(lengths, rates)
        low, high = exponent.interval()
        covered.append(low <= -0.8 <= high)
        fitted.append((float(exponent.mean), offset))
    assert 0.9 < np.mean(covered) < 0.99
    np.testing.assert_allclose(np.mean(fitted, 0), [-0.8, np.log(0.5)], atol=0.02)
    rates[2:, 1:] = 0
    assert fits.decay(lengths, rates) is None, "one length with enough events is no line"


def test_counts_without_a_string_are_neither_one_nor_many():
    logs = fits.log2_counts(np.array([[0], [1], [200]]), np.array([200]), np.array([100]))
    np.testing.assert_allclose(logs[:, 0], [np.nan, 100 - np.log2(200), 100])
    low, high = fits.log2_limits(np.array([0, 1, 16]), 16, 4, exact=True)
    np.testing.assert_array_equal(low, [-np.inf, 0, 4])
    np.testing.assert_array_equal(high, low, err_msg="all strings were evaluated: K_0 is exact, 0 included")
    low, high = fits.log2_limits(np.array([0, 1, 200]), 200, 100, exact=False)
    shares = estimate.clopper_pearson(np.array([0, 1, 200]), 200, comparisons=3)
    assert low[0] == -np.inf
    np.testing.assert_allclose(low[1:], 100 + np.log2(shares[0][1:]))
    np.testing.assert_allclose(high, 100 + np.log2(shares[1]))


def test_lines_use_only_finite_values():
    x = np.array([4, 6, 8, 10, 12.0])
    y = np.array([1.0, 2.0, 3.0])[:, None] * x[None] + 5
    y[1, [1, 4]], y[2, :3] = np.nan, np.nan
    slopes, offsets, residuals, finite = fits.lines_where_finite(x, y)
    np.testing.assert_allclose(slopes, [1, 2, np.nan])
    np.testing.assert_allclose(offsets, [5, 5, np.nan])
    np.testing.assert_allclose(residuals[:2], 0, atol=1e-20)
    np.testing.assert_array_equal(finite, [5, 3, 2])


def test_margins_are_followed_to_where_they_end():
    assert fits.kept_until(lambda n: 10 / n, 0.1) == 100
    assert fits.kept_until(lambda n: 0 * n + 1, 0.5) is None
    assert fits.floor_exponent(1, 16) == 2.5
    assert fits.floor_exponent(2, 8) < 0
    for end in (0, 1, 5, 97, 98, 400):
        for start in (0, 1, 98, 300):
            assert fits.last_kept(lambda n, end=end: n <= end, start) == end
    with pytest.raises(ValueError, match="too far"):
        fits.last_kept(lambda n: True, 98)
    with pytest.raises(ValueError, match="start must be at least 0"):
        fits.last_kept(lambda n: True, -1)


def test_the_end_of_a_margin_is_that_of_the_model_itself():
    """To first order in epsilon it would be 98."""
    smallest = CONSTRUCTIONS["first"](0.01).smallest
    assert fits.kept_until(smallest, 0.1) == 98
    assert measure.margin_end("first", 0.01, 0.1, 98)["kept"] == 97


def test_a_construction_that_fails_raises_with_its_name():
    fits.require_margin("first", 0.01, 64, 0.1502, 0.1520)
    for margin, closed_form in ((-0.1, 0.15), (0.0, 0.15), (0.12, 0.15), (float("nan"), 0.15)):
        with pytest.raises(FloatingPointError, match=r"construction first at epsilon = 0\.01, N = 64"):
            fits.require_margin("first", 0.01, 64, margin, closed_form)
    with pytest.raises(FloatingPointError, match="within 1e-06"):
        fits.require_margin("first", 0.0, 64, 0.999, 1.0)
