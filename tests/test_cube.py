import math
import subprocess
import sys
import warnings
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.boolean import cube, strings

NUMBERS = [cube.sensitivity, cube.profile, cube.average_sensitivity, cube.min_sensitivity, cube.max_sensitivity,
           cube.influences, cube.walsh, cube.degree_weights, cube.degree, cube.block_sensitivity,
           cube.certificate_complexity, partial(cube.noise_stability, rho=0.3)]  # fmt: skip


def name(fn):
    return getattr(fn, "__name__", "noise_stability")


def all_functions(n):
    numbers = np.arange(2**2**n)
    return (numbers[:, None] >> np.arange(2**n)[None] & 1).astype(bool)


def random_tables(n, count, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (count, 2**n)).astype(bool)


def ones(n):
    return np.bitwise_count(np.arange(2**n))


def bits(n):
    return np.arange(2**n)[:, None] >> np.arange(n)[::-1][None] & 1


def close(left, right, atol=1e-5):
    np.testing.assert_allclose(np.asarray(left), np.asarray(right), rtol=0, atol=atol)


@pytest.fixture(scope="module")
def four():
    return all_functions(4)


def test_all_functions_of_four_variables_keep_the_identities(four):
    average = cube.average_sensitivity(four)
    weights = np.asarray(cube.degree_weights(four))
    profile = np.asarray(cube.profile(four))
    sensitivity = np.asarray(cube.sensitivity(four))
    np.testing.assert_array_equal(average, cube.influences(four).sum(-1))
    close(average, weights @ np.arange(5))
    close(average, profile @ np.arange(5) / 16)
    np.testing.assert_array_equal(np.square(cube.walsh(four)).sum(-1), 1)
    close(weights.sum(-1), 1)
    np.testing.assert_array_equal(profile.sum(-1), 16)
    np.testing.assert_array_equal(profile, (sensitivity[..., None] == np.arange(5)).sum(1))
    np.testing.assert_array_equal(cube.min_sensitivity(four), sensitivity.min(-1))
    np.testing.assert_array_equal(cube.max_sensitivity(four), sensitivity.max(-1))
    np.testing.assert_array_equal(np.max(np.arange(5) * (weights > 0), -1), cube.degree(four))


def test_all_functions_of_four_variables_keep_the_inequalities(four):
    largest, blocks, certificates, degree = (
        np.asarray(f(four)).astype(int)
        for f in (cube.max_sensitivity, cube.block_sensitivity, cube.certificate_complexity, cube.degree)
    )
    assert (np.sqrt(degree) <= largest).all()  # Huang 2019
    assert (largest <= blocks).all()
    assert (blocks <= certificates).all()
    assert (certificates <= blocks * largest).all()  # Nisan 1991
    assert (largest < blocks).any()
    assert (blocks <= degree**2).all()  # Tal 2013


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_transforms_are_their_definitions(n):
    tables, index = all_functions(n), np.arange(2**n)
    signs = (-1.0) ** (bits(n) @ bits(n).T)
    np.testing.assert_array_equal(cube.walsh(tables), (1 - 2.0 * tables) @ signs / 2**n)
    flips = np.stack([tables != tables[:, index ^ 2 ** (n - 1 - i)] for i in range(n)], -1)
    np.testing.assert_array_equal(cube.sensitivity(tables), flips.sum(-1))
    np.testing.assert_array_equal(cube.influences(tables), flips.mean(1))


@pytest.mark.parametrize("n", [1, 10])
def test_parity_in_closed_form(n):
    table = ones(n) % 2 == 0
    np.testing.assert_array_equal(cube.sensitivity(table), n)
    np.testing.assert_array_equal(cube.profile(table), [0] * n + [2**n])
    np.testing.assert_array_equal(cube.walsh(table), [0] * (2**n - 1) + [-1])  # an even number of ones is 1, hence -1
    np.testing.assert_array_equal(cube.influences(table), 1)
    assert {int(f(table)) for f in (cube.degree, cube.block_sensitivity, cube.certificate_complexity)} == {n}
    for rho in (-1, -0.5, 0, 0.7, 1):
        close(cube.noise_stability(table, rho), rho**n)


def test_and_and_or_in_closed_form():
    for table in (ones(10) == 10, ones(10) > 0):
        assert float(cube.average_sensitivity(table)) == 10 * 2.0**-9
        assert int(cube.min_sensitivity(table)) == 0
        for measure in (cube.max_sensitivity, cube.block_sensitivity, cube.certificate_complexity, cube.degree):
            assert int(measure(table)) == 10


