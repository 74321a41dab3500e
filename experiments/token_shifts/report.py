"""Output of ``experiments.token_shifts``: tables, claims, figures, and a table for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments import harness
from experiments.harness import cells, mean_and_interval
from experiments.token_shifts import estimates, figures
from experiments.token_shifts.claims import claims
from experiments.token_shifts.config import STATES, Config
from experiments.token_shifts.data import FREQUENCIES, Corpus, Pictures, Reading
from experiments.token_shifts.estimates import Findings, Results, over_models, step
from experiments.token_shifts.labels import model_label
from experiments.token_shifts.measure import AT, CHOSEN, NORMS, SCALES
from jaxsens.statistics import estimate

__all__ = ["write"]

Readings = Mapping[str, Reading]

PAPER = (
    "the paper: BERT-base fine-tuned by others, IMDb's test split, one model; which texts, and their length, are not "
    "stated"
)


def write(
    run: harness.Run, config: Config, corpus: Corpus, readings: Readings, pictures: Pictures, results: Results
) -> None:
    """Write all tables and figures of a run, and print the table of models."""
    findings = estimates.summarize(config, len(corpus.strings), readings, results)
    run.record(setting=_setting(config, corpus, readings, pictures), paper=PAPER)
    run.table("models", list(_model_rows(results)))
    run.table("counts", list(_count_rows(config, corpus, readings, results)))
    run.table("agreements", list(_agreement_rows(findings)))
    run.table("commonness", list(_line_rows(findings)))
    run.table("points", list(_point_rows(corpus, readings["minilm"], results)))
    run.table("layers", list(_layer_rows(results)))
    run.table("ranks", list(_rank_rows(config, results)))
    run.table("steps", list(_step_rows(results)))
    run.table("identifiability", list(_identified_rows(results)))
    run.comparison(claims(config, corpus.name, results, findings))
    for name, figure in figures.every(config, corpus, readings["minilm"], results, findings):
        run.figure(name, figure)
    print(_printed(results, findings))


def _setting(config: Config, corpus: Corpus, readings: Readings, pictures: Pictures) -> str:
    """Return how the numbers came about, in words."""
    large, small = readings["minilm"], readings["bert"]
    return (
        f"{corpus.source}, {config.held_out:g} of it held out; {len(large.measured.tokens)} held-out texts, "
        f"{config.followed} followed through the layers, {config.identified} for identifiability; MiniLM reads "
        f"{config.longest} tokens ({large.cut:.0%} of the texts are cut) and learns from {len(large.train[0])} texts, "
        f"the small models {config.small_longest} and {len(small.train[0])}; {config.seeds} seeds; images: "
        f"{pictures.source}"
    )


def _every(results: Results) -> Iterator[tuple[dict[str, str], str, Any]]:
    for (kind, state), models in results.items():
        yield {"kind": kind, "state": state}, kind, models


def _model_rows(results: Results) -> Iterator[dict[str, Any]]:
    for labels, _, models in _every(results):
        for seed, model in enumerate(models):
            row = labels | {"seed": seed, "parameters": int(model["parameters"])}
            empty = dict.fromkeys(("accuracy_mean", "accuracy_sem", "accuracy_low", "accuracy_high"))
            right = cells(estimate.from_values(model["correct"]), "accuracy_") if "correct" in model else empty
            yield row | right | {"training_loss": float(model["losses"][-1]) if "losses" in model else None}


def _count_rows(config: Config, corpus: Corpus, readings: Readings, results: Results) -> Iterator[dict[str, Any]]:
    for labels, kind, models in _every(results):
        if kind != "vit":
            counts = estimates.counts(models, readings[kind].measured.tokens, len(corpus.strings)) / len(models)
            for number in np.argsort(-counts.sum(0), kind="stable")[: config.top]:
                yield (
                    labels
                    | {"token": corpus.strings[number]}
                    | dict(zip(NORMS, map(float, counts[:, number]), strict=True))
                )


def _agreement_rows(findings: Findings) -> Iterator[dict[str, Any]]:
    for (kind, state), pairs in findings.agreements.items():
        for pair, values in pairs.items():
            for quantity, value in values.items():
                empty = dict.fromkeys(("mean", "sem", "low", "high"))
                row = {"kind": kind, "state": state, "first": pair[0], "second": pair[1], "quantity": quantity}
                yield row | (empty if value is None else cells(value))


def _line_rows(findings: Findings) -> Iterator[dict[str, Any]]:
    for (kind, state), fits in findings.lines.items():
        for (source, scale, controlled), fit in fits.items():
            for quantity, value in fit.items():
                row = {"kind": kind, "state": state, "frequency": source, "scale": scale, "controlled": controlled}
                yield row | {"quantity": quantity} | cells(value)


def _point_rows(corpus: Corpus, reading: Reading, results: Results) -> Iterator[dict[str, Any]]:
    for name in FREQUENCIES:
        points = reading.points[name]
        columns = {state: estimates.stacked(results["minilm", state], f"shift_{name}").mean(0) for state in STATES}
        for i, token in enumerate(points.token):
            row = {"frequency": name, "token": corpus.strings[token], "commonness": float(points.commonness[i])}
            yield row | {f"shift_{state}": float(values[i]) for state, values in columns.items()}


def _layer_rows(results: Results) -> Iterator[dict[str, Any]]:
    for labels, kind, models in _every(results):
        for chosen in CHOSEN:
            for at in AT:
                for scale in SCALES:
                    values = estimates.shifts(models, chosen, at, scale)
                    last = estimates.depth_of(kind, values.shape[-1])
                    for state, one in enumerate(estimates.by_state(values, over_models)):
                        row = labels | {"tokens": chosen, "at": at, "scale": scale, "layer": min(state, last)}
                        yield row | {"normalized_at_the_end": state > last} | cells(one)


def _rank_rows(config: Config, results: Results) -> Iterator[dict[str, Any]]:
    for labels, kind, models in _every(results):
        for scale in SCALES:
            values = estimates.stacked(models, f"least_whole_{scale}")
            for rank in range(config.least):
                for state in range(estimates.depth_of(kind, values.shape[-1]) + 1):
                    row = labels | {"rank": rank + 1, "scale": scale, "layer": state}
                    yield row | cells(over_models(values[:, :, rank, state]))


def _step_rows(results: Results) -> Iterator[dict[str, Any]]:
    for labels, kind, models in _every(results):
        for chosen in CHOSEN:
            for at in ("whole", "own"):
                for scale in SCALES:
                    values = estimates.shifts(models, chosen, at, scale)
                    for layer in range(1, estimates.depth_of(kind, values.shape[-1]) + 1):
                        row = labels | {"tokens": chosen, "at": at, "scale": scale, "layer": layer}
                        yield row | cells(over_models(step(values, layer - 1, layer)))


def _identified_rows(results: Results) -> Iterator[dict[str, Any]]:
    for labels, kind, models in _every(results):
        if kind != "vit":
            for state, one in enumerate(estimates.identified(models)):
                yield labels | {"state_number": state} | cells(one)


def _printed(results: Results, findings: Findings) -> str:
    rows = []
    for (kind, state), models in results.items():
        right = [model["correct"] for model in models if "correct" in model]
        values = estimates.shifts(models, "least", "whole", "absolute")
        relative = estimates.shifts(models, "least", "whole", "relative")
        last = estimates.depth_of(kind, values.shape[-1])
        fit = findings.lines.get((kind, state), {}).get(("corpus", "absolute", False))
        rows.append({
            "model": model_label(kind, state), "models": len(models),
            "accuracy": mean_and_interval(over_models(np.stack(right).astype(float), rate=True)) if right else None,
            "r": None if fit is None else mean_and_interval(fit["r"]),
            "rise": mean_and_interval(over_models(step(values, 0, last - 1))),
            "last": mean_and_interval(over_models(step(values, last - 1, last))),
            "last_relative": mean_and_interval(over_models(step(relative, last - 1, last))),
        })  # fmt: skip
    return "\nShifts when a token is replaced by its nearest [95 % interval]\n\n" + harness.format_table(
        rows,
        {
            "model": "model", "models": "models", "accuracy": "accuracy", "r": "r with commonness",
            "rise": "ln rise before the last layer", "last": "ln last step", "last_relative": "ln last step, relative",
        },
    )  # fmt: skip
