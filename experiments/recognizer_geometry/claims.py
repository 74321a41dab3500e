"""Verdicts on the theorems of the paper and on claims C21 and C22: their rules and rows."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.harness import Claim
from experiments.recognizer_geometry import labels
from experiments.recognizer_geometry.config import Config
from experiments.recognizer_geometry.counts import Counts, Group, groups
from experiments.recognizer_geometry.estimates import Decay, Slope, Units
from experiments.recognizer_geometry.fits import FEWEST_LENGTHS, LONGEST
from jaxsens.statistics import estimate

FAINT = 0.1
"""How far above -1 the interval of a slope may reach and still count as O(1/N), if -1 is inside it or above it."""

NEARLY_ALL = 0.9
"""The interval of a share of models must lie above this to support a claim about nearly all of them."""

MOST = 0.5
"""The interval of a share of models must lie above this to support a claim about most of them."""

UNBOUNDED = ("parity", "first-growing")
"""Constructions with positions p(n) that have no bound."""


def slope_verdict(low: float, high: float, models: int) -> str:
    """Judge whether a slope is that of O(1/N): supported if its interval ends below -0.9 and is not wholly above -1.

    A law of exactly 1/N has an interval around -1; for a steady N^-0.92 it lies between -1 and -0.9: contradicted.
    """
    if models < 3:
        return "inconclusive"
    if low > -1:
        return "contradicted"
    return "supported" if high < -1 + FAINT else "inconclusive"


def longest_verdict(longest: int, longest_tried: int) -> str:
    """Judge whether a margin is lost for good: supported if a length keeps it and the longest that was tried does not.

    If no length that was tried keeps the margin, there was nothing to lose.
    """
    return "supported" if 0 < longest < longest_tried else "inconclusive"


def at_finite_lengths(claim: Claim) -> Claim:
    """Return the claim with no verdict against it: no finite N refutes a claim about N without bound."""
    if claim.verdict != "contradicted":
        return claim
    return dataclasses.replace(claim, verdict="inconclusive", note=f"not so at these lengths; {claim.note}")


def share_claim(quantity: str, counted: tuple[int, int, int], *, above: float, **fields: Any) -> Claim:
    """Return a row on the share of models that have a property, claim C22.

    Undecided models can neither confirm nor refute: the low end of the interval is that of Clopper and Pearson with
    them among the models without the property, the high end that with them among the models with it.

    Args:
        quantity: What the share is of.
        counted: How many models have the property, how many are undecided, and how many there are in all.
        above: What the interval must lie above to support the claim.
        **fields: Other fields of the claim.
    """
    holding, undecided, total = counted
    low = float(estimate.clopper_pearson(np.array(holding), total)[0])
    high = float(estimate.clopper_pearson(np.array(holding + undecided), total)[1])
    verdict = harness.verdict((low, high), seeds=total, above=above)
    return Claim("C22", quantity, measured=holding / total, low=low, high=high, verdict=verdict, **fields)


def bound_claims(config: Config, units: Units, built: Units) -> list[Claim]:
    """Lem. 3.2: no blow-up is above its bound. A theorem on all models and strings, so that the largest decides."""
    worst = max(units, key=lambda setting: units[setting]["ratio"].max())
    drawn = float(units[worst]["ratio"].max())
    ratios = {setting: float(unit["blow_up_ratio"]) for setting, unit in built.items() if setting[1] > 0}
    note = f"supported if at most 1; random models {drawn:.6g}"
    if ratios:
        closest = max(ratios, key=ratios.__getitem__)
        note += f"; built by hand {ratios[closest]:.9g}, by {labels.CONSTRUCTIONS[closest[0]]}"
    largest = max(drawn, *ratios.values()) if ratios else drawn
    strings = f"random strings of {config.bound_length} bits"
    return [
        Claim(
            "Lem. 3.2", "largest beta^L / bound", "at most 1", "s.3, Lem. 3.2",
            subject="random models and models built by hand", dataset=f"{strings}, and those of the margins",
            measured=largest, low=largest, high=largest,
            verdict=harness.verdict((largest, largest), seeds=None, below=1.0 + 1e-9), note=note,
        ),
        Claim.of(
            "", "largest beta^L / bound of a model", estimate.from_values(units[worst]["ratio"].max(1)),
            place="s.3, Lem. 3.2", subject=f"{labels.shape(worst[0], config.width)}, epsilon = {worst[1]:g}",
            dataset=strings, note="the setting that comes closest to the bound",
        ),
    ]  # fmt: skip


def influence_claims(units: Units, slopes: Iterable[Slope]) -> list[Claim]:
    """C21 (Cor. 3.3): the influence of a bit on the end of string falls as 1/N or faster."""
    claims = []
    for slope in slopes:
        if slope.which == "all" or not slope.quantity.startswith("activation"):
            continue
        encoding, epsilon, half_width = slope.setting
        first, last = slope.lengths[0], slope.lengths[-1]
        span = float(units[*slope.setting, last]["span"].mean())
        note = f"supported below -1 + {FAINT:g} with -1 in the interval or above it; scores of the end of string range "
        note += f"over {span:.3g} nats in layer 1, ln N = {math.log(last):.3g}"
        if not slope.kept.all():
            note += f"; {(~slope.kept).sum()} of {len(slope.kept)} models left out, with an influence of 0 at some N"
        fields = {
            "published": "at most -1 as N grows", "place": "s.3, Cor. 3.3", "note": note,
            "subject": f"{labels.encoding(encoding, epsilon)}, {labels.parameters(half_width)}",
            "dataset": labels.lengths(first, last),
        }  # fmt: skip
        over = "mean" if slope.quantity.endswith("mean") else "largest"
        quantity = f"slope of ln influence on the activation against ln N, {over} over bits and strings"
        if slope.estimate is None:
            claims.append(Claim("C21", quantity, verdict="inconclusive", **fields))
            continue
        claim = Claim.of("C21", quantity, slope.estimate, **fields)
        verdict = slope_verdict(claim.low, claim.high, slope.estimate.count)
        claims.append(at_finite_lengths(dataclasses.replace(claim, verdict=verdict)))
    return claims


def margin_claims(rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Cor. 3.4: with epsilon a margin is lost at some length; from the rows of margin_lengths.csv."""
    claims = []
    for row in rows:
        judged, closed = row["epsilon"] > 0, row["closed_form_first_order"]
        note = "supported if a length keeps it and the longest that was tried does not; " if judged else ""
        note += f"closed form: {f'kept at all N to {LONGEST:g}' if closed is None else closed}; "
        note += f"late slope of ln margin {row['late_slope']:.3g}"
        if row["construction"] in UNBOUNDED:
            note += "; p(n) has no bound, which the corollary does not ask for in words"
        longest, tried = row["longest_kept"], row["longest_tried"]
        claims.append(
            Claim(
                "Cor. 3.4" if judged else "", f"longest N that keeps a margin of {row['margin']:g}",
                "finite" if judged else None, "s.3, Cor. 3.4",
                subject=f"{labels.CONSTRUCTIONS[row['construction']]}, epsilon = {row['epsilon']:g}",
                dataset=f"strings of up to {tried} bits", measured=longest, low=longest, high=longest,
                verdict=longest_verdict(longest, tried) if judged else "", note=note,
            )
        )  # fmt: skip
    return claims


