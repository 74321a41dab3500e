"""The benchmark counts what a program does, refuses wrong answers, and leaves a complete record."""

import argparse
import dataclasses
import importlib
import json
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.benchmark import cases, experiment, figures, growth, micro, peers, report, timing
from experiments.benchmark.config import CASES, PRESETS, Config
from experiments.benchmark.micro import truth_tables, vision_throughput
from experiments.benchmark.timing import Case, Program
from jaxsens.execution import flops


def program(by, how="", *, result=1.0, pause=0.0, evaluations=2):
    def run(count):
        time.sleep(pause * count)
        return np.full((count, 3), result)

    return Program(by, how, run, 10.0, evaluations)


def compare(*programs, **options):
    return timing.compare(Case("sums", "sums", 40, 1e-3, programs, **options), seconds=0.02, repeats=3)


def test_each_side_is_compared_at_its_best():
    found = compare(program("jaxsens"), program("pytorch", "slow", pause=0.02), program("pytorch", "fast"))
    assert found["by"].tolist() == ["jaxsens", "pytorch"]
    assert found["how"].tolist() == ["", "fast"]
    assert found["seconds"].shape == (2, 3)
    assert (found["items"] >= 1).all()
    assert (found["items"] <= 40).all()


@pytest.mark.parametrize("wrong", [1.01, np.inf])
def test_the_speed_of_a_wrong_answer_does_not_count(wrong):
    with pytest.raises(ValueError, match=r"'sums': results of 'pytorch'.* the speed of a wrong answer does not count"):
        compare(program("jaxsens"), program("pytorch", result=wrong))


def test_results_that_a_program_does_not_compute_are_not_compared():
    partial = np.full((40, 3), np.nan)
    partial[:, 0] = 1
    some = Program("published", "", lambda count: partial[:count], 10.0, 1)
    assert compare(program("jaxsens"), some)["difference"].tolist() == [0, 0]


def test_programs_that_draw_by_themselves_agree_within_their_errors():
    draws = np.random.default_rng(0).normal(size=(3, 40))

    def drawn(by, values):
        return Program(by, "", lambda count: values[: max(count, 20)], 1.0, 1)

    def far(shift):
        case = Case("draws", "draws", 40, 5, (drawn("jaxsens", draws[0]), drawn("pytorch", draws[1] + shift)), True)
        return timing.compare(case, seconds=0.01, repeats=2)["difference"][1]

    assert 0 < far(0) < 5
    with pytest.raises(ValueError, match="standard errors"):
        far(3)


def test_rates_and_shares_follow_from_the_times():
    found = {
        "by": np.array(["jaxsens", "plain"]), "how": np.array(["a", "b"]), "items": np.array([4, 2]),
        "seconds": np.array([[1.0, 2.0, 1.0], [1.0, 1.0, 1.0]]), "first_seconds": np.array([9.0, 8.0]),
        "operations": np.array([30.0, 60.0]), "bytes": np.array([np.nan, 12.0]), "peak_bytes": np.array([5.0, np.nan]),
        "difference": np.array([0.0, 1e-6]), "evaluations": np.array([10.0, 10.0]), "unit": np.array("forwards"),
    }  # fmt: skip
    ours, plain = report.rows("case", found, {"operations_per_second": 240.0, "bytes_per_second": 48.0})
    assert (ours["per_second"], ours["slowest"], ours["fastest"]) == (40, 20, 40)
    assert (plain["per_second"], plain["ours_over"], plain["ours_over_least"]) == (20, 2, 1)
    assert (ours["operations_ratio"], ours["reached"]) == (2, 1)
    assert ours["operations_per_second"] == plain["operations_per_second"] == 120
    assert (ours["of_product"], plain["of_copy"]) == (0.5, 0.5)
    assert ours["bytes_per_second"] is None
    assert plain["peak_bytes"] is None
    shallow, deep = ([row | {"case": f"recognizer-{layers}x1x8x2"} for row in (ours, plain)] for layers in (2, 6))
    deep[0]["per_second"] = 20
    assert report.over_mix(shallow) == {"plain": 2}
    assert report.over_mix([*shallow, *deep, ours, plain]) == {"plain": (1 / 20 + 1 / 20) / (1 / 40 + 1 / 20)}
    assert report.by_layers([*shallow, *deep, ours, plain]) == {"2": {"plain": 2}, "6": {"plain": 1}}


FIELDS = {
    "case", "by", "how", "unit", "items", "per_second", "slowest", "fastest", "ours_over", "ours_over_least",
    "ours_over_most", "operations", "operations_per_second", "of_product", "bytes_per_second", "of_copy", "peak_bytes",
    "first_call_seconds", "seconds", "difference", "operations_ratio", "reached",
}  # fmt: skip


def check_record(out, names):
    found = json.loads((out / "benchmark.json").read_text())
    assert set(found) == {
        "device",
        "peers",
        "ceilings",
        "recognizers_over_mix",
        "recognizers_by_layers",
        "rows",
        "growth",
    }
    assert {"platform", "kind", "devices", "jax"} <= set(found["device"])
    assert all(value > 0 for value in found["ceilings"].values())
    assert all(set(row) == FIELDS for row in found["rows"])
    assert list(dict.fromkeys(row["case"] for row in found["rows"])) == names
    expected = {"jaxsens", "plain"} | ({"pytorch", "published"} if peers.pytorch else set())
    assert {row["by"] for row in found["rows"] if row["case"] == "vit"} == expected
    assert all(row["per_second"] > 0 for row in found["rows"])
    assert all(row["difference"] < 1e-3 for row in found["rows"] if row["case"] == "vit")
    assert (out / "benchmark.png").stat().st_size > 5000


