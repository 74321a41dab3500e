"""What ``experiments.token_shifts`` leaves: tables, figures, and a table for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments import harness
from experiments.harness import mean_and_interval
from experiments.token_shifts import estimates as judging
from experiments.token_shifts.claims import NAMES, Findings, Results, claims, findings, name_of
from experiments.token_shifts.config import STATES, Config
from experiments.token_shifts.data import FREQUENCIES, Corpus, Pictures, Reading
from experiments.token_shifts.estimates import over_models, step
from experiments.token_shifts.figures import Scatter, coloured_text, scatters_with_lines, token_counts
from experiments.token_shifts.measure import AT, CHOSEN, NORMS, SCALES
from jaxsens import plots
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

Readings = Mapping[str, Reading]
SHOWN = 12
"""Tokens in the figure of counts."""

STATE_NUMBER = "state (0 enters the first layer)"
RANKS = ("least", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def write(
    run: harness.Run, config: Config, corpus: Corpus, readings: Readings, pictures: Pictures, results: Results
) -> None:
    """Write all tables and figures of a run, and print the table of models."""
    found = findings(config, corpus, readings, results)
    run.table("models", list(_model_rows(results)))
    run.table("counts", list(_count_rows(config, corpus, readings, results)))
    run.table("agreements", list(_agreement_rows(found)))
    run.table("commonness", list(_line_rows(found)))
    run.table("points", list(_point_rows(corpus, readings["minilm"], results)))
    run.table("layers", list(_layer_rows(results)))
    run.table("ranks", list(_rank_rows(config, results)))
    run.table("steps", list(_step_rows(results)))
    run.table("identifiability", list(_identified_rows(results)))
    run.comparison(claims(config, results, found, _setting(config, corpus, readings, pictures)))
    _figures(run, config, corpus, readings, results, found)
    print(_printed(results, found))


def _setting(config: Config, corpus: Corpus, readings: Readings, pictures: Pictures) -> str:
    """Return how the numbers came about, in words."""
    large, small = readings["minilm"], readings["bert"]
    return (
        f"{corpus.source}, {config.held_out:g} of it held out; {len(large.measured.tokens)} held-out texts, "
        f"{config.followed} followed through the layers, {config.identified} for identifiability; MiniLM reads "
        f"{config.longest} tokens ({large.cut:.0%} of the texts are cut) and learns from {len(large.train[0])} texts, "
        f"the small models {config.small_longest} and {len(small.train[0])}; {config.seeds} seeds; images: "
        f"{pictures.source}; the paper: BERT-base fine-tuned by others, IMDb's test split, one model, which texts and "
        "what length not stated"
    )


def _every(results: Results) -> Iterator[tuple[dict[str, str], str, Any]]:
    for (kind, state), models in results.items():
        yield {"kind": kind, "state": state}, kind, models


def _model_rows(results: Results) -> Iterator[dict[str, Any]]:
    for own, _, models in _every(results):
        for seed, model in enumerate(models):
            row = own | {"seed": seed, "parameters": int(model["parameters"])}
            empty = dict.fromkeys(("accuracy_mean", "accuracy_sem", "accuracy_low", "accuracy_high"))
            right = harness.cells(estimate.from_values(model["correct"]), "accuracy_") if "correct" in model else empty
            yield row | right | {"training_loss": float(model["losses"][-1]) if "losses" in model else None}


def _count_rows(config: Config, corpus: Corpus, readings: Readings, results: Results) -> Iterator[dict[str, Any]]:
    for own, kind, models in _every(results):
        if kind != "vit":
            found = judging.counts(models, readings[kind].measured.tokens, len(corpus.strings)) / len(models)
            for number in np.argsort(-found.sum(0), kind="stable")[: config.top]:
                yield (
                    own
                    | {"token": corpus.strings[number]}
                    | dict(zip(NORMS, map(float, found[:, number]), strict=True))
                )


def _agreement_rows(found: Findings) -> Iterator[dict[str, Any]]:
    for (kind, state), pairs in found.agreements.items():
        for pair, values in pairs.items():
            for quantity, value in values.items():
                empty = dict.fromkeys(("mean", "sem", "low", "high"))
                row = {"kind": kind, "state": state, "first": pair[0], "second": pair[1], "quantity": quantity}
                yield row | (empty if value is None else harness.cells(value))


def _line_rows(found: Findings) -> Iterator[dict[str, Any]]:
    for (kind, state), fits in found.lines.items():
        for (source, scale, controlled), fit in fits.items():
            for quantity, value in fit.items():
                row = {"kind": kind, "state": state, "frequency": source, "scale": scale, "controlled": controlled}
                yield row | {"quantity": quantity} | harness.cells(value)


def _point_rows(corpus: Corpus, reading: Reading, results: Results) -> Iterator[dict[str, Any]]:
    for name in FREQUENCIES:
        points = reading.points[name]
        columns = {state: judging.mean_of(results["minilm", state], f"shift_{name}").mean(0) for state in STATES}
        for i, token in enumerate(points.token):
            row = {"frequency": name, "token": corpus.strings[token], "commonness": float(points.commonness[i])}
            yield row | {f"shift_{state}": float(values[i]) for state, values in columns.items()}


def _layer_rows(results: Results) -> Iterator[dict[str, Any]]:
    for own, kind, models in _every(results):
        for chosen in CHOSEN:
            for at in AT:
                for scale in SCALES:
                    values = judging.shifts(models, chosen, at, scale)
                    last = judging.depth_of(kind, values.shape[-1])
                    for state, one in enumerate(judging.by_state(values, over_models)):
                        row = own | {"tokens": chosen, "at": at, "scale": scale, "layer": min(state, last)}
                        yield row | {"normalised_at_the_end": state > last} | harness.cells(one)


def _rank_rows(config: Config, results: Results) -> Iterator[dict[str, Any]]:
    for own, kind, models in _every(results):
        for scale in SCALES:
            values = judging.mean_of(models, f"least_whole_{scale}")
            for rank in range(config.least):
                for state in range(judging.depth_of(kind, values.shape[-1]) + 1):
                    row = own | {"rank": rank + 1, "scale": scale, "layer": state}
                    yield row | harness.cells(over_models(values[:, :, rank, state]))


def _step_rows(results: Results) -> Iterator[dict[str, Any]]:
    for own, kind, models in _every(results):
        for chosen in CHOSEN:
            for at in ("whole", "own"):
                for scale in SCALES:
                    values = judging.shifts(models, chosen, at, scale)
                    for layer in range(1, judging.depth_of(kind, values.shape[-1]) + 1):
                        row = own | {"tokens": chosen, "at": at, "scale": scale, "layer": layer}
                        yield row | harness.cells(over_models(step(values, layer - 1, layer)))


def _identified_rows(results: Results) -> Iterator[dict[str, Any]]:
    for own, kind, models in _every(results):
        if kind != "vit":
            for state, one in enumerate(_identified(models)):
                yield own | {"state_number": state} | harness.cells(one)


def _identified(models: judging.Models) -> list[Estimate]:
    return judging.by_state(judging.mean_of(models, "identified"), lambda a: over_models(a, rate=True))


def _figures(
    run: harness.Run, config: Config, corpus: Corpus, readings: Readings, results: Results, found: Findings
) -> None:
    large = readings["minilm"]
    source = "IMDb" if config.texts is None else "own texts"
    said = {"dataset": f"MiniLM, {source}"}
    each = {state: results["minilm", state] for state in STATES}
    run.figure("counts", _counts(config, corpus, large, each, said))
    run.figure("commonness", _commonness(config, large, each, found, said))
    run.figure("layers", _layers(config, each, said))
    run.figure("kinds", _kinds(config, results))
    run.figure("identifiability", _identifiability(config, results, source))
    run.figure("sentence", _sentence(corpus, large, each, source))


def _counts(
    config: Config, corpus: Corpus, reading: Reading, each: Mapping[str, judging.Models], said: dict[str, str]
) -> Any:
    panels = {}
    for state, models in each.items():
        number = judging.counts(models, reading.measured.tokens, len(corpus.strings)) / len(models)
        top = np.argsort(-number.sum(0), kind="stable")[: min(SHOWN, np.count_nonzero(number.sum(0)))]
        bars = {norm: number[i, top] for i, norm in enumerate(NORMS)}
        panels[name_of("minilm", state)] = ([corpus.strings[i] for i in top], bars)
    sample = f"{len(reading.measured.tokens)} held-out texts, the {config.least} least-shifting tokens of each"
    heading = "Which tokens shift the embedding least, replaced by their nearest?"
    return token_counts(panels, unit="times among the least", heading=heading, sample=sample, **said)


def _layers(config: Config, each: Mapping[str, judging.Models], said: dict[str, str]) -> Any:
    panels = {}
    for scale in SCALES:
        for state, models in each.items():
            values = judging.mean_of(models, f"least_whole_{scale}")
            lines = {_rank(k): _curve(values[:, :, k]) for k in range(config.least)}
            unit = "l2 shift of the sequence" + (", relative" if scale == "relative" else "")
            panels[f"{name_of('minilm', state)}, {scale}"] = plots.Quantity(unit, lines, log=False)
    return plots.side_by_side(
        panels, x=STATE_NUMBER, heading="Shift by layer", log_x=False,
        sample=f"{config.followed} held-out texts, their {config.least} least-shifting tokens", **said,
    )  # fmt: skip


def _rank(number: int) -> str:
    return RANKS[number] if number < len(RANKS) else str(number + 1)


def _identifiability(config: Config, results: Results, source: str) -> Any:
    curves = {}
    for kind in (kind for kind in config.kinds if kind != "vit"):
        lines = {}
        for state in STATES:
            every = _identified(results[kind, state])
            lines[f"{state} training"] = _triples(every[: judging.depth_of(kind, len(every)) + 1])
        curves[NAMES[kind]] = plots.Quantity("share nearest to their own token", lines, log=False)
    return plots.side_by_side(
        curves, x=STATE_NUMBER, heading="How often is a state nearest to its own token?", dataset=source,
        sample=f"{config.identified} held-out texts", log_x=False,
    )  # fmt: skip


def _commonness(
    config: Config, reading: Reading, each: Mapping[str, judging.Models], found: Findings, said: dict[str, str]
) -> Any:
    panels = {}
    for name in FREQUENCIES:
        for state, models in each.items():
            fit = found.lines["minilm", state][name, "absolute", False]
            values = judging.mean_of(models, f"shift_{name}").mean(0)
            title = f"{name_of('minilm', state)}; commonness in {'the corpus' if name == 'corpus' else 'wordfreq'}"
            panels[title] = Scatter(
                reading.points[name].commonness, values, mean_and_interval(fit["slope"]), float(fit["offset"].mean),
                mean_and_interval(fit["r"]),
            )  # fmt: skip
    return scatters_with_lines(
        panels, x="commonness", y="l2 shift of the embedding", heading="Do rare tokens shift the embedding more?",
        sample=f"up to {config.per_bin} tokens in each of {config.bins} bins", bins=config.bins,
        reference=("published, BERT-base (slope -5.21, r -.42)", -5.21, 18.72), **said,
    )  # fmt: skip


def _kinds(config: Config, results: Results) -> Any:
    """Draw shifts by layer of all kinds over that of the embedding, so that all begin at 1."""
    panels = {}
    for kind in config.kinds:
        for scale in SCALES:
            lines = {}
            for state in STATES:
                values = judging.shifts(results[kind, state], "least", "whole", scale)
                values = values / values[..., :1].mean(1, keepdims=True)
                last = judging.depth_of(kind, values.shape[-1])
                label = f"{state} training"
                lines[label] = _curve(values[..., : last + 1])
                if kind in judging.NORMALIZED_AT_THE_END:
                    at = np.array([last - 1, last])
                    seen = _triples(judging.by_state(values[..., [last - 1, last + 1]], over_models))
                    lines[f"{label}, normalised last"] = (at, *seen[1:])
            means = np.concatenate([mean for _, mean, _, _ in lines.values()])
            log = bool(means.max() > 5 * means.min())
            panels[f"{NAMES[kind]}, {scale} shift"] = plots.Quantity("times that of the embedding", lines, log=log)
    return plots.side_by_side(
        panels, x=STATE_NUMBER, heading="Whose is the fall in the last layer?",
        dataset=f"up to {config.followed} texts, or images for the ViT",
        sample=f"{config.seeds} models of each kind, small ones from random weights", log_x=False,
    )  # fmt: skip


def _sentence(corpus: Corpus, reading: Reading, each: Mapping[str, judging.Models], source: str) -> Any:
    read, _ = reading.example
    real = read.mask[0]
    tokens = [corpus.strings[i] for i in read.tokens[0][real]]
    rows = {}
    for state, models in each.items():
        values = judging.mean_of(models, "example").mean(0)[real]
        for layer in (0, values.shape[1] - 2, values.shape[1] - 1):
            shown = np.where(values[:, 0] > 0, values[:, layer], np.nan)
            rows[f"{name_of('minilm', state)}, state {layer}"] = (tokens, shown)
    return coloured_text(
        rows, quantity="l2 shift of the sequence", heading="One sentence, each token replaced by its nearest",
        dataset=source, sample="the first sentence of a held-out text",
    )  # fmt: skip


def _curve(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return states, means and ends of their intervals, from ``[m b l]``."""
    return _triples(judging.by_state(values, over_models))


def _triples(every: list[Estimate]) -> tuple[np.ndarray, ...]:
    return (np.arange(len(every), dtype=float), *np.transpose([mean_and_interval(one) for one in every]))


def _printed(results: Results, found: Findings) -> str:
    rows = []
    for (kind, state), models in results.items():
        right = [model["correct"] for model in models if "correct" in model]
        values = judging.shifts(models, "least", "whole", "absolute")
        relative = judging.shifts(models, "least", "whole", "relative")
        last = judging.depth_of(kind, values.shape[-1])
        fit = found.lines.get((kind, state), {}).get(("corpus", "absolute", False))
        rows.append({
            "model": name_of(kind, state), "models": len(models),
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
