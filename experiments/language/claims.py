"""Verdicts of ``experiments.language`` on claims C5 and C6 of ``experiments/CLAIMS.md``, and what each confound adds.

Judged is the difference between RoBERTa and a wholly trained LSTM, with noise at the same place and scale, as it is and
brought back to the scale of the embedding. Holm's correction is for each claim.
"""

from collections.abc import Iterator
from functools import partial

from experiments.harness import Claim, corrected, verdicts
from experiments.language.config import Config
from experiments.language.estimates import Family, Findings, logits, quantities
from experiments.language.measure import name_of

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
    subjects = len(JUDGED) * len([name for name in config.families if name in TRANSFORMERS])
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
                dataset=dataset, published=shown, place=_PLACE if shown else _CONTROL, note=_note(config, family),
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
                note=f"{name}: {_note(config, family)}; lstm: {_note(config, lstm)}",
            )  # fmt: skip
            verdict = None
            if claimed:
                counts = len(family.models), len(lstm.models)
                best = {name: family.rate, "lstm": lstm.rate}
                design = verdicts.Design(min(counts), config.learning_rates, best)
                verdict = LOWER(difference, design=design, models=counts)
            yield row, verdict


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
    if kind == "words":
        return "another word"
    return f"{'raw noise on the whole text' if kind == 'sentence' else f'{kind} noise'}, variance {variance}"


def _note(config: Config, family: Family) -> str:
    rates = config.learning_rates
    edge = " (edge of the grid)" if len(rates) > 1 and family.rate in (min(rates), max(rates)) else ""
    accuracy = ", ".join(f"{part} {family.values(f'{part}_correct').mean():.3f}" for part in ("train", "test"))
    return f"{family.parameters} parameters, learning rate {family.rate:g}{edge}, accuracy {accuracy}"
