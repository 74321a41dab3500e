"""What all rules share: the verdict, the region that a claim names, the error at which a verdict changes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from experiments.harness.verdicts.levels import ERROR

__all__ = [
    "CONTRADICTED",
    "SMALLEST",
    "SUPPORTED",
    "UNDECIDED",
    "Judgment",
    "Region",
    "Verdict",
    "check_number",
    "judged",
    "reachability",
    "withdrawn",
]

SUPPORTED, CONTRADICTED, UNDECIDED = ("supported", "contradicted", "inconclusive")

SMALLEST = 1e-12
"""The smallest error that a verdict is given."""

MOST_UNITS = 1000
"""Up to where it is tried how many units a rule takes."""


@dataclass(frozen=True)
class Verdict:
    """A verdict with what it rests on.

    Attributes:
        name: ``supported``, ``contradicted`` or ``inconclusive``.
        rule: The rule in words, with its bound: "mean above 0.95".
        contradicted_if: What contradicts the claim, in words.
        units: The number of independent units.
        level: The largest probability of "supported" where the claim is false, under the rule's assumptions.
        power: The probability of "supported" at ``power_at``.
        power_at: The alternative that the power is for, in words.
        error: The smallest two-sided error with which the same rule gives this verdict; 1 where it is inconclusive.
        low: Lower end of the interval that was judged, None where there is none.
        high: Upper end.
        reason: Why the verdict is inconclusive whatever the interval says; empty where the interval decides.
    """

    name: str
    rule: str
    contradicted_if: str
    units: int
    level: float
    power: float
    power_at: str
    error: float = 1.0
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def note(self) -> str:
        """One line for the note of a claim: rule, what contradicts it, units, level, power, and the reason if any."""
        parts = [
            self.rule, f"contradicted if {self.contradicted_if}", f"{self.units} independent units",
            f"level {self.level:.3f}", f"power {self.power:.2f} at {self.power_at}",
        ]  # fmt: skip
        return "; ".join([*parts, f"not judged: {self.reason}"] if self.reason else parts)


Judgment = tuple[str, float | None, float | None]
"""Name of the verdict and the ends of the interval."""


class Region(NamedTuple):
    """That a number lies between two others, of which one may be infinite."""

    least: float
    most: float

    @classmethod
    def of(cls, above: float | None, below: float | None, within: tuple[float, float] | None) -> "Region":
        """Return the region that one of three arguments gives; ValueError if none or two do, or ends are exchanged."""
        if sum(one is not None for one in (above, below, within)) != 1:
            raise ValueError(f"above = {above}, below = {below}, within = {within}: give exactly one of them")
        claim = cls(above, math.inf) if above is not None else cls(-math.inf, below) if below is not None else None
        claim = cls(*within) if claim is None else claim
        for name, end, one in (("lower", claim.least, below), ("upper", claim.most, above)):
            if one is None or math.isnan(end):
                check_number(f"{name} bound", end)
        if not claim.least < claim.most:
            raise ValueError(f"within = {tuple(claim)}: the lower bound comes first")
        return claim

    def judge(self, low: float, high: float) -> Judgment:
        """Return "supported" if an interval lies inside, "contradicted" if outside, and its ends."""
        low, high = float(low), float(high)
        if self.least < low and high < self.most:
            return SUPPORTED, low, high
        return (CONTRADICTED if high < self.least or self.most < low else UNDECIDED), low, high

    @property
    def words(self) -> str:
        """The region in words."""
        if math.isinf(self.most):
            return f"above {self.least:g}"
        return f"below {self.most:g}" if math.isinf(self.least) else f"within {self.least:g} to {self.most:g}"

    @property
    def opposite(self) -> str:
        """Where an interval lies that contradicts it."""
        if math.isinf(self.most):
            return f"wholly below {self.least:g}"
        return f"wholly above {self.most:g}" if math.isinf(self.least) else "wholly outside"


def judged(judge: Callable[[float], Judgment], *, reason: str, **words: Any) -> Verdict:
    """Return the verdict of a rule, which gives a judgment for every two-sided error."""
    name, low, high = judge(ERROR)
    finite = low is not None and math.isfinite(low) and math.isfinite(high)
    low, high = (low, high) if finite else (None, None)
    if reason or name == UNDECIDED:
        return Verdict(UNDECIDED, low=low, high=high, reason=reason, **words)
    least, most = math.log(SMALLEST), math.log(ERROR)
    for _ in range(40):
        middle = (least + most) / 2
        least, most = (least, middle) if judge(math.exp(middle))[0] == name else (middle, most)
    return Verdict(name, error=math.exp(most), low=low, high=high, **words)


def reachability(reachable: Callable[[int], bool], units: int) -> str:
    """Say how many units it takes to be able to support and to contradict; empty where these do."""
    if reachable(units):
        return ""
    needed = next((n for n in range(units + 1, MOST_UNITS) if reachable(n)), None)
    words = f"{needed} are needed" if needed else f"{MOST_UNITS} would not do"
    return f"no outcome of {units} units would support the claim, or none would contradict it; {words}"


def withdrawn(verdict: Verdict, words: str) -> Verdict:
    """Return a verdict made inconclusive by a correction, which ``words`` name."""
    if verdict.name == UNDECIDED:
        return verdict
    reason = f"{verdict.name} alone (error {verdict.error:.2g}), not after {words}"
    return replace(verdict, name=UNDECIDED, error=1.0, reason=reason)


def check_number(name: str, value: float) -> None:
    """Raise ValueError unless a number is finite."""
    if not math.isfinite(value):
        raise ValueError(f"{name} = {value} must be a finite number")
