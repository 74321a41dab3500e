"""Figures of ``experiments.grokking``: curves of all groups, and leads of the measures."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from experiments import harness
from experiments.grokking.config import Config, Group
from experiments.grokking.estimates import FOLLOWED, Curves
from jaxsens import plots
from jaxsens.statistics import estimate
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = {
    "test_accuracy": "test accuracy\n(fraction)",
    "token_sensitivity": "token sensitivity\n(fraction)",
    "pair_sensitivity": "sensitivity, both\nnumbers (fraction)",
    "weight_norm": "weight norm",
    "embedding_gini": "Gini of the\nembeddings",
    "output_sharpness": "output sharpness\n(logits)",
}
"""Rows of the figure of curves."""

TREATED = {"none": "cross-entropy", "penalty": "penalty on noise stability", "noise": "noisy copies"}
"""Names of treatments as figures show them."""


def draw(config: Config, curves: Mapping[Group, Curves], parity: Mapping[str, Array]) -> dict[str, "Figure"]:
    """Return the figures by the names of their files."""
    common = {
        "dataset": f"addition modulo {config.modulus}, {config.fraction:g} of the pairs",
        "sample": f"{config.seeds} seeds",
    }
    figures = {}
    main = {one: curves[Group(one, "none", config.decay)] for one in config.architectures}
    drawn = {
        text: {f"{name} architecture": {"cross-entropy": _curve(one, measure)} for name, one in main.items()}
        for measure, text in ROWS.items()
    }
    figures["curves"] = plots.curve_grid(drawn, heading="Grokking, without smoothing", **common)
    figures["leads"] = _leads(main, common)
    if config.treatments:
        panels: dict[str, dict[str, plots.Curve]] = {}
        for group, one in curves.items():
            if group.architecture == "published" and group.decay in config.decays:
                panel = panels.setdefault(f"weight decay {group.decay:g}", {})
                panel[TREATED[group.treatment]] = _curve(one, "test_accuracy")
        figures["penalty"] = plots.curve_grid(
            {ROWS["test_accuracy"]: panels}, heading="Grokking with a penalty on noise stability", **common
        )
    figures["parity"] = _parity(config, parity)
    return figures


def _leads(main: Mapping[str, Curves], common: Mapping[str, str]) -> "Figure":
    panels = {}
    for name, one in main.items():
        panel = {"test accuracy": (0.0, 0.0, 0.0)}
        for measure in FOLLOWED:
            found = one.lead(measure)
            if found is not None and found.count > 1:
                panel[measure.replace("_", " ")] = harness.mean_and_interval(found)
        panels[f"{name} architecture"] = panel
    return plots.dots(
        panels, heading="Which measure moves before the test accuracy?", quantity="lead at half of the change (epochs)",
        **common,
    )  # fmt: skip


def _parity(config: Config, parity: Mapping[str, Array]) -> "Figure":
    share = config.parity_relevant / config.parity_length
    setting = f"parity of {config.parity_relevant} of {config.parity_length} bits"
    texts = {
        "test_accuracy": "test accuracy\n(fraction)",
        "sensitivity": "average sensitivity\n(fraction of bit flips)",
    }
    rows = {
        text: {setting: {"transformer": _with_interval(parity["epochs"], np.asarray(parity[name]))}}
        for name, text in texts.items()
    }
    return plots.curve_grid(
        rows, references={texts["sensitivity"]: {setting: (f"the parity's sensitivity, {share:g}", share)}},
        heading="Sparse parity", dataset=f"{config.parity_strings:,} strings", sample=f"{config.parity_seeds} seeds",
    )  # fmt: skip


def _curve(curves: Curves, measure: str) -> plots.Curve:
    return _with_interval(curves.epochs, curves.values[measure])


def _with_interval(epochs: Array, values: np.ndarray) -> plots.Curve:
    """Return the mean over the seeds that are finite throughout, with its interval."""
    values = values[np.isfinite(values).all(1)]
    if not len(values):
        values = np.zeros((1, len(epochs)))
    found = estimate.from_values(values, rate=bool((values >= 0).all() and (values <= 1).all()))
    low, high = found.interval() if found.count > 1 else (found.mean, found.mean)
    return np.asarray(epochs), found.mean, np.minimum(low, found.mean), np.maximum(high, found.mean)
