"""Lines of the comparison that ``experiments.trained_recognizers`` makes: claims C23 and C24, and rules of verdicts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.trained_recognizers.config import SPARSE, Config, Kind
from experiments.trained_recognizers.estimates import (
    LEARNED,
    Result,
    average_sensitivity,
    change,
    mass,
    over,
    proportion,
)
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

ALL = 0.9
"""The interval of a share of models must lie above this to hold of all, or nearly all of them."""

NONE = 0.1
"""It must lie below this to hold of none, or nearly none."""

NEAR = 0.15
"""How far the share of strings of a sensitivity may lie from the exact one, with all of its interval.

The interval of a share that is 1 in each of 36 models begins at .9.
"""

CLUSTER = 0.05
"""Average sensitivities, as shares of the bits, must lie below this to cluster around 0."""

Groups = Mapping[Kind, Sequence[Result]]


def claims(config: Config, groups: Groups) -> list[harness.Claim]:
    """Return all lines of the comparison."""
    named = {kind.name: (kind, results) for kind, results in groups.items()}
    found = []
    for name in ("first", "majority"):
        found += _learned_plain(config, *named[name])
    found += _parity(config, *named["parity"])
    for kind, results in groups.items():
        if kind.family in SPARSE:
            found += _sparse(config, kind, results)
    for kind, results in groups.items():
        if kind.random:
            found += _random(config, kind, results)
    return found + _xavier(groups)


def _learned_plain(config: Config, kind: Kind, results: Sequence[Result]) -> list[harness.Claim]:
    published = "'all models trained on First and Majority learn the languages perfectly'"
    found = [
        _count(kind, results, lambda r: r.perfect, f"right on all {config.test_strings} test strings", published, ALL),
        _accuracy(kind, results),
    ]
    where = "'cluster correctly at 1 for First, and at 0 and half the string length for Majority'"
    learned = [r for r in results if r.learned]
    for words, chosen in _supports(kind).items():
        exact = float(kind.exact[chosen].sum())
        for whose, group in (("all models", results), (f"models right on {LEARNED:.0%}", learned)):
            judged = {"within": (exact - NEAR, exact + NEAR)} if group is learned else None
            estimated = over(group, mass(kind, chosen), rate=True)
            quantity = f"{kind.name}, {whose}: share of strings of sensitivity {words} after training"
            note = f"exact {exact:.4g}; {'held within ' + str(NEAR) + ' of it; ' if judged else ''}{_whom(group)}"
            found.append(_line("C23", quantity, where, "Fig. 5", estimated, len(group), note, judged))
    return found


def _supports(kind: Kind) -> dict[str, np.ndarray]:
    """Return where the exact profile has its mass, in words and as booleans ``[n+1]``: 0 apart from the rest."""
    there, zero = kind.exact > 0, np.arange(kind.n + 1) == 0
    found = {}
    if there[0]:
        found["0"] = zero
    rest = there & ~zero
    if rest.any():
        found[" or ".join(map(str, np.flatnonzero(rest)))] = rest
    return found


def _parity(config: Config, kind: Kind, results: Sequence[Result]) -> list[harness.Claim]:
    higher = over(results, lambda r: _largest(r, "after") - _largest(r, "before"), rate=False)
    return [
        _count(kind, results, lambda r: r.learned, f"right on {LEARNED:.0%} of {config.test_strings} test strings",
               "not learned", NONE),
        _accuracy(kind, results),
        _line("C23", "parity: largest sensitivity of a string, after minus before training (bits)",
              "'the trained models have higher-sensitivity strings'", "Fig. 5", higher, len(results),
              f"held above 0; on {config.profile_strings} strings; {_whom(results)}", {"above": 0.0}),
        _line("C23", f"parity: share of strings of sensitivity {kind.n} after training", None, "Fig. 5",
              over(results, mass(kind, np.arange(kind.n + 1) == kind.n), rate=True), len(results),
              f"exact 1; {_whom(results)}"),
    ]  # fmt: skip


def _largest(result: Result, when: str) -> float:
    return np.nan if np.isnan(result.average(when)) else float(result.sensitivities[when].max())


def _sparse(config: Config, kind: Kind, results: Sequence[Result]) -> list[harness.Claim]:
    majority = kind.family == "sparse_majority"
    said = "'sparse ones as their kind', by the project's list: " + ("learned" if majority else "not learned")
    return [
        _count(kind, results, lambda r: r.learned, f"right on {LEARNED:.0%} of {config.test_strings} test strings",
               said, ALL if majority else NONE),
        _accuracy(kind, results),
    ]  # fmt: skip


def _random(config: Config, kind: Kind, results: Sequence[Result]) -> list[harness.Claim]:
    scheme, place = kind.scheme, "Fig. 3 (right)"
    fitted = [r for r in results if r.learned]
    unfitted = [r for r in results if not r.learned]
    found = [
        _count(kind, results, lambda r: r.learned, f"fitted ({LEARNED:.0%} of {config.random_strings} strings)",
               "some configurations cannot learn these languages", None, "C24"),
    ]  # fmt: skip
    for words, group in (("all", results), ("fitted", fitted), ("unfitted", unfitted)):
        whose = f"{kind.name}, {words} models"
        trained = average_sensitivity(group, "after") if group else None
        moved = change(group) if group else None
        note = _whom(group)
        judged = {"below": 0.5} if words == "fitted" else {"below": CLUSTER} if words == "unfitted" else None
        said = {
            "all": None,
            "fitted": "the bias persists: below 1/2, that of random functions",
            "unfitted": "'for these models, the (average) sensitivities cluster around 0'",
        }[words]
        rule = {"all": "", "fitted": "held below .5; ", "unfitted": f"held below {CLUSTER}; "}[words]
        found.append(_line("C24", f"{whose}: average sensitivity after training / N", said, place, trained,
                           len(group), f"{rule}{note}; {scheme}", judged))  # fmt: skip
        before = average_sensitivity(group, "before") if group else None
        found.append(_line("C24", f"{whose}: average sensitivity before training / N", None, place, before,
                           len(group), note))  # fmt: skip
        found.append(_line("C24", f"{whose}: average sensitivity, after minus before (bits)", None, place, moved,
                           len(group), f"N/2 = {kind.n / 2:g} is that of random functions; {note}"))  # fmt: skip
    return found


def _xavier(groups: Groups) -> list[harness.Claim]:
    """Compare initialisations on random languages, pair by pair: the same sizes, rates, batches and strings."""
    named = {kind.scheme: results for kind, results in groups.items() if kind.random}
    if not {"xavier_normal", "uniform"} <= named.keys():
        return []
    pairs = list(zip(named["xavier_normal"], named["uniform"], strict=True))
    gained = estimate.from_values([a.after["correct"] - b.after["correct"] for a, b in pairs], rate=False)
    return [
        _line("F.2", "random languages: share of strings fitted, Xavier normal minus uniform",
              "Xavier normal 'aids learning in preliminary experiments'", "App. F.2", gained, len(pairs),
              f"{len(pairs)} pairs of models; held above 0", {"above": 0.0}),
    ]  # fmt: skip


def _count(
    kind: Kind, results: Sequence[Result], holds: Callable[[Result], bool], words: str, published: str,
    limit: float | None, number: str = "C23",
) -> harness.Claim:  # fmt: skip
    """Return a line on how many models something holds of; all of them if the limit is ``ALL``, none if ``NONE``.

    Models of which it does not hold, but that were still getting better when the epochs ran out, are undecided: at the
    low end of the interval they count as those of which it does not hold, at the high end as the others.
    """
    count = sum(map(holds, results))
    undecided = sum(not holds(r) and r.status == "all epochs" for r in results)
    share, low, _ = proportion(count, len(results))
    _, _, high = proportion(count + undecided, len(results))
    judged = {} if limit is None else {"above": limit} if limit == ALL else {"below": limit}
    note = f"{count} of {_whom(results)}; {undecided} undecided, still training at the last epoch"
    note += "".join(f"; held {side} {value}" for side, value in judged.items())
    verdict = harness.verdict((low, high), seeds=len(results), **judged) if judged else ""
    return harness.Claim(
        number, f"{kind.name}: share of models {words}", published, "App. F.2", share, None, low, high, verdict, note
    )


def _accuracy(kind: Kind, results: Sequence[Result]) -> harness.Claim:
    found = over(results, lambda r: r.after["correct"], rate=True)
    return _line("C23", f"{kind.name}: test accuracy", None, "App. F.2", found, len(results), _whom(results))


def _whom(results: Sequence[Result]) -> str:
    """Say how many models there are, and how many of them diverged or could not be measured."""
    diverged = sum(r.status == "diverged" for r in results)
    unmeasured = sum(np.isnan(r.average("after")) for r in results)
    words = f"{len(results)} models"
    words += f", {diverged} diverged" if diverged else ""
    return words + (f", {unmeasured} without finite logits" if unmeasured else "")


def _line(
    claim: str, quantity: str, published: str | None, place: str, found: Estimate | None, models: int, note: str,
    judged: Mapping[str, Any] | None = None,
) -> harness.Claim:  # fmt: skip
    """Return a line of the comparison, with the verdict that its interval gives; none if nothing is ``judged``."""
    if found is None:
        return harness.Claim(claim, quantity, published, place, verdict="inconclusive" if judged else "", note=note)
    numbers = harness.Claim.numbers(found)
    known = numbers["low"] is not None and numbers["high"] is not None
    verdict = "inconclusive" if judged else ""
    if judged and known:
        verdict = harness.verdict((numbers["low"], numbers["high"]), seeds=models, **judged)
    return harness.Claim(claim, quantity, published, place, **numbers, verdict=verdict, note=note)
