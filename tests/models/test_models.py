"""Models as laws: what masks, permutations, dtypes and gradients must do whatever the parameters.

The file is long because its tests share models and compiled programs.
"""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import lax

from jaxsens import models
from jaxsens.data.patches import from_patches, to_patches
from jaxsens.models import transformer
from jaxsens.models.images import cnn, convmixer, convnext, densenet, mlp, resnet, simple_vit, small_data_vit, vit

SMALL = {"image_shape": (8, 8, 1), "classes": 10, "patch": 2}
TINY = {"image_shape": (8, 8, 2), "classes": 3, "patch": 2}
TINY_VIT = {**TINY, "width": 16, "depth": 1, "heads": 2, "hidden": 24}

TINY_MODULES = {
    "vit": vit.ViT(vit.Config(**TINY_VIT)),
    "vit class": vit.ViT(
        vit.Config(**TINY_VIT, pool="class", positions="sinusoidal", head_dim=5, normalize_patches=True)
    ),
    "vit small data": small_data_vit.SmallDataViT(small_data_vit.Config(**TINY_VIT)),
    "vit simple": simple_vit.SimpleViT(simple_vit.Config(**TINY_VIT)),
    "mlp": mlp.MLP(mlp.Config(**TINY, hidden=(16, 8))),
    "cnn": cnn.CNN(cnn.Config(**TINY, channels=(6, 6), hidden=(16,))),
    "convmixer": convmixer.ConvMixer(convmixer.Config(**TINY, width=8, depth=1, stem=1)),
    "convnext": convnext.ConvNeXt(convnext.Config(**TINY, stem=1, kernel=3, widths=(6, 8), depths=(1, 1))),
    "resnet": resnet.ResNet(resnet.Config(**TINY, width=4, blocks=(1, 1))),
    "densenet": densenet.DenseNet(densenet.Config(**TINY, growth=4, blocks=(1, 1))),
}
every_module = pytest.mark.parametrize("module", TINY_MODULES.values(), ids=TINY_MODULES)


quick = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)  # compiling is what takes long


@functools.cache
def example(module, count=5):
    """Variables unlike any initial ones, and tokens."""
    draws = np.random.default_rng(0)

    def draw(path, leaf):
        center = 1 if path[-1].key in ("scale", "var") else 0
        spread = math.prod(leaf.shape[:-1]) ** -0.5 if path[-1].key == "kernel" else 0.2
        return (center + spread * draws.normal(size=leaf.shape)).astype(leaf.dtype)

    shapes = jax.eval_shape(lambda key: models.init(module, key), jax.random.key(0))
    tokens = draws.normal(size=(count, *module.config.token_shape)).astype(np.float32)
    return jax.tree.map_with_path(draw, shapes), tokens


@functools.partial(quick, static_argnums=0)
def evaluate(module, variables, tokens, mask=None):
    return models.evaluation(module)(variables, tokens, mask)


@functools.partial(quick, static_argnums=0)
def train(module, variables, tokens, key):
    return models.train_apply(module)(variables, tokens, key)


# --- the registry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.MODELS)
def test_initial_logits_are_finite_and_differ_between_examples(name):
    module = models.build(name, "small", **SMALL)
    _, tokens = example(module)
    logits = quick(lambda key: models.evaluation(module)(models.init(module, key), tokens))(jax.random.key(0))
    chex.assert_shape(logits, (5, 10))
    chex.assert_tree_all_finite(logits)
    assert logits.dtype == jnp.float32
    assert np.ptp(np.asarray(logits), axis=0).min() > 1e-3


@pytest.mark.parametrize(
    ("name", "variant"), [(name, variant) for name, family in models.MODELS.items() for variant in family.variants]
)
def test_every_variant_fits_its_images(name, variant):
    side = 32 if name == "convnext" else 28  # which halves the image five times
    module = models.build(name, variant, image_shape=(side, side, 1), classes=10, patch=7 if "mnist" in variant else 4)
    tokens = jax.ShapeDtypeStruct((6, *module.config.token_shape), jnp.float32)
    logits, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)
    assert (logits.shape, logits.dtype) == ((6, 10), jnp.float32)


