"""Verdicts of ``experiments.sparse_tokens`` on claim C7 of ``experiments/CLAIMS.md``.

A model that has learned decides examples out of distribution by the sparse or by the frequent tokens, mostly all of
them or none; C7 is judged by shares of seeds. Models that have not learned decide nothing, and Holm's correction holds
for all rows of attention. Other kinds of models are beside it without a verdict: C7 is about attention.
"""

from collections.abc import Mapping
from functools import partial

from experiments import harness
from experiments.harness import Claim, verdicts
from experiments.harness.verdicts import Design, Verdict
from experiments.sparse_tokens.config import Config
from experiments.sparse_tokens.estimates import Group
from experiments.sparse_tokens.published import TABLE

PLACE = "Vasudeva et al., Transformers Learn Low Sensitivity Functions, s.4, Defs. 4.2, 4.3, Table 3"

MOST_MODELS = partial(verdicts.share, above=0.5, effect=0.95)

Row = tuple[Claim, Verdict | None]


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return every rule by which claims are judged, with its units at these settings."""
    design = Design.at_best(config.seeds, config.rates)
    together = len(config.cases) * len(config.scales)
    return {"C7": verdicts.Use(MOST_MODELS, config.seeds, design, together=together)}


def claims(config: Config, groups: Mapping[tuple[str, str, float], Group]) -> list[Claim]:
    """Return all claims of a run."""
    return harness.corrected(row for group in groups.values() for row in _rows(config, group))


def _rows(config: Config, group: Group) -> list[Row]:
    note = f"learning rate {group.rate:g}; {int(group.fitted.sum())} of {len(group.fitted)} models learned"
    note += f", {group.diverged} diverged" if group.diverged else ""
    fields = {
        "place": PLACE, "subject": group.kind,
        "dataset": f"n_s-n_f-n_d-m {group.case}, M {config.vocabulary}, T {config.length}; initial weights x "
        f"{group.scale:g}",
    }  # fmt: skip
    published = group.kind == "attention"
    holding, undecided = int(group.follows_less_sensitive.sum()), int((~group.fitted).sum())
    row = Claim(
        "C7" if published else "", f"share of models that follow the less sensitive rule, {group.less_sensitive}",
        "chooses it" if published else None, measured=holding / len(group.test), note=note, **fields,
    )  # fmt: skip
    verdict = None
    if published:
        design = Design(config.seeds, config.rates, {group.kind: group.rate})
        verdict = MOST_MODELS(holding, len(group.test), undecided=undecided, design=design)
    rows: list[Row] = [(row, verdict)]
    numbers = tuple(map(int, group.case.split("-")))
    exact = ", ".join(f"{value:.4f} of the {name} rule" for name, value in group.exact.items())
    values = {
        "sensitivity": TABLE[numbers][group.less_sensitive] if published and numbers in TABLE else None,
        "other_accuracy": ("tends to 0" if group.less_sensitive == "sparse" else "stays high") if published else None,
        "test_accuracy": None,
    }
    texts = {
        "sensitivity": "token sensitivity, uniform replacements",
        "other_accuracy": "accuracy with the sparse tokens of the other label",
        "test_accuracy": "accuracy on test examples",
    }
    estimates = group.estimates()
    for name, value in values.items():
        fields |= {"published": value, "note": f"{note}; exact: {exact}" if name == "sensitivity" else note}
        rows.append((Claim.of("", texts[name], estimates[name], **fields), None))
    return rows
