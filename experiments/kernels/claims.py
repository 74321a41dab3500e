"""Verdicts of ``experiments.kernels`` on claims C8 and C9 of ``experiments/CLAIMS.md``.

Both are theorems: one exception contradicts, and only a check of all cases within a stated size supports. C8 is about
linear scores; kernels of ReLU and softmax scores are beside it without a verdict.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from experiments.harness import Claim, verdicts
from experiments.harness.verdicts import NOT_TRAINED
from experiments.kernels.config import Config
from experiments.kernels.measure import GROUPS, ROUNDING, interval, settings
from jaxsens.typing import Array

PAPER = "Vasudeva et al., Transformers Learn Low Sensitivity Functions"

ALL_CASES = partial(verdicts.no_exception, exhaustive=True)
SAMPLE = partial(verdicts.no_exception)

PARTS = {
    "spread": "K(x, y) depends on <x, y> only",
    "off_diagonal": "every chi_S is an eigenfunction",
    "within_degree": "diagonal entries of one degree are equal",
    "order": "means of the diagonal by degree fall among even and among odd degrees",
    "parity_leak": "sets of different column parity do not mix",
}
"""Parts of Prop. 3.1, then two weaker statements, by the name of what is measured."""

PUBLISHED = ("spread", "off_diagonal", "within_degree")

WHERE = {
    "one token": lambda cube: cube[1] == 1,
    "1 < tokens < bits": lambda cube: 1 < cube[1] < cube[0],
    "tokens = bits > 1": lambda cube: 1 < cube[1] == cube[0],
}

Units = Mapping[tuple[Any, ...], Mapping[str, Array]]


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return every rule by which claims are judged, with its units at these settings."""
    kernels = sum(WHERE["1 < tokens < bits"](cube) for cube in config.cubes)
    rules = {
        "C9, all functions": verdicts.Use(ALL_CASES, 2**2**config.exhaustive, NOT_TRAINED),
        "C9, random functions": verdicts.Use(SAMPLE, config.functions, NOT_TRAINED),
    }
    return rules | ({"C8": verdicts.Use(ALL_CASES, 6 * kernels, NOT_TRAINED)} if kernels else {})


def kernel_claims(config: Config, exact: Units) -> list[Claim]:
    """Judge the parts of Prop. 3.1 for linear scores, by the number of tokens; both kernels and all read-outs."""
    rows = []
    chosen = np.array([score == "linear" for _, score, _ in settings()])
    for where, holds in WHERE.items():
        cubes = [cube for cube in config.cubes if holds(cube)]
        if not cubes:
            continue
        for part, text in PARTS.items():
            cases = np.concatenate([_broken(exact[cube], part)[chosen] for cube in cubes])
            verdict = ALL_CASES(int(cases.sum()), len(cases), design=NOT_TRAINED)
            rows.append(Claim(
                "C8" if part in PUBLISHED else "C8, weaker", f"cases without: {text}",
                "proved" if part in PUBLISHED else None, f"{PAPER}, Prop. 3.1", subject="attention, linear scores",
                dataset=f"cubes of up to {max(config.bits)} bits, {where}", measured=float(cases.sum()),
                verdict=verdict,
                note=f"{len(cubes)} cubes x 2 kernels x 3 read-outs; exact; " + _read_outs(exact, cubes, part),
            ))  # fmt: skip
    return rows


def _broken(unit: Mapping[str, Array], part: str) -> np.ndarray:
    return ~unit["ordered"] if part == "order" else unit[part] > ROUNDING


def _read_outs(exact: Units, cubes: list[tuple[int, int]], part: str) -> str:
    counts: dict[str, int] = {}
    for cube in cubes:
        for (_, score, read_out), broken in zip(settings(), _broken(exact[cube], part), strict=True):
            if score == "linear":
                counts[read_out] = counts.get(read_out, 0) + int(broken)
    return "by read-out: " + ", ".join(f"{name} {count}" for name, count in counts.items())


def bound_claims(functions: Units) -> list[Claim]:
    """Judge Prop. 3.2, for correlations from 0 to 1, and count where it ends for negative ones."""
    rows = []
    for (kind, bits), unit in functions.items():
        whole = kind == "all"
        count, exceptions = int(unit["functions"]), int(unit["exceptions"] + unit["degree_exceptions"])
        common = {
            "place": f"{PAPER}, Prop. 3.2", "subject": "all functions" if whole else "random functions",
            "dataset": f"{bits} bits",
        }  # fmt: skip
        rule = ALL_CASES if whole else SAMPLE
        rows.append(Claim(
            "C9", "functions with Stab_rho < rho^(S^2), or a degree above S^2", "proved: none",
            measured=float(exceptions), verdict=rule(exceptions, count, design=NOT_TRAINED),
            note=f"{count} functions, rho from 0 to 1; equal for {int(unit['sharp'])}", **common,
        ))  # fmt: skip
        rows.append(Claim(
            "C9, stronger", "functions with Stab_rho < rho^A, A the average sensitivity", None,
            measured=float(unit["average_exceptions"]),
            verdict=rule(int(unit["average_exceptions"]), count, design=NOT_TRAINED),
            note=f"{count} functions, rho from 0 to 1; proven by Jensen's inequality", **common,
        ))  # fmt: skip
        rows.append(Claim(
            "", "functions with Stab_rho < rho^(S^2) at a negative rho", None,
            measured=float(unit["negative_exceptions"]), note="the bound is for rho of at least 0", **common,
        ))  # fmt: skip
    return rows


def finite_claims(config: Config, finite: Units) -> list[Claim]:
    """Return rows on networks of finite width, softmax scores among them, without a verdict."""
    rows = []
    for (kind, score, read_out, width), unit in finite.items():
        share, sem = float(unit["off_diagonal_share"]), float(unit["off_diagonal_share_sem"])
        low, high = interval(share, sem)
        rows.append(Claim(
            "", "off-diagonal share of the squared norm in the Walsh-Fourier basis", None, f"{PAPER}, Prop. 3.1",
            subject=f"{kind} kernel, {score} scores, read-out {read_out}, width {width}",
            dataset=f"{config.finite_bits} bits, {config.finite_tokens} tokens", measured=share, standard_error=sem,
            low=float(low), high=float(high),
            note=f"{config.networks} networks, jackknife over {GROUPS} groups"
            + (f"; largest deviation from the closed form {float(unit['largest_deviation']):.1f} standard errors"
               if score != "softmax" else ""),
        ))  # fmt: skip
    return rows
