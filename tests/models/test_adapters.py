"""Adapters: measures of an adapted model equal those of the function written by hand, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxsens
from jaxsens import curvature, parameters
from jaxsens.data.patches import to_patches
from jaxsens.models import pretrained
from jaxsens.models.text import bert, encoder
from jaxsens.sharpness.classification import CrossEntropy

KEY = jax.random.key(0)
TOKENS = np.random.default_rng(0).normal(size=(8, 3, 4)).astype(np.float32)
LABELS = np.arange(8) % 3


class Net(nnx.Module):
    """A model in training mode, with all that is not trained: statistics, keys, a constant array."""

    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.first, self.norm = nnx.Linear(4, 5, rngs=rngs), nnx.BatchNorm(5, rngs=rngs)
        self.dropout, self.last = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)
        self.norm.mean[...] += 0.3
        self.offset = jnp.full((1, 1, 4), 0.1)

    def __call__(self, tokens):
        return self.last(self.hidden(tokens).mean(1))

    def hidden(self, tokens):
        return jax.nn.gelu(self.dropout(self.norm(self.first(tokens + self.offset))))

    def states(self, tokens):
        return self.hidden(tokens)[None]


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, tokens, mask=None, train=True):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(5)(tokens))
        x = jax.nn.gelu(linen.Dropout(0.5, deterministic=not train)(x))
        count = tokens.shape[1] if mask is None else mask.sum(1, keepdims=True)
        return linen.Dense(3)((x if mask is None else x * mask[..., None]).sum(1) / count)


def by_nnx():
    model = Net(0)
    copy = nnx.clone(model)
    copy.eval()
    graph, params, rest = nnx.split(copy, nnx.Param, ...)
    return jaxsens.from_nnx(model), (lambda params, x: nnx.merge(graph, params, rest)(x), params)


def by_linen():
    module = LinenNet()
    variables = module.init({"params": KEY, "dropout": KEY}, TOKENS)
    variables = variables | {"batch_stats": jax.tree.map(lambda a: a + 0.3, variables["batch_stats"])}
    return jaxsens.from_linen(module, variables), (lambda params, x: module.apply(params, x, train=False), variables)


def by_equinox():
    equinox = pytest.importorskip("equinox")
    parts = equinox.nn.Linear(4, 5, key=KEY), equinox.nn.Dropout(0.5), equinox.nn.Linear(5, 3, key=KEY)

    class EquinoxNet(equinox.Module):
        first: equinox.nn.Linear = parts[0]
        dropout: equinox.nn.Dropout = parts[1]
        last: equinox.nn.Linear = parts[2]

        def __call__(self, tokens):
            return self.last(self.dropout(jax.nn.gelu(jax.vmap(self.first)(tokens))).mean(0))

    params, static = equinox.partition(equinox.nn.inference_mode(EquinoxNet()), equinox.is_inexact_array)
    return jaxsens.from_equinox(EquinoxNet()), (lambda p, x: jax.vmap(equinox.combine(p, static))(x), params)


def measures(apply, params, all_of_them):
    """What measures of every kind give, as arrays; on one device, which compiles soonest."""
    loss, noise = CrossEntropy(apply), jaxsens.perturb.gaussian(0.1)
    squared, batch = jaxsens.changes.squared_change, (TOKENS, LABELS)
    one, here = jaxsens.one_at_a_time(apply), {"execution": jaxsens.Execution(devices=jax.devices()[:1])}
    yield jaxsens.token_sensitivity(one, noise, change=squared, **here)(KEY, params, TOKENS).values
    yield jaxsens.average_sharpness(loss, noise, draws=2, **here)(KEY, params, batch).values
    if not all_of_them:  # the two before evaluate; products with the Hessian differentiate twice
        return
    product = curvature.hessian_product(loss, **here)
    yield curvature.top_eigenpairs(product, 1, steps=4, tolerance=1.0)(KEY, params, batch).values


@pytest.mark.parametrize("kind", [by_nnx, by_linen, by_equinox])
def test_every_measure_equals_that_of_the_plain_function(kind):
    (apply, params), (plain, plain_params) = kind()
    whole = kind is by_nnx
    for adapted, expected in zip(measures(apply, params, whole), measures(plain, plain_params, whole), strict=True):
        assert np.all(np.isfinite(expected))
        assert np.any(np.asarray(expected) != 0)
        np.testing.assert_allclose(adapted, expected, rtol=1e-4, atol=1e-6)  # compiled apart


def test_of_nnx_only_params_move_and_the_model_stays_in_training_mode():
    model = Net(0)
    _, params = jaxsens.from_nnx(model)
    moved = [leaf.shape for leaf in parameters.weights(params)[0]]
    assert moved == [leaf.shape for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(map(np.prod, moved)) + 2 * 5
    assert (model.dropout.deterministic, model.norm.use_running_average) == (False, False)
    assert jnp.issubdtype(nnx.state(model, nnx.RngKey)["dropout"]["rngs"]["key"][...].dtype, jax.dtypes.prng_key)


def test_models_of_several_seeds_are_one_function_and_can_be_stacked():
    adapted = [jaxsens.from_nnx(Net(seed)) for seed in (0, 1)]
    (first, params), (second, other) = adapted
    assert first == second
    assert hash(first) == hash(second)
    assert first != jaxsens.from_nnx(Net(0), method="hidden")[0]
    changed = Net(0)
    changed.offset = changed.offset + 1
    assert first != jaxsens.from_nnx(changed)[0]
    measure = jaxsens.output_sharpness(first, jaxsens.perturb.gaussian(0.1), draws=2)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, other)
    for estimate, each in zip(measure.over_models(KEY, stacked, TOKENS), (params, other), strict=True):
        np.testing.assert_allclose(estimate.values, measure(KEY, each, TOKENS).values, rtol=1e-5)


def test_hidden_states_of_a_method_give_embedding_shifts():
    encode, params = jaxsens.from_nnx(Net(0), method="states")
    shifts = jaxsens.embedding_shifts(encode)(params, TOKENS, TOKENS + 1)
    graph, state = nnx.split(Net(0))
    model = nnx.merge(graph, state)
    model.eval()
    plain = jaxsens.embedding_shifts(lambda params, x, mask=None: nnx.merge(*nnx.split(model)).states(x))
    np.testing.assert_allclose(
        shifts.estimate("l2").mean, plain(None, TOKENS, TOKENS + 1).estimate("l2").mean, rtol=1e-4
    )


def test_a_mask_reaches_a_model_that_takes_one_and_no_other():
    (apply, params), _ = by_linen()
    mask = np.array([[True, True, False]] * 8)
    np.testing.assert_allclose(apply(params, TOKENS, mask), apply(params, TOKENS[:, :2]), rtol=1e-5)
    measure = jaxsens.token_sensitivity(jaxsens.one_at_a_time(apply), jaxsens.perturb.gaussian(0.1))
    assert np.isnan(measure(KEY, params, TOKENS, mask).per_token[2])
    without, params = jaxsens.from_nnx(Net(0))
    with pytest.raises(ValueError, match=r"Net.__call__ takes no mask: leave mask out"):
        without(params, TOKENS, mask)


class Attention(nnx.Module):
    """A model whose random counts move at every call, also in evaluation mode, with layers in a loop."""

    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.embedding, self.last = nnx.Embed(5, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 4, dropout_rate=0.5, decode=False, rngs=rngs)
        self.layers = nnx.vmap(lambda rngs: nnx.Linear(4, 4, rngs=rngs))(nnx.Rngs(0).split(2))

    def __call__(self, ids, mask=None, train: bool = True, noise: float = 0.0):
        x = self.embedding(ids)
        x = self.attention(x, mask=None if mask is None else mask[:, None, None], deterministic=not train)
        x = nnx.scan(lambda layer, x: layer(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(self.layers, x)
        return self.last(x[:, 0] + noise * jax.random.normal(self.attention.rngs(), x[:, 0].shape))


def test_nnx_models_run_inside_of_loops_and_random_ones_are_refused():
    ids, mask = np.arange(12).reshape(4, 3) % 5, np.arange(3) < np.array([[3], [2], [1], [3]])
    apply, params = jaxsens.from_nnx(Attention(0))
    in_blocks, replaced = jaxsens.one_at_a_time(apply, rows=2), jaxsens.perturb.replace_uniform(5)
    squared = jaxsens.changes.squared_change
    found = jaxsens.token_sensitivity(in_blocks, replaced, change=squared)(KEY, params, ids, mask)
    at_once = jaxsens.token_sensitivity(jaxsens.one_at_a_time(apply), replaced, change=squared)
    np.testing.assert_allclose(found.values, at_once(KEY, params, ids, mask).values, rtol=1e-4)
    noisy, params = jaxsens.from_nnx(Attention(0), noise=1.0)
    with pytest.raises(ValueError, match="at another place in the batch"):
        jaxsens.token_sensitivity(jaxsens.one_at_a_time(noisy), replaced)(KEY, params, ids)


def test_images_are_tokens_of_patches():
    images = np.random.default_rng(0).normal(size=(5, 4, 4, 2)).astype(np.float32)

    def model(w, images):
        return jax.lax.conv(images.transpose(0, 3, 1, 2), w, (1, 1), "SAME").mean((2, 3))

    w = np.random.default_rng(1).normal(size=(3, 2, 3, 3)).astype(np.float32)
    for shape in (None, (4, 4, 2)):
        apply = jaxsens.from_images(model, 2, shape)
        np.testing.assert_array_equal(apply(w, to_patches(images, 2)), model(w, images))
    wide = jaxsens.from_images(model, 2, (2, 8, 2))
    np.testing.assert_array_equal(
        wide(w, to_patches(images.reshape(5, 2, 8, 2), 2)), model(w, images.reshape(5, 2, 8, 2))
    )
    assert apply == jaxsens.from_images(model, 2, [4, 4, 2])
    one = jaxsens.one_at_a_time(apply)
    _, changed = one(w, to_patches(images[0], 2), to_patches(np.zeros_like(images[0]), 2))
    masked = images[0].copy()
    masked[:2, 2:] = 0  # patch 1
    np.testing.assert_allclose(changed[1], model(w, masked[None])[0], rtol=1e-6)
    square = r"\(5, 3, 8\), but must be the patches of side 2 of square images"
    for bad, call in (
        (square, lambda: jaxsens.from_images(model, 2)(w, np.zeros((5, 3, 8)))),
        ("takes no mask", lambda: apply(w, to_patches(images, 2), np.ones((5, 4), bool))),
        ("multiples of the patch, 3", lambda: jaxsens.from_images(model, 3, (4, 4, 2))),
        ("patch must be an integer", lambda: jaxsens.from_images(model, 0)),
        ("apply must be a function", lambda: jaxsens.from_images("cnn", 2)),
    ):
        with pytest.raises(ValueError, match=bad):
            call()


def test_a_folder_gives_outputs_or_states(tmp_path):
    config = bert.Config(vocabulary=7, positions=6, width=8, depth=1, heads=2, hidden=8, read_out="mean")
    module = bert.Bert(config)
    variables = encoder.init(module, KEY)
    pretrained.save(tmp_path, module, variables)
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    apply, params = jaxsens.from_pretrained(tmp_path, read_out="mean")
    encode, _ = jaxsens.from_pretrained(tmp_path, read_out="mean", states=True)
    np.testing.assert_array_equal(apply(params, ids), module.apply(variables, ids))
    np.testing.assert_array_equal(encode(params, ids), encoder.hidden_states(module)(variables, ids))


class Two(nnx.Module):
    def __call__(self, x, other):
        return x + other


def test_what_is_no_such_model_is_refused_with_the_adapter_that_is_right():
    nnx_model, linen_model = Net(0), linen.Dense(3)
    nnx_of, linen_of = jaxsens.from_nnx, jaxsens.from_linen
    for message, call in (
        ("model is of type Dense, but must be a module of Flax NNX: use from_linen", lambda: nnx_of(linen_model)),
        ("model is the class Net, but must be a module of Flax NNX: make one", lambda: nnx_of(Net)),
        ("module is of type Net, .* use from_nnx", lambda: linen_of(nnx_model, {})),
        ("a dict of .*kernel.*, but must be what module.init", lambda: linen_of(linen_model, {"kernel": 1})),
        ("method is 'nope', but must be the name of a method of Net", lambda: nnx_of(nnx_model, method="nope")),
        (r"Two.__call__ needs the argument other: .* from_nnx\(..., other=...\)", lambda: nnx_of(Two())),
        ("other is .* must be hashable", lambda: nnx_of(Two(), other=np.ones(2))),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    apply, params = jaxsens.from_nnx(Two(), other=2)
    np.testing.assert_array_equal(apply(params, jnp.ones(3)), 3 * np.ones(3))


def test_without_equinox_the_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "equinox", None)
    with pytest.raises(ImportError, match="needs the package equinox: pip install equinox"):
        jaxsens.from_equinox(None)


def test_equinox_states_and_integers_do_not_move():
    equinox = pytest.importorskip("equinox")
    model, state = equinox.nn.make_with_state(equinox.nn.BatchNorm)(4, "batch", mode="ema")
    apply, params = jaxsens.from_equinox(model, state)
    assert [leaf.shape for leaf in parameters.weights(params)[0]] == [(4,), (4,)]
    assert apply(params, TOKENS[:, 0]).shape == (8, 4)
    jaxsens.execution.require_independent(apply, params, TOKENS[:, 0])
    one, other = (jaxsens.from_equinox(equinox.nn.MLP(4, 3, 5, 1, key=jax.random.key(seed)))[0] for seed in (0, 1))
    assert one == other
    assert hash(one) == hash(other)
