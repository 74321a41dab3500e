"""Configurations: flags set exactly the fields that they name, and nothing is guessed."""

import json
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from experiments.harness import cli


@dataclass(frozen=True)
class Model:
    width: int = 8
    act: str = "gelu"


@dataclass(frozen=True)
class Config:
    seed: int = 0
    dataset: str = "digits"
    epochs: int = field(default=10, metadata={"help": "passes, 100 % of the data each"})
    rate: float = 1e-3
    augment: bool = False
    clip: float | None = None
    widths: tuple[int, ...] = (8, 16)
    span: tuple[float, float] = (0.0, 1.0)
    pool: Literal["mean", "cls"] = "mean"
    data_dir: str | None = field(default=None, metadata={"identity": False})
    model: Model = field(default=Model(), metadata={"flag": False})

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError(f"epochs = {self.epochs}: allowed are 1 and more")


PRESETS = {"smoke": Config(epochs=1), "laptop": Config()}


def parse(*argv, **options):
    return cli.parse("test", PRESETS, argv, **options)


def test_flags_replace_fields_of_the_preset():
    assert parse() == cli.Command("laptop", PRESETS["laptop"], Path("runs/test-laptop"))
    assert parse(default="smoke").config == PRESETS["smoke"]
    argv = "--preset smoke --seed 7 --rate 2e-3 --augment --clip 1.5 --widths 1,2,3 --span 0.5,2 --pool cls"
    found = parse(*argv.split(), "--data-dir", "here", "--out", "there")
    expected = replace(
        PRESETS["smoke"],
        seed=7,
        rate=2e-3,
        augment=True,
        clip=1.5,
        widths=(1, 2, 3),
        span=(0.5, 2.0),
        pool="cls",
        data_dir="here",
    )
    assert found == cli.Command("smoke", expected, Path("there"))
    assert [type(x) for x in found.config.span] == [float, float]
    assert parse("--clip", "none", "--widths", "", "--no-augment").config == replace(PRESETS["laptop"], widths=())


def test_the_default_folder_names_the_chosen_fields():
    assert parse("--dataset", "glue/sst2", out_fields=("dataset", "seed")).out == Path("runs/test-laptop-glue_sst2-0")
    with pytest.raises(ValueError, match=r"out_fields = \['data'\]"):
        parse(out_fields=("data",))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--epoch 3", "unrecognized arguments: --epoch"),
        ("--model 3", "unrecognized arguments: --model"),
        ("--preset huge", "invalid choice: 'huge'"),
        ("--epochs 1.5", "'1.5' is not of type int"),
        ("--epochs 0", "epochs = 0: allowed are 1 and more"),
        ("--rate nan", "it must be finite"),
        ("--pool max", "allowed are mean, cls"),
        ("--span 1", "needs 2 parts"),
        ("--widths 1,x", "'1,x' is not of type"),
        ("--widths 1 2", "unrecognized arguments: 2: values of a list are separated by commas"),
    ],
)
def test_what_is_unknown_or_wrong_fails_at_once(capsys, argv, message):
    with pytest.raises(SystemExit) as caught:
        parse(*argv.split())
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_tells_every_field(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help", description="A test.")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "A test." in text
    assert "--epochs int passes, 100 % of the data each (laptop: 10)" in text
    assert "--data-dir str|none (laptop: none)" in text
    assert "--widths int,int,... (laptop: 8,16) --span float,float (laptop: 0.0,1.0) --pool mean|cls" in text
    assert "separated by commas, without spaces: --widths 64,128" in text


def test_help_keeps_commands_and_lists_in_one_piece(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    command = "    python -m experiments.test --preset laptop --dataset fashion_mnist     # a comment"
    presets = {"laptop": Config(widths=tuple(range(1000, 1020)))}
    with pytest.raises(SystemExit):
        cli.parse("test", presets, ["--help"], description=f"A test.\n\n{command}\n")
    lines = capsys.readouterr().out.splitlines()
    assert command in lines
    assert any(",".join(map(str, range(1000, 1020))) in line for line in lines)


@pytest.mark.parametrize("kind", [dict, list, Model, tuple, int | str, tuple[tuple[int, ...], ...], bytes])
def test_a_field_that_no_flag_can_give_fails_at_build(kind):
    made = make_dataclass("Made", [("seed", int, 0), ("odd", kind, None)], frozen=True)
    with pytest.raises(TypeError, match=r"Made.odd: no flag can give"):
        cli.parse("test", {"laptop": made()}, [])


def test_presets_are_checked():
    with pytest.raises(ValueError, match="exactly one class"):
        cli.parse("test", {}, [])
    with pytest.raises(ValueError, match=r"\['Config', 'Model'\]: allowed is exactly one class"):
        cli.parse("test", {"laptop": Config(), "smoke": Model()}, [])
    with pytest.raises(ValueError, match="default = 'paper'"):
        parse(default="paper")
    with pytest.raises(TypeError, match="no field seed: int"):
        cli.parse("test", {"laptop": Model()}, [])
    taken = make_dataclass("Taken", [("seed", int, 0), ("out", int, 0)], frozen=True)
    with pytest.raises(TypeError, match="field 'out' of Taken"):
        cli.parse("test", {"laptop": taken()}, [])
    thawed = make_dataclass("Thawed", [("seed", int, 0)])
    with pytest.raises(ValueError, match="frozen dataclass"):
        cli.parse("test", {"laptop": thawed()}, [])


def test_a_configuration_becomes_json_and_settings_stand_apart():
    identity, settings = cli.describe(Config(data_dir="here"))
    assert settings == {"data_dir": "here"}
    assert identity == json.loads(json.dumps(identity))
    assert identity["model"] == {"class": "Model", "width": 8, "act": "gelu"}
    assert identity["widths"] == [8, 16]
    assert cli.to_json({"n": np.int64(3), "x": np.float32(0.5)}) == {"n": 3, "x": 0.5}


@pytest.mark.parametrize("bad", [object(), float("nan"), {1: 2}, {1, 2}, Path("x"), np.ones(2)])
def test_what_json_cannot_hold_is_named(bad):
    with pytest.raises(ValueError, match=r"config.model.width\[1\] = "):
        cli.describe(Config(model=Model(width=(1, bad))))


def test_differences_are_named_with_both_values():
    old, _ = cli.describe(Config())
    new, _ = cli.describe(Config(rate=0.5, model=Model(width=9), data_dir="elsewhere"))
    del old["seed"]
    assert cli.differences(old, new) == ["model.width: 8, now 9", "rate: 0.001, now 0.5", "seed: absent, now 0"]
    assert cli.differences(new, new) == []
    assert cli.differences({"a": {}}, {"a": {"b": 1}}) == ["a: {}, now absent", "a.b: absent, now 1"]
