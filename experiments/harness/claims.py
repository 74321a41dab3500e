"""What the papers say beside what was measured: claims, verdicts from intervals, and tables for a terminal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxsens.statistics.estimate import Estimate

VERDICTS = ("supported", "contradicted", "inconclusive", "")


@dataclass(frozen=True)
class Claim:
    """One line of a comparison with a paper.

    Attributes:
        claim: its number or name, such as ``C1``.
        quantity: what was measured, with its unit.
        published: the paper's value or words.
        place: where the paper has it: section, table, figure.
        measured: the value found; None if there is none.
        standard_error: its standard error, over independent units.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        verdict: ``supported``, ``contradicted``, ``inconclusive``, or empty for a quantity without a claim.
        note: what differs from the paper's set-up.

    Raises:
        ValueError: another verdict, a number that is not finite, or ``low`` above ``high``.
    """

    claim: str
    quantity: str
    published: float | str | None
    place: str
    measured: float | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict = {self.verdict!r}: allowed are {VERDICTS}")
        for name in ("measured", "standard_error", "low", "high"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} = {value} of claim {self.claim!r} is not finite: give None if there is none")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low = {self.low} of claim {self.claim!r} is above high = {self.high}")

    @staticmethod
    def numbers(found: Estimate) -> dict[str, float | None]:
        """Return the fields that an estimate fills: what was measured, its standard error and its interval."""
        return dict(zip(("measured", "standard_error", "low", "high"), cells(found).values(), strict=True))


def verdict(
    interval: tuple[float, float],
    *,
    seeds: int | None,
    below: float | None = None,
    above: float | None = None,
    within: tuple[float, float] | None = None,
) -> str:
    """Judge a claim about a quantity from its interval: held if all of the interval agrees, not if none of it does.

    Args:
        interval: low and high end.
        seeds: number of independently trained models behind it; fewer than 3 cannot tell. None where nothing is
            trained, as for a theorem that is checked on all strings.
        below: the claim is that the quantity is below this number.
        above: the claim is that the quantity is above this number.
        within: the claim is that the quantity is between these two.

    Returns:
        str: ``supported``, ``contradicted`` or ``inconclusive``.

    Raises:
        ValueError: not exactly one claim, or an interval that is not finite or has its ends exchanged.
    """
    low, high = (float(end) for end in interval)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"interval = ({low}, {high}): give two finite ends, the lower one first")
    if sum(claim is not None for claim in (below, above, within)) != 1:
        raise ValueError(f"below = {below}, above = {above}, within = {within}: give exactly one of them")
    if seeds is not None and seeds < 3:
        return "inconclusive"
    if within is not None:
        agrees, disagrees = within[0] <= low and high <= within[1], high < within[0] or within[1] < low
    elif below is not None:
        agrees, disagrees = high < below, below < low
    else:
        agrees, disagrees = above < low, high < above
    return "supported" if agrees else "contradicted" if disagrees else "inconclusive"


def cells(found: Estimate, prefix: str = "") -> dict[str, float | None]:
    """Return mean, standard error and 95 % interval for a table; empty where a single unit leaves them open.

    Args:
        found: the estimate of one number.
        prefix: what the names of the columns ``mean``, ``sem``, ``low`` and ``high`` begin with.
    """
    low, high = found.interval()
    numbers = {"mean": found.mean, "sem": found.sem, "low": low, "high": high}
    return {prefix + name: float(number) if np.isfinite(number) else None for name, number in numbers.items()}


def format_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | Sequence[str] | None = None) -> str:
    """Return rows as text in aligned columns, for a terminal.

    Args:
        rows: one dict each. A cell that is a tuple ``(mean, low, high)`` reads ``0.0123 [0.0110, 0.0136]``.
        columns: keys to show, in order, or a dict from keys to headings; those of the first row if None.

    Raises:
        ValueError: no rows, or a row that lacks a column.
    """
    if not rows:
        raise ValueError("rows = []: give one at least")
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
