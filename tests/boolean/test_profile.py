"""Sensitivity profiles against truth tables and plain loops, their intervals, and what they refuse.

The file is long because its tests share models and compiled programs.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxsens import substitution
from jaxsens.boolean import languages, profile
from jaxsens.boolean import strings as bit_strings
from jaxsens.boolean.decisions import REJECT, UNDEFINED
from jaxsens.boolean.screened_profile import screened_sensitivity_profile
from jaxsens.execution import Execution, memory, parallel

KEY = jax.random.key(0)


def look_up(params, bits, mask=None):
    """The model that knows its table of logits by heart, the first bit the most significant."""
    return params[bits @ (1 << jnp.arange(bits.shape[1])[::-1])]


def parity(params, bits, mask=None):
    return 1.0 - 2.0 * (bits.sum(1) % 2)


def perceptron(params, bits, mask=None):
    return jnp.tanh((2.0 * bits - 1) @ params["in"]) @ params["out"]


def perceptron_params(n, seed=0):
    rng = np.random.default_rng(seed)
    return {"in": rng.normal(size=(n, 16)).astype(np.float32), "out": rng.normal(size=16).astype(np.float32)}


RUN = ("chunk", "devices", "backend", "precision")


def measure(apply, **options):
    execution = Execution(**{name: options.pop(name) for name in RUN if name in options})
    return profile.sensitivity_profile(substitution.one_at_a_time(apply), execution=execution, **options)


def cube(n):
    """All strings of n bits."""
    return (np.arange(2**n)[:, None] >> np.arange(n)[::-1]) & 1


def uniform(seed, count, n):
    return np.random.default_rng(seed).integers(0, 2, (count, n))


def neighbors(x):
    """Strings with one bit flipped, one by one, ``[n n]``."""
    return [np.concatenate([x[:i], [1 - x[i]], x[i + 1 :]]) for i in range(len(x))]


def random_table(n, seed=0):
    return np.random.default_rng(seed).normal(size=2**n).astype(np.float32)


LANGUAGES = {
    "parity": lambda x: x.sum(1) % 2 == 0,
    "majority": lambda x: x.sum(1) > x.shape[1] / 2,
    "first": lambda x: x[:, 0] == 1,
    "constant": lambda x: x.sum(1) >= 0,
    "random": lambda x: random_table(x.shape[1]) > 0,
}


@pytest.mark.parametrize("n", [1, 4, 10])
@pytest.mark.parametrize("name", LANGUAGES)
def test_all_strings_in_any_order_give_the_exact_profile(name, n):
    strings = cube(n)
    table = LANGUAGES[name](strings)
    flips = table[:, None] != table[np.arange(2**n)[:, None] ^ (1 << np.arange(n)[::-1])]
    exact = tuple(int((flips.sum(1) == k).sum()) for k in range(n + 1))
    order = np.random.default_rng(1).permutation(2**n)
    result = measure(look_up)(KEY, np.where(table, 1, -1).astype(np.float32), strings[order])
    assert result.exhaustive
    np.testing.assert_array_equal(result.flips, flips[order])
    np.testing.assert_array_equal(result.decisions, table[order])
    np.testing.assert_array_equal(result.sensitivities, flips.sum(1)[order])
    assert result.scaled == exact
    assert all(isinstance(k, int) for k in result.scaled)
    assert sum(result.scaled) == 2**n
    assert (result.min_sensitivity, result.max_sensitivity) == (flips.sum(1).min(), flips.sum(1).max())
    np.testing.assert_array_equal(result.influences, flips.mean(0))
    assert result.average_sensitivity.mean == flips.sum() / 2**n
    assert result.undefined.mean == 0


def test_what_is_exact_has_no_error():
    result = measure(look_up)(KEY, random_table(6), cube(6))
    assert result.scaled_intervals() == (result.scaled, result.scaled)
    for low, high in (result.share_intervals(), result.influence_intervals()):
        np.testing.assert_array_equal(low, high)
    for estimate in (result.average_sensitivity, result.normalized_average, result.undefined):
        assert estimate.sem == 0
        assert estimate.interval() == (estimate.mean, estimate.mean)


def test_a_string_too_few_or_twice_makes_a_sample():
    strings = cube(5)
    for some in (strings[:-1], np.concatenate([strings[:-1], strings[:1]]), np.concatenate([strings, strings])):
        result = measure(parity)(KEY, None, some)
        assert not result.exhaustive
        low, high = result.share_intervals()
        assert (low < high).all()
        assert result.normalized_average.interval()[0] < 1


@pytest.mark.parametrize("n", [1, 5, 100])
def test_every_flip_turns_parity(n):
    strings = uniform(n, 30, n)
    result = measure(parity)(KEY, None, strings)
    assert (result.sensitivities == n).all()
    np.testing.assert_array_equal(result.decisions, strings.sum(1) % 2 == 0)
    np.testing.assert_array_equal(result.influences, np.ones(n))
    assert result.scaled == (0.0,) * n + (2.0**n,)
    low, high = result.scaled_intervals()
    assert low[-1] < high[-1] == 2.0**n
    assert low[0] == 0 < high[0]


def test_majority_is_sensitive_on_nearly_balanced_strings():
    """Even n = 2m: C(n, m) strings of sensitivity m and C(n, m + 1) of m + 1 (s.2.1 of the paper)."""
    n, m = 10, 5
    result = measure(lambda params, x, mask=None: x.sum(1) - n / 2)(KEY, None, cube(n))
    expected = {m: math.comb(n, m), m + 1: math.comb(n, m + 1)}
    expected[0] = 2**n - sum(expected.values())
    assert result.scaled == tuple(expected.get(k, 0) for k in range(n + 1))


@pytest.mark.parametrize(
    "language",
    [languages.parity(7), languages.majority(8), languages.dictator(6, 2), languages.sparse_majority(7, [0, 3, 6])],
)
def test_languages_have_their_own_profile(language):
    def apply(params, bits, mask=None):
        return jnp.where(language.accept(bits), 1.0, -1.0)

    result = measure(apply)(KEY, None, bit_strings.exhaustive(language.n))
    assert result.scaled == language.profile()
    assert result.average_sensitivity.mean == language.average_sensitivity
    assert (result.min_sensitivity, result.max_sensitivity) == (language.min_sensitivity, language.max_sensitivity)


def test_average_sensitivity_is_the_sum_of_influences():
    result = measure(perceptron)(KEY, perceptron_params(8), uniform(0, 50, 8))
    assert 0 < result.average_sensitivity.mean < 8
    np.testing.assert_allclose(result.influences.sum(), result.average_sensitivity.mean, rtol=1e-12)
    np.testing.assert_allclose(result.normalized_average.mean, result.average_sensitivity.mean / 8, rtol=1e-12)
    np.testing.assert_allclose((result.shares * np.arange(9)).sum(), result.average_sensitivity.mean, rtol=1e-12)
    np.testing.assert_allclose(result.scaled, result.counts / 50 * 2**8)
    assert result.counts.sum() == 50
    assert result.average_sensitivity.count == 50


def test_intervals_are_those_of_clopper_and_pearson_at_a_corrected_level():
    result = measure(perceptron)(KEY, perceptron_params(8), uniform(3, 50, 8))
    for counts, level, found in (
        (result.counts, 1 - 0.1 / 9, result.share_intervals(0.9)),
        (result.flips.sum(0), 1 - 0.1 / 8, result.influence_intervals(0.9)),
    ):
        exact = [stats.binomtest(int(k), 50).proportion_ci(level, method="exact") for k in counts]
        np.testing.assert_allclose(np.transpose(found), exact, atol=1e-9)
    assert {0} < set(result.counts.tolist())
    np.testing.assert_allclose(result.scaled_intervals(0.9), 2**8 * np.array(result.share_intervals(0.9)))


@pytest.mark.parametrize("level", [0, 1, 95])
@pytest.mark.parametrize("strings", [cube(3), cube(3)[:4]])
def test_level_is_checked(level, strings):
    result = measure(parity)(KEY, None, strings)
    for intervals in (result.share_intervals, result.scaled_intervals, result.influence_intervals):
        with pytest.raises(ValueError, match=f"level must lie strictly between 0 and 1, got {level}"):
            intervals(level)


def hits(truth, intervals):
    low, high = intervals
    return ((low <= truth) & (truth <= high)).all()


@pytest.mark.parametrize("name", ["majority", "random", "smooth"])
def test_sampled_profiles_cover_the_exact_one(name):
    """200 samples of 100 strings, cut from one of 20,000: all entries at once, at 95 % or more."""
    n, repeats, size = 10, 200, 100
    strings = cube(n)
    if name == "smooth":
        table = np.asarray(perceptron(perceptron_params(n), strings)).astype(np.float32)
    else:
        table = np.where(LANGUAGES[name](strings), 1, -1).astype(np.float32)
    exact = measure(look_up)(KEY, table, strings)
    sample = measure(look_up)(KEY, table, uniform(11, repeats * size, n))
    groups = [
        dataclasses.replace(sample, flips=flips, decisions=decisions)
        for flips, decisions in zip(np.split(sample.flips, repeats), np.split(sample.decisions, repeats), strict=True)
    ]
    least = stats.binom.ppf(1e-4, repeats, 0.95)
    assert sum(hits(exact.shares, g.share_intervals()) for g in groups) >= least
    assert sum(hits(exact.scaled, np.array(g.scaled_intervals())) for g in groups) >= least
    assert sum(hits(exact.influences, g.influence_intervals()) for g in groups) >= least
    assert sum(hits(exact.average_sensitivity.mean, g.average_sensitivity.interval()) for g in groups) >= least
    # A level that promises little keeps little: the intervals are not so wide that nothing could miss.
    assert sum(hits(exact.shares, g.share_intervals(0.2)) for g in groups) < repeats
    assert sum(hits(exact.influences, g.influence_intervals(0.2)) for g in groups) < repeats


def test_small_logits_are_undefined_and_turn_nothing():
    """Against a loop over Eq. 15 and Def. 2.2, by string and bit."""
    n, margin = 5, 0.7
    table, strings = random_table(n), cube(n)

    def acceptance(x):
        logit = table[int("".join(map(str, x)), 2)]
        return 1 if logit >= margin else 0 if logit <= -margin else None

    expected = [[{acceptance(x), acceptance(y)} == {0, 1} for y in neighbors(x)] for x in strings]
    result = measure(look_up, margin=margin)(KEY, table, strings)
    np.testing.assert_array_equal(result.flips, expected)
    decisions = [acceptance(x) for x in strings]
    assert [None if d == UNDEFINED else d for d in result.decisions] == decisions
    assert result.undefined.mean == decisions.count(None) / 2**n
    assert 0.2 < result.undefined.mean < 0.8
    sharp = measure(look_up)(KEY, table, strings)
    assert (sharp.flips >= result.flips).all()
    assert sharp.flips.sum() > result.flips.sum() > 0
    assert (sharp.margin, result.margin) == (0, margin)


def test_logits_of_one_number_in_either_form():
    strings = uniform(0, 50, 8)
    for apply in (perceptron, lambda *args: perceptron(*args)[:, None]):
        result = measure(apply)(KEY, perceptron_params(8), strings)
        assert (result.decisions == (perceptron(perceptron_params(8), strings) > 0)).all()
        assert 0 < result.flips.mean() < 1


def cancelling(params, bits, mask=None):
    """``bits . w - threshold``, with a large number added and taken away again: float32 keeps multiples of 8."""
    return ((bits @ params["w"] + params["large"]) - params["large"]) - params["threshold"]


CANCELLING = {"w": np.ones(6, np.float32), "large": np.float32(1e8), "threshold": np.float32(3.5)}


def test_the_audit_finds_what_float32_gets_wrong():
    """float32 rejects all strings, since w . x vanishes; float64 accepts those with four ones or more."""
    strings = uniform(1, 50, 6)
    result = measure(cancelling, audit=1000)(KEY, CANCELLING, strings)
    assert (result.decisions == REJECT).mean() > 0.6
    narrow = np.array([[np.sum(y) > 4 for y in (x, *neighbors(x))] for x in strings])
    exact = np.array([[np.sum(y) >= 4 for y in (x, *neighbors(x))] for x in strings])
    np.testing.assert_array_equal(result.decisions, narrow[:, 0])
    np.testing.assert_array_equal(result.audit.changed.values, (narrow != exact).mean(1))
    assert result.audit.changed.rate
    assert result.audit.error > 1


def test_the_audit_changes_nothing_in_a_benign_model():
    result = measure(perceptron, audit=40)(KEY, perceptron_params(8), uniform(2, 50, 8))
    assert result.audit.changed.mean == 0
    assert result.audit.changed.count == 40
    assert 0 < result.audit.changed.interval()[1] < 0.12  # no change in 40 strings does not prove that there is none
    assert 1e-9 < result.audit.error < 1e-5


def test_the_audit_says_how_far_logits_are_off_in_their_own_scale():
    """A reference that adds .1 to every logit, and both 1000 times as large."""
    strings, params = uniform(2, 50, 8), perceptron_params(8)
    scale = np.std([perceptron(params, np.array([x, *neighbors(x)])) for x in strings])
    shifted = substitution.one_at_a_time(lambda params, x, mask=None: perceptron(params, x) + params["shift"])
    for factor in (1, 1000):
        scaled = params | {"out": factor * params["out"], "shift": 0.1 * factor}
        result = measure(perceptron, audit=50, reference=shifted)(KEY, scaled, strings)
        np.testing.assert_allclose(result.audit.error, 0.1 / scale, rtol=1e-4)


@pytest.mark.parametrize(("other", "error"), [(1, 0), (2, np.inf)])
def test_an_error_without_a_scale_is_nothing_or_infinite(other, error):
    """Constant logits have no spread."""
    twin = substitution.one_at_a_time(lambda params, x, mask=None: other * params + 0.0 * x[:, 0])
    result = measure(lambda params, x, mask=None: params + 0.0 * x[:, 0], audit=5, reference=twin)
    assert result(KEY, np.float32(1), uniform(0, 9, 4)).audit.error == error


def test_margins_hold_in_the_audit():
    """float64 decides with the same margin: what is undefined in both has not changed."""
    result = measure(perceptron, audit=40, margin=1.0)(KEY, perceptron_params(8), uniform(2, 50, 8))
    assert 0 < result.undefined.mean < 1
    assert result.audit.changed.mean == 0


def test_the_audited_strings_are_drawn_with_the_key():
    """The first of many are those of few; another key draws others; the rest of the profile does not hang on it."""
    strings, run = uniform(1, 50, 6), lambda key, k: measure(cancelling, audit=k)(key, CANCELLING, strings)
    few, many, other = run(KEY, 10), run(KEY, 20), run(jax.random.key(1), 20)
    np.testing.assert_array_equal(many.audit.changed.values[:10], few.audit.changed.values)
    assert (many.audit.changed.values != other.audit.changed.values).any()
    np.testing.assert_array_equal(many.flips, other.flips)
    everyone = run(KEY, 50).audit.changed
    assert everyone.mean == run(KEY, 51).audit.changed.mean
    assert everyone.sem > 0
    assert measure(cancelling)(KEY, CANCELLING, strings).audit is None


def test_an_audit_of_all_strings_there_are_is_exact():
    result = measure(cancelling, audit=64)(KEY, CANCELLING, cube(6))
    assert result.audit.changed.mean > 0
    assert result.audit.changed.interval() == (result.audit.changed.mean, result.audit.changed.mean)


def test_the_audit_refuses_a_model_that_stays_in_float32():
    def fixed(params, bits, mask=None):
        return cancelling(jax.tree.map(lambda a: a.astype(jnp.float32), params), bits)

    strings = uniform(1, 50, 6)
    with pytest.raises(ValueError, match=r"audit: this model computes in float32 whatever its params.*reference="):
        measure(fixed, audit=5)(KEY, CANCELLING, strings)
    assert measure(fixed)(KEY, CANCELLING, strings).audit is None
    helped = measure(fixed, audit=50, reference=substitution.one_at_a_time(cancelling))(KEY, CANCELLING, strings)
    plain = measure(cancelling, audit=50)(KEY, CANCELLING, strings)
    np.testing.assert_array_equal(helped.audit.changed.values, plain.audit.changed.values)
    with pytest.raises(ValueError, match="computes in float32"):
        measure(cancelling, audit=5, reference=substitution.one_at_a_time(fixed))(KEY, CANCELLING, strings)


def test_the_audit_does_not_leave_float64_on():
    measure(perceptron, audit=40)(KEY, perceptron_params(8), uniform(0, 50, 8))
    assert jnp.ones(()).dtype == jnp.float32


def test_low_precision_params_are_widened():
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), perceptron_params(8))
    result = measure(perceptron, audit=40)(KEY, params | {"unused": KEY, "count": 3}, uniform(0, 50, 8))
    assert 1e-4 < result.audit.error < 0.1


def test_equal_bits_on_any_devices_and_backend(devices):
    """Seven strings, which no number of devices divides; logits show in the audit's error."""
    strings, params = uniform(5, 7, 9), perceptron_params(9)
    reference = measure(perceptron, chunk=20, audit=5, devices=devices[:1])(KEY, params, strings)
    assert 0 < reference.flips.mean() < 1
    for backend, number in (("pmap", 3), ("shard_map", 8)):
        options = {"backend": backend, "devices": devices[:number]}
        result = measure(perceptron, chunk=20, audit=5, **options)(KEY, params, strings)
        np.testing.assert_array_equal(result.flips, reference.flips)
        np.testing.assert_array_equal(result.decisions, reference.decisions)
        assert result.audit.error == reference.audit.error
        np.testing.assert_array_equal(result.audit.changed.values, reference.audit.changed.values)


