import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.boolean import languages, strings, truth_tables

KEY = jax.random.key(0)
MAJORITY = languages.majority(4)


def draw(kind, count, key=KEY, n=9):
    accept = languages.majority(n).accept
    return {
        "uniform": lambda: strings.uniform(key, count, n),
        "balanced": lambda: strings.balanced(key, count, accept, n),
        "near_boundary": lambda: strings.near_boundary(key, count, accept, n),
    }[kind]()


def indices(x):
    return np.asarray(x) @ 2 ** np.arange(x.shape[1])[::-1]


def assert_uniform(found, among):
    """Every index of ``among`` is as frequent as every other, to five deviations, and no other index occurs."""
    counts = np.bincount(found, minlength=max(among) + 1)
    expected = len(found) / len(among)
    assert np.abs(counts[among] - expected).max() < 5 * expected**0.5
    assert counts.sum() == counts[among].sum()


@pytest.mark.parametrize("kind", ["uniform", "balanced", "near_boundary"])
def test_draws_are_reproducible_and_the_first_of_twice_as_many(kind):
    one = draw(kind, 300)
    assert (one.shape, one.dtype) == ((300, 9), jnp.int32)
    np.testing.assert_array_equal(draw(kind, 300), one)
    np.testing.assert_array_equal(draw(kind, 600)[:300], one)
    np.testing.assert_array_equal(draw(kind, 7), one[:7])
    assert (np.asarray(draw(kind, 300, jax.random.key(1))) != np.asarray(one)).mean() > 0.3


@pytest.mark.parametrize("n", [3, 31, 32, 33, 100])
def test_uniform_bits_are_fair_and_independent(n):
    x = np.asarray(strings.uniform(KEY, 4000, n))
    assert set(np.unique(x)) == {0, 1}
    np.testing.assert_allclose(x.mean(0), 0.5, atol=5 * 0.5 / 4000**0.5)
    np.testing.assert_allclose(np.corrcoef(x.T), np.eye(n), atol=6 / 4000**0.5)
    assert abs(np.corrcoef(x[:-1].ravel(), x[1:].ravel())[0, 1]) < 6 / (4000 * n) ** 0.5


def test_uniform_strings_are_uniform():
    assert_uniform(indices(strings.uniform(KEY, 8000, 4)), np.arange(16))


@pytest.mark.parametrize("n", [1, 5, 12])
def test_exhaustive_lists_all_strings_in_order(n):
    x = strings.exhaustive(n)
    assert (x.shape, x.dtype) == ((2**n, n), jnp.int32)
    np.testing.assert_array_equal(indices(x), np.arange(2**n))
    assert x[1, n - 1] == 1  # the last position is the least significant bit


def test_strings_come_from_their_indices():
    np.testing.assert_array_equal(strings.from_indices(np.array([[5, 0]]), 3), [[[1, 0, 1], [0, 0, 0]]])
    top = strings.from_indices(np.array([2**30 - 1, 2**29], np.int32), 30)
    np.testing.assert_array_equal(top.sum(1), [30, 1])


def test_balanced_takes_labels_by_turns_and_is_uniform_within_each():
    x = strings.balanced(KEY, 8001, MAJORITY.accept, 4)
    labels = np.asarray(MAJORITY.accept(x))
    np.testing.assert_array_equal(labels, np.arange(8001) % 2 == 0)
    table = truth_tables.truth_table(MAJORITY.accept, 4)
    for label in (True, False):
        assert_uniform(indices(x[labels == label]), np.flatnonzero(table == label))


def test_near_boundary_is_uniform_on_the_boundary():
    x = strings.near_boundary(KEY, 8000, MAJORITY.accept, 4)
    sensitivity = np.asarray(truth_tables.sensitivity(truth_tables.truth_table(MAJORITY.accept, 4)))
    assert (sensitivity == 0).any()
    assert_uniform(indices(x), np.flatnonzero(sensitivity))


def test_near_boundary_of_a_hundred_positions():
    ones = np.asarray(strings.near_boundary(KEY, 200, languages.majority(100).accept, 100)).sum(1)
    assert set(ones) == {50, 51}


