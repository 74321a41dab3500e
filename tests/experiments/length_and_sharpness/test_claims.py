"""Planted growth, pairs, correlations and differences are detected, and their absence too."""

import dataclasses

import numpy as np
import pytest

from experiments.harness import verdicts
from experiments.length_and_sharpness import claims, estimates
from experiments.length_and_sharpness.config import FUNCTIONS, PRESETS
from experiments.length_and_sharpness.measure import MEASURED
from jaxsens.training import many_models
from tests.experiments.test_reachable import require_reachable

SMOKE = PRESETS["smoke"]
TRAINED = verdicts.Design(4, (1e-4, 1e-3, 1e-2), {"the transformers": 1e-3})
GROWING = {"parity": 2.0, "majority": 0.0, "first": -0.5, "mean": 0.0}


def planted(power=GROWING, seeds=4, lengths=(4, 8, 16, 32), learned=True):
    """Return results with sharpness that grows as a power of the length, by function, up to a little noise."""
    generator = np.random.default_rng(0)
    config = dataclasses.replace(SMOKE, lengths=lengths, seeds=seeds)
    units = {}
    for n in lengths:
        function = np.array(FUNCTIONS * seeds)
        sharpness = np.array([0.01 * (1 + i) * n ** power[f] for i, f in enumerate(FUNCTIONS)] * seeds)
        sharpness *= np.exp(0.01 * generator.normal(size=len(function)))
        unit = {name: np.ones(len(function)) for name in MEASURED}
        unit |= {"function": function, "seed": np.repeat(np.arange(seeds), 4), "sharpness": sharpness}
        unit |= {
            "loss": np.where(function == "mean", sharpness / 500, sharpness / 10),
            "status": np.zeros(len(function), int),
        }
        unit |= {"accuracy": np.where((function == "parity") & (not learned), 0.5, 1.0), "epochs": unit["seed"]}
        units[n,] = unit
    return config, {"length": units}


@pytest.fixture
def searched(monkeypatch):
    """Let models be trained at the best rate of a grid, which no preset does yet."""
    monkeypatch.setattr(claims, "design", lambda models, _: dataclasses.replace(TRAINED, seeds=models))


def table(rows):
    return [row for row, _ in rows]


def by_row(judged):
    return {(c.claim, c.subject, c.reference, c.dataset): c.verdict for c in judged}


def test_planted_growth_is_supported_and_its_absence_contradicted(searched):
    rows = estimates.slope_estimates(*planted())
    found = {(r["quantity"], r["function"], r["models"]): r for r in table(rows)}
    for name, slope in GROWING.items():
        assert found["sharpness", name, "converged"]["mean"] == pytest.approx(slope, abs=0.03)
    assert found["sharpness", "parity - first", "all"]["mean"] == pytest.approx(2.5, abs=0.03)
    judged = claims.slope_claims(SMOKE, rows)
    assert {c.verdict for c in judged} == {"supported"}
    assert len(judged) == 14
    flat = claims.slope_claims(SMOKE, estimates.slope_estimates(*planted(GROWING | {"parity": -0.5, "majority": 2.0})))
    wrong = {(c.subject, c.reference) for c in flat if c.verdict == "contradicted" and c.claim == "H2"}
    assert {("parity", ""), ("majority", ""), ("parity", "majority"), ("parity", "mean")} <= wrong


def test_models_that_did_not_converge_judge_no_sharpness(searched):
    config, results = planted(learned=False)
    here = by_row(claims.slope_claims(config, estimates.slope_estimates(config, results)))
    span = "strings of 4 to 32 bits"
    assert here["H2", "parity", "", "no length"] == "inconclusive"
    assert here["H2", "majority", "", span] == here["H1", "parity", "", span] == "supported"
    pairs = claims.pair_claims(config, estimates.pair_estimates(config, results))
    assert {c.verdict for c in pairs if c.subject == "parity"} == {"inconclusive"}
    shorter = table(estimates.slope_estimates(*planted(lengths=(4, 8))))
    assert all(row["low"] is None and row["seeds"] == 0 for row in shorter), "two lengths would fit any law"


