"""What ``experiments.simplicity_bias`` says of its results: tables, figures, and verdicts on the paper's claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.simplicity_bias.claims import (
    NAMES,
    PUBLISHED,
    Group,
    Results,
    best_rate,
    cells,
    converged,
    label_claims,
    label_estimates,
    of_sets,
    overfitting,
    parity_claims,
    place_of,
    units_of,
)
from experiments.simplicity_bias.config import CURVES, KINDS, Config
from jaxsens import plots
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.training.many_models import DIVERGED, REACHED, STALE, TRAINING

STATUS = {TRAINING: "all epochs", STALE: "stale", REACHED: "reached", DIVERGED: "diverged"}


def write(run: harness.Run, config: Config, results: Results) -> None:
    """Write all tables and figures of a run, and print the tables of noise levels and of random labels."""
    levels = [(kind, count, noise) for kind in KINDS for count in config.counts for noise in config.noises]
    chosen = {level: best_rate(config, results, *level) for level in levels}
    groups = {(*level, rate): Group(config, results, *level, rate) for level in levels for rate in config.rates}
    run.table("models", _model_rows(config, results, chosen), allow_nonfinite=["training_loss"])
    run.table("curves", _curve_rows(config, results, chosen))
    rows = [group.row(chosen[group.level] == group.rate) for group in groups.values()]
    run.table("noise_levels", rows)
    run.table("random_labels", _label_rows(config, results), allow_nonfinite=["accuracy"])
    labels = {kind: label_estimates(config, results, kind) for kind in KINDS}
    label_rows = [_kind_row(config, results, kind, labels[kind]) for kind in KINDS]
    run.table("labels", label_rows)
    best = {level: groups[*level, chosen[level]] for level in levels}
    run.comparison([*parity_claims(config, best), *label_claims(config, results)])
    _figures(run, config, best, labels)
    shown = ("training_accuracy", "test_accuracy", "overfitting", "sensitivity")
    _print(rows, ["kind", "strings", "noise", "learning_rate", "chosen", "models", "diverged"], shown)
    _print(label_rows, ["kind", "data_sets", "models"], ("converged", "untrained", "trained", "change"))


def _print(rows: Sequence[Mapping[str, Any]], plain: Sequence[str], estimates: Sequence[str]) -> None:
    print(harness.format_table([row | {name: _triple(row, name) for name in estimates} for row in rows],
                            [*plain, *estimates]), end="\n\n")  # fmt: skip


def _model_rows(config: Config, results: Results, chosen: Mapping[tuple, float]) -> list[dict[str, Any]]:
    rows = []
    for level, rate, seed, unit, place in _every(config, results):
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
        for level, rate, seed, unit, place in _every(config, results)
        for point, epoch in enumerate(unit["epochs"])
    ]  # fmt: skip


def _every(config: Config, results: Results) -> list[tuple]:
    return [
        ((kind, count, noise), rate, seed, unit, place_of(config, noise, rate))
        for kind in KINDS
        for count in config.counts
        for noise in config.noises
        for rate in config.rates
        for seed, unit in enumerate(units_of(config, results, kind, count))
    ]


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


def _kind_row(config: Config, results: Results, kind: str, found: Mapping[str, Estimate]) -> dict[str, Any]:
    count, total = converged(results, kind)
    low, high = estimate.clopper_pearson(count, total)
    row: dict[str, Any] = {
        "kind": kind, "data_sets": len(of_sets(config, results, kind)), "models": total, "converged_count": count,
        "converged_mean": count / total, "converged_low": float(low), "converged_high": float(high),
        "published": PUBLISHED[kind],
    }  # fmt: skip
    for name in ("untrained", "trained", "change"):
        bounds = (-1, 1) if name == "change" else (0, 1)
        nothing = {f"{name}_{part}": None for part in ("mean", "sem", "low", "high")}
        row |= cells(found[name], f"{name}_", bounds) if name in found else nothing
    return row


def _figures(
    run: harness.Run, config: Config, groups: Mapping[tuple, Group], labels: Mapping[str, Mapping[str, Estimate]]
) -> None:
    rows = {
        "training_accuracy": "training accuracy\n(noisy labels, fraction)",
        "validation_accuracy": "held-out accuracy\n(clean labels, fraction)",
        "sensitivity": "average sensitivity\n(fraction of bit flips)",
    }
    when = {"untrained": "untrained", "trained": "converged"}
    titles = {noise: f"label noise {noise:.0%}" for noise in config.noises}
    share = config.relevant / config.length
    references = {
        rows["training_accuracy"]: {titles[noise]: ("1 - noise", 1 - noise) for noise in config.noises},
        rows["sensitivity"]: dict.fromkeys(titles.values(), (f"the parity's own, {share:g}", share)),
    }
    for count in config.counts:
        drawn = {
            text: {
                titles[noise]: {NAMES[kind]: groups[kind, count, noise].curve(name) for kind in KINDS}
                for noise in config.noises
            }
            for name, text in rows.items()
        }
        run.figure(
            "training" if len(config.counts) == 1 else f"training-{count}",
            plots.curve_grid(
                drawn, references=references, heading="Sparse parities with label noise",
                dataset=f"parity of {config.relevant} of {config.length} bits, {count} strings",
                sample=f"{config.seeds} seeds, each with its own bits, strings and weights",
            ),
        )  # fmt: skip
    shown = {}
    for kind in KINDS:
        found = {words: _interval(labels[kind][name]) for name, words in when.items() if name in labels[kind]}
        found["published"] = (PUBLISHED[kind],) * 3
        shown |= {f"{NAMES[kind]}, {words}": interval for words, interval in found.items()}
    run.figure(
        "random_labels",
        plots.dots(
            {"models that fit their labels": shown | {"random function": (0.5, 0.5, 0.5)}},
            dataset=f"{config.label_strings} strings of {config.label_length} bits",
            sample=f"{config.label_sets} data sets, models of each kind: {config.label_models}",
            heading="Sensitivity with random labels",
            quantity="average sensitivity (fraction of bit flips)",
        ),
    )


def _interval(found: Estimate) -> tuple[float, float, float]:
    low, high = np.clip(found.interval(), 0, 1)
    return float(found.mean), float(low), float(high)


def _triple(row: Mapping[str, Any], name: str) -> tuple[float, float, float] | float | None:
    parts = tuple(row[f"{name}_{part}"] for part in ("mean", "low", "high"))
    return parts[0] if None in parts else parts
