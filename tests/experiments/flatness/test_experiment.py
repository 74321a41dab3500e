"""Laws of the flatness experiment: its tables hang together, and verdicts follow from intervals."""

import csv
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.flatness import claims as flatness_judging
from experiments.flatness import experiment, measure
from experiments.images import training
from experiments.images.config import load
from jaxsens import models

pytestmark = pytest.mark.usefixtures("quick_compiling")
# One architecture: what is compiled for it is most of what this file takes.
SMOKE = replace(experiment.PRESETS["smoke"], architectures=("mlp",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return experiment.execute(SMOKE, tmp_path_factory.mktemp("flatness") / "run")


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_what_it_promises_and_is_resumed_to_the_same_bytes(folder, capsys):
    names = ("models", "treatments", "differences", "correlations", "spectra", "comparison")
    tables = {name: (folder / f"{name}.csv").read_bytes() for name in names}
    for name in ("sensitivity", "densities", "correlations"):
        assert (folder / f"{name}.png").stat().st_size > 10_000
    assert json.loads((folder / "manifest.json").read_text())["status"] == "finished"
    experiment.execute(SMOKE, folder)
    assert tables == {name: (folder / f"{name}.csv").read_bytes() for name in tables}
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("mlp_regularised", "top eigenvalue", "between seeds"))


def test_tables_hang_together(folder):
    rows = read(folder / "models.csv")
    assert [row["treatment"] for row in rows] == ["mlp"] * 3 + ["mlp_regularised"] * 3
    levels = {(row["treatment"], row["quantity"]): row for row in read(folder / "treatments.csv")}
    for quantity in flatness_judging.levels(SMOKE):
        mean = np.mean([float(row[quantity]) for row in rows if row["treatment"] == "mlp"])
        row = levels["mlp", quantity]
        np.testing.assert_allclose(float(row["mean"]), mean, rtol=1e-9, atol=1e-12)
        assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
    differences = {row["quantity"]: row for row in read(folder / "differences.csv")}
    for quantity in ("sensitivity", "trace", "top_eigenvalue", "worst_l2"):
        expected = float(levels["mlp_regularised", quantity]["mean"]) - float(levels["mlp", quantity]["mean"])
        np.testing.assert_allclose(float(differences[quantity]["mean"]), expected, rtol=1e-6, atol=1e-9)
    spectra = read(folder / "spectra.csv")
    own = [row for row in spectra if (row["treatment"], row["seed"]) == ("mlp", "0")]
    assert len(own) == SMOKE.lanczos_steps * SMOKE.density_probes
    assert sum(float(row["weight"]) for row in own) == pytest.approx(SMOKE.density_probes)


def test_a_model_without_dropout_is_the_same_in_training_mode(folder):
    for row in read(folder / "models.csv"):
        for deviation in SMOKE.deviations:
            for what in ("output", "prediction"):
                np.testing.assert_allclose(
                    float(row[f"train_mode_{what}_{deviation:g}"]), float(row[f"{what}_gaussian_{deviation:g}"]),
                    rtol=1e-4, atol=1e-6,
                )  # fmt: skip
        assert float(row["train_mode_output_0"]) < 1e-5


def test_dropout_alone_changes_a_copy_in_training_mode():
    data = load(SMOKE)
    module = training.build(SMOKE, data, "vit_dropout")
    variables = models.init(module, jax.random.key(0))
    tokens, config = data.train[0][: SMOKE.measured], replace(SMOKE, deviations=(0.05,))
    clean = training.logits_of(models.evaluation(module), variables, tokens)
    found = measure.train_mode_copies(config, module, variables, tokens, clean)
    assert found["train_mode_output_0"].min() > 0.1
    assert np.ptp(found["train_mode_output_0"]) > 0, "every copy drops others"
    assert found["train_mode_output_0.05"].mean() > found["train_mode_output_0"].mean()


def invented(sensitivity, trace, seeds=4):
    """Models whose every measure is their trace."""
    rng = np.random.default_rng(0)
    result = {}
    for name in SMOKE.treatments:
        own = []
        for seed in range(seeds):
            model = {key: trace[name] + 0.1 * seed + 0.01 * rng.normal(size=5) for key in KEYS}
            model |= {key: np.clip(model[key] / 100, 0, 1) for key in KEYS if "prediction" in key}
            model["sensitivity"] = np.clip(sensitivity[name] + 0.001 * seed + 0 * rng.random(9), 0, 1)
            model |= {"test_correct": np.arange(10) < 9, "train_correct": np.ones(20, bool), "scale": 10.0}
            own.append(model)
        result[name] = own
    return result


KEYS = [
    name
    for name in flatness_judging.levels(SMOKE)
    if not name.startswith("relative_output") and name not in ("sensitivity", "test_error", "train_error", "scale")
]


@pytest.mark.parametrize(("lower", "verdict"), [(True, "supported"), (False, "contradicted")])
def test_verdicts_follow_from_intervals(lower, verdict):
    config = replace(SMOKE, seeds=4)
    plain, regularised = SMOKE.treatments
    sensitivity = {plain: 0.4, regularised: 0.2}
    found = invented(sensitivity, {plain: 20.0, regularised: 10.0 if lower else 30.0})
    rows = flatness_judging.correlations(config, found)
    claims = flatness_judging.claims(config, found, rows, "")
    c13 = [claim for claim in claims if claim.claim == "C13, extended"]
    assert len(c13) == len(flatness_judging.measures(config))
    assert {claim.verdict for claim in c13} == {verdict}
    assert next(claim for claim in claims if claim.claim == "regulariser").verdict == "supported"
    together = {row["scope"]: row for row in rows if row["of"] == "sensitivity" and row["with"] == "trace"}
    assert together["treatment"]["r"] > 0.9, "among seeds both grow"
    assert (together["all"]["units"], together["treatment"]["units"]) == (2, 8)
    judged = {c.quantity: c.verdict for c in claims if c.claim == "low sensitivity, flat minimum"}
    text = "rank correlation of token sensitivity and trace, "
    assert judged[text + flatness_judging.SCOPES["treatment"]] == "supported"
    assert judged[text + flatness_judging.SCOPES["all"]] == "inconclusive", "two treatments are two units"


def test_fewer_than_three_models_tell_nothing():
    found = invented({"mlp": 0.4, "mlp_regularised": 0.2}, {"mlp": 20.0, "mlp_regularised": 10.0}, 1)
    config = replace(SMOKE, seeds=1)
    claims = flatness_judging.claims(config, found, flatness_judging.correlations(config, found), "")
    assert {claim.verdict for claim in claims} <= {"inconclusive", ""}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("architectures", ("mlp_regularised",), "give .*mlp_regularised.* without"),
        ("group", 3, "group must divide measured, 8, got 3"),
        ("deviations", (0.005, 0.005), "deviations must be some that differ"),
        ("radius", -1.0, "radius must be at least 0, got -1.0"),
        ("probes", 0, "probes must be at least 1, got 0"),
        ("relative_deviation", float("nan"), "variance must be a finite number"),
    ],
)
def test_bad_settings_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(SMOKE, **{field: value})
