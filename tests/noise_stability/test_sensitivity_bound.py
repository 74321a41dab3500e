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


def test_a_bound_by_the_average_sensitivity_would_fail():
    """The slack is measured: with S in the place of S^2 some function has less stability."""
    tables = all_tables(4)
    stability = stability_slack(tables, [0.5])[:, 0]
    largest = np.asarray(truth_tables.max_sensitivity(tables), float)
    assert (stability + 0.5 ** (largest**2) - 0.5**largest).min() < -0.01


@pytest.mark.parametrize("call", [lambda: all_tables(5), lambda: all_tables(0), lambda: stability_slack([0, 1], [2.0])])
def test_bad_input_is_named(call):
    with pytest.raises(ValueError, match="must be"):
        call()
