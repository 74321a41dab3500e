"""Law 4 for recognizers: the fast substitution is the plain one, to 1e-9 in float64, and no less exact in float32."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import substitution
from jaxsens.execution import Execution, flops
from jaxsens.models import recognizers
from jaxsens.models.recognizers import Config
from jaxsens.models.recognizers.initialization import SCHEMES
from jaxsens.models.substitution import recognizer as fast_of
from jaxsens.models.substitution import recognizer_operations
from jaxsens.models.substitution import recognizers as module
from jaxsens.sensitivity import token

# Compiling is what takes long; what LLVM makes of the program is not what is tested.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SMALL = Config(depth=3, heads=2, head_size=4, multiplier=2)


def plain_of(config, rows=None):
    return substitution.one_at_a_time(recognizers.evaluation(config), rows)


def models_and_strings(config, length, seeds=1, schemes=tuple(SCHEMES)):
    """Variables of all schemes and seeds, stacked ``[m ...]``, and a string and its alternatives for each."""
    draws = np.random.default_rng(length)

    def draw(spec):
        xavier = (6 / sum(spec.fans)) ** 0.5
        numbers = {  # in NumPy, because JAX compiles a draw for each size
            "uniform": lambda size: draws.uniform(-1, 1, size),
            "normal": draws.normal,
            "xavier_uniform": lambda size: draws.uniform(-xavier, xavier, size),
            "xavier_normal": lambda size: xavier / 3**0.5 * draws.normal(size=size),
            "uniform_10": lambda size: draws.uniform(-10, 10, size),
            "normal_10": lambda size: 10 * draws.normal(size=size),
        }
        per_scheme = [numbers["normal" if "bed" in spec.role else name](size=(seeds, *spec.shape)) for name in schemes]
        return np.concatenate(per_scheme).astype(np.float32)

    strings = draws.integers(0, 2, (2, len(schemes) * seeds, length)).astype(np.int32)
    strings[1, :, 1:] = 1 - strings[0, :, 1:]  # every bit is flipped but the first, which may stay as it is
    return {"params": jax.tree.map(draw, config.specs)}, *strings


@functools.cache
def compiled(substitute):
    return quick(substitute)


def outputs(substitute, variables, tokens, alternatives):
    """Clean and changed logits of stacked models ``[m n+1]``, in the dtype of the variables."""
    clean, changed = quick(jax.vmap(substitute))(variables, tokens, alternatives)
    return np.concatenate([np.asarray(clean)[:, None], changed], 1)


def in_float64(variables):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), variables)


def root_mean_square(x):
    """Over the logits of a model ``[m n+1]``."""
    return np.sqrt(np.mean(x**2, -1))


def random_architecture(index):
    """Depths and blocks in turn; the rest is drawn."""
    draws = np.random.default_rng(index)
    block, first = [("standard", False), ("paper", False), ("standard", True)][index % 3]
    config = Config(
        block=block,
        norm_first=first,
        depth=1 + index % 4,
        heads=int(draws.integers(1, 5)),
        head_size=int(draws.integers(3, 8)),
        multiplier=int(draws.integers(1, 4)),
        epsilon=float(draws.choice([0, 1e-5])),
    )
    return config, int(draws.integers(1, 21)), [None, 1, 3][draws.integers(3)]


@pytest.mark.parametrize("index", range(6))
def test_equals_the_plain_one_in_float64(index, float64):
    config, length, rows = random_architecture(index)
    variables, tokens, alternatives = models_and_strings(config, length)
    variables = in_float64(variables)
    expected = outputs(plain_of(config), variables, tokens, alternatives)
    found = outputs(fast_of(config, rows), variables, tokens, alternatives)
    assert found.dtype == np.float64
    scale = np.abs(expected).max(-1, keepdims=True)
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-9, err_msg=f"{config} {rows}")


@pytest.mark.parametrize(
    "config",
    [
        Config(depth=2, heads=4, head_size=8),
        Config(depth=2, heads=4, head_size=8, norm_first=True),
        Config(block="paper", depth=2, heads=2, head_size=32, multiplier=1),
    ],
    ids=["standard", "norm_first", "paper"],
)
def test_is_no_less_exact_in_float32(config):
    """The ratio of errors of one model is a toss of a coin (0.1 to 9 was seen), so that it is averaged over models."""
    variables, tokens, alternatives = models_and_strings(config, 12, seeds=16)
    with jax.enable_x64(True):
        exact = outputs(plain_of(config), in_float64(variables), tokens, alternatives)
    scale = root_mean_square(exact)
    plain, fast = (
        root_mean_square(outputs(make(config), variables, tokens, alternatives) - exact) / scale
        for make in (plain_of, fast_of)
    )
    floor = 4 * np.finfo(np.float32).eps
    ratio = np.log((fast + floor) / (plain + floor)).reshape(len(SCHEMES), -1).mean(-1)
    assert (np.exp(ratio) < 2).all(), dict(zip(SCHEMES, np.exp(ratio), strict=True))


def where_one_token_holds_all(config, length, gap):
    """A model whose first layer looks at ones alone, of which there is but one: without it, nothing is left."""
    variables = jax.tree.map(np.copy, recognizers.init(config, jax.random.key(0)))
    variables["positions"] = 0.1 * recognizers.sinusoidal_positions(length + 1, config.width).astype(np.float32)
    params = variables["params"]
    finds_ones = np.linalg.pinv(params["embedding"]) @ np.array([0, 1, 0], np.float32)
    params["layers"]["key"][0] = 0
    params["layers"]["key"][0, :, :, 0] = finds_ones[:, None]
    params["layers"]["query"][0] = 0
    params["layers"]["query_bias"][0, :, 0] = gap * config.head_size**0.5
    site = 2
    tokens = (np.arange(length) == site).astype(np.int32)
    return variables, tokens, 1 - tokens, site


def test_a_replaced_token_that_held_all_attention_has_no_effect(monkeypatch):
    """Subtracting its term from the sums would leave rounding noise: seen by leaving the protection out."""
    config = Config(depth=2, heads=2, head_size=8)
    plain, fast, naive = (quick(make(config)) for make in (plain_of, fast_of, lambda config: fast_of(config).__call__))
    for gap in (12.0, 60.0):
        *model, site = where_one_token_holds_all(config, 8, gap)
        (_, expected), (_, found) = plain(*model), fast(*model)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * scale, err_msg=f"gap {gap}")
        with monkeypatch.context() as unprotected:
            unprotected.setattr(module, "_at_maximum", lambda scores: jnp.zeros(scores.shape, bool))
            _, found = naive(*model)
        assert not abs(found[site] - expected[site]) < 2e-5 * scale, f"gap {gap}"
        others = np.arange(8) != site
        np.testing.assert_allclose(found[others], expected[others], rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize("block", ["paper", "standard"])
def test_a_replaced_token_of_large_values_has_no_effect(block, monkeypatch):
    """One coordinate of bit 0 is huge, and scores do not depend on it; the only 0 of the string is replaced."""
    config = Config(block=block, depth=2, heads=2, head_size=4)
    variables = recognizers.init(config, jax.random.key(0), "xavier_uniform")
    tokens = np.array([1, 1, 0, 1, 1, 1], np.int32)
    unprotected_one = quick(fast_of(config).__call__)  # traced in the loop, without the protection
    for ratio in (1e3, 1e5):
        params = jax.tree.map(np.array, variables["params"])
        params["embedding"][0] = ratio * np.eye(config.width)[0]
        for name in ("query", "key"):
            params["layers"][name][:, 0] = 0
        model = {"params": params}
        with jax.enable_x64(True):
            exact = float(compiled(plain_of(config))(in_float64(model), tokens, 1 - tokens)[1][2])
        plain, fast = (
            abs(float(compiled(make(config))(model, tokens, 1 - tokens)[1][2]) - exact) for make in (plain_of, fast_of)
        )
        assert fast <= 2 * plain + 4 * np.finfo(np.float32).eps * abs(exact)
        with monkeypatch.context() as unprotected:
            unprotected.setattr(module, "_extra_weight", lambda features: jnp.zeros(features.shape[1::-1]))
            naive = float(unprotected_one(model, tokens, 1 - tokens)[1][2])
        assert abs(naive - exact) > 2e-6 or ratio < 1e5


@pytest.mark.parametrize("seed", range(3))
def test_large_values_and_saturated_attention_together(seed):
    """Tokens whose values span many orders of magnitude, under scores that span as many."""
    config = Config(depth=2, heads=2, head_size=4)
    draws = np.random.default_rng(seed)
    variables = jax.tree.map(np.array, recognizers.init(config, jax.random.key(seed)))
    size = 10 ** draws.uniform(0, 4, (9, 1))
    variables["positions"] = (size * draws.normal(size=(9, config.width))).astype(np.float32)
    tokens = draws.integers(0, 2, 8).astype(np.int32)
    with jax.enable_x64(True):
        exact = np.asarray(compiled(plain_of(config))(in_float64(variables), tokens, 1 - tokens)[1])
    plain, fast = (
        np.abs(np.asarray(compiled(make(config))(variables, tokens, 1 - tokens)[1]) - exact).max()
        for make in (plain_of, fast_of)
    )
    assert fast <= 2 * plain + 4 * np.finfo(np.float32).eps * np.abs(exact).max()


def one_model(config, length=7, scheme="uniform"):
    variables, tokens, alternatives = models_and_strings(config, length, schemes=(scheme,))
    return jax.tree.map(lambda a: a[0], (variables, tokens, alternatives))


def test_replacing_a_token_by_itself_changes_nothing():
    variables, tokens, _ = one_model(SMALL)
    clean, changed = compiled(fast_of(SMALL))(variables, tokens, tokens)
    expected = quick(recognizers.evaluation(SMALL))(variables, tokens[None])[0]
    assert clean.shape == ()
    np.testing.assert_allclose([clean, *changed], [expected] * 8, rtol=1e-5)


def test_the_end_of_string_is_a_token_too():
    """An alternative may be any symbol, not a flip alone."""
    variables, tokens, _ = one_model(SMALL)
    alternatives = np.full_like(tokens, recognizers.EOS)
    expected = compiled(plain_of(SMALL))(variables, tokens, alternatives)[1]
    np.testing.assert_allclose(compiled(fast_of(SMALL))(variables, tokens, alternatives)[1], expected, rtol=1e-4)


def test_without_epsilon_a_constant_row_stays_zero():
    """Its normalizer is infinite, and what it is multiplied with is zero: all rows but the end of string's are such."""
    config = Config(depth=2, heads=2, head_size=4, multiplier=2, epsilon=0)
    params = jax.tree.map(lambda spec: np.full(spec.shape, spec.role == "gain", np.float32), config.specs)
    params["embedding"][:] = [[3.0] * 8, [5.0] * 8, np.arange(8)]
    params["layers"]["value"][1], params["layers"]["out"][1] = 1, np.arange(8)
    params["readout"]["weight"][:] = np.arange(8) == 7
    tokens = np.arange(4, dtype=np.int32) % 2
    variables = {"params": params, "positions": np.zeros((5, 8), np.float32)}
    clean, changed = quick(fast_of(config))(variables, tokens, 1 - tokens)
    expected = quick(plain_of(config))(variables, tokens, 1 - tokens)
    assert np.isfinite(expected[1]).all()
    np.testing.assert_allclose([clean, *changed], [expected[0], *expected[1]], rtol=1e-5)


