import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.boolean import languages, strings, truth_tables

KEY = jax.random.key(0)


def family(n):
    """Return every kind of language with a closed form, of n positions."""
    odd, even = range(0, n, 2), range(n - n // 2 * 2, n)
    return [
        languages.parity(n),
        languages.majority(n),
        languages.first(n),
        languages.dictator(n, n - 1),
        languages.sparse_parity(n, odd),
        languages.sparse_majority(n, odd),
        languages.sparse_parity(n, even),
        languages.sparse_majority(n, even),
    ]


@pytest.mark.parametrize("n", [2, 7, 16])
def test_profiles_are_those_of_the_cube(n):
    found = family(n)
    accept = jax.jit(lambda x: [language.accept(x) for language in found])
    profiles = np.asarray(truth_tables.profile(np.stack(accept(strings.exhaustive(n)))))
    for language, profile in zip(found, profiles, strict=True):
        assert language.profile() == tuple(profile.tolist()), language
        ranks = np.flatnonzero(profile)
        assert (language.min_sensitivity, language.max_sensitivity) == (ranks.min(), ranks.max())
        assert float(language.average_sensitivity) == profile @ np.arange(n + 1) / 2**n


def test_acceptance_is_its_definition():
    x = np.asarray(strings.exhaustive(6))
    expected = [
        (languages.parity(6), x.sum(1) % 2 == 0),
        (languages.majority(6), x.sum(1) > 3),
        (languages.first(6), x[:, 0] == 1),
        (languages.dictator(6, 4), x[:, 4] == 1),
        (languages.sparse_parity(6, [5, 1]), x[:, 1] == x[:, 5]),
        (languages.sparse_majority(6, [0, 2, 3]), x[:, [0, 2, 3]].sum(1) > 1),
        (languages.sparse_majority(6, [0, 2]), x[:, 0] & x[:, 2] == 1),
    ]
    for language, accepted in expected:
        np.testing.assert_array_equal(language.accept(x), accepted, err_msg=str(language))
    nested = jax.jit(jax.vmap(language.accept))(x.astype(bool).reshape(4, 16, 6))
    np.testing.assert_array_equal(nested, accepted.reshape(4, 16))


def test_a_hundred_positions_are_exact():
    for language in family(100):
        profile = language.profile()
        assert len(profile) == 101
        assert sum(profile) == 2**100
        assert all(type(count) is int for count in profile)
    assert languages.parity(100).average_sensitivity == 100
    assert languages.sparse_parity(100, [3, 50, 98]).average_sensitivity == 3
    assert languages.dictator(100, 99).average_sensitivity == 1
    majority = languages.majority(99)
    assert majority.average_sensitivity == Fraction(99 * math.comb(98, 49), 2**98)
    assert (majority.min_sensitivity, majority.max_sensitivity) == (0, 50)
    ties = languages.majority(100).profile()
    assert (ties[50], ties[51]) == (math.comb(100, 50), math.comb(100, 51))


def test_equal_languages_share_compiled_code():
    one, same = languages.sparse_parity(10, [4, 1]), languages.sparse_parity(10, np.array([1, 4]))
    assert one == same
    assert hash(one) == hash(same)
    assert repr(one) == "Language('sparse_parity', n=10, indices=(1, 4))"
    assert repr(languages.parity(3)) == "Language('parity', n=3)"
    assert len({*family(7), *family(7), *family(8)}) == 16
    assert languages.random_language(KEY, 9) == languages.random_language(jax.random.key(0), 9)
    x = strings.uniform(KEY, 5, 10)
    one.accept(x)
    compiled = languages._accept._cache_size()
    same.accept(x)
    assert languages._accept._cache_size() == compiled
    languages.sparse_parity(10, [4, 2]).accept(x)
    assert languages._accept._cache_size() == compiled + 1


def test_random_labels_depend_only_on_the_string():
    n = 40
    language = languages.random_language(KEY, n)
    x = strings.uniform(jax.random.key(1), 64, n)
    labels = np.asarray(language.accept(x))
    np.testing.assert_array_equal(language.accept(x[::-1])[::-1], labels)
    np.testing.assert_array_equal(language.accept(x[3]), labels[3])
    np.testing.assert_array_equal(jax.jit(jax.vmap(language.accept))(x.reshape(8, 8, n)).ravel(), labels)
    for other in (languages.random_language(jax.random.key(1), n), languages.random_language(KEY, n + 1)):
        padded = np.pad(x, ((0, 0), (0, other.n - n)))  # the same words
        assert 0.2 < (np.asarray(other.accept(padded)) == labels).mean() < 0.8


def test_random_labels_of_neighbors_are_fair_and_independent():
    n = 100
    language = languages.random_language(KEY, n)
    x = strings.uniform(jax.random.key(2), 400, n)
    flips = np.concatenate([np.zeros((1, n), np.int32), np.eye(n, dtype=np.int32)])
    labels = np.asarray(language.accept(x[:, None] ^ flips[None])).astype(float)
    assert abs(labels.mean() - 0.5) < 5 * 0.5 / labels.size**0.5
    differs = labels[:, 1:] != labels[:, :1]
    assert abs(differs.mean() - 0.5) < 5 * 0.5 / 400**0.5
    assert (np.abs(differs.mean(0) - 0.5) < 5 * 0.5 / 400**0.5).all()  # every position, in every word
    correlation = np.corrcoef(labels.T) - np.eye(n + 1)
    assert np.abs(correlation).max() < 6 / 400**0.5


def test_a_random_table_looks_random():
    n = 12
    table = truth_tables.truth_table(languages.random_language(jax.random.key(3), n).accept, n)
    assert abs(table.mean() - 0.5) < 5 * 0.5 / 2 ** (n / 2)
    profile = np.asarray(truth_tables.profile(table)) / 2**n
    assert abs(profile @ np.arange(n + 1) - n / 2) < 5 * n**0.5 / 2 ** (n / 2)
    binomial = np.array([math.comb(n, k) for k in range(n + 1)]) / 2**n
    np.testing.assert_allclose(profile, binomial, rtol=0, atol=0.03)
    assert np.abs(truth_tables.walsh(table)).max() < 6 / 2 ** (n / 2)


def test_the_random_language_points_to_truth_tables():
    language = languages.random_language(KEY, 5)
    assert repr(language) == "Language('random', n=5, key=(0, 0))"
    for read in (
        language.profile,
        lambda: language.average_sensitivity,
        lambda: language.min_sensitivity,
        lambda: language.max_sensitivity,
    ):
        with pytest.raises(ValueError, match=r"n=5.*boolean\.truth_tables"):
            read()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: languages.parity(0), "n, .*got 0"),
        (lambda: languages.majority(2.5), "n, .*got 2.5"),
        (lambda: languages.first(-1), "n, .*got -1"),
        (lambda: languages.dictator(4, 4), r"0 to 3, got \(4,\)"),
        (lambda: languages.dictator(4, -1), r"0 to 3, got \(-1,\)"),
        (lambda: languages.sparse_parity(4, [1, 1]), r"distinct.*got \(1, 1\)"),
        (lambda: languages.sparse_parity(4, []), r"one or more.*got \(\)"),
        (lambda: languages.sparse_majority(4, [0, 9]), r"got \(0, 9\)"),
        (lambda: languages.sparse_majority(4, [0.5]), r"integers, got \(0.5,\)"),
        (lambda: languages.sparse_parity(2, [True, False]), "a list of integers, got booleans"),
        (lambda: languages.parity(True), "n, .*got True"),
        (lambda: languages.sparse_majority(4, 1), "a list of integers, got 1"),
        (lambda: languages.Language("xor", 3), "one of parity.*'xor'"),
        (lambda: languages.Language("parity", 3, (1,)), "indices must be given"),
        (lambda: languages.Language("dictator", 3), "indices must be given"),
        (lambda: languages.Language("random", 3), "key must be given"),
        (lambda: languages.random_language(0, 3), "typed key"),
        (lambda: languages.random_language(jax.random.split(KEY), 3), "key must be one key"),
        (lambda: languages.random_language(jax.random.key(0, impl="rbg"), 3), "threefry2x32, got rbg"),
    ],
)
def test_bad_languages_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("language", [*family(5), languages.random_language(KEY, 5)], ids=str)
def test_bad_strings_are_refused(language):
    for wrong in (np.zeros((2, 4), np.int32), jnp.zeros((2, 6), jnp.int32), np.int32(1)):
        with pytest.raises(ValueError, match=rf"n = 5 positions, got shape \({', '.join(map(str, wrong.shape))}\)"):
            language.accept(wrong)
    with pytest.raises(ValueError, match="n = 5 positions"):
        jax.jit(language.accept)(np.zeros((2, 4), np.int32))
    with pytest.raises(ValueError, match="got float32"):
        language.accept(np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="got -1"):
        language.accept(np.full((2, 5), -1))
    with pytest.raises(ValueError, match="strings must fit int32"):
        language.accept(np.full((2, 5), 2**32 + 1))
