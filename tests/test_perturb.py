import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsens
from jaxsens import perturb, scales, substitution

KEY = jax.random.key(0)


def draws(sampler, x, number=4000, key=KEY):
    return jax.vmap(lambda draw: sampler(key, draw, x))(jnp.arange(number))


@pytest.mark.parametrize("variance", [0.25, 5.0])
def test_gaussian_moments(variance):
    x = jnp.arange(6.0).reshape(2, 3)
    noise = (draws(perturb.gaussian(variance), x) - x[None]).reshape(-1, 6)
    tolerance = 5 * variance / np.sqrt(len(noise))
    np.testing.assert_allclose(noise.mean(0), 0, atol=5 * np.sqrt(variance / len(noise)))
    np.testing.assert_allclose(np.cov(noise.T), variance * np.eye(6), atol=1.5 * tolerance)
    np.testing.assert_allclose((noise**4).mean() / variance**2, 3, atol=0.2)


def test_zero_variance_leaves_x_unchanged():
    x = {"a": jnp.arange(3.0), "b": jnp.float32(2)}
    chex.assert_trees_all_equal(perturb.gaussian(0)(KEY, 0, x), x)


def test_replacement_is_uniform_and_may_draw_the_token_itself():
    tokens = jnp.array([0, 3, 4], jnp.int32)
    replaced = np.asarray(draws(perturb.replace_uniform(5), tokens, 5000))
    assert replaced.dtype == np.int32
    for site in range(3):
        np.testing.assert_allclose(np.bincount(replaced[:, site], minlength=5) / 5000, 0.2, atol=0.03)


@pytest.mark.parametrize("sampler", [perturb.gaussian(1.0), perturb.replace_uniform(100)])
def test_draws_hang_on_key_draw_and_site_only(sampler):
    dtype = jnp.float32 if isinstance(sampler, perturb.Gaussian) else jnp.int32
    long, short = jnp.zeros((9, 2), dtype), jnp.zeros((5, 2), dtype)
    np.testing.assert_array_equal(sampler(KEY, 3, long)[:5], sampler(KEY, 3, short))
    np.testing.assert_array_equal(draws(sampler, short, 8)[:4], draws(sampler, short, 4))
    np.testing.assert_array_equal(jax.jit(sampler)(KEY, 3, short), sampler(KEY, 3, short))
    one = np.asarray(sampler(KEY, 3, short))
    for other in (sampler(KEY, 4, short), sampler(jax.random.key(1), 3, short)):
        assert (one != other).mean() > 0.9
    assert len(np.unique(one[:, 0])) == 5


def test_leaves_have_independent_noise():
    weights = {"a": jnp.zeros((40, 30)), "b": jnp.ones((40, 30)), "c": jnp.zeros(())}
    moved = perturb.gaussian(1.0)(KEY, 0, weights)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, weights)
    noise = jax.tree.leaves(jax.tree.map(lambda m, w: np.ravel(m - w).astype(np.float32), moved, weights))
    noise = np.concatenate(noise)
    correlation = np.corrcoef(noise[:1200], noise[1200:2400])
    np.testing.assert_allclose(correlation, np.eye(2), atol=0.15)
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1], atol=0.1)
    again = perturb.gaussian(1.0)(KEY, 1, weights)
    assert not np.allclose(again["a"], moved["a"])


def test_dtype_is_kept(float64):
    for dtype in (jnp.float64, jnp.float32):
        assert perturb.gaussian(1.0)(KEY, 0, jnp.zeros(3, dtype)).dtype == dtype


def test_a_sweep_over_variances_compiles_once():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def noisy(sampler):
        return sampler(KEY, 0, jnp.zeros(3))

    one, four = noisy(perturb.gaussian(1.0)), noisy(perturb.gaussian(4.0))
    np.testing.assert_allclose(four, 2 * one, rtol=1e-6)


