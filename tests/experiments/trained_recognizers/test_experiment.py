"""Laws of the experiment on trained recognizers: it trains as F.2 does, and its tables agree with each other."""

import csv
import dataclasses
import itertools
import shutil

import jax
import numpy as np
import pytest

from experiments import harness
from experiments.trained_recognizers import (
    claims,
    data,
    estimates,
    experiment,
    figures,
    labels,
    measure,
    models,
    report,
    train,
)
from experiments.trained_recognizers.config import PRESETS
from jaxsens.boolean import blow_up, strings
from jaxsens.models import recognizers
from tests.experiments.trained_recognizers.test_claims import fake

TINY = PRESETS["smoke"]
PAPER = PRESETS["paper"]


@pytest.fixture(scope="module")
def finished(smoke_run):
    return smoke_run("trained_recognizers")


@pytest.fixture(scope="module")
def group():
    """Return the models of random languages, which all have one shape, and their first weights."""
    (members,) = (g for g in models.groups(TINY) if g.random)
    return members, train.first_weights(TINY, members)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_models_are_those_of_f2_and_paired_across_languages():
    drawn = models.models(PAPER)
    assert len(drawn) == 3 * 50 + 2 * 4 * 10 * 10 + 10 * 50
    by_number = {}
    for model in drawn:
        by_number.setdefault(model.number, set()).add((model.sizes, model.batch, model.learning_rate))
    assert all(len(distinct) == 1 for distinct in by_number.values())
    rates = np.log10([next(iter(distinct))[2] for distinct in by_number.values()])
    batches = np.array([next(iter(distinct))[1] for distinct in by_number.values()])
    assert -4 <= rates.min() < -3.9 < -2.1 < rates.max() <= -2
    assert abs(rates.mean() + 3) < 4 * 2 / np.sqrt(12 * len(rates))  # uniform on a logarithmic scale
    assert 128 <= batches.min() < 228 < 3996 < batches.max() <= 4096
    assert sum(len(g.models) for g in models.groups(PAPER)) == len(drawn)
    small = dataclasses.replace(PAPER, training_strings=1000)
    assert max(m.batch for m in models.models(small) if not m.kind.random) == 1000


def test_examples_have_the_labels_of_their_language():
    config = dataclasses.replace(TINY, random_passes=3)
    kinds = {kind.name: kind for kind in models.kinds(config)}
    for kind, number in [(kinds["sparse_parity_2"], 0), (kinds["majority"], 0), (kinds["random_xavier_normal"], 1)]:
        splits = data.examples(config, kind, number)
        language = models.language_of(config, kind, number)
        for bits, truth in splits.values():
            assert (bits.dtype, truth.dtype) == (np.uint8, np.float32)
            np.testing.assert_array_equal(truth, language.accept(bits))
        test, training = (splits[name][0] for name in ("test", "training"))
        if kind.random:
            np.testing.assert_array_equal(training, np.tile(test, (3, 1)))
        else:
            assert (test != training).any()


@pytest.mark.parametrize("kind", models.kinds(TINY), ids=lambda kind: kind.name)
def test_exact_profiles_are_distributions_with_the_exact_mean(kind):
    assert kind.exact.sum() == pytest.approx(1)
    language = kind.language(jax.random.key(1))
    expected = kind.n / 2 if kind.random else float(language.average_sensitivity)
    assert kind.average == pytest.approx(expected)
    assert kind.exact @ np.arange(kind.n + 1) == pytest.approx(expected)


def test_sensitivity_is_counted_flip_by_flip(group):
    architecture = group[0].sizes.config(TINY.epsilon)
    variables = recognizers.init(architecture, jax.random.key(1), "uniform")
    bits = np.asarray(strings.exhaustive(6))
    decided = np.asarray(jax.jit(recognizers.evaluation(architecture))(variables, bits)) > 0
    flipped = bits[:, None] ^ np.eye(6, dtype=np.int32)[None]
    index = flipped @ (1 << np.arange(6)[::-1])
    expected = (decided[index] != decided[:, None]).sum(1)
    assert expected.max() > 0
    np.testing.assert_array_equal(measure.sensitivities(architecture, variables, bits), expected)
    variables["params"]["readout"]["weight"] = np.full_like(variables["params"]["readout"]["weight"], np.inf)
    assert (measure.sensitivities(architecture, variables, bits) == measure.NONFINITE).all()