def test_chunks_count_forwards_and_alter_logits_by_rounding_only():
    strings, params = uniform(5, 30, 9), perceptron_params(9)
    results = {chunk: measure(perceptron, chunk=chunk, audit=30)(KEY, params, strings) for chunk in (None, 20)}
    for chunk, result in results.items():
        np.testing.assert_array_equal(result.flips, results[None].flips)
        assert result.audit.error < 1e-5
        assert chunk in (None, result.chunk)
    assert results[None].chunk % 10 == 0
    assert 1 < results[None].chunk / 10 <= memory.BYTES / (10 * 16 * 4)  # ten rows of 16 units in float32 are largest


def test_another_margin_or_a_second_build_does_not_compile_again():
    traced = []

    def counted(params, bits, mask=None):
        traced.append(1)
        return perceptron(params, bits)

    strings = uniform(5, 30, 9)
    measure(counted, chunk=40)(KEY, perceptron_params(9), strings)
    compiled, first = parallel._program.cache_info().misses, len(traced)
    results = [
        measure(counted, chunk=40, margin=m)(jax.random.key(1), perceptron_params(9, 1), strings) for m in (0.0, 1.0)
    ]
    # The check of shapes traces the model once more; nothing is compiled.
    assert len(traced) <= first + 2
    assert parallel._program.cache_info().misses == compiled
    assert results[1].undefined.mean > results[0].undefined.mean == 0


