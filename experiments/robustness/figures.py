"""Figures of ``experiments.robustness``: accuracy by corruption and severity, and sensitivity against robustness."""

from typing import TYPE_CHECKING

import numpy as np

from experiments.harness import mean_and_interval
from experiments.images.labels import INTERVENTIONS, model_label, split_name
from experiments.robustness.config import Config
from experiments.robustness.estimates import Findings
from jaxsens import plots
from jaxsens.statistics import estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["accuracies", "sensitivity"]

_PLAIN = "plain"


def accuracies(config: Config, findings: Findings, plain: str, dataset: str, sample: str) -> "Figure":
    """Draw the accuracy of an architecture, trained in all ways, for each corruption; severity 0 is clean."""
    names = [name for name in findings.results if split_name(name)[0] == plain]
    at = np.array([0, *config.severities], float)
    panels = {}
    for place, corruption in enumerate(config.corruptions):
        series = {}
        for name in names:
            of_corruption = findings.accuracies[name].mean[place]
            low, high = (end[place] for end in findings.accuracies[name].interval())
            clean = mean_and_interval(estimate.over_models(_clean(findings, name), rate=True))
            open_ends = ~(np.isfinite(low) & np.isfinite(high))
            low, high = (np.where(open_ends, of_corruption, end) for end in (low, high))
            columns = zip(clean, (of_corruption, low, high), strict=True)
            series[_treatment(name)] = (at, *(np.concatenate([[first], rest]) for first, rest in columns))
        panels[corruption.replace("_", " ")] = plots.Quantity("accuracy", series, log=False)
    return plots.side_by_side(
        panels, x="severity", heading=f"Accuracy on corrupted images: {model_label(plain)}", dataset=dataset,
        sample=sample, log_x=False, one_y=True, looks=plots.in_order([_PLAIN, *INTERVENTIONS.values()]),
    )  # fmt: skip


def sensitivity(findings: Findings, dataset: str, sample: str) -> "Figure":
    """Draw the error on corrupted images against token sensitivity: colors are architectures, markers treatments."""
    points, dots, looks = {}, {}, {}
    colors = plots.in_order(list(dict.fromkeys(split_name(name)[0] for name in findings.results)))
    markers = plots.in_order([_PLAIN, *INTERVENTIONS.values()])
    for name, levels in findings.levels.items():
        label, plain = model_label(name), split_name(name)[0]
        quantities = ("sensitivity", "corruption_error")
        points[label] = sum((mean_and_interval(levels[key]) for key in quantities), ())
        dots[label] = tuple(findings.means[name][key] for key in quantities)
        color = colors[plain]["color"]
        fill = color if _treatment(name) == _PLAIN else "white"
        looks[label] = markers[_treatment(name)] | {"color": color, "markerfacecolor": fill}
    return plots.scatter_with_intervals(
        points, seeds=dots, x_quantity="token sensitivity", x_unit="fraction of predictions changed",
        y_quantity="error on corrupted images", y_unit="mean over corruptions and severities", dataset=dataset,
        sample=sample, looks=looks,
    )  # fmt: skip


def _clean(findings: Findings, name: str) -> np.ndarray:
    """Return which of the images that are corrupted are classified correctly as they are ``[seeds n]``."""
    return 1.0 - np.stack([model["wrong_clean"] for model in findings.results[name]])


def _treatment(name: str) -> str:
    return INTERVENTIONS.get(split_name(name)[1], _PLAIN)
