"""Estimates of ``experiments.language_models``: influence in sum, by distance, and by the depth of the context."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.language_models.config import Config
from jaxsens.sensitivity.influence_result import QUANTITIES, TokenInfluence
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

__all__ = ["Findings", "distance_rows", "kinds", "next_by_depth", "rows", "summarize"]

Findings = Mapping[str, Mapping[str, TokenInfluence]]
"""Of every subject, the influence by what replaces a token."""


def kinds(config: Config) -> list[str]:
    """Return the names of what replaces a token."""
    return ["words", *(f"noise_{variance:g}" for variance in config.noise)]


def summarize(config: Config, units: Mapping[str, Sequence[Mapping[str, Array]]]) -> Findings:
    """Put the texts of every subject together."""
    sites = np.ones((config.count, config.length), bool)
    return {
        subject: {kind: TokenInfluence(np.stack([one[kind] for one in texts]), sites, sites) for kind in kinds(config)}
        for subject, texts in units.items()
    }


def next_by_depth(found: TokenInfluence, quantity: str) -> Estimate:
    """Estimate the influence of a token on the prediction after it ``[t]``, by its place in the text."""
    values = found.changes[..., QUANTITIES.index(quantity)].astype(np.float64).mean(1)
    return estimate.from_values(np.diagonal(values, axis1=1, axis2=2), rate=False, unit="texts")


def rows(config: Config, findings: Findings) -> list[dict[str, Any]]:
    """Return a row for every subject, replacement and quantity."""
    table = []
    for subject, by_kind in findings.items():
        for kind, influence in by_kind.items():
            for quantity in QUANTITIES:
                total, context = influence.total(quantity), influence.effective_context(quantity)
                row = {"subject": subject, "replaced_by": kind, "quantity": quantity, "texts": config.count}
                row |= harness.cells(total, "total_") | harness.cells(context, "effective_context_")
                table.append(row)
    return table


def distance_rows(findings: Findings) -> list[dict[str, Any]]:
    """Return a row for every subject, replacement, quantity and distance, and for every place of the token itself."""
    table = []
    for subject, by_kind in findings.items():
        for kind, influence in by_kind.items():
            for quantity in QUANTITIES:
                for along, profile in (
                    ("distance", influence.by_distance(quantity)),
                    ("place of the token", next_by_depth(influence, quantity)),
                ):  # fmt: skip
                    low, high = profile.interval()
                    table += [
                        {"subject": subject, "replaced_by": kind, "quantity": quantity, "along": along, "at": at}
                        | {"mean": float(m), "standard_error": float(s), "low": float(a), "high": float(b)}
                        for at, (m, s, a, b) in enumerate(zip(profile.mean, profile.sem, low, high, strict=True))
                    ]
    return table
