"""Figures of ``experiments.sparse_tokens``: which rule is followed, and how sensitive the models are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from experiments import harness
from experiments.sparse_tokens.config import Config
from experiments.sparse_tokens.estimates import Group
from jaxsens import plots
from jaxsens.data.sparse_tokens import SOLUTIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {"attention": "attention", "linear": "linear model", "mlp": "MLP", "lstm": "LSTM"}
"""Names of the kinds as figures show them."""

Groups = Mapping[tuple[str, str, float], Group]


def draw(config: Config, groups: Groups) -> dict[str, "Figure"]:
    """Return the figures by the names of their files."""
    sample = f"{config.seeds} seeds; learning rates chosen on other examples"
    common = {"dataset": f"M = {config.vocabulary}, T = {config.length}", "sample": sample}
    rules = {
        "out_of_distribution": (
            "other_accuracy", {"frequent rule": lambda _: 1.0, "sparse rule": lambda _: 0.0},
            "Examples with the sparse tokens of the other label", "accuracy (fraction)",
        ),
        "sensitivity": (
            "sensitivity",
            {f"{name} rule, exact": lambda group, name=name: group.exact[name] for name in SOLUTIONS},
            "Sensitivity of the learned models", "token sensitivity (fraction of replacements)",
        ),
    }  # fmt: skip
    figures = {}
    for name, (measured, references, heading, quantity) in rules.items():
        panels = {}
        for group in groups.values():
            scale = f", x {group.scale:g}" if len(config.scales) > 1 else ""
            panel = panels.setdefault(_title(group), {rule: (value(group),) * 3 for rule, value in references.items()})
            panel[LABELS[group.kind] + scale] = harness.mean_and_interval(group.estimates()[measured])
        figures[name] = plots.dots(panels, heading=heading, quantity=quantity, **common)
    return figures


def _title(group: Group) -> str:
    task = group.task
    return f"n_s, n_f, n_d, m = {task.sparse}, {task.frequent}, {task.excess}, {task.pool}"
