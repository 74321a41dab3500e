"""Laws of the experiment on simplicity bias: labels are what they should be, models count as claimed, runs resume."""

import csv
import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest

from experiments.simplicity_bias import claims as judging
from experiments.simplicity_bias import experiment
from jaxsens.training import checkpoints
from jaxsens.training.many_models import DIVERGED, REACHED, TRAINING

pytest.importorskip("matplotlib")
SMOKE = experiment.PRESETS["smoke"]
TABLES = ("models", "noise_levels", "curves", "random_labels", "labels", "comparison")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return experiment.execute(SMOKE, tmp_path_factory.mktemp("run") / "out")


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".csv", ".png")}


@dataclass(frozen=True)
class Rule:
    """A model that accepts where the bits before ``until`` have an even sum."""

    until: int

    def __call__(self, variables, strings):
        return 1.0 - 2.0 * (strings[:, : self.until].sum(1) % 2) + variables["params"]


def test_a_run_leaves_its_tables_and_goes_on_to_the_same_bytes(finished, tmp_path):
    before = contents(finished)
    assert set(before) == {f"{name}.csv" for name in TABLES} | {"training.png", "random_labels.png"}
    assert not (finished / "checkpoints").exists()
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    for unit in ("parity-lstm-32-1", "labels-lstm"):
        (again / "units" / f"{unit}.npz").unlink()
    (again / "models.csv").unlink()
    experiment.execute(SMOKE, again)
    assert contents(again) == before
    assert json.loads((again / "manifest.json").read_text())["status"] == "finished"


def test_a_seed_gets_the_same_numbers_without_the_others(finished):
    alone = experiment.learn_parity(replace(SMOKE, seeds=1, label_sets=1), "lstm", 32, 2)
    with np.load(finished / "units" / "parity-lstm-32-2.npz", allow_pickle=False) as unit:
        for name in experiment.CURVES:
            np.testing.assert_array_equal(alone[name], unit[name])


