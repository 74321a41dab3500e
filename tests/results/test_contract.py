"""What every result can do, tried on one of each class, made by the smallest calls.

It is long, since it holds a call for every class.
"""

import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
import sys
import types
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxsens
from jaxsens import boolean, curvature, embedding_space, noise_stability, results, sharpness, substitution, training
from jaxsens.boolean import blow_up, lipschitz
from jaxsens.corruptions import CorruptionError
from jaxsens.data import images, text
from jaxsens.models import pretrained
from jaxsens.models.text import bert
from jaxsens.results import files
from jaxsens.sensitivity.sampled import InterimLook
from jaxsens.sensitivity.screening import Screening
from jaxsens.statistics import estimate, variance_components
from jaxsens.statistics.estimated import Estimated
from jaxsens.training import many_models
from jaxsens.typing import Internals

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(5, 4, 2)).astype(np.float32)
PARAMS = {"w": np.ones((4, 2), np.float32)}
IDS = np.array([[0, 1, 2], [2, 1, 0]], np.int32)
TABLE = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
STRINGS = np.array([[0, 0], [0, 1], [1, 0]], np.int32)


def score(params, tokens, mask=None):
    return jnp.einsum("btd,td->b", tokens, params["w"])


def loss(params, batch):
    return score(params, batch) ** 2


def encode(params, tokens, mask=None):
    return jnp.stack([params[tokens], jnp.cumsum(params[tokens], 1)])


def internals(params, strings):
    states = params * jnp.stack([jnp.cumsum(jnp.pad(strings, ((0, 0), (0, 1))), 1)] * 2, 1)[..., None]
    return Internals(states[:, -1, -1, 0], states, 1.0 + states[:, :1, :, 0])


def noise(key, draw, x):
    return jax.tree.map(lambda a: a + 1.0 + draw, x)


def every_result():
    replace = substitution.one_at_a_time(score)
    product = curvature.hessian_product(loss)
    nearest = embedding_space.nearest_tokens(TABLE)
    parity = substitution.one_at_a_time(lambda params, x, mask=None: 1.0 - 2.0 * (x.sum(1) % 2))
    measured = jaxsens.token_sensitivity(replace, noise, draws=2)(KEY, PARAMS, X)
    recognizer = np.float32(2)
    changes = np.random.default_rng(2).normal(size=(4, 2, 3))
    pictures, numbers = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3), np.array([0, 1])
    history = {name: np.ones((2, 3), np.float32) for name in ("training_loss", "loss", "accuracy", "learning_rate")}
    config = bert.Config(vocabulary=9, positions=8, width=4, depth=1, heads=2, hidden=8, types=2, read_out="class")
    module = bert.Bert(config)
    variables = module.init(KEY, jnp.zeros((1, 3), jnp.int32))
    components = variance_components.from_changes(changes, np.ones((4, 3), bool))
    allocation = variance_components.allocate(components, 0.5, available=9)
    correlated = noise_stability.CorrelatedGaussian()
    curve = noise_stability.noise_stability(score, correlated, [0.0, 0.5, 1.0], draws=2)(KEY, PARAMS, X)
    looks = (InterimLook(3, 0.5, 0.2), InterimLook(5, 0.4, 0.1))
    yield measured
    yield jaxsens.SampledSensitivity(measured, np.arange(5), looks, True, 0.1, components, allocation, 99)
    yield jaxsens.ScreenedSensitivity(measured, Screening(1e-3, 40, 4, 3, 0))
    bigram = substitution.one_at_a_time(lambda logits, ids: logits[ids])
    yield jaxsens.sensitivity.token_influence(bigram, jaxsens.perturb.replace_uniform(3))(KEY, TABLE, IDS)
    yield estimate.from_values([0.25, 0.5, np.pi], unit="draws")
    yield components
    yield curve
    yield noise_stability.degree_weights(curve, 1)
    yield sharpness.worst_case_sharpness(loss, 0.1, group=1, iterations=2)(KEY, PARAMS, X)
    yield sharpness.loss_plane(loss, [-1, 0, 1], [0, 1])(PARAMS, [PARAMS, PARAMS], X)
    yield curvature.top_eigenpairs(product, 2)(KEY, PARAMS, X)
    yield curvature.diagonal(product, probes=3)(KEY, PARAMS, X)
    yield curvature.spectral_density(product, probes=2, points=400)(KEY, PARAMS, X)
    yield embedding_space.embedding_shifts(encode)(TABLE, IDS, nearest.replace(IDS))
    yield embedding_space.joint_shifts(encode)(TABLE, IDS, nearest.replace(IDS), np.array([[[0, 1]], [[1, 2]]]))
    yield embedding_space.identifiability(encode)(TABLE, TABLE, IDS)
    yield nearest
    yield boolean.sensitivity_profile(parity, audit=2)(KEY, None, STRINGS)
    yield boolean.profile.Audit(estimate.from_values([0.0, 0.5], rate=True, unit="strings"), 1e-7)
    yield boolean.screened_sensitivity_profile(parity, calibration=2, audit=2)(KEY, None, STRINGS)
    yield blow_up.blow_ups(internals)(recognizer, STRINGS)
    yield blow_up.influences(internals)(recognizer, STRINGS)
    yield lipschitz.lipschitz_quotients(lambda w, x: x @ w, noise, draws=3)(KEY, np.ones(2, np.float32), STRINGS)
    yield boolean.languages.sparse_parity(2000, range(900))
    yield many_models.Trained({"params": PARAMS}, np.array([0, 3]), np.array([3, 1]), np.array([2, 0]), history)
    yield training.Fitted({"params": PARAMS}, np.array([0.7, 0.5], np.float32))
    yield pretrained.Pretrained(module, variables, ("pooler",))
    yield images.ImageData("<i>mine</i>", pictures, numbers, pictures, numbers, 2, "a & b")
    yield CorruptionError(
        np.arange(12).reshape(3, 2, 2) % 3 == 0, numbers[[0, 1, 0]] == 1, ("fog", "snow"), (1, 5), "cifar10"
    )
    yield text.TextData("<b>mine</b>", ("good\n<script>", "bad" * 200), numbers, 2, "here")


