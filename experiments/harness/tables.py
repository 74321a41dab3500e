"""Estimates as cells of a table, as points of a figure, and as text for a terminal."""

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxsens.statistics.estimate import Estimate

__all__ = ["cell", "cells", "csv_bytes", "format_table", "mean_and_interval", "row_interval"]


def cell(number: float) -> float | None:
    """Return a number for a table; empty if it is not finite."""
    return float(number) if np.isfinite(number) else None


def cells(estimate: Estimate, prefix: str = "") -> dict[str, float | None]:
    """Return mean, standard error and 95 % interval for a table; empty where a single unit leaves them open.

    Args:
        estimate: The estimate of one number.
        prefix: Prefix of the names of the columns ``mean``, ``sem``, ``low`` and ``high``.
    """
    low, high = estimate.interval()
    numbers = {"mean": estimate.mean, "sem": estimate.sem, "low": low, "high": high}
    return {prefix + name: cell(number) for name, number in numbers.items()}


def mean_and_interval(estimate: Estimate) -> tuple[float, float, float]:
    """Return ``(mean, low, high)`` for a figure; all three are the mean where a single unit has no interval."""
    low, high = (float(end) for end in estimate.interval())
    mean = float(estimate.mean)
    return (mean, low, high) if np.isfinite([low, high]).all() else (mean, mean, mean)


def row_interval(row: Mapping[str, Any], prefix: str = "") -> tuple[float, float, float]:
    """Return ``(mean, low, high)`` from a row that `cells` filled; only the mean where there is no interval."""
    mean, low, high = (row[f"{prefix}{part}"] for part in ("mean", "low", "high"))
    return (mean, mean, mean) if low is None or high is None else (mean, low, high)


def format_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | Sequence[str] | None = None) -> str:
    """Return rows as text in aligned columns, for a terminal.

    Args:
        rows: one dict each. A cell that is a tuple ``(mean, low, high)`` reads ``0.0123 [0.0110, 0.0136]``.
        columns: keys to show, in order, or a dict from keys to headings; those of the first row if None.

    Raises:
        ValueError: no rows, or a row that lacks a column.
    """
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(f"rows = {rows!r}: give a list of dicts")
    if not rows:
        raise ValueError("rows = []: give at least one")
    if columns is not None and not isinstance(columns, Mapping | Sequence):
        raise ValueError(f"columns = {columns!r}: give a list of keys, or a dict from keys to headings")
    headings = dict(columns) if isinstance(columns, Mapping) else {key: key for key in columns or rows[0]}
    for number, row in enumerate(rows):
        if missing := [key for key in headings if key not in row]:
            raise ValueError(f"row {number} lacks the columns {missing}: it has {sorted(row)}")
    texts = [list(headings.values())] + [[_shown(row[key]) for key in headings] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    left = [all(isinstance(row[key], str) for row in rows) for key in headings]
    lines = [
        "  ".join(
            text.ljust(width) if at_left else text.rjust(width)
            for text, width, at_left in zip(line, widths, left, strict=True)
        )
        for line in texts
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _shown(value: Any) -> str:
    """How a cell looks in a terminal."""
    if isinstance(value, tuple):
        mean, low, high = (float(part) for part in value)
        if not 0 < high - low < math.inf:
            return f"{_shown(mean)} [{_shown(low)}, {_shown(high)}]"
        decimals = max(0, 1 - math.floor(math.log10((high - low) / 2)))  # two digits of the half width
        return f"{mean:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def csv_bytes(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | None = None,
    allow_nonfinite: Collection[str] = (),
) -> bytes:
    """Return rows as CSV; numbers in the shortest form that reads back as the same float64.

    Args:
        name: Name of the table, for the messages.
        rows: One dict each, with the same keys; cells are str, bool, int, float, or None for an empty cell.
        columns: Order of the columns; that of the first row if None.
        allow_nonfinite: Columns that may hold NaN or infinity.

    Raises:
        ValueError: No rows, rows with other keys than the columns, or a cell that is not a scalar.
        FloatingPointError: NaN or infinity in a column where they are not allowed.
    """
    if not rows:
        raise ValueError(f"table {name!r} has no rows: give at least one")
    columns = list(rows[0] if columns is None else columns)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for number, row in enumerate(rows):
        if set(row) != set(columns):
            raise ValueError(
                f"row {number} of table {name!r} has the columns {sorted(row)}: allowed are {sorted(columns)}"
            )
        writer.writerow(
            [_cell(row[c], f"table {name!r}, row {number}, column {c!r}", c in allow_nonfinite) for c in columns]
        )
    return text.getvalue().encode()


def _cell(value: Any, where: str, nonfinite: bool) -> str:
    if isinstance(value, np.ndarray | np.generic | jax.Array) and np.ndim(value) == 0:
        value = np.asarray(value).item()
    if isinstance(value, float) and not (math.isfinite(value) or nonfinite):
        raise FloatingPointError(f"{where} is {value}: give None for no value, or name the column in allow_nonfinite")
    if value is None or isinstance(value, bool | int | float | str):
        return "" if value is None else value if isinstance(value, str) else repr(value)
    raise ValueError(f"{where} is a {type(value).__name__}: allowed are str, bool, int, float and None")
