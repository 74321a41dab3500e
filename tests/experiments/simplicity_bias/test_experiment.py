"""A run's tables agree with each other; only models that fit their labels count; given labels belong to the run."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from experiments.simplicity_bias import experiment, train
from experiments.simplicity_bias.config import PRESETS, Config
from jaxsens.training.many_models import REACHED

SMOKE = PRESETS["smoke"]


@pytest.fixture
def folder(smoke_run):
    return smoke_run("simplicity_bias")


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_only_models_that_fit_their_labels_count(folder):
    models, kinds = rows(folder / "random_labels.csv"), rows(folder / "labels.csv")
    for row in kinds:
        of_kind = [m for m in models if m["kind"] == row["kind"]]
        converged = [m for m in of_kind if m["converged"] == "True"]
        assert (int(row["converged_count"]), int(row["models"])) == (len(converged), len(of_kind))
        assert all((float(m["accuracy"]) == 1) == (m in converged) for m in of_kind)
        sets = {m["data_set"] for m in converged}
        means = [np.mean([float(m["trained_sensitivity"]) for m in converged if m["data_set"] == s]) for s in sets]
        assert len(sets) == int(row["data_sets"])
        assert row["trained_mean"] == "" if not sets else float(row["trained_mean"]) == pytest.approx(np.mean(means))
    assert any(m["converged"] == "True" for m in models)


def test_tables_agree_with_each_other(folder):
    assert not (folder / "checkpoints").exists()
    models, levels = rows(folder / "models.csv"), rows(folder / "noise_levels.csv")
    assert len(models) == 2 * 3 * 3 * 2
    for level in levels:
        same = [m for m in models if all(m[key] == level[key] for key in ("kind", "noise", "learning_rate"))]
        assert {m["chosen"] for m in same} == {level["chosen"]}
        for name in ("training_accuracy", "test_accuracy", "sensitivity", "overfitting"):
            assert float(level[f"{name}_mean"]) == pytest.approx(np.mean([float(m[name]) for m in same]))
    chosen = [(level["kind"], level["noise"]) for level in levels if level["chosen"] == "True"]
    assert len(chosen) == len(set(chosen)) == 6
    last = [row for row in rows(folder / "curves.csv") if row["epoch"] == "40"]
    key = ("kind", "noise", "seed", "learning_rate", "test_accuracy")
    assert {tuple(row[k] for k in key) for row in last} == {tuple(row[k] for k in key) for row in models}


def test_given_labels_belong_to_the_run_and_are_learned(folder):
    strings = np.random.default_rng(0).integers(0, 2, (3, 32, 16))  # as in the smoke preset: nothing compiles anew
    labels = np.ones((3, 32))
    config = experiment.with_labels(SMOKE, strings, labels)
    assert config == replace(SMOKE, own_labels=config.own_labels)
    assert config.own_labels != experiment.with_labels(SMOKE, strings, 1 - labels).own_labels
    fewer = experiment.with_labels(SMOKE, strings[:2, :6], labels[:2, :6])
    assert (fewer.label_sets, fewer.label_strings, fewer.label_length, fewer.label_batch) == (2, 6, 16, 6)
    with pytest.raises(ValueError, match="own_labels: None"):
        experiment.execute(SMOKE, folder, data=(strings, labels))
    with pytest.raises(ValueError, match="strings"):
        experiment.with_labels(SMOKE, strings, strings)
    unit = train.learn_labels(config, "lstm", data=experiment._plain(strings, labels))
    assert (unit["status"] == REACHED).all()
    assert unit["trained_sensitivity"].mean() < 0.05, "constant labels are fitted by a constant function"


def test_the_defaults_are_the_published_setting():
    assert Config() == PRESETS["paper"]
    assert (Config().length, Config().relevant, Config().noises) == (40, 4, (0.0, 0.05, 0.1, 0.2))
    assert (Config().label_strings, Config().label_sets, Config().label_models) == (1_000, 20, 100)


@pytest.mark.parametrize(
    ("field", "value"), [("relevant", 17), ("noises", (0.5,)), ("batch", 33), ("label_batch", 33), ("heads", 0)]
)
def test_invalid_settings_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        replace(SMOKE, **{field: value})
