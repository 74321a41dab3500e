"""Tables of the experiment, the comparison with the paper, and the table that is printed."""

import itertools
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from experiments import harness
from experiments.trained_recognizers import claims, figures, labels
from experiments.trained_recognizers.config import Config
from experiments.trained_recognizers.data import NONE, Strings, exact_on_strings
from experiments.trained_recognizers.estimates import (
    UNSEEN,
    Result,
    Results,
    average_of,
    average_sensitivity,
    by_kind,
    change,
    in_bits,
    over,
    proportion,
)
from experiments.trained_recognizers.measure import NONFINITE
from experiments.trained_recognizers.models import Kind
from jaxsens.models.recognizers import baselines
from jaxsens.statistics import estimate

BLOW_UPS = ("log10_blow_up_before", "log10_blow_up_after")

RATE_BINS = 4
"""Bins of the learning rate, of equal width on its logarithmic scale."""


def write(run: harness.Run, config: Config, results: Results, user_strings: Strings = NONE) -> None:
    """Write all tables and figures of a run, and print the table of languages."""
    groups = by_kind(results)
    every = [result for group in groups.values() for result in group]
    run.table("models", [model_row(config, r) for r in every], allow_nonfinite=BLOW_UPS)
    summary = [language_row(config, kind, group, user_strings) for kind, group in groups.items()]
    run.table("languages", summary)
    run.table("spectra", [row for kind, group in groups.items() for row in _spectrum_rows(kind, group)])
    run.table("checkpoints", [row for r in every for row in _checkpoint_rows(config, r)])
    curves = {kind: _curve_rows(config, kind, group) for kind, group in groups.items()}
    run.table("curves", [row for rows in curves.values() for row in rows])
    rates = {kind: _rate_rows(config, kind, group) for kind, group in groups.items()}
    run.table("rates", [row for rows in rates.values() for row in rows])
    run.comparison(claims.claims(config, groups))
    figures.write(run, config, groups, curves, rates)
    shown = {
        "language": "language", "models": "models", "diverged": "diverged", "perfect": "perfect", "learned": ">= 0.99",
        "accuracy": "accuracy", "average_before": "av. sensitivity before", "average_after": "after", "exact": "exact",
        "exact_on_strings": "on the same strings",
    }  # fmt: skip
    print(harness.format_table([row | _printed(kind, row) for kind, row in zip(groups, summary, strict=True)], shown))


