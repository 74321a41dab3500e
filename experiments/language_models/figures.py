"""Figures of ``experiments.language_models``: the matrix of one text, and influence by distance."""

from typing import TYPE_CHECKING

import numpy as np

from experiments.language_models.config import Config
from experiments.language_models.estimates import Findings, next_by_depth
from experiments.language_models.measure import Reading
from jaxsens import plots
from jaxsens.plots.style import finish

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOTAL = "total variation"


def draw(config: Config, reading: Reading, findings: Findings) -> dict[str, "Figure"]:
    """Return the figures by the names of their files."""
    figures = {}
    for subject, by_kind in findings.items():
        matrix = by_kind["words"].plot(example=0, words=reading.words[0])
        sample = f"{subject} model, one text of {config.length} tokens"
        figures[f"matrix_{subject}"] = finish(matrix, "Which prediction changes with which token", "", sample)
    figures["by_distance"] = _along(config, findings)
    return figures


def _along(config: Config, findings: Findings) -> "Figure":
    """Draw the mean change of a prediction by its distance from the token, and of the next one by the token's place."""
    panels = {}
    for title, estimate_of in (
        ("by distance from the token to the prediction", lambda influence: influence.by_distance(TOTAL)),
        ("of the next prediction, by place of the token", lambda influence: next_by_depth(influence, TOTAL)),
    ):
        series = {}
        for subject, by_kind in findings.items():
            for kind, influence in by_kind.items():
                profile = estimate_of(influence)
                # One text has no interval.
                ends = (np.where(np.isfinite(end), end, profile.mean) for end in profile.interval())
                at = np.arange(len(profile.mean)) + 1
                series[f"{subject}, {kind.replace('_', ' of variance ')}"] = at, profile.mean, *ends
        panels[title] = plots.Quantity(f"change of a prediction ({TOTAL})", series, log=False)
    return plots.side_by_side(
        panels, x="distance, or place; both from 1", heading="Influence of a token on predictions",
        looks=plots.in_order(list(series)), sample=f"{config.count} texts of {config.length} tokens",
    )  # fmt: skip
