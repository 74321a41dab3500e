"""Laws of scripts/launch: one death ends all, with its name; and what several processes compute is what one does."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from jaxsens.execution import processes
from tests.execution import several_processes

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "scripts" / "launch"
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith(("JAXSENS", "CUDA", "XLA_FLAGS"))}


def launch(*options, command, **variables):
    words = [sys.executable, LAUNCH, *options, "--", *command]
    return subprocess.run(words, env=PLAIN | variables, capture_output=True, text=True, timeout=580, check=False)


def shell(text):
    return ["sh", "-c", text]


def script(folder, *arguments):
    return [sys.executable, "-W", "error", several_processes.__file__, str(folder), *arguments]


COMPILER = " ".join(flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag)
"""How this process compiles: results of processes with others differ in their last bits."""


def here(**more):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": COMPILER} | more


def test_every_process_gets_its_number(tmp_path):
    tell = 'echo "$JAXSENS_PROCESS/$JAXSENS_PROCESSES $JAXSENS_COORDINATOR" >"$0/$JAXSENS_PROCESS"'
    done = launch("--processes", "2", command=[*shell(tell), str(tmp_path)])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    first, second = ((tmp_path / name).read_text().split() for name in ("0", "1"))
    assert [first[0], second[0]] == ["0/2", "1/2"]
    assert first[1] == second[1]
    assert first[1].startswith("127.0.0.1:")


def test_bad_options_are_named():
    done = launch("--processes", "0", command=["true"])
    assert done.returncode == 2
    assert "--processes must be at least 1, got 0" in done.stderr
    assert "give a command after --" in launch("--processes", "2", command=[]).stderr
    done = launch("--processes", "2", command=["no-such-command"])
    assert done.returncode == 127
    assert "cannot start 'no-such-command'" in done.stderr


def test_one_failed_process_ends_all_even_those_that_ignore_signals(monkeypatch, tmp_path):
    """Process 0 ignores SIGTERM, as a process with JAX may; process 2 only sleeps; process 1 fails."""
    stubborn = "case $JAXSENS_PROCESS in 0) trap '' TERM;; 1) echo because >&2; exit 3;; esac; touch $0; "
    stubborn += "while :; do sleep 0.05; done"
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.5)
    started = [
        launcher.start(["sh", "-c", stubborn, str(tmp_path / str(i))], i, {"JAXSENS_PROCESS": str(i)}) for i in range(3)
    ]
    dead = launcher.watch(started, launcher.queue.SimpleQueue())
    launcher.end(started)
    assert [worker.process.poll() is None for worker in started] == [False, False, False]
    text = launcher.obituary(dead, 3, 1.0)
    for worker in started[1:]:
        worker.said.close()
    assert text.startswith("[1] because\nlaunch: process 1 of 3 ended with status 3 after 1 s; the others were ended")


def test_a_signal_to_the_launcher_reaches_all(tmp_path):
    words = [sys.executable, LAUNCH, "--processes", "2", "--", *shell('echo $$ >"$0/$JAXSENS_PROCESS"; exec sleep 60')]
    running = subprocess.Popen([*words, str(tmp_path)], env=PLAIN | {"JAX_PLATFORMS": "cpu"})
    while len(pids := [path.read_text().strip() for path in tmp_path.glob("[01]")]) < 2 or "" in pids:
        time.sleep(0.01)
    running.terminate()
    assert running.wait(60) == 128 + signal.SIGTERM
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="only Linux ties a process to another")
def test_a_launcher_that_is_killed_takes_its_processes_along(tmp_path):
    words = [sys.executable, LAUNCH, "--processes", "2", "--", *shell('echo $$ >"$0/$JAXSENS_PROCESS"; exec sleep 60')]
    running = subprocess.Popen([*words, str(tmp_path)], env=PLAIN | {"JAX_PLATFORMS": "cpu"})
    while len(pids := [path.read_text().strip() for path in tmp_path.glob("[01]")]) < 2 or "" in pids:
        time.sleep(0.01)
    running.kill()
    running.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)


launcher = importlib.util.module_from_spec(
    importlib.util.spec_from_loader("launcher", SourceFileLoader("launcher", str(LAUNCH)))
)
launcher.__loader__.exec_module(launcher)


def test_launcher_and_library_mean_the_same_variables():
    (own,) = launcher.environments(1)
    assert set(own) == set(processes.VARIABLES)


@pytest.mark.whole
def test_killed_in_two_processes_and_continued_in_four_gives_the_bytes_of_one(tmp_path):
    """Process 1 of 2 is killed in the second unit; four processes go on; beside them stands this process alone."""
    folder = tmp_path / "several"
    killed = launch("--processes", "2", command=script(folder, "--kill", "1"), **here())
    assert killed.returncode == 128 + signal.SIGKILL, killed.stderr
    assert "launch: process 1 of 2 was killed by signal 9 (SIGKILL)" in killed.stderr
    assert "[1] process 1 is about to die" in killed.stderr
    assert sorted(path.stem for path in folder.glob("units/*.npz")) == ["unit0"]

    done = launch("--processes", "4", command=script(folder), **here())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("computed") == 1  # the first alone speaks
    assert "computed unit1 unit2" in done.stdout
    assert "going on, with 1 finished unit" in done.stderr
    alone = several_processes.run(tmp_path / "alone")
    assert (folder / "results.csv").read_bytes() == (alone / "results.csv").read_bytes()
    for unit in alone.glob("units/*.npz"):
        assert (folder / "units" / unit.name).read_bytes() == unit.read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert [session["environment"]["counts"]["processes"] for session in manifest["sessions"]] == [2, 4]
    for rank in range(4):  # what every process was given, whoever computed it
        seen = (tmp_path / f"several-seen-{rank}").read_text()
        assert seen == (tmp_path / "alone-seen-0").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "disk", "exit"])
def test_an_error_of_the_first_process_alone_ends_all(tmp_path, kind):
    folder = tmp_path / "run"
    if kind == "folder":
        folder.mkdir()
        (folder / "thesis.tex").touch()
    start = time.monotonic()
    done = launch("--processes", "2", command=script(folder, "--fail", kind), **here())
    assert done.returncode == 1
    expected = {
        "folder": "holds ['thesis.tex'] but no run",
        "disk": "while writing unit 'unit1'",
        "exit": "ZeroDivision",
    }
    assert expected[kind] in done.stderr
    assert time.monotonic() - start < 60, "JAX's farewell takes a minute at least"


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["vision", "trained_recognizers", "random_recognizers"])
def test_smoke_runs_give_the_same_tables_in_any_number_of_processes(tmp_path, experiment):
    tables = {}
    for number in ("1", "2", "4"):
        out = tmp_path / number
        command = [sys.executable, "-m", f"experiments.{experiment}", "--preset", "smoke", "--out", str(out)]
        done = launch("--processes", number, command=command, **here(XDG_CACHE_HOME=str(tmp_path / "cache")))
        assert done.returncode == 0, done.stderr
        tables[number] = {path.name: path.read_bytes() for path in out.glob("*.csv")}
        assert not list(out.rglob(".tmp-*"))
    assert len(tables["1"]) >= 3
    assert tables["1"] == tables["2"] == tables["4"]


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint_in_another_number_of_processes(tmp_path):
    whole = several_processes.train(tmp_path / "whole")
    folder = tmp_path / "several"
    killed = launch("--processes", "2", command=script(folder, "--train", "--kill", "0"), **here())
    assert killed.returncode == 128 + signal.SIGKILL, killed.stderr
    left = tmp_path / "left"
    shutil.copytree(folder, left)
    done = launch("--processes", "4", command=script(folder, "--train"), **here())
    assert done.returncode == 0, done.stderr
    assert "went on from epoch 2" in done.stdout
    assert (folder / "weights").read_bytes() == (whole / "weights").read_bytes()
    assert (several_processes.train(left) / "weights").read_bytes() == (whole / "weights").read_bytes()
