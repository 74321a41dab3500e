"""Figures of ``experiments.simplicity_bias``: curves on sparse parities, and sensitivities on random labels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from experiments.simplicity_bias.claims import PUBLISHED
from experiments.simplicity_bias.config import KINDS, Config
from experiments.simplicity_bias.estimates import Group
from jaxsens import plots
from jaxsens.statistics.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {"transformer": "transformer", "lstm": "LSTM"}
"""Names of the kinds as figures show them."""

ROWS = {
    "training_accuracy": "training accuracy\n(noisy labels, fraction)",
    "validation_accuracy": "held-out accuracy\n(clean labels, fraction)",
    "sensitivity": "average sensitivity\n(fraction of bit flips)",
}
"""Rows of the figure of curves."""


def curves(config: Config, groups: Mapping[tuple, Group], count: int) -> "Figure":
    """Draw accuracies and sensitivity during training on ``count`` strings, a column for each level of noise."""
    titles = {noise: f"label noise {noise:.0%}" for noise in config.noises}
    share = config.relevant / config.length
    references = {
        ROWS["training_accuracy"]: {titles[noise]: ("1 - noise", 1 - noise) for noise in config.noises},
        ROWS["sensitivity"]: dict.fromkeys(titles.values(), (f"the parity's sensitivity, {share:g}", share)),
    }
    drawn = {
        text: {
            titles[noise]: {LABELS[kind]: groups[kind, count, noise].curve(name) for kind in KINDS}
            for noise in config.noises
        }
        for name, text in ROWS.items()
    }
    return plots.curve_grid(
        drawn, references=references, heading="Sparse parities with label noise",
        dataset=f"parity of {config.relevant} of {config.length} bits, {count:,} strings",
        sample=f"{config.seeds} seeds, each with its own bits, strings and weights",
    )  # fmt: skip


def random_labels(config: Config, labels: Mapping[str, Mapping[str, Estimate]]) -> "Figure":
    """Draw the sensitivities of the models that fit their labels, before and after training."""
    models = f"{config.label_models} model{'s' * (config.label_models > 1)}"
    shown = {}
    for kind in KINDS:
        for name, text in (("untrained", "untrained"), ("trained", "converged")):
            if name in labels[kind]:
                mean = labels[kind][name]
                low, high = np.clip(mean.interval(), 0, 1)
                shown[f"{LABELS[kind]}, {text}"] = float(mean.mean), float(low), float(high)
        shown[f"{LABELS[kind]}, published"] = (PUBLISHED[kind],) * 3
    return plots.dots(
        {"models that fit their labels": shown | {"random function": (0.5, 0.5, 0.5)}},
        dataset=f"{config.label_strings:,} strings of {config.label_length} bits",
        sample=f"{config.label_sets} data sets, each with {models} of each kind",
        heading=f"Sensitivity of models trained on {'given' if config.own_labels else 'random'} labels",
        quantity="average sensitivity (fraction of bit flips)",
    )  # fmt: skip