def test_random_labels_go_on_from_a_checkpoint(finished, tmp_path, monkeypatch):
    config, save = replace(SMOKE, checkpoint_every=30), checkpoints.save

    def killed(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            experiment.learn_labels(config, "lstm", tmp_path / "stack")
    found = experiment.learn_labels(config, "lstm", tmp_path / "stack")
    with np.load(finished / "units" / "labels-lstm.npz", allow_pickle=False) as unit:
        assert set(unit) == set(found)
        for name, values in found.items():
            np.testing.assert_array_equal(values, unit[name])


def test_what_is_measured_is_what_training_watched(finished):
    with np.load(finished / "units" / "parity-transformer-32-0.npz", allow_pickle=False) as unit:
        points = unit["epochs"]
        assert points.tolist() == [0, 1, 6, 40]
        np.testing.assert_allclose(
            unit["validation_accuracy"][:, 1:], unit["watched_accuracy"][:, points[1:] - 1], atol=1e-6
        )
        assert not np.array_equal(unit["validation_accuracy"], unit["test_accuracy"])


def test_labels_are_parities_with_nested_noise():
    config = replace(SMOKE, relevant=4, counts=(1_000, 32), batch=8)
    drawn = experiment.task(config, 1_000, 3)
    (clean, some, more), language = drawn.labels, drawn.language
    ones = drawn.strings[:, list(language.indices)].sum(1)
    np.testing.assert_array_equal(clean, ones % 2 == 0)
    assert len(language.indices) == 4
    for labels, noise in ((some, 0.1), (more, 0.2)):
        assert np.mean(labels != clean) == pytest.approx(noise, abs=5 * np.sqrt(noise * (1 - noise) / 1_000))
    assert ((some != clean) <= (more != clean)).all()
    fewer, other = experiment.task(config, 32, 3), experiment.task(config, 32, 4)
    np.testing.assert_array_equal(fewer.strings, drawn.strings[:32])
    np.testing.assert_array_equal(fewer.labels, drawn.labels[:, :32])
    strings = [drawn.strings[:32], drawn.validation[0], drawn.test[0], other.strings]
    assert len({found.tobytes() for found in strings}) == 4
    assert language != other.language


def test_accuracy_and_sensitivity_of_known_functions():
    variables = {"params": np.float32(0)}
    given = experiment.task(SMOKE, 32, 0)
    probes = given.strings[:8]
    for until in (1, 5):
        assert experiment.sensitivity(SMOKE, Rule(until), variables, probes) == (until / SMOKE.length, 0.0)
    right = [np.asarray(Rule(1)(variables, pair) > 0) for pair in (given.strings, given.validation[0], given.test[0])]
    given = replace(given, validation=(given.validation[0], right[1]), test=(given.test[0], 1 - right[2]))
    assert experiment.accuracies(SMOKE, Rule(1), variables, given, right[0]) == (1.0, 1.0, 0.0)


def test_a_model_that_diverges_is_recorded_and_never_chosen():
    config = replace(SMOKE, rates=(1e30, 1e-3), steps=8)
    found = {("parity", "transformer", 32, 0): experiment.learn_parity(config, "transformer", 32, 0)}
    (unit,) = found.values()
    diverged = unit["status"] == DIVERGED
    assert diverged.tolist() == [rate == 1e30 for _, rate in config.settings]
    assert (unit["epochs_done"][diverged] == 1).all()
    for name in experiment.CURVES:
        assert np.isfinite(unit[name]).all()
        np.testing.assert_array_equal(unit[name][diverged, -1], unit[name][diverged, 0])  # the weights of the start
    config = replace(config, seeds=1)
    unit["validation_accuracy"][diverged] = 1.0
    assert judging.best_rate(config, found, "transformer", 32, 0.1) == 1e-3
    assert judging.Group(config, found, "transformer", 32, 0.1, 1e30).row(False)["diverged"] == 1


def planted(config, generalises, sensitivities):
    """Results as they would be if a kind generalised, and the other learned by heart."""
    results = {}
    points = np.array([0, 4])
    for kind in experiment.KINDS:
        for count in config.counts:
            for seed in range(config.seeds):
                noise, rate = np.transpose(config.settings)
                clean = np.where(kind == generalises, 1.0, 0.55 + 0.01 * seed) - (rate > 1e-3) * 0.1
                training = np.where(kind == generalises, 1 - noise, 1.0)
                last = {"training_accuracy": training, "validation_accuracy": clean, "test_accuracy": clean}
                last |= {"sensitivity": training / 5, "sensitivity_sem": 0 * training}
                unit = {name: np.stack([np.full(len(noise), 0.5), value], 1) for name, value in last.items()}
                status = np.full(len(noise), TRAINING)
                results["parity", kind, count, seed] = unit | {"epochs": points, "status": status}
        status = np.array([[REACHED, TRAINING], [REACHED, REACHED], [TRAINING, TRAINING], [REACHED, TRAINING]])
        spread = np.array([[0.0, 9.0], [-0.01, 0.01], [9.0, 9.0], [0.01, 9.0]])  # 9 where it must not count
        unit = {"status": status, "trained_sensitivity": sensitivities[kind] + spread}
        results["labels", kind] = unit | {"untrained_sensitivity": 0.05 + spread}
    return results


@pytest.mark.parametrize("generalises", experiment.KINDS)
def test_claims_hold_where_they_should_and_fail_where_they_should(generalises):
    config = replace(
        experiment.PRESETS["paper"], counts=(30_000, 1_000), noises=(0.0, 0.2), rates=(3e-3, 1e-3), seeds=3,
        label_sets=4, label_models=2,
    )  # fmt: skip
    other = next(kind for kind in experiment.KINDS if kind != generalises)
    results = planted(config, generalises, {generalises: 0.16, other: 0.27})
    levels = [(kind, count, noise) for kind in experiment.KINDS for count in config.counts for noise in config.noises]
    assert {judging.best_rate(config, results, *level) for level in levels} == {1e-3}
    groups = {level: judging.Group(config, results, *level, 1e-3) for level in levels}
    held = "supported" if generalises == "transformer" else "contradicted"
    claims = judging.parity_claims(config, groups)
    judged = [claim for claim in claims if claim.verdict]
    assert len(judged) == 2 * 4 + 2 * 3  # with 1,000 strings transformers are said to overfit
    for claim in judged:
        small = "1000 strings" in claim.quantity and claim.quantity.startswith("transformer")
        exact = "on the training labels, " in claim.quantity and claim.quantity[-7:] == "noise 0"
        expected = (
            "supported"
            if exact
            else {"supported": "contradicted", "contradicted": "supported"}[held]
            if small
            else held
        )
        assert claim.verdict == expected, claim
    difference, *others = judging.label_claims(config, results)
    assert difference.verdict == held
    assert difference.measured == pytest.approx(0.11 * (-1 if generalises == "transformer" else 1))
    assert "3 of 4 with both" in difference.note
    near = [claim.verdict for claim in others if claim.verdict]
    assert near == [held] * 2
    assert [claim.measured for claim in others if not claim.verdict] == [0.5, 0.5]


def test_models_that_the_steps_left_untrained_refute_nothing():
    config = replace(
        experiment.PRESETS["paper"], counts=(30_000,), noises=(0.2,), rates=(1e-3,), seeds=3, label_sets=4,
        label_models=2,
    )  # fmt: skip
    results = planted(config, "transformer", {"transformer": 0.16, "lstm": 0.27})
    for seed in range(3):
        unit = results["parity", "transformer", 30_000, seed]
        unit["training_accuracy"] = np.full_like(unit["training_accuracy"], 0.52)
        unit["test_accuracy"] = np.full_like(unit["test_accuracy"], 0.5)
    level = (config.counts[0], config.noises[0])
    groups = {(kind, *level): judging.Group(config, results, kind, *level, 1e-3) for kind in experiment.KINDS}
    first, second, *_ = judging.parity_claims(config, groups)
    assert first.verdict == second.verdict == "inconclusive"
    assert "3 of them had hardly begun to learn" in first.note


def test_only_models_that_fit_their_labels_count(finished):
    models, kinds = rows(finished / "random_labels.csv"), rows(finished / "labels.csv")
    for row in kinds:
        own = [m for m in models if m["kind"] == row["kind"]]
        converged = [m for m in own if m["converged"] == "True"]
        assert (int(row["converged_count"]), int(row["models"])) == (len(converged), len(own))
        assert all(float(m["accuracy"]) == 1 for m in converged)
        assert all(float(m["accuracy"]) < 1 for m in own if m not in converged)
        sets = {m["data_set"] for m in converged}
        means = [np.mean([float(m["trained_sensitivity"]) for m in converged if m["data_set"] == s]) for s in sets]
        assert len(sets) == int(row["data_sets"])
        assert row["trained_mean"] == "" if not sets else float(row["trained_mean"]) == pytest.approx(np.mean(means))
    assert any(m["converged"] == "True" for m in models)


def test_tables_agree_with_each_other(finished):
    models, levels = rows(finished / "models.csv"), rows(finished / "noise_levels.csv")
    assert len(models) == 2 * 3 * 3 * 2
    for level in levels:
        same = [m for m in models if all(m[key] == level[key] for key in ("kind", "noise", "learning_rate"))]
        assert {m["chosen"] for m in same} == {level["chosen"]}
        for name in ("training_accuracy", "test_accuracy", "sensitivity", "overfitting"):
            assert float(level[f"{name}_mean"]) == pytest.approx(np.mean([float(m[name]) for m in same]))
    chosen = [(level["kind"], level["noise"]) for level in levels if level["chosen"] == "True"]
    assert len(chosen) == len(set(chosen)) == 6
    last = [row for row in rows(finished / "curves.csv") if row["epoch"] == "40"]
    key = ("kind", "noise", "seed", "learning_rate", "test_accuracy")
    assert {tuple(row[k] for k in key) for row in last} == {tuple(row[k] for k in key) for row in models}
    for claim in rows(finished / "comparison.csv"):
        if claim["low"]:
            assert float(claim["low"]) <= float(claim["measured"]) <= float(claim["high"])


def test_overfitting_is_zero_for_the_truth_and_the_noise_for_what_is_learned_by_heart():
    assert judging.overfitting(0.8, 1.0, 0.2) == pytest.approx(0)
    assert judging.overfitting(1.0, 0.5, 0.2) == pytest.approx(0.5)
    assert judging.overfitting(1.0, 1.0, 0.2) == pytest.approx(0.2)


def test_shares_that_agree_wholly_keep_an_interval():
    found = judging.share(np.ones(3), 500)
    assert (float(found.mean), float(found.sem)) == (1.0, pytest.approx(1 / 1_500))
    assert 0.99 < judging.cells(found)["low"] < judging.cells(found)["high"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seeds", 0), ("relevant", 17), ("noises", (0.5,)), ("noises", (-0.1,)), ("rates", ()), ("rates", (0.0,)),
        ("batch", 33), ("label_batch", 33), ("scheme", "kaiming"), ("counts", (32, 32)), ("label_rates", (1.0, 1.0)),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        replace(SMOKE, **{field: value})
