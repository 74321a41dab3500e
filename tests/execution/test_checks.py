"""Counts, and arrays on their way to a device: a value that changes there is an error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.execution import checks


def test_counts_are_integers_of_any_library():
    for value in (3, np.int64(3), np.uint8(3), np.array(3), jnp.int32(3)):
        count = checks.require_count("draws", value)
        assert (count, type(count)) == (3, int)
    assert checks.require_count("audit", 0, 0) == 0


@pytest.mark.parametrize("value", [0, -1, 2.0, np.float32(2), True, np.bool_(True), "2", None, [2], np.array([2])])
def test_what_is_no_count_is_named(value):
    with pytest.raises(ValueError, match=r"draws must be an integer of at least 1, got"):
        checks.require_count("draws", value)
    with pytest.raises(ValueError, match=r"draws must be an integer of at least 1, got"):
        jax.jit(lambda n: checks.require_count("draws", n))(1)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([-(2**31), 2**31 - 1]), np.int32),
        (np.array([2**32 - 1], np.uint64), np.uint32),
        (np.array([1e38, np.inf, np.nan, 1e-300]), np.float32),
        (np.array([1 + 2j]), np.complex64),
        (np.array([True]), bool),
        (np.array([1], np.int8), np.int8),
        (jnp.bfloat16(1), jnp.bfloat16),
    ],
)
def test_arrays_are_narrowed_to_the_dtype_on_the_device(values, dtype):
    narrowed = checks.host_arrays(values, "items")
    assert narrowed.dtype == dtype
    np.testing.assert_array_equal(narrowed, jax.device_put(values))


def test_numbers_that_do_not_fit_are_refused():
    for values, dtype in ((2**31, "int32"), (-(2**40), "int32"), (np.uint64(2**32), "uint32"), (1e300, "float32")):
        array = np.array([0, values]).astype(np.asarray(values).dtype)
        for check in (checks.host_arrays, checks.device_arrays):
            with pytest.raises(ValueError, match=f"ids must fit {dtype}, the dtype on the device"):
                check({"a": array}, "ids")


def test_all_64_bits_stay_where_jax_has_them(float64):
    values = {"ids": np.array([2**40]), "x": np.array([1e300])}
    jax.tree.map(np.testing.assert_array_equal, checks.host_arrays(values, "items"), values)


def test_masks_strings_objects_keys_and_tracers_are_refused():
    bad = {
        "masked array": np.ma.masked_array([1.0, 1e6], [0, 1]),
        "dtype <U1": np.array(["a"]),
        "dtype object": np.array([None]),
        "random keys": jax.random.key(0),
    }
    for match, values in bad.items():
        with pytest.raises(ValueError, match=match):
            checks.host_arrays([values], "batch")
    with pytest.raises(ValueError, match="call the measure outside of them; it compiles itself"):
        jax.jit(lambda x: checks.host_arrays(x, "batch"))(np.ones(2))
    with pytest.raises(ValueError, match="params must be arrays with values"):
        jax.grad(lambda w: checks.device_arrays({"w": w}, "params")["w"])(1.0)
    key = jax.random.key(0)
    assert checks.device_arrays({"key": key, "none": None, "lr": 0.1}, "params") == {
        "key": key,
        "none": None,
        "lr": 0.1,
    }


def test_values_on_the_host_keep_their_precision():
    assert checks.host_values([0.1], "x").dtype == np.float64
    with pytest.raises(ValueError, match="x must not be a masked array"):
        checks.host_values(np.ma.masked_array([1, 2], [0, 1]), "x")


def test_finite_numbers_are_checked():
    assert checks.require_finite("x", np.float32(2)) == 2
    for value in (-1, np.nan, np.inf, "1", True, None, [1.0]):
        with pytest.raises(ValueError, match="x must be a finite number of at least 0, got"):
            checks.require_finite("x", value)
    with pytest.raises(ValueError, match="x must be a finite number above 0, got 0"):
        checks.require_finite("x", 0, above=True)