def test_accuracy_blow_up_and_norm_are_those_of_the_library(group):
    group, stacked = group
    architecture = group.sizes.config(TINY.epsilon)
    bits, truth = (a[group.datasets] for a in train.stacked_examples(TINY, group)["test"])
    evaluation = measure.evaluate(architecture, stacked, bits, truth)
    variables = jax.tree.map(lambda a: a[3], stacked)
    internals = jax.jit(recognizers.internals(architecture))(variables, bits[3])
    assert evaluation.correct[3] == np.mean((np.asarray(internals.logits) > 0) == truth[3])
    beta = blow_up.cumulative_blow_up(np.asarray(internals.normalizers))[:, -1]
    assert evaluation.log_blow_up[3] == pytest.approx(np.log10(beta).mean(), rel=1e-5)
    squares = [np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(variables)]
    assert evaluation.norm[3] == pytest.approx(np.sqrt(np.sum(squares)))


def test_every_figure_is_there(finished):
    spectra = {f"spectra{name}.png" for name in ("", "_sparse_majority", "_sparse_parity", "_random")}
    others = {"average_sensitivity.png", "models.png", "training.png", "training_random.png", "learning_rates.png"}
    assert {path.name for path in finished.glob("*.png")} == spectra | others


def test_tables_agree_with_each_other(finished):
    drawn, languages = rows(finished / "models.csv"), rows(finished / "languages.csv")
    spectra = rows(finished / "spectra.csv")
    assert len(drawn) == len(models.models(TINY))
    for row in languages:
        members = [m for m in drawn if m["kind"] == row["kind"]]
        assert int(row["models"]) == len(members)
        assert int(row["perfect"]) == sum(float(m["accuracy"]) == 1 for m in members)
        for when in ("before", "after"):
            shares = [float(s["share"]) for s in spectra if s["kind"] == row["kind"] and s["when"] == when]
            average = np.mean([float(m[f"average_{when}"]) for m in members])
            assert sum(shares) == pytest.approx(1)
            assert np.arange(len(shares)) @ shares == pytest.approx(average) == float(row[f"average_{when}_mean"])
        rates = [r for r in rows(finished / "rates.csv") if r["kind"] == row["kind"]]
        assert sum(int(r["models"]) for r in rates) == len(members)
        assert sum(int(r["learned"]) for r in rates) == int(row["learned"])
    for row in rows(finished / "checkpoints.csv"):
        if row["epoch"] == "0":  # all strings of this preset are measured at every checkpoint
            (model,) = (m for m in drawn if all(m[k] == row[k] for k in ("kind", "language", "number")))
            assert float(row["average"]) == float(model["average_before"])


def test_models_that_learn_first_have_its_profile(finished):
    learned = [m for m in rows(finished / "models.csv") if m["kind"] == "first" and m["perfect"] == "True"]
    assert learned
    for model in learned:
        assert float(model["average_before"]) != 1
        assert float(model["average_after"]) == 1
        assert float(model["largest_after"]) == 1


def test_a_run_that_was_killed_during_training_ends_with_the_same_bytes(finished, tmp_path, monkeypatch):
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    name = next(g.name for g in models.groups(TINY) if g.random)
    for unit in again.glob(f"units/{name}*"):
        unit.unlink()
    (again / "models.csv").unlink()
    sensitivities, calls = measure.sensitivities, itertools.count()

    def killed(*arguments):
        if next(calls) == 40:  # in the third of the epochs at which 15 models are measured
            raise KeyboardInterrupt
        return sensitivities(*arguments)

    monkeypatch.setattr(measure, "sensitivities", killed)
    monkeypatch.setattr(figures, "write", lambda *_: None)
    config = dataclasses.replace(TINY, checkpoint_every=3)
    with pytest.raises(KeyboardInterrupt):
        experiment.execute(config, again)
    assert list(again.glob("checkpoints/*/*"))
    experiment.execute(config, again)
    assert not list(again.glob("checkpoints/*"))
    for path in finished.glob("*.csv"):
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.whole
def test_diverged_models_are_kept_with_their_hyper_parameters(tmp_path):
    config = dataclasses.replace(TINY, learning_rates=(1e38, 1e38))
    (group,) = (g for g in models.groups(config) if g.random)
    with harness.Run.open(tmp_path / "out", config, experiment="trained_recognizers") as run:
        unit = run.unit(
            group.name, lambda: train.train_and_measure(run, config, group),
            allow_nonfinite=train.NONFINITE_ALLOWED,
        )  # fmt: skip
    every = [estimates.Result.of(model, unit, i) for i, model in enumerate(group.models)]
    row = report.model_row(config, every[0])
    assert row["status"] == "diverged"
    assert row["learning_rate"] == pytest.approx(1e38)
    summary = report.language_row(config, group.models[0].kind, every)
    assert summary["models"] == summary["diverged"] == len(every)
    judged = [
        c
        for c in claims.claims(config, _groups(config, every))
        if "fitted" in c.quantity and "random" in c.subject.lower() and c.claim == "C24"
    ]
    assert "15 diverged" in judged[0].note