@pytest.mark.parametrize(
    ("name", "variant", "channels", "count"),
    [
        # Dense layers: 784 x 512 + 512, 512 x 128 + 128, 128 x 10 + 10.
        ("mlp", "paper", 1, 468_874),
        # Convolutions 9 x 32 + 32, 9 x 32 x 32 + 32; dense (7 x 7 x 32) x 128 + 128, 128 x 10 + 10.
        ("cnn", "paper", 1, 211_690),
        # By hand: a block is two norms 128 each, 3 x 64 x 2048, 2048 x 64 + 64, and 64 x 256 + 256, 256 x 64 + 64.
        ("vit", "paper_cifar10", 3, 8 * (256 + 524_288 + 64 + 33_088) + 96 + 48 * 64 + 64 + 65 * 64 + 128 + 650),
        # The same, with a scale for each block, patches of 5 x 48 pixels, and a position of the class token.
        ("vit_small_data", "paper_cifar10", 3, 8 * 557_697 + 480 + 240 * 64 + 64 + 66 * 64 + 128 + 650),
        # Blocks of two norms, 64 x 3072, 1024 x 64, 64 x 512 + 512, 512 x 64 + 64; norms 96, 128 and 128 around them.
        ("vit_simple", "paper_cifar10", 3, 6 * 328_512 + 96 + 48 * 64 + 64 + 128 + 128 + 650),
        # That of 1000 classes and of ImageNet's stem, which has 147 x 64 weights in place of 27 x 64.
        ("densenet", "paper", 3, 7_978_856 - 120 * 64 - 1_025 * 990),
        # Stem 48 x 128 + 128, norms 256 each, blocks 10 x 128 + 128 x 128 + 128, head.
        ("convmixer", "paper", 3, 6_272 + 13 * 256 + 6 * (1_280 + 16_512) + 1_290),
        # Stem 27 x 64, norms of two each; blocks 9 w w twice, but 4.5 w w once and .5 w w for the shortcut; head.
        # Published with 1000 classes: 3.7 and 28.6 million.
        ("convnext", "atto", 3, 3_708_400 - 990 * 321),
        ("convnext", "tiny", 3, 28_635_496 - 990 * 769),
        ("resnet", "paper", 3, 1_728 + 36 * 64**2 + 32 * (128**2 + 256**2 + 512**2) + 2 * 4_800 + 5_130),
    ],
)
def test_paper_models_have_the_size_that_their_description_gives(name, variant, channels, count):
    side = 32 if channels == 3 else 28
    module = models.build(name, variant, image_shape=(side, side, channels), classes=10, patch=4)
    variables = jax.eval_shape(lambda key: models.init(module, key), jax.random.key(0))
    assert models.parameter_count(variables) == count


