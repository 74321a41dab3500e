"""Verdicts of ``experiments.flatness``: the regularizer (C13), training mode, and sensitivity against sharpness."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments import harness
from experiments.flatness.config import Config
from experiments.flatness.estimates import SCOPES, Findings
from experiments.flatness.quantities import all_quantities, sharpness_measures
from experiments.harness import Claim, judge

__all__ = ["claims"]

PUBLISHED = {"output_gaussian_0.005": "39.166 -> 9.025", "prediction_gaussian_0.005": "0.5346 -> 0.3982"}
"""Vasudeva et al., Table 2: a ViT on CIFAR-10, plain and regularized; deviation 0.005, one model, one run."""

_TABLE = "Vasudeva et al., s.7.2, Table 2"


def claims(config: Config, dataset: str, findings: Findings) -> list[Claim]:
    """Judge that the regularizer flattens the minimum, and that low sensitivity goes with flat minima."""
    return [
        *_regularizer(config, dataset, findings),
        *_training_mode_adds(dataset, findings),
        *_regularizer_in_training_mode(config, dataset, findings),
        *_correlations(dataset, findings),
    ]


def _regularizer(config: Config, dataset: str, findings: Findings) -> Iterator[Claim]:
    """C13: what the regularizer changes, for token sensitivity and every measure of sharpness."""
    names = ("sensitivity", *sharpness_measures(config))
    for architecture in findings.pairs:
        transformer = architecture.startswith("vit")
        for name in names:
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


def _regularizer_in_training_mode(config: Config, dataset: str, findings: Findings) -> Iterator[Claim]:
    for architecture in findings.pairs:
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
) -> Claim:
    """Return the row of regularized minus plain, which is claimed to be below 0."""
    plain, regularized = findings.pairs[architecture]
    paired = findings.differences[architecture][name]
    return Claim.of(
        claim, f"{text or all_quantities(config)[name].text}, difference", paired, subject=regularized,
        reference=plain, dataset=dataset, published=published if architecture.startswith("vit") else None,
        place=_TABLE, verdict=judge(paired, seeds=config.seeds, below=0.0),
    )  # fmt: skip


def _correlations(dataset: str, findings: Findings) -> Iterator[Claim]:
    """Low sensitivity goes with flat minima: rank correlations above 0."""
    for row in findings.correlations:
        if row["quantity"] == "sensitivity":
            sharp = row["correlated_with"] not in ("test_error", "scale")
            yield Claim(
                "low sensitivity, flat minimum" if sharp else "low sensitivity",
                f"rank correlation of token sensitivity and {row['correlated_with']}",
                "lower sensitivity goes with flatter minima" if sharp else None,
                "Vasudeva et al., s.7.2",
                subject=SCOPES[row["scope"]],
                dataset=dataset,
                measured=row["r"],
                low=row["low"],
                high=row["high"],
                verdict=_positive(row) if sharp else "",
                note=f"{row['models']} models, {row['units']} independent units in {row['groups']} groups",
            )


def _positive(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return "inconclusive"
    return harness.verdict((row["low"], row["high"]), seeds=row["units"], above=0.0)
