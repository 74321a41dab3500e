"""Paired differences of estimates over the same units."""

import dataclasses

import numpy as np
import pytest

from jaxsens.statistics import estimate


def test_a_paired_difference_of_means():
    rng = np.random.default_rng(8)
    first, second = rng.normal(size=(2, 6, 3))
    found = estimate.from_values(first, unit="draws").minus(estimate.from_values(second, unit="draws"))
    np.testing.assert_allclose(found.mean, (first - second).mean(0))
    np.testing.assert_allclose(found.sem, (first - second).std(0, ddof=1) / np.sqrt(6))
    assert found.unit == "draws"
    rates = estimate.from_values([[True, False], [True, True]])
    equal = estimate.from_values([[True, True], [True, False]])
    np.testing.assert_array_equal(rates.minus(equal).mean, [0, 0])
    np.testing.assert_array_equal(rates.minus(equal).sem, [0.5, 1])  # 1 / n without a difference; -1 and 1 have 1
    plain = estimate.from_values([1.0, 2.0])
    for other, message in (
        (1.0, "other must be an Estimate, got a float"),
        (estimate.from_values([1.0, 2.0, 3.0]), "values is"),
        (estimate.from_values([True, False]), "rate is False here and True there"),
        (estimate.from_values([1.0, 2.0], unit="draws"), "unit is units here and draws there"),
        (dataclasses.replace(plain, sem=np.float64(3)), "the standard error of other is not that of its values"),
    ):
        with pytest.raises(ValueError, match=message):
            plain.minus(other)
    models = estimate.over_models(rng.normal(size=(2, 5)))
    with pytest.raises(ValueError, match="the standard error of this estimate is not that of its values"):
        models.minus(models)
