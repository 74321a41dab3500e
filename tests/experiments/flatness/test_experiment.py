"""Laws of the flatness experiment: its tables agree, and verdicts follow from intervals."""

import csv
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.flatness import experiment, measure
from experiments.flatness.claims import claims
from experiments.flatness.estimates import SCOPES, summarize
from experiments.flatness.quantities import all_quantities, sharpness_measures
from experiments.images.bench import Bench, logits
from experiments.images.data import load
from jaxsens import models

SMOKE = experiment.PRESETS["smoke"]
INVENTED = replace(SMOKE, architectures=("mlp",), seeds=6, learning_rates=(0.001, 0.003, 0.01))
TOKENS = 16


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_agree(smoke_run, smoke_config):
    folder = smoke_run("flatness")
    rows = read(folder / "models.csv")
    names = [name + suffix for name in smoke_config("flatness").architectures for suffix in ("", "_regularized")]
    assert [row["treatment"] for row in rows] == [name for name in names for _ in range(SMOKE.seeds)]
    levels = {(row["treatment"], row["quantity"]): row for row in read(folder / "treatments.csv")}
    for quantity in all_quantities(SMOKE):
        mean = np.mean([float(row[quantity]) for row in rows if row["treatment"] == "mlp"])
        row = levels["mlp", quantity]
        np.testing.assert_allclose(float(row["mean"]), mean, rtol=1e-9, atol=1e-12)
        assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
    differences = {(row["subject"], row["quantity"]): row for row in read(folder / "differences.csv")}
    for quantity in ("sensitivity", "trace", "top_eigenvalue", "worst_l2"):
        expected = float(levels["mlp_regularized", quantity]["mean"]) - float(levels["mlp", quantity]["mean"])
        row = differences["mlp_regularized", quantity]
        assert row["reference"] == "mlp"
        np.testing.assert_allclose(float(row["mean"]), expected, rtol=1e-6, atol=1e-9)
    weights = [float(row["weight"]) for row in read(folder / "spectra.csv") if row["treatment"] == "mlp"]
    assert len(weights) == SMOKE.seeds * SMOKE.lanczos_steps * SMOKE.density_probes
    assert sum(weights) == pytest.approx(SMOKE.seeds * SMOKE.density_probes)


def test_a_model_without_dropout_is_the_same_in_training_mode(smoke_run):
    for row in read(smoke_run("flatness") / "models.csv"):
        assert float(row["train_mode_output_0"]) < 1e-5
        for name in (f"{what}_{d:g}" for what in ("output", "prediction") for d in SMOKE.deviations):
            trained, evaluated = row[f"train_mode_{name}"], row[name.replace("_", "_gaussian_")]
            np.testing.assert_allclose(float(trained), float(evaluated), rtol=1e-4, atol=1e-6)


@pytest.mark.whole
def test_every_copy_in_training_mode_drops_other_activations():
    config = replace(SMOKE, deviations=(0.05,))
    bench = Bench(config, load(config))
    module = bench.module("vit_dropout")
    variables = models.init(module, jax.random.key(0))
    tokens = bench.data.train[0][: config.measured]
    clean = logits(models.evaluation(module), variables, tokens)
    copies = measure.train_mode_copies(bench, module, variables, tokens, clean)
    assert np.ptp(copies["train_mode_output_0"]) > 0
    assert copies["train_mode_output_0.05"].mean() > copies["train_mode_output_0"].mean() > 0.1


MEASURED = [
    name
    for name in all_quantities(INVENTED)
    if not name.startswith("relative_output") and name not in ("sensitivity", "test_error", "train_error", "scale")
]


def invented(sensitivity, trace, seeds=6, rate=0.003):
    """Models with every measure equal to their trace."""
    rng = np.random.default_rng(0)
    results = {}
    for name in ("mlp", "mlp_regularized"):
        results[name] = []
        for seed in range(seeds):
            model = {key: trace[name] + 0.1 * seed + 0.01 * rng.normal(size=5) for key in MEASURED}
            model |= {key: np.clip(model[key] / 100, 0, 1) for key in MEASURED if "prediction" in key}
            model["sensitivity"] = np.clip(sensitivity[name] + 0.001 * seed + 0 * rng.random(9), 0, 1)
            model |= {"test_correct": np.arange(10) < 9, "train_correct": np.ones(20, bool), "scale": 10.0}
            model["learning_rate"] = np.float64(rate)
            model["top_eigenvalue"] = model["top_eigenvalue"].mean()
            model |= {"atoms": np.arange(6.0).reshape(2, 3), "atom_weights": np.full((2, 3), 1 / 3)}
            results[name].append(model)
    return results


