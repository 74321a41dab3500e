"""Verdicts of ``experiments.language`` on claims C5 and C6 of ``experiments/CLAIMS.md``, and what each confound adds.

Judged is the difference between RoBERTa and a wholly trained LSTM, with noise at the same place and scale, as it is and
brought back to the scale of the embedding; and with raw noise at the first point of training where models reach an
accuracy. A model that always gives the most frequent class has a sensitivity of 0, and one that learned less may have a
lower one: a verdict is withheld unless every model is more accurate on training texts than that class, and the families
are about equally accurate. Holm's correction is for each claim.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from experiments.harness import Claim, corrected, verdicts
from experiments.language.config import Config
from experiments.language.estimates import BY_WORDS, Family, Findings, logits, matched_logits, quantities
from experiments.language.measure import name_of
from jaxsens.statistics.estimate import Estimate

__all__ = ["CLAIMS", "LOWER", "PUBLISHED", "claims", "uses"]

LOWER = partial(verdicts.mean, below=0.0, effect=3.0)
"""A difference is below 0; its power is that at three standard deviations of a model."""

CLAIMS = {"mrpc": "C5", "qqp": "C6", "sst2": "C6"}
"""SST-2 stands in for QQP where that is not to be had."""

PUBLISHED = {
    "mrpc": {"lstm_frozen": 0.15, "roberta": 0.002, "roberta_relu": 0.001},
    "qqp": {"lstm_frozen": 0.09, "roberta": 0.03, "roberta_relu": 0.02},
}
"""Final sensitivities at variance 15 (Vasudeva et al., s.6 and App. D; one run each). The LSTM's embedding is frozen in
the published code."""

TRANSFORMERS = ("roberta", "roberta_relu")
JUDGED = ("raw", "renormalized")

_PLACE = "Vasudeva et al., s.6, App. D"
_CONTROL = "control, not in the paper"

Row = tuple[Claim, verdicts.Verdict | None]


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return the rules that claims are judged by, with their units at these settings."""
    design = verdicts.Design.at_best(config.seeds, config.learning_rates)
    rule = partial(LOWER, models=(config.seeds, config.seeds))
    subjects = (len(JUDGED) + 1) * len([name for name in config.families if name in TRANSFORMERS])
    counts: dict[str, int] = {}
    for dataset in config.datasets:
        counts[CLAIMS[dataset]] = counts.get(CLAIMS[dataset], 0) + subjects
    return {claim: verdicts.Use(rule, config.seeds, design, together=count) for claim, count in counts.items()}


def claims(config: Config, findings: Findings) -> list[Claim]:
    """Return the rows of comparison.csv."""
    rows: list[Row] = []
    for dataset, families in findings.items():
        rows += [(row, None) for row in _levels(config, dataset, families)]
        rows += [*_against_lstm(config, dataset, families)]
        rows += [(row, None) for row in _confounds(config, dataset, families)]
    return corrected(rows)


def _levels(config: Config, dataset: str, families: dict[str, Family]) -> Iterator[Claim]:
    for name, family in families.items():
        for quantity in quantities(config):
            shown = PUBLISHED.get(dataset, {}).get(name) if quantity == name_of("published", 15.0) else None
            yield Claim.of(
                CLAIMS.get(dataset, ""), f"sensitivity, {_words(quantity)}", family.estimate(quantity), subject=name,
                dataset=dataset, published=shown, place=_PLACE if shown else _CONTROL, note=_note(family),
            )  # fmt: skip


def _against_lstm(config: Config, dataset: str, families: dict[str, Family]) -> Iterator[Row]:
    """Compare every family with the wholly trained LSTM: a verdict for RoBERTa, with noise of the first variance."""
    if "lstm" not in families:
        return
    lstm = families["lstm"]
    judged = {name_of(treatment, config.noise[0]) for treatment in JUDGED}
    for name, family in families.items():
        if name.startswith("lstm"):
            continue
        for quantity in quantities(config):
            difference = logits(family, lstm, quantity)
            claimed = CLAIMS.get(dataset, "") if name in TRANSFORMERS and quantity in judged else ""
            row = Claim.of(
                claimed, f"sensitivity, {_words(quantity)}, difference of logits", difference, subject=name,
                reference="lstm", dataset=dataset, published="lower" if claimed else None,
                place=_PLACE if claimed else _CONTROL,
                note=f"{name}: {_note(family)}; lstm: {_note(lstm)}",
            )  # fmt: skip
            accuracies = {one.name: one.accuracy for one in (family, lstm)}
            yield row, _judge(config, family, lstm, difference, accuracies) if claimed else None
        yield _at_equal_accuracy(config, dataset, family, lstm)


