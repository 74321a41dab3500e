"""Law 4 for convolutional networks: windows give what whole images give, and count their operations right."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import models, substitution
from jaxsens.models.images import cnn, convmixer, convnext, densenet, mlp, resnet
from jaxsens.models.substitution import convolutional, convolutional_operations
from tests.models.substitution.nonfinite import only_its_own_output_is_not_finite

# Compiling is what takes long; what LLVM makes of the program is not what is tested.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

fast_of = convolutional


def plain_of(module, rows=None):
    return substitution.one_at_a_time(models.evaluation(module), rows)


def small(family, shape, patch, **sizes):
    return family[0](family[1](classes=3, image_shape=shape, patch=patch, **sizes))


CNN, MIXER, RESNET = (cnn.CNN, cnn.Config), (convmixer.ConvMixer, convmixer.Config), (resnet.ResNet, resnet.Config)
DENSENET = densenet.DenseNet, densenet.Config
CONVNEXT = (convnext.ConvNeXt, convnext.Config)

# A module, and how many substitutions are evaluated at once in how many groups.
CASES = {
    "odd sides, even kernel": (small(CNN, (14, 21, 1), 7, channels=(3, 2, 3), kernel=4, hidden=()), 1, 1),
    "stem of a pixel": (small(MIXER, (10, 15, 1), 5, stem=1, width=3, depth=2), 4, None),
    "stem across patches": (small(MIXER, (12, 6, 1), 2, stem=3, width=3, depth=1, kernel=2), 3, 2),
    "strides": (small(RESNET, (20, 12, 2), 4, width=2, blocks=(1, 1)), None, 2),
    "odd sides, strides": (small(RESNET, (15, 9, 1), 3, width=2, blocks=(1, 1, 1)), 4, 1),
    "dense": (small(DENSENET, (28, 20, 1), 4, growth=2, blocks=(1, 1)), 4, 1),
    "dense, odd sides": (small(DENSENET, (15, 18, 1), 3, growth=2, blocks=(2, 1, 1), bottleneck=2), None, 1),
    "global normalization": (small(CONVNEXT, (6, 6, 1), 2, stem=1, kernel=3, widths=(3,), depths=(2,)), 4, 1),
    "one patch": (small(RESNET, (6, 6, 1), 6, width=2, blocks=(1,)), None, 2),
}


ODD = small(CNN, (9, 15, 1), 3, channels=(3, 3), kernel=2, hidden=())


@functools.cache
def example(module, dtype=np.float32):
    """Variables unlike any initial ones, a clean image and its alternatives."""
    draws = np.random.default_rng(0)

    def draw(path, leaf):
        center = 1 if path[-1].key in ("scale", "var") else 0
        spread = math.prod(leaf.shape[:-1]) ** -0.5 if path[-1].key == "kernel" else 0.2
        return (center + spread * draws.normal(size=leaf.shape)).astype(dtype)

    shapes = jax.eval_shape(lambda key: models.init(module, key), jax.random.key(0))
    tokens, alternatives = draws.normal(size=(2, *module.config.token_shape)).astype(dtype)
    return jax.tree.map_with_path(draw, shapes), tokens, alternatives


@pytest.mark.parametrize("name", CASES)
def test_equals_the_plain_one_in_float64(name, float64):
    module, rows, groups = CASES[name]
    module = type(module)(dataclasses.replace(module.config, dtype="float64"))
    variables, tokens, alternatives = example(module, np.float64)
    mask = np.arange(len(tokens)) % 5 != 1  # which leaves out a patch at a border
    plain, fast = quick(plain_of(module)), quick(fast_of(module, rows, groups=groups))
    expected, found = (run(variables, tokens, alternatives, mask) for run in (plain, fast))
    only_its_own_output_is_not_finite(fast, variables, tokens, alternatives, mask, found[1])
    scale = np.abs(expected[1]).max()
    moved = np.abs(expected[1] - expected[0][None]).max(axis=1) / scale
    assert np.all((moved > 1e-5) == mask), "every real patch matters, and no padding does"
    assert found[0].dtype == found[1].dtype == np.float64
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["stem of a pixel", "odd sides, strides", "dense", "global normalization"])
def test_is_no_less_exact_in_float32(name):
    """The ratio of errors of one number is a toss of a coin, so that it is averaged over those of all substitutions."""
    module = CASES[name][0]
    variables, tokens, alternatives = example(module)
    with jax.enable_x64(True):
        wide = type(module)(dataclasses.replace(module.config, dtype="float64"))
        exact = np.asarray(quick(plain_of(wide))(jax.tree.map(np.float64, variables), tokens, alternatives)[1])
    plain, fast = (
        np.sqrt(np.mean((np.asarray(quick(make(module))(variables, tokens, alternatives)[1]) - exact) ** 2))
        for make in (plain_of, fast_of)
    )
    assert 0 < fast < 2 * plain, (plain, fast)


@pytest.mark.parametrize("name", ["stem of a pixel", "odd sides, strides"])
def test_a_few_sites_are_rows_of_the_whole(name):
    module, rows, _ = CASES[name]
    variables, tokens, alternatives = example(module)
    clean, changed = quick(plain_of(module))(variables, tokens, alternatives)
    sites = np.array([len(tokens) - 1, 0, 3, 3, 1])
    found = quick(fast_of(module, rows))(variables, tokens, alternatives, None, sites)
    np.testing.assert_allclose(found[0], clean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[1], changed[sites], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=f"sites must be a vector of integers from 0 to {len(tokens) - 1}"):
        fast_of(module)(variables, tokens, alternatives, None, np.array([len(tokens)]))


def test_operations_for_a_few_sites():
    """Every window is as large as the largest, so that nine sites take nine times what one takes beside the image."""
    module = models.build("convmixer", "small", image_shape=(32, 32, 3), classes=10, patch=4)
    (plain_1, one), (plain_9, nine), (_, seventeen) = (
        convolutional_operations(module, sites=sites) for sites in (1, 9, 17)
    )
    assert plain_9 == 5 * plain_1
    assert nine - one == seventeen - nine
    assert one - (nine - one) / 8 == plain_1 / 2  # the clean image
    assert nine < plain_9


@pytest.mark.whole
def test_operations_of_a_convmixer_are_those_of_its_windows():
    """By hand: patches are pixels of the grid, a window has 2 n + 1 of 8 of them after n blocks, if inside."""
    module = models.build("convmixer", "paper", image_shape=(32, 32, 3), classes=10, patch=4)
    place = np.arange(8)
    windows = [np.minimum(place + n, 7) - np.maximum(place - n, 0) + 1 for n in range(1, 7)]
    stem, pixel, head = 2 * 48 * 128, 2 * 128**2, 2 * 128 * 10
    image = 64 * (stem + 6 * pixel) + head
    expected = image + 64 * (stem + head) + pixel * sum(window.sum() ** 2 for window in windows)
    assert convolutional_operations(module, None) == (65 * image, expected)
    assert round(65 * image / expected, 2) == 1.9


def test_operations_of_a_convnext_are_saved_up_to_the_first_global_normalization():
    """By hand: two patches of 2 x 2 pixels per row of a grid of 6 x 6, each reaching one pixel further."""
    module = small(CONVNEXT, (6, 6, 1), 2, stem=1, kernel=3, widths=(3, 4), depths=(1, 1))
    windows = np.array([3, 4, 3])  # pixels after a kernel of 3, of the 6 of an image
    stem, expand, rest = 2 * 1 * 3, 2 * 3 * 12, 36 * 2 * 12 * 3 + 9 * (2 * 12 * 4 + 2 * 2 * 4 * 16) + 2 * 4 * 3
    image = 36 * (stem + expand) + rest
    expected = image + 9 * (4 * stem + rest) + expand * windows.sum() ** 2
    assert convolutional_operations(module, None) == (10 * image, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "groups", "ratio"),
    [("cnn", 2, 5.69), ("convmixer", 2, 1.72), ("resnet", 2, 1.67), ("resnet", 3, 1.73), ("densenet", 2, 1.34)],
)
def test_operations_of_the_papers_networks(name, groups, ratio):
    module = models.build(name, "paper", image_shape=(32, 32, 3), classes=10, patch=4)
    plain, shared = convolutional_operations(module, groups)
    assert round(plain / shared, 2) == ratio


def test_the_clean_image_is_evaluated_once():
    """And a block of substitutions only on windows: no activation of more than one image is a whole one early on."""
    module = small(CNN, (16, 16, 1), 4, channels=(5,), hidden=())
    jaxpr = jax.make_jaxpr(fast_of(module, 3))(*example(module))
    shapes = [tuple(map(int, s.split(","))) for s in _convolutions(str(jaxpr))]
    assert shapes.count((1, 16, 16, 5)) == 1
    assert {shape[1:3] for shape in shapes if shape[0] > 1} <= {(5, 5), (5, 6), (6, 5), (6, 6)}


def _convolutions(program):
    return re.findall(r":f32\[([\d,]+)\] = conv_general_dilated", program)


def test_equal_arguments_make_equal_functions():
    module = CASES["strides"][0]
    again = type(module)(dataclasses.replace(module.config))
    assert fast_of(again, 3) == fast_of(module, 3)
    assert hash(fast_of(again)) == hash(fast_of(module))
    assert fast_of(module, 3) != fast_of(module)
    assert fast_of(module, groups=3) != fast_of(module)


def test_bad_arguments_are_named():
    module = ODD
    variables, tokens, alternatives = example(module)
    with pytest.raises(ValueError, match="rows must be at least 1, or None for all at once, got 0"):
        fast_of(module, 0)
    with pytest.raises(ValueError, match="groups must be at least 1, or None for one for each size, got 0"):
        fast_of(module, groups=0)
    with pytest.raises(ValueError, match="module is 'MLP', but must be a convolutional network"):
        fast_of(small((mlp.MLP, mlp.Config), (4, 4, 1), 2))
    with pytest.raises(ValueError, match="alternatives must have the shape and dtype of the tokens"):
        fast_of(module)(variables, tokens, alternatives[:3])
    with pytest.raises(ValueError, match=r"tokens' shape is .* must be \[b, 15, 9\]"):
        fast_of(module)(variables, tokens[:3], alternatives[:3])
    with pytest.raises(ValueError, match=r"mask's dtype is 'float32'"):
        fast_of(module)(variables, tokens, alternatives, jnp.ones(15))
    with pytest.raises(ValueError, match=r"\['convolution_1'\]\['bias'\] is \(4,\), but CNN needs it to be \(3,\)"):
        fast_of(module)(
            example(small(CNN, (9, 15, 1), 3, channels=(3, 4), kernel=2, hidden=()))[0], tokens, alternatives
        )