@pytest.fixture(scope="module")
def every():
    return {type(result).__name__: result for result in every_result()}


NAMES = [
    "Sensitivity",
    "SampledSensitivity",
    "ScreenedSensitivity",
    "TokenInfluence",
    "Estimate",
    "Components",
    "NoiseStability",
    "DegreeWeights",
    "WorstCase",
    "LossPlane",
    "Eigenpairs",
    "Diagonal",
    "SpectralDensity",
    "EmbeddingShifts",
    "JointShifts",
    "Identifiability",
    "Nearest",
    "Profile",
    "Audit",
    "ScreenedProfile",
    "BlowUps",
    "Influences",
    "LipschitzQuotients",
    "Language",
    "Trained",
    "Fitted",
    "Pretrained",
    "ImageData",
    "CorruptionError",
    "TextData",
]
DRAWN = [name for name in NAMES if name not in ("Nearest", "Audit", "Pretrained", "TextData")]
WITHOUT_NUMBER = ("Components", "LossPlane", "SpectralDensity", "Nearest", "Trained", "Fitted", "Pretrained")
WITHOUT_NUMBER += ("ImageData", "TextData", "Diagonal")


def same(first, second):
    """Whether two results have equal types, dtypes and bits."""
    if dataclasses.is_dataclass(first):
        names = [field.name for field in dataclasses.fields(first)]
        return type(first) is type(second) and all(same(getattr(first, n), getattr(second, n)) for n in names)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, jax.Array) and jnp.issubdtype(first.dtype, jax.dtypes.prng_key):
        return first.dtype == second.dtype and same(*map(jax.random.key_data, (first, second)))
    if isinstance(first, np.ndarray | np.generic | jax.Array):
        first, second = np.asarray(first), np.asarray(second)
        return (first.dtype, first.shape, first.tobytes()) == (second.dtype, second.shape, second.tobytes())
    return type(first) is type(second) and first == second