def test_unknown_names_are_refused_with_what_is_known():
    with pytest.raises(
        ValueError, match=r"name is 'vgg', but must be one of vit, mlp, mlp_sigmoid, cnn, convmixer, convnext, resnet"
    ):
        models.build("vgg", "small", **SMALL)
    with pytest.raises(ValueError, match=r"variant of vit is 'paper', but must be one of small, .*simple_cifar10"):
        models.build("vit", "paper", **SMALL)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (mlp.Config, {"patch": 3}, "patch is 3, but must be a divisor of the image's height 8 and width 8"),
        (mlp.Config, {"classes": 0}, "classes is 0, but must be an integer of at least 1"),
        (mlp.Config, {"classes": True}, "classes is True"),
        (mlp.Config, {"image_shape": (8, 8)}, r"image_shape is \(8, 8\)"),
        (mlp.Config, {"image_shape": (8, 8, 0)}, r"image_shape\[2\] is 0"),
        (mlp.Config, {"dtype": jnp.int32}, "dtype is .*int32.* must be one of bfloat16"),
        (mlp.Config, {"hidden": ()}, r"hidden is \(\), but must be the width of at least one"),
        (mlp.Config, {"hidden": (4, -1)}, r"hidden\[1\] is -1"),
        (mlp.Config, {"activation": "tanh"}, "activation is 'tanh', but must be one of leaky_relu, sigmoid, relu"),
        (cnn.Config, {"kernel": 0}, "kernel is 0"),
        (cnn.Config, {"channels": (4,) * 4}, "channels is .* at most 3 layers"),
        (convnext.Config, {"stem": 3}, "stem is 3, but must be a divisor of the image's height 8 and width 8"),
        (convnext.Config, {"stem": 2}, r"image_shape is \(8, 8, 2\), but must be of at least 16 pixels both ways"),
        (convnext.Config, {"depths": (1, 1)}, r"depths is \(1, 1\), but must be 4 numbers"),
        (convnext.Config, {"drop_path": 1}, "drop_path is 1, but must be at least 0 and below 1"),
        (convnext.Config, {"activation": "tanh"}, "activation is 'tanh', but must be one of gelu"),
        (vit.Config, {"heads": 3}, "heads is 3, but must be a divisor of the width 16"),
        (vit.Config, {"head_dim": 0}, "head_dim is 0"),
        (vit.Config, {"depth": 1.5}, "depth is 1.5"),
        (vit.Config, {"pool": "max"}, "pool is 'max'"),
        (vit.Config, {"positions": "rotary"}, "positions is 'rotary'"),
        (vit.Config, {"positions": "sinusoidal", "width": 18}, "width is 18, but must be a multiple of 4"),
        (vit.Config, {"dropout": 1.0}, "dropout is 1.0"),
        (convmixer.Config, {"stem": 3}, "stem is 3, but must be a divisor"),
        (convmixer.Config, {"depth": 0}, "depth is 0"),
        (resnet.Config, {"blocks": ()}, r"blocks is \(\), but must be the number of blocks of at least one stage"),
        (resnet.Config, {"blocks": (1, 0)}, r"blocks\[1\] is 0"),
    ],
)
def test_configurations_that_cannot_work_are_refused(config, changes, message):
    sizes = {
        vit.Config: TINY_VIT,
        convmixer.Config: {**TINY, "width": 8, "depth": 2},
        convnext.Config: {**TINY, "stem": 1},
    }.get(config, TINY)
    config(**sizes)
    with pytest.raises(ValueError, match=message):
        config(**{**sizes, **changes})


# --- inputs that do not fit -------------------------------------------------------------------------------------------


@every_module
def test_tokens_that_do_not_fit_are_refused_by_the_module_itself(module):
    variables, tokens = example(module)
    apply = functools.partial(jax.eval_shape, module.apply)
    for wrong in (tokens[:, 1:], tokens[:, :, 1:], tokens[0]):
        with pytest.raises(ValueError, match=r"tokens' shape is .* must be \[b, 16, 8\]: the 2 x 2 patches"):
            apply(variables, wrong)
    with pytest.raises(ValueError, match=r"mask's shape is \(16,\)"):
        apply(variables, tokens, np.ones(16, bool))
    with pytest.raises(ValueError, match="mask's dtype is 'float32'"):
        apply(variables, tokens, np.ones((5, 16), np.float32))


def test_float64_is_refused_while_it_is_off():
    module = mlp.MLP(mlp.Config(**TINY, dtype="float64"))
    with pytest.raises(ValueError, match="jax_enable_x64"):
        module.apply(*example(TINY_MODULES["mlp"]))


@pytest.mark.parametrize("run", [evaluate, functools.partial(train, key=jax.random.key(0))], ids=["evaluate", "train"])
def test_variables_that_do_not_fit_are_refused(run):
    module = TINY_MODULES["convmixer"]
    variables, tokens = example(module)
    deeper, _ = example(convmixer.ConvMixer(dataclasses.replace(module.config, depth=2)))
    wider, _ = example(convmixer.ConvMixer(dataclasses.replace(module.config, width=9)))
    run(module, variables, tokens)
    with pytest.raises(ValueError, match=r"depthwise_norm_1.* but ConvMixer needs it to be absent"):
        run(module, deeper, tokens)
    with pytest.raises(ValueError, match=r"\(9,\), but ConvMixer needs it to be \(8,\)"):
        run(module, wider, tokens)
    with pytest.raises(ValueError, match=r"batch_stats.* is absent"):
        run(module, {"params": variables["params"]}, tokens)


# --- one function for equal modules -----------------------------------------------------------------------------------


@every_module
def test_equal_modules_are_one_compiled_function(module):
    rebuilt = type(module)(dataclasses.replace(module.config, image_shape=[8, 8, 2], dtype="float32"))
    other = type(module)(dataclasses.replace(module.config, classes=4))
    for function in (models.evaluation, models.train_apply):
        assert function(rebuilt) == function(module)
        assert hash(function(rebuilt)) == hash(function(module))
        assert function(other) != function(module)
    assert models.evaluation(module) != models.train_apply(module)