def blow_up_claims(config: Config, decays: Iterable[Decay]) -> list[Claim]:
    """Lem. 4.2: without epsilon the frequency of blow-ups falls as a power of N."""
    claims = []
    for decay in decays:
        depth, width, weights = decay.setting
        claim = Claim.of(
            "Lem. 4.2", f"exponent of P[a layer's tau > 1 + N^({config.zeta:g}/2L)] against N", decay.exponent,
            published=f"at most {decay.lemma:.3f} as N grows", place="s.4, Lem. 4.2 (k = 0)",
            subject=f"{labels.shape(depth, width)}, {weights} weights",
            dataset=labels.lengths(int(decay.lengths[0]), int(decay.lengths[-1])),
            verdict=harness.verdict(decay.exponent.interval(), seeds=decay.exponent.count, below=decay.lemma),
            note=f"{config.centers} centers, {config.draws} draws of weights for each",
        )  # fmt: skip
        claims.append(at_finite_lengths(claim))
    return claims


def count_claims(counts: Counts) -> list[Claim]:
    """C22 (Thm. 4.5): growth of the number of strings of sensitivity 0, and the floor that it has."""
    return [claim for group in groups(counts) for claim in _growth_claims(group)] + [_floor_claim(counts)]


def _growth_claims(group: Group) -> list[Claim]:
    counts, kinds, growth = group.counts, group.categories, group.growth()
    first, before, after = (int(n) for n in counts.lengths[[0, -2, -1]])
    last_exact = int(counts.lengths[counts.exact][-1])
    subject = f"{labels.shape(counts.depth, counts.width)}, {group.name}"
    note = f"supported above {MOST:g}; beyond 95 % limits {kinds['faster']} faster, {kinds['slower']} not, "
    note += f"{kinds['undecided']} undecided, {kinds['unseen']} without such a string at one of the two lengths"
    claims = [
        share_claim(
            "share of models with log2 K_0 growing faster than the floor",
            (kinds["faster"], kinds["undecided"] + kinds["unseen"], group.size), above=MOST,
            published="open; perhaps exponential", place="s.7, Thm. 4.5", subject=subject,
            reference=f"floor: {counts.floor_growth:.3f} bits a position", dataset=f"strings, N = {before} to {after}",
            note=note,
        )
    ]  # fmt: skip
    quantities = {
        "exponential_better": ("share of models with K_0 fitted better by an exponential than by a power of N", after),
        "bits_a_position": ("growth of log2 K_0 (bits a position)", after),
        "exact_bits_a_position": ("growth of log2 K_0 (bits a position)", last_exact),
    }
    for name, (quantity, last) in quantities.items():
        if name in growth:
            note = f"{group.with_gaps} of {group.size} models have gaps; {group.size - growth[name].count} left out, "
            note += f"with such strings at fewer than {FEWEST_LENGTHS} lengths"
            strings = f"{'all' if last == last_exact else 'all or sampled'} strings, N = {first} to {last}"
            fields = {"place": "s.7", "subject": subject, "dataset": strings, "note": note}
            claims.append(Claim.of("", quantity, growth[name], **fields))
    return claims


def _floor_claim(counts: Counts) -> Claim:
    after = int(counts.lengths[-1])
    kinds = {name: int(members.sum()) for name, members in counts.against_floor().items()}
    fields = {
        "published": "with probability 1, for all large N", "place": "s.4, Thm. 4.5",
        "subject": labels.shape(counts.depth, counts.width), "dataset": f"strings, N = {after}",
        "reference": f"floor: N^((D-1)/2L-5) = 2^{counts.floor:.3g} of 2^{after}",
    }  # fmt: skip
    quantity = "share of models with K_0 at least the floor"
    if counts.exponent <= 0:
        note = f"the exponent {counts.exponent:.3g} is not positive: the theorem promises nothing at any N"
        return Claim("C22", quantity, note=note, **fields)
    counted = (kinds["at_least_floor"], kinds["floor_undecided"], len(counts.zero))
    note = f"supported above {NEARLY_ALL:g}; by 95 % limits of K_0 {counted[0]} at least there, "
    note += f"{kinds['below_floor']} below, {counted[1]} undecided"
    return at_finite_lengths(share_claim(quantity, counted, above=NEARLY_ALL, note=note, **fields))