def test_depth_as_data_equals_depth_as_shape():
    """One program, for models of one layer to as many as it holds."""
    most = dataclasses.replace(SMALL, depth=4)
    padded_fast = quick(fast_of(most, rows=3))
    for depth in (1, 3, 4):
        variables, tokens, alternatives = one_model(dataclasses.replace(SMALL, depth=depth))
        expected = compiled(plain_of(dataclasses.replace(SMALL, depth=depth)))(variables, tokens, alternatives)
        found = padded_fast(recognizers.at_depth(variables, 4), tokens, alternatives)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(expected[1]).max(), err_msg=f"depth {depth}")
    assert padded_fast._cache_size() == 1


def test_sensitivity_is_equal_with_plain_and_fast_substitution():
    config = Config(depth=2, heads=1, head_size=6, multiplier=1)
    variables, *_ = one_model(config)
    strings = np.random.default_rng(1).integers(0, 2, (6, 7)).astype(np.int32)
    options = {
        "change": lambda clean, changed: changed - clean,
        "execution": Execution(chunk=16, devices=jax.devices()[:1]),
    }
    plain, fast = (
        token.token_sensitivity(make(config, 4), lambda key, draw, x: 1 - x, **options)(
            jax.random.key(0), variables, strings
        )
        for make in (plain_of, fast_of)
    )
    assert np.abs(plain.changes).min() > 1e-4
    np.testing.assert_allclose(fast.changes, plain.changes, rtol=0, atol=2e-6)


