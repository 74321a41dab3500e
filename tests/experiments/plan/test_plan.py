"""The plan counts what an experiment would compute, and divides by a rate."""

import dataclasses

import pytest

from experiments.plan import __main__, counts, parts
from experiments.random_recognizers import config as random_recognizers
from experiments.vision import config as vision


def test_recognizers_are_counted_one_by_one():
    config = random_recognizers.PRESETS["smoke"]
    found = {part.name: part for part in counts.of_random_recognizers(config)}
    models = random_recognizers.models(config)
    for kind in ("transformer", "lstm"):
        number = sum(model.kind == kind for model in models)
        assert found[f"sensitivity, {kind}"].forwards == number * config.strings * (config.length + 1)
    longer = {p.name: p for p in counts.of_random_recognizers(dataclasses.replace(config, strings=2 * config.strings))}
    for name, part in found.items():
        assert longer[name].operations == 2 * part.operations > 0


def test_images_are_counted_from_the_settings():
    config = dataclasses.replace(vision.PRESETS["smoke"], dataset="mnist", patch=7, architectures=("mlp",))
    found = {part.name: part for part in counts.of_vision(config)}
    assert found["sensitivity"].forwards == config.seeds * config.measured * config.draws * (16 + 1)
    assert found["sharpness"].forwards == config.seeds * config.measured * (config.sharpness_draws + 1)
    regularized = dataclasses.replace(config, architectures=("mlp_regularized",))
    assert counts.of_vision(regularized)[0].forwards == 2 * found["training"].forwards


def test_hours_are_operations_over_the_rate(capsys):
    part = parts.Part("flips", "recognizers", 1.0, 7.2e15)
    assert parts.hours(part, 1e12) == 2
    assert parts.hours(part) == pytest.approx(2e12 / (parts.CEILING * parts.ESTIMATED["recognizers"]))
    __main__.main(["random_recognizers", "--preset", "smoke"])
    assert "none measured" in capsys.readouterr().out
    for bad in (["nothing"], ["--rate", "0"], ["--preset", "large"]):
        with pytest.raises(SystemExit):
            __main__.main(bad)
