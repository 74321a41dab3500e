"""Runs: units are written completely or not at all, resuming gives equal bytes, and runs are not mixed.

The file is long because its tests share runs.
"""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import harness
from experiments.harness import claims, verdicts
from jaxsens.execution import Execution, parallel


@dataclass(frozen=True)
class Config:
    seed: int = 0
    width: int = 64
    rates: tuple[float, ...] = (1e-3, 3e-3)


def begin(folder, config=None, experiment="test"):
    return harness.Run.open(folder, config or Config(), experiment=experiment)


def never():
    raise AssertionError("this unit was there and must not be computed again")


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


VALUES = {
    "integer": 3,
    "number": 0.1,
    "flag": True,
    "text": "ViT, 2 layers",
    "float16": np.arange(3, dtype=np.float16),
    "scalar32": np.float32(0.1),
    "jax": jnp.ones((2, 3), jnp.float32),
    "transposed": np.arange(6).reshape(2, 3).T,
    "strided": np.arange(6.0)[::2],
    "words": np.array([["a", "longer"], ["", "z"]]),
    "empty": np.zeros((0, 4)),
    "complex": np.array([1 + 2j], np.complex64),
    "params/layer 0/kernel": np.arange(4, dtype=np.uint8),
}


def test_a_unit_is_the_same_computed_and_read_back(tmp_path):
    with begin(tmp_path) as run:
        first = run.unit("all", lambda: VALUES)
    with begin(tmp_path) as run:
        second = run.unit("all", never)
    assert list(first) == list(second) == list(VALUES)
    for key, value in VALUES.items():
        assert type(first[key]) is type(second[key]) is np.ndarray
        assert first[key].dtype == second[key].dtype == np.asarray(value).dtype
        assert first[key].shape == second[key].shape == np.shape(value)
        assert first[key].strides == second[key].strides
        assert first[key].flags.writeable == second[key].flags.writeable
        np.testing.assert_array_equal(first[key], value)
        np.testing.assert_array_equal(second[key], value)
    archive = np.load(tmp_path / "units" / "all.npz", allow_pickle=False)  # anyone can read it
    np.testing.assert_array_equal(archive["words"], VALUES["words"])


def test_killed_at_any_moment_and_started_again_gives_the_same_bytes(tmp_path):
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRIVER, tmp_path], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout)
    whole = {name: (tmp_path / "whole" / name).read_bytes() for name in ("results.csv", "comparison.csv")}
    assert whole["results.csv"].count(b"\n") == 7
    for kill in kills:
        folder = tmp_path / kill["name"]
        for name, content in whole.items():
            assert (folder / name).read_bytes() == content, kill
        log = (tmp_path / f"{kill['name']}.log").read_text().split()
        assert [log.count(unit) for unit in kill["finished"]] == [1] * len(kill["finished"]), kill
        assert set(log) == {f"unit{i}" for i in range(6)}
        assert len(log) <= 7, kill  # at most the unit in hand is lost
        assert not list(folder.rglob(".tmp-*"))
        assert manifest(folder)["status"] == "finished"
    assert {len(kill["finished"]) for kill in kills} == set(range(7))  # kills happened all along the run
    assert any(kill["left"] for kill in kills)  # and into writes


