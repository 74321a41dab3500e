"""Figures of ``experiments.language``: sensitivity by treatment, during training, and by place in a text."""

from typing import TYPE_CHECKING

import numpy as np

from experiments import harness
from experiments.language.config import Config
from experiments.language.estimates import BY_WORDS, Findings
from experiments.language.measure import name_of
from jaxsens import plots
from jaxsens.statistics.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {
    "lstm": "LSTM",
    "lstm_frozen": "LSTM, frozen",
    "roberta": "RoBERTa",
    "roberta_relu": "RoBERTa, ReLU",
    "gpt2": "GPT-2",
}
"""Names of the families as figures show them."""

LOOKS = plots.in_order(list(LABELS.values()))

TITLES = {"mrpc": "MRPC", "sst2": "SST-2", "qqp": "QQP", "own": "own texts"}


def draw(config: Config, findings: Findings) -> dict[str, "Figure"]:
    """Return the figures by the names of their files."""
    figures = {}
    for dataset, families in findings.items():
        shown = {name_of(kind, config.noise[0]): kind for kind in ("raw", "renormalized", "published", "sentence")}
        panels = {
            title: {
                LABELS[name]: harness.mean_and_interval(family.estimate(quantity)) for name, family in families.items()
            }
            for quantity, title in (shown | BY_WORDS).items()
        }
        figures[f"sensitivity_{dataset}"] = plots.dots(
            panels, heading=f"Sensitivity, noise of variance {config.noise[0]:g}", looks=LOOKS,
            quantity="share of predictions changed", dataset=TITLES[dataset], sample=_sample(config),
        )  # fmt: skip
    rows = {
        quantity: {
            TITLES[dataset]: {
                LABELS[name]: (np.asarray(family.points), *_columns(family.curve(what)))
                for name, family in families.items()
            }
            for dataset, families in findings.items()
        }
        for what, quantity in (
            ("sensitivity", "predictions changed\n(fraction)"),
            ("accuracy", "accuracy on training\ntexts (fraction)"),
        )
    }
    figures["training"] = plots.curve_grid(
        rows, heading=f"Sensitivity during training, raw noise of variance {config.noise[0]:g}", looks=LOOKS,
        sample=_sample(config),
    )  # fmt: skip
    figures["positions"] = _positions(config, findings)
    return figures


def _positions(config: Config, findings: Findings) -> "Figure":
    panels = {}
    for dataset, families in findings.items():
        series = {}
        for name, family in families.items():
            places = family.by_position(name_of("raw", config.noise[0]))
            at = [1.0 + one.first for one in places]
            series[LABELS[name]] = at, *_columns([one.sensitivity for one in places])
        panels[TITLES[dataset]] = plots.Quantity("share of predictions changed", series, log=False)
    return plots.side_by_side(
        panels, x="tokens from the noisy one to the end, at least", looks=LOOKS, sample=_sample(config),
        heading=f"Sensitivity by place, raw noise of variance {config.noise[0]:g}",
    )  # fmt: skip


def _columns(estimates: list[Estimate]) -> np.ndarray:
    return np.array([harness.mean_and_interval(one) for one in estimates]).T


def _sample(config: Config) -> str:
    return f"{config.seeds} models each"