def test_products_run_at_full_precision_unless_asked_otherwise():
    seen = []

    def spy(params, bits, mask=None):
        seen.append(jax.config.jax_default_matmul_precision)
        return perceptron(params, bits)

    for options, expected in (({}, "highest"), ({"precision": "bfloat16"}, "bfloat16")):
        seen.clear()
        measure(spy, chunk=4, **options)(KEY, perceptron_params(4), cube(4))
        assert set(seen) - {None} == {expected}  # none where only shapes are computed


@pytest.mark.parametrize(("chunk", "strings"), [(1, 1), (10, 1), (45, 4)])
def test_only_decisions_leave_the_device(chunk, strings, monkeypatch):
    """Two bytes a forward, whatever the model; and as many strings at once as the forwards are enough for."""
    seen = []
    original = parallel.map_items

    def spy(fn, items, *args, **options):
        results = original(fn, items, *args, **options)
        seen.append((options["execution"].chunk, sum(a.nbytes for a in jax.tree.leaves(results)) / len(items)))
        return results

    monkeypatch.setattr(parallel, "map_items", spy)
    measure(perceptron, chunk=chunk)(KEY, perceptron_params(9), uniform(0, 30, 9))
    assert seen == [(strings, 2 * 10)]


@pytest.mark.parametrize(
    ("string", "match"),
    [
        ((1, 1, 0), r"not finite for string 2 with bit 0 flipped \(4 such logits"),
        ((0, 1, 0), r"not finite for string 2 as it is \(4 such logits"),
    ],
)
def test_logits_that_are_not_finite_stop_the_run_and_are_located(string, match):
    """One string of the table is infinite: that of bits 0 1 0."""
    table = np.ones(8, np.float32)
    table[2] = -np.inf
    far = (1, 0, 1)
    strings = np.array([far, far, string, (0, 1, 1), (0, 0, 0), (1, 1, 0)])
    with pytest.raises(FloatingPointError, match=match):
        measure(look_up)(KEY, table, strings)


