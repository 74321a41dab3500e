"""Laws of the manifest: it tells what was run, on what, and which sessions made which units."""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import jax
import pytest

from experiments import harness
from experiments.harness import manifest


@dataclass(frozen=True, kw_only=True)
class Trained(harness.Settings):
    seed: int = 0


@dataclass(frozen=True)
class Config:
    seed: int = 5
    rates: tuple[float, ...] = (0.1, 0.2)
    folder: str = field(default="a", metadata={"identity": False})


def begin(folder, config=None):
    return harness.Run.open(folder, config or Config(), experiment="test")


def read(folder):
    return json.loads((folder / manifest.NAME).read_text())


def test_it_records_what_was_run_and_the_time(tmp_path):
    with begin(tmp_path) as run:
        run.record(chunk=64, budget={"bytes": 2**28})
        run.unit("b", lambda: {"x": 1})
        run.unit("a", lambda: {"x": 1})
    stored = read(tmp_path)
    assert (stored["experiment"], stored["seed"], stored["status"]) == ("test", 5, "finished")
    assert stored["config"] == {"seed": 5, "rates": [0.1, 0.2]}
    (session,) = stored["sessions"]
    assert session["settings"] == {"folder": "a"}
    assert session["recorded"] == {"chunk": 64, "budget": {"bytes": 2**28}}
    environment = session["environment"]
    assert environment["versions"]["jax"] == jax.__version__
    assert set(environment["versions"]) == {"python", "jax", "jaxlib", "flax", "optax", "numpy", "jaxsens"}
    assert environment["platform"]["backend"] == "cpu"
    assert environment["counts"]["devices"] == jax.device_count()
    assert {name: unit["number"] for name, unit in stored["units"].items()} == {"b": 1, "a": 2}
    assert all(unit["seconds"] >= 0 and unit["session"] == 0 for unit in stored["units"].values())
    assert stored["seconds"] == session["seconds"] > 0


def test_sessions_add_up_and_say_which_units_they_made(tmp_path):
    with begin(tmp_path) as run:
        run.unit("a", lambda: {"x": 1})
    first = read(tmp_path)["seconds"]
    with begin(tmp_path, Config(folder="moved")) as run:  # a setting is not the identity
        run.unit("b", lambda: {"x": 1})
        run.unit("a", lambda: {"x": 1})
    stored = read(tmp_path)
    assert {name: (unit["session"], unit["number"]) for name, unit in stored["units"].items()} == {
        "a": (0, 2),
        "b": (1, 1),
    }
    assert [session["settings"]["folder"] for session in stored["sessions"]] == ["a", "moved"]
    assert stored["seconds"] == pytest.approx(first + stored["sessions"][1]["seconds"])


def test_a_unit_that_a_killed_session_left_without_a_line_is_taken_over(tmp_path):
    with begin(tmp_path) as run:
        run.unit("a", lambda: {"x": 1})
    stored = read(tmp_path)
    stored["units"] = {}
    stored["sessions"][0]["status"] = stored["status"] = "running"
    (tmp_path / manifest.NAME).write_text(json.dumps(stored))
    with begin(tmp_path) as run:
        run.unit("a", pytest.fail)
    stored = read(tmp_path)
    assert stored["units"] == {"a": {"session": 0, "seconds": None, "number": 1}}
    assert [session["status"] for session in stored["sessions"]] == ["killed", "finished"]


def test_units_of_another_version_are_kept_with_a_warning(tmp_path, monkeypatch, capsys):
    with begin(tmp_path) as run:
        run.unit("a", lambda: {"x": 1})
    begin(tmp_path).finish()
    assert "warning" not in capsys.readouterr().err
    old = manifest._environment()
    new = old | {"versions": old["versions"] | {"jax": "99"}, "code": {"commit": "abc", "dirty": False}}
    new["counts"] = {"devices": 1000}  # decides no number
    monkeypatch.setattr(manifest, "_environment", lambda: new)
    with begin(tmp_path) as run:
        run.unit("a", pytest.fail)
        run.unit("b", lambda: {"x": 1})
    said = capsys.readouterr().err
    assert "warning: units of session 0 were made otherwise" in said
    assert f"versions.jax: {jax.__version__!r}, now '99'" in said
    assert "code.commit" in said
    assert "1000" not in said
    monkeypatch.setattr(manifest, "_environment", lambda: old)
    begin(tmp_path).finish()
    assert "units of session 2 were made otherwise" in capsys.readouterr().err
    assert [s["environment"]["versions"]["jax"] for s in read(tmp_path)["sessions"]][2:] == ["99", jax.__version__]