def test_pairs_are_compared_within_a_seed_by_the_ratio_of_their_sharpness(searched):
    config, results = planted()
    rows = estimates.pair_estimates(config, results)
    for row, unit in zip(table(rows)[::2], results["length"].values(), strict=True):
        by = {f: unit["sharpness"][unit["function"] == f] for f in FUNCTIONS}
        assert (row["sharper"], row["flatter"], row["pairs"]) == ("parity", "majority", 4)
        assert row["mean"] == pytest.approx(np.log(by["parity"] / by["majority"]).mean())
    here = by_row(claims.pair_claims(config, rows))
    assert here["H3", "parity", "majority", "strings of 32 bits"] == "supported"
    assert here["H3", "majority", "first", "strings of 4 bits"] == "supported"


def test_diverged_models_are_counted_and_not_averaged():
    config, results = planted()
    unit = results["length"][8,]
    unit["status"][0] = many_models.DIVERGED
    for name in MEASURED:
        unit[name][0] = np.nan
    rows = {(r["length"], r["function"], r["quantity"]): r for r in estimates.length_rows(config, results)}
    row = rows[8, "parity", "loss"]
    assert (row["models"], row["converged"], row["diverged"], row["used"]) == (4, 3, 1, 3)
    assert row["mean"] == pytest.approx(np.nanmean(unit["loss"][unit["function"] == "parity"]))
    share = rows[8, "parity", "converged_share"]
    assert share["low"] < share["mean"] == 0.75 < share["high"]
    lost = {"accuracy": np.ones(2), "loss": np.zeros(2)}
    lost |= {"status": np.array([many_models.TRAINING, many_models.DIVERGED])}
    for function in ("parity", "mean"):
        assert estimates.converged(lost, function).tolist() == [True, False]
    slope = next(r for r in table(estimates.slope_estimates(config, results)) if r["function"] == "parity")
    assert slope["seeds"] == 4, "the other lengths of the seed are still there"


def test_the_tradeoff_is_judged_by_converged_models():
    norm = np.linspace(10, 20, 40)
    models = {"weight_norm": norm, "blow_up_median": 1e4 / norm**2, "accuracy": np.ones(40), "loss": norm}
    models |= {"status": np.zeros(40, int)}
    assert [c.verdict for c in claims.tradeoff_claims(SMOKE, models)] == ["supported", ""]
    shared = dataclasses.replace(SMOKE, tradeoff_rates=(1e-3, 1e-3))
    assert "a factor of 2 is needed" in claims.tradeoff_claims(shared, models)[0].reason
    models["blow_up_median"] = norm
    assert claims.tradeoff_claims(SMOKE, models)[0].verdict == "contradicted"
    models["accuracy"] = np.full(40, 0.99)
    assert claims.tradeoff_claims(SMOKE, models)[0].verdict == "inconclusive"


def test_training_sizes_are_judged_by_models_that_fit(searched):
    functions, size = (a.ravel() for a in np.meshgrid(np.arange(4), SMOKE.function_sizes, indexing="ij"))
    few = size == 8
    learned = {"function": functions, "size": size, "train_accuracy": np.ones(8), "status": np.zeros(8, int)}
    learned |= {
        "target_sensitivity": 2 + functions / 4,
        "sensitivity": 2 + functions / 4 - few * (1 + functions / 100 - 0.015),
    }
    learned |= {"unseen_accuracy": np.where(few, 0.5, np.nan)}
    rows = estimates.size_estimates(SMOKE, learned)
    assert [c.verdict for c in claims.size_claims(SMOKE, rows)] == ["supported", ""]
    assert rows[0][0]["difference_mean"] == pytest.approx(-1)
    learned["train_accuracy"][few] = 0.9
    assert claims.size_claims(SMOKE, estimates.size_estimates(SMOKE, learned))[0].reason.startswith("0 independently")


def test_with_a_grid_of_learning_rates_all_verdicts_are_reachable_at_the_laptop_preset():
    """Its single rate is all that is missing."""
    for use in claims.uses(PRESETS["laptop"]).values():
        require_reachable(dataclasses.replace(use, design=TRAINED))