def test_samplers_are_arguments_of_compiled_functions_and_so_are_plain_functions():
    compiled = []

    @jax.jit
    def moved(sampler, x):
        compiled.append(sampler)
        return sampler(jax.random.key(0), jnp.uint32(0), x)

    def flip(key, draw, x):
        return 1 - x

    x = np.ones((3, 2), np.float32)
    for variance in (2.0, 9.0):
        sampler = perturb.gaussian(variance)
        assert perturb.as_pytree(sampler) is sampler
        np.testing.assert_allclose(
            moved(sampler, x), sampler(jax.random.key(0), jnp.uint32(0), x), rtol=1e-5, atol=1e-6
        )
    for _ in range(2):
        np.testing.assert_array_equal(moved(perturb.as_pytree(flip), x), 1 - x)
    assert len(compiled) == 2  # one for both variances, one for the function


@pytest.mark.parametrize("variance", [-1.0, np.nan, np.inf])
def test_variance_is_checked(variance):
    with pytest.raises(ValueError, match="variance must be a finite number of at least 0"):
        perturb.gaussian(variance)


@pytest.mark.parametrize("vocabulary", [1, 0, 2.5, True, "5"])
def test_vocabulary_is_checked(vocabulary):
    with pytest.raises(ValueError, match="vocabulary must be an integer of at least 2"):
        perturb.replace_uniform(vocabulary)


def test_samplers_refuse_tokens_of_the_wrong_kind():
    with pytest.raises(ValueError, match="use replace_uniform for ids"):
        perturb.gaussian(1.0)(KEY, 0, jnp.zeros(3, jnp.int32))
    with pytest.raises(ValueError, match="use gaussian for vectors"):
        perturb.replace_uniform(5)(KEY, 0, jnp.zeros(3))
    for dtype in (jnp.float16, jnp.bfloat16):
        for sampler in SAMPLERS.values():
            with pytest.raises(ValueError, match=rf"float32 or float64, got {jnp.dtype(dtype)}.*cast x to float32"):
                sampler(KEY, 0, jnp.zeros(3, dtype))


def test_ids_hold_the_whole_vocabulary_or_are_refused():
    assert perturb.replace_uniform(np.int64(128)) == perturb.replace_uniform(128)
    replaced = draws(perturb.replace_uniform(128), jnp.zeros(64, jnp.int8), 200)
    assert (replaced.min(), replaced.max(), replaced.dtype) == (0, 127, np.int8)
    for vocabulary, dtype in ((129, jnp.int8), (50_257, jnp.int16)):
        with pytest.raises(
            ValueError, match=f"holds {vocabulary - 1}, .*got {jnp.dtype(dtype)}: cast the ids to int32"
        ):
            perturb.replace_uniform(vocabulary)(KEY, 0, jnp.zeros(3, dtype))


def test_keys_that_draw_by_the_chunk_are_refused():
    for sampler in (perturb.gaussian(1.0), perturb.relative(perturb.sphere(1.0), scales.by_leaf)):
        with pytest.raises(ValueError, match="threefry2x32, got rbg"):
            jax.vmap(lambda draw, s=sampler: s(jax.random.key(0, impl="rbg"), draw, jnp.zeros(3)))(jnp.arange(2))


WEIGHTS = (jnp.array([[1.0, -2.0], [3.0, 4.0]]), jnp.array([0.0, 5.0]))
SAMPLERS = {
    "gaussian": perturb.gaussian(0.5),
    "uniform": perturb.uniform(0.6),
    "sphere": perturb.sphere(3.0),
    "pairs": perturb.antithetic(perturb.gaussian(0.5)),
    "adaptive": perturb.relative(perturb.gaussian(0.04), scales.by_element),
    "adaptive pairs": perturb.relative(perturb.antithetic(perturb.gaussian(0.04)), scales.by_element),
}