def test_every_class_of_results_is_tried(every):
    for module in pkgutil.walk_packages(jaxsens.__path__, "jaxsens."):
        if not module.name.endswith("fashion_mnist_idx"):  # imports tensorflow_datasets
            importlib.import_module(module.name)
    known = {
        name
        for name, kind in files._TYPES.items()
        if issubclass(kind, results.Result) and kind.__module__.startswith("jaxsens.")
    }
    assert known == set(every) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_line_a_table_a_format_and_json(every, name):
    result = every[name]
    assert repr(result).startswith(f"{name}(")
    assert repr(result).endswith(")")
    assert repr(result) != f"{name}(...)"
    assert len(repr(result)) <= 200
    assert "\n" not in repr(result)
    assert f"{result}" == repr(result)
    table = ElementTree.fromstring(result._repr_html_())
    assert table.findtext("caption") == name
    assert all(len(row) == 2 and all(cell.text for cell in row) for row in table.findall("tr"))
    if name in WITHOUT_NUMBER:
        with pytest.raises(TypeError, match=rf"{name} has no number to be written in the format '.3f'"):
            f"{result:.3f}"
    else:
        assert re.fullmatch(r"(-?\d+\.\d{3}|, |[][ ]|\.\.\. \(\d+ numbers\))+", f"{result:.3f}")
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["type"] == name
    if dataclasses.is_dataclass(result):
        assert {field.name for field in dataclasses.fields(result)} <= plain.keys()
    assert not [public for public in dir(result) if public.startswith("_")]
    assert {"save", "load", "to_dict", "to_pandas"} <= set(dir(result))


def test_the_line_says_the_number_its_interval_and_the_counts(every):
    changes = np.zeros((100, 5, 16), bool)
    changes[:20, 0] = np.arange(16) < 8
    result = jaxsens.Sensitivity(changes, np.ones((100, 16), bool), True, 80)
    low, high = result.interval()
    assert repr(result) == f"Sensitivity(0.02 [95% {low:.3g}, {high:.3g}]; 100 examples x 16 tokens x 5 draws)"
    assert f"{result:.3f}" == f"0.020 [{low:.3f}, {high:.3f}]"
    assert repr(every["Trained"]) == "Trained(1 all epochs, 1 diverged; 2 models)"
    assert every["Trained"].status.tolist() == ["all epochs", "diverged"]
    assert repr(every["Components"]).startswith("Components(examples ")
    assert repr(estimate.from_values(np.eye(5))) == "Estimate(0.2, 0.2, 0.2, 0.2, ... (5 numbers); 5 units)"


def test_results_that_jit_traces_print_too():
    seen = []

    @jax.jit
    def keep(result):
        seen.append(repr(result))
        seen.append(ElementTree.fromstring(result._repr_html_()).findtext("tr/td"))
        return result.changes

    keep(jaxsens.Sensitivity(np.zeros((1, 1, 2)), np.ones((1, 2), bool), False, 1))
    assert seen == ["Sensitivity(...)", "..."]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("Language", "Trained", "ImageData", "TextData")])
def test_results_are_pytrees(every, name):
    leaves, structure = jax.tree.flatten(every[name])
    assert all(not isinstance(leaf, results.Result) for leaf in leaves)
    assert same(structure.unflatten(leaves), every[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_saved_and_loaded_equal_to_the_bit(every, name, tmp_path):
    result, path = every[name], tmp_path / "folder" / "result"
    result.save(path)
    found = type(result).load(path)
    if name == "Pretrained":  # a folder in the format of Hugging Face
        assert found.module == result.module
        assert same(found.variables, result.variables)
        return
    assert same(found, result)
    assert same(jaxsens.load(path), result)
    assert repr(found) == repr(result)


@pytest.mark.parametrize("name", NAMES)
def test_the_tidy_table_has_a_row_for_each_thing(every, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=dict))
    table = every[name].to_pandas()
    lengths = {len(column) for column in table.values()}
    assert len(lengths) == 1
    assert lengths.pop() > 0
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxsens\[pandas\]'"):
        every[name].to_pandas()


def test_tidy_tables_hold_the_numbers(every, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=dict))
    shifts = every["EmbeddingShifts"]
    table = shifts.to_pandas()
    chosen = (table["sequence"] == 1) & (table["token"] == 2) & (table["layer"] == 1) & (table["norm"] == "l2")
    assert table["own"][chosen].tolist() == [shifts.own[1, 2, 1, shifts.norms.index("l2")]]
    sites = np.array([[True, False], [True, True]])
    partly = jaxsens.Sensitivity(np.array([[[1.0, 0.0]], [[2.0, 3.0]]]), sites, False, 1).to_pandas()
    assert {name: column.tolist() for name, column in partly.items()} == {
        "example": [0, 1, 1],
        "token": [0, 0, 1],
        "change": [1.0, 2.0, 3.0],
    }


