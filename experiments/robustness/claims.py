"""Verdicts of ``experiments.robustness``: C10 on sensitivity and robustness, C11 and C12 on the two interventions."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from experiments.harness import Claim, corrected, verdicts
from experiments.images.bench import design_of
from experiments.robustness.config import Config
from experiments.robustness.estimates import SCOPES, Findings, columns_of, of_scopes
from experiments.robustness.quantities import quantities
from jaxsens import corruptions
from jaxsens.statistics import estimate

__all__ = ["INTERVENTIONS", "LOWER", "MISSING", "PUBLISHED", "claims", "uses"]

LOWER = partial(verdicts.mean, below=0.0, effect=3.0)
"""A difference is below 0; its power is that at three standard deviations of a seed."""

INTERVENTIONS = {
    "regularized": ("C11", "+2.4 points of accuracy, without gaussian_noise"),
    "augmented": ("C12", "+4.6 points of accuracy, without gaussian_noise"),
}
"""Treatment to its claim, and what the paper publishes: severity 2, mean over 14 corruptions, one ViT."""

MISSING = "gaussian_noise"
"""The corruption of the benchmark's 15 that the published means of 14 leave out: its code names it, but joined to the
name before it."""

CONTROLS = ("mixup", "weight_decay", "dropout")
"""Treatments that may raise the clean accuracy, too, and are not about noise."""

PUBLISHED = {
    "vit_small_data": (0.0050, 0.634),
    "vit_small_data_regularized": (0.0026, 0.658),
    "vit_small_data_augmented": (0.0007, 0.680),
    "vit_simple": (0.0014, 0.630),
    "resnet": (0.0827, 0.567),
    "densenet": (0.3673, 0.552),
}
"""Token sensitivity, and accuracy at severity 2, mean over 14 corruptions (Vasudeva et al., Fig. 7, CIFAR-10, one run;
accuracies are read from the figure)."""

_FIGURE = "Vasudeva et al., s.7.1, Fig. 7"
_CONTROL = "Vasudeva et al., control, not in the paper"
_JUDGED = ("sensitivity", "corruption_error", "error_severity_1", "error_severity_2", "error_not_noise")
"""What is judged of an intervention."""

Row = tuple[Claim, verdicts.Verdict | None]
"""A row of comparison.csv, and its verdict before the verdicts of the claim are corrected together."""


def claims(config: Config, dataset: str, findings: Findings) -> list[Claim]:
    """Return the rows of comparison.csv.

    Differences are judged by `verdicts.mean`, of token sensitivity on the logit scale; rank correlations by
    `verdicts.correlation`. Holm's correction is for each entry of the column ``claim``, over all architectures.
    """
    rows = [*_correlations(config, dataset, findings)]
    for treatment in INTERVENTIONS:
        rows += _intervention(config, dataset, findings, treatment)
    return [*_levels(config, dataset, findings), *corrected(rows)]


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return the rules that claims are judged by, with their units at these settings."""
    plain = verdicts.Design.at_best(config.seeds, config.learning_rates)
    design = verdicts.Design.at_best(config.seeds, () if config.shared_rate else config.learning_rates)
    count = len(config.architectures)
    judged = [key for key in _JUDGED if key in quantities(config)]
    controls = [one for one in CONTROLS if one in config.treatments]
    rules = {}
    for claim, _ in INTERVENTIONS.values():
        rules[claim] = verdicts.Use(LOWER, config.seeds, design, together=count * len(judged))
        if controls:
            rules[f"{claim}, control"] = verdicts.Use(LOWER, config.seeds, design, together=count * len(controls))
    compared = {"architectures": (count, plain), "treatments": (1 + len(config.treatments), design)}
    for scope, words in SCOPES.items():
        rules[f"C10, {words}"] = verdicts.Use(partial(verdicts.correlation), *compared[scope], together=2 * len(SCOPES))
    return rules


