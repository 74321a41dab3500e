"""Strings of sensitivity 0 in ``experiments.recognizer_geometry``: their number against length, Thm. 4.5 and s.7."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import harness
from experiments.recognizer_geometry import figures
from experiments.recognizer_geometry.claims import MOST, NEARLY, at_finite_lengths, claim, numbers, share_claim, triple
from experiments.recognizer_geometry.fits import (
    FEWEST_LENGTHS,
    floor_exponent,
    lines_where_known,
    log2_counts,
    log2_limits,
)
from jaxsens.statistics import estimate

if TYPE_CHECKING:
    from experiments.recognizer_geometry.config import Config


@dataclass(frozen=True)
class Counts:
    """What was counted in the models of one shape.

    Attributes:
        lengths: ``[n]``.
        exact: Where all strings were evaluated ``[n]``.
        strings: How many were ``[n]``.
        zero: How many of them have sensitivity 0 ``[m n]``.
        constant: Whether all that were evaluated, and their neighbours, have one answer ``[m n]``.
    """

    lengths: np.ndarray
    exact: np.ndarray
    strings: np.ndarray
    zero: np.ndarray
    constant: np.ndarray

    @property
    def logs(self) -> np.ndarray:
        """``log2 K_0`` ``[m n]``, NaN where no such string was seen."""
        return log2_counts(self.zero, self.strings, self.lengths)

    def limits(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Return limits of ``log2 K_0`` at the i-th length, each ``[m]``."""
        return log2_limits(self.zero[:, i], int(self.strings[i]), int(self.lengths[i]), bool(self.exact[i]))

    def against_floor(self, exponent: float) -> dict[str, np.ndarray]:
        """Sort models by whether ``K_0`` at the longest length is at least ``N^exponent``, by its limits ``[m]``."""
        low, high = self.limits(-1)
        floor = exponent * math.log2(self.lengths[-1])
        at_least, below = low >= floor, high < floor
        return {"at_least_floor": at_least, "below_floor": below, "floor_undecided": ~at_least & ~below}

    def late_growth(self, slowest: float) -> dict[str, np.ndarray]:
        """Sort models by whether ``log2 K_0`` grows faster than a number of bits a position over the last two lengths.

        Those that show no such string at one of the two are a category of their own: nothing is known of their growth.
        """
        gap = float(self.lengths[-1] - self.lengths[-2])
        (before_low, before_high), (low, high) = self.limits(-2), self.limits(-1)
        seen = (self.zero[:, -2:] > 0).all(1)
        before_low, low = np.where(seen, before_low, 0), np.where(seen, low, 0)
        faster = seen & ((low - before_high) / gap > slowest)
        slower = seen & ((high - before_low) / gap < slowest)
        return {"faster": faster, "slower": slower, "undecided": seen & ~faster & ~slower, "unseen": ~seen}


def of_shape(config: "Config", found: dict[tuple[Any, ...], Any], depth: int, width: int) -> Counts:
    """Gather the counts of one shape."""
    lengths = np.array([*config.exhaustive_lengths, *config.sampled_lengths])
    units = [found[depth, width, int(n)] for n in lengths]
    return Counts(
        lengths,
        np.isin(lengths, config.exhaustive_lengths),
        np.array([int(unit["strings"]) for unit in units]),
        np.stack([unit["zero"] for unit in units], 1),
        np.stack([unit["constant"] for unit in units], 1),
    )


def write(run: harness.Run, config: "Config", found: dict[tuple[Any, ...], Any]) -> list[harness.Claim]:
    """Write the tables and the figure of the counts, and return what becomes of the claims."""
    rows, fitted, sorted_models, claims, panels = [], [], [], [], {}
    for depth, width in config.count_shapes:
        counts, exponent = of_shape(config, found, depth, width), floor_exponent(depth, width)
        setting = {"layers": depth, "width": width}
        where = f"L = {depth}, D = {width}, epsilon = 0, parameters uniform on [-1, 1]^M"
        rows += [setting | row for row in _rows(counts)]
        varied = ~counts.constant[:, -1]  # those that are constant have all 2^N strings: no evidence on the others
        for group, chosen in (("all models", np.full(len(varied), True)), ("not constant at the longest", varied)):
            if chosen.sum() < 2:
                continue
            kinds = {
                name: int(members[chosen].sum())
                for sorting in (counts.late_growth(slowest(counts, exponent)), counts.against_floor(exponent))
                for name, members in sorting.items()
            }
            # Where the exponent is not positive there is no floor to be sorted by.
            cells = kinds if exponent > 0 else kinds | dict.fromkeys(counts.against_floor(exponent))
            sorted_models.append(setting | {"group": group, "models": int(chosen.sum())} | cells)
            estimates, gaps = _growth(counts, chosen), ~(counts.zero > 0).all(1)
            for quantity, one in estimates.items():
                cells = {"group": group, "quantity": quantity, "models": one.count}
                cells |= {"left_out": int(chosen.sum()) - one.count, "with_gaps": int(gaps[chosen].sum())}
                fitted.append(setting | cells | numbers(one))
            claims += _growth_claims(counts, exponent, f"{where}, {group}", kinds, chosen, estimates)
        claims.append(_floor_claim(counts, exponent, where))
        if (counts.zero > 0).sum(0).max() > 1:
            panels[f"L = {depth}, D = {width}"] = _panel(counts, varied, exponent)
    run.table("counts", rows)
    if fitted:
        run.table("count_growth", fitted)
    run.table("count_models", sorted_models)
    if not panels:
        return claims
    figure = figures.against_length(
        panels, quantity="strings of sensitivity 0", unit="geometric mean over the models that show one",
        log_length=False, dataset="random recognizers in the paper's block",
        sample=f"epsilon = 0, {config.models} models, all strings to N = {config.exhaustive_lengths[-1]}, "
        f"{config.sampled_strings} sampled beyond",
    )  # fmt: skip
    run.figure("counts", figure)
    return claims