@pytest.mark.parametrize("what", ["devices", "cpus", "jax"])
def test_units_that_train_are_not_mixed_with_those_of_another_machine(tmp_path, monkeypatch, what):
    def begin(trains=True, elsewhere=False):
        return harness.Run.open(tmp_path, Trained(resume_elsewhere=elsewhere), experiment="test", trains=trains)

    with begin() as run:
        run.unit("a", lambda: {"x": 1})
    begin().finish()
    old = manifest._environment()
    part = "versions" if what == "jax" else "counts"
    monkeypatch.setattr(manifest, "_environment", lambda: old | {part: old[part] | {what: 1000}})
    with pytest.raises(ValueError, match=rf"{part}.{what}: .*, now 1000.*--resume-elsewhere"):
        begin()
    begin(trains=False).finish()
    begin(elsewhere=True).finish()
    assert [session["resumed_elsewhere"] for session in read(tmp_path)["sessions"]] == [False, False, False, True]


def test_flags_that_change_bits_are_not_mixed_and_others_are(tmp_path, monkeypatch, capsys):
    def begin(flags, trains=True, **options):
        monkeypatch.setenv("XLA_FLAGS", flags)
        return harness.Run.open(tmp_path, Trained(**options), experiment="test", trains=trains)

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    plain = "--xla_backend_optimization_level=1 --xla_gpu_per_fusion_autotune_cache_dir=one"
    with begin(plain) as run:
        run.unit("a", lambda: {"x": 1})
    recorded = read(tmp_path)["sessions"][0]["environment"]["variables"]
    assert recorded["XLA_FLAGS"] == plain
    assert "JAX_COMPILATION_CACHE_DIR" not in recorded
    same = "--xla_gpu_per_fusion_autotune_cache_dir=two --xla_force_host_platform_device_count=3"
    begin(f"--xla_backend_optimization_level=3 {same} --xla_backend_optimization_level=1").finish()
    assert "warning" not in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"flags.xla_backend_optimization_level: '1', now '3'.*--resume-elsewhere"):
        begin(f"{same} --xla_backend_optimization_level=3")
    begin(f"{same} --xla_backend_optimization_level=3", trains=False).finish()
    assert "flags.xla_backend_optimization_level: '1', now '3'" in capsys.readouterr().err
    stored = read(tmp_path)
    for session in stored["sessions"]:  # as sessions were written before
        del session["environment"]["variables"]
    (tmp_path / manifest.NAME).write_text(json.dumps(stored))
    begin("--xla_backend_optimization_level=2").finish()
    assert "warning" not in capsys.readouterr().err


def test_reproducible_trainings_go_on_with_other_cores_and_devices_but_not_with_other_threads(tmp_path, monkeypatch):
    def begin(**mode):
        return harness.Run.open(tmp_path, Trained(**mode), experiment="test", trains=True)

    monkeypatch.setattr(manifest.threads, "fixed_cpu_threads", lambda: 8)
    with begin(reproducible=True) as run:
        run.unit("a", lambda: {"x": 1})
    old = manifest._environment()
    elsewhere = old | {"counts": old["counts"] | {"devices": 1000, "cpus": 1000}}
    monkeypatch.setattr(manifest, "_environment", lambda: dict(elsewhere))
    begin(reproducible=True).finish()
    assert read(tmp_path)["sessions"][1]["environment"]["training"] == {"reproducible": True, "threads": 8}
    with pytest.raises(ValueError, match="counts"):  # the mode is another
        begin()
    for threads in (4, None):
        monkeypatch.setattr(manifest.threads, "fixed_cpu_threads", lambda threads=threads: threads)
        with pytest.raises(ValueError, match=r"training\.threads: 8, now"):
            begin(reproducible=True)


@pytest.mark.parametrize("broken", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 1)])
def test_without_git_the_commit_is_unknown(monkeypatch, broken):
    def fail(*args, **options):
        raise broken

    monkeypatch.setattr(subprocess, "run", fail)
    assert manifest._environment()["code"] == {"commit": None, "dirty": None}


def test_the_commit_is_that_of_the_working_copy_that_holds_the_package(tmp_path, monkeypatch):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # As in a hook; the environment must not decide which repository is meant.
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))

    def git(*words):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, env=environment)

    try:
        git("init")
    except FileNotFoundError:
        pytest.skip("needs git")
    copy = tmp_path / "package" / "manifest.py"
    copy.parent.mkdir()
    copy.write_text("1")
    monkeypatch.setattr(manifest, "__file__", str(copy))
    (tmp_path / "other").write_text("1")
    git("add", "other")
    git("commit", "-m", "m", "--no-verify")
    unknown = {"commit": None, "dirty": None}
    assert manifest._commit() == unknown  # the file is in another repository, which does not track it
    git("add", "package")
    git("commit", "-m", "m", "--no-verify")
    clean = manifest._commit()
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    Path(copy).write_text("2")
    assert manifest._commit() == {"commit": clean["commit"], "dirty": True}
