"""The benchmark counts what a program does, refuses other answers, and leaves a whole record."""

import json
import time

import jax
import numpy as np
import pytest

from experiments.benchmark import cases, experiment, growth, peers, report, timing
from experiments.benchmark.config import PRESETS, Config
from experiments.benchmark.figures import speed_ratios
from experiments.benchmark.timing import Case, Program


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
def test_a_speed_with_another_answer_does_not_count(wrong):
    with pytest.raises(ValueError, match=r"'sums': results of 'pytorch'.* a speed with another answer does not count"):
        compare(program("jaxsens"), program("pytorch", result=wrong))


def test_what_was_not_computed_is_not_compared_and_a_program_without_answers_is_refused():
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


def whole_record(out, names):
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


def test_a_small_run_leaves_a_whole_record(tmp_path, capsys, quick_compiling, compilation_cache):
    command = ["--preset", "smoke", "--cases", "vit,sharpness,cube", "--no-grow", "--out", str(tmp_path / "run")]
    out = experiment.EXPERIMENT.main(command)
    whole_record(out, ["vit", "sharpness", "cube-6"])
    shown = capsys.readouterr().out
    assert "sharpness" in shown
    assert "cube-6" in shown
    table = (out / "benchmark.csv").read_bytes()
    experiment.EXPERIMENT.main(command)  # nothing is measured again
    assert (out / "benchmark.csv").read_bytes() == table


def test_every_case_has_programs_to_compare():
    for name, make in cases.cases(PRESETS["smoke"]):
        case = make()
        assert case.name in name
        assert all(program.evaluations > 0 for program in case.programs)
        if case.name != "cube-6":
            assert all(program.operations > 0 for program in case.programs)


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
    whole_record(out, [name for name, _ in cases.cases(PRESETS["smoke"])])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": ("vit", "swin")}, r"cases must be some of .*, got \['swin'\]"),
        ({"cases": ()}, "cases must be some, each once"),
        ({"seconds": 0.0}, "seconds must be positive, got 0.0"),
        ({"rows": (0,)}, "rows must be some numbers of at least 1"),
        ({"growth": (1,)}, "growth must be two sizes at least"),
        ({"text_width": 100}, "text_width must be a multiple of its 12 heads, got 100"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_the_figure_of_speeds_draws_every_ratio():
    figure = speed_ratios({"pytorch": {"vit": (2.0, 1.5, 3.0), "cube": (0.5, 0.4, 0.6)}, "plain": {"vit": (1.2, 1, 2)}})
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["vit", "cube"]
    assert axes.get_xlim()[1] > 3
    with pytest.raises(ValueError, match="not positive"):
        speed_ratios({"plain": {"vit": (0.0, 0.0, 1.0)}})
    with pytest.raises(ValueError, match="no ratio"):
        speed_ratios({})