def test_logits_that_are_not_finite_in_float64_only_are_located():
    infinite = substitution.one_at_a_time(
        lambda params, x, mask=None: jnp.where((x == jnp.array([0, 1, 0])[None]).all(1), jnp.nan, look_up(params, x))
    )
    strings = np.array([[1, 0, 1]] * 9 + [[0, 1, 0]] + [[1, 0, 1]] * 9)
    with pytest.raises(FloatingPointError, match="not finite in float64 for string 9 as it is"):
        measure(look_up, audit=18, reference=infinite)(jax.random.key(3), random_table(3), strings)


BAD_STRINGS = {
    "a two": (np.array([[0, 1, 0], [1, 2, 0]]), "strings must hold only 0 and 1, got 2 for bit 1 of string 1"),
    "a sign": (np.array([[0, -1, 0]]), "got -1 for bit 1 of string 0"),
    "a half": (np.array([[0, 1, 0.5]]), "got 0.5 for bit 2 of string 0"),
    "nan": (np.array([[0, 1, np.nan]]), "got nan for bit 2 of string 0"),
    "one axis": (np.array([0, 1, 1]), r"strings must be \[b n\].*got shape \(3,\)"),
    "three axes": (np.zeros((2, 3, 1), int), r"got shape \(2, 3, 1\)"),
    "none": (np.zeros((0, 3), int), r"at least one string and one bit, got shape \(0, 3\)"),
    "empty": (np.zeros((3, 0), int), r"at least one string and one bit, got shape \(3, 0\)"),
    "length": (np.zeros((2, 5), int), "strings of 5 bits, params and substitute do not fit together"),
}


