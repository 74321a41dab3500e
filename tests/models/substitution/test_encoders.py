"""Law 4 for transformers of text and images: the fast substitution is the plain one, and does as many operations."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import models, substitution
from jaxsens.execution import flops
from jaxsens.models import pretrained
from jaxsens.models.images import simple_vit, small_data_vit, vit
from jaxsens.models.substitution import encoder as fast_of
from jaxsens.models.substitution import encoder_operations
from jaxsens.models.text import bert, encoder, gpt2, lstm
from tests.models.substitution.nonfinite import only_its_own_output_is_not_finite

# Compiling is what takes long; what LLVM makes of the program is not what is tested.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


SIZES = {"width": 12, "depth": 2, "heads": 3, "hidden": 10, "epsilon": 1e-5}
TEXT = {"vocabulary": 13, "positions": 9}
IMAGE = {"image_shape": (4, 6, 2), "patch": 2}


def text(**changes):
    return bert.Bert(bert.Config(**SIZES | TEXT | changes))


def image(**changes):
    return pretrained.vit.PretrainedViT(pretrained.vit.Config(**SIZES | IMAGE | changes))


def trained(**changes):
    return vit.ViT(vit.Config(**SIZES | IMAGE | {"classes": 3} | changes))


def small_data(**changes):
    settings = SIZES | IMAGE | {"image_shape": (8, 12, 2), "patch": 4, "classes": 3, "head_dim": 5} | changes
    return small_data_vit.SmallDataViT(small_data_vit.Config(**settings))


# A module, and whether inputs are padded.
CASES = {
    "class": (text(classes=3, depth=3), True),
    "pooler": (text(read_out="pooler", position_offset=2), False),
    "mean": (text(read_out="mean"), True),
    "relu": (text(attention="relu"), True),
    "relu, 1 layer": (text(attention="relu", depth=1), False),
    "ViT": (image(layer_scale=True, gated_mlp=True, registers=2, classes=2), False),
    "ViT, both": (image(read_out="class and mean"), True),
    "ViT without biases": (trained(pool="class", depth=3, head_dim=5), True),
    "ViT, folded": (trained(pool="class", depth=3, head_dim=12), True),
    "ViT without class token": (trained(normalize_patches=True, positions="sinusoidal"), True),
    "ViT, shifted by a pixel": (small_data(depth=3), True),
    "ViT, shifted by half of 3 pixels": (small_data(shifts="half patch", image_shape=(9, 9, 1), patch=3), False),
    "ViT, shifted, 1 layer": (small_data(shifts="half patch", depth=1, pool="mean", local_attention=False), True),
    "ViT, local, not shifted": (small_data(shifts="none", pool="mean"), True),
    "simple ViT": (simple_vit.SimpleViT(simple_vit.Config(**SIZES | IMAGE, classes=3)), True),
    "GPT-2": (gpt2.GPT2(gpt2.Config(**SIZES | TEXT)), True),
}


@functools.cache
def example(module, dtype=np.float32):
    """Variables that are all large enough to matter, an input and its alternatives."""
    draws = np.random.default_rng(0)
    shapes = encoder.shapes_of(module)

    def draw(path, leaf):
        spread = leaf.shape[0] ** -0.5 if path[-1].key == "kernel" else 1
        return (spread * draws.normal(size=leaf.shape)).astype(dtype)

    variables = jax.tree.map_with_path(draw, shapes)
    if module.config.example.dtype == jnp.int32:
        tokens, alternatives = draws.permuted(np.tile(np.arange(13, dtype=np.int32), (7, 1)), axis=1)[:, :2].T
    else:
        tokens, alternatives = draws.normal(size=(2, *module.config.token_shape)).astype(dtype)
    return variables, tokens, alternatives


def plain_of(module, rows=None):
    return substitution.one_at_a_time(models.evaluation(module), rows)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_plain_one_in_float64(name, float64):
    module, padded = CASES[name]
    module = type(module)(dataclasses.replace(module.config, dtype="float64"))
    variables, tokens, alternatives = example(module, np.float64)
    place = np.arange(len(tokens))
    plain, fast = (
        quick(plain_of(module)),
        quick(fast_of(module, {"class": 3, "ViT": 4, "ViT, shifted by a pixel": 4}.get(name))),
    )
    for mask in (place < 5, (place > 0) & (place < 5)) if padded else (None,):
        expected, found = (run(variables, tokens, alternatives, mask) for run in (plain, fast))
        only_its_own_output_is_not_finite(fast, variables, tokens, alternatives, mask, found[1])
        scale = np.abs(expected[1]).max()
        assert found[0].dtype == np.float64
        assert np.ptp(np.asarray(expected[1]), axis=0).max() > 1e-3 * scale
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize("module", [text(classes=3), small_data()], ids=["text", "shifted"])
def test_is_no_less_exact_in_float32(module):
    """The ratio of errors of one number is a toss of a coin, so that it is averaged over those of all substitutions."""
    variables, tokens, alternatives = example(module)
    with jax.enable_x64(True):
        wide = type(module)(dataclasses.replace(module.config, dtype="float64"))
        exact = np.asarray(quick(plain_of(wide))(jax.tree.map(np.float64, variables), tokens, alternatives)[1])
    plain, fast = (
        np.sqrt(np.mean((np.asarray(quick(make(module))(variables, tokens, alternatives)[1]) - exact) ** 2))
        for make in (plain_of, fast_of)
    )
    assert 0 < fast < 2 * plain, (plain, fast)


def test_embeddings_are_tokens_too():
    module = text(depth=1)
    variables, tokens, alternatives = example(module)
    mask = np.arange(7) < 6
    x, y = encoder.embed(module)(variables, np.stack([tokens, alternatives]), np.stack([mask, mask]))
    by_ids = quick(fast_of(module))(variables, tokens, alternatives, mask)
    by_embeddings = quick(fast_of(module, embeddings=True))(variables, x, y, mask)
    for a, b in zip(by_ids, by_embeddings, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


MINILM = bert.Config(width=384, depth=6, heads=12, hidden=1536, vocabulary=30522, positions=512)


@pytest.mark.parametrize(
    ("config", "count", "ratio"),
    [
        (MINILM, 128, 1.26),
        (dataclasses.replace(MINILM, read_out="mean"), 128, 1.05),
        (dataclasses.replace(MINILM, width=768, depth=12, hidden=3072), 128, 1.12),
        (dataclasses.replace(MINILM, depth=1), 60, 1.33),
        (vit.VARIANTS["paper_cifar10"](image_shape=(32, 32, 3), classes=10, patch=4), 64, 1.77),
        (vit.VARIANTS["simple_cifar10"](image_shape=(32, 32, 3), classes=10, patch=4), 64, 1.48),
        (small_data_vit.VARIANTS["paper_cifar10"](image_shape=(32, 32, 3), classes=10, patch=4), 64, 1.24),
        (simple_vit.VARIANTS["paper_cifar10"](image_shape=(32, 32, 3), classes=10, patch=4), 64, 1.48),
    ],
    ids=["MiniLM", "MiniLM, mean", "BERT", "1 layer", "ViT", "ViT, mean", "shifted", "simple"],
)
def test_operations_are_those_of_the_programs(config, count, ratio):
    families = {
        bert.Config: bert.Bert,
        small_data_vit.Config: small_data_vit.SmallDataViT,
        simple_vit.Config: simple_vit.SimpleViT,
    }
    module = families.get(type(config), vit.ViT)(config)
    tokens = jax.ShapeDtypeStruct((count, *config.example.shape[2:]), config.example.dtype)
    plain, shared = (
        flops.count(make(module), encoder.shapes_of(module), tokens, tokens).operations for make in (plain_of, fast_of)
    )
    said_plain, said_shared = encoder_operations(config, count)
    np.testing.assert_allclose([plain, shared], [said_plain, said_shared], rtol=0.02)
    assert round(said_plain / said_shared, 2) == ratio


def test_a_few_sites_are_rows_of_the_whole():
    module, sites = CASES["ViT"][0], np.array([4, 1, 2])
    variables, tokens, alternatives = example(module)
    clean, changed = quick(fast_of(module))(variables, tokens, alternatives)
    some = quick(fast_of(module, 2))(variables, tokens, alternatives, None, sites)
    np.testing.assert_allclose(some[0], clean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(some[1], changed[sites], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="sites must be a vector of integers from 0 to 5"):
        fast_of(module)(variables, tokens, alternatives, None, np.array([6]))


def test_operations_for_a_few_sites():
    module, tokens, sites = bert.Bert(MINILM), jax.ShapeDtypeStruct((128,), np.int32), jnp.arange(9)
    arguments = encoder.shapes_of(module), tokens, tokens, None, sites
    counted = [flops.count(make(module), *arguments).operations for make in (plain_of, fast_of)]
    np.testing.assert_allclose(counted, encoder_operations(MINILM, 128, 9), rtol=0.02)


def test_equal_arguments_make_equal_functions():
    module = CASES["class"][0]
    again = bert.Bert(dataclasses.replace(module.config))
    assert fast_of(again, 3) == fast_of(module, 3)
    assert hash(fast_of(again)) == hash(fast_of(module))
    assert fast_of(module, 3) != fast_of(module)
    assert fast_of(module, embeddings=True) != fast_of(module)


def test_bad_arguments_are_named():
    module = CASES["class"][0]
    variables, tokens, alternatives = example(module)
    with pytest.raises(ValueError, match="rows must be at least 1, or None for all at once, got 0"):
        fast_of(module, 0)
    with pytest.raises(ValueError, match="module is 'LSTM', but must be a Bert, a GPT2, a ViT or a PretrainedViT"):
        fast_of(lstm.LSTM(lstm.Config(vocabulary=3, width=4, depth=1, classes=2)))
    with pytest.raises(ValueError, match="alternatives must have the shape and dtype of the tokens"):
        fast_of(module)(variables, tokens, alternatives[:3])
    with pytest.raises(ValueError, match="an id in tokens is 13, but must be at least 0 and below 13"):
        fast_of(module)(variables, tokens, alternatives.clip(13))
    with pytest.raises(ValueError, match=r"\['block_3'\].* but Bert needs it to be absent"):
        fast_of(module)(example(text(classes=3, depth=4))[0], tokens, alternatives)
