"""Programs for accelerators, made without one: all lower for CUDA and TPU, and none has a loop too many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsens
from jaxsens import boolean, models, perturb, sharpness, substitution
from jaxsens.boolean import truth_tables
from jaxsens.execution import parallel
from jaxsens.models import recognizers
from jaxsens.models.text import bert, encoder, gpt2, lstm

PLATFORMS = ("cuda", "tpu")
KEY = jax.random.key(0)
IMAGES = np.zeros((2, 16, 4), np.float32)
IDS = np.zeros((2, 5), np.int32)


def image_model(name):
    module = models.build(name, "small", image_shape=(8, 8, 1), classes=3, patch=2)
    return module, jax.eval_shape(lambda: models.init(module, KEY))


def text_model(module):
    return module, jax.eval_shape(lambda: encoder.init(module, KEY))


def loops(fn, *arguments, platform):
    """Return the number of loops in a program for a platform."""
    lowered = jax.jit(fn).trace(*arguments).lower(lowering_platforms=(platform,))
    return lowered.as_text().count("stablehlo.while")


def of_image(name, make):
    module, variables = image_model(name)
    return make(module), variables, IMAGES


def of_text(module, make):
    module, variables = text_model(module)
    return make(module), variables, IDS


def of_recognizer(block, make):
    config = recognizers.Config(block=block, depth=2, heads=2, head_size=4)
    return make(config), jax.eval_shape(lambda: recognizers.init(config, KEY)), IDS


SIZES = {"width": 4, "depth": 2, "heads": 2, "hidden": 4, "vocabulary": 9, "positions": 8}
FAST = models.substitution

CASES = {
    "cnn, plain": (lambda: of_image("cnn", lambda m: substitution.one_at_a_time(models.evaluation(m))), 1),
    "cnn": (lambda: of_image("cnn", FAST.convolutional), 0),
    "convmixer": (lambda: of_image("convmixer", FAST.convolutional), 0),
    "resnet": (lambda: of_image("resnet", FAST.convolutional), 0),
    "vit": (lambda: of_image("vit", FAST.encoder), 1),
    "bert": (lambda: of_text(bert.Bert(bert.Config(**SIZES, classes=3)), FAST.encoder), 1),
    "gpt2": (lambda: of_text(gpt2.GPT2(gpt2.Config(**SIZES, read_out="last")), FAST.causal), 1),
    "lstm": (lambda: of_text(lstm.LSTM(lstm.Config(vocabulary=9, width=4, depth=1, classes=3)), FAST.causal), 5),
    "recognizer": (lambda: of_recognizer("standard", FAST.recognizer), 1),
    "recognizer of the paper": (lambda: of_recognizer("paper", FAST.recognizer), 1),
}
"""A substitution, and the most loops of its program: blocks of substitutions, the layers of recognizers, time."""


@pytest.mark.whole
@pytest.mark.parametrize("name", CASES)
def test_substitutions_lower_with_no_loop_but_their_own(name):
    make, most = CASES[name]
    substitute, variables, examples = make()
    many = jax.vmap(substitute, (None, 0, 0))
    for platform in PLATFORMS:
        assert loops(many, variables, examples, examples, platform=platform) <= most


def test_windows_are_laid_in_turn_on_a_cpu_alone():
    substitute, variables, images = CASES["cnn"][0]()
    many = jax.vmap(substitute, (None, 0, 0))
    assert loops(many, variables, images, images, platform="cpu") > 0
    assert loops(many, variables, images, images, platform="cuda") == 0


@pytest.mark.parametrize("name", ["profile", "influences", "walsh", "degree"])
def test_truth_tables_lower_without_loops_and_fill_the_lanes_of_a_tpu(name):
    fn, table = getattr(truth_tables, name), np.zeros(2**12, bool)
    for platform in PLATFORMS:
        assert loops(fn, table, platform=platform) == 0
    text = jax.jit(fn).trace(table).lower(lowering_platforms=("tpu",)).as_text()
    assert "x2x1x" not in text, "an axis shorter than the lanes of a tile"
    assert "stablehlo.scatter" not in text, "all would add to a few addresses"


@pytest.fixture
def launched(monkeypatch):
    """Lower what ``map_items`` launches for accelerators, compute nothing, and count the programs."""
    programs = []

    def program_of(fn, chunk, backend, devices, precision):
        def local(count, items, shared):
            with jax.default_matmul_precision(precision):
                return parallel._blocks(jax.vmap(lambda item: fn(item, *shared)), chunk)(count, items)

        def program(counts, items, shared):
            one = jax.tree.map(lambda a: a[0], (counts, items))
            for platform in PLATFORMS:
                jax.jit(local).trace(*one, shared).lower(lowering_platforms=(platform,))
            programs.append((fn, chunk))
            shapes = jax.eval_shape(local, *one, shared)
            return jax.tree.map(lambda s: np.zeros((len(counts), *s.shape), s.dtype), shapes)

        return program, jax.sharding.SingleDeviceSharding(devices[0])

    monkeypatch.setattr(parallel, "_program", program_of)
    return programs


def close(params, batch):
    return jnp.square(jnp.tanh(batch @ params["a"]) @ params["b"]).sum(-1)


@pytest.mark.whole
def test_measures_lower_and_launch_few_programs(launched):
    noise = perturb.gaussian(1.0)
    how = jaxsens.Execution(check=False, devices=jax.devices()[:1])
    module, variables = image_model("vit")
    variables = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), variables)
    jaxsens.token_sensitivity(FAST.encoder(module), noise, draws=3, execution=how)(KEY, variables, IMAGES)
    assert len(set(launched)) == 1
    launched.clear()
    config = recognizers.Config(depth=2, heads=2, head_size=4)
    boolean.sensitivity_profile(FAST.recognizer(config), execution=how)(KEY, recognizers.init(config, KEY), IDS)
    assert len(set(launched)) == 1
    launched.clear()
    params = {"a": np.ones((3, 4), np.float32), "b": np.ones((4, 2), np.float32)}
    batch = np.ones((6, 3), np.float32)
    sharpness.average_sharpness(close, noise, draws=4, execution=how)(KEY, params, batch)
    assert len(set(launched)) == 2, "the unperturbed model, and the perturbed ones"
    launched.clear()
    stacked = jax.tree.map(lambda a: np.stack([a, a]), params)
    sharpness.worst_case_sharpness(close, 0.1, iterations=2, execution=how).over_models(KEY, stacked, batch)
    assert len(set(launched)) == 1