@pytest.mark.parametrize("name", [n for n in NAMES if n not in WITHOUT_NUMBER])
def test_every_number_has_an_interval_at_a_level(every, name):
    """The same words for the same thing: ``interval(level)``, wider at a higher level, refused at no level."""
    result = every[name]
    low, high = map(np.asarray, result.interval())
    wide_low, wide_high = result.interval(0.99)
    assert np.all(low <= high)
    assert np.all(wide_low <= low)
    assert np.all(high <= wide_high)
    np.testing.assert_array_equal(result.to_dict()["interval"], [low.tolist(), high.tolist()])
    with pytest.raises(ValueError, match="level must lie strictly between 0 and 1"):
        result.interval(95)
    if isinstance(result, Estimated):
        assert isinstance(result.mean, float)
        assert (result.mean, result.sem, result.count) == (
            float(result.estimate.mean),
            float(result.estimate.sem),
            result.estimate.count,
        )
        zero = result.minus(result)
        assert (zero.mean, zero.count) == (0, result.count)
        with pytest.raises(ValueError, match="other must be a"):
            result.minus(every["Nearest"])


@pytest.mark.parametrize("name", DRAWN)
def test_a_result_is_drawn_on_a_new_figure_or_on_given_axes(every, name, tmp_path):
    figure = every[name].plot()
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    given = Figure().subplots()
    assert every[name].plot(given) is given.figure
    assert given.has_data()


def test_the_perturbation_of_a_group_is_a_direction_like_params(every):
    worst = every["WorstCase"]
    direction = worst.perturbation_of(3)
    moved = jax.tree.map(jnp.add, PARAMS, direction)
    rise = loss(moved, X[3:4]) - loss(PARAMS, X[3:4])
    np.testing.assert_allclose(rise[0], worst.values[3], rtol=1e-3)
    with pytest.raises(ValueError, match="group must be from 0 to 4, got 5"):
        worst.perturbation_of(5)
    with pytest.raises(ValueError, match="measure with keep=True"):
        dataclasses.replace(worst, perturbation=None).perturbation_of()


def test_only_what_can_be_seen_has_a_plot(every):
    assert {name for name, result in every.items() if hasattr(result, "plot")} == set(DRAWN)


def test_figures_without_matplotlib_name_the_extra(every, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'jaxsens\[plot\]'"):
        every["Estimate"].plot()


def test_a_sensitivity_is_drawn_beside_an_image_and_over_a_text(every):
    result = every["Sensitivity"]
    beside = result.plot(example=1, image=np.zeros((4, 4, 3)), patch=2).axes[0]
    np.testing.assert_array_equal(beside.images[1].get_array().ravel(), result.values[1])
    texts = result.plot(words=["a", "$", "c", "d"]).axes[0].texts
    assert [drawn.get_text() for drawn in texts] == ["a", r"\$", "c", "d"]
    for options, message in (
        ({"words": "text"}, "words must be a list of 4 strings"),
        ({"words": ["a"]}, "words must be a list of 4 strings"),
        ({"image": np.zeros((4, 4, 3)), "patch": 4}, "there are 4 tokens"),
        ({"image": np.zeros((4, 4, 3))}, "patch must be an integer"),
        ({"example": 5}, "example must be from 0 to 4, got 5"),
        ({"image": np.zeros((4, 4, 3)), "words": ["a"]}, "draw one of them"),
        ({"ax": Figure()}, "ax must be matplotlib's Axes"),
    ):
        with pytest.raises(ValueError, match=message):
            result.plot(**options)


def test_public_methods_of_results_have_docstrings(every):
    for result in every.values():
        for name in dir(result):
            member = inspect.getattr_static(type(result), name, None)
            if callable(member) or isinstance(member, property | classmethod):
                assert inspect.getdoc(getattr(type(result), name)), f"{type(result).__name__}.{name}"
