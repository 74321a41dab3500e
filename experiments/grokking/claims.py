"""Verdicts of ``experiments.grokking`` on claims C14 and C27 of ``experiments/CLAIMS.md``.

C14: sensitivity has done half of its fall before the test accuracy has risen half, the mean over seeds, and later in
seeds whose accuracy rises later. Judged for both ways to put noise on the numbers and for every architecture, of models
that have grokked; other measures, the accuracies of other seeds and the other rule stand beside it without a verdict.
C27: with the penalty models grok in fewer epochs than without it, and than with the same noisy copies in its place, at
every weight decay.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from experiments import harness
from experiments.grokking.config import Config, Group
from experiments.grokking.estimates import FOLLOWED, Curves, failures_in_words, speed_up, text
from experiments.harness import Claim, verdicts
from experiments.harness.verdicts import Design, Verdict
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

PLACE = "Vasudeva et al., Transformers Learn Low Sensitivity Functions, s.7.3, Fig. 8"
PENALTY_PLACE = "Haris et al., Noise Stability of Transformer Models, 2026, arXiv 2602.08287"
PARITY_PLACE = "Vasudeva et al., Transformers Learn Low Sensitivity Functions, A.6"

JUDGED = {"token_sensitivity": "one number at a time", "pair_sensitivity": "both numbers at once, as published"}

Row = tuple[Claim, Verdict | None]


def falls_first(found: Estimate | None, unrelated: float, *, design: Design) -> Verdict:
    """Judge that a measure changes before the test accuracy, and later in seeds whose accuracy rises later.

    `verdicts.mean` above 0, with one condition more for "supported": ``unrelated``, the one-sided p-value of
    `leads.following`, is at most half of the error. A decay since memorization has a mean lead above 0 too, but does
    not follow the accuracy. Both conditions hold at the same error, so that the level is that of either (an
    intersection-union test).

    Args:
        found: The lead over seeds, in epochs.
        unrelated: The p-value.
        design: How the models with a lead were trained.
    """
    verdict = verdicts.mean(found, design=design, above=0.0)
    if verdict.name == "supported":
        error = max(verdict.error, 2 * unrelated)
        late = error > verdicts.ERROR
        verdict = replace(verdict, error=1.0 if late else error, name="inconclusive" if late else verdict.name)
    return replace(
        verdict,
        rule=f"{verdict.rule}, and partial correlation with the epochs of the accuracy above 0",
        power_at=f"{verdict.power_at}, of the mean alone",
    )


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return every rule by which claims are judged, with its units at these settings."""
    plan = design(config)
    together = len(config.architectures) * len(JUDGED)
    used = {"C14": verdicts.Use(falls_first, config.seeds, plan, together=together, examples=_examples(config.seeds))}
    comparisons = len(_comparisons(config))
    if comparisons:
        spread = np.arange(config.seeds) / 1e3
        examples = [(estimate.from_values(mean + spread, rate=False),) for mean in (-1.0, 1.0, -spread.mean())]
        used["C27"] = verdicts.Use(fewer_epochs, config.seeds, plan, together=comparisons, examples=examples)
    return used


def fewer_epochs(found: Estimate, censored: tuple[int, int] = (0, 0), *, design: Design) -> Verdict:
    """Judge that the penalty needs fewer epochs, where some models may not have reached 0.9 by the last one.

    `verdicts.mean` below 0. The epochs of a model that is censored are at least the last one. A treated one makes the
    mean too small, so that it cannot support; a control makes it too large, so that it cannot contradict.

    Args:
        found: The logarithm of the ratio of epochs over seeds, the last epoch in the place of a censored one.
        censored: Treated models and controls that did not reach a test accuracy of 0.9.
        design: How the models were trained.
    """
    verdict = verdicts.mean(found, design=design, below=0.0)
    withheld = {name for name, count in zip(("supported", "contradicted"), censored, strict=True) if count}
    # Without a reason: the verdict still counts among those that are corrected together.
    undecided = {"name": "inconclusive", "error": 1.0} if verdict.name in withheld else {}
    return replace(
        verdict,
        rule=f"{verdict.rule}, and no treated model without 0.9",
        contradicted_if=f"{verdict.contradicted_if}, and no control without 0.9",
        **undecided,
    )


def _examples(units: int) -> list[tuple[Estimate, float]]:
    """Return arguments of `falls_first`: early and following the accuracy, early and not following it, and late."""
    early = estimate.from_values(1000.0 + np.arange(units), rate=False)
    late = estimate.from_values(-1000.0 - np.arange(units), rate=False)
    return [(early, 1e-6), (early, 0.5), (late, 0.5)]


def design(config: Config, seeds: int | None = None) -> Design:
    """Return how the models were trained: every seed draws its learning rate; ``seeds`` that are judged, or all."""
    return Design(config.seeds if seeds is None else seeds, drawn=(config.rates[0], config.rates[1]))


def claims(config: Config, curves: Mapping[Group, Curves], parity: Mapping[str, Array]) -> list[Claim]:
    """Return all claims of a run."""
    rows: list[Row] = []
    for architecture in config.architectures:
        rows += _leads(config, curves[Group(architecture, "none", config.decay)])
    for treated, control in _comparisons(config):
        rows.append(_speed_up(config, curves[treated], curves[control]))
        rows += _losses(config, curves[treated], curves[control])
    return [*harness.corrected(rows), *_parity(config, parity)]


