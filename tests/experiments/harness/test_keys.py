"""Laws of keys: one for each purpose and number, and the same whatever else is measured."""

import jax
import numpy as np
import pytest

from experiments.harness import Keys


def test_keys_are_folded_by_purpose_and_numbers():
    keys = Keys("weights", "noise")
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 1), 7)
    np.testing.assert_array_equal(jax.random.key_data(keys(3, "noise", 7)), jax.random.key_data(expected))
    assert keys == Keys("weights", "noise")
    longer = Keys("weights", "noise", "order")
    np.testing.assert_array_equal(jax.random.key_data(keys(3, "noise")), jax.random.key_data(longer(3, "noise")))


def test_a_purpose_that_is_not_declared_is_refused():
    with pytest.raises(ValueError, match=r"purpose must be one of .*got 'nois'"):
        Keys("weights", "noise")(0, "nois")
