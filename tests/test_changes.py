import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import changes

CLEAN, CHANGED = jnp.array([1.0, 3.0, -2.0]), jnp.array([4.0, 3.0, 2.0])


def test_predictions():
    assert changes.prediction_change(CLEAN, CHANGED)
    assert not changes.prediction_change(CLEAN, CLEAN + 1)
    assert changes.prediction_change(CLEAN, CHANGED).dtype == bool


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize(("clean", "changed", "event"), [(1, -1, True), (1, 2, False), (0, -1, False), (0, 1, True)])
def test_signs_decide_where_there_is_one_score(shape, clean, changed, event):
    for change in (changes.sign_change, changes.prediction_change):
        assert change(jnp.full(shape, clean), jnp.full(shape, changed)) == event


def test_norms_of_the_change():
    difference = np.array([3.0, 0.0, 4.0])
    np.testing.assert_allclose(changes.squared_change(CLEAN, CHANGED), 25)
    np.testing.assert_allclose(changes.absolute_change(CLEAN, CHANGED), np.abs(difference).sum())
    np.testing.assert_allclose(changes.euclidean_change(CLEAN, CHANGED), 5)
    np.testing.assert_allclose(changes.largest_change(CLEAN, CHANGED), 4)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="one score"):
        changes.sign_change(CLEAN, CHANGED)
    with pytest.raises(ValueError, match=r"logits \[k\]"):
        changes.prediction_change(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
