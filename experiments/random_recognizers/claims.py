"""Verdicts on the paper's claims C20 and C25, and on the settings that F.1 leaves open.

Units are models, each with its own architecture and weights; the models of a set share its strings.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from experiments.harness import Claim, verdicts
from experiments.harness.verdicts import NOT_TRAINED, Design, Verdict
from experiments.random_recognizers import labels
from experiments.random_recognizers.config import Config, models
from experiments.random_recognizers.estimates import COMPARED, Groups, differences, over_models
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

LIMIT = 1 - 1 / math.e
"""Probability of a string of sensitivity 0 in a random function of many bits: that a Poisson(1) number is not 0."""

NEAR_LIMIT = 0.02
"""How close the share must lie to ``LIMIT`` to support C25."""

MOST = 0.5
"""C20: the share of strings of sensitivity 0 must lie above this."""

NEARLY_ALL = 0.9
"""C20: the share of strings of sensitivity at most n/20 must lie above this."""

SAME = 0.1
"""How much the share of strings of sensitivity 0 may differ for a reading of F.1 to count as immaterial."""

PUBLISHED = "figure: 'heavily skewed toward zero', 'the vast majority of strings have sensitivity 0 or close to 0'"

SPECTRUM = {
    "zero": partial(verdicts.mean, above=MOST, effect=0.5),
    "small": partial(verdicts.mean, above=NEARLY_ALL, effect=0.5),
}
"""C20, by the quantity of a model."""

# Readings may agree in all pairs of a small sample and still differ: pairs that were not seen count, too.
READING = partial(verdicts.bounded_mean, bounds=(-1.0, 1.0), within=(-SAME, SAME))

NEAR = partial(
    verdicts.mean, within=(LIMIT - NEAR_LIMIT, LIMIT + NEAR_LIMIT), effect=NEAR_LIMIT / math.sqrt(LIMIT * (1 - LIMIT))
)
"""C25, with the power where the share is the limit."""

Judged = tuple[Claim, Verdict | None]
"""A row and its verdict, before verdicts on one claim are corrected together; None where it has none."""


def spectrum_claims(config: Config, groups: Groups) -> list[Judged]:
    """C20: most strings have sensitivity 0, nearly all at most n/20. Only transformers are judged."""
    rows = []
    for (kind, scheme), group in groups.items():
        if kind not in COMPARED:
            continue
        judged = kind == "transformer"
        for name, words in (("zero", "0"), ("small", f"at most {config.length // 20}")):
            estimated = over_models(config, group, name)
            row = Claim.of(
                "C20", f"share of strings of sensitivity {words}", estimated, published=PUBLISHED if judged else None,
                place="Figs. 3 (left) and 4, App. F.1", subject=labels.subject(kind, scheme),
                dataset=labels.strings(config), note=f"{len(group)} models",
            )  # fmt: skip
            rows.append((row, SPECTRUM[name](estimated, design=NOT_TRAINED) if judged else None))
    return rows


def choice_claims(config: Config, groups: Groups) -> list[Judged]:
    """Other readings of F.1 make no difference."""
    rows = []
    for kind, scheme in groups:
        if kind in (*COMPARED, "default"):
            continue
        values = differences(config, groups, (kind, scheme), "zero")
        if len(values) < 2:
            continue
        row = Claim.of(
            "F.1", "share of strings of sensitivity 0, subject minus reference",
            estimate.from_values(values, rate=False), published="left open, hence 0", place="App. F.1",
            subject=labels.subject(kind, scheme), reference=labels.subject("default", scheme),
            dataset=labels.strings(config), note=f"{len(values)} pairs of models",
        )  # fmt: skip
        rows.append((row, READING(values, design=NOT_TRAINED)))
    return rows


def control_claims(control: Sequence[Mapping[str, Any]], rates: Mapping[int, Estimate]) -> list[Judged]:
    """C25: a random function has a string of sensitivity 0 with probability 1 - 1/e.

    Only the longest functions are judged, and only if they are a sample.

    Args:
        control: The rows of control.csv.
        rates: The share of functions with such a string, by their number of bits.
    """
    rows = []
    longest = max(row["length"] for row in control)
    for row in control:
        judged = row["length"] == longest and not row["exact"]
        claim = Claim(
            "C25", "share of functions with a string of sensitivity 0", LIMIT, "s.7",
            subject=f"random functions of {row['length']} bits", dataset="all strings",
            measured=row["share_with_zero"], standard_error=row["sem"], low=row["low"], high=row["high"],
            note="all functions" if row["exact"] else f"{row['functions']} functions",
        )  # fmt: skip
        rows.append((claim, near_limit(rates[longest], design=NOT_TRAINED) if judged else None))
    return rows


def near_limit(rate: Estimate, *, design: Design) -> Verdict:
    """Judge that a share of functions is near ``LIMIT``, if so many functions can tell."""
    verdict = NEAR(rate, design=design)
    if verdict.power > 0 or verdict.reason:
        return verdict
    reason = f"{rate.count} functions have an interval wider than {2 * NEAR_LIMIT:g}, whatever they are"
    return replace(verdict, name="inconclusive", error=1.0, reason=reason)


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return every rule by which claims are judged, with its units at these settings."""
    count = config.datasets * config.models
    choices = Counter((m.kind, m.scheme) for m in models(config) if m.kind not in (*COMPARED, "default"))
    every = {
        f"C20, {name}": verdicts.Use(rule, units=count, design=NOT_TRAINED, together=2 * len(config.schemes))
        for name, rule in SPECTRUM.items()
    }
    if choices:
        pairs = min(choices.values())
        every["F.1"] = verdicts.Use(READING, units=pairs, design=NOT_TRAINED, together=len(choices))
    functions = config.control_functions
    shares = [(estimate.from_values(np.arange(functions) < share * functions),) for share in (LIMIT, 0, LIMIT + 0.025)]
    return every | {"C25": verdicts.Use(near_limit, units=functions, design=NOT_TRAINED, examples=shares)}