DRIVER = """
import functools, json, os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from jaxsens.execution import parallel
from experiments import harness
from experiments.harness import claims

top = Path(sys.argv[1])

@dataclass(frozen=True)
class Config:
    seed: int = 3

def compute(log, name, i, pause):
    with open(log, "a") as file:
        file.write(name + "\\n")
    time.sleep(pause)
    draws = np.random.default_rng([3, i])
    return {"score": draws.random(), "values": draws.normal(size=500).astype(np.float32), "label": f"unit, {i}"}

def experiment(name, pause=0.0):
    with harness.Run.open(top / name, Config(), experiment="killed") as run:
        rows = []
        for i in range(6):
            result = run.unit(f"unit{i}", functools.partial(compute, top / f"{name}.log", f"unit{i}", i, pause))
            rows.append({"unit": i, "mean": result["values"].mean()} | {key: result[key] for key in ("score", "label")})
        run.table("results", rows)
        score = rows[-1]["score"]
        run.comparison([claims.Claim(
            "C1", "score", 0.5, "table 1", measured=score, standard_error=0.1, low=score - 0.2, high=score + 0.2,
            verdict="supported", rule="mean above 0",
        )])

def forked(action, kill_after=None):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            action()
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        first, after = kill_after
        while not first.exists():
            time.sleep(0.002)
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]

def die_at(number, torn):
    count, replace = 0, os.replace
    def counted(old, new):
        nonlocal count
        count += 1
        if count == number:
            if torn:
                os.truncate(old, os.path.getsize(old) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        replace(old, new)
    os.replace = counted

kills = []

def scenario(name, action, kill_after=None):
    status = forked(action, kill_after)
    late = kill_after is not None and status == 0  # on a busy machine the run may end before the signal comes
    assert late or os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (name, status)
    units = sorted(path.stem for path in (top / name).glob("units/unit*.npz"))
    left = [path.name for path in (top / name).rglob(".tmp-*")]
    assert forked(lambda: experiment(name)) == 0, name
    kills.append({"name": name, "finished": units, "left": left})

assert forked(lambda: experiment("whole")) == 0
for number in range(1, 17):  # manifest, 6 times unit and manifest, 2 tables, manifest
    name = f"write{number}"
    scenario(name, lambda: (die_at(number, number % 2 == 0), experiment(name)))
for delay in (0.0, 0.013, 0.05, 0.11, 0.19):
    name = f"delay{delay}"
    scenario(name, lambda: experiment(name, pause=0.04), (top / f"{name}.log", delay))
json.dump(kills, sys.stdout)
"""


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        content = content[: len(content) // 2]
    elif kind == "empty":
        content = b""
    else:
        content[kind] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["truncated", "empty", 0, 12, 200, -1, -70, -100])
def test_a_damaged_unit_is_computed_again(tmp_path, capsys, kind):
    draws = np.random.default_rng(0).normal(size=(2, 50))
    with begin(tmp_path) as run:
        run.unit("a", lambda: {"x": draws})
    damage(tmp_path / "units" / "a.npz", kind)
    with begin(tmp_path) as run:
        again = run.unit("a", lambda: {"x": draws + 1})  # another value, to see that it was computed
    np.testing.assert_array_equal(again["x"], draws + 1)
    assert "a.npz is damaged" in capsys.readouterr().err


def test_a_unit_copied_over_another_or_from_another_configuration_is_computed_again(tmp_path, capsys):
    for name, config in (("first", Config(width=1)), ("second", Config(width=2))):
        with begin(tmp_path / name, config) as run:
            for unit in ("a", "b"):
                run.unit(unit, lambda unit=unit, config=config: {"x": f"{unit}{config.width}"})
    for source, target in (("first/units/a", "first/units/b"), ("first/units/a", "second/units/a")):
        (tmp_path / f"{target}.npz").write_bytes((tmp_path / f"{source}.npz").read_bytes())
    with begin(tmp_path / "first", Config(width=1)) as run:
        assert [str(run.unit(unit, lambda: {"x": "again"})["x"]) for unit in ("a", "b")] == ["a1", "again"]
    with begin(tmp_path / "second", Config(width=2)) as run:
        assert [str(run.unit(unit, lambda: {"x": "again"})["x"]) for unit in ("a", "b")] == ["again", "b2"]
    assert capsys.readouterr().err.count("was written for another unit or configuration") == 2


@pytest.mark.parametrize("how", ["removed and taken over", "lock deleted"])
def test_a_run_whose_folder_was_taken_over_writes_no_more(tmp_path, how):
    folder = tmp_path / "run"
    run = begin(folder)
    run.unit("a", lambda: {"x": 1})
    if how == "lock deleted":
        (folder / ".lock").unlink()
    else:
        shutil.rmtree(folder)
    with begin(folder) as other:
        other.unit("b", lambda: {"x": 2})
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(OSError, match=r"was removed, or its lock was: another run may have it now"), run:
        run.unit("c", lambda: {"x": 3})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", [".lock", ".tmp-manifest.json"])
def test_nothing_is_written_through_a_link(tmp_path, name):
    precious, folder = tmp_path / "precious", tmp_path / "run"
    precious.write_text("mine")
    folder.mkdir()
    (folder / name).symlink_to(precious)
    if name == ".lock":
        with pytest.raises(ValueError, match=r"\.lock' must be a plain file, not a link"):
            begin(folder)
    else:
        begin(folder).finish()
    assert precious.read_text() == "mine"


