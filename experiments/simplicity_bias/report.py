"""Tables of ``experiments.simplicity_bias``, and what a run writes and prints."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.simplicity_bias import claims, figures
from experiments.simplicity_bias.config import CURVES, KINDS, Config
from experiments.simplicity_bias.estimates import (
    Group,
    Results,
    best_rate,
    cells,
    converged,
    converged_share,
    every_model,
    label_estimates,
    of_sets,
    overfitting,
)
from jaxsens.statistics.estimate import Estimate
from jaxsens.training.many_models import DIVERGED, REACHED, STALE, TRAINING

STATUS = {TRAINING: "all epochs", STALE: "stale", REACHED: "reached", DIVERGED: "diverged"}


def write(run: harness.Run, config: Config, results: Results) -> None:
    """Write all tables and figures of a run, and print the tables of noise levels and of random labels."""
    levels = [(kind, count, noise) for kind in KINDS for count in config.counts for noise in config.noises]
    chosen = {level: best_rate(config, results, *level) for level in levels}
    groups = {(*level, rate): Group(config, results, *level, rate) for level in levels for rate in config.rates}
    best = {level: groups[*level, chosen[level]] for level in levels}
    labels = {kind: label_estimates(config, results, kind) for kind in KINDS}
    level_rows = [group.row(chosen[group.level] == group.rate) for group in groups.values()]
    label_rows = [_kind_row(config, results, kind, labels[kind]) for kind in KINDS]
    run.table("models", _model_rows(config, results, chosen), allow_nonfinite=["training_loss"])
    run.table("curves", _curve_rows(config, results, chosen))
    run.table("noise_levels", level_rows)
    run.table("random_labels", _label_rows(config, results), allow_nonfinite=["accuracy"])
    run.table("labels", label_rows)
    run.comparison(claims.claims(config, results, best))
    for count in config.counts:
        name = "training" if len(config.counts) == 1 else f"training-{count}"
        run.figure(name, figures.curves(config, best, count))
    run.figure("random_labels", figures.random_labels(config, labels))
    shown = ("training_accuracy", "test_accuracy", "overfitting", "sensitivity")
    _print(level_rows, ["kind", "strings", "noise", "learning_rate", "chosen", "models", "diverged"], shown)
    _print(label_rows, ["kind", "data_sets", "models"], ("converged", "untrained", "trained", "change"))


def _print(rows: Sequence[Mapping[str, Any]], plain: Sequence[str], estimates: Sequence[str]) -> None:
    shown = [
        {name: row[name] for name in plain}
        | {
            name: row[f"{name}_mean"] if row[f"{name}_low"] is None else harness.row_interval(row, f"{name}_")
            for name in estimates
        }
        for row in rows
    ]
    columns = {name: name.replace("_", " ") for name in (*plain, *estimates)}
    print(harness.format_table(shown, columns), end="\n\n")


def _model_rows(config: Config, results: Results, chosen: Mapping[tuple, float]) -> list[dict[str, Any]]:
    rows = []
    for level, rate, seed, unit, place in every_model(config, results):
        last = {name: float(unit[name][place, -1]) for name in CURVES}
        rows.append(
            {
                "kind": level[0], "strings": level[1], "noise": level[2], "seed": seed, "learning_rate": rate,
                "chosen": chosen[level] == rate, "batch": config.batch, "parameters": int(unit["parameters"]),
                "status": STATUS[int(unit["status"][place])], "epochs": int(unit["epochs_done"][place]),
                "training_loss": float(unit["training_loss"][place]), **last,
                "overfitting": float(overfitting(last["training_accuracy"], last["test_accuracy"], level[2])),
            }
        )  # fmt: skip
    return rows


def _curve_rows(config: Config, results: Results, chosen: Mapping[tuple, float]) -> list[dict[str, Any]]:
    return [
        {
            "kind": level[0], "strings": level[1], "noise": level[2], "seed": seed, "learning_rate": rate,
            "chosen": chosen[level] == rate, "epoch": int(epoch),
        } | {name: float(unit[name][place, point]) for name in CURVES}
        for level, rate, seed, unit, place in every_model(config, results)
        for point, epoch in enumerate(unit["epochs"])
    ]  # fmt: skip


def _label_rows(config: Config, results: Results) -> list[dict[str, Any]]:
    rows = []
    for kind in KINDS:
        unit = results["labels", kind]
        for dataset, number in np.ndindex(unit["status"].shape):
            row = {
                "kind": kind, "data_set": dataset, "model": number,
                "learning_rate": config.label_rates_by_model[number], "batch": config.label_batch,
                "parameters": int(unit["parameters"]), "status": STATUS[int(unit["status"][dataset, number])],
                "epochs": int(unit["epochs_done"][dataset, number]),
                "converged": bool(unit["status"][dataset, number] == REACHED),
                "accuracy": float(unit["accuracy"][dataset, number]),
            }  # fmt: skip
            for name in ("untrained_sensitivity", "untrained_sem", "trained_sensitivity", "trained_sem"):
                row[name] = float(unit[name][dataset, number])
            rows.append(row)
    return rows


def _kind_row(config: Config, results: Results, kind: str, means: Mapping[str, Estimate]) -> dict[str, Any]:
    count, total = converged(results, kind)
    share = cells(converged_share(results, kind), "converged_")
    row: dict[str, Any] = {
        "kind": kind, "data_sets": len(of_sets(config, results, kind)), "models": total, "converged_count": count,
        **{name: share[name] for name in ("converged_mean", "converged_low", "converged_high")},
        "published": claims.PUBLISHED[kind],
    }  # fmt: skip
    for name in ("untrained", "trained", "change"):
        bounds = (-1, 1) if name == "change" else (0, 1)
        nothing = {f"{name}_{part}": None for part in ("mean", "sem", "low", "high")}
        row |= cells(means[name], f"{name}_", bounds) if name in means else nothing
    return row