@pytest.mark.parametrize("m", [1, 5, 9])
def test_majority_of_m_in_closed_form(m):
    table = bits(10)[:, :m].sum(1) > m / 2
    assert float(cube.average_sensitivity(table)) == m * math.comb(m - 1, m // 2) / 2 ** (m - 1)
    assert (int(cube.max_sensitivity(table)), int(cube.min_sensitivity(table))) == (m // 2 + 1, int(m == 1))
    assert int(cube.certificate_complexity(table)) == int(cube.block_sensitivity(table)) == m // 2 + 1
    close(cube.influences(table), np.repeat([math.comb(m - 1, m // 2) / 2 ** (m - 1), 0], [m, 10 - m]))


def test_a_dictator_reads_its_own_position():
    for position in (0, 3, 8, 9):
        table = bits(10)[:, position] == 1
        np.testing.assert_array_equal(cube.influences(table), np.eye(10)[position])
        expected = np.zeros(1024)
        expected[2 ** (9 - position)] = 1
        np.testing.assert_array_equal(cube.walsh(table), expected)
        close(cube.noise_stability(table, 0.25), 0.25)


def test_blocks_beyond_single_bits():
    """Rows of two pairs; accepted if some row has one full pair and nothing else (after Rubinstein 1995)."""
    rows = bits(12).reshape(-1, 3, 2, 2)
    table = ((rows.sum((2, 3)) == 2) & (rows.sum(3) == 2).any(2)).any(1)
    assert cube.max_sensitivity(table) == 4
    assert cube.block_sensitivity(table) == 6  # at the string of zeros, each of the six pairs
    assert cube.certificate_complexity(table) == 6


def test_searches_against_brute_force():
    table = random_tables(5, 1, seed=3)[0]
    index = np.arange(32)

    def most_blocks(x, free):
        blocks = [block for block in range(1, 32) if block & free == block and table[x ^ block] != table[x]]
        return max((1 + most_blocks(x, free & ~block) for block in blocks), default=0)

    def certificate(x):
        return min(int(s).bit_count() for s in range(32) if len({bool(v) for v in table[(index & s) == (x & s)]}) == 1)

    assert cube.block_sensitivity(table) == max(most_blocks(x, 31) for x in range(32))
    assert cube.certificate_complexity(table) == max(certificate(x) for x in range(32))


@pytest.mark.parametrize("fn", NUMBERS, ids=name)
def test_batching_jit_vmap_and_types_change_nothing(fn):
    tables = all_functions(3)
    batched = np.asarray(fn(tables))
    assert len(batched) == 256
    nested = jax.jit(jax.vmap(fn))(tables.astype(np.uint8).reshape(16, 16, 8))
    for other in (nested.reshape(batched.shape), fn(jnp.asarray(tables)), fn(tables.astype(int).tolist())):
        np.testing.assert_allclose(np.asarray(other), batched, rtol=0, atol=1e-6)
    for i in (0, 23, 105, 254):
        np.testing.assert_allclose(np.asarray(fn(tables[i])), batched[i], rtol=0, atol=1e-6)


def test_counts_are_integers_and_numbers_float32():
    table = random_tables(10, 1)[0]
    dtypes = {name(fn): str(fn(table).dtype) for fn in NUMBERS}
    assert {k for k, v in dtypes.items() if v == "int8"} == {"sensitivity", "min_sensitivity", "max_sensitivity"}
    assert {k for k, v in dtypes.items() if v == "int32"} == {
        "profile", "degree", "block_sensitivity", "certificate_complexity"}  # fmt: skip
    assert {"float32"} == set(dtypes.values()) - {"int8", "int32"}


def test_random_functions_of_many_variables():
    n = 10
    table = random_tables(n, 1)[0]
    assert cube.profile(table).sum() == 2**n
    close(cube.average_sensitivity(table), n / 2, atol=0.5)
    close(cube.average_sensitivity(table), cube.influences(table).sum())
    assert np.square(np.asarray(cube.walsh(table), np.float64)).sum() == 1
    close(cube.degree_weights(table).sum(), 1)
    close(cube.degree_weights(table) @ jnp.arange(n + 1), n / 2, atol=0.5)


def test_noise_stability_is_a_correlation():
    table = random_tables(3, 1, seed=5)[0]
    value, kept = 1 - 2.0 * table, (1 + 0.4) / 2
    apart = np.bitwise_count(np.arange(8)[:, None] ^ np.arange(8)[None])
    together = kept ** (3 - apart) * (1 - kept) ** apart / 8
    close(cube.noise_stability(table, 0.4), value @ together @ value, atol=1e-6)
    slope = jax.grad(lambda rho: cube.noise_stability(table, rho))(1.0)
    close(slope, cube.average_sensitivity(table))  # d Stab / d rho at 1 is the total influence


@pytest.mark.parametrize("chunk", [1, 5, 8, 64])
def test_truth_tables_are_big_endian_in_any_chunk(chunk):
    seen = []

    def accept(x):
        seen.append(x.shape)
        assert x.dtype == jnp.int32
        return (x[:, 0] == 1) & (x[:, 3] == 0)

    table = cube.truth_table(accept, 4, chunk=chunk)
    np.testing.assert_array_equal(table, [i >= 8 and i % 2 == 0 for i in range(16)])
    assert set(seen) == {(min(chunk, 16), 4)}


def test_truth_table_of_a_jitted_model_compiles_once_for_all_params():
    traced = []

    @jax.jit
    def model(params, x):
        traced.append(1)
        return x @ params > 0.5

    for seed in range(3):
        params = np.random.default_rng(seed).normal(size=6).astype(np.float32)
        table = cube.truth_table(partial(model, params), 6, chunk=8)
        np.testing.assert_array_equal(table, bits(6).astype(np.float32) @ params > 0.5)
    assert len(traced) == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros(6, bool), r"2\*\*n.*\(6,\)"),
        (np.zeros((2, 0), bool), r"\(2, 0\)"),
        (np.zeros((0, 4), bool), r"\(0, 4\)"),
        (np.array(True), r"\(\)"),
        (np.zeros(4, np.float32), "float32"),
        (np.array([0, 1, 2, 1]), "got 2"),
        (jnp.array([0, 1, -1, 1]), "got -1"),
        (np.broadcast_to(np.zeros(1, bool), 2**31), "2147483648"),
    ],
)
@pytest.mark.parametrize("fn", NUMBERS, ids=name)
def test_what_is_no_truth_table_is_refused(fn, table, message):
    with pytest.raises(ValueError, match=message):
        fn(table)


@pytest.mark.parametrize("n", [31, 0, -1, 2.5])
def test_lengths_out_of_reach_are_refused(n):
    with pytest.raises(ValueError, match=f"from 1 to 30.*got {n}"):
        cube.truth_table(lambda x: x[:, 0] == 1, n)


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"chunk.*got 0"):
        cube.truth_table(lambda x: x[:, 0] == 1, 3, chunk=0)
    with pytest.raises(ValueError, match=r"int32 of shape \(8,\)"):
        cube.truth_table(lambda x: x[:, 0], 3)
    with pytest.raises(ValueError, match=r"bool of shape \(8, 3\)"):
        cube.truth_table(lambda x: x == 1, 3)
    for rho in (1.1, -2, math.nan, np.zeros(2)):
        with pytest.raises(ValueError, match="rho must be"):
            cube.noise_stability([0, 1], rho)
    for fn in (cube.block_sensitivity, cube.certificate_complexity):
        with pytest.raises(ValueError, match=f"{fn.__name__} searches at most 12 variables, got n = 13"):
            fn(np.zeros(2**13, bool))


@pytest.fixture(scope="module")
def boofun():
    with warnings.catch_warnings():  # it warns that Numba is not there
        warnings.simplefilter("ignore")
        return pytest.importorskip("boofun")


def reference(boofun, table, searches):
    """Return boofun's numbers; it counts variables from the least significant bit of the index."""
    from boofun.analysis import block_sensitivity, certificates, sensitivity

    f = boofun.create(table.tolist())
    found = {
        "sensitivity": sensitivity.sensitivity_profile(f),  # of every string
        "average_sensitivity": sensitivity.average_sensitivity(f),
        "min_sensitivity": sensitivity.min_sensitivity(f),
        "max_sensitivity": sensitivity.max_sensitivity(f),
        "influences": f.influences()[::-1],
        "walsh": f.fourier(),
        "degree": f.degree(),
        "degree_weights": [f.spectral_weight_by_degree().get(k, 0) for k in range(f.n_vars + 1)],
        "noise_stability": f.noise_stability(0.3),
    }
    if searches:
        found["block_sensitivity"] = block_sensitivity.max_block_sensitivity(f)
        found["certificate_complexity"] = certificates.max_certificate_size(f)
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("n", "count"), [(2, 16), (3, 256), (4, 24), (10, 2)])
def test_boofun_agrees(boofun, four, n, count):
    chosen = np.random.default_rng(n).permutation(2**2**n)[:count] if n < 10 else np.arange(count)
    if n < 10:
        tables = four if n == 4 else all_functions(n)
        ours = {name(fn): np.asarray(fn(tables)) for fn in NUMBERS}
    else:
        tables = random_tables(n, count)
        ours = {name(fn): np.stack([np.asarray(fn(table)) for table in tables]) for fn in NUMBERS}
    for i in chosen:
        for what, expected in reference(boofun, tables[i], searches=n <= 4).items():
            np.testing.assert_allclose(ours[what][i], expected, rtol=0, atol=1e-6, err_msg=f"{what} of {tables[i]}")


@pytest.mark.slow
@pytest.mark.parametrize("fn", ["profile", "walsh", "degree_weights", "influences", "degree"])
def test_26_variables_fit_in_two_gibibytes(fn):
    """Everything counts: Python, JAX, the table and the result."""
    code = f"""
import resource, jax, numpy as np
from jaxsens.boolean import cube
table = jax.device_put(np.random.default_rng(0).integers(0, 2, 2**26, dtype=np.uint8).view(bool))
print(float(cube.{fn}(table).astype("float32").sum()))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 2**21  # kibibytes


def test_strings_and_tables_share_their_order():
    np.testing.assert_array_equal(strings.exhaustive(5), bits(5))
    assert all(a < b for a, b in pairwise(map(tuple, np.asarray(strings.exhaustive(4)).tolist())))
