"""Verdicts of ``experiments.token_shifts``: claims C16 to C19, and what causes the drop in the last layer."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from experiments.harness import Claim, judge, verdict
from experiments.token_shifts import estimates
from experiments.token_shifts.config import KINDS, STATES, Config
from experiments.token_shifts.estimates import Findings, Models, Results, over_models, step
from experiments.token_shifts.labels import model_label
from experiments.token_shifts.measure import PAIRS, SCALES
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

__all__ = ["causes", "claims"]

PAPER = "Conti et al."
CONTROL = "control, not in the paper"

FIRM = 0.9
"""Threshold, chosen here, above which a correlation supports "the norm hardly matters", and a rate C19."""

PUBLISHED_AGREEMENT = {("l1", "l2"): (0.99, 0.96), ("l2", "linf"): (0.99, 0.92), ("l1", "linf"): (0.99, 0.95)}
"""Pearson's correlation of counts, and Spearman's of the top 20 (s.3.1)."""

PUBLISHED_LINE = {"slope": -5.21, "r": -0.42}
"""Of the shift in l2 against commonness: from the points of the published figure 2."""

PUBLISHED_STEPS = {
    "rise": "about +0.60 (layer 0 to 11 of 12, figure 3)",
    "smallest": "about -0.03 (layer 10 of 12, figure 3): the drop begins before the last layer",
    "last": "about -0.32 (layer 12 of 12, figure 3)",
}


def claims(config: Config, texts: str, results: Results, findings: Findings) -> list[Claim]:
    """Return all rows of comparison.csv.

    Args:
        config: Settings of the run.
        texts: Name of the texts, for the column ``dataset``.
        results: What was measured.
        findings: Estimates of the run.
    """
    rows: list[Claim] = []
    for (kind, state), models in results.items():
        seeds = seeds_of(kind, state, models)
        about = {"subject": model_label(kind, state)}
        if kind != "vit":
            rows += [replace(row, **about) for row in _commonness(kind, state, seeds, findings)]
        rows += [replace(row, **about) for row in _layers(kind, models, seeds)]
        rows += [replace(row, **about) for row in _norms(config, kind, state, models, seeds, findings)]
        if kind != "vit":
            rows += [replace(row, **about) for row in _identified(kind, models, seeds)]
    rows += causes(results)
    return [replace(row, dataset=config.images if "ViT" in row.subject else texts) for row in rows]


def seeds_of(kind: str, state: str, models: Models) -> int | None:
    """Return how many models were drawn or trained here; None for MiniLM as published, which is given."""
    return None if (kind, state) == ("minilm", "before") else len(models)


def _row(
    claim: str, quantity: str, published: Any, place: str, value: Estimate | None, seeds: int | None, **bound: float
) -> Claim:
    """Return the row of an estimate that is claimed to be ``below`` or ``above`` a bound."""
    if value is None:
        return Claim(claim, quantity, published, place, verdict="inconclusive")
    decided = judge(value, seeds=seeds, **bound)
    return Claim.of(claim, quantity, value, published=published, place=place, verdict=decided)


def _commonness(kind: str, state: str, seeds: int | None, findings: Findings) -> Iterator[Claim]:
    """C16: rare tokens shift embeddings more."""
    for (name, scale, controlled), fit in findings.lines[kind, state].items():
        for what in ("slope", "r"):
            if what == "slope" and (scale == "relative" or controlled):
                continue
            text = f"{what} of the {scale} shift of the embedding, l2, against commonness in "
            text += "the corpus" if name == "corpus" else "the language (wordfreq)"
            text += ", norm of the row and distance to its neighbor held fixed" if controlled else ""
            published = PUBLISHED_LINE[what] if scale == "absolute" and not controlled else CONTROL
            yield _row("C16", text, published, f"{PAPER}, s.3.2, figure 2", fit[what], seeds, below=0.0)


def _layers(kind: str, models: Models, seeds: int | None) -> Iterator[Claim]:
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
            yield _row("C17", text, published["rise"], place, rise, seeds, above=0.0)
            if last > 2 and chosen == "least":
                layer, smallest, level = estimates.smallest_step(values, last)
                text = f"{about} the smallest ln step before the last layer, rises in each (it is layer {layer})"
                yield _at_level(_row("C17", text, published["smallest"], place, smallest, seeds, above=0.0),
                                smallest, level, seeds)  # fmt: skip
            drop = over_models(step(values, last - 1, last))
            text = f"{about} ln(state {last} / state {last - 1}), falls in the last layer"
            yield _row("C17", text, published["last"], place, drop, seeds, below=0.0)
            if kind in estimates.NORMALIZED_AT_THE_END:
                read = over_models(step(values, last - 1, last + 1))
                text = f"{about} ln(state {last} normalized / state {last - 1}), falls as the read-out sees it"
                yield _row("C17", text, "not in the paper", place, read, seeds, below=0.0)


def _at_level(row: Claim, value: Estimate, level: float, seeds: int | None) -> Claim:
    """Return the row with the interval of another level, and the verdict ``above 0`` from that."""
    if row.low is None:
        return row
    low, high = map(float, value.interval(level))
    return replace(row, low=low, high=high, verdict=verdict((low, high), seeds=seeds, above=0.0))


def _norms(
    config: Config, kind: str, state: str, models: Models, seeds: int | None, findings: Findings
) -> Iterator[Claim]:
    """C18: the norm hardly matters."""
    place, about = f"{PAPER}, s.3.1", "shift of the embedding,"
    for number, pair in enumerate(PAIRS):
        both = f"{pair[0]} and {pair[1]}"
        if kind != "vit":
            agreement = findings.agreements[kind, state][pair]
            for what, published in zip(("pearson", "spearman"), PUBLISHED_AGREEMENT[pair], strict=True):
                among = f"Spearman over the top {config.top} tokens" if what == "spearman" else "Pearson over tokens"
                text = f"{about} counts of least-shifting tokens under {both}: {among} is above {FIRM:g}"
                yield _row("C18", text, published, place, agreement[what], seeds, above=FIRM)
        within = over_models(estimates.stacked(models, "agreement")[:, number])
        whole = "an image" if kind == "vit" else "a text"
        text = f"{about} Spearman of {both} over the tokens of {whole} is above {FIRM:g}"
        yield _row("C18", text, CONTROL, place, within, seeds, above=FIRM)


def _identified(kind: str, models: Models, seeds: int | None) -> Iterator[Claim]:
    """C19: states of early layers identify their token."""
    values = estimates.stacked(models, "identified")
    last = estimates.depth_of(kind, values.shape[-1])
    half = last // 2
    early = over_models(values[..., half], rate=True)
    change = over_models(values[..., last] - values[..., half])
    about, place = "share of states nearest to their own token's row,", f"{PAPER}, s.3.3"
    text = f"{about} state {half} of {last}, is above {FIRM:g}"
    yield _row("C19", text, "one example", place, early, seeds, above=FIRM)
    text = f"{about} state {last} minus state {half}, is below 0"
    yield _row("C19", text, "one example", place, change, seeds, below=0.0)


def causes(results: Results) -> Iterator[Claim]:
    """C17's drop in the last layer: is it an effect of the task, the architecture, or the last normalization?

    Differences of ``ln(last state / the one before)``, least-shifting tokens, paired over sequences.
    """
    trained = [kind for kind in KINDS if (kind, "after") in results]
    for scale in SCALES:
        shifts = {key: estimates.shifts(models, "least", "whole", scale) for key, models in results.items()}
        depths = {key: estimates.depth_of(key[0], values.shape[-1]) for key, values in shifts.items()}
        last_step = {key: step(values, depths[key] - 1, depths[key]) for key, values in shifts.items()}
        text = f"last ln step, {scale} shift, difference"
        for kind in trained:
            # MiniLM as published is one model for all seeds; each of the others is compared with its own beginning.
            paired = over_models(last_step[kind, "after"] - last_step[kind, "before"])
            place, seeds = f"{PAPER}, s.3.3 (attributed to the task)", len(results[kind, "after"])
            row = _row("C17", f"effect of the task: {text}", "below 0", place, paired, seeds, below=0.0)
            note = "below 0 if training on the task lowers the last step"
            yield _between(row, (kind, "after"), (kind, "before"), note)
        for state in STATES if {"bert", "gpt2"} <= set(trained) else ():
            first, second = last_step["bert", state], last_step["gpt2", state]
            paired = estimate.difference(first, second)
            row = _row(
                "C17", f"effect of the architecture: {text}", None, "not in the paper", paired, len(first), below=0.0
            )
            note = "lower where each sum is normalized; a drop only if that model's own last step is below 0"
            yield _between(row, ("bert", state), ("gpt2", state), note)
        for kind in filter(estimates.NORMALIZED_AT_THE_END.__contains__, trained):
            for state in STATES:
                values, last = shifts[kind, state], depths[kind, state]
                change = over_models(step(values, last, last + 1))
                text = f"effect of the last normalization: ln(state {last} normalized / as it is), {scale} shift"
                row = _row("C17", text, None, "not in the paper", change, len(values), below=0.0)
                note = "what the last normalization itself does: below 0 if leaving it out hides a drop"
                yield replace(row, subject=model_label(kind, state), note=note)


def _between(row: Claim, subject: tuple[str, str], reference: tuple[str, str], note: str) -> Claim:
    return replace(row, subject=model_label(*subject), reference=model_label(*reference), note=note)
