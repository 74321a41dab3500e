"""Rows with verdicts, those of one claim corrected together."""

from collections.abc import Iterable
from dataclasses import replace

from experiments.harness.claims import Claim
from experiments.harness.verdicts import Verdict, holm

__all__ = ["corrected"]


def corrected(rows: Iterable[tuple[Claim, Verdict | None]]) -> list[Claim]:
    """Return rows with their verdicts, after Holm's correction of all verdicts on the same claim.

    A verdict that has a reason was not judged: it is inconclusive whatever was measured, cannot be wrong, and does not
    count among those that are corrected.

    Args:
        rows: Rows, each with its verdict, or None where it has none.
    """
    rows = list(rows)
    found = [verdict for _, verdict in rows]
    families: dict[str, list[int]] = {}
    for number, (row, verdict) in enumerate(rows):
        if verdict is not None and not verdict.reason:
            families.setdefault(row.claim, []).append(number)
    for numbers in families.values():
        for number, verdict in zip(numbers, holm([found[number] for number in numbers]), strict=True):
            found[number] = verdict
    return [row if one is None else replace(row, verdict=one) for (row, _), one in zip(rows, found, strict=True)]
