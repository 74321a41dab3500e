"""Verdicts of ``experiments.simplicity_bias`` on claims B1 to B3 of ``experiments/CLAIMS.md``.

Models of sparse parities fail all or none: some do not begin to learn within the steps. B1 and B2 are therefore judged
by shares of seeds, and such models decide nothing. B3 is judged by means over data sets. Holm's correction holds for
all rows of a claim. A learning rate that was not chosen from a grid allows no verdict.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from experiments import harness
from experiments.harness import Claim, verdicts
from experiments.harness.verdicts import Design, Verdict
from experiments.simplicity_bias.config import KINDS, Config
from experiments.simplicity_bias.estimates import (
    Group,
    Results,
    cells,
    converged,
    converged_share,
    label_estimates,
    of_sets,
)
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

PUBLISHED = {"transformer": 0.16, "lstm": 0.27}
"""Normalized sensitivity at convergence on random labels, read off the figure in the readme of the paper's code."""

PAPER = "Bhattamishra et al. 2023 (arXiv 2211.12316)"
PARITIES = f"{PAPER}, sparse parities with label noise"
LABELS = f"{PAPER}, random labels; figure in the readme of its code"

MOST = 0.5
"""The share of seeds above which something holds of most models."""

NEAR = 0.05
"""How far from a published sensitivity counts as near."""

GENERAL = 0.95
"""Accuracy on clean strings above which a model counts as generalizing."""

GAP = 0.05
"""How much better on the training labels than on fresh ones counts as overfitting."""

SAME = 0.02
"""How far from 1 - noise a training accuracy may be to count as equal."""

GAP_QUANTITY = "accuracy on the training labels minus that on fresh ones"

EFFECT = 3.0
"""How many standard deviations of a data set beyond the bound the power is for."""

MOST_MODELS = partial(verdicts.share, above=MOST, effect=0.9)
LESS_SENSITIVE = partial(verdicts.mean, below=0.0, effect=EFFECT)

Row = tuple[Claim, Verdict | None]


