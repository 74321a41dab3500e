"""Laws of an experiment as a command: it ends in one line, and what stopped it stands in the manifest."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.harness import Experiment, Run, main
from experiments.token_shifts import experiment as token_shifts
from experiments.vision import experiment as vision
from jaxsens.data import images

ROOT = Path(__file__).parents[3]
DRIVER = """
import signal, sys, time
from dataclasses import dataclass
from experiments.harness import Experiment, Run

@dataclass(frozen=True)
class Config:
    seed: int = 0

def execute(config, out):
    with Run.open(out, config, experiment="sleeper") as run:
        run.unit("first", lambda: {"x": 1})
        print("ready", flush=True)
        run.unit("second", lambda: time.sleep(60) or {"x": 2})
    return out

signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of the suite may have it ignored
Experiment("sleeper", {"laptop": Config()}, execute, "Sleeps.").main(["--out", sys.argv[1], "--no-compilation-cache"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_in_one_line_that_says_how_to_resume(tmp_path, number):
    running = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "run")], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"XLA_FLAGS": ""},
    )  # fmt: skip
    assert running.stdout.readline() == "ready\n"
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    name = signal.Signals(number).name
    assert running.returncode == 1
    assert said.splitlines()[-1].startswith(f"interrupted by {name}: finished units are kept in")
    assert len(said.splitlines()) == 1
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == f"interrupted by {name}"
    assert list(manifest["units"]) == ["first"]


@dataclass(frozen=True)
class Config:
    seed: int = 0


def test_it_runs_in_any_thread_and_prints_its_folder(tmp_path, capsys):
    def execute(config, out):
        with Run.open(out, config, experiment="quick"):
            return out

    experiment = Experiment("quick", {"laptop": Config()}, execute, "Quick.", compilation_cache=False)
    before = signal.getsignal(signal.SIGTERM)
    folders = []
    worker = threading.Thread(target=lambda: folders.append(experiment.main(["--out", str(tmp_path / "a")])))
    worker.start()
    worker.join()
    folders.append(experiment.main(["--out", str(tmp_path / "b")]))
    assert folders == [tmp_path / "a", tmp_path / "b"]
    assert signal.getsignal(signal.SIGTERM) is before
    assert f"results in {tmp_path / 'b'}" in capsys.readouterr().out


@pytest.fixture
def no_start(monkeypatch):
    """The settings of a process stay as they are."""
    monkeypatch.setattr(main, "start", lambda command, every_core: None)


def said_by(run, *argv):
    with pytest.raises(SystemExit) as caught:
        run(list(argv))
    assert isinstance(caught.value.code, str)  # one line on stderr, and status 1
    assert "\n" not in caught.value.code
    return caught.value.code


def test_a_clash_of_configurations_and_foreign_files_end_in_one_line(tmp_path, no_start):
    def execute(config, out):
        with Run.open(out, config, experiment="quick") as run:
            run.unit("first", lambda: {"x": 1})
        return out

    experiment = Experiment("quick", {"laptop": Config()}, execute, "Quick.")
    experiment.main(["--out", str(tmp_path / "run")])
    said = said_by(experiment.main, "--out", str(tmp_path / "run"), "--seed", "3")
    assert said.startswith("python -m experiments.quick: ")
    assert "seed: 0, now 3" in said
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    assert "holds ['thesis.tex'] but no run: give another --out" in said_by(
        experiment.main, "--out", str(tmp_path / "other")
    )


def test_data_and_models_that_are_not_there_end_in_one_line(tmp_path, no_start):
    """Through the mains of two experiments, one that reads images and one that reads a pretrained model."""
    nowhere, out = str(tmp_path / "nowhere"), str(tmp_path / "run")
    images = ("--preset", "smoke", "--dataset", "cifar10", "--data-dir", nowhere, "--out", out)
    said = said_by(vision.EXPERIMENT.main, *images)
    assert said.startswith("python -m experiments.vision: data set 'cifar10' is not there: looked in")
    assert "python scripts/prepare_data cifar10" in said
    said = said_by(token_shifts.EXPERIMENT.main, "--preset", "smoke", "--model", nowhere, "--out", out)
    assert "config.json cannot be read" in said
    assert "--model" in said_by(token_shifts.EXPERIMENT.main, "--preset", "smoke", "--out", out)


def test_errors_of_the_computation_keep_their_traceback(tmp_path, no_start):
    def execute(config, out):
        with Run.open(out, config, experiment="quick") as run:
            run.unit("first", lambda: int("x"))
        return out

    with pytest.raises(ValueError, match="invalid literal"):
        Experiment("quick", {"laptop": Config()}, execute, "Quick.").main(["--out", str(tmp_path / "a")])

    def data_of_a_unit(config, out):
        with Run.open(out, config, experiment="quick") as run:
            run.unit("first", lambda: images.load("nope"))
        return out

    with pytest.raises(ValueError, match="not a known data set"):
        Experiment("quick", {"laptop": Config()}, data_of_a_unit, "Quick.").main(["--out", str(tmp_path / "b")])