def test_what_a_killed_write_left_is_removed(tmp_path):
    begin(tmp_path).finish()
    for left in (tmp_path / ".tmp-old.csv", tmp_path / "units" / ".tmp-old.npz"):
        left.write_bytes(b"half")
    begin(tmp_path).finish()
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_full_disk_leaves_finished_units_and_nothing_else(tmp_path):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with begin(tmp_path) as run:
        run.unit("small", lambda: {"x": 1})
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old[1]))
        try:
            with pytest.raises(OSError, match=r"while writing unit 'large'.*finished units .* are safe"):
                run.unit("large", lambda: {"x": np.zeros(100_000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert sorted(path.name for path in (tmp_path / "units").iterdir()) == ["small.npz"]
        assert run.unit("large", lambda: {"x": 2})["x"] == 2


def test_the_folder_of_another_configuration_is_refused(tmp_path):
    with begin(tmp_path, Config(width=32)):
        pass
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match=r"config.width: 32, now 64\).*another --out, or delete") as caught:
        begin(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "rates" not in str(caught.value)
    with pytest.raises(ValueError, match="experiment: 'test', now 'other'"):
        begin(tmp_path, Config(width=32), experiment="other")
    assert (tmp_path / "manifest.json").read_bytes() == before
    begin(tmp_path, Config(width=32)).finish()


def test_a_folder_that_is_no_run_is_refused_and_not_changed(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"thesis.tex.*no run"):
        begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="is not a folder"):
        begin(tmp_path / "thesis.tex")
    (tmp_path / "run" / "units").mkdir(parents=True)
    (tmp_path / "run" / "manifest.json").write_text('{"experiment": "te')
    with pytest.raises(ValueError, match=r"manifest.json' cannot be read.*delete"):
        begin(tmp_path / "run")


def test_a_folder_serves_one_process_at_a_time(tmp_path):
    with begin(tmp_path), pytest.raises(ValueError, match=f"in use by another run .process {os.getpid()}"):
        begin(tmp_path)
    begin(tmp_path).finish()


@pytest.mark.parametrize(
    "value",
    [None, object(), [object()], np.array([None]), jnp.ones(2, jnp.bfloat16), {"nested": 1}, [[1], [1, 2]]],
)
def test_values_that_need_pickling_are_refused(tmp_path, value):
    with begin(tmp_path) as run, pytest.raises(ValueError, match="key 'bad'"):
        run.unit("a", lambda: {"good": 1, "bad": value})
    assert not list((tmp_path / "units").iterdir())


def test_a_typed_key_is_refused(tmp_path):
    with begin(tmp_path) as run, pytest.raises(ValueError, match="key 'bad'"):
        run.unit("a", lambda: {"bad": jax.random.key(0)})


def test_results_that_are_not_finite_are_refused_unless_meant(tmp_path):
    bad = {"fine": 1.0, "loss": np.array([[1.0, 2.0], [np.inf, np.nan]])}
    with begin(tmp_path) as run:
        with pytest.raises(FloatingPointError, match=r"'loss' holds inf at index \(1, 0\), the first of 2") as caught:
            run.unit("a", lambda: bad)
        assert "in unit 'a'" in caught.value.__notes__[0]
        assert np.isnan(run.unit("a", lambda: bad, allow_nonfinite=("loss",))["loss"][1, 1])
        with pytest.raises(ValueError, match=r"allow_nonfinite = \['los'\]"):
            run.unit("b", lambda: bad, allow_nonfinite=("los",))
    with begin(tmp_path) as run, pytest.raises(FloatingPointError):
        run.unit("a", never)


def test_a_name_serves_one_unit(tmp_path):
    with begin(tmp_path) as run:
        run.unit("vit", lambda: {"x": 1})
        with pytest.raises(ValueError, match="'vit' was requested before"):
            run.unit("vit", lambda: {"x": 2})
        for name in ("", "ViT", "a/b", "../a", ".a", "a b", "a" * 121):
            with pytest.raises(ValueError, match=r"unit .*allowed are"):
                run.unit(name, never)


def test_tables_have_reproducible_bytes(tmp_path):
    rows = [
        {"name": "a,b", "x": 0.1, "y": np.float32(0.1), "n": np.int64(3), "ok": True, "none": None},
        {"none": jnp.float32(2.0), "ok": np.bool_(False), "n": 4, "y": 1e-300, "x": 1.0, "name": 'say "x"'},
    ]
    with begin(tmp_path) as run:
        path = run.table("t", rows)
        expected = 'name,x,y,n,ok,none\n"a,b",0.1,0.10000000149011612,3,True,\n"say ""x""",1.0,1e-300,4,False,2.0\n'
        assert path.read_bytes() == expected.encode()
        run.table("t", rows, columns=("x", "y", "n", "ok", "none", "name"))
        assert path.read_text().startswith("x,y,n,ok,none,name\n")
        with pytest.raises(ValueError, match=r"row 1 of table 't' has the columns \['x', 'z'\]"):
            run.table("t", [{"x": 1}, {"x": 1, "z": 2}])
        with pytest.raises(ValueError, match="no rows"):
            run.table("t", [])
        with pytest.raises(ValueError, match="row 0, column 'x' is a ndarray"):
            run.table("t", [{"x": np.ones(2)}])
        with pytest.raises(FloatingPointError, match="column 'x' is nan"):
            run.table("t", [{"x": np.float32("nan")}])
        run.table("u", [{"x": float("nan")}], allow_nonfinite=("x",))


def test_a_comparison_has_the_columns_of_the_design(tmp_path):
    judged = verdicts.Verdict("contradicted", "mean below 0", "interval above", 3, 0.025, 0.5, "one deviation")
    with begin(tmp_path) as run:
        path = run.comparison(
            [
                claims.Claim(
                    "C1",
                    "sensitivity",
                    0.0098,
                    "s.5",
                    "ViT",
                    "MLP",
                    "digits",
                    0.02,
                    0.001,
                    0.018,
                    0.022,
                    judged,
                    note="smaller",
                ),
                claims.Claim("C1", "sensitivity", "0.0505 or 0.0559", "s.5", measured=jnp.float32(0.5)),
            ]
        )
    rows = list(csv.reader(path.read_text().splitlines()))
    names = "claim quantity published place subject reference dataset measured standard_error low high verdict reason"
    assert rows[0] == [*names.split(), "rule", "units", "level", "power", "power_at", "note"]
    numbers = ["0.02", "0.001", "0.018", "0.022"]
    assert rows[1] == [
        "C1",
        "sensitivity",
        "0.0098",
        "s.5",
        "ViT",
        "MLP",
        "digits",
        *numbers,
        "contradicted",
        "",
        "mean below 0; contradicted if interval above",
        *("3", "0.025", "0.5", "one deviation", "smaller"),
    ]
    assert rows[2] == ["C1", "sensitivity", "0.0505 or 0.0559", "s.5", "", "", "", "0.5", *[""] * 11]


def test_a_figure_is_a_png_and_a_pdf_with_reproducible_bytes(tmp_path, monkeypatch):
    figure_class = pytest.importorskip("matplotlib.figure").Figure
    with begin(tmp_path) as run:
        contents = []
        for name in ("a", "b"):
            monkeypatch.setenv("SOURCE_DATE_EPOCH", {"a": "1", "b": "1000000000"}[name])  # the date of a PDF
            figure = figure_class(figsize=(2, 1))
            figure.subplots().plot([0, 1], [1, 0])
            contents.append(run.figure(name, figure).read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith(b"\x89PNG")
    assert int.from_bytes(contents[0][16:20], "big") == 300  # 2 inches at 150 dots
    pdfs = [(tmp_path / f"{name}.pdf").read_bytes() for name in ("a", "b")]
    assert pdfs[0] == pdfs[1]
    assert pdfs[0].startswith(b"%PDF")
    assert b"Date" not in pdfs[0]


def test_an_exception_is_recorded_in_the_manifest_and_the_run_can_continue(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    run = begin(tmp_path)
    run.unit("a", lambda: {"x": 1})
    with pytest.raises(KeyboardInterrupt), run:
        run.unit("b", interrupt)
    assert manifest(tmp_path)["status"] == "interrupted by SIGINT"
    with pytest.raises(RuntimeError), begin(tmp_path) as run:
        raise RuntimeError("too hot")
    assert manifest(tmp_path)["status"] == "failed: RuntimeError: too hot"
    with begin(tmp_path) as run:
        assert run.unit("a", never)["x"] == 1
        assert manifest(tmp_path)["status"] == "running"
    assert manifest(tmp_path)["status"] == "finished"
    with pytest.raises(ValueError, match="is finished: open it again"):
        run.unit("b", never)


def test_the_compilation_cache_is_in_the_configured_folder(tmp_path, monkeypatch):
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    try:
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
        assert harness.enable_compilation_cache() == tmp_path / "home" / "jaxsens" / "xla"
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
        assert harness.enable_compilation_cache() == tmp_path / "own"
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    finally:
        for name, value in zip(names, before, strict=True):
            jax.config.update(name, value)


def test_a_user_cache_is_kept_and_one_that_cannot_be_made_is_a_warning(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    try:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
        assert harness.enable_compilation_cache().stat().st_mode & 0o777 == 0o700
        (tmp_path / "file").touch()
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file" / "cache"))
        with pytest.warns(UserWarning, match="compiled programs are not kept"):
            assert harness.enable_compilation_cache() is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize("flag", [[], ["--no-compilation-cache"]])
def test_mains_keep_compiled_programs_unless_disabled(tmp_path, monkeypatch, flag):
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs", "jax_enable_compilation_cache")
    before = [getattr(jax.config, name) for name in names]
    try:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
        jax.config.update("jax_enable_compilation_cache", True)
        harness.start(harness.parse("test", {"laptop": Config()}, flag))
        assert (tmp_path / "own").exists() == jax.config.jax_enable_compilation_cache == (not flag)
    finally:
        for name, value in zip(names, before, strict=True):
            jax.config.update(name, value)


def test_the_manifest_says_what_was_spent_on_compiling(tmp_path):
    def compute():
        return {"x": np.asarray(jax.jit(lambda x: 2 * x + len(str(tmp_path)))(1.0))}

    def compiling():
        return json.loads((tmp_path / "run" / "manifest.json").read_text())["sessions"][-1]["compiling"]

    with begin(tmp_path / "run") as run:
        before = compiling()["programs"]
        run.unit("one", compute)
        first = compiling()
        assert first["programs"] > before
        assert 0 < first["seconds"] < 60
    jax.jit(lambda x: 3 * x)(1.0)
    assert compiling()["programs"] == first["programs"], "what comes after a run is not its own"


@pytest.mark.parametrize("ahead", [False, True])
def test_units_compile_ahead_and_are_those_of_one_by_one(tmp_path, ahead):
    traced = []

    def compute(number):
        def scaled(x):
            traced.append((number, threading.current_thread() is threading.main_thread()))
            return number * x

        def run():
            return {"x": parallel.map_items(scaled, np.arange(4.0, dtype=np.float32), execution=Execution(chunk=2))}

        return run

    every = [(f"number-{number}", compute(number)) for number in range(1, 4)]
    with begin(tmp_path / "run") as run:
        run.unit("other", dict)
        found = [unit["x"].tolist() for unit in run.units(every, ahead=ahead)]
        spent = run._compiling.to_json()
        assert (spent["ahead_seconds"] > 0) == (spent["waited_seconds"] > 0) == ahead
    assert found == [[number * x for x in range(4)] for number in range(1, 4)]
    assert {number for number, in_main in traced if in_main} == ({1} if ahead else {1, 2, 3})
    with begin(tmp_path / "run") as run:
        again = [unit["x"].tolist() for unit in run.units([(name, never) for name, _ in every], ahead=ahead)]
    assert again == found


def test_what_fails_ahead_fails_where_it_is_computed(tmp_path):
    def fail():
        raise ValueError("no such thing")

    with begin(tmp_path) as run:
        found = run.units([("one", lambda: {"x": 1}), ("two", fail), ("three", lambda: {"x": 3})], ahead=True)
        assert next(found)["x"] == 1
        with pytest.raises(ValueError, match="no such thing"):
            next(found)
    assert [path.stem for path in (tmp_path / "units").iterdir()] == ["one"]
