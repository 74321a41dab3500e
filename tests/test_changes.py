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


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, bool, np.float16, jnp.bfloat16]
)
def test_differences_of_narrow_outputs_do_not_wrap(dtype):
    """The right values are those of float64, for the ends of the range of every dtype."""
    if dtype is bool:
        ends = [False, True]
    elif jnp.issubdtype(dtype, jnp.integer):
        ends = [jnp.iinfo(dtype).min, jnp.iinfo(dtype).max]
    else:
        ends = [-300.0, 300.0]
    clean, changed = jnp.array([ends[0], ends[1], ends[0]], dtype), jnp.array([ends[1], ends[0], ends[0]], dtype)
    distance = np.abs(np.asarray(clean, np.float64) - np.asarray(changed, np.float64))
    np.testing.assert_allclose(changes.absolute_change(clean, changed), distance.sum(), rtol=1e-6)
    np.testing.assert_allclose(changes.squared_change(clean, changed), (distance**2).sum(), rtol=1e-6)
    np.testing.assert_allclose(changes.euclidean_change(clean, changed), np.sqrt((distance**2).sum()), rtol=1e-6)
    np.testing.assert_allclose(changes.largest_change(clean, changed), distance.max(), rtol=1e-6)


def test_complex_differences_count_by_their_absolute_value():
    clean, changed = jnp.array([1 + 1j, 0j]), jnp.array([1 - 2j, 4 + 0j])
    assert changes.squared_change(clean, changed) == 25
    assert changes.absolute_change(clean, changed) == 7
    for change in (changes.prediction_change, changes.sign_change):
        with pytest.raises(ValueError, match="predictions need real outputs, got complex64"):
            change(clean, changed)
