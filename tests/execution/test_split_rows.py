"""Rows that are spread over devices: the algebra of whole rows, with equal bits."""

import jax
import numpy as np
import pytest

from jaxsens.execution.split_rows import SplitRows


@pytest.mark.parametrize("size", [5, 37])
def test_products_are_those_of_whole_rows_and_equal_on_several_devices(devices, size):
    """With fewer columns than parts too."""
    rng = np.random.default_rng(size)
    rows, vector = rng.normal(size=(4, size)).astype(np.float32), rng.normal(size=size).astype(np.float32)
    coefficients, found = rng.normal(size=(2, 4)).astype(np.float32), {}
    for number in (1, 2, 3, 5, 8):
        space = SplitRows(size, tuple(devices[:number]))

        @jax.jit
        def run(rows, coefficients, vector, space=space):
            put = jax.lax.fori_loop(0, 4, lambda i, put: space.put(put, i, rows[i]), space.zeros(4, rows.dtype))
            combinations = space.combinations(coefficients, put)
            one = space.combination(coefficients[0], put), space.row(combinations, 1)
            return put, combinations, (space.times(put, vector), *one)

        put, combinations, whole = jax.tree.map(np.asarray, run(rows, coefficients, vector))
        found[number] = put[:, :size], combinations[:, :size], *whole
        assert not put[:, size:].any()
    mixed = coefficients @ rows
    for result, expected in zip(found[1], (rows, mixed, rows @ vector, mixed[0], mixed[1]), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[2][2], found[1][2], rtol=1e-5, atol=1e-5)
    for number in (3, 5, 8):
        jax.tree.map(np.testing.assert_array_equal, found[number], found[2])