@pytest.fixture
def compilation_cache():
    """Leave JAX's cache as it was: the benchmark, which measures compiling, switches it off."""
    before = jax.config.jax_enable_compilation_cache
    yield
    jax.config.update("jax_enable_compilation_cache", before)


@pytest.mark.whole
def test_a_small_run_leaves_a_complete_record(tmp_path, capsys, compilation_cache):
    command = ["--preset", "smoke", "--cases", "vit,cube", "--no-grow", "--out", str(tmp_path / "run")]
    out = experiment.EXPERIMENT.main(command)
    check_record(out, ["vit", "cube-6"])
    shown = capsys.readouterr().out
    assert "vit" in shown
    assert "cube-6" in shown
    table = (out / "benchmark.csv").read_bytes()
    experiment.EXPERIMENT.main(command)  # nothing is measured again
    assert (out / "benchmark.csv").read_bytes() == table


@pytest.mark.whole
def test_every_case_has_programs_to_compare(monkeypatch):
    monkeypatch.setattr(flops, "count", lambda *args, **kwargs: flops.Work(1.0, 1.0))  # tracing takes long
    for name, make in cases.cases(PRESETS["smoke"]):
        case = make()
        assert case.name in name
        assert {"jaxsens"} <= {program.by for program in case.programs}
        assert all(program.evaluations > 0 for program in case.programs)


def test_exponents_are_slopes_of_logarithms():
    sizes = np.array([10, 20, 40])
    found = {"sizes": sizes, "seconds": 3e-4 * sizes[:, None] ** 1.5 * np.ones(4), "operations": 5.0 * sizes**2}
    row = growth.row("bits", found)
    assert (row["from"], row["to"]) == (10, 40)
    np.testing.assert_allclose([row["exponent"], row["expected"]], [1.5, 2])
    assert row["exponent_sem"] < 1e-6


def test_what_grows_is_what_is_evaluated():
    smoke = PRESETS["smoke"]
    operations = {law.name: [law.make(int(size))[1] for size in law.sizes] for law in growth.laws(smoke)}
    assert operations["draws"][1] == 2 * operations["draws"][0]
    assert operations["examples"][1] == 2 * operations["examples"][0]
    for name in ("bits", "tokens"):
        assert operations[name][1] > operations[name][0]


@pytest.mark.slow
def test_all_programs_of_all_cases_give_the_same_answers(tmp_path, compilation_cache):
    out = experiment.EXPERIMENT.main(["--preset", "smoke", "--out", str(tmp_path / "run")])
    check_record(out, [name for name, _ in cases.cases(PRESETS["smoke"])])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": ("vit", "swin")}, "cases must be of .*, got 'swin'"),
        ({"length": 7}, "growth must leave an eighth of length = 7"),
        ({"text_width": 100}, "text_width must be a multiple of its 12 heads, got 100"),
        ({"train_size": (1, 2)}, "train_size must be layers, heads, head size and multiplier"),
    ],
)
def test_invalid_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_every_case_and_program_has_a_label():
    assert figures.label("recognizer-6x4x64x2") == "6 layers, 4 heads of 64, MLP x2"
    assert figures.label("recognizer-3x1x16x2") == "3 layers, 1 head of 16, MLP x2"
    assert figures.label("cube-16") == "truth table of 16 bits"
    names = [name for name, _ in cases.cases(dataclasses.replace(PRESETS["smoke"], cases=CASES))]
    assert len({figures.label(name) for name in names}) == len(names)


def test_the_figure_draws_every_ratio():
    ratios = {"PyTorch": {"ViT": (2.0, 1.5, 3.0), "CNN": (0.5, 0.4, 0.6)}, "plain JAX": {"ViT": (1.2, 1, 2)}}
    (axes,) = figures.speed_ratios(ratios).axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ViT", "CNN"]
    assert axes.get_xlim()[1] > 3
    with pytest.raises(ValueError, match="not positive"):
        figures.speed_ratios({"plain JAX": {"ViT": (0.0, 0.0, 1.0)}})
    with pytest.raises(ValueError, match="no ratio"):
        figures.speed_ratios({})


@pytest.mark.parametrize("name", [path.stem for path in Path(micro.__file__).parent.glob("[!_]*.py")])
def test_a_micro_benchmark_is_a_command_with_help(name, monkeypatch, capsys):
    module = importlib.import_module(f"experiments.benchmark.micro.{name}")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 0
    assert f"python -m experiments.benchmark.micro.{name} " in capsys.readouterr().out


@pytest.mark.slow
def test_throughput_is_checked_on_all_devices_and_backends(capsys):
    vision_throughput.check(["mlp"])
    assert "same bits on all devices and backends" in capsys.readouterr().out


def test_a_truth_table_is_measured_in_a_separate_process():
    options = argparse.Namespace(large=5, seed=0)
    row = truth_tables.in_own_process("profile", options)
    assert (row["function"], row["n"]) == ("profile", 5)
    assert 0 < row["lowest"] <= row["seconds"] <= row["highest"]