def test_a_rebuilt_model_is_not_traced_again():
    chex.clear_trace_counter()

    def forward(apply, variables, tokens):
        return apply(variables, tokens)

    forward = jax.jit(chex.assert_max_traces(forward, n=1), static_argnums=0)
    for _ in range(3):
        module = models.build("mlp", "small", **SMALL)
        forward(models.evaluation(module), *example(module))


# --- evaluation and training ------------------------------------------------------------------------------------------


@every_module
def test_examples_are_independent_in_evaluation(module):
    variables, tokens = example(module)
    logits = evaluate(module, variables, tokens)
    chex.assert_trees_all_equal(evaluate(module, variables, tokens), logits)
    others = evaluate(module, variables, np.concatenate([tokens[:1], -2 * tokens[1:]]))
    chex.assert_trees_all_equal(others[0], logits[0])
    assert np.all(np.abs(others - logits).max(axis=1)[1:] > 1e-4)


@every_module
def test_training_without_dropout_or_batch_norm_is_evaluation(module):
    variables, tokens = example(module)
    logits, updated = train(module, variables, tokens, jax.random.key(3))
    chex.assert_trees_all_equal(updated["params"], variables["params"])
    if "batch_stats" not in variables:
        chex.assert_trees_all_equal(updated, variables)
        chex.assert_trees_all_close(logits, evaluate(module, variables, tokens), rtol=1e-5, atol=1e-5)