def slowest(counts: Counts, exponent: float) -> float:
    """Return by how many bits a position the floor itself grows over the last two lengths; 0 if it falls."""
    before, after = (float(n) for n in counts.lengths[-2:])
    return max(exponent, 0.0) * math.log2(after / before) / (after - before)


def _rows(counts: Counts) -> list[dict[str, Any]]:
    rows = []
    for i, n in enumerate(counts.lengths):
        share = estimate.from_values(counts.zero[:, i] / counts.strings[i], rate=True)
        shown = counts.zero[:, i] > 0
        row = {"length": int(n), "strings": int(counts.strings[i]), "all_strings": bool(counts.exact[i])}
        row |= {"models": len(shown)} | {f"share_{key}": value for key, value in numbers(share).items()}
        logs = counts.logs[shown, i]
        cells = numbers(estimate.from_values(logs)) if len(logs) > 1 else dict.fromkeys(("mean", "sem", "low", "high"))
        row |= {"showing": int(shown.sum())} | {f"log2_{key}": value for key, value in cells.items()}
        known = int((~shown).sum()) if counts.exact[i] else 0
        unseen = int((~shown).sum()) - known
        rows.append(row | {"constant": int(counts.constant[:, i].sum()), "known_none": known, "none_seen": unseen})
    return rows


def _growth(counts: Counts, chosen: np.ndarray) -> dict[str, estimate.Estimate]:
    """Estimate growth over the lengths at which a model shows such a string; models with too few are left out."""
    lengths, logs = counts.lengths, counts.logs[chosen]
    slopes, _, exponential_error, shown = lines_where_known(lengths, logs)
    powers, _, polynomial_error, _ = lines_where_known(np.log2(lengths), logs)
    # Two parameters each, so that the difference of AIC is that of the fits alone; constants fit exactly.
    information = shown * np.log(np.maximum(polynomial_error, 1e-12) / np.maximum(exponential_error, 1e-12))
    fitted = np.isfinite(slopes)
    found = {
        "bits_a_position": slopes[fitted],
        "exact_bits_a_position": lines_where_known(lengths[counts.exact], logs[:, counts.exact])[0],
        "late_bits_a_position": np.diff(logs[:, -2:], axis=1)[:, 0] / (lengths[-1] - lengths[-2]),
        "exponential_better": information[fitted] > 0,
        "aic_difference": information[fitted],
        "polynomial_exponent": powers[fitted],
    }
    known = {quantity: values[np.isfinite(values)] for quantity, values in found.items()}
    return {quantity: estimate.from_values(values) for quantity, values in known.items() if len(values) > 1}


