import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.boolean import tables


@pytest.mark.parametrize("table", [[0, 1, 1, 0], np.uint8([0, 1, 1, 0]), jnp.array([False, True, True, False])])
def test_tables_become_booleans(table):
    found = tables.require_table(table)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, [False, True, True, False])


def test_under_jit_all_but_zero_count_as_one():
    np.testing.assert_array_equal(jax.jit(tables.require_table)(np.array([0, 2])), [False, True])


@pytest.mark.parametrize("n", [0, 1, 5])
def test_variables_are_counted_in_the_last_axis(n):
    assert tables.variables(np.zeros((3, 2**n), bool)) == n


def test_functions_of_tables_compile_once_and_keep_their_name():
    @tables.of_tables
    @chex.assert_max_traces(n=1)
    def times(table, factor, /):
        """Multiply."""
        return factor * table.sum()

    for factor in (2, 3):
        assert times([0, 1, 1, 0], factor) == times(np.array([1, 1, 0, 0], bool), factor) == 2 * factor
    assert (times.__name__, times.__doc__) == ("times", "Multiply.")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros(6, bool), r"2\*\*n.*\(6,\)"),
        (np.zeros((2, 0), bool), r"\(2, 0\)"),
        (np.zeros((0, 4), bool), r"\(0, 4\)"),
        (np.array(True), r"\(\)"),
        (np.zeros(4, np.float32), "float32"),
        (np.array([0, 1, 2**32, 1]), "got 4294967296"),
        (np.ma.masked_array([0, 1], [0, 1]), "table must not be a masked array"),
        (np.array([0, 1, 2, 1]), "got 2"),
        (jnp.array([0, 1, -1, 1]), "got -1"),
        (np.broadcast_to(np.zeros(1, bool), 2**31), "2147483648"),
    ],
)
def test_what_is_no_truth_table_is_refused(table, message):
    for fn in (tables.require_table, tables.of_tables(jnp.sum)):
        with pytest.raises(ValueError, match=message):
            fn(table)
