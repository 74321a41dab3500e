"""Verdicts on claims C23 (which languages are learned), C24 (the bias persists in training), and App. F.2.

Every model draws its own learning rate (`Design.drawn`), as in F.2. Models are the units; where there are several
languages, these are. The verdicts of one claim are corrected together, by Holm's method.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from experiments import harness
from experiments.harness import Claim, verdicts
from experiments.harness.verdicts import Design, Verdict
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
from experiments.trained_recognizers.models import Kind, kinds
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

ALL = 0.8
"""The interval of a share of models must lie above this to support a claim about all, or nearly all of them.

36 models that all learn are above 0.9 with an error of 0.045, which no correction for other verdicts would leave.
"""

NONE = 0.2
"""It must lie below this to support a claim about none, or nearly none of them."""

MOST = 0.5
"""Of several languages, the share that most models learn must lie above this, or below: ten languages tell no more."""

NEAR = 0.2
"""How far the share of strings of a sensitivity may lie from the exact one, with all of its interval."""

CLUSTER = 0.05
"""Average sensitivities, as shares of the bits, must lie below this to cluster around 0."""

RANDOM = 0.5
"""Average sensitivity of random functions, as a share of the bits."""

EFFECT = 3.0
"""How many standard deviations of a language beyond the bound the power is for: few languages tell no less."""

# The power of shares is that at a few exceptions: one model of 20, one language of ten.
ALL_LEARN = partial(verdicts.share, above=ALL, effect=0.95)
NONE_LEARN = partial(verdicts.share, below=NONE, effect=0.05)
MOST_LEARN = partial(verdicts.share, above=MOST, effect=0.9)
FEW_LEARN = partial(verdicts.share, below=MOST, effect=0.1)
HIGHER = partial(verdicts.mean, above=0.0)
BIASED = partial(verdicts.mean, below=RANDOM, method="log", effect=EFFECT)
CLUSTERED = partial(verdicts.mean, below=CLUSTER, method="log", effect=EFFECT)
HELPS = partial(verdicts.share, above=MOST, effect=0.9)

Groups = Mapping[Kind, Sequence[Result]]
Row = tuple[Claim, Verdict | None]
Rule = Callable[..., Verdict]


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
    return harness.corrected(rows + _xavier(config, groups))


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return every rule by which claims are judged, with its units at these settings."""
    plain = {kind.name: len(_supports(kind)) for kind in kinds(config) if kind.name in ("first", "majority")}
    sparse = 2 * len(config.sparsities) if config.sparse_languages else 0
    learned = {"design": _design(config, config.models), "together": 2 + sum(plain.values()) + 2 + sparse}
    several = {"design": _design(config, config.sparse_languages * config.sparse_models)}
    several |= {"together": learned["together"], "units": config.sparse_languages}
    random = {"design": _design(config, config.random_languages * config.random_models)}
    random |= {"units": config.random_languages}
    schemes = {"together": 2 * len(config.random_schemes)}
    rules = {
        "C23, learned": verdicts.Use(ALL_LEARN, units=config.models, **learned),
        "C23, not learned": verdicts.Use(NONE_LEARN, units=config.models, **learned),
        "C23, strings by sensitivity": verdicts.Use(_near(1.0), units=config.models, **learned),
        "C23, higher sensitivity": verdicts.Use(HIGHER, units=config.models, **learned),
    }
    if config.sparse_languages > 1:
        rules["C23, sparse majority"] = verdicts.Use(MOST_LEARN, **several)
        rules["C23, sparse parity"] = verdicts.Use(FEW_LEARN, **several)
    if config.random_languages > 1:
        for name, rule, limit in (("fitted", BIASED, RANDOM), ("not fitted", CLUSTERED, CLUSTER)):
            spread = np.linspace(0.99, 1.01, config.random_languages)
            values = [(estimate.from_values(factor * limit * spread, rate=False),) for factor in (0.5, 1.5, 1)]
            rules[f"C24, {name}"] = verdicts.Use(rule, **random, **schemes, examples=values)
        if {"xavier_normal", "uniform"} <= set(config.random_schemes):
            rules["F.2"] = verdicts.Use(HELPS, **random)
    return rules


def _design(config: Config, models: int) -> Design:
    return Design(models, drawn=config.learning_rates)


def _near(exact: float) -> Rule:
    return partial(verdicts.mean, within=(exact - NEAR, exact + NEAR))


