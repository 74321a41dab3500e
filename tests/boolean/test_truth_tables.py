import math
import subprocess
import sys
import warnings
from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.boolean import strings, truth_tables

NUMBERS = [
    truth_tables.sensitivity,
    truth_tables.profile,
    truth_tables.average_sensitivity,
    truth_tables.min_sensitivity,
    truth_tables.max_sensitivity,
    truth_tables.influences,
    truth_tables.walsh,
    truth_tables.degree_weights,
    truth_tables.degree,
    truth_tables.block_sensitivity,
    truth_tables.certificate_complexity,
    partial(truth_tables.noise_stability, rho=0.3),
]


def name(fn):
    return getattr(fn, "__name__", "noise_stability")


@jax.jit
def everything(table):
    """All numbers in one program, which compiles faster than one for each."""
    return {name(fn): fn(table) for fn in NUMBERS}


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


@cache
def everything_of_all(n):
    return {what: np.asarray(found) for what, found in everything(all_functions(n)).items()}


def test_all_functions_of_four_variables_keep_the_identities():
    found = everything_of_all(4)
    average, weights, profile = found["average_sensitivity"], found["degree_weights"], found["profile"]
    sensitivity = found["sensitivity"]
    np.testing.assert_array_equal(average, found["influences"].sum(-1))
    close(average, weights @ np.arange(5))
    close(average, profile @ np.arange(5) / 16)
    np.testing.assert_array_equal(np.square(found["walsh"]).sum(-1), 1)
    close(weights.sum(-1), 1)
    np.testing.assert_array_equal(profile.sum(-1), 16)
    np.testing.assert_array_equal(profile, (sensitivity[..., None] == np.arange(5)).sum(1))
    np.testing.assert_array_equal(found["min_sensitivity"], sensitivity.min(-1))
    np.testing.assert_array_equal(found["max_sensitivity"], sensitivity.max(-1))
    np.testing.assert_array_equal(np.max(np.arange(5) * (weights > 0), -1), found["degree"])


def test_all_functions_of_four_variables_keep_the_inequalities():
    largest, blocks, certificates, degree = (
        everything_of_all(4)[what].astype(int)
        for what in ("max_sensitivity", "block_sensitivity", "certificate_complexity", "degree")
    )
    assert (np.sqrt(degree) <= largest).all()  # Huang 2019
    assert (largest <= blocks).all()
    assert (blocks <= certificates).all()
    assert (certificates <= blocks * largest).all()  # Nisan 1991
    assert (largest < blocks).any()
    assert (blocks <= degree**2).all()  # Tal 2013


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_transforms_are_their_definitions(n):
    tables, index, found = all_functions(n), np.arange(2**n), everything_of_all(n)
    signs = (-1.0) ** (bits(n) @ bits(n).T)
    np.testing.assert_array_equal(found["walsh"], (1 - 2.0 * tables) @ signs / 2**n)
    flips = np.stack([tables != tables[:, index ^ 2 ** (n - 1 - i)] for i in range(n)], -1)
    np.testing.assert_array_equal(found["sensitivity"], flips.sum(-1))
    np.testing.assert_array_equal(found["influences"], flips.mean(1))


@pytest.mark.parametrize("n", [1, 10])
def test_parity_in_closed_form(n):
    table = ones(n) % 2 == 0
    found = everything(table)
    np.testing.assert_array_equal(found["sensitivity"], n)
    np.testing.assert_array_equal(found["profile"], [0] * n + [2**n])
    np.testing.assert_array_equal(found["walsh"], [0] * (2**n - 1) + [-1])  # an even number of ones is 1, hence -1
    np.testing.assert_array_equal(found["influences"], 1)
    assert {int(found[what]) for what in ("degree", "block_sensitivity", "certificate_complexity")} == {n}
    for rho in (-1, -0.5, 0, 0.7, 1):
        close(truth_tables.noise_stability(table, rho), rho**n)


def test_and_and_or_in_closed_form():
    for table in (ones(10) == 10, ones(10) > 0):
        found = everything(table)
        assert float(found["average_sensitivity"]) == 10 * 2.0**-9
        assert int(found["min_sensitivity"]) == 0
        for what in ("max_sensitivity", "block_sensitivity", "certificate_complexity", "degree"):
            assert int(found[what]) == 10