def _groups(config, random):
    groups = {}
    for model in models.models(config):
        if not model.kind.random:
            groups.setdefault(model.kind, []).append(fake(model))
    return groups | estimates.by_kind(random)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("models", 0), ("checkpoint_strings", 65), ("batches", (8, 4)), ("learning_rates", (0.0, 1.0)),
        ("sparsities", (7,)), ("random_schemes", ("kaiming",)), ("heads", ()), ("random_languages", -1),
    ],
)  # fmt: skip
def test_invalid_settings_are_refused(field, value):
    with pytest.raises(ValueError, match=field.removeprefix("random_").removesuffix("s")):
        dataclasses.replace(TINY, **{field: value})


def test_exact_averages_on_the_strings_that_models_are_measured_on():
    """Where every string is as sensitive the strings do not matter; elsewhere they are counted one by one."""
    for kind in models.kinds(TINY):
        average = data.exact_on_strings(TINY, kind, [0])
        if kind.family in ("first", "parity", "sparse_parity"):
            assert average == kind.average
        bits, language = data.profiled(TINY, kind.n), models.language_of(TINY, kind, 0)
        counts = [
            sum(language.accept(bits ^ np.eye(kind.n, dtype=np.uint8)[i]) != language.accept(bits))
            for i in range(kind.n)
        ]
        assert average == pytest.approx(float(np.sum(counts)) / len(bits))


def test_labels_name_languages_and_strings():
    kinds = {kind.name: kind for kind in models.kinds(TINY)}
    assert labels.language(kinds["sparse_parity_2"]) == "Sparse parity, 2 bits"
    assert labels.language(kinds["random_xavier_normal"]) == "Random labels, Xavier normal weights"
    assert labels.probed(TINY, 6) == "64 random strings of 6 bits"
    config, _ = data.with_strings(TINY, {6: np.ones((64, 6))})
    assert labels.probed(config, 6) == "64 of the user's strings of 6 bits"


def test_user_strings_replace_random_ones_of_their_length(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (70, 6))
    config, checked = data.with_strings(TINY, {6: bits})
    np.testing.assert_array_equal(data.profiled(config, 6, checked), bits[:64])
    np.testing.assert_array_equal(data.profiled(config, 5, checked), data.profiled(TINY, 5))
    parity = next(kind for kind in models.kinds(TINY) if kind.name == "sparse_majority_2")
    assert data.exact_on_strings(config, parity, [0], checked) != data.exact_on_strings(config, parity, [0])
    assert config.data != data.with_strings(TINY, {6: 1 - bits})[0].data
    for arrays, message in (({6: bits[:9]}, "must hold profile_strings = 64"), ({7: bits}, "strings of 7 bits"),
                           ({6: bits + 1}, "of 0 and 1"), ({6: bits[0]}, "of 0 and 1")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            experiment.execute(TINY, tmp_path / "out", data=arrays)


@pytest.mark.slow
def test_first_of_20_bits_is_learned_perfectly_and_its_profile_is_the_exact_one():
    """With uniform weights and F.2's recipe, to a loss that leaves no string in doubt."""
    config = dataclasses.replace(PRESETS["laptop"], models=4, learning_rates=(1e-3, 1e-2), target_loss=1e-5)
    model = next(m for m in models.models(config) if m.kind.name == "first")
    members = [dataclasses.replace(m, sizes=model.sizes) for m in models.models(config) if m.kind == model.kind]
    group = models.Group(model.sizes, random=False, models=tuple(members))
    architecture = group.sizes.config(config.epsilon)
    examples = train.stacked_examples(config, group)
    trained = train.train(config, group, train.first_weights(config, group), examples)
    tested, truth = (part[group.datasets] for part in examples["test"])
    assert (measure.evaluate(architecture, trained.variables, tested, truth).correct == 1).all()
    for i in range(len(members)):
        counts = measure.sensitivities(architecture, trained.member(i), data.profiled(config, config.length))
        assert (counts == 1).all()