def _learned_plain(config: Config, kind: Kind, results: Sequence[Result]) -> list[Row]:
    published = "'all models trained on First and Majority learn the languages perfectly'"
    words = "share of models right on all strings"
    rows = [
        _count(config, kind, results, lambda r: r.perfect, words, published, rule=ALL_LEARN),
        _accuracy(config, kind, results),
    ]
    where = "'cluster correctly at 1 for First, and at 0 and half the string length for Majority'"
    for words, chosen in _supports(kind).items():
        exact = float(kind.exact[chosen].sum())
        for which, among in (("all models", None), (f"models right on {LEARNED:.0%}", lambda r: r.learned)):
            members = list(filter(among, results)) if among else results
            share = over(results, mass(kind, chosen), rate=True, among=among)
            rows.append(
                _row(
                    config, "C23", f"share of strings of sensitivity {words} after training", share, members,
                    _near(exact) if among else None, published=where, place="Fig. 5",
                    subject=f"{labels.language(kind)}, {which}", reference=f"exact share {exact:.4g}",
                    dataset=labels.probed(config, kind.n),
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


def _parity(config: Config, kind: Kind, results: Sequence[Result]) -> list[Row]:
    higher = over(results, lambda r: _largest(r, "after") - _largest(r, "before"), rate=False)
    fields = {"place": "Fig. 5", "subject": labels.language(kind), "dataset": labels.probed(config, kind.n)}
    words = f"share of models right on {LEARNED:.0%} of the strings"
    full = mass(kind, np.arange(kind.n + 1) == kind.n)
    return [
        _count(config, kind, results, lambda r: r.learned, words, "not learned", rule=NONE_LEARN),
        _accuracy(config, kind, results),
        _row(config, "C23", "largest sensitivity of a string, subject minus reference (bits)", higher, results, HIGHER,
             published="'the trained models have higher-sensitivity strings'",
             reference="the same models before training", **fields),
        _row(config, "C23", f"share of strings of sensitivity {kind.n} after training", over(results, full, rate=True),
             results, reference="exact share 1", **fields),
    ]  # fmt: skip


def _largest(result: Result, when: str) -> float:
    return np.nan if np.isnan(result.average(when)) else float(result.sensitivities[when].max())


def _sparse(config: Config, kind: Kind, results: Sequence[Result]) -> list[Row]:
    majority = kind.family == "sparse_majority"
    published = f"C23, sparse languages as their kind: {'learned' if majority else 'not learned'}"
    rule = MOST_LEARN if majority else FEW_LEARN
    words = f"share of models right on {LEARNED:.0%} of the strings"
    several = len({r.model.language for r in results}) > 1
    models = _count(config, kind, results, lambda r: r.learned, words, published, rule=None if several else rule)
    languages = [_languages(config, kind, results, published, rule)] if several else []
    return [models, *languages, _accuracy(config, kind, results)]


def _languages(config: Config, kind: Kind, results: Sequence[Result], published: str, rule: Rule) -> Row:
    """Return a row on the share of languages that most of their models learned.

    A language is undecided if half of its models learned, or might have if those that were still getting better had.
    """
    learned = over(results, lambda r: float(r.learned), rate=True).values
    possible = over(results, lambda r: float(r.learned or r.status == "all epochs"), rate=True).values
    count, undecided = int((learned > 0.5).sum()), int(((learned <= 0.5) & (possible >= 0.5)).sum())
    row = Claim(
        "C23", f"share of languages that most models learned ({LEARNED:.0%} of the strings)", published, "App. F.2",
        subject=labels.language(kind), dataset=labels.tested(config, kind), measured=count / len(learned),
        note=f"{count} of {len(learned)} languages; {undecided} undecided",
    )  # fmt: skip
    return row, rule(count, len(learned), undecided=undecided, design=_design(config, len(results)))


def _random(config: Config, kind: Kind, results: Sequence[Result]) -> list[Row]:
    published = "some configurations cannot learn these languages"
    words = f"share of models that fitted {LEARNED:.0%} of the strings"
    rows = [_count(config, kind, results, lambda r: r.learned, words, published, claim="C24")]
    said = {
        "all": (lambda _: True, None, None),
        "fitted": (lambda r: r.learned, "the bias persists: below 1/2, that of random functions", BIASED),
        "unfitted": (
            lambda r: not r.learned, "'for these models, the (average) sensitivities cluster around 0'", CLUSTERED,
        ),
    }  # fmt: skip
    for which, (among, text, rule) in said.items():
        fields = {"place": "Fig. 3 (right)", "subject": f"{labels.language(kind)}, {which} models"}
        fields["dataset"], members = labels.probed(config, kind.n), list(filter(among, results))
        after = average_sensitivity(results, "after", among, rate=rule is None)
        before = average_sensitivity(results, "before", among)
        rows += [
            _row(config, "C24", "average sensitivity after training / N", after, members, rule, published=text,
                 **fields),
            _row(config, "C24", "average sensitivity before training / N", before, members, **fields),
            _row(config, "C24", "average sensitivity, subject minus reference (bits)", change(results, among), members,
                 reference="the same models before training", **fields),
        ]  # fmt: skip
    return rows


def _xavier(config: Config, groups: Groups) -> list[Row]:
    """Compare initializations on random languages, pair by pair: the same sizes, rates, batches and strings."""
    named = {kind.scheme: (kind, results) for kind, results in groups.items() if kind.random}
    if not {"xavier_normal", "uniform"} <= named.keys():
        return []
    (subject, xavier), (reference, uniform) = named["xavier_normal"], named["uniform"]
    pairs = list(zip(xavier, uniform, strict=True))
    gained = np.array([a.after["correct"] - b.after["correct"] for a, b in pairs])
    languages = np.array([a.model.language for a, _ in pairs])
    several = len(np.unique(languages)) > 1
    gain = verdicts.outer_means(gained, languages) if several else estimate.from_values(gained, rate=False)
    fields = {
        "subject": labels.language(subject), "reference": labels.language(reference), "place": "App. F.2",
        "published": "Xavier normal 'aids learning in preliminary experiments'",
        "dataset": labels.tested(config, subject),
    }  # fmt: skip
    better, units = int((gain.values > 0).sum()), gain.count
    share = Claim(
        "F.2", f"share of {'languages' if several else 'pairs'} of which the subject fits more strings",
        measured=better / units, note=f"{better} of {units}; {_size(xavier)}, in pairs", **fields,
    )  # fmt: skip
    return [
        _row(config, "F.2", "share of strings fitted, subject minus reference", gain, xavier, note="in pairs",
             **fields),
        (share, HELPS(better, units, design=_design(config, len(pairs)))),
    ]  # fmt: skip


def _count(
    config: Config, kind: Kind, results: Sequence[Result], holds: Callable[[Result], bool], quantity: str,
    published: str, *, claim: str = "C23", rule: Rule | None = None,
) -> Row:  # fmt: skip
    """Return a row on the share of models that have a property.

    Models without it that were still getting better when the epochs ran out are undecided: at the low end of the
    interval they count as models without it, at the high end as models with it.
    """

    def may(result: Result) -> bool:
        return holds(result) or result.status == "all epochs"

    count, undecided = sum(map(holds, results)), sum(map(may, results)) - sum(map(holds, results))
    (measured, low, _), (_, _, high) = proportion(results, holds), proportion(results, may)
    row = Claim(
        claim, quantity, published, "App. F.2", subject=labels.language(kind), dataset=labels.tested(config, kind),
        measured=measured, low=low, high=high, note=f"{count} of {_size(results)}; {undecided} undecided",
    )  # fmt: skip
    if rule is None:
        return row, None
    return row, rule(count, len(results), undecided=undecided, design=_design(config, len(results)))


def _accuracy(config: Config, kind: Kind, results: Sequence[Result]) -> Row:
    accuracy = over(results, lambda r: r.after["correct"], rate=True)
    return _row(
        config, "C23", "accuracy", accuracy, results, place="App. F.2", subject=labels.language(kind),
        dataset=labels.tested(config, kind),
    )  # fmt: skip


def _size(results: Sequence[Result]) -> str:
    """Say how many models there are and of how many languages, and how many diverged or could not be measured."""
    languages = len({r.model.language for r in results})
    diverged = sum(r.status == "diverged" for r in results)
    unmeasured = sum(np.isnan(r.average("after")) for r in results)
    words = f"{len(results)} models" + (f" of {languages} languages" if languages > 1 else "")
    words += f", {diverged} diverged" if diverged else ""
    return words + (f", {unmeasured} without finite logits" if unmeasured else "")


def _row(
    config: Config, claim: str, quantity: str, estimated: Estimate | None, members: Sequence[Result],
    rule: Rule | None = None, *, note: str = "", published: str | None = None, **fields: Any,
) -> Row:  # fmt: skip
    """Return a row of the comparison on the mean over some models, with the verdict of a rule if there is one."""
    fields |= {"published": published, "note": _size(members) + (f"; {note}" if note else "")}
    fields |= {} if estimated is None else Claim.numbers(estimated)
    judged = rule(estimated, design=_design(config, len(members))) if rule else None
    return Claim(claim, quantity, **fields), judged
