"""The Walsh transform of real functions and kernels, against that of truth tables and the characters themselves."""

import numpy as np
import pytest

from jaxsens.boolean import truth_tables
from jaxsens.theory import walsh

RNG = np.random.default_rng(0)


def characters(n):
    points = walsh.signs(n)
    sets = np.arange(2**n)[:, None] >> np.arange(n)[::-1] & 1
    return np.where(sets[:, None] == 1, points[None], 1.0).prod(-1)


def test_transform_is_that_of_truth_tables():
    tables = RNG.integers(0, 2, (3, 32))
    np.testing.assert_allclose(walsh.transform(1.0 - 2.0 * tables), truth_tables.walsh(tables), atol=1e-7)
    np.testing.assert_allclose(walsh.degree_weights(1.0 - 2.0 * tables), truth_tables.degree_weights(tables), atol=1e-6)


def test_transform_and_kernel_spectrum_are_products_with_characters():
    chi, values, kernel = characters(4), RNG.normal(size=16), RNG.normal(size=(16, 16))
    np.testing.assert_allclose(walsh.transform(values), chi @ values / 16, atol=1e-14)
    np.testing.assert_allclose(walsh.kernel_spectrum(kernel), chi @ kernel @ chi.T / 256, atol=1e-14)
    assert np.trace(walsh.kernel_spectrum(kernel)) == pytest.approx(np.trace(kernel) / 16)


@pytest.mark.parametrize("call", [lambda: walsh.transform(np.ones(3)), lambda: walsh.kernel_spectrum(np.ones((2, 4)))])
def test_shapes_that_are_no_cube_are_refused(call):
    with pytest.raises(ValueError, match="must"):
        call()
