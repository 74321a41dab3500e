"""Verdicts of ``experiments.flatness``: the regularizer (C13), training mode, and sensitivity against sharpness."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from experiments.flatness.config import Config
from experiments.flatness.estimates import SCOPES, Findings, scopes
from experiments.flatness.quantities import all_quantities, sharpness_measures
from experiments.harness import Claim, corrected, verdicts
from experiments.images.bench import design_of
from experiments.images.config import REGULARIZED

__all__ = ["LOWER", "claims", "uses"]

PUBLISHED = {"output_gaussian_0.005": "39.166 -> 9.025", "prediction_gaussian_0.005": "0.5346 -> 0.3982"}
"""Vasudeva et al., Table 2: a ViT on CIFAR-10, plain and regularized; deviation 0.005, one model, one run."""

LOWER = partial(verdicts.mean, below=0.0, effect=3.0)
"""A difference is below 0; its power is that at three standard deviations of a model."""

_TABLE = "Vasudeva et al., s.7.2, Table 2"
_FLAT = "low sensitivity, flat minimum"

Row = tuple[Claim, verdicts.Verdict | None]
"""A row of comparison.csv, and its verdict before the verdicts of the claim are corrected together."""


def claims(config: Config, dataset: str, findings: Findings) -> list[Claim]:
    """Judge that the regularizer flattens the minimum, and that low sensitivity goes with flat minima.

    Differences are judged by `verdicts.mean`: frequencies on the logit scale, and a nonnegative number of each model by
    the interval for skewed ones. Holm's correction is for all measures of sharpness of a claim: of the differences in
    each architecture, of the rank correlations in each scope.
    """
    rows = []
    for architecture in findings.pairs:
        rows += corrected(_regularizer(config, dataset, findings, architecture))
    rows += _training_mode_adds(dataset, findings)
    for architecture in findings.pairs:
        rows += corrected(_regularizer_in_training_mode(config, dataset, findings, architecture))
    for scope in SCOPES:
        rows += corrected(_correlations(config, dataset, findings, scope))
    return rows


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return the rules that claims are judged by, with their units at these settings."""
    design = verdicts.Design.at_best(config.seeds, config.learning_rates)
    lower = partial(LOWER, models=(config.seeds, config.seeds))
    measures, deviations = len(sharpness_measures(config)), len(config.deviations)
    together = {"regularizer": 1, "C13": measures, "C13, extended": measures, "C13, training mode": 2 * deviations}
    rules = {claim: verdicts.Use(lower, config.seeds, design, count) for claim, count in together.items()}
    treatments = [name + suffix for name in config.architectures for suffix in ("", REGULARIZED)]
    for scope, (groups, clusters) in scopes(np.repeat(treatments, config.seeds).tolist()).items():
        rule = partial(verdicts.correlation, groups=groups, clusters=clusters)
        rules[f"{_FLAT}, {SCOPES[scope]}"] = verdicts.Use(rule, len(np.unique(clusters)), design, measures)
    return rules


def _regularizer(config: Config, dataset: str, findings: Findings, architecture: str) -> Iterator[Row]:
    """C13: what the regularizer changes, for token sensitivity and every measure of sharpness."""
    transformer = architecture.startswith("vit")
    for name in ("sensitivity", *sharpness_measures(config)):
        of_paper = transformer and name.startswith(("output_gaussian", "prediction_gaussian"))
        claim = "regularizer" if name == "sensitivity" else "C13" if of_paper else "C13, extended"
        yield _difference(config, dataset, findings, claim, architecture, name, PUBLISHED.get(name))


def _training_mode_adds(dataset: str, findings: Findings) -> Iterator[Claim]:
    """Say what the published code's training mode adds: the copy in training mode minus that in evaluation mode."""
    for treatment, added in findings.added.items():
        for (what, deviation), one in added.items():
            levels = (findings.levels[treatment][f"train_mode_{what}_{d:g}"].mean for d in (deviation, 0.0))
            yield Claim.of(
                "C13, training mode", f"{what} sharpness that training mode adds, deviation {deviation:g}", one,
                subject=treatment, dataset=dataset, place="Vasudeva et al., s.7.2, released code",
                note="in training mode {:.4g}, of it without noise on the weights {:.4g}".format(*levels),
            )  # fmt: skip


def _regularizer_in_training_mode(config: Config, dataset: str, findings: Findings, architecture: str) -> Iterator[Row]:
    for what in ("output", "prediction"):
        for deviation in config.deviations:
            yield _difference(
                config, dataset, findings, "C13, training mode", architecture, f"train_mode_{what}_{deviation:g}",
                PUBLISHED.get(f"{what}_gaussian_{deviation:g}"),
                f"{what} sharpness of copies in training mode, deviation {deviation:g}",
            )  # fmt: skip


def _difference(
    config: Config,
    dataset: str,
    findings: Findings,
    claim: str,
    architecture: str,
    name: str,
    published: str | None,
    text: str | None = None,
) -> Row:
    """Return the row of regularized minus plain, which is claimed to be below 0."""
    pair = plain, regularized = findings.pairs[architecture]
    logits = findings.logits[architecture].get(name)
    paired = findings.differences[architecture][name] if logits is None else logits
    row = Claim.of(
        claim, f"{text or all_quantities(config)[name].text}, difference{'' if logits is None else ' of logits'}",
        paired, subject=regularized, reference=plain, dataset=dataset,
        published=published if architecture.startswith("vit") else None, place=_TABLE,
    )  # fmt: skip
    # One number of each model: seeds are skewed where it is nonnegative, such as an eigenvalue.
    skewed = paired.parts is not None and min(part.values.min() for part in paired.parts) >= 0
    counts = tuple(len(findings.results[one]) for one in (regularized, plain))
    method = "log" if skewed else "student"
    return row, LOWER(paired, design=design_of(config, findings.results, pair), models=counts, method=method)


def _correlations(config: Config, dataset: str, findings: Findings, scope: str) -> Iterator[Row]:
    """Low sensitivity goes with flat minima: rank correlations above 0."""
    groups, clusters = scopes([name for name, models in findings.results.items() for _ in models])[scope]
    design = design_of(config, findings.results, findings.results)
    for row in findings.correlations:
        partner = row["correlated_with"]
        if (row["scope"], row["quantity"]) != (scope, "sensitivity"):
            continue
        sharp = partner not in ("test_error", "scale")
        x, y = (np.concatenate([means[key] for means in findings.means.values()]) for key in ("sensitivity", partner))
        yield (
            Claim(
                _FLAT if sharp else "low sensitivity", f"rank correlation of token sensitivity and {partner}",
                "lower sensitivity goes with flatter minima" if sharp else None, "Vasudeva et al., s.7.2",
                subject=SCOPES[scope], dataset=dataset, measured=row["r"], low=row["low"], high=row["high"],
                note=f"{row['models']} models, {row['units']} independent units in {row['groups']} groups",
            ),
            verdicts.correlation(x, y, groups=groups, clusters=clusters, design=design) if sharp else None,
        )  # fmt: skip