@pytest.mark.parametrize("sites", [None, 9])
@pytest.mark.parametrize(
    "config",
    [
        Config(depth=2, heads=4, head_size=32),
        Config(depth=4, heads=4, head_size=32),
        Config(block="paper", depth=3, heads=2, head_size=32, multiplier=1),
    ],
    ids=str,
)
def test_operations_are_those_of_the_programs(config, sites):
    length, inputs = 100, 1 + (sites or 100)
    params = jax.tree.map(lambda spec: jax.ShapeDtypeStruct(spec.shape, np.float32), config.specs)
    string = jax.ShapeDtypeStruct((length,), np.int32)
    few = () if sites is None else (None, jax.ShapeDtypeStruct((sites,), np.int32))
    plain, shared = (
        flops.count(make(config), {"params": params}, string, string, *few).operations for make in (plain_of, fast_of)
    )
    said_plain, said_shared = recognizer_operations(config, config.depth, length, sites)
    assert plain - 2 * config.width * inputs == said_plain  # all but the read-out
    hidden = config.multiplier * config.width + (config.width if config.standard else 0)
    mixing = 7 * (length + 1) * inputs * config.heads * hidden  # in a loop without matrix products
    np.testing.assert_allclose(shared + mixing, said_shared, rtol=0.002)