def _comparisons(config: Config) -> list[tuple[Group, Group]]:
    """Return the groups with the penalty, each with the groups that it is compared with."""
    if "penalty" not in config.treatments:
        return []
    controls = [one for one in ("none", "noise") if one == "none" or one in config.treatments]
    return [
        (Group("published", "penalty", decay), Group("published", control, decay))
        for decay in config.decays
        for control in controls
    ]


def _fields(config: Config, curves: Curves) -> dict[str, Any]:
    group = curves.group
    return {
        "subject": f"{group.architecture} architecture, {group.treatment}, weight decay {group.decay:g}",
        "dataset": f"addition modulo {config.modulus}, {config.fraction:g} of the pairs",
        "note": failures_in_words(curves),
    }


def _leads(config: Config, curves: Curves) -> list[Row]:
    fields = _fields(config, curves) | {"place": PLACE, "reference": "test accuracy"}
    rows: list[Row] = []
    for name in FOLLOWED:
        lead, words = curves.lead(name), text(name) + (f" ({JUDGED[name]})" if name in JUDGED else "")
        r, unrelated = curves.following(name)
        plan = design(config, 0 if lead is None else lead.count)
        verdict = falls_first(lead, unrelated, design=plan) if name in JUDGED else None
        published = "falls before the accuracy rises" if name in JUDGED else None
        quantity = f"lead of {words}, half change (epochs)"
        why = "none" if r is None else f"{r:.2f}, one-sided p {unrelated:.2g}"
        why = f"{_without(curves, name)}; partial correlation: {why}"
        columns = fields | _numbers(lead) | {"note": f"{fields['note']}; {why}"}
        rows.append((Claim("C14" if verdict else "", quantity, published, **columns), verdict))
        lead = curves.placebo(name)
        quantity = f"lead of {words} over the accuracies of other seeds, half change (epochs)"
        rows.append((Claim("", quantity, None, **fields, **_numbers(lead)), None))
    for name in JUDGED:
        for rule, smoothed in (("correlation", False), ("half change", True)):
            lead = curves.lead(name, rule, smoothed=smoothed)
            words = f"half change, accuracy as a trailing mean over {config.smoothing} epochs" if smoothed else rule
            quantity = f"lead of {text(name)}, {words} (epochs)"
            rows.append((Claim("", quantity, None, **fields, **_numbers(lead)), None))
    return rows


def _numbers(lead: Estimate | None) -> dict[str, float | None]:
    return {} if lead is None else Claim.numbers(lead)


def _without(curves: Curves, name: str) -> str:
    """Say how many of the seeds that grokked have no lead, and why."""
    reasons = Counter(one.reason for one in curves.changes(name) if one.reason)
    words = ", ".join(f"{count} with {reason}" for reason, count in sorted(reasons.items()))
    return f"without a lead: {words or 'none'}"


def _speed_up(config: Config, treated: Curves, control: Curves) -> Row:
    log_ratio = speed_up(treated, control)
    fields = _fields(config, treated) | {"place": PENALTY_PLACE, "reference": _fields(config, control)["subject"]}
    censored = tuple(sum(not reached for _, reached in one.grokking) for one in (treated, control))
    fields["note"] += f"; without a test accuracy of 0.9: {censored[0]}, and {censored[1]} controls; last epoch counted"
    quantity = "log of the ratio of epochs to a test accuracy of 0.9"
    published = f"about 35 % sooner: {np.log(0.65):.2f}"
    row = Claim.of("C27", quantity, log_ratio, published=published, **fields)
    return row, fewer_epochs(log_ratio, censored, design=design(config))


def _losses(config: Config, treated: Curves, control: Curves) -> list[Row]:
    """Return the difference of the clean losses at the end: speeds are compared at unequal ones otherwise."""
    rows: list[Row] = []
    for name in ("train_loss", "test_loss"):
        differences = treated.values[name][:, -1] - control.values[name][:, -1]
        fields = _fields(config, treated) | {"place": "", "reference": _fields(config, control)["subject"]}
        if np.isfinite(differences).all():
            difference = estimate.from_values(differences, rate=False)
            quantity = f"difference of the clean {text(name)} at the end (nats)"
            rows.append((Claim.of("", quantity, difference, **fields), None))
    return rows


def _parity(config: Config, parity: Mapping[str, Array]) -> list[Claim]:
    share = config.parity_relevant / config.parity_length
    fields = {
        "subject": f"transformer, {config.parity_depth} layers", "place": PARITY_PLACE,
        "dataset": f"parity of {config.parity_relevant} of {config.parity_length} bits, "
        f"{config.parity_strings} strings",
    }  # fmt: skip
    rows = []
    for name, published in (("sensitivity", f"tends to {share:g}"), ("test_accuracy", None)):
        values = np.asarray(parity[name])[:, -1]
        if np.isfinite(values).all():
            over_seeds = estimate.from_values(values, rate=True)
            rows.append(Claim.of("", f"{name.replace('_', ' ')} at the end", over_seeds, published=published, **fields))
    return rows
