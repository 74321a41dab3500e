"""Laws of the experiment on random recognizers: it draws as F.1 does, and its tables agree with each other."""

import csv
import dataclasses

import jax
import numpy as np
import pytest

from experiments.random_recognizers import experiment, labels, measure, report
from experiments.random_recognizers.config import BASELINES, PRESETS, TRANSFORMERS, Model, models, with_strings
from jaxsens import boolean
from jaxsens.execution import Execution
from jaxsens.models import recognizers
from jaxsens.models.recognizers.baselines import parameter_count
from jaxsens.models.recognizers.sizes import Sizes

SMOKE = PRESETS["smoke"]
TINY = dataclasses.replace(
    SMOKE, schemes=("uniform",), length=6, models=1, baselines=0, choices=0, audit=1, layers=(2,), heads=(1,),
    control_lengths=(2,), strings=8, chunk=28,
)  # fmt: skip
STRINGS = np.tile([[0, 1, 1, 0, 0, 1], [1, 0, 0, 0, 1, 1]], (3, 1))


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_architectures_are_drawn_from_all_of_f1():
    config = PRESETS["paper"]
    every = models(config)
    drawn = [m.architecture for m in every if m.kind == "transformer" and m.scheme == "uniform"]
    assert len(drawn) == 500
    for field, grid in [("layers", range(2, 7)), ("heads", (1, 2, 4, 8)), ("multiplier", (2, 4, 8))]:
        values = [getattr(a, field) for a in drawn]
        assert set(values) == set(grid)
        counts = np.array([values.count(v) for v in grid])
        expected = 500 / len(counts)
        assert ((counts - expected) ** 2 / expected).sum() < 25, field  # chi-squared, at most 4 degrees of freedom
    assert [m.architecture for m in every if m.kind == "transformer" and m.scheme == "xavier_normal"] == drawn
    assert len({m.name for m in every}) == len(every)


def test_tables_agree_with_each_other(smoke_run):
    folder = smoke_run("random_recognizers")
    members, spectra = rows(folder / "models.csv"), rows(folder / "spectra.csv")
    assert {(row["kind"], row["scheme"], row["number"]) for row in members} == {
        (m.kind, m.scheme, str(m.number)) for m in models(SMOKE)
    }
    for kind in ("transformer", *BASELINES):
        shares = np.array([float(r["share"]) for r in spectra if (r["kind"], r["scheme"]) == (kind, "uniform")])
        averages = [float(r["average_sensitivity"]) for r in members if (r["kind"], r["scheme"]) == (kind, "uniform")]
        assert len(shares) == SMOKE.length + 1
        assert shares.sum() == pytest.approx(1)
        assert shares @ np.arange(SMOKE.length + 1) == pytest.approx(np.mean(averages))
    assert all(row["audited_strings"] == str(SMOKE.audit) for row in members)
    exact = next(row for row in rows(folder / "control.csv") if row["length"] == "2")
    assert float(exact["share_with_zero"]) == 10 / 16  # constants 2; and, or, and their like 8; not xor, not one bit


def test_comparison_names_subject_reference_and_data_in_words(smoke_run):
    claims = rows(smoke_run("random_recognizers") / "comparison.csv")
    assert {row["claim"] for row in claims} == {"C20", "C25"}, "one pair of models has no interval"
    subjects = {row["subject"] for row in claims}
    assert {"transformer, Xavier normal weights", "LSTM, uniform weights", "random functions of 6 bits"} <= subjects
    assert {row["dataset"] for row in claims} == {"random strings of 12 bits", "all strings"}
    assert set(labels.KINDS) == {*TRANSFORMERS, *BASELINES}


