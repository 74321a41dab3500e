"""The ViT for small data sets: which embeddings read a patch, what attention sees, what training drops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxsens import models
from jaxsens.data.patches import from_patches, to_patches
from jaxsens.models import transformer
from jaxsens.models.images import densenet, simple_vit, small_data_vit

quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SIZES = {"classes": 3, "width": 8, "depth": 1, "heads": 2, "hidden": 6, "head_dim": 3}


def module_of(**changes):
    return small_data_vit.SmallDataViT(small_data_vit.Config(**SIZES, **changes))


def drawn(module):
    """Variables unlike any initial ones; not initialized, since that takes longer than the tests."""
    draws = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: models.init(module, key), jax.random.key(0))
    return jax.tree.map(lambda leaf: (0.4 * draws.normal(size=leaf.shape)).astype(np.float32), shapes)


@pytest.mark.parametrize(
    ("shifts", "patch", "shape", "inside"),
    [
        ("pixel", 2, (6, 8, 1), 5),
        ("pixel", 1, (3, 3, 2), 5),
        ("half patch", 2, (6, 8, 1), 9),
        ("half patch", 3, (9, 9, 1), 9),
    ],
)
def test_a_patch_reaches_the_embeddings_that_reach_names(shifts, patch, shape, inside):
    module = module_of(shifts=shifts, patch=patch, image_shape=shape)
    count, size = module.config.token_shape
    variables = drawn(module)
    tokens = np.random.default_rng(0).normal(size=(count, size)).astype(np.float32)
    copies = np.where(np.eye(count, dtype=bool)[:, :, None], -tokens, tokens)
    embed = quick(functools.partial(module.apply, method="embed"))
    found = np.any(embed(variables, copies) != embed(variables, np.broadcast_to(tokens, copies.shape)), axis=2)
    expected = np.zeros((count, count), bool)
    np.put_along_axis(expected, module.config.reach, True, axis=1)
    np.testing.assert_array_equal(found, expected)
    assert expected.sum(axis=1).max() == inside
    assert module.config.reach.shape == (count, inside)


@pytest.mark.parametrize("shifts", ["pixel", "half patch"])
def test_an_embedding_reads_its_patch_and_the_same_place_of_the_shifted_copies(shifts):
    module = module_of(shifts=shifts, patch=4, image_shape=(8, 12, 2))
    image = np.random.default_rng(0).normal(size=(8, 12, 2)).astype(np.float32)
    pixels = module.apply(drawn(module), to_patches(image, 4)[None], None, method="pixels")
    copies = np.moveaxis(np.asarray(from_patches(pixels[0], 4, (8, 12, 10))).reshape(8, 12, 5, 2), 2, 0)
    moves = {"pixel": [(0, 1), (0, -1), (1, 0), (-1, 0)], "half patch": [(2, 2), (2, -2), (-2, 2), (-2, -2)]}[shifts]
    wide = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    for copy, (down, right) in zip(copies, [(0, 0), *moves], strict=True):
        np.testing.assert_array_equal(copy, wide[2 - down : 10 - down, 2 - right : 14 - right])


def test_no_token_attends_to_itself_and_the_scale_is_learned():
    config = module_of(image_shape=(4, 4, 1), patch=2).config
    draws = np.random.default_rng(0)
    x = draws.normal(size=(2, 5, 8)).astype(np.float32)
    kernels = {name: draws.normal(size=(8, 6)) / 2 for name in ("query", "key", "value")}
    kernels["out"] = draws.normal(size=(6, 8))
    variables = {"params": {name: {"kernel": np.float32(kernel)} for name, kernel in kernels.items()}}
    variables["params"]["out"]["bias"] = np.ones(8, np.float32)
    variables["params"]["log_scale"] = np.float32(0.3)
    expected = np.ones((2, 5, 8))
    for head in range(2):
        columns = slice(3 * head, 3 * head + 3)
        query, key, value = (x @ kernels[name][:, columns] for name in ("query", "key", "value"))
        weights = np.exp(np.einsum("bqd,bkd->bqk", query, key) * np.exp(0.3)) * (1 - np.eye(5))
        expected += weights / weights.sum(axis=2, keepdims=True) @ value @ kernels["out"][columns]
    mixed = quick(transformer.Attention(config).apply)(variables, x, None)
    np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-5)
    initial = quick(transformer.Attention(config).init)(jax.random.key(0), x, None)
    np.testing.assert_allclose(np.exp(initial["params"]["log_scale"]), 3**-0.5, rtol=1e-6)


def test_a_token_that_is_alone_attends_to_itself():
    """With padding beside it as without: a softmax over nothing would see all, the padding too."""
    scores = transformer.without_itself(jnp.zeros((1, 1, 3, 3)), jnp.arange(3))
    config = module_of(image_shape=(4, 4, 1), patch=2).config
    mask = np.array([[False, True, False]])
    weights = transformer.attention_weights(config, scores, mask, causal=False)
    np.testing.assert_array_equal(weights[0, 0, 1], [0, 1, 0])


def test_training_drops_attention_weights_too():
    module = module_of(image_shape=(8, 8, 1), patch=2, dropout=0.2)

    @quick
    def dropped(variables, tokens, key):
        is_dropout = lambda module, _: isinstance(module, nn.Dropout)  # noqa: E731
        settings = {"train": True, "rngs": {"dropout": key}, "mutable": ["intermediates"]}
        return module.apply(variables, tokens, capture_intermediates=is_dropout, **settings)[1]

    tokens = np.random.default_rng(0).normal(size=(4, 16, 4)).astype(np.float32)
    outputs = jax.tree.leaves(dropped(drawn(module), tokens, jax.random.key(1)))
    assert sorted(output.shape[1:] for output in outputs) == [(2, 17, 17), (17, 6), (17, 8), (17, 8), (17, 8)]
    for output in outputs:
        assert 0.1 < np.mean(np.asarray(output) == 0) < 0.35


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shifts": "pixels"}, "shifts is 'pixels', but must be one of pixel, half patch, none"),
        ({"shifts": "half patch", "patch": 1}, "shifts is 'half patch', but must be 'pixel' or 'none' for patches of"),
        ({"local_attention": 1}, "local_attention is 1, but must be True or False"),
        ({"attention": "relu"}, "attention is 'relu', but must be 'softmax' with local_attention"),
        ({"fused_attention": True}, "fused_attention is True, but must be False for this model"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        module_of(**{"image_shape": (4, 4, 1), "patch": 2} | changes)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (simple_vit.Config, {"normalize_embedding": "no"}, "normalize_embedding is 'no', but must be True or False"),
        (simple_vit.Config, {"width": 6}, "width is 6, but must be a multiple of 4"),
        (densenet.Config, {"growth": 0}, "growth is 0"),
        (densenet.Config, {"blocks": ()}, r"blocks is \(\), but must be the layers of 1 to 2 blocks"),
        (densenet.Config, {"blocks": (1, 1, 1)}, r"blocks is \(1, 1, 1\), .* a side of 2 pixels is halved"),
        (densenet.Config, {"blocks": 2}, "blocks is 2, but must be a tuple of integers"),
    ],
)
def test_settings_of_the_other_models_are_checked(make, changes, message):
    sizes = {"image_shape": (4, 4, 1), "patch": 2} | (SIZES if make is simple_vit.Config else {"classes": 3})
    with pytest.raises(ValueError, match=message):
        make(**sizes | changes)
