"""Verdicts on the theorems of the paper and on claims C21 and C22: their rules and rows.

Statements about all large N are judged at the lengths that were measured, in both directions: "contradicted" means that
it is not so at these lengths. No finite N refutes, or proves, a statement about N without bound.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from experiments.harness import Claim, verdicts
from experiments.harness.verdicts import NOT_TRAINED, Design, Verdict
from experiments.recognizer_geometry import labels
from experiments.recognizer_geometry.config import Config
from experiments.recognizer_geometry.counts import Counts, Group, groups
from experiments.recognizer_geometry.estimates import Decay, Slope, Units, lemma_exponent
from experiments.recognizer_geometry.fits import FEWEST_LENGTHS, LONGEST, floor_exponent
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

TOLERANCE = 0.05
"""How far above its bound a slope counts as equal: c / (N + k) is O(1/N), and over N = 128 to 512 has the slope -0.996
for k = 1 and -0.952 for k = 12."""

ROUNDING = 1e-9
"""By how much the ratio of a blow-up to its bound may exceed 1."""

NEARLY_ALL = 0.9
"""The share of models must lie above this to support a claim about nearly all of them."""

MOST = 0.5
"""The share of models must lie above this to support a claim about most of them."""

UNBOUNDED = ("parity", "first-growing")
"""Constructions with positions p(n) that have no bound."""

BOUNDED = partial(verdicts.no_exception)
FALLS = partial(verdicts.slope, tolerance=TOLERANCE)
INFLUENCE = partial(FALLS, at_most=-1.0)
FASTER = partial(verdicts.share, above=MOST)
AT_FLOOR = partial(verdicts.share, above=NEARLY_ALL)

Judged = tuple[Claim, Verdict | None]
"""A row and its verdict, before verdicts on one claim are corrected together; None where it has none."""


def bound_claims(config: Config, units: Units, built: Units) -> list[Judged]:
    """Lem. 3.2: no blow-up is above its bound. A theorem on all models and strings, so that one exception decides."""
    worst = max(units, key=lambda setting: units[setting]["ratio"].max())
    drawn = float(units[worst]["ratio"].max())
    ratios = {setting: float(unit["blow_up_ratio"]) for setting, unit in built.items() if setting[1] > 0}
    note = f"random models {drawn:.6g}"
    if ratios:
        closest = max(ratios, key=ratios.__getitem__)
        note += f"; built by hand {ratios[closest]:.9g}, by {labels.CONSTRUCTIONS[closest[0]]}"
    largest = max(drawn, *ratios.values()) if ratios else drawn
    strings = f"random strings of {config.bound_length} bits"
    return [
        (
            Claim(
                "Lem. 3.2", "largest beta^L / bound", "at most 1", "s.3, Lem. 3.2",
                subject="random models and models built by hand", dataset=f"{strings}, and those of the margins",
                measured=largest, low=largest, high=largest, note=note,
            ),
            bound_verdict(units, ratios.values()),
        ),
        (
            Claim.of(
                "", "largest beta^L / bound of a model", estimate.from_values(units[worst]["ratio"].max(1)),
                place="s.3, Lem. 3.2", subject=f"{labels.shape(worst[0], config.width)}, epsilon = {worst[1]:g}",
                dataset=strings, note="the setting that comes closest to the bound",
            ),
            None,
        ),
    ]  # fmt: skip


def bound_verdict(units: Units, built: Iterable[float]) -> Verdict:
    """Judge that no blow-up is above its bound: the random models are the sample, one built by hand may contradict."""
    largest: dict[int, np.ndarray] = {}
    for (depth, _), unit in units.items():  # the models of a depth are the same for every epsilon
        each = unit["ratio"].max(1)
        largest[depth] = np.maximum(largest.get(depth, each), each)
    ratios = np.concatenate(list(largest.values()))
    exceptions = int((ratios > 1 + ROUNDING).sum() + sum(ratio > 1 + ROUNDING for ratio in built))
    return BOUNDED(min(exceptions, len(ratios)), len(ratios), design=NOT_TRAINED)


def influence_claims(units: Units, slopes: Iterable[Slope]) -> list[Judged]:
    """C21 (Cor. 3.3): the influence of a bit on the end of string falls as 1/N or faster."""
    rows = []
    for slope in slopes:
        if slope.which == "all" or not slope.quantity.startswith("activation"):
            continue
        encoding, epsilon, half_width = slope.setting
        first, last = slope.lengths[0], slope.lengths[-1]
        span = float(units[*slope.setting, last]["span"].mean())
        note = f"scores of the end of string range over {span:.3g} nats in layer 1; ln {first} = {math.log(first):.3g}"
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
            rows.append((Claim("C21", quantity, **fields), influence_verdict(None, span, first)))
        else:
            row = Claim.of("C21", quantity, slope.estimate, **fields)
            rows.append((row, influence_verdict(slope.estimate, span, first)))
    return rows


def influence_verdict(slope: Estimate | None, span: float, first: int, *, design: Design = NOT_TRAINED) -> Verdict:
    """Judge that the influence falls as 1/N or faster, where these lengths can tell.

    A bit has at most ``e^span / N`` of the attention of the end of string, with ``span`` the range of the scores. Where
    that is above 1 at the shortest length, the constant of O(1/N) leaves no bound, and the slope is not judged.

    Args:
        slope: The slope of ln influence, over models; None if fewer than two models have one.
        span: The range of the scores, in nats, mean over models.
        first: The shortest length.
        design: The models are not trained.
    """
    if slope is None:
        reason = "fewer than two models have an influence above 0 at every N"
        return replace(INFLUENCE(estimate.from_values([0.0]), design=design), units=0, reason=reason)
    verdict = INFLUENCE(slope, design=design)
    if span <= math.log(first) or verdict.reason:
        return verdict
    reason = f"scores range over {span:.3g} nats, more than ln {first} = {math.log(first):.3g}: "
    return replace(
        verdict, name="inconclusive", error=1.0, reason=reason + "e^range / N bounds nothing at these lengths"
    )


def margin_claims(rows: Sequence[Mapping[str, Any]]) -> list[Judged]:
    """Cor. 3.4: with epsilon a margin is lost at some length; from the rows of margin_lengths.csv."""
    claims = []
    for row in rows:
        judged, closed = row["epsilon"] > 0, row["closed_form_first_order"]
        note = f"closed form: {f'kept at all N to {LONGEST:g}' if closed is None else closed}; "
        note += f"late slope of ln margin {row['late_slope']:.3g}"
        if row["construction"] in UNBOUNDED:
            note += "; p(n) has no bound, which the corollary does not ask for in words"
        longest, tried = row["longest_kept"], row["longest_tried"]
        claim = Claim(
            "Cor. 3.4" if judged else "", f"longest N that keeps a margin of {row['margin']:g}",
            "finite" if judged else None, "s.3, Cor. 3.4",
            subject=f"{labels.CONSTRUCTIONS[row['construction']]}, epsilon = {row['epsilon']:g}",
            dataset=f"strings of up to {tried} bits", measured=longest, low=longest, high=longest, note=note,
        )  # fmt: skip
        claims.append((claim, margin_verdict(longest, tried, closed) if judged else None))
    return claims


def margin_verdict(longest: int, tried: int, closed: int | None, *, design: Design = NOT_TRAINED) -> Verdict:
    """Judge that a construction loses a margin: one case, which is decided without an error.

    Args:
        longest: The longest length that keeps it.
        tried: The longest that was tried.
        closed: The longest that keeps it by the closed form; None if all do, up to `LONGEST`.
        design: The models are not trained.
    """
    kept = longest == tried and closed is None
    reason = "" if 0 < longest < tried or kept else "no length that was tried keeps the margin"
    if longest == tried and closed is not None:
        reason = f"all lengths that were tried keep it; by the closed form the last one is {closed}"
    verdict = BOUNDED(int(kept), 1, design=design, exhaustive=True)
    return replace(
        verdict,
        name="inconclusive" if reason else verdict.name,
        error=1.0 if reason else verdict.error,
        rule="a length keeps the margin, the longest that was tried does not",
        contradicted_if=f"the longest that was tried keeps it, and so do all to {LONGEST:g} by the closed form",
        power_at="a margin that is lost within the lengths that were tried",
        reason=reason,
    )


def blow_up_claims(config: Config, decays: Iterable[Decay]) -> list[Judged]:
    """Lem. 4.2: without epsilon the frequency of blow-ups falls as a power of N."""
    rows = []
    for decay in decays:
        depth, width, weights = decay.setting
        claim = Claim.of(
            "Lem. 4.2", f"exponent of P[a layer's tau > 1 + N^({config.zeta:g}/2L)] against N", decay.exponent,
            published=f"at most {decay.lemma:.3f} as N grows", place="s.4, Lem. 4.2 (k = 0)",
            subject=f"{labels.shape(depth, width)}, {weights} weights",
            dataset=labels.lengths(int(decay.lengths[0]), int(decay.lengths[-1])),
            note=f"{config.centers} centers, {config.draws} draws of weights for each",
        )  # fmt: skip
        rows.append((claim, FALLS(decay.exponent, at_most=decay.lemma, design=NOT_TRAINED)))
    return rows


def growth_claims(each: Sequence[Counts]) -> list[Judged]:
    """C22 (s.7): growth of the number of strings of sensitivity 0."""
    return [row for counts in each for group in groups(counts) for row in _growth_claims(group)]


def floor_claims(each: Sequence[Counts]) -> list[Judged]:
    """C22 (Thm. 4.5): the number of strings of sensitivity 0 is above its floor."""
    return [_floor_claim(counts) for counts in each]


def _growth_claims(group: Group) -> list[Judged]:
    counts, kinds, growth = group.counts, group.categories, group.growth()
    first, before, after = (int(n) for n in counts.lengths[[0, -2, -1]])
    last_exact = int(counts.lengths[counts.exact][-1])
    subject = f"{labels.shape(counts.depth, counts.width)}, {group.name}"
    note = f"beyond 95 % limits {kinds['faster']} faster, {kinds['slower']} not, "
    note += f"{kinds['undecided']} undecided, {kinds['unseen']} without such a string at one of the two lengths"
    row = Claim(
        "C22", "share of models with log2 K_0 growing faster than the floor", measured=kinds["faster"] / group.size,
        published="open; perhaps exponential", place="s.7, Thm. 4.5", subject=subject,
        reference=f"floor: {counts.floor_growth:.3f} bits a position", dataset=f"strings, N = {before} to {after}",
        note=note,
    )  # fmt: skip
    undecided = kinds["undecided"] + kinds["unseen"]
    rows = [(row, FASTER(kinds["faster"], group.size, design=NOT_TRAINED, undecided=undecided))]
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
            rows.append((Claim.of("", quantity, growth[name], **fields), None))
    return rows


def _floor_claim(counts: Counts) -> Judged:
    after, models = int(counts.lengths[-1]), len(counts.zero)
    kinds = {name: int(members.sum()) for name, members in counts.against_floor().items()}
    fields = {
        "published": "with probability 1, for all large N", "place": "s.4, Thm. 4.5",
        "subject": labels.shape(counts.depth, counts.width), "dataset": f"strings, N = {after}",
        "reference": f"floor: N^((D-1)/2L-5) = 2^{counts.floor:.3g} of 2^{after}",
    }  # fmt: skip
    quantity = "share of models with K_0 at least the floor"
    if counts.exponent <= 0:
        note = f"the exponent {counts.exponent:.3g} is not positive: the theorem promises nothing at any N"
        return Claim("C22", quantity, note=note, **fields), None
    holding, undecided = kinds["at_least_floor"], kinds["floor_undecided"]
    note = f"by 95 % limits of K_0 {holding} at least there, {kinds['below_floor']} below, {undecided} undecided"
    verdict = AT_FLOOR(holding, models, design=NOT_TRAINED, undecided=undecided)
    return Claim("C22", quantity, measured=holding / models, note=note, **fields), verdict


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return every rule by which claims are judged, with its units at these settings."""
    slopes = 2 * len(config.influence_settings) * len(config.half_widths)
    growths, decays = 2 * len(config.count_shapes), 4 * len(config.shapes)
    floors = sum(floor_exponent(*shape) > 0 for shape in config.count_shapes)
    drawn = {"units": config.models, "design": NOT_TRAINED}
    margins = [(5, 9, 5), (9, 9, None), (9, 9, 12)]
    every = {
        "Lem. 3.2": verdicts.Use(BOUNDED, units=config.models * len(config.bound_depths), design=NOT_TRAINED),
        "C21": verdicts.Use(INFLUENCE, **drawn, together=slopes),
        "Cor. 3.4": verdicts.Use(margin_verdict, units=1, design=NOT_TRAINED, examples=margins),
        "C22, growth": verdicts.Use(FASTER, **drawn, together=growths),
        "C22, floor": verdicts.Use(AT_FLOOR, **drawn, together=floors),
    }
    for depth, width in config.shapes:
        rule = partial(FALLS, at_most=lemma_exponent(config, depth, width))
        every[f"Lem. 4.2, {labels.shape(depth, width)}"] = verdicts.Use(
            rule, units=config.centers, design=NOT_TRAINED, together=decays
        )
    return every
