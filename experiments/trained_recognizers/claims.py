"""Verdicts on claims C23 (which languages are learned), C24 (the bias persists in training), and App. F.2."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.harness import Claim
from experiments.trained_recognizers import labels
from experiments.trained_recognizers.config import SPARSE, Config
from experiments.trained_recognizers.estimates import (
    LEARNED,
    Result,
    average_sensitivity,
    change,
    mass,
    over,
    proportion,
)
from experiments.trained_recognizers.models import Kind
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

ALL = 0.9
"""The interval of a share of models must lie above this to support a claim about all, or nearly all of them."""

NONE = 0.1
"""It must lie below this to support a claim about none, or nearly none of them."""

NEAR = 0.15
"""How far the share of strings of a sensitivity may lie from the exact one, with all of its interval.

The interval of a share that is 1 in each of 36 models begins at 0.9.
"""

CLUSTER = 0.05
"""Average sensitivities, as shares of the bits, must lie below this to cluster around 0."""

RANDOM = 0.5
"""Average sensitivity of random functions, as a share of the bits."""

Groups = Mapping[Kind, Sequence[Result]]


def claims(config: Config, groups: Groups) -> list[Claim]:
    """Return all rows of the comparison."""
    named = {kind.name: (kind, results) for kind, results in groups.items()}
    rows = []
    for name in ("first", "majority"):
        rows += _learned_plain(config, *named[name])
    rows += _parity(config, *named["parity"])
    for kind, results in groups.items():
        if kind.family in SPARSE:
            rows += _sparse(config, kind, results)
    for kind, results in groups.items():
        if kind.random:
            rows += _random(config, kind, results)
    return rows + _xavier(config, groups)


def _learned_plain(config: Config, kind: Kind, results: Sequence[Result]) -> list[Claim]:
    published = "'all models trained on First and Majority learn the languages perfectly'"
    rows = [
        _count(
            config, kind, results, lambda r: r.perfect, "share of models right on all strings", published, above=ALL
        ),
        _accuracy(config, kind, results),
    ]
    where = "'cluster correctly at 1 for First, and at 0 and half the string length for Majority'"
    learned = [r for r in results if r.learned]
    for words, chosen in _supports(kind).items():
        exact = float(kind.exact[chosen].sum())
        for which, members in (("all models", results), (f"models right on {LEARNED:.0%}", learned)):
            rule = {"within": (exact - NEAR, exact + NEAR)} if members is learned else {}
            rows.append(
                _row(
                    "C23", f"share of strings of sensitivity {words} after training",
                    over(members, mass(kind, chosen), rate=True), members, rule,
                    note=f"supported within {NEAR} of the exact share" if rule else "",
                    published=where, place="Fig. 5", subject=f"{labels.language(kind)}, {which}",
                    reference=f"exact share {exact:.4g}", dataset=labels.probed(config, kind.n),
                )
            )  # fmt: skip
    return rows


def _supports(kind: Kind) -> dict[str, np.ndarray]:
    """Return where the exact profile has its mass, in words and as booleans ``[n+1]``: 0 apart from the rest."""
    there, zero = kind.exact > 0, np.arange(kind.n + 1) == 0
    supports = {}
    if there[0]:
        supports["0"] = zero
    rest = there & ~zero
    if rest.any():
        supports[" or ".join(map(str, np.flatnonzero(rest)))] = rest
    return supports


def _parity(config: Config, kind: Kind, results: Sequence[Result]) -> list[Claim]:
    higher = over(results, lambda r: _largest(r, "after") - _largest(r, "before"), rate=False)
    fields = {"place": "Fig. 5", "subject": labels.language(kind), "dataset": labels.probed(config, kind.n)}
    words = f"share of models right on {LEARNED:.0%} of the strings"
    full = mass(kind, np.arange(kind.n + 1) == kind.n)
    return [
        _count(config, kind, results, lambda r: r.learned, words, "not learned", below=NONE),
        _accuracy(config, kind, results),
        _row("C23", "largest sensitivity of a string, subject minus reference (bits)", higher, results, {"above": 0.0},
             note="supported above 0", published="'the trained models have higher-sensitivity strings'",
             reference="the same models before training", **fields),
        _row("C23", f"share of strings of sensitivity {kind.n} after training", over(results, full, rate=True), results,
             reference="exact share 1", **fields),
    ]  # fmt: skip


def _largest(result: Result, when: str) -> float:
    return np.nan if np.isnan(result.average(when)) else float(result.sensitivities[when].max())


def _sparse(config: Config, kind: Kind, results: Sequence[Result]) -> list[Claim]:
    majority = kind.family == "sparse_majority"
    published = f"C23, sparse languages as their kind: {'learned' if majority else 'not learned'}"
    rule = {"above": ALL} if majority else {"below": NONE}
    words = f"share of models right on {LEARNED:.0%} of the strings"
    return [
        _count(config, kind, results, lambda r: r.learned, words, published, **rule),
        _accuracy(config, kind, results),
    ]


def _random(config: Config, kind: Kind, results: Sequence[Result]) -> list[Claim]:
    published = "some configurations cannot learn these languages"
    words = f"share of models that fitted {LEARNED:.0%} of the strings"
    rows = [_count(config, kind, results, lambda r: r.learned, words, published, claim="C24")]
    fitted, unfitted = ([r for r in results if r.learned is which] for which in (True, False))
    said = {
        "all": (None, {}, ""),
        "fitted": ("the bias persists: below 1/2, that of random functions", {"below": RANDOM}, RANDOM),
        "unfitted": ("'for these models, the (average) sensitivities cluster around 0'", {"below": CLUSTER}, CLUSTER),
    }
    for which, group in (("all", results), ("fitted", fitted), ("unfitted", unfitted)):
        text, rule, limit = said[which]
        fields = {"place": "Fig. 3 (right)", "subject": f"{labels.language(kind)}, {which} models"}
        fields["dataset"] = labels.probed(config, kind.n)
        after, before = (average_sensitivity(group, when) if group else None for when in ("after", "before"))
        rows += [
            _row("C24", "average sensitivity after training / N", after, group, rule,
                 note=f"supported below {limit}" if rule else "", published=text, **fields),
            _row("C24", "average sensitivity before training / N", before, group, **fields),
            _row("C24", "average sensitivity, subject minus reference (bits)", change(group) if group else None, group,
                 reference="the same models before training", **fields),
        ]  # fmt: skip
    return rows


def _xavier(config: Config, groups: Groups) -> list[Claim]:
    """Compare initializations on random languages, pair by pair: the same sizes, rates, batches and strings."""
    named = {kind.scheme: (kind, results) for kind, results in groups.items() if kind.random}
    if not {"xavier_normal", "uniform"} <= named.keys():
        return []
    (subject, xavier), (reference, uniform) = named["xavier_normal"], named["uniform"]
    pairs = list(zip(xavier, uniform, strict=True))
    gained = estimate.from_values([a.after["correct"] - b.after["correct"] for a, b in pairs], rate=False)
    fields = {"subject": labels.language(subject), "reference": labels.language(reference)}
    return [
        _row("F.2", "share of strings fitted, subject minus reference", gained, xavier, {"above": 0.0},
             note="in pairs; supported above 0", published="Xavier normal 'aids learning in preliminary experiments'",
             place="App. F.2", dataset=labels.tested(config, subject), **fields),
    ]  # fmt: skip


def _count(
    config: Config, kind: Kind, results: Sequence[Result], holds: Callable[[Result], bool], quantity: str,
    published: str, *, claim: str = "C23", **rule: float,
) -> Claim:  # fmt: skip
    """Return a row on the share of models that have a property.

    Models without it that were still getting better when the epochs ran out are undecided: at the low end of the
    interval they count as models without it, at the high end as models with it.
    """
    count = sum(map(holds, results))
    undecided = sum(not holds(r) and r.status == "all epochs" for r in results)
    share, low, _ = proportion(count, len(results))
    _, _, high = proportion(count + undecided, len(results))
    note = f"{count} of {_size(results)}; {undecided} undecided"
    note += "".join(f"; supported {side} {value}" for side, value in rule.items())
    verdict = harness.verdict((low, high), seeds=len(results), **rule) if rule else ""
    return Claim(
        claim, quantity, published, "App. F.2", subject=labels.language(kind), dataset=labels.tested(config, kind),
        measured=share, low=low, high=high, verdict=verdict, note=note,
    )  # fmt: skip


def _accuracy(config: Config, kind: Kind, results: Sequence[Result]) -> Claim:
    accuracy = over(results, lambda r: r.after["correct"], rate=True)
    return _row(
        "C23", "accuracy", accuracy, results, place="App. F.2", subject=labels.language(kind),
        dataset=labels.tested(config, kind),
    )  # fmt: skip


def _size(results: Sequence[Result]) -> str:
    """Say how many models there are, and how many of them diverged or could not be measured."""
    diverged = sum(r.status == "diverged" for r in results)
    unmeasured = sum(np.isnan(r.average("after")) for r in results)
    words = f"{len(results)} models"
    words += f", {diverged} diverged" if diverged else ""
    return words + (f", {unmeasured} without finite logits" if unmeasured else "")


def _row(
    claim: str, quantity: str, estimated: Estimate | None, results: Sequence[Result],
    rule: Mapping[str, Any] | None = None, *, note: str = "", published: str | None = None, **fields: Any,
) -> Claim:  # fmt: skip
    """Return a row of the comparison, with the verdict that its interval gives; none without a rule."""
    note = _size(results) + (f"; {note}" if note else "")
    fields |= {"published": published, "note": note, "verdict": "inconclusive" if rule else ""}
    if estimated is None:
        return Claim(claim, quantity, **fields)
    low, high = estimated.interval()
    if rule and np.isfinite([low, high]).all():
        fields["verdict"] = harness.verdict((low, high), seeds=len(results), **rule)
    return Claim.of(claim, quantity, estimated, **fields)
