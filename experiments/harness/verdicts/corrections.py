"""Corrections of several verdicts within one claim."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from experiments.harness.verdicts.judging import Verdict, withdrawn
from experiments.harness.verdicts.levels import ERROR

__all__ = ["false_discovery_rate", "holm"]


def holm(verdicts: Sequence[Verdict], *, error: float = ERROR) -> list[Verdict]:
    """Return the verdicts of one claim, corrected together: the chance that any of them is wrong is at most ``error``.

    Holm's step-down (1979) on `Verdict.error`: with m verdicts, the i-th smallest stays if it and all smaller ones are
    at most ``error / (m - i + 1)``. The others become inconclusive, with the reason. Units need not be independent
    between verdicts. Verdicts that are inconclusive count among the m.
    """
    order = np.argsort([one.error for one in verdicts], kind="stable")
    words = f"Holm's correction for {len(verdicts)} verdicts"
    kept, result = True, [_corrected(one, words) for one in verdicts] if len(verdicts) > 1 else list(verdicts)
    for rank, number in enumerate(order):
        kept = kept and verdicts[number].error <= error / (len(verdicts) - rank)
        if not kept:
            result[number] = withdrawn(result[number], words)
    return result


def false_discovery_rate(verdicts: Sequence[Verdict], *, error: float = ERROR) -> list[Verdict]:
    """Return the verdicts of one claim, corrected together: the expected share of wrong ones is at most ``error``.

    Benjamini and Hochberg's step-up (1995) on `Verdict.error`; verdicts are independent or positively dependent. For
    many correlations of which some are expected to hold.
    """
    order = np.argsort([one.error for one in verdicts], kind="stable")
    limits = error * (np.arange(len(verdicts)) + 1) / max(len(verdicts), 1)
    below = np.flatnonzero([verdicts[number].error <= limit for number, limit in zip(order, limits, strict=True)])
    kept = set(order[: below[-1] + 1].tolist()) if below.size else set()
    words = f"a false discovery rate of {error:g} among {len(verdicts)} verdicts"
    corrected = [_corrected(one, words) for one in verdicts]
    return [one if number in kept else withdrawn(one, words) for number, one in enumerate(corrected)]


def _corrected(verdict: Verdict, words: str) -> Verdict:
    """Return a verdict that says of its rule and its power that it was corrected."""
    return replace(verdict, rule=f"{verdict.rule}, {words}", power_at=f"{verdict.power_at}, before the correction")
