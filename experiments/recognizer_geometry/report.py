"""Tables of the experiment, the comparison with the paper, and the table that is printed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.harness import cells
from experiments.recognizer_geometry import claims, figures
from experiments.recognizer_geometry.config import Config
from experiments.recognizer_geometry.counts import Counts, all_counts, groups
from experiments.recognizer_geometry.estimates import (
    QUANTITIES,
    WEIGHTS,
    Decay,
    Results,
    Slope,
    Units,
    blow_up_decays,
    blow_up_rates,
    influence_slopes,
    margin_rows,
)
from experiments.recognizer_geometry.fits import require_margin
from jaxsens.statistics import estimate

EMPTY = dict.fromkeys(("mean", "sem", "low", "high"))


def write(run: harness.Run, config: Config, results: Results) -> None:
    """Write all tables and figures of a run, and print what becomes of the claims."""
    run.table("blow_up_bound", bound_rows(results["bound"]))
    slopes = influence_slopes(config, results["influence"])
    run.table("influences", _influence_rows(results["influence"]))
    run.table("influence_slopes", [slope_row(slope) for slope in slopes])
    run.table("margins", margins_rows(results["margin"]))
    lost = margin_rows(config, results["margin"], results.get("margin-end", {}))
    run.table("margin_lengths", lost)
    decays = blow_up_decays(config, results["blow-up"])
    run.table("blow_ups", _blow_up_rows(config, results["blow-up"]))
    if decays:
        run.table("blow_up_decay", [_decay_row(decay) for decay in decays])
    counts = list(all_counts(config, results["count"]))
    write_counts(run, counts)
    rows = harness.corrected(
        [
            *claims.bound_claims(config, results["bound"], results["margin"]),
            *claims.influence_claims(results["influence"], slopes),
            *claims.margin_claims(lost),
            *claims.blow_up_claims(config, decays),
            *claims.growth_claims(counts),
        ]
    )
    rows += harness.corrected(claims.floor_claims(counts))  # a theorem, the growth beyond it an open question
    run.comparison(rows)
    figures.write(run, config, results, slopes, decays, counts)
    print("\n" + _printed(rows))


def _printed(rows: Sequence[harness.Claim]) -> str:
    def measured(claim: harness.Claim) -> Any:
        return claim.measured if claim.low is None else (claim.measured, claim.low, claim.high)

    names = ("claim", "quantity", "subject", "dataset", "published", "verdict")
    shown = [{name: getattr(claim, name) for name in names} | {"measured": measured(claim)} for claim in rows]
    return harness.format_table(shown, [*names[:-1], "measured", "verdict"])


def bound_rows(units: Units) -> list[dict[str, Any]]:
    """Return the rows of blow_up_bound.csv."""
    rows = []
    for (depth, epsilon), unit in units.items():
        largest = estimate.from_values(unit["ratio"].max(1))
        row = {"layers": depth, "epsilon": epsilon, "models": largest.count, "strings": unit["ratio"].shape[1]}
        rows.append(row | cells(largest) | {"largest": float(unit["ratio"].max())})
    return rows


def _influence_rows(units: Units) -> list[dict[str, Any]]:
    rows = []
    for (encoding, epsilon, half_width, n), unit in units.items():
        setting = {"positions": encoding, "epsilon": epsilon, "half_width": half_width, "length": n}
        for quantity in (*QUANTITIES, "span"):
            one = estimate.from_values(unit[quantity])
            rows.append(setting | {"models": one.count, "quantity": quantity} | cells(one))
    return rows


def slope_row(slope: Slope) -> dict[str, Any]:
    """Return the row of influence_slopes.csv of a slope."""
    encoding, epsilon, half_width = slope.setting
    return {
        "positions": encoding, "epsilon": epsilon, "half_width": half_width, "quantity": slope.quantity,
        "lengths": slope.which, "first": slope.lengths[0], "last": slope.lengths[-1],
        "models": int(slope.kept.sum()), "models_with_zero": int((~slope.kept).sum()),
    } | (cells(slope.estimate) if slope.estimate else EMPTY)  # fmt: skip


def margins_rows(units: Units) -> list[dict[str, Any]]:
    """Return the rows of margins.csv.

    Raises:
        FloatingPointError: If a construction does not recognize its language, see `require_margin`.
    """
    rows = []
    for (name, epsilon, n), unit in units.items():
        margin, closed_form = float(unit["margin"]), float(unit["closed_form"])
        require_margin(name, epsilon, n, margin, closed_form)
        rows.append({
            "construction": name, "epsilon": epsilon, "length": n, "strings": int(unit["strings"]), "margin": margin,
            "closed_form_first_order": closed_form, "blow_up_ratio": float(unit["blow_up_ratio"]),
        })  # fmt: skip
    return rows


def _blow_up_rows(config: Config, units: Units) -> list[dict[str, Any]]:
    rows = []
    for depth, width, weights in ((*shape, weights) for shape in config.shapes for weights in WEIGHTS):
        rates = blow_up_rates(config, units, (depth, width, weights))
        for n, column in zip(config.blow_up_lengths, rates.T, strict=True):
            rate = estimate.from_values(column, rate=True)
            row = {"layers": depth, "width": width, "weights": weights, "length": n, "centers": rate.count}
            rows.append(row | {"draws": config.draws} | cells(rate))
    return rows


def _decay_row(decay: Decay) -> dict[str, Any]:
    row = dict(zip(("layers", "width", "weights"), decay.setting, strict=True))
    row |= {"lengths": decay.which, "first": int(decay.lengths[0]), "last": int(decay.lengths[-1])}
    return row | cells(decay.exponent) | {"lemma": decay.lemma}


def write_counts(run: harness.Run, each: Sequence[Counts]) -> None:
    """Write the tables of strings of sensitivity 0: by length, growth over lengths, and models by category."""
    run.table("counts", [row for counts in each for row in _count_rows(counts)])
    growth, categories = [], []
    for group in (group for counts in each for group in groups(counts)):
        setting = {"layers": group.counts.depth, "width": group.counts.width, "group": group.name}
        # If the exponent is not positive there is no floor to be sorted by.
        without = {} if group.counts.exponent > 0 else dict.fromkeys(group.counts.against_floor())
        categories.append(setting | {"models": group.size} | group.categories | without)
        for quantity, one in group.growth().items():
            row = {"quantity": quantity, "models": one.count, "left_out": group.size - one.count}
            growth.append(setting | row | {"with_gaps": group.with_gaps} | cells(one))
    if growth:
        run.table("count_growth", growth)
    run.table("count_models", categories)


def _count_rows(counts: Counts) -> list[dict[str, Any]]:
    rows = []
    for i, n in enumerate(counts.lengths):
        share = estimate.from_values(counts.zero[:, i] / counts.strings[i], rate=True)
        shown = counts.zero[:, i] > 0
        logs = counts.logs[shown, i]
        log_cells = cells(estimate.from_values(logs)) if len(logs) > 1 else EMPTY
        none = int(np.sum(~shown))
        rows.append({
            "layers": counts.depth, "width": counts.width, "length": int(n), "strings": int(counts.strings[i]),
            "all_strings": bool(counts.exact[i]), "models": len(shown), **cells(share, "share_"),
            "n_observed": int(shown.sum()), **{f"log2_{name}": cell for name, cell in log_cells.items()},
            "n_constant": int(counts.constant[:, i].sum()), "n_proven_zero": none if counts.exact[i] else 0,
            "n_observed_zero": 0 if counts.exact[i] else none,
        })  # fmt: skip
    return rows
