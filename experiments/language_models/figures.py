"""Figures of ``experiments.language_models``: the matrix of one text, and influence by distance."""

from typing import TYPE_CHECKING

import numpy as np

from experiments.language_models.config import Config
from experiments.language_models.estimates import Findings, next_by_depth
from experiments.language_models.measure import Reading
from jaxsens import plots
from jaxsens.plots.lines import line_with_interval
from jaxsens.plots.style import finish, grid
from jaxsens.statistics.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOTAL = "total variation"


def draw(config: Config, reading: Reading, findings: Findings) -> dict[str, "Figure"]:
    """Return the figures by the names of their files."""
    figures = {
        f"matrix_{subject}": by_kind["words"].plot(example=0, words=reading.words[0])
        for subject, by_kind in findings.items()
    }
    figures["by_distance"] = _along(config, findings)
    return figures


def _along(config: Config, findings: Findings) -> "Figure":
    figure, axes = grid(2, across=2, height=3.2)
    labels = [f"{subject}, {kind.replace('_', ' ')}" for subject, by_kind in findings.items() for kind in by_kind]
    looks = plots.in_order(labels)
    for ax, (label, estimate_of) in zip(
        axes,
        (
            ("distance of the prediction from the token", lambda found: found.by_distance(TOTAL)),
            ("place of the token; the prediction after it", lambda found: next_by_depth(found, TOTAL)),
        ),
        strict=True,
    ):
        for place, (subject, kind) in enumerate((s, k) for s, by_kind in findings.items() for k in by_kind):
            name = labels[place]
            one: Estimate = estimate_of(findings[subject][kind])
            x = np.arange(len(one.mean)) + 1
            ends = one.interval()
            line_with_interval(ax, x, one.mean, *ends, looks[name], place=(place, len(labels)), label=name)
        ax.set(xlabel=label, ylabel=f"change of a prediction ({TOTAL})", xscale="log")
    axes[0].legend(frameon=False)
    sample = f"{config.count} texts of {config.length} tokens"
    return finish(figure, "Influence of a token on predictions", "", sample, title=True)
