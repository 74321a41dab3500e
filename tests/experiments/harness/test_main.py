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

from experiments.harness import Experiment, Run

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
