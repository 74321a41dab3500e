"""What ``experiments.token_shifts`` says of claims C16 to C19, and of where the fall in the last layer comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import harness
from experiments.token_shifts import estimates as judging
from experiments.token_shifts.config import KINDS, STATES, Config
from experiments.token_shifts.data import FREQUENCIES, Corpus, Reading
from experiments.token_shifts.estimates import Models, judged, over_models, step
from experiments.token_shifts.measure import PAIRS, SCALES
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

Results = Mapping[tuple[str, str], Models]
"""Kind and state to what was measured of its models."""

NAMES = {"minilm": "MiniLM", "bert": "small BERT", "gpt2": "small GPT-2", "vit": "small ViT"}
PAPER = "Conti et al."

FIRM = 0.9
"""Above which a correlation counts as "the norm hardly matters", and a rate as "stands in for the input"; ours."""

PUBLISHED_AGREEMENT = {("l1", "l2"): (0.99, 0.96), ("l2", "linf"): (0.99, 0.92), ("l1", "linf"): (0.99, 0.95)}
"""Pearson's correlation of counts, and Spearman's of the top 20 (s.3.1)."""

PUBLISHED_LINE = {"slope": -5.21, "r": -0.42}
"""Of the shift in l2 against commonness: from the points of the published figure 2."""

PUBLISHED_STEPS = {
    "rise": "about +.60 (layer 0 to 11 of 12, figure 3)",
    "smallest": "about -.03 (layer 10 of 12, figure 3): the fall begins before the last layer",
    "last": "about -.32 (layer 12 of 12, figure 3)",
}


def name_of(kind: str, state: str) -> str:
    """Return what a kind is called in one of its states."""
    if kind == "minilm":
        return f"MiniLM, {'as published' if state == 'before' else 'fine-tuned'}"
    return f"{NAMES[kind]}, {'random weights' if state == 'before' else 'trained'}"


@dataclass(frozen=True)
class Findings:
    """Estimates by kind and state, made once for tables, figures and verdicts.

    Attributes:
        agreements: Pair of norms to correlations of counts, see ``judging.agreements``.
        lines: Source of commonness, scale, and whether with controls, to ``slope``, ``r`` and ``offset``.
    """

    agreements: dict[tuple[str, str], dict[tuple[str, str], dict[str, Estimate | None]]]
    lines: dict[tuple[str, str], dict[tuple[str, str, bool], dict[str, Estimate]]]


def findings(config: Config, corpus: Corpus, readings: Mapping[str, Reading], results: Results) -> Findings:
    """Estimate what needs a bootstrap, for the models of text."""
    agreements, lines = {}, {}
    for (kind, state), models in results.items():
        if kind == "vit":
            continue
        rng = np.random.default_rng([config.seed, 3])
        reading, vocabulary = readings[kind], len(corpus.strings)
        agreements[kind, state] = judging.agreements(
            models, reading.measured.tokens, vocabulary, config.top, config.resamples, rng
        )
        lines[kind, state] = {}
        for name in FREQUENCIES:
            common = reading.points[name].commonness
            beside = np.stack([judging.mean_of(models, f"{what}_{name}") for what in ("size", "distance")], -1)
            for scale, key in zip(SCALES, ("shift", "relative"), strict=True):
                values = judging.mean_of(models, f"{key}_{name}")
                for controlled in (False, True):
                    lines[kind, state][name, scale, controlled] = judging.line(
                        common, values, config.resamples, rng, beside if controlled else None
                    )
    return Findings(agreements, lines)


def claims(config: Config, results: Results, found: Findings, setting: str) -> list[harness.Claim]:
    """Return all rows of ``comparison.csv``."""
    rows: list[dict[str, Any]] = []
    for (kind, state), models in results.items():
        if kind != "vit":
            rows += _commonness(kind, state, models, found)
        rows += _layers(kind, state, models)
        rows += _norms(config, kind, state, models, found)
        if kind != "vit":
            rows += _identified(kind, state, models)
    rows += causes(results)
    return [harness.Claim(**row | {"note": f"{row['note']}; {setting}".removeprefix("; ")}) for row in rows]


def _row(
    claim: str, quantity: str, published: Any, place: str, found: Estimate | None, verdict: str = "", note: str = "",
    level: float = 0.95,
) -> dict[str, Any]:  # fmt: skip
    row = {"claim": claim, "quantity": quantity, "published": published, "place": place, "verdict": verdict}
    if found is None:
        return row | {"note": note, "verdict": "inconclusive"}
    row |= harness.Claim.numbers(found)
    if level != 0.95:
        row |= dict(zip(("low", "high"), map(float, found.interval(level)), strict=True))
    return row | {"note": note}


def _commonness(kind: str, state: str, models: Models, found: Findings) -> list[dict[str, Any]]:
    """C16: rare tokens shift embeddings more."""
    rows, seeds = [], judging.seeds_of(kind, state, models)
    for (name, scale, controlled), fit in found.lines[kind, state].items():
        for what in ("slope", "r"):
            if what == "slope" and (scale == "relative" or controlled):
                continue
            text = f"{name_of(kind, state)}: {what} of the {scale} shift of the embedding, l2, against commonness in "
            text += "the corpus" if name == "corpus" else "the language (wordfreq)"
            text += ", norm of the row and distance to its neighbour held fixed" if controlled else ""
            plain = scale == "absolute" and not controlled
            published = PUBLISHED_LINE[what] if plain else "control, not in the paper"
            rows.append(
                _row(
                    "C16", text, published, f"{PAPER}, s.3.2, figure 2", fit[what], judged(fit[what], seeds, below=0.0)
                )
            )
    return rows


def _layers(kind: str, state: str, models: Models) -> list[dict[str, Any]]:
    """C17: shifts grow with depth, except in the last layer."""
    rows, seeds, place = [], judging.seeds_of(kind, state, models), f"{PAPER}, s.3.3, figure 3"
    for chosen, who in (("least", "least-shifting"), ("random", "random")):
        for scale in SCALES:
            values = judging.shifts(models, chosen, "whole", scale)
            last = judging.depth_of(kind, values.shape[-1])
            about = f"{name_of(kind, state)}, {who} tokens, {scale} shift:"
            plain = chosen == "least" and scale == "absolute"
            said = PUBLISHED_STEPS if plain else dict.fromkeys(PUBLISHED_STEPS, "control, not in the paper")
            rise = over_models(step(values, 0, last - 1))
            rows.append(
                _row(
                    "C17", f"{about} ln(state {last - 1} / state 0), rises", said["rise"], place, rise,
                    judged(rise, seeds, above=0.0),
                )
            )  # fmt: skip
            if last > 2 and chosen == "least":
                layer, smallest, level = judging.smallest_step(values, last)
                low, high = map(float, smallest.interval(level))
                verdict = "inconclusive"
                if np.isfinite([low, high]).all():
                    verdict = harness.verdict((low, high), seeds=seeds, above=0.0)
                text = f"{about} the smallest ln step before the last layer, rises in each (it is layer {layer})"
                rows.append(_row("C17", text, said["smallest"], place, smallest, verdict, level=level))
            fall = over_models(step(values, last - 1, last))
            text = f"{about} ln(state {last} / state {last - 1}), falls in the last layer"
            rows.append(_row("C17", text, said["last"], place, fall, judged(fall, seeds, below=0.0)))
            if kind in judging.NORMALIZED_AT_THE_END:
                seen = over_models(step(values, last - 1, last + 1))
                text = f"{about} ln(state {last} normalised / state {last - 1}), falls as the read-out sees it"
                rows.append(_row("C17", text, "not in the paper", place, seen, judged(seen, seeds, below=0.0)))
    return rows


def _norms(config: Config, kind: str, state: str, models: Models, found: Findings) -> list[dict[str, Any]]:
    """C18: the norm hardly matters."""
    rows, seeds, place = [], judging.seeds_of(kind, state, models), f"{PAPER}, s.3.1"
    about = f"{name_of(kind, state)}, shift of the embedding,"
    for number, pair in enumerate(PAIRS):
        both = f"{pair[0]} and {pair[1]}"
        if kind != "vit":
            one = found.agreements[kind, state][pair]
            for what, published in zip(("pearson", "spearman"), PUBLISHED_AGREEMENT[pair], strict=True):
                value = one[what]
                among = f"Spearman over the top {config.top} tokens" if what == "spearman" else "Pearson over tokens"
                text = f"{about} counts of least-shifting tokens under {both}: {among} is above {FIRM:g}"
                verdict = "" if value is None else judged(value, seeds, above=FIRM)
                rows.append(_row("C18", text, published, place, value, verdict))
        within = over_models(judging.mean_of(models, "agreement")[:, number])
        whole = "an image" if kind == "vit" else "a text"
        text = f"{about} Spearman of {both} over the tokens of {whole} is above {FIRM:g}"
        rows.append(_row("C18", text, "control, not in the paper", place, within, judged(within, seeds, above=FIRM)))
    return rows


def _identified(kind: str, state: str, models: Models) -> list[dict[str, Any]]:
    """C19: early layers stand in for the input."""
    values, seeds = judging.mean_of(models, "identified"), judging.seeds_of(kind, state, models)
    last = judging.depth_of(kind, values.shape[-1])
    half = last // 2
    early = over_models(values[..., half], rate=True)
    change = over_models(values[..., last] - values[..., half])
    about, place = f"{name_of(kind, state)}: share of states nearest to their own token's row,", f"{PAPER}, s.3.3"
    return [
        _row(
            "C19", f"{about} state {half} of {last}, is above {FIRM:g}", "one example", place, early,
            judged(early, seeds, above=FIRM),
        ),
        _row(
            "C19", f"{about} state {last} minus state {half}, is below 0", "one example", place, change,
            judged(change, seeds, below=0.0),
        ),
    ]  # fmt: skip


def causes(results: Results) -> list[dict[str, Any]]:
    """C17's fall in the last layer: is it the task's, the architecture's, or the last normalisation's?

    Differences of ``ln(last state / the one before)``, least-shifting tokens, paired over sequences.
    """
    rows, place = [], f"{PAPER}, s.3.3 (laid to the task)"
    present = [kind for kind in KINDS if (kind, "after") in results]
    for scale in SCALES:
        last_step = {
            (kind, state): step(values, depth - 1, depth)
            for (kind, state), models in results.items()
            for values in [judging.shifts(models, "least", "whole", scale)]
            for depth in [judging.depth_of(kind, values.shape[-1])]
        }
        about = f"last ln step, {scale} shift:"
        for kind in present:
            seeds = len(results[kind, "after"])
            # MiniLM as published is one model for all seeds; of the others, each is compared with its own beginning.
            paired = over_models(last_step[kind, "after"] - last_step[kind, "before"])
            text = f"the task? {about} {name_of(kind, 'after')}, minus {name_of(kind, 'before').split(', ')[1]}"
            note = "below 0 if training on the task lowers the last step"
            rows.append(_row("C17", text, "below 0", place, paired, judged(paired, seeds, below=0.0), note))
        for state in STATES if {"bert", "gpt2"} <= set(present) else ():
            first, second = last_step["bert", state], last_step["gpt2", state]
            paired = estimate.difference(first, second)
            text = f"the architecture? {about} {name_of('bert', state)}, minus {name_of('gpt2', state)}"
            note = "lower where each sum is normalised; a fall only if that model's own last step is below 0"
            rows.append(
                _row("C17", text, None, "not in the paper", paired, judged(paired, len(first), below=0.0), note)
            )
        for kind in filter(judging.NORMALIZED_AT_THE_END.__contains__, present):
            for state in STATES:
                values = judging.shifts(results[kind, state], "least", "whole", scale)
                last = judging.depth_of(kind, values.shape[-1])
                change = over_models(step(values, last, last + 1))
                text = f"the last normalisation? ln(state {last} normalised / as it is), {scale} shift: "
                text += name_of(kind, state)
                note = "what the last normalisation itself does: below 0 if leaving it out hides a fall"
                verdict = judged(change, len(values), below=0.0)
                rows.append(_row("C17", text, None, "not in the paper", change, verdict, note))
    return rows