@pytest.mark.parametrize("m", [1, 5, 9])
def test_majority_of_m_in_closed_form(m):
    table = bits(10)[:, :m].sum(1) > m / 2
    found = everything(table)
    assert float(found["average_sensitivity"]) == m * math.comb(m - 1, m // 2) / 2 ** (m - 1)
    assert (int(found["max_sensitivity"]), int(found["min_sensitivity"])) == (m // 2 + 1, int(m == 1))
    assert int(found["certificate_complexity"]) == int(found["block_sensitivity"]) == m // 2 + 1
    close(found["influences"], np.repeat([math.comb(m - 1, m // 2) / 2 ** (m - 1), 0], [m, 10 - m]))


def test_a_dictator_reads_its_own_position():
    for position in (0, 3, 8, 9):
        table = bits(10)[:, position] == 1
        found = everything(table)
        np.testing.assert_array_equal(found["influences"], np.eye(10)[position])
        expected = np.zeros(1024)
        expected[2 ** (9 - position)] = 1
        np.testing.assert_array_equal(found["walsh"], expected)
        close(truth_tables.noise_stability(table, 0.25), 0.25)


@pytest.mark.parametrize("fn", NUMBERS, ids=name)
def test_batching_jit_and_types_change_nothing(fn):
    tables = all_functions(3)
    batched = np.asarray(fn(tables))
    assert len(batched) == 256
    for other in (everything_of_all(3)[name(fn)], fn(jnp.asarray(tables)), fn(tables.astype(int).tolist())):
        np.testing.assert_allclose(np.asarray(other), batched, rtol=0, atol=1e-6)


def test_vmap_and_single_tables_change_nothing():
    tables, batched = all_functions(3), everything_of_all(3)
    nested = jax.jit(jax.vmap(everything))(tables.astype(np.uint8).reshape(16, 16, 8))
    single = {i: everything(tables[i]) for i in (0, 23, 105, 254)}
    for what, expected in batched.items():
        np.testing.assert_allclose(nested[what].reshape(expected.shape), expected, rtol=0, atol=1e-6, err_msg=what)
        for i, found in single.items():
            np.testing.assert_allclose(found[what], expected[i], rtol=0, atol=1e-6, err_msg=what)


def test_counts_are_integers_and_numbers_float32():
    tables = all_functions(3)
    dtypes = {name(fn): str(fn(tables).dtype) for fn in NUMBERS}
    assert {k for k, v in dtypes.items() if v == "int8"} == {"sensitivity", "min_sensitivity", "max_sensitivity"}
    assert {k for k, v in dtypes.items() if v == "int32"} == {
        "profile", "degree", "block_sensitivity", "certificate_complexity"}  # fmt: skip
    assert {"float32"} == set(dtypes.values()) - {"int8", "int32"}


def test_random_functions_of_many_variables():
    n = 10
    table = random_tables(n, 1)[0]
    found = everything(table)
    assert found["profile"].sum() == 2**n
    close(found["average_sensitivity"], n / 2, atol=0.5)
    close(found["average_sensitivity"], found["influences"].sum())
    assert np.square(np.asarray(found["walsh"], np.float64)).sum() == 1
    close(found["degree_weights"].sum(), 1)
    close(found["degree_weights"] @ jnp.arange(n + 1), n / 2, atol=0.5)


def test_noise_stability_is_a_correlation():
    table = random_tables(3, 1, seed=5)[0]
    value, kept = 1 - 2.0 * table, (1 + 0.4) / 2
    apart = np.bitwise_count(np.arange(8)[:, None] ^ np.arange(8)[None])
    together = kept ** (3 - apart) * (1 - kept) ** apart / 8
    close(truth_tables.noise_stability(table, 0.4), value @ together @ value, atol=1e-6)
    slope = jax.grad(lambda rho: truth_tables.noise_stability(table, rho))(1.0)
    close(slope, truth_tables.average_sensitivity(table))  # d Stab / d rho at 1 is the total influence


@pytest.mark.parametrize("chunk", [1, 5, 8, 64])
def test_truth_tables_are_big_endian_in_any_chunk(chunk):
    seen = []

    def accept(x):
        seen.append(x.shape)
        assert x.dtype == jnp.int32
        return (x[:, 0] == 1) & (x[:, 3] == 0)

    table = truth_tables.truth_table(accept, 4, chunk=chunk)
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
        table = truth_tables.truth_table(partial(model, params), 6, chunk=8)
        np.testing.assert_array_equal(table, bits(6).astype(np.float32) @ params > 0.5)
    assert len(traced) == 1


@pytest.mark.parametrize("fn", NUMBERS, ids=name)
def test_what_is_no_truth_table_is_refused(fn):
    with pytest.raises(ValueError, match=r"table .*2\*\*n.*\(6,\)"):
        fn(np.zeros(6, bool))
    with pytest.raises(ValueError, match=r"table .*got 2"):
        fn(np.array([0, 1, 2, 1]))


@pytest.mark.parametrize("n", [31, 0, -1, 2.5])
def test_lengths_out_of_reach_are_refused(n):
    with pytest.raises(ValueError, match=f"from 1 to 30.*got {n}"):
        truth_tables.truth_table(lambda x: x[:, 0] == 1, n)


def test_other_bad_input_is_refused():
    for chunk in (0, 1.5, True):
        with pytest.raises(ValueError, match=rf"chunk.*got {chunk}"):
            truth_tables.truth_table(lambda x: x[:, 0] == 1, 3, chunk=chunk)
    with pytest.raises(ValueError, match=r"int32 of shape \(8,\)"):
        truth_tables.truth_table(lambda x: x[:, 0], 3)
    with pytest.raises(ValueError, match=r"bool of shape \(8, 3\)"):
        truth_tables.truth_table(lambda x: x == 1, 3)
    for rho in (1.1, -2, math.nan, np.zeros(2), "0.5", True):
        with pytest.raises(ValueError, match="rho must be"):
            truth_tables.noise_stability([0, 1], rho)


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
def test_boofun_agrees(boofun, n, count):
    chosen = np.random.default_rng(n).permutation(2**2**n)[:count] if n < 10 else np.arange(count)
    if n < 10:
        tables, ours = all_functions(n), everything_of_all(n)
    else:
        tables = random_tables(n, count)
        ours = {what: np.stack([everything(table)[what] for table in tables]) for what in everything(tables[0])}
    for i in chosen:
        for what, expected in reference(boofun, tables[i], searches=n <= 4).items():
            np.testing.assert_allclose(ours[what][i], expected, rtol=0, atol=1e-6, err_msg=f"{what} of {tables[i]}")


@pytest.mark.slow
@pytest.mark.parametrize("fn", ["profile", "walsh", "degree_weights", "influences", "degree"])
def test_26_variables_fit_in_two_gibibytes(fn):
    """Everything counts: Python, JAX, the table and the result."""
    code = f"""
import resource, jax, numpy as np
from jaxsens.boolean import truth_tables
table = jax.device_put(np.random.default_rng(0).integers(0, 2, 2**26, dtype=np.uint8).view(bool))
print(float(truth_tables.{fn}(table).astype("float32").sum()))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 2**21  # kibibytes


def test_strings_and_tables_share_their_order():
    np.testing.assert_array_equal(strings.exhaustive(5), bits(5))
    assert all(a < b for a, b in pairwise(map(tuple, np.asarray(strings.exhaustive(4)).tolist())))


@pytest.mark.parametrize("n", [0, 2, 9])
def test_forms_for_other_platforms_give_the_same(n):
    """With fewer entries than a tile's axis has, and with more."""
    table = jnp.asarray(np.random.default_rng(n).integers(0, 2, (2, 2**n)).astype(bool))
    for of_tpu, of_cpu in (
        (truth_tables._sums_in_lanes, truth_tables._sums_in_pairs),
        (truth_tables._sensitivity_in_lanes, truth_tables._sensitivity_in_words),
        (truth_tables._influences_in_lanes, truth_tables._influences_in_words),
    ):
        np.testing.assert_array_equal(of_tpu(table), of_cpu(table))
    counts = truth_tables.sensitivity(table)
    np.testing.assert_array_equal(
        truth_tables._profile_by_comparison(counts, n), truth_tables._profile_by_addition(counts, n)
    )