def claims(config: Config, results: Results, groups: Mapping[tuple, Group]) -> list[Claim]:
    """Return all claims of a run; ``groups`` are those of the chosen learning rates by kind, count and noise."""
    return [*parity_claims(config, groups), *label_claims(config, results)]


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return every rule by which claims are judged, with its units at these settings."""
    levels = len(config.counts) * len(config.noises)
    design = Design.at_best(config.seeds, config.rates)
    labels = {"units": config.label_sets, "design": _label_design(config, config.label_sets), "together": 3}
    return {
        "B1, B2": verdicts.Use(MOST_MODELS, config.seeds, design, together=2 * levels),
        "B3, difference": verdicts.Use(LESS_SENSITIVE, **labels),
        "B3, published sensitivity": verdicts.Use(_near(PUBLISHED["lstm"]), **labels),
    }


def parity_claims(config: Config, groups: Mapping[tuple, Group]) -> list[Claim]:
    """Judge generalization of transformers (B1) and overfitting of LSTMs (B2), at the chosen learning rates."""
    return harness.corrected(
        row
        for count in config.counts
        for noise in config.noises
        for row in _level_rows(config, count, noise, {kind: groups[kind, count, noise] for kind in KINDS})
    )


def _level_rows(config: Config, count: int, noise: float, pair: Mapping[str, Group]) -> list[Row]:
    transformer, lstm = (pair[kind] for kind in KINDS)
    final = {kind: group.final() for kind, group in pair.items()}
    rates = {kind: group.rate for kind, group in pair.items()}
    common = {
        "place": PARITIES,
        "dataset": f"parity of {config.relevant} of {config.length} bits, {count} strings, label noise {noise:g}",
    }
    note = "learning rates " + ", ".join(
        f"{kind} {group.rate:g}" + (f" ({group.diverged} diverged)" if group.diverged else "")
        for kind, group in pair.items()
    )

    def of(kind: str, claim: str, quantity: str, name: str, published: float | str) -> Row:
        return _row(claim, quantity, final[kind][name], published, subject=kind, note=note, **common)

    def most(kind: str, claim: str, quantity: str, holds: Array, published: str) -> Row:
        design = Design(config.seeds, config.rates, {kind: rates[kind]})
        fields = {"subject": kind, "note": note} | common
        return _most(claim, quantity, holds, pair[kind].unfitted, design, published=published, **fields)

    if (config.length, config.relevant, count) == (40, 4, 1_000):
        first = [
            of("transformer", "B1", GAP_QUANTITY, "overfitting", "1,000 strings overfit"),
            most("transformer", "B1", f"share of models with a gap above {GAP:g} between training and fresh labels",
                 transformer.overfitting > GAP, "1,000 strings overfit"),
        ]  # fmt: skip
    else:
        near = np.abs(transformer.training_accuracy - (1 - noise)) < SAME
        first = [
            of("transformer", "B1", "accuracy on clean test strings", "test_accuracy", "tends to 1"),
            most("transformer", "B1", f"share of models with an accuracy above {GENERAL:g} on clean test strings",
                 transformer.test_accuracy > GENERAL, "tends to 1"),
            of("transformer", "B1", "accuracy on the training labels", "training_accuracy", 1 - noise),
            most("transformer", "B1", f"share of models within {SAME:g} of 1 - noise on the training labels", near,
                 f"tends to {1 - noise:g}"),
        ]  # fmt: skip
    better = transformer.test_accuracy - lstm.test_accuracy
    sensitivity = np.subtract(*(pair[kind].curves["sensitivity"][:, -1] for kind in KINDS))
    both = {"subject": "transformer", "reference": "lstm"} | common
    paired = f"{note}; paired by seed"
    published = "transformers generalize, LSTMs overfit"
    return [
        *first,
        of("lstm", "B2", GAP_QUANTITY, "overfitting", "overfits"),
        most("lstm", "B2", f"share of models with a gap above {GAP:g} between training and fresh labels",
             lstm.overfitting > GAP, "overfits"),
        _row("B2", "difference of accuracy on clean test strings", estimate.from_values(better, rate=False), published,
             note=paired, **both),
        _most("B2", "share of seeds in which the subject is more accurate on clean test strings", better > 0,
              transformer.unfitted | lstm.unfitted, Design(config.seeds, config.rates, rates), published=published,
              note=paired, **both),
        _row("", "difference of normalized sensitivity after training", estimate.from_values(sensitivity, rate=False),
             None, note=f"{paired}; the parity's is {config.relevant / config.length:g}", **both),
    ]  # fmt: skip


def _most(
    claim: str, quantity: str, holds: Array, unfitted: Array, design: Design, *, note: str, **fields: Any
) -> Row:  # fmt: skip
    """Return a row on the share of seeds of which something holds; models that did not begin to learn are undecided."""
    holding, undecided = int(holds.sum()), int((unfitted & ~holds).sum())
    note += f"; {holding} of {len(holds)}" + (f", {undecided} did not begin to learn" if undecided else "")
    row = Claim(claim, quantity, measured=holding / len(holds), note=note, **fields)
    return row, MOST_MODELS(holding, len(holds), undecided=undecided, design=design)


def label_claims(config: Config, results: Results) -> list[Claim]:
    """Judge the sensitivities of the models that made no error on their random labels (B3)."""
    sets = {kind: of_sets(config, results, kind) for kind in KINDS}
    both = sorted(set(sets["transformer"]) & set(sets["lstm"]))
    counts = {kind: converged(results, kind) for kind in KINDS}
    reached = ", ".join(f"{count} of {total} {kind}s converged" for kind, (count, total) in counts.items())
    paired = [sets["transformer"][dataset][1] - sets["lstm"][dataset][1] for dataset in both]
    difference = estimate.from_values(paired, rate=False) if both else None
    common = {
        "place": LABELS,
        "dataset": f"{'given' if config.own_labels else 'random'} labels of {config.label_strings} strings of "
        f"{config.label_length} bits",
    }
    row, _ = _row(
        "B3", "difference of normalized sensitivity at convergence", difference,
        round(PUBLISHED["transformer"] - PUBLISHED["lstm"], 2), subject="transformer", reference="lstm",
        note=f"{reached}; paired by data set, {len(both)} of {config.label_sets} with both", **common,
    )  # fmt: skip
    rows = [(row, LESS_SENSITIVE(difference, design=_label_design(config, len(both))))]
    for kind in KINDS:
        published, (count, total) = PUBLISHED[kind], counts[kind]
        sensitivity = label_estimates(config, results, kind).get("trained")
        row, _ = _row(
            "B3", "normalized sensitivity at convergence", sensitivity, published, subject=kind,
            note=f"{count} of {total} converged; {len(sets[kind])} data sets", **common,
        )  # fmt: skip
        rows.append((row, _near(published)(sensitivity, design=_label_design(config, len(sets[kind])))))
        share = _row(
            "", "share of models that reach zero training error", converged_share(results, kind), None, subject=kind,
            note=f"{count} of {total} in {config.label_epochs} epochs", **common,
        )  # fmt: skip
        rows.append(share)
    return harness.corrected(rows)


def _near(published: float) -> partial[Verdict]:
    return partial(verdicts.mean, within=(published - NEAR, published + NEAR), effect=EFFECT)


def _label_design(config: Config, sets: int) -> Design:
    """Return the design of the models of random labels: they take the learning rates in turn, and none is chosen."""
    rates = config.label_rates
    if len(set(rates)) == 1:
        return Design(sets, rates, {"both kinds": rates[0]})
    return Design(sets, drawn=(min(rates), max(rates)))


def _row(
    claim: str, quantity: str, mean: Estimate | None, published: float | str | None, *, note: str, **fields: Any
) -> Row:  # fmt: skip
    """Return a row on an estimate over independent models or data sets, without a verdict."""
    row = dict.fromkeys(("mean", "sem", "low", "high")) if mean is None else cells(mean, bounds=(-1, 1))
    numbers = dict(zip(("measured", "standard_error", "low", "high"), row.values(), strict=True))
    return Claim(claim, quantity, published, note=note, **numbers, **fields), None
