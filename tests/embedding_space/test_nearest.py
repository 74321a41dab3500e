"""Nearest rows of a table: equal to the plain matrix of all rows by all rows; what takes part and what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import substitution, token_sensitivity
from jaxsens.embedding_space import (
    nearest,
    nearest_rows,
    nearest_tokens,
    special_tokens,
    spelling_groups,
    token_strings,
)
from jaxsens.execution import Execution, memory
from jaxsens.models.text import token_ids

RNG = np.random.default_rng(0)
TABLE = (RNG.normal(size=(53, 6)) * RNG.uniform(0.1, 9, (53, 1)) + 0.5).astype(np.float32)


def plain(table, metric, k, allowed, groups):
    """All rows by all rows in float64; rows that take no part have -1."""
    x = table.astype(np.float64)
    if metric == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        distance = 1 - x @ x.T
    else:
        distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    distance[:, ~allowed] = np.inf
    distance[groups[:, None] == groups[None]] = np.inf
    ids = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return np.where(allowed[:, None], ids, -1), np.take_along_axis(distance, ids, 1)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_equal_to_all_rows_by_all_rows(metric):
    groups = RNG.integers(0, 30, len(TABLE))
    allowed = np.ones(len(TABLE), bool)
    allowed[[0, 7, 52]] = False
    found = nearest_tokens(
        TABLE, k=3, exclude=[0, 7, 52], groups=groups, metric=metric, block=10, execution=Execution(chunk=4)
    )
    ids, distances = plain(TABLE, metric, 3, allowed, groups)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_allclose(found.distances[allowed], distances[allowed], rtol=1e-5, atol=1e-7)
    assert np.isnan(found.distances[~allowed]).all()
    np.testing.assert_array_equal(found.replaceable, allowed)
    masked = nearest_tokens(
        TABLE, k=3, exclude=~allowed, groups=groups, metric=metric, block=64, execution=Execution(chunk=99)
    )
    np.testing.assert_array_equal(masked.ids, found.ids)


def test_equal_bits_on_any_number_of_devices_and_either_backend(devices):
    one, *others = (
        nearest_tokens(
            TABLE,
            k=2,
            block=16,
            execution=Execution(chunk=3, backend=backend, devices=devices[:n]),
        )
        for n, backend in ((1, "pmap"), (2, "pmap"), (8, "shard_map"))
    )
    for other in others:
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.distances, other.distances)


def test_no_result_on_the_device_is_as_large_as_all_rows_by_all_rows():
    count, block, chunk = 250_000, nearest_rows.BLOCK, memory.BYTES // (4 * (nearest_rows.BLOCK + 5 * 768))
    vector = jax.ShapeDtypeStruct((count,), jnp.float32)
    table, center = jax.ShapeDtypeStruct((count, 768), jnp.float32), jax.ShapeDtypeStruct((768,), jnp.float32)
    rows = nearest_rows.Rows(table, vector, center, vector, vector, jax.ShapeDtypeStruct((count,), jnp.int32))
    search = nearest_rows.Search(1, block, "cosine")

    def of_chunk(queries, rows):
        return jax.vmap(lambda row: nearest._nearest_to_row(search, row, rows))(queries)

    jaxpr = jax.make_jaxpr(of_chunk)(jax.ShapeDtypeStruct((chunk,), jnp.int32), rows)
    sizes = [memory._size(equation) for equation in memory._equations(jaxpr.jaxpr)]
    assert max(sizes) <= memory.BYTES
    assert sum(sizes) < 2**30  # even were all of them kept


def test_ties_go_to_the_smallest_id():
    table = np.array([[1, 0], [0, 1], [2, 0], [4, 0], [0, 3], [8, 0]], np.float32)
    np.testing.assert_array_equal(
        nearest_tokens(table, k=2, block=2).ids[[0, 2, 3, 5]], [[2, 3], [0, 3], [0, 2], [0, 2]]
    )
    np.testing.assert_array_equal(
        nearest_tokens(np.ones((5, 2), np.float32), block=2, metric="l2").ids[:, 0], [1, 0, 0, 0, 0]
    )


def test_a_row_of_zeros_has_no_neighbors_and_is_no_neighbor():
    table = TABLE.copy()
    table[[3, 50]] = 0
    for metric in ("cosine", "l2"):
        found = nearest_tokens(0.01 * table, k=2, metric=metric, block=20)
        np.testing.assert_array_equal(found.ids[[3, 50]], -1)
        assert not np.isin(found.ids[found.replaceable], [3, 50]).any()
        assert found.replaceable.sum() == 51


def test_distances_are_exact_near_zero():
    table = np.array([[3, 4], [3, 4], [3.0001, 4], [-1, 9]], np.float32)
    found = nearest_tokens(table)
    assert found.distances[0, 0] < 1e-12
    x = table.astype(np.float64) / np.linalg.norm(table.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(found.distances[2, 0], np.sum((x[2] - x[0]) ** 2) / 2, rtol=1e-2)
    tiny = nearest_tokens(np.float32(1e-25) * TABLE, k=1)
    np.testing.assert_array_equal(tiny.ids, nearest_tokens(TABLE).ids)
    np.testing.assert_allclose(tiny.distances, nearest_tokens(TABLE).distances, rtol=1e-4)


def far_from_zero(name, rows, width):
    rng = np.random.default_rng(1)
    spread = rng.normal(size=(rows, width))
    return {
        "offset": 100 + 0.1 * spread,
        "one large dimension": np.concatenate([0.3 * spread[:, 1:], np.full((rows, 1), 3000.0)], 1),
        "two clusters": np.where(np.arange(rows)[:, None] % 2, 100, -100) + 0.1 * spread,
        "1e-30": 1e-30 * spread,
        "1e25": 1e25 * (1 + 0.01 * spread),
        "far smaller rows": np.where(np.arange(rows)[:, None] % 2, 1, 1e-25) * spread,
    }[name].astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("name", ["offset", "one large dimension", "two clusters", "1e-30", "1e25", "far smaller rows"])
def test_rows_with_much_in_common_have_the_right_neighbors(name, metric):
    """Products in float32 lose the digits in which the rows differ."""
    table = far_from_zero(name, 120, 32)
    wide = table.astype(np.float64)
    if metric == "cosine":
        wide = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    apart = np.linalg.norm(wide[:, None] - wide[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    found = nearest_tokens(table, k=3, metric=metric, block=50)
    np.testing.assert_array_equal(found.ids, np.argsort(apart, axis=1, kind="stable")[:, :3])
    expected = np.take_along_axis(apart, found.ids, 1)
    expected = expected**2 / 2 if metric == "cosine" else expected
    np.testing.assert_allclose(found.distances, expected, rtol=1e-3)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_host_and_device_give_the_same_neighbors(metric):
    rows, _ = nearest_rows.searchable(TABLE, [4], None, metric)
    device = nearest_tokens(TABLE, k=2, exclude=[4], metric=metric)
    some = np.flatnonzero(device.replaceable)
    ids, distances = nearest_rows.search_exactly(TABLE[some], rows.groups[some], rows, 2, metric)
    np.testing.assert_array_equal(ids, device.ids[some])
    np.testing.assert_allclose(distances, device.distances[some], rtol=1e-5)


def test_half_precision_tables_are_compared_in_single_precision():
    table = TABLE.astype(jnp.bfloat16)
    single = nearest_tokens(table.astype(np.float32), k=30)
    np.testing.assert_array_equal(nearest_tokens(table, k=30).ids, single.ids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table": np.ones(3)}, "table must be floats"),
        ({"table": np.ones((3, 2), int)}, "table must be floats"),
        ({"table": np.array([[1.0], [np.nan], [1.0]])}, "row 1 is not"),
        ({"metric": "l7"}, "metric must be one of cosine, l2"),
        ({"k": 0}, "k must be an integer of at least 1, got 0"),
        ({"k": True}, "k must be an integer of at least 1, got True"),
        ({"block": 1.5}, "block must be an integer of at least 1, got 1.5"),
        ({"exclude": np.ma.masked_array([1, 2], [0, 1])}, "exclude must not be a masked array"),
        ({"exclude": [53]}, "exclude must be booleans"),
        ({"exclude": np.ones(4, bool)}, "exclude must be booleans"),
        ({"exclude": np.ones(53, bool)}, "leaves no row"),
        ({"groups": np.zeros(53)}, "groups must be integers"),
        ({"groups": -np.ones(53, int)}, "groups must be integers"),
        ({"groups": np.zeros(53, int)}, "row 0 of the table has 0 others"),
        ({"exclude": np.arange(53) != 9}, "row 9 of the table has 0 others"),
        ({"k": 53}, "52 others to choose from, fewer than k=53"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        nearest_tokens(**{"table": TABLE, **arguments})


def test_replacements_of_a_batch():
    found = nearest_tokens(TABLE, k=2, exclude=[4])
    tokens = np.array([[1, 4, 2], [52, 0, 0]], np.int32)
    np.testing.assert_array_equal(found.replace(tokens), found.ids[tokens, 0])
    np.testing.assert_array_equal(found.replace(tokens, rank=1), found.ids[tokens, 1])
    assert found.replace(tokens)[0, 1] == -1
    pairs = np.stack([tokens, np.full_like(tokens, 7)], -1)
    np.testing.assert_array_equal(found.replace(pairs)[..., 0], found.ids[tokens, 0])
    np.testing.assert_array_equal(found.replace(pairs)[..., 1], 7)
    for wrong, message in (
        (tokens - 1, "rows of the table"),
        (tokens.astype(np.int64) + 2**32, "tokens must fit int32"),
        (tokens.astype(float), "integers"),
        (tokens[0], "integers"),
    ):
        with pytest.raises(ValueError, match=message):
            found.replace(wrong)
    with pytest.raises(ValueError, match="rank must be from 0 to 1"):
        found.replace(tokens, rank=2)


def test_narrow_tokens_do_not_wrap():
    """A neighbor with the id 200 is no int8."""
    table = np.concatenate([np.eye(100, 101), np.eye(101), np.ones((99, 101))]).astype(np.float32)
    found = nearest_tokens(table, exclude=np.arange(200, 300))
    tokens = np.array([[99, 3]], np.int8)
    np.testing.assert_array_equal(found.replace(tokens), [[199, 103]])
    assert found.replace(tokens.astype(np.int16)).dtype == np.int16
    np.testing.assert_array_equal(found.replace(np.array([[200]], np.uint16)), [[-1]])
    with pytest.raises(ValueError, match="tokens of int8 cannot hold ids from -1 to 299: use int32"):
        found(None, 0, jnp.asarray(tokens[0]))


def test_neighbors_are_a_perturbation_of_which_the_prediction_changes_are_counted():
    found = nearest_tokens(TABLE, k=2, exclude=[4])
    tokens = np.array([[1, 4, 2, 9], [52, 0, 0, 30]], np.int32)
    params = RNG.normal(size=(53, 3)).astype(np.float32)

    def apply(params, tokens, mask=None):
        return token_ids.look_up(params, tokens, jnp.float32).sum(1)

    primitive = substitution.one_at_a_time(apply)
    result = token_sensitivity(primitive, found, draws=2)(
        jax.random.key(0), params, tokens, sites=found.replaceable[tokens]
    )
    for b, r, t in np.ndindex(2, 2, 4):
        changed = tokens[b].copy()
        changed[t] = found.ids[tokens[b, t], r]
        if tokens[b, t] != 4:
            expected = params[changed].sum(0).argmax() != params[tokens[b]].sum(0).argmax()
            assert result.changes[b, r, t] == expected
    assert result.changes.any()
    with pytest.raises(FloatingPointError):  # the excluded token is a site, and has no neighbor
        token_sensitivity(primitive, found)(jax.random.key(0), params, tokens)
    sites = found.replaceable[tokens]
    with pytest.raises(FloatingPointError):  # only two neighbors were computed
        token_sensitivity(primitive, found, draws=3)(jax.random.key(0), params, tokens, sites=sites)


STRINGS = ("[PAD]", "[unused0]", "<s>", "<|endoftext|>", "[", "]", "the", "The", "##the", "Ġthe", "##", "<", "")


def test_spelling():
    np.testing.assert_array_equal(special_tokens(STRINGS), [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    groups = spelling_groups(STRINGS)
    assert len(set(groups[6:10])) == 1
    assert len(set(groups)) == len(STRINGS) - 3
    assert len(set(spelling_groups(STRINGS, case=False, marks=()))) == len(STRINGS)
    assert len(set(spelling_groups(("", "", "a")))) == 3
    assert token_strings({"b": 2, "a": 0}, 4) == ("a", "", "b", "")
    with pytest.raises(ValueError, match="'b' is 2"):
        token_strings({"b": 2}, 2)
