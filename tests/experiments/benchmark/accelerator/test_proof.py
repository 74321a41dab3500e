"""The proof on an accelerator: rehearsed from start to end on the CPU, and what it does when things go wrong."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmark.accelerator import answers, compiling, proof, repeats, timing, ways
from experiments.benchmark.accelerator.record import Record
from experiments.benchmark.accelerator.sizes import REAL, REHEARSED
from jaxsens.execution.flops import Work

ROOT = Path(__file__).parents[4]
CEILINGS = {"float32": 1e9, "tf32": 1e9, "bf16": 1e9, "copy": 1e9}


def rehearse(out, *options):
    flags = {"XLA_FLAGS": " ".join(f for f in os.environ["XLA_FLAGS"].split() if "device_count" not in f)}
    run = subprocess.run(
        [sys.executable, ROOT / "scripts/prove_on_accelerator", "--rehearse", "--out", out, "--seconds=3000", *options],
        capture_output=True, text=True, check=False, env=os.environ | flags,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(out.read_text()), run.stdout


def check_rehearsal(results, printed):
    assert results["finished"]
    assert results["wrong"] == results["skipped"] == []
    assert set(CEILINGS) < set(results["ceilings"])
    # A CPU has no TF32, and bfloat16 only by name: those programs are the example of what fails, is said, and is not
    # timed.
    assert results["failed"]
    named = ("not supported by dot_general on CPU", "must be an algorithm of the platform cpu")
    assert all(any(text in row["error"] for text in named) for row in results["failed"])
    assert not any("tf32" in row["precision"] and row["by"] == "jaxsens" for row in results["timings"])
    assert {row["of"] for row in results["answers"]} == set(REHEARSED.families)
    assert [row["same_bits"] for row in results["repeats"]] == [True]
    assert {row["case"][0] for row in results["timings"]} == set("abcdeghij")
    for row in results["timings"]:
        assert row["turns"] == 5
        assert row["lowest_ms"] <= row["ms"] <= row["highest_ms"]
        assert row["predicted_ms"] > 0
    assert printed.rstrip().splitlines()[-2].endswith("no answer was wrong")


@pytest.mark.whole
@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="the rehearsal with PyTorch holds it")
def test_rehearsal_without_pytorch(tmp_path):
    results, printed = rehearse(tmp_path / "found.json", "--without-pytorch")
    check_rehearsal(results, printed)
    assert {row["by"] for row in results["timings"]} == {"jaxsens"}


@pytest.mark.whole
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs PyTorch")
def test_rehearsal_with_pytorch(tmp_path):
    results, printed = rehearse(tmp_path / "found.json")
    check_rehearsal(results, printed)
    peers = [row for row in results["timings"] if row["by"] == "pytorch"]
    assert {row["case"][0] for row in peers} == set("abcdegh")
    assert {row["precision"] for row in peers} == {"float32", "tf32", "bf16"}
    assert all(row["notes"] == ["compiled by eager", "no CUDA graph"] for row in peers)


def test_without_time_everything_is_skipped_and_said(tmp_path):
    record = Record(tmp_path / "found.json", seconds=0.0)
    for group in proof.groups(REAL, 0, {"float32"}):
        proof._time(record, group, CEILINGS, REAL, 2, [])
    skipped = " ".join(row["what"] for row in record.results["skipped"])
    letters = {part.split(". ")[0][-1] for part in skipped.split(", ") if ". " in part}
    assert letters == set("abcdefghij")


def way(name, answer, **fields):
    def run():
        if isinstance(answer, Exception):
            raise answer
        return np.asarray(answer)

    return ways.Way(name, "jaxsens", lambda: run, lambda: Work(2e6, 1e6), **fields)


def timed(tmp_path, *made):
    record = Record(tmp_path / "found.json", seconds=60.0)
    case = ways.Case("z. case", "things", 3, lambda: list(made), ways.norm_of_difference)
    (ready,) = compiling.make_ready(record, [case], 2)
    timing.time_case(record, ready, CEILINGS, turns=5, turn_seconds=0.0)
    return json.loads((tmp_path / "found.json").read_text())


def test_a_wrong_answer_is_reported_and_not_timed(tmp_path):
    results = timed(tmp_path, way("first", [1.0, 2.0]), way("close", [1.0, 2.0001]), way("off", [1.0, 3.0]))
    assert [row["way"] for row in results["timings"]] == ["first", "close"]
    assert [row["what"] for row in results["wrong"]] == ["z. case, off"]
    np.testing.assert_allclose([row["predicted_ms"] for row in results["timings"]], 2)


def test_numbers_that_are_not_finite_are_wrong(tmp_path):
    results = timed(tmp_path, way("first", [np.nan, 2.0]))
    assert results["timings"] == []
    assert len(results["wrong"]) == 1


def test_a_failing_program_is_reported_and_the_others_continue(tmp_path):
    def not_made():
        raise MemoryError("no room")

    fails = ways.Way("not made", "jaxsens", not_made, None)
    results = timed(tmp_path, fails, way("fails", RuntimeError("broken")), way("works", [1.0]))
    assert [row["way"] for row in results["timings"]] == ["works"]
    assert [row["error"] for row in results["failed"]] == ["MemoryError: no room", "RuntimeError: broken"]


def test_a_wrong_answer_fails_the_proof(tmp_path, capsys):
    record = Record(tmp_path / "found.json", seconds=60.0)
    assert proof._conclude(record, [])
    record.wrong("something", "error 1")
    assert not proof._conclude(record, [])
    assert "WRONG ANSWERS" in capsys.readouterr().out


def test_the_file_is_whole_after_every_number(tmp_path):
    record = Record(tmp_path / "found.json", seconds=60.0)
    for number in range(3):
        record.add("timings", {"ms": np.float32(number), "error": float("nan")})
        assert len(json.loads(record.out.read_text())["timings"]) == number + 1
    assert json.loads(record.out.read_text())["timings"][0] == {"ms": 0.0, "error": None}
    assert list(tmp_path.iterdir()) == [record.out]


def test_bits_that_differ_are_reported_and_are_no_wrong_result(tmp_path):
    record = Record(tmp_path / "found.json", seconds=60.0)
    script = "import json; print(json.dumps({'a': 'x', 'b': '%s', 'c': 'failed: no'}))"
    processes = [
        subprocess.Popen([sys.executable, "-c", script % word], stdout=subprocess.PIPE, text=True) for word in "yz"
    ]
    repeats.compare(record, processes)
    assert [row["same_bits"] for row in record.results["repeats"]] == [True, False, None]
    assert record.results["wrong"] == []


@pytest.mark.slow
def test_answers_of_all_families_are_right(tmp_path):
    record = Record(tmp_path / "found.json", seconds=1200.0)
    answers.check(record, seed=1, threads=2)
    assert record.results["wrong"] == record.results["failed"] == record.results["skipped"] == []
    assert len({row["of"] for row in record.results["answers"]}) == 19
    assert max(row.get("error", 0) for row in record.results["answers"]) < 1e-4


@pytest.mark.parametrize("sizes", [REAL, REHEARSED])
def test_groups_of_pytorch_are_whole(sizes):
    """PyTorch's programs take so many examples at once, of which a graph is recorded once."""
    for count, at_once in [*sizes.images.values(), *[(count, few) for _, count, few in sizes.recognizers]]:
        assert count % at_once == 0
    assert sizes.chunks[0] % sizes.chunks[1] == 0
    assert sizes.draws % 10 == 0
    assert sizes.training[2] % sizes.training[3] == 0
