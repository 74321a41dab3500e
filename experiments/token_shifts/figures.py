"""Figures of ``experiments.token_shifts``: counts, commonness, layers, kinds of model, identifiability, a sentence."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from experiments.harness import mean_and_interval
from experiments.token_shifts import estimates
from experiments.token_shifts.config import STATES, Config
from experiments.token_shifts.data import FREQUENCIES, Corpus, Reading
from experiments.token_shifts.drawing import Scatter, colored_text, scatters_with_lines, token_counts
from experiments.token_shifts.estimates import Findings, Models, Results, over_models
from experiments.token_shifts.labels import NAMES, model_label
from experiments.token_shifts.measure import NORMS, SCALES
from jaxsens import plots
from jaxsens.statistics.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["every"]

SHOWN = 12
"""Tokens in the figure of counts."""

LOOKS = plots.in_order([f"{state} training" for state in STATES])
READ = ", as the read-out sees it"
LOOKS |= {f"{label}{READ}": look | {"linestyle": ":", "markerfacecolor": "#ffffff"} for label, look in LOOKS.items()}
"""Colors, markers and lines of models before and after training, in all figures."""

STATE_NUMBER = "state (0 enters the first layer)"
COMMONNESS = "commonness (log frequency, 0 rarest, 1 most common)"
NORM_LABELS = {"l1": "l1", "l2": "l2", "linf": "l-infinity"}
RANKS = ("least-shifting token", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def every(
    config: Config, corpus: Corpus, reading: Reading, results: Results, findings: Findings
) -> Iterator[tuple[str, "Figure"]]:
    """Yield name and figure of all; ``reading`` is that of MiniLM."""
    texts = "IMDb" if corpus.name == "imdb_reviews" else corpus.name
    dataset = f"MiniLM, {texts}"
    each = {state: results["minilm", state] for state in STATES}
    yield "counts", _counts(config, corpus, reading, each, dataset)
    yield "commonness", _commonness(config, reading, each, findings, dataset)
    yield "layers", _layers(config, each, dataset)
    yield "kinds", _kinds(config, results)
    yield "identifiability", _identifiability(config, results, texts)
    yield "sentence", _sentence(corpus, reading, each, texts)


def _counts(config: Config, corpus: Corpus, reading: Reading, each: Mapping[str, Models], dataset: str) -> "Figure":
    panels = {}
    for state, models in each.items():
        number = estimates.counts(models, reading.measured.tokens, len(corpus.strings)) / len(models)
        top = np.argsort(-number.sum(0), kind="stable")[: min(SHOWN, np.count_nonzero(number.sum(0)))]
        bars = {NORM_LABELS[norm]: number[i, top] for i, norm in enumerate(NORMS)}
        panels[model_label("minilm", state)] = ([corpus.strings[i] for i in top], bars)
    sample = f"{len(reading.measured.tokens)} held-out texts, the {config.least} least-shifting tokens of each"
    heading = "Which tokens shift the embedding least when replaced by their nearest?"
    return token_counts(panels, unit="times among the least", heading=heading, sample=sample, dataset=dataset)


def _layers(config: Config, each: Mapping[str, Models], dataset: str) -> "Figure":
    panels = {}
    for scale in SCALES:
        for state, models in each.items():
            values = estimates.stacked(models, f"least_whole_{scale}")
            lines = {_rank(k): _curve(values[:, :, k]) for k in range(config.least)}
            unit = "l2 shift of the sequence" + (", relative" if scale == "relative" else "")
            panels[f"{model_label('minilm', state)}, {scale}"] = plots.Quantity(unit, lines, log=False)
    return plots.side_by_side(
        panels, x=STATE_NUMBER, heading="Shift by layer", log_x=False,
        sample=f"{config.followed} held-out texts, their {config.least} least-shifting tokens", dataset=dataset,
        looks=plots.in_order([_rank(k) for k in range(config.least)]),
    )  # fmt: skip


def _rank(number: int) -> str:
    return RANKS[number] if number < len(RANKS) else str(number + 1)


def _identifiability(config: Config, results: Results, source: str) -> "Figure":
    curves = {}
    for kind in (kind for kind in config.kinds if kind != "vit"):
        lines = {}
        for state in STATES:
            every = estimates.identified(results[kind, state])
            lines[f"{state} training"] = _triples(every[: estimates.depth_of(kind, len(every)) + 1])
        curves[NAMES[kind]] = plots.Quantity("share nearest to their own token", lines, log=False)
    figure = plots.side_by_side(
        curves, x=STATE_NUMBER, heading="How often is a state nearest to its own token?", dataset=source,
        sample=f"{config.identified} held-out texts", log_x=False, looks=LOOKS,
    )  # fmt: skip
    for ax in figure.axes:
        ax.set_ylim(-0.03, 1.03)
    return figure


def _commonness(
    config: Config, reading: Reading, each: Mapping[str, Models], findings: Findings, dataset: str
) -> "Figure":
    panels = {}
    for name in FREQUENCIES:
        for state, models in each.items():
            fit = findings.lines["minilm", state][name, "absolute", False]
            values = estimates.stacked(models, f"shift_{name}").mean(0)
            title = f"{model_label('minilm', state)}; commonness in {'the corpus' if name == 'corpus' else 'wordfreq'}"
            panels[title] = Scatter(
                reading.points[name].commonness, values, mean_and_interval(fit["slope"]), float(fit["offset"].mean),
                mean_and_interval(fit["r"]),
            )  # fmt: skip
    return scatters_with_lines(
        panels, x=COMMONNESS, y="l2 shift of the embedding", heading="Do rare tokens shift the embedding more?",
        sample=f"up to {config.per_bin} tokens in each of {config.bins} bins", bins=config.bins,
        reference=("published, BERT-base (slope -5.21, r -0.42)", -5.21, 18.72), dataset=dataset,
    )  # fmt: skip


def _kinds(config: Config, results: Results) -> "Figure":
    """Draw shifts by layer of all kinds over that of the embedding, so that all begin at 1."""
    panels = {}
    for kind in config.kinds:
        for scale in SCALES:
            lines = {}
            for state in STATES:
                values = estimates.shifts(results[kind, state], "least", "whole", scale)
                values = values / values[..., :1].mean(1, keepdims=True)
                last = estimates.depth_of(kind, values.shape[-1])
                label = f"{state} training"
                lines[label] = _curve(values[..., : last + 1])
                if kind in estimates.NORMALIZED_AT_THE_END:
                    at = np.array([last - 1, last])
                    read = _triples(estimates.by_state(values[..., [last - 1, last + 1]], over_models))
                    lines[f"{label}{READ}"] = (at, *read[1:])
            means = np.concatenate([mean for _, mean, _, _ in lines.values()])
            log = bool(means.max() > 5 * means.min())
            panels[f"{NAMES[kind]}, {scale} shift"] = plots.Quantity("times that of the embedding", lines, log=log)
    return plots.side_by_side(
        panels, x=STATE_NUMBER, heading="What causes the drop in the last layer?",
        dataset=f"up to {config.followed} texts, or images for the ViT",
        sample=f"{config.seeds} models of each kind, small ones from random weights", log_x=False,
        looks=LOOKS,
    )  # fmt: skip


def _sentence(corpus: Corpus, reading: Reading, each: Mapping[str, Models], source: str) -> "Figure":
    read, _ = reading.example
    real = read.mask[0]
    tokens = [corpus.strings[i] for i in read.tokens[0][real]]
    rows = {}
    for state, models in each.items():
        values = estimates.stacked(models, "example").mean(0)[real]
        for layer in (0, values.shape[1] - 2, values.shape[1] - 1):
            shown = np.where(values[:, 0] > 0, values[:, layer], np.nan)
            rows[f"{model_label('minilm', state)}, state {layer}"] = (tokens, shown)
    return colored_text(
        rows, quantity="l2 shift of the sequence", heading="One sentence, each token replaced by its nearest",
        dataset=source, sample="the first sentence of a held-out text",
    )  # fmt: skip


def _curve(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return states, means and ends of their intervals, from ``[m b l]``."""
    return _triples(estimates.by_state(values, over_models))


def _triples(every: list[Estimate]) -> tuple[np.ndarray, ...]:
    return (np.arange(len(every), dtype=float), *np.transpose([mean_and_interval(one) for one in every]))