def _at_equal_accuracy(config: Config, dataset: str, family: Family, lstm: Family) -> Row:
    """Compare a family with the LSTM where both first know the training texts: a verdict for RoBERTa."""
    difference = matched_logits(config, family, lstm)
    matched = {one.name: one.matched for one in (family, lstm)}
    accuracies = {name: one.accuracy for name, one in matched.items() if one is not None}
    numbers = {} if difference is None else Claim.numbers(difference)
    claimed = CLAIMS.get(dataset, "") if family.name in TRANSFORMERS else ""
    row = Claim(
        claimed, f"sensitivity where the training accuracy first is {config.matched:g}, raw noise, variance "
        f"{config.noise[0]:g}, difference of logits", None, _CONTROL, subject=family.name, reference="lstm",
        dataset=dataset, **numbers,
        note="; ".join(
            f"{name}: accuracy {accuracies[name].mean():.3f} there" if name in accuracies
            else f"{name}: not every model reaches an accuracy of {config.matched:g}" for name in matched
        ),
    )  # fmt: skip
    return row, _judge(config, family, lstm, difference, accuracies) if claimed else None


def _judge(
    config: Config, family: Family, lstm: Family, difference: Estimate | None, accuracies: dict[str, np.ndarray]
) -> verdicts.Verdict:
    """Judge a difference to the LSTM; ``accuracies`` are those of the models ``[seeds]``, by family."""
    counts = len(family.models), len(lstm.models)
    both = (family, lstm)
    design = verdicts.Design(min(counts), {one.name: one.rates for one in both}, {one.name: one.rate for one in both})
    verdict = LOWER(difference, design=design, models=counts)
    reason = _unequal(config, lstm.majority, accuracies) or verdict.reason
    return replace(verdict, name="inconclusive", error=1.0, reason=reason) if reason else verdict


def _unequal(config: Config, majority: float, accuracies: dict[str, np.ndarray]) -> str:
    """Return why training accuracies allow no comparison; empty where they do."""
    if len(accuracies) < 2:
        return f"not every model reaches a training accuracy of {config.matched:g}"
    for name, values in accuracies.items():
        if values.min() < majority + config.margin:
            return (
                f"training accuracy of a model of {name} is {values.min():.3f}; the most frequent class has "
                f"{majority:.3f}, and {config.margin:g} more is needed"
            )
    apart = abs(float(np.subtract(*(values.mean() for values in accuracies.values()))))
    if apart > config.tolerance:
        return f"training accuracies differ by {apart:.3f}; {config.tolerance:g} is allowed"
    return ""


def _confounds(config: Config, dataset: str, families: dict[str, Family]) -> Iterator[Claim]:
    """Return what the published ways add: freezing in the LSTM, the embedding layer twice in RoBERTa."""
    raw, published = (name_of(treatment, config.noise[0]) for treatment in ("raw", "published"))
    shared = {"dataset": dataset, "place": _CONTROL}
    if {"lstm", "lstm_frozen"} <= set(families):
        yield Claim.of(
            "", f"what freezing the embedding and the classifier adds, {_words(raw)}, difference of logits",
            logits(families["lstm_frozen"], families["lstm"], raw), subject="lstm_frozen", reference="lstm", **shared,
        )  # fmt: skip
    for name, family in families.items():
        yield Claim.of(
            "", "what the published noise adds to raw noise, difference of logits",
            logits(family, family, published, raw), subject=name, reference=name,
            note=f"{_words(published)}, minus {_words(raw)}", **shared,
        )  # fmt: skip


def _words(quantity: str) -> str:
    kind, _, variance = quantity.partition("_")
    if kind in BY_WORDS:
        return BY_WORDS[kind]
    return f"{'raw noise on the whole text' if kind == 'sentence' else f'{kind} noise'}, variance {variance}"


def _note(family: Family) -> str:
    rates = family.rates
    edge = " (edge of the grid)" if len(rates) > 1 and family.rate in (min(rates), max(rates)) else ""
    accuracy = ", ".join(f"{part} {family.values(f'{part}_correct').mean():.3f}" for part in ("train", "test"))
    return f"{family.parameters} parameters, learning rate {family.rate:g}{edge}, accuracy {accuracy}"
