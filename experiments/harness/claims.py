"""Claims: published values, measured values, and verdicts with what they rest on."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments.harness.tables import cells
from experiments.harness.verdicts import Verdict, holm
from jaxsens.statistics.estimate import Estimate

VERDICTS = ("supported", "contradicted", "inconclusive", "")


@dataclass(frozen=True)
class Claim:
    """One line of a comparison with a paper.

    Attributes:
        claim: Its number in ``experiments/CLAIMS.md``, such as ``C1``; empty for a quantity without a claim.
        quantity: What was measured, with its unit.
        published: The paper's value or words; None if there is none.
        place: Where the paper has it: paper, section, table, figure.
        subject: What it was measured of, such as a model.
        reference: What the subject is compared with, where the quantity is a difference or a ratio.
        dataset: The data it was measured on.
        measured: The value; None if there is none.
        standard_error: Its standard error, over independent units.
        low: Lower end of its 95 % interval: of the interval that was judged, where a `Verdict` has one.
        high: Upper end of its 95 % interval.
        verdict: A `Verdict`, whose name is kept here; empty for a quantity without a claim.
        reason: Why the verdict is inconclusive whatever the interval says; empty where the interval decides.
        rule: The rule of the verdict, and what contradicts the claim.
        units: The number of independent units that were judged.
        level: The largest probability of "supported" where the claim is false.
        power: The probability of "supported" at ``power_at``.
        power_at: The alternative that the power is for, in words.
        note: What is said of this row only; what holds for the whole run stands in the manifest.

    A `Verdict` fills the columns from ``verdict`` to ``power_at``, and ``low`` and ``high``.

    Raises:
        ValueError: another verdict, one without its rule, a number that is not finite, or ``low`` above ``high``.
    """

    claim: str
    quantity: str
    published: float | str | None
    place: str
    subject: str = ""
    reference: str = ""
    dataset: str = ""
    measured: float | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: Verdict | str = ""
    reason: str = ""
    rule: str = ""
    units: int | None = None
    level: float | None = None
    power: float | None = None
    power_at: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.verdict, Verdict):
            for name, value in _columns(self.verdict).items():
                object.__setattr__(self, name, value)
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict = {self.verdict!r}: allowed are {VERDICTS}")
        if self.verdict and not self.rule:
            raise ValueError(f"verdict = {self.verdict!r} without a rule: give the Verdict that a rule returned")
        for name in ("measured", "standard_error", "low", "high"):
            value = getattr(self, name)
            if value is not None and not _is_number(value):
                raise ValueError(f"{name} = {value!r} of claim {self.claim!r} is no number: give None if there is none")
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} = {value} of claim {self.claim!r} is not finite: give None if there is none")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low = {self.low} of claim {self.claim!r} is above high = {self.high}")

    @staticmethod
    def numbers(estimate: Estimate) -> dict[str, float | None]:
        """Return the fields that an estimate fills: what was measured, its standard error and its interval."""
        return dict(zip(("measured", "standard_error", "low", "high"), cells(estimate).values(), strict=True))

    @classmethod
    def of(cls, claim: str, quantity: str, estimate: Estimate, **fields: Any) -> "Claim":
        """Return the row of an estimate; ``fields`` are the others of the class."""
        fields = {"published": None, "place": ""} | fields
        return cls(claim=claim, quantity=quantity, **cls.numbers(estimate), **fields)


def _columns(verdict: Verdict) -> dict[str, Any]:
    """Return the fields of a row that a verdict fills."""
    ends = {} if verdict.low is None else {"low": verdict.low, "high": verdict.high}
    rule = f"{verdict.rule}; contradicted if {verdict.contradicted_if}"
    numbers = {"units": int(verdict.units), "level": round(verdict.level, 4), "power": round(verdict.power, 4)}
    return {
        "verdict": verdict.name, "reason": verdict.reason, "rule": rule, "power_at": verdict.power_at, **numbers, **ends
    }  # fmt: skip


def corrected(
    rows: Iterable[tuple[Claim, Verdict | None]], correct: Callable[[Sequence[Verdict]], list[Verdict]] = holm
) -> list[Claim]:
    """Return rows with their verdicts, those on one claim corrected together.

    A verdict that has a reason was not judged: it is inconclusive whatever was measured, cannot be wrong, and does not
    count among those that are corrected.

    Args:
        rows: Each with the verdict that it gets alone, or None if it has none.
        correct: `holm` or `false_discovery_rate`.
    """
    rows = list(rows)
    verdicts = [verdict for _, verdict in rows]
    together: dict[str, list[int]] = {}
    for number, (row, verdict) in enumerate(rows):
        if verdict is not None and not verdict.reason:
            together.setdefault(row.claim, []).append(number)
    for numbers in together.values():
        for number, verdict in zip(numbers, correct([verdicts[number] for number in numbers]), strict=True):
            verdicts[number] = verdict
    return [
        row if verdict is None else replace(row, verdict=verdict)
        for (row, _), verdict in zip(rows, verdicts, strict=True)
    ]


def _is_number(value: Any) -> bool:
    return not isinstance(value, str | bytes | bool) and np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf"
