"""Blow-ups and influences of recognizers against loops, closed forms and the bounds of the paper.

The file is long because its tests share models and compiled programs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.boolean import blow_up
from jaxsens.execution import Execution, memory, parallel
from jaxsens.typing import Internals


def strings_of(count, length, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (count, length), np.int32)


def linear_logits(params, strings):
    return strings @ params["w"] / strings.shape[1]


def linear(params, strings):
    """``T = w . x / n``; the bits stand in their positions twice, the end of string holds T, after one layer."""
    count, length = strings.shape
    bits = strings.astype(params["w"].dtype)
    logits = linear_logits(params, bits)
    embedded = jnp.concatenate([bits, jnp.zeros_like(bits[:, :1])], 1)[..., None] * jnp.ones((1, 1, 2))
    last = embedded.at[:, -1].set(logits[:, None])
    return Internals(logits, jnp.stack([embedded, last], 1), jnp.ones((count, 1, length + 1)))


class Rows:
    """A recognizer that normalizes given rows ``d [r t d]`` whatever the string, plus ``bit * first bit``."""

    @staticmethod
    def internals(params, strings):
        rows = params["rows"][None] + params["bit"] * strings[:, :1, None, None]
        z = 1 / jnp.sqrt(rows.var(-1) + params["epsilon"])
        centered = rows - rows.mean(-1, keepdims=True)
        states = jnp.where(jnp.isinf(z)[..., None], 0, z[..., None] * centered)
        return Internals(states[:, -1, -1, 0], states, z)


def rows_of(values, epsilon=0.0, bit=0.0):
    return {"rows": np.float32(values), "epsilon": np.float32(epsilon), "bit": np.float32(bit)}


def transformer(params, strings):
    """Eqs. 7 to 14 with one head, on its own positional waves."""
    count, length = strings.shape
    symbols = jnp.concatenate([strings, jnp.full((count, 1), 2)], 1)
    width = params["w"].shape[0]
    waves = jnp.sin(jnp.arange(length + 1)[:, None] / 10.0 ** (jnp.arange(width)[None] / width))
    states, normalizers = [params["embed"][symbols] + waves[None]], []
    for layer in range(len(params["q"])):
        y = states[-1]
        scores = jnp.einsum("btd,bud->btu", y @ params["q"][layer], y @ params["k"][layer])
        heads = jax.nn.softmax(scores) @ (y @ params["v"][layer])
        d = y + jax.nn.relu(heads @ params["a"][layer]) @ params["b"][layer]
        normalizers.append(1 / jnp.sqrt(d.var(-1) + params["epsilon"]))
        states.append(normalizers[-1][..., None] * (d - d.mean(-1, keepdims=True)))
    return Internals(states[-1][:, -1] @ params["w"], jnp.stack(states, 1), jnp.stack(normalizers, 1))


def weights_of(seed=0, width=4, layers=2, epsilon=0.1, scale=0.5):
    rng = np.random.default_rng(seed)
    shapes = {name: (layers, width, width) for name in "qkvab"} | {"embed": (3, width), "w": (width,)}
    params = {name: np.float32(scale * rng.normal(size=shape)) for name, shape in shapes.items()}
    return params | {"epsilon": np.float32(epsilon)}


# Blow-ups


def test_blow_ups_of_known_rows():
    """Variances 1, 4 and 1/4, then 4 and 4 and 16: the largest normalizers are 2 and 1/2."""
    deviations = np.array([[1, 2, 0.5], [2, 2, 4]])
    rows = deviations[..., None] * np.array([1, -1, 1, -1]) + 7
    result = blow_up.blow_ups(Rows.internals)(rows_of(rows), strings_of(5, 2))
    np.testing.assert_allclose(result.tau, np.broadcast_to([3, 1.5], (5, 2)), rtol=1e-6)
    np.testing.assert_allclose(result.beta, np.broadcast_to([3, 4.5], (5, 2)), rtol=1e-6)
    with_epsilon = blow_up.blow_ups(Rows.internals)(rows_of(rows, epsilon=0.75), strings_of(5, 2))
    np.testing.assert_allclose(with_epsilon.tau[:, 0], 2, rtol=1e-6)


def test_a_row_without_variance_has_an_infinite_blow_up_and_never_nan():
    rows = np.ones((3, 3, 4)) * np.array([1, -1, 1, -1])
    rows[1, 2] = 5
    result = blow_up.blow_ups(Rows.internals)(rows_of(rows), strings_of(2, 2))
    np.testing.assert_allclose(result.tau, np.broadcast_to([2, np.inf, 2], (2, 3)))
    np.testing.assert_allclose(result.beta, np.broadcast_to([2, np.inf, np.inf], (2, 3)))
    assert blow_up.blow_up_bound(0, 3) == np.inf


def test_blow_ups_of_arrays():
    normalizers = np.array([[[1.0, 3.0], [0.5, 0.0]], [[np.inf, 3.0], [0.0, 0.0]]])
    tau, beta = np.array([[4, 1.5], [np.inf, 1]]), np.array([[4, 6], [np.inf, np.inf]])
    np.testing.assert_array_equal(blow_up.blow_up(normalizers), tau)
    np.testing.assert_array_equal(jax.jit(blow_up.blow_up)(normalizers), tau)
    np.testing.assert_array_equal(blow_up.cumulative_blow_up(normalizers), beta)


def test_the_cumulative_blow_up_exceeds_the_range_of_float32():
    normalizers = np.full((3, 2), 1e30, np.float32)
    np.testing.assert_allclose(blow_up.cumulative_blow_up(normalizers), [1e30, 1e60, 1e90], rtol=1e-6)
    assert blow_up.cumulative_blow_up(np.full((20, 1), 1e30, np.float32))[-1] == np.inf


@pytest.mark.parametrize("epsilon", [1.0, 0.01, 1e-5])
def test_epsilon_bounds_the_cumulative_blow_up(epsilon):
    """Lem. 3.2, which tiny weights come close to."""
    measure = blow_up.blow_ups(transformer)
    bounds = np.array([blow_up.blow_up_bound(epsilon, layer + 1) for layer in range(2)])
    for seed in range(3):
        for scale in (0.5, 3.0):
            beta = measure(weights_of(seed, epsilon=epsilon, scale=scale), strings_of(6, 5, seed)).beta
            assert (beta <= bounds * (1 + 1e-6)).all()
    flat = blow_up.blow_ups(Rows.internals)(rows_of(np.ones((2, 4, 4)), epsilon), strings_of(2, 3)).beta
    np.testing.assert_allclose(flat, np.broadcast_to(bounds, (2, 2)), rtol=1e-5)


def test_the_bound_in_numbers():
    assert blow_up.blow_up_bound(0.25, 3) == 27
    assert blow_up.blow_up_bound(1e-300, 10) == np.inf  # beyond float64


# Influences


def test_a_linear_recognizer_has_the_influences_of_its_weights():
    w = np.float32([1, -3, 0.5, 0, 8])
    result = blow_up.influences(linear)({"w": w}, strings_of(4, 5))
    expected = np.broadcast_to(np.abs(w) / 5, (4, 5))
    np.testing.assert_allclose(result.logits, expected, atol=1e-6)
    own = np.sqrt(2) * np.broadcast_to(np.eye(5), (4, 5, 5))
    np.testing.assert_allclose(result.states[..., :5], own, rtol=1e-6)
    np.testing.assert_allclose(result.states[..., 5], np.sqrt(2) * expected, atol=1e-6)
    np.testing.assert_allclose(result.logits_estimate.mean, np.abs(w).mean() / 5, rtol=1e-5)
    np.testing.assert_allclose(result.states_estimate.mean[-1], np.sqrt(2) * np.abs(w).mean() / 5, rtol=1e-5)
    assert result.logits_estimate.count == result.states_estimate.count == 4


def test_influences_are_those_of_flipped_strings():
    """Against a separate evaluation of every flipped string."""
    params, strings = weights_of(1), strings_of(3, 4, 1)
    result = blow_up.influences(transformer, layers="all")(params, strings)
    clean = transformer(params, strings)
    for site in range(4):
        flipped = strings.copy()
        flipped[:, site] ^= 1
        changed = transformer(params, flipped)
        logits, states = (np.asarray(b - a) for a, b in zip(clean[:2], changed[:2], strict=True))
        np.testing.assert_allclose(result.logits[:, site], np.abs(logits), atol=1e-5)
        np.testing.assert_allclose(result.states[:, site], np.linalg.norm(states, axis=-1), atol=1e-5)
    assert result.states.shape == (3, 4, 3, 5)
    assert result.logits.min() > 1e-4


def test_layers_positions_and_sites_choose_parts_of_the_whole():
    params, strings = weights_of(1), strings_of(3, 4, 1)
    whole = blow_up.influences(transformer, layers="all")(params, strings)
    last = blow_up.influences(transformer)(params, strings)
    assert last.positions == (0, 1, 2, 3, 4)
    np.testing.assert_allclose(last.states, whole.states[:, :, -1], atol=1e-6)
    part = blow_up.influences(transformer, positions=(-1, 1))(params, strings, [3, 0])
    assert part.positions == (4, 1)
    np.testing.assert_array_equal(part.sites, [3, 0])
    np.testing.assert_allclose(part.states, last.states[:, [3, 0]][:, :, [4, 1]], atol=1e-6)
    np.testing.assert_allclose(part.logits, last.logits[:, [3, 0]], atol=1e-6)


@pytest.mark.parametrize("chunk", [2, None])
def test_bits_that_the_model_ignores_have_no_influence(chunk):
    def blind(params, strings):
        return transformer(params, strings.at[:, 1::2].set(0))

    result = blow_up.influences(blind, execution=Execution(chunk=chunk))(weights_of(3, layers=1), strings_of(3, 6, 3))
    np.testing.assert_allclose(result.logits[:, 1::2], 0, atol=1e-6)
    np.testing.assert_allclose(result.states[:, 1::2], 0, atol=1e-6)
    assert result.logits[:, ::2].min() > 1e-4


def test_long_strings_are_evaluated_in_blocks_of_the_chunk():
    seen = []

    def spy(params, strings):
        seen.append(strings.shape)
        return linear(params, strings)

    w = np.arange(1000, dtype=np.float32)
    result = blow_up.influences(spy, positions=(-1,), execution=Execution(chunk=4, check=False))(
        {"w": w}, strings_of(2, 1000), np.arange(0, 1000, 100)
    )
    assert set(seen) == {(1, 1000), (4, 1000)}  # the first only asks for shapes
    assert result.states.shape == (2, 10, 1)
    # The logit, about 250, is rounded to 3e-5.
    np.testing.assert_allclose(result.logits, np.broadcast_to(np.arange(0, 1, 0.1), (2, 10)), atol=1e-4)


def test_the_string_itself_may_fill_a_block_alone():
    w = np.float32([1, -3, 0.5])
    result = blow_up.influences(linear, execution=Execution(chunk=1))({"w": w}, strings_of(2, 3))
    np.testing.assert_allclose(result.logits, np.broadcast_to(np.abs(w) / 3, (2, 3)), rtol=1e-5)


# Laws of both


def measured(devices, **options):
    """Everything that the two measurements give for one model, as a list of arrays."""
    params, strings, execution = weights_of(5, layers=1), strings_of(7, 4), Execution(devices=devices, **options)
    blow_ups = blow_up.blow_ups(transformer, execution=execution)(params, strings)
    influences = blow_up.influences(transformer, positions=(0, -1), execution=execution)(params, strings)
    arrays = [blow_ups.tau, blow_ups.beta, influences.states, influences.logits]
    assert [a.shape for a in arrays] == [(7, 1), (7, 1), (7, 4, 2), (7, 4)]
    return arrays


def test_equal_bits_on_any_devices_and_backend(devices):
    reference = measured(devices[:1], chunk=3)
    for backend, number in (("pmap", 3), ("shard_map", 8)):
        for found, expected in zip(measured(devices[:number], chunk=3, backend=backend), reference, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_chunks_alter_results_by_rounding_only(devices):
    """In 15 forwards there are three strings with their four copies, in 3 not one of them."""
    reference = measured(devices[:1], chunk=3)
    for chunk in (None, 15):
        for found, expected in zip(measured(devices[:1], chunk=chunk), reference, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_a_second_call_and_a_second_build_do_not_compile_again():
    traces = []

    def spy(params, strings):
        traces.append(strings.shape)
        return linear(params, strings)

    params, strings = {"w": np.ones(3, np.float32)}, strings_of(4, 3)
    for build in (blow_up.blow_ups, blow_up.influences):
        measure = build(spy, execution=Execution(chunk=2))
        measure(params, strings)
        traces.clear()
        measure(params, 1 - strings)
        build(spy, execution=Execution(chunk=2))(params, strings)
        assert not traces


def test_the_chunk_counts_model_forwards(monkeypatch):
    """Seven strings alone, or each with four copies; and what fits a small budget."""
    seen, original = [], parallel.map_items
    monkeypatch.setattr(parallel, "map_items", lambda *a, **k: seen.append(k["execution"].chunk) or original(*a, **k))
    params, strings = {"w": np.ones(4, np.float32)}, strings_of(7, 4)

    def chunks(chunk):
        seen.clear()
        results = [
            blow_up.blow_ups(linear, execution=Execution(chunk=chunk))(params, strings),
            blow_up.influences(linear, execution=Execution(chunk=chunk))(params, strings),
        ]
        return [result.chunk for result in results], list(seen)

    assert chunks(15) == ([15, 15], [15, 3])
    # In 4-byte numbers, the states are 2 x 5 x 2 to a string.
    monkeypatch.setattr(memory, "BYTES", 800)
    assert chunks(None) == ([10, 10], [10, 2])


# Errors


BITS = np.int32([[0, 1, 0], [1, 1, 0]])
PARAMS = {"w": np.ones(3, np.float32)}


def blow_ups(**options):
    return blow_up.blow_ups(linear, **options)


def influences(**options):
    return blow_up.influences(linear, **options)


@pytest.mark.parametrize("build", [blow_ups, influences])
def test_strings_must_be_bits_that_fit_the_model(build):
    for strings, message in (
        (BITS[0], r"strings must be \[b n\].*\(3,\)"),
        (BITS[:0], r"at least one string.*\(0, 3\)"),
        (BITS + 1, "got 2 for bit 1 of string 0"),
        (BITS[:, :2], "strings of 2 bits and params do not fit"),
    ):
        with pytest.raises(ValueError, match=message):
            build()(PARAMS, strings)


def test_choices_of_influences_are_checked():
    for options, message in (
        ({"layers": "first"}, r"layers must be one of \('last', 'all'\), got 'first'"),
        ({"positions": ()}, r"positions must be at least one index.*got \[\]"),
        ({"positions": (0.5,)}, r"positions must be .*got \[0.5\]"),
    ):
        with pytest.raises(ValueError, match=message):
            blow_up.influences(linear, **options)
    for position in (4, -5):
        with pytest.raises(ValueError, match=rf"positions must lie in -4 .. 3 .*got {position}"):
            blow_up.influences(linear, positions=(0, position))(PARAMS, BITS)
    for sites, message in (
        ([0, 3], r"sites must lie in 0 .. 2 .*got 3"),
        ([-1], r"sites must lie in 0 .. 2 .*got -1"),
        ([True, False, True], "sites must be at least one index, a list of integers"),
    ):
        with pytest.raises(ValueError, match=message):
            blow_up.influences(linear)(PARAMS, BITS, sites)


def test_internals_must_have_the_promised_shapes():
    def without_end(params, strings):
        found = linear(params, strings)
        return found._replace(states=found.states[:, :, :-1])

    def without_layers(params, strings):
        found = linear(params, strings)
        return found._replace(normalizers=found.normalizers[:, 0])

    for build in (blow_up.blow_ups, blow_up.influences):
        with pytest.raises(ValueError, match=r"t = n \+ 1, got \(1,\) and \(1, 2, 3, 2\) for one string of 3 bits"):
            build(without_end)(PARAMS, BITS)
        with pytest.raises(ValueError, match=r"normalizers \[b r t\] with t = n \+ 1 = 4, got \(1, 4\)"):
            build(without_layers)(PARAMS, BITS)
        with pytest.raises(ValueError, match=r"must return jaxsens\.typing\.Internals, got ShapeDtypeStruct"):
            build(linear_logits)(PARAMS, BITS)


def test_numbers_that_are_not_finite_are_named():
    def broken(params, strings):
        """NaN where bit 1 is set and bit 2 is not."""
        found = linear(params, strings)
        bad = jnp.where((strings[:, 1] == 1) & (strings[:, 2] == 0), jnp.nan, 0.0)
        return Internals(found.logits + bad, found.states, found.normalizers + bad[:, None, None])

    strings = np.int32([[0, 0, 0], [0, 1, 0]])
    with pytest.raises(FloatingPointError, match="blow-up of normalization 0 on string 1 is nan"):
        blow_up.blow_ups(broken)(PARAMS, strings)
    with pytest.raises(FloatingPointError, match="influence of bit 1 of string 0 on the logit is nan"):
        blow_up.influences(broken)(PARAMS, strings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: blow_up.blow_up_bound(-1e-5, 2), "epsilon must be a finite number of at least 0, got -1e-05"),
        (lambda: blow_up.blow_up_bound(np.nan, 2), "epsilon .*got nan"),
        (lambda: blow_up.blow_up_bound(np.inf, 2), "epsilon .*got inf"),
        (lambda: blow_up.blow_up_bound(1.0, 0), "layers must be an integer of at least 1, got 0"),
        (lambda: blow_up.blow_up_bound(1.0, True), "layers .*got True"),
        (lambda: blow_up.cumulative_blow_up([[1.0, np.nan]]), r"normalizers must be at least 0, got nan at \[0, 1\]"),
        (lambda: blow_up.cumulative_blow_up([[-1.0]]), "normalizers must be at least 0, got -1.0"),
        (lambda: blow_up.blow_up_bound(1.0, 1.5), "layers .*got 1.5"),
        (lambda: blow_up.blow_up_bound(1.0, np.nan), "layers .*got nan"),
    ],
)
def test_numbers_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_internals_that_depend_on_other_strings_are_refused():
    def normalized(params, strings):
        values = linear(params, strings)
        return values._replace(logits=values.logits - values.logits.mean())

    params, strings = {"w": np.float32([1, -3, 0.5])}, strings_of(2, 3)
    for measure in (blow_up.blow_ups, blow_up.influences):
        with pytest.raises(ValueError, match="another example is beside it"):
            measure(normalized)(params, strings)
