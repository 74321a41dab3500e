"""The one value that says how to run, and its own checks."""

import jax
import numpy as np
import pytest

from jaxsens.execution import Execution


def test_equal_values_are_equal_and_counts_of_numpy_are_counts(devices):
    plain = Execution(chunk=4, devices=devices[:2])
    assert plain == Execution(chunk=np.int64(4), devices=tuple(devices[:2]))
    assert hash(plain) == hash(plain.replace())
    assert type(plain.replace(chunk=np.uint8(3)).chunk) is int
    assert plain.replace(check=False) != plain


BAD = {
    "chunk": [0, -1, 2.5, True, np.bool_(True), "4", np.array([4])],
    "precision": ["hi", 3],
    "backend": ["vmap", None],
    "devices": [[], "cpu", [0], jax.devices()[0], [jax.devices()[0]] * 2],
    "progress": [1, True],
    "check": [1, None],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_named(name):
    for value in BAD[name]:
        with pytest.raises(ValueError, match=f"{name} must"):
            Execution(**{name: value})
