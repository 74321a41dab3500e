import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import checks


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_integers_of_any_kind_are_counts(value):
    found = checks.require_count("draws", value)
    assert type(found) is int
    assert found == 3


@pytest.mark.parametrize("value", [0, -1, True, np.True_, 2.0, 2.5, np.nan, "3", None, [3]])
def test_what_is_no_count_is_named(value):
    with pytest.raises(ValueError, match="draws must be an integer of at least 1, got"):
        checks.require_count("draws", value)


def test_arrays_take_the_type_of_the_device_without_losing_values(float64):
    assert checks.device_array("x", np.array([2**40])).dtype == np.int64
    with jax.enable_x64(False):
        assert checks.device_array("x", np.arange(3)).dtype == np.int32
        assert checks.device_array("x", np.arange(3.0)).dtype == np.float32
        assert checks.device_array("x", np.uint64([2**32 - 1])).dtype == np.uint32
        assert checks.device_array("x", jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16
        with pytest.raises(
            ValueError, match=r"x must hold integers from .* to 2147483647.* got 1099511627776 at \[0, 1\]"
        ):
            checks.device_array("x", np.array([[1, 2**40]]))


@pytest.mark.parametrize("convert", [checks.host_array, checks.device_array])
def test_tracers_and_masked_arrays_are_refused(convert):
    with pytest.raises(ValueError, match="x must be an array with values, got a tracer"):
        jax.jit(lambda x: convert("x", x))(1)
    with pytest.raises(ValueError, match="x has masked entries"):
        convert("x", np.ma.masked_array([1, 2], [0, 1]))


def test_float64_stays_on_the_host():
    assert checks.host_array("x", [0.1]).dtype == np.float64