@pytest.mark.parametrize("case", BAD_STRINGS)
def test_bad_strings_are_named(case):
    strings, match = BAD_STRINGS[case]
    with pytest.raises(ValueError, match=match):
        measure(perceptron)(KEY, perceptron_params(3), strings)


@pytest.mark.parametrize(
    ("output", "match"),
    [
        (lambda x: x + 0.5, r"one logit a string, \[\] or \[1\], got \(3,\) and, changed, \(3, 3\)"),
        (lambda x: {"logit": x.sum(1)}, "one logit a string.*got <class 'dict'>"),
        (lambda x: x.sum(1), "floating logits, got int32"),
        (lambda x: x.sum(1) > 1, "floating logits, got bool"),
    ],
)
def test_bad_outputs_are_named(output, match):
    with pytest.raises(ValueError, match=match):
        measure(lambda params, x, mask=None: output(x))(KEY, None, cube(3))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"margin": -1.0}, "margin must be a finite number of at least 0, got -1.0"),
        ({"audit": -1}, "audit must be an integer of at least 0, got -1"),
        ({"margin": "1"}, "margin must be a finite number of at least 0, got 1"),
        ({"audit": True}, "audit must be an integer of at least 0, got True"),
        ({"audit": 0.5}, "audit must be an integer of at least 0, got 0.5"),
    ],
)
def test_bad_options_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        measure(parity, **options)