@pytest.mark.whole
def test_screening_changes_no_sensitivity_and_is_counted():
    """On a CPU both precisions are equal, so that every decision is accepted and only the audit is recomputed."""
    model = Model("transformer", "uniform", 0, 0, Sizes(2, 1, 4, 2))
    plain, screened = (measure.measure(dataclasses.replace(TINY, screened=how), model) for how in (False, True))
    for name in ("sensitivities", "influences", "accepted"):
        np.testing.assert_array_equal(screened[name], plain[name])
    row = report.screening_row("transformer", "uniform", [screened, screened])
    assert row["decisions"] == 2 * TINY.strings * (TINY.length + 1)
    assert row["audited"] + row["redone"] == row["decisions"]
    assert row["disagreed"] == 0
    assert 0 < row["wrong_at_most"] < 0.1


def test_profiles_equal_those_of_the_truth_table():
    model = Model("transformer", "normal", 0, 3, Sizes(2, 2, 4, 2))
    config = dataclasses.replace(TINY, schemes=("normal",), layers=(2, 3), heads=(2,), strings=64)
    ready = measure.prepare(config, model)
    strings = boolean.strings.exhaustive(6)
    profile = boolean.sensitivity_profile(ready.substitute)(jax.random.key(0), ready.variables, strings)
    apply = recognizers.evaluation(ready.substitute.config)
    table = boolean.truth_tables.truth_table(lambda strings: apply(ready.variables, strings) > 0, 6)
    np.testing.assert_array_equal(profile.counts, boolean.truth_tables.profile(table))


def test_baselines_have_as_many_parameters_as_the_transformer():
    for kind in BASELINES:
        architecture = Sizes(4, 4, 32, 4)
        ready = measure.prepare(PRESETS["laptop"], Model(kind, "uniform", 0, 0, architecture))
        assert ready.parameters == pytest.approx(parameter_count(architecture.config(1e-5)), rel=0.02)


def test_the_budget_of_operations_sets_the_number_of_strings():
    config = dataclasses.replace(PRESETS["laptop"], operations=1e9, strings=256)
    assert [measure.strings_for(config, cost) for cost in (10**5, 10**7, 10**8, 10**12)] == [256, 64, 8, 1]
    assert measure.strings_for(PRESETS["paper"], 10**15) == 10_000


def test_blocks_are_those_of_the_platform(monkeypatch):
    """The committed results were computed in blocks of 4 substitutions and 101 forwards."""
    paper = PRESETS["paper"]
    assert paper.blocks == PRESETS["laptop"].blocks == (4, Execution(chunk=101))
    monkeypatch.setattr(Execution, "platform", "gpu")
    assert paper.blocks == (None, Execution())
    assert dataclasses.replace(paper, rows=8, chunk=16).blocks == (8, Execution(chunk=16))


@pytest.mark.whole
def test_user_strings_are_measured_and_a_run_is_not_continued_with_others(tmp_path):
    folder = experiment.execute(TINY, tmp_path / "run", data=STRINGS)
    (row,) = rows(folder / "models.csv")
    assert row["strings"] == "6"
    config, bits = with_strings(TINY, STRINGS)
    assert float(row["average_sensitivity"]) == measure.measure(config, models(config)[0], bits)["sensitivities"].mean()
    perceptron = Model("mlp", "uniform", 0, 3, Sizes(2, 1, 4, 2))
    user, random = (measure.measure(config, perceptron, strings)["sensitivities"] for strings in (bits, None))
    np.testing.assert_array_equal(user, np.tile(user[:2], 3))
    assert user[0] != user[1]
    assert not np.array_equal(user, random)
    assert "the user's strings of 6 bits" in {row["dataset"] for row in rows(folder / "comparison.csv")}
    for other in (1 - STRINGS, None):
        with pytest.raises(ValueError, match=r"holds the run of another configuration .*data"):
            experiment.execute(TINY, folder, data=other)
    with pytest.raises(ValueError, match="data must be strings"):
        experiment.execute(TINY, tmp_path / "bad", data=STRINGS + 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("models", 0), ("audit", -1), ("schemes", ("kaiming",)), ("operations", 0.0), ("layers", (1,)), ("heads", ())],
)
def test_invalid_settings_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(TINY, **{field: value})
