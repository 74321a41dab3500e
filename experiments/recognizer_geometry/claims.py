"""Lines of the comparison that ``experiments.recognizer_geometry`` makes: numbers, intervals, and rules of verdicts."""

import dataclasses
from typing import Any

import numpy as np

from experiments import harness
from experiments.recognizer_geometry import figures
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

FAINT = 0.1
"""How far above -1 the interval of a slope may reach and still count as O(1/N), if -1 is inside it or above it."""

NEARLY = 0.9
"""The interval of a share of models must lie above this to hold of nearly all of them."""

MOST = 0.5
"""The interval of a share of models must lie above this to hold of most of them."""


def numbers(found: Estimate) -> dict[str, float]:
    """Return the mean, its standard error and the ends of its interval, as cells of a table."""
    low, high = (float(end) for end in found.interval())
    return {"mean": float(found.mean), "sem": float(found.sem), "low": low, "high": high}


def triple(found: Estimate) -> figures.Interval:
    """Return the mean and the ends of its interval, for a figure."""
    cells = numbers(found)
    return cells["mean"], cells["low"], cells["high"]


def claim(
    claim: str, quantity: str, published: Any, place: str, found: Estimate, note: str = "", **judged: float
) -> harness.Claim:
    """Return a line of the comparison, with the verdict that its interval gives; none if nothing is ``judged``."""
    cells = numbers(found)
    verdict = harness.verdict((cells["low"], cells["high"]), seeds=found.count, **judged) if judged else ""
    return harness.Claim(claim, quantity, published, place, *cells.values(), verdict, note)


def maximum_claim(
    claim: str, quantity: str, published: Any, place: str, largest: float, note: str, *, below: float
) -> harness.Claim:
    """Return a line on a theorem about all models and strings: a single one of them would refute it."""
    verdict = harness.verdict((largest, largest), seeds=None, below=below)
    return harness.Claim(claim, quantity, published, place, largest, None, largest, largest, verdict, note)


def share_claim(
    claim: str,
    quantity: str,
    published: Any,
    place: str,
    found: tuple[int, int, int],
    note: str,
    *,
    above: float,
) -> harness.Claim:
    """Return a line on the share of models of which something holds.

    The low end of its interval is that of Clopper and Pearson with the undecided models among those of which it does
    not hold, the high end that with them among those of which it does: they can neither confirm nor refute.

    Args:
        claim: Its number.
        quantity: What the share is of.
        published: The paper's words.
        place: Where it has them.
        found: Of how many models it holds, how many are undecided, and how many there are in all.
        note: What differs.
        above: What the interval must lie above for the claim to hold.
    """
    holding, undecided, total = found
    low = float(estimate.clopper_pearson(np.array(holding), total)[0])
    high = float(estimate.clopper_pearson(np.array(holding + undecided), total)[1])
    verdict = harness.verdict((low, high), seeds=total, above=above)
    return harness.Claim(claim, quantity, published, place, holding / total, None, low, high, verdict, note)


def slope_verdict(low: float, high: float, models: int) -> str:
    """Judge whether a slope is that of O(1/N): held if its interval ends below -.9 and is not wholly above -1.

    A law of exactly 1/N has an interval around -1; a steady N^-.92 has one between -1 and -.9, and does not hold.
    """
    if models < 3:
        return "inconclusive"
    if low > -1:
        return "contradicted"
    return "supported" if high < -1 + FAINT else "inconclusive"


def longest_verdict(longest: int, longest_tried: int) -> str:
    """Judge whether a margin is lost for good: held if a length keeps it and a longer one that was tried does not.

    Where no length that was tried keeps the margin there was nothing to lose.
    """
    return "supported" if 0 < longest < longest_tried else "inconclusive"


def at_finite_lengths(claim: harness.Claim) -> harness.Claim:
    """Return the claim with no verdict against it: what is said of N without bound, no finite N refutes."""
    if claim.verdict != "contradicted":
        return claim
    note = f"not so at these lengths; {claim.note}"
    return dataclasses.replace(claim, verdict="inconclusive", note=note)
