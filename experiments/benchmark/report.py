"""The benchmark's results: rows of the table, speedups over recognizers, text for the terminal, and the figure."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import harness
from experiments.benchmark.figures import PROGRAMS, label, speed_ratios

OURS = "jaxsens"


def rows(name: str, times: Mapping[str, Any], ceiling: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return a row for each program of a case, from the results of ``timing.compare``.

    Rates are per second, medians over repeats, with the slowest and the fastest. ``ours_over`` is the speedup of
    jaxsens over the program, in evaluations per second: the median over repeats, and their range.
    """
    done = times["evaluations"][:, None] * times["items"][:, None] / times["seconds"]
    table = []
    for index, by in enumerate(times["by"].tolist()):
        rate = float(np.median(done[index]))
        per_item = times["evaluations"][index]
        operations = float(times["operations"][index] / per_item)
        moved = float(times["bytes"][index] / per_item)
        ratio = done[0] / done[index]
        table.append(
            {
                "case": name, "by": by, "how": str(times["how"][index]), "unit": str(times["unit"]),
                "items": int(times["items"][index]), "per_second": rate, "slowest": float(done[index].min()),
                "fastest": float(done[index].max()), "ours_over": float(np.median(ratio)),
                "ours_over_least": float(ratio.min()), "ours_over_most": float(ratio.max()),
                "operations": operations or None, "operations_per_second": operations * rate or None,
                "of_product": operations * rate / ceiling["operations_per_second"] or None,
                "bytes_per_second": harness.cell(moved * rate),
                "of_copy": harness.cell(moved * rate / ceiling["bytes_per_second"]),
                "peak_bytes": harness.cell(times["peak_bytes"][index]),
                "first_call_seconds": float(times["first_seconds"][index]),
                "seconds": float(np.median(times["seconds"][index])), "difference": float(times["difference"][index]),
            }
        )  # fmt: skip
    plain = next((row for row in table if row["by"] == "plain"), None)
    for row in table:
        share = plain and plain["operations"] and row["operations"] and plain["operations"] / row["operations"]
        row["operations_ratio"] = share if row["by"] == OURS else None
        row["reached"] = plain["ours_over"] / share if share and row["by"] == OURS else None
    return table


def over_mix(table: list[dict[str, Any]], layers: int | None = None) -> dict[str, float]:
    """Return the speedup of jaxsens over each program on all recognizers, the same number of forwards of each.

    That weighs recognizers by their cost. With ``layers``, only recognizers of this depth count.
    """
    of_mix = [row for row in table if layers_of(row) and layers in (None, layers_of(row))]
    ours = sum(1 / row["per_second"] for row in of_mix if row["by"] == OURS)
    others = dict.fromkeys(row["by"] for row in of_mix if row["by"] != OURS)
    return {by: sum(1 / row["per_second"] for row in of_mix if row["by"] == by) / ours for by in others}


def by_layers(table: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return ``over_mix`` for every number of layers."""
    depths = sorted({layers_of(row) for row in table} - {None})
    return {str(layers): over_mix(table, layers) for layers in depths}


def layers_of(row: Mapping[str, Any]) -> int | None:
    """Return the number of layers of a recognizer, from the name of its case; None for other cases."""
    return int(row["case"].split("-")[1].split("x")[0]) if row["case"].startswith("recognizer-") else None


def lines(table: list[dict[str, Any]]) -> list[str]:
    """Return the table as text, with the speedups over all recognizers below it."""
    text = [harness.format_table([_shown(row) for row in table])]
    of_depth = {f"{layers} layers": ratios for layers, ratios in by_layers(table).items()}
    for which, ratios in ({"all": over_mix(table)} | of_depth).items():
        speedups = ", ".join(f"{ratio:.2f} over {by}" for by, ratio in ratios.items())
        text += [f"speedup of jaxsens on recognizers, {which}, by cost: {speedups}"] if speedups else []
    return text


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    ours = row["by"] == OURS
    reached = f"{row['reached']:.0%} of {row['operations_ratio']:.2f}" if ours and row["reached"] else ""
    return {
        "case": row["case"],
        "by": row["by"],
        "per second": row["per_second"],
        "speedup of jaxsens": None if ours else (row["ours_over"], row["ours_over_least"], row["ours_over_most"]),
        "speedup over plain, of operations": reached,
        "of product": f"{row['of_product']:.0%}" if row["of_product"] else "",
        "first call (s)": row["first_call_seconds"],
        "how": row["how"],
    }


def figure(table: list[dict[str, Any]]) -> Any:
    """Return the figure: the speedup of jaxsens over each program, by case.

    Without boofun, whose three orders of magnitude would leave no room for the others, unless it is the only one.
    """
    others = [row for row in table if row["by"] != OURS]
    named = [row for row in others if row["by"] != "boofun"] or others
    ratios: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in named:
        speedup = row["ours_over"], row["ours_over_least"], row["ours_over_most"]
        ratios.setdefault(PROGRAMS[row["by"]], {})[label(row["case"])] = speedup
    return speed_ratios(ratios)
