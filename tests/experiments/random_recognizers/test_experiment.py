"""Laws of the experiment on random recognizers: it draws as F.1 does, and resumes to the same bytes."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from experiments.random_recognizers import experiment, report
from jaxsens import boolean

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("quick_compiling")
TINY = dataclasses.replace(
    experiment.PRESETS["smoke"], schemes=("uniform",), length=6, models=2, baselines=1, choices=0, audit=1,
    layers=(2, 3), heads=(1,), control_lengths=(2, 6), strings=8, chunk=28,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return experiment.execute(TINY, tmp_path_factory.mktemp("run") / "out")


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_architectures_are_drawn_from_all_of_f1():
    config = experiment.PRESETS["paper"]
    models = experiment.models(config)
    drawn = [m.architecture for m in models if m.kind == "transformer" and m.scheme == "uniform"]
    assert len(drawn) == 500
    for field, grid in [("layers", range(2, 7)), ("heads", (1, 2, 4, 8)), ("multiplier", (2, 4, 8))]:
        values = [getattr(a, field) for a in drawn]
        assert set(values) == set(grid)
        counts = np.array([values.count(v) for v in grid])
        expected = 500 / len(counts)
        assert ((counts - expected) ** 2 / expected).sum() < 25, field  # chi-squared, at most 4 degrees of freedom
    assert [m.architecture for m in models if m.kind == "transformer" and m.scheme == "xavier_normal"] == drawn
    assert len({m.name for m in models}) == len(models)


def test_tables_agree_with_each_other(finished):
    models = {(row["kind"], row["number"]): row for row in rows(finished / "models.csv")}
    assert set(models) == {("transformer", "0"), ("transformer", "1"), ("lstm", "0"), ("mlp", "0")}
    spectra = rows(finished / "spectra.csv")
    for kind in ("transformer", "lstm", "mlp"):
        shares = np.array([float(row["share"]) for row in spectra if row["kind"] == kind])
        averages = [float(row["average_sensitivity"]) for row in models.values() if row["kind"] == kind]
        assert len(shares) == TINY.length + 1
        assert shares.sum() == pytest.approx(1)
        assert shares @ np.arange(TINY.length + 1) == pytest.approx(np.mean(averages))
    assert all(row["audited_strings"] == "1" for row in models.values())
    exact = next(row for row in rows(finished / "control.csv") if row["length"] == "2")
    assert float(exact["share_with_zero"]) == 10 / 16  # constants 2; and, or, and their like 8; not xor, not one bit


def test_screening_alters_nothing_and_is_told():
    """On a CPU both precisions are the same, so that all is trusted; what is asked again is the audit."""
    model = experiment.Model("transformer", "uniform", 0, 0, experiment.Sizes(2, 1, 4, 2))
    plain, screened = (experiment.measure(dataclasses.replace(TINY, screened=how), model) for how in (False, True))
    for name in ("sensitivities", "influences", "accepted"):
        np.testing.assert_array_equal(screened[name], plain[name])
    row = report.screening_row("transformer", "uniform", [screened, screened])
    assert row["decisions"] == 2 * TINY.strings * (TINY.length + 1)
    assert row["audited"] + row["redone"] == row["decisions"]
    assert row["disagreed"] == 0
    assert 0 < row["wrong_at_most"] < 0.1


def test_profiles_are_those_of_the_exact_cube():
    model = experiment.Model("transformer", "normal", 0, 3, experiment.Sizes(2, 2, 4, 2))
    config = dataclasses.replace(TINY, schemes=("normal",), layers=(2, 3), heads=(2,), strings=64)
    ready = experiment.prepare(config, model)
    strings = boolean.strings.exhaustive(6)
    found = boolean.sensitivity_profile(ready.substitute)(experiment.jax.random.key(0), ready.variables, strings)
    apply = experiment.recognizer.evaluation(ready.substitute.config)
    table = boolean.truth_tables.truth_table(lambda strings: apply(ready.variables, strings) > 0, 6)
    np.testing.assert_array_equal(found.counts, boolean.truth_tables.profile(table))


def test_matched_models_have_as_many_parameters():
    for kind in experiment.BASELINES:
        architecture = experiment.Sizes(4, 4, 32, 4)
        ready = experiment.prepare(experiment.PRESETS["laptop"], experiment.Model(kind, "uniform", 0, 0, architecture))
        transformer = experiment.recognizer_baselines.parameter_count(architecture.config(1e-5))
        assert ready.parameters == pytest.approx(transformer, rel=0.02)


def test_strings_are_as_many_as_the_budget_allows():
    config = dataclasses.replace(experiment.PRESETS["laptop"], operations=1e9, strings=256)
    assert [experiment.strings_for(config, cost) for cost in (10**5, 10**7, 10**8, 10**12)] == [256, 64, 8, 1]
    assert experiment.strings_for(experiment.PRESETS["paper"], 10**15) == 10_000


def test_a_run_that_lost_units_ends_with_the_same_bytes(finished, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    (again / "units" / "transformer-uniform-set0-1.npz").unlink()
    (again / "models.csv").unlink()
    experiment.execute(TINY, again)
    for path in finished.iterdir():
        if path.suffix == ".csv":
            assert (again / path.name).read_bytes() == path.read_bytes(), path.name
    assert json.loads((finished / "manifest.json").read_text())["status"] == "finished"
    assert {path.name for path in finished.glob("*.png")} == {"spectra.png", "average_sensitivity.png", "control.png"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("models", 0), ("audit", -1), ("schemes", ("kaiming",)), ("operations", 0.0), ("layers", (1,)), ("heads", ())],
)
def test_bad_settings_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(TINY, **{field: value})