def test_more_strings_than_a_batch():
    x = strings.balanced(KEY, 5000, languages.parity(20).accept, 20)
    assert len(np.unique(np.asarray(x), axis=0)) > 4950
    assert languages.parity(20).accept(x).sum() == 2500


def test_labels_on_the_host_do_as_well():
    def accept(x):
        return np.asarray(x)[:, 0] == 1

    assert strings.balanced(KEY, 10, accept, 3)[:, 0].sum() == 5


def test_a_label_too_rare_is_said_to_be():
    def all_ones(x):
        return x.all(1)

    with pytest.raises(ValueError, match=r"found 0 strings of 60 bits for which accept.*True, of 5 .*among 50000"):
        strings.balanced(KEY, 10, all_ones, 60, tries=50_000)
    with pytest.raises(ValueError, match=r"is False, of 5 needed, among 1000 uniform"):
        strings.balanced(KEY, 10, lambda x: x[:, 0] >= 0, 60, tries=1000)
    with pytest.raises(ValueError, match=r"found 0 strings of 60 bits for which some flip.*of 10 needed, among 3000 "):
        strings.near_boundary(KEY, 10, all_ones, 60, tries=3000)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: strings.uniform(KEY, 0, 3), "count.*got 0"),
        (lambda: strings.uniform(jax.random.key(0, impl="rbg"), 3, 4), "got rbg"),
        (lambda: strings.balanced(0, 2, MAJORITY.accept, 4), "key must be a typed key, got 0"),
        (lambda: strings.uniform(KEY, 3, 0), "n, .*got 0"),
        (lambda: strings.uniform(KEY, 3, 1.5), "n, .*got 1.5"),
        (lambda: strings.uniform(KEY, 3, True), "n, .*got True"),
        (lambda: strings.uniform(KEY, True, 3), "count.*got True"),
        (lambda: strings.exhaustive(25), "from 1 to 24.*got 25"),
        (lambda: strings.balanced(KEY, 0, MAJORITY.accept, 4), "count.*got 0"),
        (lambda: strings.balanced(KEY, 2, MAJORITY.accept, 0), "n, .*got 0"),
        (lambda: strings.balanced(KEY, 2, MAJORITY.accept, 4, tries=0), "tries.*got 0"),
        (lambda: strings.balanced(KEY, 2, MAJORITY.accept, 5), "n = 4 positions"),
        (lambda: strings.balanced(KEY, 2, lambda x: x[:, 0], 4), "booleans.*got int32"),
        (lambda: strings.near_boundary(KEY, 0, MAJORITY.accept, 4), "count.*got 0"),
        (lambda: strings.near_boundary(KEY, 2, MAJORITY.accept, -3), "n, .*got -3"),
        (lambda: strings.near_boundary(KEY, 2, lambda x: x == 1, 4), "booleans of shape"),
    ],
)
def test_bad_input_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("kind", [np.int8, np.uint32, bool, np.float32, jnp.int32, list])
def test_bits_of_any_type_become_int32(kind):
    bits = [[0, 1, 1], [1, 0, 0]]
    found = strings.require_bits(bits if kind is list else jnp.asarray(bits, kind))
    assert (type(found), found.dtype) == (np.ndarray, np.int32)
    np.testing.assert_array_equal(found, bits)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[0, 1, 1], [1, 1, 2]], "strings must hold only 0 and 1, got 2 for bit 2 of string 1"),
        ([[0, -1, 2]], "got -1 for bit 1 of string 0"),
        ([[0, 1, 0.5]], "got 0.5 for bit 2 of string 0"),
        ([[0, np.nan]], "got nan for bit 1 of string 0"),
        ([["0", "1"]], "strings must be arrays of numbers or booleans, got the dtype <U1"),
        (np.ma.masked_array([[0, 1]], [[True, False]]), "strings must not be a masked array"),
        ([0, 1], r"strings must be \[b n\] .*got shape \(2,\)"),
        (np.zeros((2, 3, 1), int), r"got shape \(2, 3, 1\)"),
        (np.zeros((0, 3), int), r"at least one string and one bit, got shape \(0, 3\)"),
        (np.zeros((3, 0), int), r"at least one string and one bit, got shape \(3, 0\)"),
    ],
)
def test_what_is_no_bit_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        strings.require_bits(wrong)
