"""Tables of the experiment, the comparison with the paper, and the table that is printed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.random_recognizers import claims, figures, labels
from experiments.random_recognizers.config import Config, Model
from experiments.random_recognizers.estimates import (
    COMPARED,
    Groups,
    Results,
    by_kind,
    differences,
    of_model,
    over_models,
    shares,
)
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

QUANTITIES = ("average", "zero", "small", "altered")
"""Quantities of `estimates.of_model` in schemes.csv."""


def write(run: harness.Run, config: Config, results: Results, control: Mapping[int, Mapping[str, Array]]) -> None:
    """Write all tables and figures of a run, and print the table of initializations."""
    groups = by_kind(config, results)
    rows = [_model_row(config, *pair) for group in groups.values() for pair in group]
    run.table("models", rows, allow_nonfinite=["error"])
    run.table("spectra", [row for key in groups if key[0] in COMPARED for row in _spectrum_rows(config, key, groups)])
    summary = [_scheme_row(config, key, group) for key, group in groups.items()]
    run.table("schemes", summary)
    choices = [_choice_row(config, key, groups) for key in groups if key[0] not in COMPARED]
    if choices:
        run.table("choices", choices)
    if config.screened:
        rows = [screening_row(*key, [values for _, values in group]) for key, group in groups.items()]
        run.table("screening", rows)
    rates = {length: estimate.from_values(values["zeros"] > 0) for length, values in control.items()}
    functions = [_control_row(length, control[length]["zeros"], rates[length]) for length in control]
    run.table("control", functions)
    run.comparison(
        harness.corrected(
            [
                *claims.spectrum_claims(config, groups),
                *claims.choice_claims(config, groups),
                *claims.control_claims(functions, rates),
            ]
        )
    )
    figures.write(run, config, groups, rates)
    print(_printed(summary))


def _printed(summary: Sequence[Mapping[str, Any]]) -> str:
    headings = {
        "model": "model", "weights": "weights", "models": "models", "strings": "strings", "average": "average s / n",
        "zero": "share s = 0", "small": "share s <= n/20", "altered": "altered by float64",
    }  # fmt: skip
    rows = []
    for row in summary:
        names = {"model": labels.KINDS[row["kind"]], "weights": labels.weights(row["scheme"])}
        rows.append(row | names | {name: harness.row_interval(row, f"{name}_") for name in QUANTITIES})
    return harness.format_table(rows, headings)


def _model_row(config: Config, model: Model, values: Mapping[str, Array]) -> dict[str, Any]:
    sensitivities, sizes = values["sensitivities"], model.architecture
    average = estimate.from_values(sensitivities)
    return {
        "kind": model.kind, "scheme": model.scheme, "dataset": model.dataset, "number": model.number,
        "layers": sizes.layers, "heads": sizes.heads, "head_size": sizes.head_size, "multiplier": sizes.multiplier,
        "parameters": int(values["parameters"]), "strings": len(sensitivities),
        "average_sensitivity": float(average.mean), "sem": float(average.sem) if len(sensitivities) > 1 else None,
        "share_zero": of_model(config, values, "zero"), "largest": int(sensitivities.max()),
        "accepted": float(values["accepted"]), "audited_strings": int(values["audited"]),
        "altered_by_float64": float(values["altered"]), "error": float(values["error"]),
    }  # fmt: skip


def screening_row(kind: str, scheme: str, group: Sequence[Mapping[str, Array]]) -> dict[str, Any]:
    """Return how many decisions were recomputed in float32, and how many audited ones were wrong, over a group."""
    total, redone, audited, disagreed = np.sum([values["screening"] for values in group], 0).tolist()
    wrong = estimate.clopper_pearson(np.asarray([disagreed]), audited)[1].item() if audited else None
    return {
        "kind": kind, "scheme": scheme, "decisions": total, "redone": redone, "redone_share": redone / total,
        "audited": audited, "disagreed": disagreed, "wrong_at_most": wrong,
    }  # fmt: skip


def _spectrum_rows(config: Config, key: tuple[str, str], groups: Groups) -> list[dict[str, Any]]:
    columns = zip(*shares(config, groups[key]), strict=True)
    names = {"kind": key[0], "scheme": key[1]}
    return [
        names | {"sensitivity": s, "share": float(share), "low": float(low), "high": float(high)}
        for s, (share, low, high) in enumerate(columns)
    ]


def _scheme_row(config: Config, key: tuple[str, str], group: Results) -> dict[str, Any]:
    strings = [len(values["sensitivities"]) for _, values in group]
    row = {"kind": key[0], "scheme": key[1], "models": len(group), "strings": sum(strings)}
    row["fewest_strings"] = min(strings)
    for name in QUANTITIES:
        row |= harness.cells(over_models(config, group, name), f"{name}_")
    return row


def _choice_row(config: Config, key: tuple[str, str], groups: Groups) -> dict[str, Any]:
    """Compare another reading of F.1 with the default, on the same architectures, strings and random numbers."""
    kind, scheme = key
    row = {"choice": kind, "scheme": scheme, "models": len(groups[key])}
    for name in ("average", "zero"):
        row |= harness.cells(over_models(config, groups[key], name), f"{name}_")
        changes = differences(config, groups, key, name)
        row |= harness.cells(estimate.from_values(changes, rate=False), f"{name}_minus_default_")
    return row


def _control_row(length: int, zeros: np.ndarray, rate: Estimate) -> dict[str, Any]:
    exact = length <= 4
    low, high = (float(rate.mean),) * 2 if exact else (float(end) for end in rate.interval())
    return {
        "length": length, "functions": len(zeros), "exact": exact, "mean_zeros": float(zeros.mean()),
        "share_with_zero": float(rate.mean), "sem": None if exact else float(rate.sem), "low": low, "high": high,
        "limit": claims.LIMIT,
    }  # fmt: skip
