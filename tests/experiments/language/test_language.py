"""Laws of the experiment on sentences: noise, frozen parameters, what is chosen, and verdicts on planted results."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import harness
from experiments.harness.inputs import require_same
from experiments.language import claims, data, estimates, experiment, models
from experiments.language.config import PRESETS
from experiments.language.measure import name_of
from experiments.language.perturbations import Noise, OtherWord, of_embeddings
from jaxsens.data import text
from jaxsens.models.text import encoder

SMOKE, LAPTOP = PRESETS["smoke"], PRESETS["laptop"]
KEY = jax.random.key(0)


def test_noise_is_of_the_scale_that_its_treatment_says():
    x = jax.random.normal(KEY, (3, 4_000)) * jnp.array([[1.0], [0.02], [3.0]]) + 0.5
    raw, renormalized, published = (
        np.asarray(Noise(15.0, treatment)(KEY, jnp.uint32(0), x)) for treatment in ("raw", "renormalized", "published")
    )
    deviation = np.asarray(x).std(1)
    np.testing.assert_allclose((raw - x).std(1), 15**0.5 * deviation, rtol=0.05)
    np.testing.assert_allclose((published - x).std(1), 15**0.5, rtol=0.05)
    np.testing.assert_allclose(renormalized.mean(1), x.mean(1), atol=1e-4)
    np.testing.assert_allclose(renormalized.std(1), deviation, rtol=1e-4)
    assert np.corrcoef(renormalized[0], raw[0])[0, 1] > 0.999


def test_another_word_is_another_one_and_all_are_as_likely():
    ids = jnp.tile(jnp.arange(4, 8, dtype=jnp.int32), 3_000)
    found = np.asarray(OtherWord(4, 8)(KEY, jnp.uint32(1), ids))
    counts = np.zeros((4, 4))
    np.add.at(counts, (np.asarray(ids) - 4, found - 4), 1)
    assert not np.diag(counts).any()
    assert np.abs(counts[~np.eye(4, dtype=bool)] - 1_000).max() < 130


def test_frozen_parameters_get_no_gradient_and_the_others_do():
    module = models.module(SMOKE, "lstm_frozen", 9)
    variables, ids = encoder.init(module, KEY), np.array([[1, 5, 6, -1]], np.int32)

    def loss(params, family):
        return jnp.sum(models.train_apply(family, module)({"params": params}, ids, KEY)[0] ** 2)

    frozen, whole = (jax.grad(loss)(variables["params"], family) for family in ("lstm_frozen", "lstm"))
    for name, gradient in frozen.items():
        moved, would = (any(np.asarray(leaf).any() for leaf in jax.tree.leaves(g)) for g in (gradient, whole[name]))
        assert would
        assert moved == (name not in models.FROZEN)


def test_the_published_roberta_normalizes_the_noisy_token_again():
    module = models.module(SMOKE, "roberta", 9)
    draws = np.random.default_rng(0)
    shapes = encoder.shapes_of(module)["params"]
    params = jax.tree.map(lambda leaf: draws.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    params |= {name: np.zeros_like(params[name]) for name in ("positions", "types")}
    width = np.ones(SMOKE.width, np.float32)
    params["norm_embedding"] = {"scale": width, "bias": 0 * width}
    x = 5 + 4 * jax.random.normal(KEY, (3, SMOKE.width))
    mean, deviation = x.mean(-1, keepdims=True), x.std(-1, keepdims=True)
    ones = jnp.ones(3, bool)
    published = of_embeddings(module, "published", 2)({"params": params}, x, x, ones)
    by_hand = of_embeddings(module, "raw", 2)({"params": params}, *[(x - mean) / deviation] * 2, ones)
    plain = of_embeddings(module, "raw", 2)({"params": params}, x, x, ones)
    np.testing.assert_allclose(published[0], by_hand[0], atol=1e-3)
    assert np.abs(np.asarray(published[0] - plain[0])).max() > 1e-2


def planted(config, family, rate, share, seed=0, accurate=0.9):
    """Models whose sensitivity is about a share, and that differ a little; 0.7 of the training texts have one label."""
    draws = np.random.default_rng(seed)
    shape = (config.measured, config.longest)
    sites = np.arange(shape[1])[None] < draws.integers(4, shape[1], shape[0])[:, None]
    units = []
    for number in range(config.seeds):
        level = share * (1 + 0.05 * number)
        unit = {name: np.where(sites, draws.random(shape) < level, np.nan) for name in estimates.quantities(config)}
        unit |= {name: (draws.random(shape[0]) < level) * 1.0 for name in unit if name.startswith("sentence")}
        points = len(config.points)
        unit |= {"parameters": 5, "curve_sensitivity": np.full((points, config.curve_texts), level)}
        unit |= {"curve_accuracy": np.linspace(0.5, accurate, points)[:, None] + np.zeros((1, 8)), "losses": [0.1]}
        unit |= {"majority": 0.7, "train_correct": np.arange(100) < 100 * accurate}
        units.append(unit | {"test_correct": draws.random(20) < 0.7})
    return estimates.Family(config, family, rate, units, config.learning_rates)


@pytest.mark.parametrize(
    ("lstm", "roberta", "rate", "verdict"),
    [
        (0.4, 0.05, 1e-3, "supported"),
        (0.05, 0.4, 1e-3, "contradicted"),
        (0.2, 0.2, 1e-3, "inconclusive"),
        (0.4, 0.05, 3e-3, "inconclusive"),  # at the edge of the grid
    ],
)
def test_the_difference_to_a_wholly_trained_lstm_decides(lstm, roberta, rate, verdict):
    families = {
        name: planted(LAPTOP, name, rate, share, seed)
        for seed, (name, share) in enumerate({"lstm": lstm, "lstm_frozen": 0.5, "roberta": roberta}.items())
    }
    rows = claims.claims(LAPTOP, {"mrpc": families})
    judged = [row for row in rows if row.verdict]
    assert {(row.claim, row.subject, row.reference) for row in judged} == {("C5", "roberta", "lstm")}
    assert [row.verdict for row in judged] == [verdict] * 3
    assert sum("training accuracy first is 0.9" in row.quantity for row in judged) == 1
    confounds = [row for row in rows if row.quantity.startswith("what ")]
    assert len(confounds) == 4
    assert not any(row.verdict for row in confounds)
    published = [row.published for row in rows if row.subject == "roberta" and row.published == 0.002]
    assert len(published) == 1


@pytest.mark.parametrize(
    ("lstm", "roberta", "reason", "at_equal_accuracy"),
    [
        (0.9, 0.7, "of roberta is 0.700; the most frequent class has 0.700, and 0.1 more is needed", "not every model"),
        (0.7, 0.9, "of a model of lstm is 0.700", "not every model"),
        (1.0, 0.9, *["training accuracies differ by 0.100; 0.05 is allowed"] * 2),
        (0.85, 0.85, "", "not every model reaches a training accuracy of 0.9"),
        (0.95, 0.91, "", ""),
    ],
)
def test_models_that_learned_nothing_or_not_as_much_decide_nothing(lstm, roberta, reason, at_equal_accuracy):
    families = {
        "lstm": planted(LAPTOP, "lstm", 1e-3, 0.4, 0, lstm),
        "roberta": planted(LAPTOP, "roberta", 1e-3, 0.001 if reason else 0.05, 1, roberta),
    }
    judged = [row for row in claims.claims(LAPTOP, {"mrpc": families}) if row.verdict]
    for row in judged:
        expected = at_equal_accuracy if "first is" in row.quantity else reason
        assert (expected in row.reason, row.verdict) == (True, "inconclusive" if expected else "supported"), row
    assert len(judged) == 3


def test_one_model_that_gives_the_most_frequent_class_withholds_the_verdict():
    families = {name: planted(LAPTOP, name, 1e-3, 0.4, 0, 1.0) for name in ("lstm", "roberta")}
    collapsed = planted(LAPTOP, "roberta", 1e-3, 0.001, 1, 0.7).models[0]
    families["roberta"].models[1] = {**families["roberta"].models[1], "train_correct": collapsed["train_correct"]}
    judged = [row for row in claims.claims(LAPTOP, {"mrpc": families}) if row.verdict and "first" not in row.quantity]
    assert ["training accuracy of a model of roberta is 0.700" in row.reason for row in judged] == [True] * 2


def test_matched_accuracy_positions_and_the_chosen_rate():
    family = planted(LAPTOP, "lstm", 1e-3, 0.25)
    assert family.matched.sensitivity.shape == (LAPTOP.seeds, LAPTOP.curve_texts)
    np.testing.assert_allclose(family.matched.accuracy, [0.9] * LAPTOP.seeds)
    assert planted(LAPTOP, "lstm", 1e-3, 0.25, accurate=0.8).matched is None
    name = name_of("raw", 15.0)
    values = np.full((2, 5), np.nan)
    values[0, 1:5], values[1, 1:4] = (1, 0, 0, 1), (1, 0, 1)
    family.models = [{name: values}, {name: values}]
    places = [(one.first, one.last, one.texts, float(one.sensitivity.mean)) for one in family.by_position(name)]
    assert places == [(0, 0, 2, 1.0), (1, 1, 2, 0.0), (2, 3, 2, 0.75)]  # 2 to 3: (0 + 1) / 2 and 1
    searched = {
        1e-4: {"loss": 0.6, "accuracy": 0.7, "train_accuracy": 0.7},  # learned least, and has the smallest loss
        1e-3: {"loss": 1.1, "accuracy": 0.75, "train_accuracy": 0.9},
        1e-2: {"loss": 1.5, "accuracy": 0.75, "train_accuracy": 1.0},
        1e-1: {"loss": np.inf, "accuracy": 0.0, "train_accuracy": 0.0},
    }
    assert estimates.choose(searched) == 1e-2


def test_texts_become_ids_of_a_tokenizer_that_is_trained_on_those_to_learn_from(tiny_bert):
    pytest.importorskip("tokenizers")
    config = replace(SMOKE, texts=tiny_bert["texts"])
    first, second = (data.load(config, "own") for _ in range(2))
    np.testing.assert_array_equal(first.train[0], second.train[0])
    ids, (_, mask, sites, _) = first.train[0], first.measured
    assert ids.shape == (29, config.longest)
    assert (len(first.validation[1]), len(first.test[1])) == (3, 8)
    assert (ids[:, 0] == 1).all()
    assert first.measured.tokens[sites].min() >= data.ORDINARY
    assert (mask == (first.train[0][: config.measured] != data.PADDING)).all()
    with pytest.raises(ValueError, match="measured=99 and batch=8 need as many training texts, got 29"):
        data.load(replace(config, measured=99), "own")


def test_a_run_is_not_continued_with_other_texts(tiny_bert, tmp_path):
    """The names in the settings are the same, as where a file was changed; no model is trained."""
    pytest.importorskip("tokenizers")
    config = replace(SMOKE, texts=tiny_bert["texts"])
    given = text.read_file(config.texts, text="text", label="label")
    reading = data.load(config, "own", given)
    with harness.Run.open(tmp_path, config, experiment="language", trains=True) as run:
        require_same(run, **experiment.inputs({"own": reading}))
    for other in (
        replace(given, texts=("another film", *given.texts[1:])),
        replace(given, labels=np.append(1 - given.labels[:1], given.labels[1:])),
    ):
        with pytest.raises(ValueError, match="begun with other texts_own: give those, or another --out"):
            experiment.execute(config, tmp_path, other)
