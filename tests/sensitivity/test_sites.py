import jax
import numpy as np

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
