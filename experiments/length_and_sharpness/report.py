"""Tables of ``experiments.length_and_sharpness``, and what a run writes and prints."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.length_and_sharpness import claims, estimates, figures
from experiments.length_and_sharpness.config import FUNCTIONS, Config, evaluation_strings, exact_sensitivity
from experiments.length_and_sharpness.estimates import Results
from experiments.length_and_sharpness.measure import LEARNED, MEASURED
from jaxsens.training import many_models

STATUS = {many_models.TRAINING: "trained", many_models.DIVERGED: "diverged"}


def write(run: harness.Run, config: Config, results: Results) -> None:
    """Write all tables and figures of a run, and print the table by length and the verdicts on the claims."""
    tradeoff, learned = claims.joined(results["tradeoff"]), results["random"][()]
    slopes, pairs = estimates.slope_estimates(config, results), estimates.pair_estimates(config, results)
    sizes = estimates.size_estimates(config, learned)
    rows = {"lengths": estimates.length_rows(config, results)}
    rows |= {
        name: [row for row, _ in entries]
        for name, entries in (("slopes", slopes), ("pairs", pairs), ("training_sizes", sizes))
    }
    run.table("models", _model_rows(config, results), allow_nonfinite=MEASURED)
    run.table("tradeoff", _tradeoff_rows(tradeoff), allow_nonfinite=MEASURED)
    run.table("random_functions", _function_rows(learned), allow_nonfinite=LEARNED)
    for name, table in rows.items():
        run.table(name, table)
    judged = claims.claims(config, results, slopes=slopes, pairs=pairs, sizes=sizes)
    run.comparison(judged)
    for name, figure in (
        ("lengths", figures.lengths(config, results)),
        ("tradeoff", figures.tradeoff(config, tradeoff)),
        ("training_sizes", figures.training_sizes(config, learned, rows["training_sizes"])),
    ):
        if figure is not None:
            run.figure(name, figure)
    print("\n" + harness.format_table(_summary(config, rows["lengths"])))
    print("\n" + harness.format_table([_printed(claim) for claim in judged]))


def _printed(claim: harness.Claim) -> dict[str, Any]:
    measured = claim.measured if claim.low is None else (claim.measured, claim.low, claim.high)
    subject = f"{claim.subject} - {claim.reference}" if claim.reference else claim.subject
    return {
        "claim": claim.claim, "quantity": claim.quantity, "subject": subject, "dataset": claim.dataset,
        "measured": measured, "verdict": claim.verdict,
    }  # fmt: skip


def _status(unit: Mapping[str, np.ndarray], i: int) -> dict[str, Any]:
    return {"status": STATUS[int(unit["status"][i])], "epochs": int(unit["epochs"][i])}


def _model_rows(config: Config, results: Results) -> list[dict[str, Any]]:
    rows = []
    for (n,), unit in results["length"].items():
        count = len(evaluation_strings(config, "length", n)[0])
        reached = estimates.converged(unit, unit["function"])
        for i, function in enumerate(unit["function"].tolist()):
            row = {"function": function, "length": n, "seed": int(unit["seed"][i])}
            row |= {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay} | _status(unit, i)
            row |= {"converged": bool(reached[i]), "strings": count}
            row |= {name: float(unit[name][i]) for name in MEASURED}
            rows.append(row | {"exact_sensitivity": exact_sensitivity(function, n)})
    return rows


def _tradeoff_rows(models: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    reached = estimates.converged(models, "parity")
    return [
        {"number": int(models["number"][i]), "learning_rate": float(models["learning_rate"][i])}
        | {"weight_decay": float(models["weight_decay"][i])} | _status(models, i) | {"converged": bool(reached[i])}
        | {name: float(models[name][i]) for name in MEASURED}
        for i in range(len(reached))
    ]  # fmt: skip


def _function_rows(learned: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {name: int(learned[name][i]) for name in ("function", "size", "seed")}
        | _status(learned, i) | {"target_sensitivity": float(learned["target_sensitivity"][i])}
        | {name: float(learned[name][i]) for name in LEARNED}
        for i in range(len(learned["size"]))
    ]  # fmt: skip


def _summary(config: Config, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the printed table: a row for each function and length."""
    table = []
    for function in FUNCTIONS:
        for n in config.lengths:
            of = {row["quantity"]: row for row in rows if row["function"] == function and row["length"] == n}
            row = {"function": function, "length": n}
            row["converged"] = f"{of['loss']['converged']} of {of['loss']['models']}"
            for name in ("loss", "sharpness", "sharpness_of_converged", "weight_norm", "sensitivity"):
                row[name.replace("_", " ")] = of[name]["mean"]
            blow_up = of["ln_blow_up_median"]["mean"]
            row["blow-up"] = None if blow_up is None else float(np.exp(blow_up))
            table.append(row | {"exact sensitivity": exact_sensitivity(function, n)})
    return table
