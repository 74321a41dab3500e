"""The bound of noise stability by the largest sensitivity: all functions of few bits, and where it ends."""

import numpy as np
import pytest

from jaxsens.boolean import languages, truth_tables
from jaxsens.noise_stability.sensitivity_bound import all_tables, degree_slack, stability_slack

RHOS = np.linspace(0, 1, 5)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_bound_holds_for_all_functions_of_up_to_four_bits(n):
    tables = all_tables(n)
    assert len(np.unique(tables @ 2 ** np.arange(2**n))) == 2**2**n
    assert degree_slack(tables).min() == 0
    assert stability_slack(tables, RHOS).min() >= -1e-12


def test_the_bound_is_sharp_for_dictators_and_fails_for_negative_correlations():
    dictator = truth_tables.truth_table(lambda x: x[:, 0] == 1, 3)
    np.testing.assert_allclose(stability_slack(dictator, RHOS), 0, atol=1e-12)
    parity = truth_tables.truth_table(languages.parity(3).accept, 3)
    assert stability_slack(parity, [-0.5])[0] == pytest.approx(-(0.5**3) + 0.5**9)


def test_the_average_sensitivity_bounds_more_tightly():
    """``rho^A`` lies between the stability and the published bound: by Jensen, here for all functions of 4 bits."""
    tables = all_tables(4)
    average, largest, published = (
        stability_slack(tables, RHOS, exponent=name) for name in ("average", "largest", "largest squared")
    )
    assert average.min() >= -1e-12
    assert (average <= largest + 1e-12).all()
    assert (largest <= published + 1e-12).all()
    assert (published - average).max() > 0.5
    linear = truth_tables.truth_table(languages.parity(4).accept, 4)
    np.testing.assert_allclose(stability_slack(linear, RHOS, exponent="average"), 0, atol=1e-12)


def test_a_degree_may_be_above_the_largest_sensitivity():
    """What the bound by the degree needs is the square: S itself would not do."""
    tables = all_tables(3)
    below = np.asarray(truth_tables.max_sensitivity(tables)) < np.asarray(truth_tables.degree(tables))
    assert below.sum() == 56


@pytest.mark.parametrize(
    "call",
    [
        lambda: all_tables(5),
        lambda: all_tables(0),
        lambda: stability_slack([0, 1], [2.0]),
        lambda: stability_slack([0, 1], [0.5], exponent="mean"),
        lambda: stability_slack([0, 1], [-0.5], exponent="average"),
    ],
)
def test_bad_input_is_named(call):
    with pytest.raises(ValueError, match="must be"):
        call()