@pytest.fixture(scope="module")
def noise():
    """What every sampler adds to the weights ``[4000 6]``, all from one program."""

    @jax.jit
    def sample(draws):
        def one(draw):
            moved = {name: sampler(KEY, draw, WEIGHTS) for name, sampler in SAMPLERS.items()}
            steps = {name: jax.tree.map(jnp.subtract, m, WEIGHTS) for name, m in moved.items()}
            return {name: jnp.concatenate([jnp.ravel(leaf) for leaf in step]) for name, step in steps.items()}

        return jax.vmap(one)(draws)

    return jax.tree.map(np.asarray, sample(jnp.arange(4000, dtype=jnp.uint32)))


def test_uniform_noise_fills_its_interval_evenly(noise):
    found = noise["uniform"]
    assert np.abs(found).max() <= 0.6 + 1e-6
    np.testing.assert_allclose(np.cov(found.T), 0.12 * np.eye(6), atol=0.01)
    np.testing.assert_allclose(np.histogram(found, 4, (-0.6, 0.6))[0] / found.size, 0.25, atol=0.01)


def test_a_sphere_is_met_at_its_radius_in_all_directions(noise):
    found = noise["sphere"]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 3, rtol=1e-5)
    np.testing.assert_allclose(np.cov(found.T), 9 / 6 * np.eye(6), atol=0.1)
    np.testing.assert_allclose(found.mean(0), 0, atol=0.1)


@pytest.mark.parametrize("name", ["pairs", "adaptive pairs"])
def test_antithetic_draws_are_mirror_images_of_the_samplers_draws(noise, name):
    np.testing.assert_allclose(noise[name][::2], -noise[name][1::2], atol=1e-6)
    if name == "pairs":
        np.testing.assert_array_equal(noise[name][::2], noise["gaussian"][:2000])
    assert perturb.dependent_draws(SAMPLERS[name]) == 2
    assert perturb.dependent_draws(SAMPLERS["adaptive"]) == perturb.dependent_draws(lambda key, draw, x: x) == 1


def test_relative_noise_has_the_size_of_what_it_moves(noise):
    sizes = np.abs([1, -2, 3, 4, 0, 5])
    np.testing.assert_allclose(noise["adaptive"].std(0), 0.2 * sizes, rtol=0.05)
    assert not noise["adaptive"][:, 4].any()


def test_wrapped_samplers_share_compiled_code_and_check_what_they_wrap():
    other = perturb.relative(perturb.antithetic(perturb.gaussian(9.0)), scales.by_element)
    mine, others = (jax.tree.flatten(perturb.as_pytree(s)) for s in (SAMPLERS["adaptive pairs"], other))
    assert mine[0] == [0.04]
    assert others == ([9.0], mine[1])
    with pytest.raises(ValueError, match="sampler must have independent draws"):
        perturb.antithetic(SAMPLERS["pairs"])
    with pytest.raises(ValueError, match="relative already"):
        perturb.relative(perturb.antithetic(SAMPLERS["adaptive"]), scales.by_leaf)
    for sampler in SAMPLERS.values():
        with pytest.raises(ValueError, match=r"needs floating-point x, got int32"):
            sampler(KEY, 0, jnp.zeros(3, jnp.int32))


@pytest.mark.parametrize("build", [perturb.uniform, perturb.sphere])
def test_sizes_of_noise_are_checked_and_zero_moves_nothing(build):
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="must be a finite number of at least 0"):
            build(bad)
    chex.assert_trees_all_equal(build(0)(KEY, 0, WEIGHTS), WEIGHTS)


def test_a_baseline_has_the_place_of_every_token():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)), jnp.float32)
    mean = np.array([0.5, -1])
    for value, expected in ((0, [0, 0]), (mean, mean), (jnp.float32(2), [2, 2])):
        found = perturb.baseline(value)(jax.random.key(0), 0, x)
        np.testing.assert_array_equal(found, np.broadcast_to(expected, (5, 2)))
        assert found.dtype == x.dtype
    assert perturb.baseline(103)(jax.random.key(0), 1, jnp.arange(4, dtype=jnp.int16)).tolist() == [103] * 4
    flips = substitution.one_at_a_time(lambda w, tokens: tokens.sum((1, 2)))
    measure = jaxsens.token_sensitivity(flips, perturb.baseline(0.0), change=lambda a, b: a - b)
    np.testing.assert_allclose(measure(jax.random.key(0), None, x[None]).values[0], x.sum(1), atol=1e-6)
    for value in (np.nan, "0", [1, 2], True, np.array(["a"])):
        with pytest.raises(ValueError, match="value must be a finite number"):
            perturb.baseline(value)
    for value, tokens in ((0.5, jnp.arange(3)), (mean, jnp.zeros((4, 3))), (np.zeros((4, 2)), jnp.zeros((4, 2)))):
        with pytest.raises(ValueError, match="value must be a number or have the shape"):
            perturb.baseline(value)(jax.random.key(0), 0, tokens)


