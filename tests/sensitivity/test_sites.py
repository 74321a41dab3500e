import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsens
from jaxsens import changes, substitution
from jaxsens.sensitivity import Groups
from jaxsens.sensitivity import sites as token_sites

KEYS = jax.random.split(jax.random.key(0), 6000)


def drawn(sites, count, keys=KEYS):
    return np.asarray(jax.jit(jax.vmap(lambda key: token_sites.drawn(key, np.array(sites), count)))(keys))


def test_pairs_are_equally_likely_and_only_of_sites():
    found = np.sort(drawn([True, False, True, True, False], 2), 1)
    pairs, counts = np.unique(found, axis=0, return_counts=True)
    np.testing.assert_array_equal(pairs, [[0, 2], [0, 3], [2, 3]])
    np.testing.assert_allclose(counts, 2000, atol=4 * np.sqrt(6000 * 2 / 9))


def test_few_are_the_first_of_many_and_padding_changes_nothing():
    few, many, padded = (
        drawn([True] * 7 + [False] * more, count, KEYS[:50]) for more, count in ((0, 3), (0, 7), (4, 7))
    )
    np.testing.assert_array_equal(many[:, :3], few)
    np.testing.assert_array_equal(padded, many)
    np.testing.assert_array_equal(np.sort(many, 1), np.broadcast_to(np.arange(7), (50, 7)))


def test_an_example_with_few_sites_has_them_first():
    found = drawn([False, True, False, True], 3, KEYS[:20])
    np.testing.assert_array_equal(np.sort(found[:, :2], 1), np.broadcast_to([1, 3], (20, 2)))


TOKENS = np.zeros((2, 5), np.int32)
MASK = np.array([[True] * 5, [True, True, True, False, False]])


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ([1, 4], [[1, 4], [1]]),
        (np.array([2]), [[2], [2]]),
        ([[0], [2, 1]], [[0], [1, 2]]),
        (((0, 3), (1,)), [[0, 3], [1]]),
        (np.array([[0, 3], [1, -1]]), [[0, 3], [1]]),
        ([True, False, True, False, True], [[0, 2, 4], [0, 2]]),
        ([[False, True, False, False, True]] * 2, [[1, 4], [1]]),
    ],
)
def test_sites_are_booleans_or_positions(sites, expected):
    found = token_sites.checked(TOKENS, MASK, sites)[2]
    assert [np.flatnonzero(row).tolist() for row in found] == expected


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ([0, 1, 1, 0, 1], "these numbers are all 0 or 1, one for each token"),
        ([[0, 1, 1, 0, 1]] * 2, "these numbers are all 0 or 1, one for each token"),
        ([0, 2, 2], "different positions, got 2 twice for example 0"),
        ([[0], [2, 2]], "different positions, got 2 twice for example 1"),
        ([5], "positions from 0 to 4, got 5 to 5"),
        ([-2], "positions from 0 to 4, got -2 to -2"),
        ([[0]], "positions for each of 2 examples, got 1 lists"),
        ([[], [0]], "example 0 has no real token"),
        ([[0], [4]], "example 1 has no real token"),
        ([0.0], "sites must be booleans"),
    ],
)
def test_other_sites_are_refused(sites, message):
    with pytest.raises(ValueError, match=message):
        token_sites.checked(TOKENS, MASK, sites)


def product_of_all(params, bits, mask=None):
    """1 where all bits are 1."""
    real = jnp.ones_like(bits, bool) if mask is None else mask
    return jnp.where(real, bits, 1).prod(1).astype(jnp.float32)


@pytest.mark.parametrize("rows", [None, 2])
def test_the_tokens_of_a_group_change_together(rows):
    """The product of zeros changes only if all of them are flipped at once."""
    bits = np.array([[0, 0, 1, 1, 1], [1, 0, 1, 0, 0]], np.int32)
    measure = jaxsens.token_sensitivity(
        substitution.one_at_a_time(product_of_all, rows), lambda key, draw, x: 1 - x, change=changes.absolute_change
    )
    labels = np.array([[0, 0, 1, 2, -1], [-1, 0, 1, 1, 1]])
    found = measure(jax.random.key(0), None, bits, MASK, Groups(labels))
    # The second example has three real tokens: a group of one zero, and one of a one.
    np.testing.assert_array_equal(found.values, [[1, 0, 0], [1, 0, np.nan]])
    np.testing.assert_array_equal(found.sites, [[True] * 3, [True, True, False]])
    assert found.mean == (1 / 3 + 1 / 2) / 2
    single = measure(jax.random.key(0), None, bits, MASK)
    alone = measure(jax.random.key(0), None, bits, MASK, Groups(np.arange(5)))
    np.testing.assert_array_equal(alone.values, single.values)
    assert not single.values[0].any()


def test_groups_that_do_not_fit_are_refused():
    measure = jaxsens.token_sensitivity(substitution.one_at_a_time(product_of_all), lambda key, draw, x: 1 - x)
    for groups, message in (
        (lambda: Groups([0.5, 1]), "labels must be integers of at least -1"),
        (lambda: Groups([-2, 1]), "labels must be integers of at least -1"),
        (lambda: Groups([0, 1]), r"labels must have the shape \[b t\] = \(2, 5\) or \[t\] = \(5,\), got \(2,\)"),
        (lambda: Groups([0, 1, 2, 3, 5]), "at most 5 groups from 0, got 5"),
        (lambda: Groups([-1, -1, -1, 0, 0]), "example 1 has no group with a real token"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(jax.random.key(0), None, np.ones((2, 5), np.int32), MASK, groups())
    own = jaxsens.token_sensitivity(lambda params, x, y, mask: (x.sum(), x + y), lambda key, draw, x: 1 - x)
    with pytest.raises(ValueError, match=r"pass the plain way, substitution\.one_at_a_time"):
        own(jax.random.key(0), None, TOKENS, MASK, Groups(np.arange(5)))
    few = jaxsens.token_sensitivity(
        substitution.one_at_a_time(product_of_all), lambda key, draw, x: 1 - x, sites_drawn=3
    )
    with pytest.raises(ValueError, match="sites_drawn must be at most the number of groups, 2, got 3"):
        few(jax.random.key(0), None, TOKENS, MASK, Groups([0, 0, 1, 1, 1]))
    with pytest.raises(ValueError, match="sites are groups, which measures of token sensitivity perturb"):
        token_sites.checked(TOKENS, MASK, Groups(np.arange(5)))