def test_counts_beyond_float64_are_refused_and_shares_are_not():
    result = measure(parity)(KEY, None, np.zeros((1, 1030), int))
    assert result.shares[-1] == 1
    for ask in (lambda: result.scaled, result.scaled_intervals):
        with pytest.raises(ValueError, match="counts of 2\\^1030 strings exceed float64: use shares"):
            ask()


def test_booleans_and_device_arrays_are_strings_too():
    strings = uniform(0, 50, 8)
    expected = measure(perceptron)(KEY, perceptron_params(8), strings).flips
    for same in (strings == 1, jnp.asarray(strings), strings.astype(np.float32), strings.tolist()):
        np.testing.assert_array_equal(measure(perceptron)(KEY, perceptron_params(8), same).flips, expected)


def test_profiles_are_pytrees():
    result = measure(perceptron, audit=40)(KEY, perceptron_params(8), uniform(0, 50, 8))
    leaves, treedef = jax.tree.flatten(result)
    assert all(isinstance(leaf, np.ndarray | float) for leaf in leaves)
    again = jax.tree.unflatten(treedef, leaves)
    assert isinstance(again, profile.Profile)
    assert again.audit == result.audit
    np.testing.assert_array_equal(again.counts, result.counts)


@pytest.mark.parametrize("build", [profile.sensitivity_profile, screened_sensitivity_profile])
def test_a_recognizer_that_mixes_its_strings_is_refused(build):
    def mixed(params, bits, mask=None):
        logits = bits @ jnp.arange(1.0, 4.0)
        return logits - logits.mean()

    substitute = substitution.one_at_a_time(mixed)
    with pytest.raises(ValueError, match="another example is beside it"):
        build(substitute)(jax.random.key(0), None, cube(3))
    unchecked = build(substitute, execution=Execution(chunk=8, check=False), audit=0)
    unchecked(jax.random.key(0), None, cube(3))


def test_a_paired_difference_of_profiles():
    """Over the same strings in order; exact over all ``2^n``."""
    flips = np.random.default_rng(3).random((2, 6, 4)) < 0.5
    first, second = (profile.Profile(one, np.ones(6, np.int8), False, None, 0.0, 5) for one in flips)
    differences = flips[0].sum(1) - flips[1].sum(1)
    found = first.minus(second)
    assert (found.mean, found.unit) == (differences.mean(), "strings")
    np.testing.assert_allclose(found.sem, differences.std(ddof=1) / np.sqrt(6))
    exact = [dataclasses.replace(one, exhaustive=True) for one in (first, second)]
    assert exact[0].minus(exact[1]).interval() == (differences.mean(), differences.mean())
    for other, message in (
        (found, "other must be a Profile, got a Estimate"),
        (exact[1], "exhaustive is False here and True there"),
        (dataclasses.replace(second, margin=0.5), r"the margin is 0\.0 here and 0\.5 there"),
        (dataclasses.replace(second, flips=flips[1, :5]), r"strings and bits is \(6, 4\) here and \(5, 4\) there"),
    ):
        with pytest.raises(ValueError, match=message):
            first.minus(other)