def test_a_few_sites_are_rows_of_the_whole():
    variables, tokens, alternatives = one_model(SMALL)
    clean, changed = compiled(fast_of(SMALL))(variables, tokens, alternatives)
    sites = np.array([5, 0, 5, 2])
    found = quick(fast_of(SMALL, 3))(variables, tokens, alternatives, None, sites)
    np.testing.assert_allclose(found[0], clean, rtol=1e-4)
    np.testing.assert_allclose(found[1], changed[sites], rtol=1e-4)
    with pytest.raises(ValueError, match="sites must be a vector of integers from 0 to 6"):
        fast_of(SMALL)(variables, tokens, alternatives, None, np.array([7]))


def test_equal_arguments_make_equal_functions():
    again = Config(**vars(SMALL))
    assert fast_of(again, 3) == fast_of(SMALL, 3)
    assert hash(fast_of(again)) == hash(fast_of(SMALL))
    assert fast_of(SMALL, 3) != fast_of(SMALL)
    assert fast_of(SMALL) != fast_of(dataclasses.replace(SMALL, multiplier=3))


def test_bad_arguments_are_named():
    variables, tokens, alternatives = one_model(SMALL)
    for rows in (0, -1):
        with pytest.raises(ValueError, match=f"rows must be at least 1, or None for all at once, got {rows}"):
            fast_of(SMALL, rows)
    with pytest.raises(
        ValueError, match=r"alternatives must have the shape and dtype of the tokens, \(7,\) int32, got"
    ):
        fast_of(SMALL)(variables, tokens, alternatives[:3])
    with pytest.raises(ValueError, match=r"got \(7,\) int64"):
        fast_of(SMALL)(variables, tokens, alternatives.astype(np.int64))
    with pytest.raises(ValueError, match="mask must be None"):
        fast_of(SMALL)(variables, tokens, alternatives, np.ones(7, bool))
    with pytest.raises(ValueError, match="strings' dtype is 'float32', but must be int32"):
        fast_of(SMALL)(variables, tokens.astype(np.float32), alternatives.astype(np.float32))
    with pytest.raises(ValueError, match=r"\['embedding'\] is \(3, 8\), but must be \(3, 12\)"):
        fast_of(Config(depth=3, heads=3, head_size=4))(variables, tokens, alternatives)