def _levels(config: Config, dataset: str, findings: Findings) -> Iterator[Claim]:
    """Return what has a published value, and errors relative to the reference model."""
    for name, levels in findings.levels.items():
        sensitivity, accuracy = PUBLISHED.get(name, (None, None)) if dataset == "cifar10" else (None, None)
        shown = {"subject": name, "dataset": dataset, "place": _FIGURE}
        yield Claim.of("", "token sensitivity", levels["sensitivity"], published=sensitivity, **shown)
        kept = [place for place, one in enumerate(config.corruptions) if one != MISSING]
        if 2 in config.severities and kept:
            wrong = np.stack([model["wrong"] for model in findings.results[name]])
            correct = 1 - wrong[:, :, kept, config.severities.index(2)].mean(2, dtype=np.float64)
            same = {config.corruptions[place] for place in kept} == set(corruptions.COMMON) - {MISSING}
            yield Claim.of(
                "", f"accuracy, mean over {len(kept)} corruptions without {MISSING}, severity 2",
                estimate.over_models(correct, rate=True), published=accuracy if same else None, **shown,
            )  # fmt: skip


def _intervention(config: Config, dataset: str, findings: Findings, treatment: str) -> Iterator[Row]:
    """Judge that an intervention lowers sensitivity and errors on corrupted images, more than the controls do."""
    claim, published = INTERVENTIONS[treatment]
    measured = quantities(config)
    for plain in findings.results:
        subject = f"{plain}_{treatment}"
        if subject not in findings.results:
            continue
        for key in (key for key in _JUDGED if key in measured):
            of_paper = published if plain.startswith("vit") and key == "error_severity_2" else None
            yield _difference(config, dataset, findings, claim, key, (subject, plain), of_paper, _FIGURE)
        for control in CONTROLS:
            if f"{plain}_{control}" in findings.results:
                pair = (subject, f"{plain}_{control}")
                row, verdict = _difference(
                    config, dataset, findings, f"{claim}, control", "corruption_error", pair, None, _CONTROL
                )
                yield row, _if_matched(config, findings, pair, verdict)


def _difference(
    config: Config,
    dataset: str,
    findings: Findings,
    claim: str,
    key: str,
    pair: tuple[str, str],
    published: str | None,
    place: str,
) -> Row:
    """Return the row of a difference, of logits for sensitivity; the claim is that it is below 0."""
    logits = key == "sensitivity"
    paired = findings.logits[pair] if logits else findings.differences[pair][key]
    clean = findings.differences[pair]["test_error"].mean
    row = Claim.of(
        claim, f"{quantities(config)[key].text}, difference{' of logits' if logits else ''}", paired, subject=pair[0],
        reference=pair[1], dataset=dataset, published=published, place=place,
        note=f"paired over seeds; error on clean test images {clean:+.3f}",
    )  # fmt: skip
    return row, LOWER(paired, design=design_of(config, findings.results, pair))


def _if_matched(
    config: Config, findings: Findings, pair: tuple[str, str], verdict: verdicts.Verdict
) -> verdicts.Verdict:
    """Withhold a verdict where clean accuracies differ by more than the tolerance."""
    apart = abs(float(findings.differences[pair]["test_error"].mean))
    if verdict.reason or apart <= config.tolerance:
        return verdict
    reason = f"clean accuracies differ by {apart:.3f}; {config.tolerance:g} is allowed"
    return replace(verdict, name="inconclusive", error=1.0, reason=reason)


def _correlations(config: Config, dataset: str, findings: Findings) -> Iterator[Row]:
    """Judge C10: lower sensitivity goes with fewer errors on corrupted images, also at equal clean accuracy."""
    members = of_scopes(list(findings.results))
    x, y, clean = (columns_of(findings.means, key) for key in ("sensitivity", "corruption_error", "test_error"))
    for scope, words in SCOPES.items():
        design = design_of(config, findings.results, members[scope])
        for covariate in ("", "test_error"):
            (row,) = [
                one for one in findings.correlations
                if (one["scope"], one["quantity"], one["correlated_with"], one["covariate"])
                == (scope, "sensitivity", "corruption_error", covariate)
            ]  # fmt: skip
            given = ", given the error on clean test images" if covariate else ""
            yield (
                Claim(
                    "C10", f"rank correlation of token sensitivity and error on corrupted images{given}",
                    None if covariate else "lower sensitivity goes with robustness", _CONTROL if covariate else _FIGURE,
                    subject=words, dataset=dataset, measured=row["r"], low=row["low"], high=row["high"],
                    note=f"{row['models']} models, {row['units']} independent units",
                ),
                verdicts.correlation(
                    x[scope], y[scope], covariate=clean[scope] if covariate else None, design=design
                ),
            )  # fmt: skip
