"""The benchmark's results: rows, the table on the screen, JSON, and a figure."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.benchmark.figures import speed_ratios

OURS = "jaxsens"


def rows(name: str, found: Mapping[str, Any], ceiling: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return a row for each program of a case, from what ``benchmark_timing.compare`` gave.

    Rates are per second, medians over repeats, with the slowest and the fastest. ``ours_over`` says how many times as
    many evaluations as this program ours does in the same time: the median over repeats, and their range.
    """
    done = found["evaluations"][:, None] * found["items"][:, None] / found["seconds"]
    table = []
    for index, by in enumerate(found["by"].tolist()):
        rate = float(np.median(done[index]))
        per_item = found["evaluations"][index]
        operations = float(found["operations"][index] / per_item)
        moved = float(found["bytes"][index] / per_item)
        ratio = done[0] / done[index]
        table.append(
            {
                "case": name, "by": by, "how": str(found["how"][index]), "unit": str(found["unit"]),
                "items": int(found["items"][index]), "per_second": rate, "slowest": float(done[index].min()),
                "fastest": float(done[index].max()), "ours_over": float(np.median(ratio)),
                "ours_over_least": float(ratio.min()), "ours_over_most": float(ratio.max()),
                "operations": operations or None, "operations_per_second": operations * rate or None,
                "of_product": operations * rate / ceiling["operations_per_second"] or None,
                "bytes_per_second": _known(moved * rate), "of_copy": _known(moved * rate / ceiling["bytes_per_second"]),
                "peak_bytes": _known(found["peak_bytes"][index]),
                "first_call_seconds": float(found["first_seconds"][index]),
                "seconds": float(np.median(found["seconds"][index])), "difference": float(found["difference"][index]),
            }
        )  # fmt: skip
    plain = next((row for row in table if row["by"] == "plain"), None)
    for row in table:
        share = plain and plain["operations"] and row["operations"] and plain["operations"] / row["operations"]
        row["operations_ratio"] = share if row["by"] == OURS else None
        row["reached"] = plain["ours_over"] / share if share and row["by"] == OURS else None
    return table


def over_mix(table: list[dict[str, Any]], layers: int | None = None) -> dict[str, float]:
    """Return, over the recognizers, how many times as long the others take for as many forwards of each (by cost).

    Over those of so many ``layers``, if given.
    """
    of_mix = [row for row in table if layers_of(row) and layers in (None, layers_of(row))]
    ours = sum(1 / row["per_second"] for row in of_mix if row["by"] == OURS)
    others = dict.fromkeys(row["by"] for row in of_mix if row["by"] != OURS)
    return {by: sum(1 / row["per_second"] for row in of_mix if row["by"] == by) / ours for by in others}


def by_layers(table: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return ``over_mix`` for every number of layers that there is."""
    found = sorted({layers_of(row) for row in table} - {None})
    return {str(layers): over_mix(table, layers) for layers in found}


def layers_of(row: Mapping[str, Any]) -> int | None:
    """Return how many layers a recognizer has, which its case is named after; None of other cases."""
    return int(row["case"].split("-")[1].split("x")[0]) if row["case"].startswith("recognizer-") else None


def lines(table: list[dict[str, Any]]) -> list[str]:
    """Return the table as lines of text."""
    head = f"{'case':22} {'by':10} {'per second':>12}  {'ours over it':22} {'of product':>10} {'first call':>11}  how"
    found = [head, "-" * len(head)]
    for row in table:
        ours = "" if row["by"] == OURS else _ratio(row)
        if row["by"] == OURS and row["reached"]:
            ours = f"ops {row['operations_ratio']:.2f}, got {row['reached']:.0%}"
        share = f"{row['of_product']:10.0%}" if row["of_product"] else " " * 10
        found.append(
            f"{row['case']:22} {row['by']:10} {row['per_second']:12,.4g}  {ours:22} {share} "
            f"{row['first_call_seconds']:10.2f}s  {row['how']}"
        )
    of_depth = {f"those of {layers} layers": ratios for layers, ratios in by_layers(table).items()}
    for which, ratios in ({"the mix": over_mix(table)} | of_depth).items():
        told = ", ".join(f"{ratio:.2f} times {by}" for by, ratio in ratios.items())
        found += [f"recognizers over {which}, by cost: {told}"] if told else []
    return found


def figure(table: list[dict[str, Any]]) -> Any:
    """Return the figure: how many times as fast as each program ours is, by case.

    Without boofun, whose three orders of magnitude would leave no room to tell the others apart, unless it is all.
    """
    others = [row for row in table if row["by"] != OURS]
    named = [row for row in others if row["by"] != "boofun"] or others
    ratios: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in named:
        ratios.setdefault(row["by"], {})[row["case"]] = row["ours_over"], row["ours_over_least"], row["ours_over_most"]
    return speed_ratios(ratios)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _ratio(row: Mapping[str, Any]) -> str:
    return f"{row['ours_over']:.3g}x [{row['ours_over_least']:.3g}, {row['ours_over_most']:.3g}]"