def test_tokens_of_other_examples_stay_at_their_position_and_are_equally_likely():
    pool = np.arange(12).reshape(4, 3) * 10
    mask = np.array([[True, True, True], [True, True, False], [True, False, False], [True, True, True]])
    sampler = perturb.other_example(pool, mask)
    draws = jnp.arange(4000, dtype=jnp.uint32)
    found = np.asarray(jax.jit(jax.vmap(lambda draw: sampler(jax.random.key(1), draw, jnp.asarray(pool[0]))))(draws))
    for position in range(3):
        values, counts = np.unique(found[:, position], return_counts=True)
        np.testing.assert_array_equal(values, pool[mask[:, position], position])
        np.testing.assert_allclose(counts / 4000, 1 / len(values), atol=0.03)
    assert abs(np.corrcoef(found[:, 0], found[:, 1])[0, 1]) < 0.07
    vectors = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    replaced = perturb.other_example(vectors)(jax.random.key(0), 0, jnp.asarray(vectors[0]))
    assert all(any(np.array_equal(replaced[i], vectors[k, i]) for k in range(3)) for i in range(2))
    measure = jaxsens.token_sensitivity(
        substitution.one_at_a_time(lambda w, tokens, mask: tokens.sum(1)), sampler, change=lambda a, b: a != b, draws=4
    )
    assert measure(jax.random.key(0), None, pool.astype(np.int32), mask).mean > 0.3
    for arguments, message in (
        ((pool[:1],), "two examples or more"),
        ((pool, mask.astype(int)), "mask must be booleans"),
        ((pool, mask[:, :2]), "mask must be booleans"),
        ((pool, mask & [True, False, True]), "no example has a real token at position 1"),
    ):
        with pytest.raises(ValueError, match=message):
            perturb.other_example(*arguments)
    with pytest.raises(ValueError, match="as many as those of the examples drawn from, 3, got 2"):
        sampler(jax.random.key(0), 0, jnp.zeros(2, jnp.int32))
    with pytest.raises(ValueError, match="kind of the tokens, int32, got float32"):
        perturb.other_example(vectors[..., 0])(jax.random.key(0), 0, jnp.zeros(2, jnp.int32))


def test_clipped_noise_stays_in_its_range_and_is_the_noise_inside():
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (50, 2)), jnp.float32)
    plain, high = perturb.gaussian(1.0), np.array([1.0, 0.5])
    moved, found = (sampler(jax.random.key(0), 3, x) for sampler in (plain, perturb.clipped(plain, -1, high)))
    np.testing.assert_array_equal(found, np.clip(moved, -1, high.astype(np.float32)))
    assert (np.asarray(found) == -1).any()
    assert perturb.dependent_draws(perturb.clipped(perturb.antithetic(plain), -1, 1)) == 2
    assert jax.tree.leaves(perturb.as_pytree(perturb.clipped(plain, -1, 1))) == [1.0, -1, 1]
    for low, end in ((1, 1), (np.array([0, 2]), 1), (2, -2)):
        with pytest.raises(ValueError, match="low must be below high"):
            perturb.clipped(plain, low, end)
    with pytest.raises(ValueError, match="high must be a finite number"):
        perturb.clipped(plain, 0, np.inf)
    with pytest.raises(ValueError, match="sampler must be a function"):
        perturb.clipped(0.5, 0, 1)
