"""Figures of ``experiments.grokking``: curves of all groups, and leads of the measures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import harness
from experiments.grokking.config import Config, Group
from experiments.grokking.estimates import FOLLOWED, Curves, text
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
    seeds = {name: _finite(one, tuple(ROWS)) for name, one in main.items()}
    drawn = {
        title: {
            f"{name} architecture": {"cross-entropy": _with_interval(one.epochs, one.values[measure][seeds[name]])}
            for name, one in main.items()
            if seeds[name].any()
        }
        for measure, title in ROWS.items()
    }
    if all(drawn.values()):
        caption = common | {"sample": _sample(config.seeds, seeds)}
        figures["curves"] = plots.curve_grid(drawn, heading="Grokking, without smoothing", **caption)
    figures["leads"] = _leads(main, common)
    if config.treatments:
        panels: dict[str, dict[str, plots.Curve]] = {}
        for group, one in curves.items():
            if group.architecture == "published" and group.decay in config.decays:
                panel = panels.setdefault(f"weight decay {group.decay:g}", {})
                # Accuracies are finite always: of logits that are not finite as well.
                panel[TREATED[group.treatment]] = _with_interval(one.epochs, one.values["test_accuracy"])
        figures["penalty"] = plots.curve_grid(
            {ROWS["test_accuracy"]: panels}, heading="Grokking with a penalty on noise stability", **common
        )
    figures |= _parity(config, parity)
    return figures


def _leads(main: Mapping[str, Curves], common: dict[str, str]) -> "Figure":
    panels, counts = {}, []
    for name, group_curves in main.items():
        panel = {"test accuracy": (0.0, 0.0, 0.0)}
        for measure in FOLLOWED:
            lead = group_curves.lead(measure)
            if lead is not None and lead.count > 1:
                panel[text(measure)] = harness.mean_and_interval(lead)
                counts.append(lead.count)
        panels[f"{name} architecture"] = panel
    if any(count < len(group_curves.rates) for group_curves in main.values() for count in counts):
        common = common | {"sample": f"{min(counts)} to {max(counts)} of {common['sample']} with a lead"}
    return plots.dots(
        panels, heading="Which measure moves before the test accuracy?", quantity="lead at half of the change (epochs)",
        **common,
    )  # fmt: skip


def _parity(config: Config, parity: Mapping[str, Array]) -> dict[str, "Figure"]:
    """Return the figure of the sparse parity; none if no model is finite throughout."""
    share = config.parity_relevant / config.parity_length
    setting = f"parity of {config.parity_relevant} of {config.parity_length} bits"
    texts = {
        "test_accuracy": "test accuracy\n(fraction)",
        "sensitivity": "average sensitivity\n(fraction of bit flips)",
    }
    finite = np.all([np.isfinite(parity[name]).all(1) for name in texts], axis=0)
    if not finite.any():
        return {}
    rows = {
        text: {setting: {"transformer": _with_interval(parity["epochs"], np.asarray(parity[name])[finite])}}
        for name, text in texts.items()
    }
    figure = plots.curve_grid(
        rows, references={texts["sensitivity"]: {setting: (f"the parity's sensitivity, {share:g}", share)}},
        heading="Sparse parity", dataset=f"{config.parity_strings:,} strings",
        sample=_sample(config.parity_seeds, {"transformer": finite}),
    )  # fmt: skip
    return {"parity": figure}


def _finite(curves: Curves, measures: Sequence[str]) -> np.ndarray:
    """Return which seeds are finite throughout in all measures ``[seeds]``: every row then shows the same models."""
    return np.all([np.isfinite(curves.values[name]).all(1) for name in measures], axis=0)


def _sample(total: int, drawn: Mapping[str, np.ndarray]) -> str:
    """Say how many seeds are drawn, by the name of what is drawn if some are left out."""
    if all(one.all() for one in drawn.values()):
        return f"{total} seeds"
    counts = ", ".join(f"{int(one.sum())} of {total} seeds ({name})" for name, one in drawn.items())
    return f"finite: {counts}"


def _with_interval(epochs: Array, values: np.ndarray) -> plots.Curve:
    """Return the mean over seeds with its interval."""
    over_seeds = estimate.from_values(values, rate=bool((values >= 0).all() and (values <= 1).all()))
    low, high = over_seeds.interval() if over_seeds.count > 1 else (over_seeds.mean, over_seeds.mean)
    return np.asarray(epochs), over_seeds.mean, np.minimum(low, over_seeds.mean), np.maximum(high, over_seeds.mean)
