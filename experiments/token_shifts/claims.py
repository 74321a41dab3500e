"""Verdicts of ``experiments.token_shifts``: claims C16 to C19, and what causes the drop in the last layer.

MiniLM as published is one model that was not trained here: its units are texts, or tokens. Small models with random
weights are a sample of models, which are the units. Models that are trained here at one learning rate are measured, and
not judged: that takes a grid of rates (`experiments.harness.verdicts.Design`).
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from experiments.harness import Claim, corrected, verdicts
from experiments.harness.verdicts import FEWEST_SEEDS, NOT_TRAINED, Design, Verdict
from experiments.token_shifts import estimates
from experiments.token_shifts.config import KINDS, STATES, Config
from experiments.token_shifts.estimates import Findings, Models, Results, over_models, step
from experiments.token_shifts.labels import NAMES, model_label
from experiments.token_shifts.measure import PAIRS, SCALES
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

__all__ = ["causes", "claims", "uses"]

PAPER = "Conti et al."
CONTROL = "control, not in the paper"

FIRM = 0.9
"""Threshold, chosen here, above which a correlation supports "the norm hardly matters", and a rate C19."""

# Powers are for half a standard deviation of a unit: about that is r = -0.42, as published.
ABOVE = partial(verdicts.mean, above=0.0, effect=0.5)
BELOW = partial(verdicts.mean, below=0.0, effect=0.5)
FIRMLY = partial(verdicts.mean, above=FIRM, effect=0.5)
RISES = partial(verdicts.rises_in_each, above=0.0, effect=0.5)

PUBLISHED_AGREEMENT = {("l1", "l2"): (0.99, 0.96), ("l2", "linf"): (0.99, 0.92), ("l1", "linf"): (0.99, 0.95)}
"""Pearson's correlation of counts, and Spearman's of the top 20 (s.3.1)."""

PUBLISHED_LINE = {"slope": -5.21, "r": -0.42}
"""Of the shift in l2 against commonness: from the points of the published figure 2."""

PUBLISHED_STEPS = {
    "rise": "about +0.60 (layer 0 to 11 of 12, figure 3)",
    "smallest": "about -0.03 (layer 10 of 12, figure 3): the drop begins before the last layer",
    "last": "about -0.32 (layer 12 of 12, figure 3)",
}

Judged = tuple[Claim, Verdict | None]
"""A row and its verdict, before verdicts on one claim are corrected together."""


def claims(config: Config, texts: str, results: Results, findings: Findings) -> list[Claim]:
    """Return all rows of comparison.csv.

    Args:
        config: Settings of the run.
        texts: Name of the texts, for the column ``dataset``.
        results: What was measured.
        findings: Estimates of the run.
    """
    rows: list[Judged] = []
    for (kind, state), models in results.items():
        design = design_of(config, kind, state, len(models))
        judged = list(_layers(kind, models, design)) + list(_norms(config, kind, state, models, design, findings))
        if kind != "vit":
            judged += [*_commonness(kind, state, design, findings), *_identified(kind, models, design)]
        judged.sort(key=lambda pair: pair[0].claim)
        rows += [(replace(row, subject=model_label(kind, state)), verdict) for row, verdict in judged]
    rows += causes(config, results)
    return [replace(row, dataset=config.images if "ViT" in row.subject else texts) for row in corrected(rows)]


def design_of(config: Config, kind: str, state: str, models: int) -> Design:
    """Return how the models of a kind were made: as published, drawn, or trained here at one learning rate."""
    if state == "after":
        rate = config.learning_rate if kind == "minilm" else config.small_learning_rate
        return Design(models, {NAMES[kind]: (rate,)}, {NAMES[kind]: rate})
    # Of random weights there must be as many as of trained ones.
    return NOT_TRAINED if kind == "minilm" or models >= FEWEST_SEEDS else Design(models)


def _row(
    claim: str, quantity: str, published: Any, place: str, value: Estimate | None, rule: Any, design: Design
) -> Judged:
    """Return the row of an estimate and its verdict by a rule."""
    fields = {"published": published, "place": place}
    if value is not None:
        return Claim.of(claim, quantity, value, **fields), rule(value, design=design)
    nothing = rule(estimate.from_values([0.0]), design=design)
    return Claim(claim, quantity, **fields), replace(nothing, units=0, reason="constant counts have no correlation")


def _commonness(kind: str, state: str, design: Design, findings: Findings) -> Iterator[Judged]:
    """C16: rare tokens shift embeddings more."""
    for (name, scale, controlled), fit in findings.lines[kind, state].items():
        for what in ("slope", "r"):
            if what == "slope" and (scale == "relative" or controlled):
                continue
            text = f"{what} of the {scale} shift of the embedding, l2, against commonness in "
            text += "the corpus" if name == "corpus" else "the language (wordfreq)"
            text += ", norm of the row and distance to its neighbor held fixed" if controlled else ""
            published = PUBLISHED_LINE[what] if scale == "absolute" and not controlled else CONTROL
            yield _row("C16", text, published, f"{PAPER}, s.3.2, figure 2", fit[what], BELOW, design)


def _layers(kind: str, models: Models, design: Design) -> Iterator[Judged]:
    """C17: shifts grow with depth, except in the last layer."""
    place = f"{PAPER}, s.3.3, figure 3"
    for chosen, who in (("least", "least-shifting"), ("random", "random")):
        for scale in SCALES:
            values = estimates.shifts(models, chosen, "whole", scale)
            last = estimates.depth_of(kind, values.shape[-1])
            about = f"{who} tokens, {scale} shift:"
            plain = chosen == "least" and scale == "absolute"
            published = PUBLISHED_STEPS if plain else dict.fromkeys(PUBLISHED_STEPS, CONTROL)
            rise = over_models(step(values, 0, last - 1))
            text = f"{about} ln(state {last - 1} / state 0), rises"
            yield _row("C17", text, published["rise"], place, rise, ABOVE, design)
            if last > 2 and chosen == "least":
                steps = estimates.steps(values, last - 1)
                layer = int(np.argmin([float(one.mean) for one in steps]))
                text = f"{about} the smallest ln step before the last layer (layer {layer + 1}), rises in each"
                row = Claim.of("C17", text, steps[layer], published=published["smallest"], place=place)
                yield row, RISES(steps, design=design)
            drop = over_models(step(values, last - 1, last))
            text = f"{about} ln(state {last} / state {last - 1}), falls in the last layer"
            yield _row("C17", text, published["last"], place, drop, BELOW, design)
            if kind in estimates.NORMALIZED_AT_THE_END:
                read = over_models(step(values, last - 1, last + 1))
                text = f"{about} ln(state {last} normalized / state {last - 1}), falls as the read-out sees it"
                yield _row("C17", text, "not in the paper", place, read, BELOW, design)


def _norms(
    config: Config, kind: str, state: str, models: Models, design: Design, findings: Findings
) -> Iterator[Judged]:
    """C18: the norm hardly matters."""
    place, about = f"{PAPER}, s.3.1", "shift of the embedding,"
    for number, pair in enumerate(PAIRS):
        both = f"{pair[0]} and {pair[1]}"
        if kind != "vit":
            agreement = findings.agreements[kind, state][pair]
            for what, published in zip(("pearson", "spearman"), PUBLISHED_AGREEMENT[pair], strict=True):
                among = f"Spearman over the top {config.top} tokens" if what == "spearman" else "Pearson over tokens"
                text = f"{about} counts of least-shifting tokens under {both}: {among} is above {FIRM:g}"
                yield _row("C18", text, published, place, agreement[what], FIRMLY, design)
        within = over_models(estimates.stacked(models, "agreement")[:, number])
        whole = "an image" if kind == "vit" else "a text"
        text = f"{about} Spearman of {both} over the tokens of {whole} is above {FIRM:g}"
        yield _row("C18", text, CONTROL, place, within, FIRMLY, design)


def _identified(kind: str, models: Models, design: Design) -> Iterator[Judged]:
    """C19: states of early layers identify their token."""
    values = estimates.stacked(models, "identified")
    last = estimates.depth_of(kind, values.shape[-1])
    half = last // 2
    early = over_models(values[..., half], rate=True)
    change = over_models(values[..., last] - values[..., half])
    about, place = "share of states nearest to their own token's row,", f"{PAPER}, s.3.3"
    text = f"{about} state {half} of {last}, is above {FIRM:g}"
    yield _row("C19", text, "one example", place, early, FIRMLY, design)
    text = f"{about} state {last} minus state {half}, is below 0"
    yield _row("C19", text, "one example", place, change, BELOW, design)


def causes(config: Config, results: Results) -> Iterator[Judged]:
    """C17's drop in the last layer: is it an effect of the task, the architecture, or the last normalization?

    Differences of ``ln(last state / the one before)``, least-shifting tokens, paired over sequences.
    """
    trained = [kind for kind in KINDS if (kind, "after") in results]
    models = {key: len(each) for key, each in results.items()}
    designs = {key: design_of(config, *key, count) for key, count in models.items()}
    for scale in SCALES:
        shifts = {key: estimates.shifts(each, "least", "whole", scale) for key, each in results.items()}
        depths = {key: estimates.depth_of(key[0], values.shape[-1]) for key, values in shifts.items()}
        last_step = {key: step(values, depths[key] - 1, depths[key]) for key, values in shifts.items()}
        text = f"last ln step, {scale} shift, difference"
        for kind in trained:
            # MiniLM as published is one model for all seeds; each of the others is compared with its own beginning.
            paired = over_models(last_step[kind, "after"] - last_step[kind, "before"])
            place = f"{PAPER}, s.3.3 (attributed to the task)"
            pair = _row("C17", f"effect of the task: {text}", "below 0", place, paired, BELOW, designs[kind, "after"])
            note = "below 0 if training on the task lowers the last step"
            yield _between(pair, (kind, "after"), (kind, "before"), note)
        for state in STATES if {"bert", "gpt2"} <= set(trained) else ():
            keys = ("bert", state), ("gpt2", state)
            paired = estimate.difference(*(last_step[key] for key in keys))
            design, rule = _both(*(designs[key] for key in keys)), partial(BELOW, models=tuple(map(models.get, keys)))
            pair = _row("C17", f"effect of the architecture: {text}", None, "not in the paper", paired, rule, design)
            note = "lower where each sum is normalized; a drop only if that model's own last step is below 0"
            yield _between(pair, *keys, note)
        for kind in filter(estimates.NORMALIZED_AT_THE_END.__contains__, trained):
            for state in STATES:
                values, last = shifts[kind, state], depths[kind, state]
                change = over_models(step(values, last, last + 1))
                text = f"effect of the last normalization: ln(state {last} normalized / as it is), {scale} shift"
                row, verdict = _row("C17", text, None, "not in the paper", change, BELOW, designs[kind, state])
                note = "what the last normalization itself does: below 0 if leaving it out hides a drop"
                yield replace(row, subject=model_label(kind, state), note=note), verdict


def _both(first: Design, second: Design) -> Design:
    """Return the design of a comparison of two kinds that were made in the same way."""
    if not first.best:
        return first
    return Design(min(first.seeds, second.seeds), {**first.rates, **second.rates}, {**first.best, **second.best})


def _between(pair: Judged, subject: tuple[str, str], reference: tuple[str, str], note: str) -> Judged:
    row, verdict = pair
    return replace(row, subject=model_label(*subject), reference=model_label(*reference), note=note), verdict


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return every rule by which claims are judged, with its units at these settings.

    Those of MiniLM as published are texts or tokens, at most; of the others, models.
    """
    rules = {
        "C16": ("C16", BELOW, config.bins * config.per_bin), "C17, first to last": ("C17", ABOVE, config.followed),
        "C17, each layer": ("C17", RISES, config.followed), "C17, last layer": ("C17", BELOW, config.followed),
        "C18": ("C18", FIRMLY, config.sequences), "C19, rate": ("C19", FIRMLY, config.identified),
        "C19, change": ("C19", BELOW, config.identified),
    }  # fmt: skip
    drawn, trained = (design_of(config, "bert", state, config.seeds) for state in STATES)
    together = _together(config, drawn)
    every = {}
    for name, (claim, rule, units) in rules.items():
        for of, count, design in (("as published", units, NOT_TRAINED), ("random weights", config.seeds, drawn),
                                  ("trained", config.seeds, trained)):  # fmt: skip
            every[f"{name}, {of}"] = verdicts.Use(rule, units=count, design=design, together=together[claim])
    return every


def _together(config: Config, drawn: Design) -> dict[str, int]:
    """Return how many verdicts on each claim are judged and corrected together: those on models not trained here."""
    kinds = [kind for kind in config.kinds if kind == "minilm" or not drawn.reason()]
    texts, ends = len(set(kinds) - {"vit"}), len(set(kinds) & set(estimates.NORMALIZED_AT_THE_END))
    architecture = {"bert", "gpt2"} <= set(kinds)
    # Of C17: rise, each layer and last layer; as the read-out sees it; causes, two scales each.
    layers = 10 * len(kinds) + 4 * ends + 2 * architecture + 2 * ends
    return {"C16": 10 * texts, "C17": layers, "C18": 9 * texts + 3 * ("vit" in kinds), "C19": 2 * texts}