def test_dropout_draws_from_the_key_in_training_only():
    module = vit.ViT(vit.Config(**TINY_VIT, dropout=0.2))
    variables, tokens = example(module)
    first, again, other = (train(module, variables, tokens, jax.random.key(seed))[0] for seed in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    without = evaluate(TINY_MODULES["vit"], variables, tokens)
    chex.assert_trees_all_equal(evaluate(module, variables, tokens), without)


def test_dropout_follows_embedding_attention_and_both_layers_of_the_mlp():
    module = vit.ViT(vit.Config(**TINY_VIT, dropout=0.2))

    @quick
    def dropped(variables, tokens, key):
        is_dropout = lambda module, _: isinstance(module, nn.Dropout)  # noqa: E731
        settings = {"train": True, "rngs": {"dropout": key}, "mutable": ["intermediates"]}
        return module.apply(variables, tokens, capture_intermediates=is_dropout, **settings)[1]

    outputs = jax.tree.leaves(dropped(*example(module), jax.random.key(0)))
    assert sorted(output.shape[-1] for output in outputs) == [16, 16, 16, 24]
    for output in outputs:
        assert 0.1 < np.mean(np.asarray(output) == 0) < 0.3


def test_batch_statistics_move_toward_the_batch_and_are_used_in_evaluation():
    module = TINY_MODULES["convmixer"]
    variables, tokens = example(module, count=32)
    logits, updated = train(module, variables, tokens, jax.random.key(0))
    before, after = variables["batch_stats"], updated["batch_stats"]
    assert all(np.all(a != b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
    assert np.abs(evaluate(module, variables, tokens) - logits).max() > 1e-2
    # Training does not read the running statistics, so that they converge to the batch's.
    for _ in range(200):
        _, updated = train(module, updated, tokens, jax.random.key(0))
    chex.assert_trees_all_close(evaluate(module, updated, tokens), logits, rtol=1e-4, atol=1e-4)


@every_module
def test_every_parameter_is_trained(module):
    variables, tokens = example(module, count=32)
    labels = np.arange(32) % module.config.classes

    def loss(params):
        logits, _ = models.train_apply(module)({**variables, "params": params}, tokens, jax.random.key(0))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    gradients = quick(jax.grad(loss))(variables["params"])
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.abs(gradient).max() > 1e-6, jax.tree_util.keystr(path)


# --- masks ------------------------------------------------------------------------------------------------------------


@every_module
def test_padding_changes_nothing(module):
    variables, tokens = example(module)
    apply = functools.partial(evaluate, module)
    mask = np.arange(16)[None] < np.array([3, 8, 12, 15, 16])[:, None]
    garbage = np.where(mask[:, :, None], tokens, np.float32(np.nan))
    padded = apply(variables, tokens, mask)
    chex.assert_trees_all_close(apply(variables, garbage, mask), padded, rtol=1e-6, atol=1e-6)
    chex.assert_trees_all_close(padded[4], apply(variables, tokens)[4], rtol=1e-5, atol=1e-5)
    assert np.all(np.abs(padded - apply(variables, tokens)).max(axis=1)[:4] > 1e-4)
    chex.assert_tree_all_finite(apply(variables, garbage, np.zeros_like(mask)))


@pytest.mark.parametrize("pool", vit.POOLS)
def test_a_vit_with_padding_is_the_vit_of_the_smaller_image(pool):
    whole = vit.ViT(vit.Config(**TINY_VIT, pool=pool))
    upper = vit.ViT(dataclasses.replace(whole.config, image_shape=(4, 8, 2)))
    variables, tokens = example(whole)
    smaller = {"params": {**variables["params"], "positions": variables["params"]["positions"][:, :8]}}
    mask = np.broadcast_to(np.arange(16) < 8, (5, 16))
    chex.assert_trees_all_close(
        evaluate(whole, variables, tokens, mask),
        evaluate(upper, smaller, tokens[:, :8]),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["mlp", "cnn", "convmixer", "resnet", "densenet"])
def test_padding_of_an_image_is_zero_pixels(name):
    module = TINY_MODULES[name]
    variables, tokens = example(module)
    mask = np.arange(16)[None] < np.array([3, 8, 12, 15, 16])[:, None]
    zeros = np.where(mask[:, :, None], tokens, np.float32(0))
    chex.assert_trees_all_equal(evaluate(module, variables, tokens, mask), evaluate(module, variables, zeros))


@pytest.mark.parametrize("name", [name for name in TINY_MODULES if name not in ("mlp", "convnext", "vit small data")])
def test_without_a_mask_nothing_is_selected(name):
    """Leaky ReLU, the guard of a square root in ConvNeXt, and attention to others are selections themselves."""
    variables, tokens = example(TINY_MODULES[name])
    apply = models.evaluation(TINY_MODULES[name])
    assert "select_n" not in str(jax.make_jaxpr(apply)(variables, tokens))
    assert "select_n" in str(jax.make_jaxpr(apply)(variables, tokens, np.ones((5, 16), bool)))


# --- precision --------------------------------------------------------------------------------------------------------


@every_module
def test_bfloat16_keeps_parameters_and_logits_in_float32(module):
    mixed = type(module)(dataclasses.replace(module.config, dtype="bfloat16"))
    variables, tokens = example(module)
    initial = jax.eval_shape(lambda key: models.init(mixed, key), jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    exact, rounded = evaluate(module, variables, tokens), evaluate(mixed, variables, tokens)
    assert rounded.dtype == jnp.float32
    error = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert 1e-6 < error < 3e-2


@every_module
def test_float64_is_computed_in_float64(module, float64):
    wide = type(module)(dataclasses.replace(module.config, dtype="float64"))
    variables, tokens = jax.tree.map(lambda leaf: leaf.astype(np.float64), example(module))
    logits = evaluate(wide, variables, tokens)
    assert logits.dtype == jnp.float64
    # Twice the step, twice the difference: steps so small that one float32 on the way would round them away.
    direction = np.random.default_rng(1).normal(size=tokens.shape)
    once, twice = (evaluate(wide, variables, tokens + step * direction) - logits for step in (1e-8, 2e-8))
    chex.assert_trees_all_close(2 * once, twice, rtol=1e-4, atol=1e-13)
    narrow = evaluate(module, *example(module))
    assert narrow.dtype == jnp.float32
    chex.assert_trees_all_close(np.asarray(narrow, np.float64), logits, rtol=1e-4, atol=1e-5)


# --- the vision transformer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", vit.POOLS)
def test_vit_depends_on_token_order_only_through_positions(pool):
    module = vit.ViT(vit.Config(**TINY_VIT, pool=pool))
    variables, tokens = example(module)
    apply = functools.partial(evaluate, module)
    shuffled = tokens[:, np.random.default_rng(1).permutation(16)]
    blind = {"params": {**variables["params"], "positions": np.zeros_like(variables["params"]["positions"])}}
    chex.assert_trees_all_close(apply(blind, tokens), apply(blind, shuffled), rtol=1e-5, atol=1e-5)
    assert np.abs(apply(variables, tokens) - apply(variables, shuffled)).max() > 1e-3


def test_sinusoidal_positions_of_equal_offsets_have_equal_products():
    positions = vit.sinusoidal_positions((4, 6), 16)
    assert positions.shape == (24, 16)
    chex.assert_trees_all_close((positions**2).sum(axis=1), np.full(24, 8.0))
    products = (positions @ positions.T).reshape(4, 6, 4, 6)
    chex.assert_trees_all_close(products[:-1, :-1, :-1, :-1], products[1:, 1:, 1:, 1:])
    assert products[0, 0, 0, 1] < 8 - 0.1
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    assert distances[~np.eye(24, dtype=bool)].min() > 0.5, "no two places look alike"


def test_attention_is_the_textbook_formula():
    config = vit.Config(**TINY_VIT, head_dim=3)
    draws = np.random.default_rng(0)
    x = draws.normal(size=(2, 7, 16)).astype(np.float32)
    kernels = {name: draws.normal(size=(16, 6)) / 4 for name in ("query", "key", "value")}
    kernels["out"] = draws.normal(size=(6, 16))
    variables = {"params": {name: {"kernel": np.float32(kernel)} for name, kernel in kernels.items()}}
    variables["params"]["out"]["bias"] = np.ones(16, np.float32)
    expected = np.ones((2, 7, 16))
    for head in range(2):
        columns = slice(3 * head, 3 * head + 3)
        query, key, value = (x @ kernels[name][:, columns] for name in ("query", "key", "value"))
        weights = np.exp(np.einsum("bqd,bkd->bqk", query, key) / np.sqrt(3))
        expected += weights / weights.sum(axis=2, keepdims=True) @ value @ kernels["out"][columns]
    mixed = quick(transformer.Attention(config).apply)(variables, x, None)
    chex.assert_trees_all_close(mixed, expected, rtol=1e-5, atol=1e-5)


def test_the_class_token_sees_every_patch():
    module = TINY_MODULES["vit class"]
    variables, tokens = example(module)
    saliency = quick(jax.grad(lambda x: models.evaluation(module)(variables, x).sum(axis=1)[0]))(tokens)
    assert np.all(np.abs(saliency[0]).max(axis=1) > 1e-6)
    assert np.all(saliency[1:] == 0)


def test_normalizing_patches_takes_out_their_brightness_and_contrast():
    module = TINY_MODULES["vit class"]
    variables, tokens = example(module)
    apply = functools.partial(evaluate, module)
    chex.assert_trees_all_close(apply(variables, tokens), apply(variables, 7 * tokens + 2), rtol=1e-4, atol=1e-4)
    plain = vit.ViT(dataclasses.replace(module.config, normalize_patches=False))
    less = {"params": {name: leaf for name, leaf in variables["params"].items() if name != "norm_patches"}}
    apply = functools.partial(evaluate, plain)
    assert np.abs(apply(less, tokens) - apply(less, 7 * tokens + 2)).max() > 1e-2


# --- convolutions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer"), [("cnn", "convolution_0"), ("convmixer", "depthwise_0"), ("resnet", "stem")]
)
def test_a_patch_reaches_its_receptive_field_and_no_further(name, layer):
    module = TINY_MODULES[name]
    variables, tokens = example(module)

    @quick
    def activations(tokens):
        _, state = module.apply(variables, tokens, capture_intermediates=True, mutable=["intermediates"])
        return state["intermediates"][layer]["__call__"][0]

    changed = np.asarray(activations(tokens + (np.arange(16) == 5)[:, None])) != activations(tokens)
    rows, columns = np.nonzero(np.asarray(changed).any(axis=(0, 3)))
    # Token 5 of the 4 x 4 grid is pixels 2 and 3 both ways; a kernel of 3 adds one pixel around.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 4, 1, 4)


def test_perceptrons_and_convolutions_do_not_depend_on_the_patch():
    for name in ("mlp", "cnn", "convnext", "resnet"):
        module = TINY_MODULES[name]
        variables, tokens = example(module)
        coarse = type(module)(dataclasses.replace(module.config, patch=4))
        regrouped = to_patches(from_patches(tokens, 2, (8, 8, 2)), 4)
        same = evaluate(module, variables, tokens), evaluate(coarse, variables, regrouped)
        chex.assert_trees_all_close(*same, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shifted_adds_are_the_depthwise_convolution(size):
    draws = np.random.default_rng(0)
    x, kernel, weight = (
        draws.normal(size=shape).astype(np.float32) for shape in ((3, 7, 6, 4), (size, size, 1, 4), (3, 7, 6, 4))
    )

    def grouped(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
        )

    @functools.partial(quick, static_argnums=0)
    def value_and_gradients(convolve, x, kernel):
        value, pull_back = jax.vjp(convolve, x, kernel)
        return value, pull_back(jnp.asarray(weight))

    results = (value_and_gradients(convolve, x, kernel) for convolve in (convmixer.convolve_depthwise, grouped))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-5)


def test_a_convmixer_sees_where_a_pattern_is_only_near_the_border():
    module = convmixer.ConvMixer(convmixer.Config(**{**TINY, "image_shape": (24, 24, 2)}, width=8, depth=2))
    variables, _ = example(module)
    patch = np.random.default_rng(0).normal(size=(4, 4, 2))

    def logits_with_patch_at(row, column):
        images = np.zeros((1, 24, 24, 2), np.float32)
        images[0, row : row + 4, column : column + 4] = patch
        return evaluate(module, variables, to_patches(images, 2))

    inside = logits_with_patch_at(10, 10)
    chex.assert_trees_all_close(inside, logits_with_patch_at(10, 12), rtol=1e-5, atol=1e-5)
    assert np.abs(inside - logits_with_patch_at(0, 0)).max() > 1e-4


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (vit.Config, {"normalize_patches": "no"}, "normalize_patches is 'no', but must be True or False"),
        (vit.Config, {"fused_attention": 1}, "fused_attention is 1, but must be True or False"),
        (vit.Config, {"epsilon": "1e-6"}, "epsilon is '1e-6', but must be a finite number above 0"),
        (vit.Config, {"dropout": True}, "dropout is True, but must be at least 0 and below 1"),
        (vit.Config, {"activation": ["gelu"]}, r"activation is \['gelu'\], but must be one of"),
        (vit.Config, {"dtype": "float31"}, "dtype is 'float31', but must be one of"),
        (vit.Config, {"dtype": "int32"}, "dtype is 'int32', but must be one of"),
        (vit.Config, {"image_shape": 8}, "image_shape is 8, but must be a tuple of integers"),
        (vit.Config, {"image_shape": "881"}, "image_shape is '881', but must be a tuple of integers"),
        (vit.Config, {"classes": True}, "classes is True, but must be an integer of at least 1"),
        (mlp.Config, {"hidden": 5}, "hidden is 5, but must be a tuple of integers"),
        (mlp.Config, {"hidden": "55"}, "hidden is '55', but must be a tuple of integers"),
        (cnn.Config, {"channels": (3, 2.5)}, r"channels\[1\] is 2.5, but must be an integer"),
        (resnet.Config, {"blocks": 2}, "blocks is 2, but must be a tuple of integers"),
    ],
)
def test_settings_of_another_type_are_named(make, changes, message):
    sizes = {"width": 16, "depth": 1, "heads": 2, "hidden": 32} if make is vit.Config else {}
    with pytest.raises(ValueError, match=message):
        make(**{"image_shape": (8, 8, 1), "classes": 3, "patch": 2} | sizes | changes)


def test_masked_arrays_are_refused():
    module = models.build("mlp", "small", image_shape=(4, 4, 1), classes=3, patch=2)
    tokens = np.ma.masked_array(np.zeros((1, 4, 4), np.float32), True)
    with pytest.raises(ValueError, match="tokens is 'a masked array', but must be an array"):
        models.evaluation(module)(models.init(module, jax.random.key(0)), tokens)


def test_parts_of_models_are_attributes():
    assert models.pretrained.vit.PretrainedViT.__name__ == "PretrainedViT"
    assert models.recognizers.baselines.KINDS.keys() == {"lstm", "mlp"}
    assert models.substitution.encoder is not models.substitution.recognizer
    assert models.text.encoder.embed.__name__ == "embed"
    with pytest.raises(AttributeError, match="has no attribute 'audio'"):
        _ = models.audio
