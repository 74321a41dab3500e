import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import perturb
from jaxsens.boolean import lipschitz
from jaxsens.execution import Execution, memory, parallel

KEY = jax.random.key(0)


def strings_of(count, length, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (count, length), np.int32)


def linear(params, strings):
    """``T = w . x / n``."""
    return strings @ params["w"] / strings.shape[1]


def perceptron(params, strings):
    return jnp.tanh((2.0 * strings - 1) @ params["in"]) @ params["out"]


def shifted(key, draw, weights):
    """A sampler that costs nothing to compile."""
    return tuple(a + 0.01 * jnp.cos(a + draw) for a in weights)


# Lipschitz quotients


def test_quotients_of_a_linear_recognizer_follow_from_its_gradient():
    """``(g . xi) / ||xi||`` with g = x / n, for the very noise of the sampler."""
    w, strings, sampler = np.float32([1, -3, 0.5, 0, 8]), strings_of(7, 5), perturb.gaussian(1.0)
    result = lipschitz.lipschitz_quotients(linear, sampler, draws=6)(KEY, {"w": w}, strings)
    noise = np.stack([sampler(KEY, draw, (w,))[0] - w for draw in range(6)])
    np.testing.assert_allclose(result.distances, np.linalg.norm(noise, axis=1), rtol=1e-5)
    expected = np.abs(noise @ strings.T / 5) / np.linalg.norm(noise, axis=1)[:, None]
    np.testing.assert_allclose(result.values, expected, atol=1e-5)
    gradients = np.linalg.norm(strings / 5, axis=1)
    assert (result.values <= gradients[None] * (1 + 1e-5)).all()
    assert result.maximum == result.values.max() > 0
    np.testing.assert_allclose(result.estimate.values, result.values.mean(1))
    assert result.estimate.count == 6


def test_a_step_along_the_gradient_attains_the_lipschitz_constant():
    strings = np.int32([[1, 0, 1, 1]])

    def along(key, draw, weights):
        return tuple(a + 0.5 * (1.0 + draw) * strings[0] for a in weights)

    result = lipschitz.lipschitz_quotients(linear, along, draws=3)(KEY, {"w": np.zeros(4, np.float32)}, strings)
    np.testing.assert_allclose(result.values, np.sqrt(3) / 4, rtol=1e-6)
    np.testing.assert_allclose(result.distances, np.sqrt(3) * np.array([0.5, 1, 1.5]), rtol=1e-6)


def test_only_chosen_weights_move_and_count():
    def apply(variables, strings):
        params, stats = variables["params"], variables["batch_stats"]
        return strings @ params["w"] + params["bias"] + stats["mean"]

    variables = {
        "params": {"w": np.zeros(3, np.float32), "bias": np.float32(0), "steps": np.int32(1)},
        "batch_stats": {"mean": np.float32(0)},
    }

    def is_bias(path, leaf):
        return path[-1].key == "bias"

    strings = strings_of(4, 3)
    only = lipschitz.lipschitz_quotients(apply, shifted, draws=3, where=is_bias)(KEY, variables, strings)
    np.testing.assert_allclose(only.values, 1, rtol=1e-6)
    every = lipschitz.lipschitz_quotients(apply, shifted, draws=3)(KEY, variables, np.zeros_like(strings))
    np.testing.assert_allclose(every.values, 1 / 2, rtol=1e-6)  # one bias and three weights move alike
    np.testing.assert_allclose(every.distances, 0.02 * np.abs(np.cos(np.arange(3))), rtol=1e-5)


def test_the_first_draws_of_many_are_the_draws_of_few():
    params, strings = {"w": np.ones(4, np.float32)}, strings_of(3, 4)
    few, many = (lipschitz.lipschitz_quotients(linear, shifted, draws=n)(KEY, params, strings) for n in (2, 5))
    np.testing.assert_allclose(many.distances[:2], few.distances, rtol=1e-5)
    np.testing.assert_allclose(many.values[:2], few.values, atol=1e-5)
    assert len(np.unique(many.distances)) == 5


# Laws


def measured(devices, **options):
    """Everything that is measured for one model, as a list of arrays."""
    rng = np.random.default_rng(5)
    params = {"in": np.float32(rng.normal(size=(4, 5))), "out": np.float32(rng.normal(size=5))}
    measure = lipschitz.lipschitz_quotients(
        perceptron, shifted, draws=5, execution=Execution(devices=devices, **options)
    )
    result = measure(KEY, params, strings_of(7, 4))
    assert (result.values.shape, result.distances.shape) == ((5, 7), (5,))
    return [result.values, result.distances]


