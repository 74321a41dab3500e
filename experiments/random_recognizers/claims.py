"""Verdicts on the paper's claims C20 and C25, and on the settings that F.1 leaves open."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import harness
from experiments.harness import Claim
from experiments.random_recognizers import labels
from experiments.random_recognizers.config import Config
from experiments.random_recognizers.estimates import COMPARED, Groups, over_models

LIMIT = 1 - 1 / math.e
"""Probability of a string of sensitivity 0 in a random function of many bits: that a Poisson(1) number is not 0."""

NEAR_LIMIT = 0.02
"""How close the interval of a share must lie to ``LIMIT`` to support C25."""

MOST = 0.5
"""C20: the share of strings of sensitivity 0 must lie above this."""

NEARLY_ALL = 0.9
"""C20: the share of strings of sensitivity at most n/20 must lie above this."""

SAME = 0.1
"""How much the share of strings of sensitivity 0 may differ for a reading of F.1 to count as immaterial."""

PUBLISHED = "figure: 'heavily skewed toward zero', 'the vast majority of strings have sensitivity 0 or close to 0'"


def spectrum_claims(config: Config, groups: Groups) -> list[Claim]:
    """C20: most strings have sensitivity 0, nearly all at most n/20. Only transformers are judged."""
    claims = []
    for (kind, scheme), group in groups.items():
        if kind not in COMPARED:
            continue
        judged = kind == "transformer"
        for name, words, share in (("zero", "0", MOST), ("small", f"at most {config.length // 20}", NEARLY_ALL)):
            estimated = over_models(config, group, name)
            claims.append(
                Claim.of(
                    "C20", f"share of strings of sensitivity {words}", estimated,
                    published=PUBLISHED if judged else None, place="Figs. 3 (left) and 4, App. F.1",
                    subject=labels.subject(kind, scheme), dataset=labels.strings(config),
                    verdict=harness.verdict(estimated.interval(), seeds=estimated.count, above=share) if judged else "",
                    note=f"{len(group)} models" + (f"; supported above {share}" if judged else ""),
                )
            )  # fmt: skip
    return claims


def choice_claims(config: Config, choices: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Other readings of F.1 make no difference; from the rows of choices.csv."""
    claims = []
    for row in choices:
        mean, sem, low, high = (row[f"zero_minus_default_{part}"] for part in ("mean", "sem", "low", "high"))
        if row["choice"] == "default" or low is None:
            continue
        claims.append(
            Claim(
                "F.1", "share of strings of sensitivity 0, subject minus reference", "left open, hence 0", "App. F.1",
                subject=labels.subject(row["choice"], row["scheme"]),
                reference=labels.subject("default", row["scheme"]), dataset=labels.strings(config),
                measured=mean, standard_error=sem, low=low, high=high,
                verdict=harness.verdict((low, high), seeds=row["models"], within=(-SAME, SAME)),
                note=f"{row['models']} pairs of models; supported within {SAME}",
            )
        )  # fmt: skip
    return claims


def control_claims(control: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """C25: a random function has a string of sensitivity 0 with probability 1 - 1/e; from the rows of control.csv.

    Only the longest functions are judged, and only if they are a sample.
    """
    claims = []
    longest = max(row["length"] for row in control)
    for row in control:
        judged = row["length"] == longest and not row["exact"]
        ends = (row["low"], row["high"])
        within = (LIMIT - NEAR_LIMIT, LIMIT + NEAR_LIMIT)
        note = "all functions" if row["exact"] else f"{row['functions']} functions"
        claims.append(
            Claim(
                "C25", "share of functions with a string of sensitivity 0", LIMIT, "s.7",
                subject=f"random functions of {row['length']} bits", dataset="all strings",
                measured=row["share_with_zero"], standard_error=row["sem"], low=ends[0], high=ends[1],
                verdict=harness.verdict(ends, seeds=None, within=within) if judged else "",
                note=note + (f"; supported within {NEAR_LIMIT} of 1 - 1/e" if judged else ""),
            )
        )  # fmt: skip
    return claims
