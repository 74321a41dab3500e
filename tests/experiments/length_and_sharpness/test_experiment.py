"""A run's tables agree with each other; it continues from a checkpoint, and with the same functions only."""

import csv
import shutil

import numpy as np
import pytest

from experiments.length_and_sharpness import experiment, train
from experiments.length_and_sharpness.config import FUNCTIONS, PRESETS

SMOKE = PRESETS["smoke"]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_agree_with_each_other(smoke_run):
    folder = smoke_run("length_and_sharpness")
    assert not (folder / "checkpoints").exists()
    models = rows(folder / "models.csv")
    assert [row["function"] for row in models] == list(FUNCTIONS)
    means = {(row["function"], row["quantity"]): row["mean"] for row in rows(folder / "lengths.csv")}
    for row in models:
        for name in ("loss", "sharpness", "weight_norm", "sensitivity"):
            assert float(means[row["function"], name]) == pytest.approx(float(row[name]))
    first = next(row for row in models if row["function"] == "first")
    assert first["converged"] == "True"
    assert float(first["sensitivity"]) == 1, "a function that is learned has its sensitivity on every string"
    assert len(rows(folder / "tradeoff.csv")) == len(rows(folder / "random_functions.csv")) == 4
    assert {row["claim"] for row in rows(folder / "comparison.csv")} == {"H1", "H2", "H3", "H4", "H5"}


def test_a_run_killed_after_training_continues_from_its_checkpoint(smoke_run, tmp_path, monkeypatch):
    before, again = smoke_run("length_and_sharpness"), tmp_path / "again"
    shutil.copytree(before, again)
    (again / "units" / "random.npz").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(train, "measure_learned", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            experiment.execute(SMOKE, again)
    assert (again / "checkpoints" / "random").is_dir()
    experiment.execute(SMOKE, again)
    assert (again / "random_functions.csv").read_bytes() == (before / "random_functions.csv").read_bytes()
    assert not (again / "checkpoints").exists()


def test_given_functions_belong_to_the_run(smoke_run):
    tables = np.array([[0, 1] * 8])
    config = experiment.with_functions(SMOKE, tables)
    assert (config.functions, config.function_length) == (1, 4)
    assert config.own_functions != experiment.with_functions(SMOKE, 1 - tables).own_functions
    with pytest.raises(ValueError, match="own_functions: None"):
        experiment.execute(SMOKE, smoke_run("length_and_sharpness"), data=tables)
    for wrong in (np.zeros(16), np.zeros((2, 12)), np.full((1, 16), 2)):
        with pytest.raises(ValueError, match="truth tables"):
            experiment.with_functions(SMOKE, wrong)