def test_equal_bits_on_any_devices_and_backend(devices):
    reference = measured(devices[:1], chunk=15)
    for backend, number in (("shard_map", 2), ("pmap", 3), ("shard_map", 8)):
        for found, expected in zip(measured(devices[:number], chunk=15, backend=backend), reference, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_chunks_alter_results_by_rounding_only(devices):
    """In 15 forwards there are two models of seven strings, in 3 not one of them."""
    reference = measured(devices[:1], chunk=15)
    for chunk in (None, 3):
        for found, expected in zip(measured(devices[:1], chunk=chunk), reference, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_a_second_call_and_a_second_build_do_not_compile_again():
    def build():
        return lipschitz.lipschitz_quotients(linear, shifted, draws=2, execution=Execution(chunk=2))

    measure, strings = build(), strings_of(4, 3)
    measure(KEY, PARAMS, strings)
    compiled = parallel._program.cache_info().misses
    measure(KEY, PARAMS, 1 - strings)
    build()(KEY, PARAMS, strings)
    assert parallel._program.cache_info().misses == compiled


def test_the_chunk_counts_model_forwards(monkeypatch):
    """Seven strings under six models; and what fits a small budget."""
    seen, original = [], parallel.map_items
    monkeypatch.setattr(parallel, "map_items", lambda *a, **k: seen.append(k["execution"].chunk) or original(*a, **k))
    params, strings = {"w": np.ones(4, np.float32), "more": np.ones(46, np.float32)}, strings_of(7, 4)

    def chunk_of(chunk):
        return lipschitz.lipschitz_quotients(linear, shifted, draws=5, execution=Execution(chunk=chunk))(
            KEY, params, strings
        ).chunk

    assert (chunk_of(15), seen.pop()) == (15, 2)
    # In 4-byte numbers, the logit is 1 to a string, and the weights of a draw are 50.
    monkeypatch.setattr(memory, "BYTES", 800)
    assert (chunk_of(None), seen.pop()) == (200, 4)


# Diameters and the count of functions


def test_the_diameter_is_the_largest_distance_between_models():
    stacked = {"a": np.float32([[0, 0], [3, 0], [0, 1]]), "b": np.float32([0, 4, 0]), "step": np.int32([0, 100, 9])}
    assert lipschitz.diameter(stacked) == pytest.approx(np.sqrt(26))
    assert lipschitz.diameter(stacked, lambda path, leaf: path[0].key == "a") == pytest.approx(np.sqrt(10))
    assert lipschitz.diameter({"params": stacked, "batch_stats": np.float32([0, 0, 99])}) == lipschitz.diameter(stacked)
    assert lipschitz.diameter({"a": np.ones((1, 7), np.float32)}) == 0


def test_the_diameter_does_not_cancel():
    """Distances far smaller than the weights, as a Gram matrix would lose them."""
    vectors = 1000 + 2.0**-10 * np.arange(3)[:, None] * np.ones((1, 4))
    assert lipschitz.diameter([np.float32(vectors)]) == 2 * 2.0**-9


def test_corners_attain_the_diameter_of_their_box():
    corners = 1.5 * np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T
    assert lipschitz.diameter({"w": corners}) == lipschitz.box_diameter(1.5, 4) == 6
    assert lipschitz.box_diameter(0, 4) == 0


def test_the_count_bound_in_closed_form():
    assert lipschitz.log_count_bound(2.0, 3.0, 0.5, 4) == pytest.approx(4 * np.log(13))
    assert lipschitz.log_count_bound(0.0, 3.0, 0.5, 4) == 0  # one function
    assert lipschitz.log_count_bound(1e-12, 1.0, 1.0, 10) == pytest.approx(1e-11, rel=1e-9, abs=0)
    assert lipschitz.log_count_bound(1e3, 1e3, 1e-3, 10**6) == pytest.approx(10**6 * 9 * np.log(10), rel=1e-6)


def test_no_more_functions_are_recognized_than_the_bound_says():
    """``T = theta (2 x - 1)`` for one bit on [-1, 1]: C_Lip 1, diameter 2, and at margin 1/2 two functions."""
    assert np.log(2) <= lipschitz.log_count_bound(1.0, lipschitz.box_diameter(1.0, 1), 0.5, 1) == np.log(5)


# Errors


BITS = np.int32([[0, 1, 0], [1, 1, 0]])
PARAMS = {"w": np.ones(3, np.float32)}


def quotients(apply=linear, sampler=shifted, **options):
    measure = lipschitz.lipschitz_quotients(apply, sampler, **{"draws": 2, **options})
    return lambda params, strings: measure(KEY, params, strings)


def test_strings_must_be_bits_that_fit_the_model():
    for strings, message in (
        (BITS[0], r"strings must be \[b n\].*\(3,\)"),
        (BITS + 1, "got 2 for bit 1 of string 0"),
        (BITS[:, :2], "strings of 2 bits and params do not fit"),
    ):
        with pytest.raises(ValueError, match=message):
            quotients()(PARAMS, strings)
    with pytest.raises(ValueError, match=r"apply must give logits \[b\], one for each string, got ShapeDtypeStruct"):
        quotients(lambda params, strings: linear(params, strings)[:, None])(PARAMS, BITS)


def test_perturbations_must_move_something():
    with pytest.raises(ValueError, match=r"perturbation moves the weights by 0.0 in draw 0"):
        quotients(sampler=lambda key, draw, weights: weights)(PARAMS, BITS)
    with pytest.raises(ValueError, match="no real floating-point leaf to move"):
        quotients(where=lambda path, leaf: False)(PARAMS, BITS)
    with pytest.raises(ValueError, match="draws must be an integer of at least 1, got 0"):
        quotients(draws=0)
    assert quotients(draws=np.int64(2))(PARAMS, BITS).values.shape == (2, 2)


def test_logits_that_are_not_finite_are_named():
    def broken(params, strings):
        """NaN where bit 1 is set and bit 2 is not."""
        return linear(params, strings) + jnp.where((strings[:, 1] == 1) & (strings[:, 2] == 0), jnp.nan, 0.0)

    strings = np.int32([[0, 0, 0], [0, 1, 0]])
    with pytest.raises(FloatingPointError, match="logit of the unperturbed model is nan for string 1"):
        quotients(broken)(PARAMS, strings)
    with pytest.raises(FloatingPointError, match="logit of the model perturbed by draw 0 is inf for string 0"):
        quotients(lambda params, strings: jnp.where(params["w"][0] == 1, 0, jnp.inf) + 0.0 * strings[:, 0])(
            PARAMS, strings[:1]
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lipschitz.box_diameter(-1.0, 2), "half_width .*got -1.0"),
        (lambda: lipschitz.box_diameter("1", 2), "half_width .*got 1"),
        (lambda: lipschitz.box_diameter(1.0, 1.5), "parameters must be an integer of at least 1, got 1.5"),
        (lambda: lipschitz.log_count_bound(-1.0, 1.0, 1.0, 1), "lipschitz .*got -1.0"),
        (lambda: lipschitz.log_count_bound(1.0, np.inf, 1.0, 1), "diameter .*got inf"),
        (lambda: lipschitz.log_count_bound(1.0, 1.0, 0.0, 1), "margin must be a finite number above 0, got 0.0"),
        (lambda: lipschitz.log_count_bound(1.0, 1.0, 1.0, 0), "parameters .*got 0"),
        (
            lambda: lipschitz.diameter({"a": np.ones((2, 3)), "b": np.ones(3)}),
            r"stacked .*got \[\(2,\), \(3,\)\]",
        ),
        (lambda: lipschitz.diameter({"a": np.ones((0, 3))}), r"stacked .*got \[\(0,\)\]"),
        (lambda: lipschitz.diameter({"a": np.array([[1.0], [np.inf]])}), "finite numbers, got inf for model 1"),
        (lambda: lipschitz.diameter({"a": np.arange(3)}), "no real floating-point leaf"),
    ],
)
def test_numbers_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_recognizer_that_mixes_its_strings_is_refused():
    def mixed(params, strings):
        return linear(params, strings) - linear(params, strings).mean()

    strings = np.array([[0, 1, 1], [1, 0, 0]])
    params = {"w": np.float32([1, 2, 3])}
    measured = {}
    for check in (True, False):
        run = Execution(chunk=4, check=check)
        measured[check] = lipschitz.lipschitz_quotients(mixed, shifted, draws=1, execution=run)
    with pytest.raises(ValueError, match="another example is beside it"):
        measured[True](jax.random.key(0), params, strings)
    assert measured[False](jax.random.key(0), params, strings).values.shape == (1, 2)