def _printed(kind: Kind, row: dict[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {"language": labels.language(kind)}
    for name in ("accuracy", "average_before", "average_after"):
        cells[name] = None if row[f"{name}_mean"] is None else harness.row_interval(row, f"{name}_")
    return cells


def model_row(config: Config, result: Result) -> dict[str, Any]:
    """Return the row of a model: what it is, how it was trained, and its results."""
    model, sizes = result.model, result.model.sizes
    before, after = (result.average(when) for when in ("before", "after"))
    return {
        "kind": model.kind.name, "language": model.language, "number": model.number, "scheme": model.kind.scheme,
        "length": model.kind.n, "layers": sizes.layers, "heads": sizes.heads, "head_size": sizes.head_size,
        "multiplier": sizes.multiplier,
        "parameters": baselines.parameter_count(sizes.config(config.epsilon)),
        "learning_rate": model.learning_rate, "batch": model.batch,
        "training_strings": config.random_strings if model.kind.random else config.training_strings,
        "status": result.status, "epochs": result.epochs, "best_epoch": result.best_epoch,
        "tested_on": "training" if model.kind.random else "test",
        "accuracy_before": result.before["correct"], "accuracy": result.after["correct"],
        "perfect": result.perfect, "learned": result.learned,
        "average_before": _or_none(before), "average_after": _or_none(after), "exact": model.kind.average,
        "sem_after": _sem(result.sensitivities["after"]),
        "largest_before": int(result.sensitivities["before"].max()),
        "largest_after": int(result.sensitivities["after"].max()),
        "nonfinite_strings": int((result.sensitivities["after"] == NONFINITE).sum()),
        "log10_blow_up_before": result.before["log_blow_up"], "log10_blow_up_after": result.after["log_blow_up"],
        "norm_before": result.before["norm"], "norm_after": result.after["norm"],
    }  # fmt: skip


def _sem(sensitivities: np.ndarray) -> float | None:
    if (sensitivities == NONFINITE).any() or len(sensitivities) < 2:
        return None
    return float(estimate.from_values(sensitivities).sem)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def language_row(config: Config, kind: Kind, group: Results, user_strings: Strings = NONE) -> dict[str, Any]:
    """Return the row of a kind of language: how many models learned it, and means over them."""
    row: dict[str, Any] = {
        "kind": kind.name, "length": kind.n, "scheme": kind.scheme,
        "languages": len({r.model.language for r in group}), "models": len(group),
        "diverged": sum(r.status == "diverged" for r in group),
        "unmeasured": sum(np.isnan(r.average("after")) or np.isnan(r.average("before")) for r in group),
        "tested_on": "training" if kind.random else "test",
    }  # fmt: skip
    for name in ("perfect", "learned"):
        holds = attrgetter(name)
        row |= {name: sum(map(holds, group)), **_parts(f"{name}_share", proportion(group, holds))}
    row |= _cells(over(group, lambda r: r.after["correct"], rate=True), "accuracy_")
    for when in ("before", "after"):
        bits = in_bits(average_sensitivity(group, when), kind.n)
        row |= {f"average_{when}_{name}": value for name, value in bits.items()}
    row["exact"] = kind.average
    numbers = sorted({r.model.language for r in group})
    row["exact_on_strings"] = exact_on_strings(config, kind, numbers, user_strings)
    row |= _cells(change(group), "change_")
    for name in ("log_blow_up", "norm"):
        for when in ("before", "after"):
            row |= _cells(over(group, lambda r, n=name, w=when: getattr(r, w)[n], rate=False), f"{name}_{when}_")
    return row


def _parts(prefix: str, share: tuple[float, float, float]) -> dict[str, float]:
    return {prefix: share[0], f"{prefix}_low": share[1], f"{prefix}_high": share[2]}


def _cells(estimated: estimate.Estimate | None, prefix: str) -> dict[str, float | None]:
    if estimated is None:
        return {prefix + name: None for name in ("mean", "sem", "low", "high")}
    return harness.cells(estimated, prefix)


def _spectrum_rows(kind: Kind, group: Results) -> list[dict[str, Any]]:
    rows = []
    for when in ("before", "after"):
        for s in range(kind.n + 1):
            cells = _cells(over(group, lambda r, s=s, w=when: float(r.shares(w)[s]), rate=True), "")
            rows.append({
                "kind": kind.name, "when": when, "sensitivity": s, "share": cells["mean"], "low": cells["low"],
                "high": cells["high"], "exact": float(kind.exact[s]),
            })  # fmt: skip
    return rows


def _checkpoint_rows(config: Config, result: Result) -> list[dict[str, Any]]:
    """Return a row for each epoch at which the model was measured; where it had stopped before there is none."""
    model = result.model
    named = {"kind": model.kind.name, "language": model.language, "number": model.number}
    start = {"validation_loss": None, "validation_accuracy": None, "learning_rate": model.learning_rate}
    rows = [named | {"epoch": 0, "average": _or_none(average_of(result.curve(-1))), **start}]
    for i, epoch in enumerate(config.curve(model.kind.random)):
        seen = result.sensitivities["during"][i]
        if seen[0] != UNSEEN:
            history = {name: float(result.history[name][i]) for name in ("loss", "accuracy", "learning_rate")}
            rows.append(named | {
                "epoch": epoch, "average": _or_none(average_of(seen)), "validation_loss": history["loss"],
                "validation_accuracy": history["accuracy"], "learning_rate": history["learning_rate"],
            })  # fmt: skip
    return rows


def _curve_rows(config: Config, kind: Kind, group: Results) -> list[dict[str, Any]]:
    """Return the mean over models at each epoch; a model that has stopped counts with its final weights."""
    rows = []
    for point, epoch in enumerate((0, *config.curve(kind.random)), -1):
        average = over(group, lambda r, p=point: average_of(r.curve(p)) / r.model.kind.n, rate=True)
        training = sum(point < 0 or r.sensitivities["during"][point, 0] != UNSEEN for r in group)
        cells = {f"average_{name}": value for name, value in in_bits(average, kind.n).items()}
        rows.append({"kind": kind.name, "epoch": epoch, "models": len(group), "training": training, **cells})
    return rows


def _rate_rows(config: Config, kind: Kind, group: Sequence[Result]) -> list[dict[str, Any]]:
    """Return how many models learned, by learning rate; a bin without models has no row."""
    edges = np.geomspace(*config.learning_rates, RATE_BINS + 1)
    rows = []
    for low, high in itertools.pairwise(edges):

        def inside(r: Result, low: float = low, high: float = high) -> bool:
            return low <= r.model.learning_rate and (high == edges[-1] or r.model.learning_rate < high)

        models = list(filter(inside, group))
        if models:
            rows.append({
                "kind": kind.name, "rate_from": float(low), "rate_to": float(high), "models": len(models),
                "diverged": sum(r.status == "diverged" for r in models), "learned": sum(r.learned for r in models),
                **_parts("learned_share", proportion(group, attrgetter("learned"), inside)),
                "accuracy": float(np.mean([r.after["correct"] for r in models])),
            })  # fmt: skip
    return rows