def _growth_claims(
    counts: Counts,
    exponent: float,
    where: str,
    kinds: dict[str, int],
    chosen: np.ndarray,
    estimates: dict[str, estimate.Estimate],
) -> list[harness.Claim]:
    gaps = int((~(counts.zero[chosen] > 0).all(1)).sum())
    first, before, after, last_exact = (
        int(n) for n in (*counts.lengths[[0, -2, -1]], counts.lengths[counts.exact][-1])
    )
    floor, sampled = slowest(counts, exponent), int(counts.strings[-1])
    sight = f"evidence, not proof: it rests on all strings to N = {last_exact}, and on the share of strings of "
    sight += f"sensitivity 0 being at least about 1/{sampled} at N = {after}, or else none being seen in {sampled}"
    sight += "" if exponent > 0 else "; the exponent of the floor is not positive: it does not grow"
    claims = [
        share_claim(
            "C22", f"share of models whose log2 K_0 grows faster than the floor's {floor:.3f} bits a position from "
            f"N = {before} to {after}, beyond 95 % limits; {where}",
            "open; perhaps exponential", "s.7, Thm. 4.5",
            (kinds["faster"], kinds["undecided"] + kinds["unseen"], int(chosen.sum())),
            f"held if its interval lies above {MOST:g}: of most models; {kinds['faster']} faster, {kinds['slower']} "
            f"not, {kinds['undecided']} undecided, {kinds['unseen']} unseen at one of the two lengths; {sight}",
            above=MOST,
        )
    ]  # fmt: skip
    quantities = {
        "exponential_better": f"share of models whose K_0 over N = {first} .. {after} an exponential fits better than "
        "a power of N (AIC)",
        "bits_a_position": f"growth of log2 K_0, bits a position over N = {first} .. {after}",
        "exact_bits_a_position": f"growth of log2 K_0, bits a position over N = {first} .. {last_exact}, all strings",
    }
    for quantity, text in quantities.items():
        if quantity in estimates:
            one = estimates[quantity]
            note = f"over the lengths at which a model shows such a string: {gaps} of {chosen.sum()} models have gaps, "
            note += f"{chosen.sum() - one.count} are left out, with fewer than {FEWEST_LENGTHS}"
            note += "" if quantity == "exact_bits_a_position" else f"; {sight}"
            claims.append(claim("", f"{text}; {where}", None, "s.7", one, note))
    return claims


def _floor_claim(counts: Counts, exponent: float, where: str) -> harness.Claim:
    after, floor = int(counts.lengths[-1]), exponent * math.log2(counts.lengths[-1])
    kinds = {name: int(members.sum()) for name, members in counts.against_floor(exponent).items()}
    quantity = (
        f"share of models with K_0 at least the floor at N = {after}, N^((D-1)/2L-5) = 2^{floor:.3g} of 2^{after}"
    )
    text = ("C22", f"{quantity}; {where}", "with probability 1, for all large N", "s.4, Thm. 4.5")
    if exponent <= 0:
        note = (
            f"exponent {exponent:.3g} not positive: the floor promises nothing at any N, and there is nothing to judge"
        )
        return harness.Claim(*text, verdict="", note=note)
    found = (kinds["at_least_floor"], kinds["floor_undecided"], len(counts.zero))
    note = f"held if its interval lies above {NEARLY:g}: of nearly all models; by 95 % limits of K_0 {found[0]} are at "
    note += f"least there, {kinds['below_floor']} below, {found[1]} undecided: too few such strings were seen, or none"
    return at_finite_lengths(share_claim(*text, found, note, above=NEARLY))


def _panel(counts: Counts, varied: np.ndarray, exponent: float) -> figures.Panel:
    series, fits, lengths, logs = {}, {}, counts.lengths, counts.logs
    groups = {"all models": np.full(len(logs), True), "not constant": varied}
    for label, chosen in groups.items():
        several = (counts.zero[chosen] > 0).sum(0) > 1
        if not several.any():
            continue
        columns = [column[np.isfinite(column)] for column in logs[chosen].T[several]]
        series[label] = (lengths[several], *np.exp2([triple(estimate.from_values(one)) for one in columns]).T)
        if fit := _fit(lengths, lambda n: n, logs[chosen], "bits a position"):
            fits[label] = fit
    if fit := _fit(lengths, np.log2, logs[groups[list(series)[-1]]] if series else logs, "exponent"):
        fits["power of N"] = fit
    bounds = {"2^N": (lengths, 2.0**lengths)}
    drawn = np.linspace(lengths[0], lengths[-1], 200)
    below = drawn**exponent < 2.0**drawn
    if exponent > 0 and below.any():
        bounds[f"floor N^{exponent:.2g}"] = (drawn[below], drawn[below] ** exponent)
    return figures.Panel(series, fits, bounds)


def _fit(
    lengths: np.ndarray, of_length: Callable[[np.ndarray], np.ndarray], logs: np.ndarray, meaning: str
) -> figures.Fit | None:
    """Return the mean over models of the lines through ``log2 K_0``; None where fewer than two models have one."""
    slopes, offsets, _, _ = lines_where_known(of_length(lengths), logs)
    fitted = np.isfinite(slopes)
    if fitted.sum() < 2:
        return None
    drawn = np.linspace(lengths[0], lengths[-1], 200)  # a power is curved on this axis
    values = np.exp2(offsets[fitted].mean() + slopes[fitted].mean() * of_length(drawn))
    return figures.Fit(drawn, values, triple(estimate.from_values(slopes[fitted])), meaning)