@pytest.mark.parametrize(("lower", "verdict"), [(True, "supported"), (False, "contradicted")])
def test_verdicts_follow_from_intervals(lower, verdict):
    results = invented({"mlp": 0.4, "mlp_regularized": 0.2}, {"mlp": 20.0, "mlp_regularized": 10.0 if lower else 30.0})
    findings = summarize(INVENTED, results, TOKENS)
    rows = claims(INVENTED, "digits", findings)
    c13 = [row for row in rows if row.claim == "C13, extended"]
    assert len(c13) == len(sharpness_measures(INVENTED))
    assert {(row.verdict, row.subject, row.reference) for row in c13} == {(verdict, "mlp_regularized", "mlp")}
    assert next(row for row in rows if row.claim == "regularizer").verdict == "supported"
    trace = {row["scope"]: row for row in findings.correlations
             if (row["quantity"], row["correlated_with"]) == ("sensitivity", "trace")}  # fmt: skip
    assert trace["treatment"]["r"] > 0.9, "among seeds both grow"
    assert (trace["all"]["units"], trace["treatment"]["units"]) == (2, 12)
    together = {row.subject: row.verdict for row in rows if row.quantity.endswith("sensitivity and trace")}
    assert together[SCOPES["treatment"]] == "supported"
    assert together[SCOPES["all"]] == "inconclusive", "two treatments are two units"
    assert {row.units for row in c13} == {6}
    assert {row.quantity.endswith("difference of logits") for row in c13 if "predictions" in row.quantity} == {True}
    assert all(f"Holm's correction for {len(c13)} verdicts" in row.rule for row in c13)
    top = next(row for row in c13 if row.quantity.startswith("top eigenvalue"))
    assert top.rule.startswith("mean (log interval) below 0"), "one skewed number of each model"


def test_of_as_many_correlations_as_measures_some_hold_by_chance_and_are_withdrawn():
    results = invented({"mlp": 0.4, "mlp_regularized": 0.2}, {"mlp": 20.0, "mlp_regularized": 9.0})
    findings = summarize(INVENTED, results, TOKENS)
    rng = np.random.default_rng(0)
    means = {name: {key: rng.normal(size=30) for key in one} for name, one in findings.means.items()}
    results = {name: models * 5 for name, models in findings.results.items()}
    rows = claims(INVENTED, "digits", replace(findings, means=means, results=results))
    judged = [row for row in rows if row.rule.startswith("rank correlation") and row.subject == SCOPES["treatment"]]
    assert {row.verdict for row in judged} == {"inconclusive"}
    assert any("alone" in row.reason for row in judged)


def test_a_best_rate_at_the_edge_of_the_grid_is_inconclusive():
    results = invented({"mlp": 0.4, "mlp_regularized": 0.2}, {"mlp": 20.0, "mlp_regularized": 10.0}, rate=0.01)
    judged = [row for row in claims(INVENTED, "digits", summarize(INVENTED, results, TOKENS)) if row.rule]
    assert {row.verdict for row in judged} == {"inconclusive"}
    assert all("at the edge of the grid" in row.reason for row in judged)


def test_a_single_model_of_each_treatment_is_inconclusive():
    config = replace(INVENTED, seeds=1)
    results = invented({"mlp": 0.4, "mlp_regularized": 0.2}, {"mlp": 20.0, "mlp_regularized": 10.0}, 1)
    assert {row.verdict for row in claims(config, "digits", summarize(config, results, TOKENS))} <= {"inconclusive", ""}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("architectures", ("mlp_regularized",), "architectures must be of vit, .*, got 'mlp_regularized'"),
        ("group", 3, "group must divide measured, 8, got 3"),
        ("deviations", (0.005, 0.005), "deviations must hold different"),
        ("radius", -1.0, "radius must be at least 0, got -1.0"),
        ("relative_deviation", float("nan"), "relative_deviation must be finite"),
    ],
)
def test_bad_settings_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(SMOKE, **{field: value})


def test_models_that_are_given_trained_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"models \['mine'\] are given trained: give Linen modules"):
        experiment.execute(SMOKE, tmp_path / "run", models={"mine": (lambda variables, tokens: tokens, {})})
