"""What every experiment promises: its smoke run leaves tables, figures, a manifest, and resumes the same."""

import csv
import dataclasses
import importlib
import json
import re
import shutil

import pytest

from experiments.harness import Claim
from tests.experiments.conftest import EXPERIMENTS

KEPT = (".csv", ".png", ".pdf", ".json")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in KEPT}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(params=EXPERIMENTS)
def name(request):
    return request.param


def test_a_run_leaves_tables_figures_and_a_manifest(name, smoke_run):
    folder = smoke_run(name)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["experiment"], manifest["status"]) == (name, "finished")
    figures = list(folder.glob("*.png"))
    assert figures
    assert all(figure.stat().st_size > 10_000 for figure in figures)
    assert {figure.stem for figure in figures} == {figure.stem for figure in folder.glob("*.pdf")}
    for table in folder.glob("*.csv"):
        columns = rows(table)[0]
        assert not [c for c in columns if re.search("seconds|wall|time", c)], "timings belong to the manifest"


def test_claims_are_rows_with_an_interval_around_what_was_measured(name, smoke_run):
    claims = rows(smoke_run(name) / "comparison.csv")
    assert list(claims[0]) == [field.name for field in dataclasses.fields(Claim)]
    for row in claims:
        if row["measured"] and row["low"]:
            assert float(row["low"]) <= float(row["measured"]) <= float(row["high"]), row
        assert not row["verdict"] or row["claim"], "only a claim has a verdict"
        rests_on = [bool(row[name]) for name in ("rule", "units", "level", "power", "power_at")]
        assert rests_on == [bool(row["verdict"])] * len(rests_on), "every verdict says what it rests on"


def test_a_run_that_lost_units_and_tables_resumes_to_the_same_bytes(name, smoke_run, smoke_config, tmp_path):
    before = contents(smoke_run(name))
    again = tmp_path / "again"
    shutil.copytree(smoke_run(name), again)
    units = sorted((again / "units").glob("*.npz"), key=lambda unit: unit.stat().st_size)
    for lost in (units[0], again / "comparison.csv"):
        lost.unlink()
    importlib.import_module(f"experiments.{name}.experiment").execute(smoke_config(name), again)
    after = contents(again)
    assert set(after) == set(before)
    assert not [name for name in before if name != "manifest.json" and after[name] != before[name]]


def test_the_default_configuration_is_the_papers(name):
    module = importlib.import_module(f"experiments.{name}.config")
    assert module.Config() == module.PRESETS["paper"]
    assert {"smoke", "laptop"} <= set(module.PRESETS)


def test_another_configuration_is_refused_in_the_same_folder(name, smoke_run, smoke_config):
    experiment = importlib.import_module(f"experiments.{name}.experiment")
    with pytest.raises(ValueError, match="seed"):
        experiment.execute(dataclasses.replace(smoke_config(name), seed=12345), smoke_run(name))


def test_the_command_line_accepts_presets_and_fields(name, capsys):
    experiment = importlib.import_module(f"experiments.{name}.experiment").EXPERIMENT
    assert experiment.name == name
    assert {"smoke", "laptop", "paper"} <= set(experiment.presets)
    with pytest.raises(SystemExit) as stopped:
        experiment.main(["--help"])
    assert stopped.value.code == 0
    assert "--seed" in capsys.readouterr().out
