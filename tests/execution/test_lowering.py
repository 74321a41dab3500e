"""Programs for accelerators, made without one: all lower for CUDA and TPU, and none has a loop too many."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsens
from jaxsens import (
    boolean,
    corruptions,
    curvature,
    embedding_space,
    models,
    noise_stability,
    perturb,
    sensitivity,
    sharpness,
    substitution,
    training,
)
from jaxsens.boolean import truth_tables
from jaxsens.curvature import lanczos
from jaxsens.execution import dry_run
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


def close(params, batch):
    return jnp.square(jnp.tanh(batch @ params["a"]) @ params["b"]).sum(-1)


def classify(params, x, mask=None):
    return jnp.tanh(x.reshape(len(x), -1) @ params["a"]) @ params["b"]


NOISE = perturb.gaussian(1.0)
HOW = jaxsens.Execution(check=False, devices=jax.devices()[:1])
PARAMS = {"a": np.ones((3, 4), np.float32), "b": np.ones((4, 2), np.float32)}
STACKED = jax.tree.map(lambda a: np.stack([a, a]), PARAMS)
BATCH = np.ones((6, 3), np.float32)
PICTURES = np.full((2, 8, 8, 3), 100, np.uint8), np.array([0, 1])


def zeros(shapes):
    return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)


def token_sensitivity():
    module, variables = image_model("vit")
    jaxsens.token_sensitivity(FAST.encoder(module), NOISE, draws=3, execution=HOW)(KEY, zeros(variables), IMAGES)


def sensitivity_profile():
    config = recognizers.Config(depth=2, heads=2, head_size=4)
    boolean.sensitivity_profile(FAST.recognizer(config), execution=HOW)(KEY, recognizers.init(config, KEY), IDS)


def token_influence():
    module, variables = text_model(gpt2.GPT2(gpt2.Config(**SIZES, read_out="every")))
    measure = sensitivity.token_influence(FAST.causal(module), perturb.replace_uniform(9), execution=HOW)
    measure(KEY, zeros(variables), IDS)


def embedding_shifts():
    module, variables = text_model(bert.Bert(bert.Config(**SIZES)))
    measure = embedding_space.embedding_shifts(encoder.hidden_states(module), execution=HOW)
    measure(zeros(variables), IDS, IDS + 1)


def stability():
    measure = noise_stability.noise_stability(
        classify, noise_stability.CorrelatedGaussian(), [0.5, 0.9], draws=2, execution=HOW
    )
    measure(KEY, PARAMS, BATCH[:, None])


def corruption_error():
    params = {"a": np.ones((192, 4), np.float32), "b": PARAMS["b"]}
    measure = corruptions.corruption_error(classify, names=["fog", "jpeg_compression"], execution=HOW)
    measure(KEY, params, PICTURES)


def average_sharpness():
    sharpness.average_sharpness(close, NOISE, draws=4, execution=HOW)(KEY, PARAMS, BATCH)


def worst_case():
    sharpness.worst_case_sharpness(close, 0.1, iterations=2, execution=HOW).over_models(KEY, STACKED, BATCH)


def full_batch():
    def measure(steps, variables):
        return {"steps": np.full(2, float(steps))}

    how = training.FullBatchConfig(steps=4, every=2)
    data = np.ones((2, *BATCH.shape), np.float32)
    rates = {"learning_rate": [0.1, 0.1], "weight_decay": [0.0, 0.0], "measure": measure, "devices": HOW.devices}
    training.fit_full_batch(KEY, mean_loss, {"params": STACKED}, data, how, **rates)


def mean_loss(variables, data, key):
    return close(variables["params"], data).mean()


MEASURES = {
    token_sensitivity: (1, 3),
    sensitivity_profile: (1, 2),
    token_influence: (1, 4),
    embedding_shifts: (1, 1),
    stability: (1, 2),
    corruption_error: (3, 2),
    average_sharpness: (2, 2),
    worst_case: (1, 3),
    full_batch: (1, 2),
}
"""A measure, the number of its programs, and the most loops of one: that over chunks, and its own."""


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)
def test_measures_lower_and_have_few_programs_and_loops(measure):
    launches = []
    with dry_run.recording(launches):
        measure()
    programs, most = MEASURES[measure]
    distinct = {launch.program: launch for launch in launches}.values()
    assert len(distinct) == programs
    for launch, platform in itertools.product(distinct, PLATFORMS):
        assert launch.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.while") <= most


@pytest.mark.parametrize("build", [curvature.hessian_product, curvature.fisher_product])
def test_lanczos_lowers_with_a_loop_over_steps_and_one_over_blocks(build):
    problem = build(close, execution=HOW.replace(chunk=3)).prepare(PARAMS, BATCH)
    traced = lanczos.decompose.trace(problem.product, 3, KEY, problem.params, problem.parts)
    for platform in PLATFORMS:
        assert traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.while") <= 3
