"""The plan counts what an experiment computes, and divides by a rate."""

import dataclasses
import importlib
import json

import pytest

from experiments.harness.work import Work
from experiments.language.config import PRESETS as LANGUAGE
from experiments.language.work import work as of_language
from experiments.plan import __main__, rates
from experiments.random_recognizers import config as random_recognizers
from experiments.random_recognizers.work import work as of_random_recognizers
from experiments.vision.config import PRESETS as VISION
from experiments.vision.work import work as of_vision
from tests.experiments.conftest import COUNTED, EXPERIMENTS


def test_every_experiment_is_counted():
    assert sorted(__main__.EXPERIMENTS) == sorted(EXPERIMENTS)


@pytest.mark.whole
@pytest.mark.parametrize("name", COUNTED)
def test_a_smoke_run_evaluates_what_the_plan_counts(name, smoke_run, smoke_config):
    """Except for what is not a map: steps with all examples, and products with the Hessian."""
    folder = smoke_run(name)
    seen = json.loads((folder.parent / f"{name}-counted.json").read_text())
    parts = importlib.import_module(f"experiments.{name}.work").work(smoke_config(name))
    training = [part for part in parts if part.kind in ("training", "training of many")]
    measured = [part for part in parts if part not in training and part.part != "curvature"]
    assert seen["operations"] == pytest.approx(sum(part.operations for part in measured), rel=1e-12)
    steps = [part for part in training if (name, part.part) != ("grokking", "training")]
    most = sum(part.forwards for part in steps)
    least = sum(part.forwards for part in steps if not part.at_most)
    assert least <= seen["forwards"] * (1 + 1e-12) <= most * (1 + 1e-9)


def test_recognizers_are_counted_one_by_one():
    config = random_recognizers.PRESETS["smoke"]
    found = {part.part: part for part in of_random_recognizers(config)}
    models = random_recognizers.models(config)
    for kind in ("transformer", "lstm"):
        number = sum(model.kind == kind for model in models)
        assert found[f"flips, {kind}"].forwards == number * config.strings * (config.length + 1)
    longer = {p.part: p for p in of_random_recognizers(dataclasses.replace(config, strings=2 * config.strings))}
    for name, part in found.items():
        assert longer[name].operations == (1 if name == "audits" else 2) * part.operations > 0


def test_settings_that_do_not_tell_the_work_are_refused():
    with pytest.raises(ValueError, match="models on disk are not known"):
        of_vision(dataclasses.replace(VISION["paper"], pretrained=True))
    with pytest.raises(ValueError, match="texts are your own"):
        of_language(dataclasses.replace(LANGUAGE["smoke"], texts="mine.jsonl"))


def test_hours_are_operations_over_the_rate(capsys):
    part = Work("flips", "recognizers", 1.0, 7.2e15)
    assert rates.hours(part, {"recognizers": 1e12}) == 2
    __main__.main(["random_recognizers", "--preset", "smoke"])
    said = capsys.readouterr().out
    assert "estimated for an H100" in said
    assert "measured" not in said
    for bad in (["nothing"], ["--rate", "0"], ["--preset", "large"], ["--measured", "nowhere.json"]):
        with pytest.raises(SystemExit):
            __main__.main(["random_recognizers", *bad])


def test_measured_rates_are_those_of_the_fastest_way_in_float32(tmp_path, capsys):
    row = {"case": "b. recognizer 128", "by": "jaxsens", "precision": "float32", "operations": 4e9, "ms": 2.0}
    rows = [row, row | {"ms": 1.0, "operations": 3e9}, row | {"precision": "tf32", "ms": 0.1}]
    rows += [row | {"by": "pytorch", "ms": 0.1}, row | {"case": "b. recognizer 512", "operations": 9e9, "ms": 3.0}]
    path = tmp_path / "accelerator.json"
    path.write_text(json.dumps({"timings": rows}))
    assert rates.measured(path) == {"recognizers": pytest.approx(12e9 / 4e-3)}
    __main__.main(["random_recognizers", "--preset", "smoke", "--measured", str(path)])
    assert "recognizers 3e+12 (measured)" in capsys.readouterr().out
    path.write_text(json.dumps({"timings": rows[2:4]}))
    with pytest.raises(ValueError, match="has no case"):
        rates.measured(path)
