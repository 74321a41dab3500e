"""Rows of ``experiments.language_models``: no paper makes a claim of it, so that nothing is judged."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from experiments.harness import Claim, verdicts
from experiments.language_models.config import Config
from experiments.language_models.estimates import Findings
from experiments.language_models.measure import Reading
from jaxsens.sensitivity.influence_result import QUANTITIES
from jaxsens.statistics import estimate
from jaxsens.typing import Array

__all__ = ["claims", "uses"]


def uses(config: Config) -> dict[str, verdicts.Use]:  # noqa: ARG001
    """Return no rule: nothing is judged."""
    return {}


def claims(
    config: Config, reading: Reading, units: Mapping[str, Sequence[Mapping[str, Array]]], findings: Findings
) -> list[Claim]:
    """Return the rows of comparison.csv."""
    return list(_rows(config, reading, units, findings))


def _rows(
    config: Config, reading: Reading, units: Mapping[str, Sequence[Mapping[str, Array]]], findings: Findings
) -> Iterator[Claim]:
    data = {"dataset": f"{config.count} texts of {config.length} tokens"}
    unigram = estimate.from_values(reading.unigram, rate=False, unit="texts")
    yield Claim.of("", "next-token loss (nats)", unigram, subject="unigram model", **data)
    for subject, texts in units.items():
        loss = estimate.from_values(np.array([float(one["loss"]) for one in texts]), rate=False, unit="texts")
        yield Claim.of("", "next-token loss (nats)", loss, subject=subject, **data)
    for subject, by_kind in findings.items():
        for kind, influence in by_kind.items():
            for quantity in QUANTITIES:
                name = f"total influence of a token, {quantity}, replaced by {kind.replace('_', ' of variance ')}"
                yield Claim.of("", name, influence.total(quantity), subject=subject, **data)
    if {"trained", "untrained"} <= set(findings):
        for kind, influence in findings["trained"].items():
            difference = influence.minus(findings["untrained"][kind])
            yield Claim.of(
                "", f"difference of total influence, total variation, {kind}", difference, subject="trained",
                reference="untrained", note="paired over texts", **data,
            )  # fmt: skip
