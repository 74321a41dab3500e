"""Figures of ``experiments.length_and_sharpness``: measures by length, the trade-off, sizes of training sets."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import harness
from experiments.length_and_sharpness import estimates
from experiments.length_and_sharpness.config import FUNCTIONS, Config
from experiments.length_and_sharpness.estimates import Results
from experiments.length_and_sharpness.tradeoff_figure import cloud
from jaxsens import plots
from jaxsens.statistics import estimate
from jaxsens.training import many_models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {
    "loss": ("evaluation loss", "mean squared error"),
    "sharpness": ("average sharpness; means of converged models", "increase of the loss under noise"),
    "blow_up_median": ("cumulative blow-up", "median over strings"),
    "weight_norm": ("weight norm", "l2 norm of all parameters"),
}
"""Panels of the figure by length: titles and labels of the y axis."""


def label(function: str) -> str:
    """Return the name of a function as figures show it."""
    return function.capitalize()


def lengths(config: Config, results: Results) -> "Figure | None":
    """Draw four measures of all functions against the length; None if nothing can be drawn."""
    reached = estimates.converged_by_function(results)
    panels = {}
    for quantity, (title, unit) in PANELS.items():
        series, models = {}, {}
        for function, values in estimates.by_function(results, quantity).items():
            logs = estimates.logarithm(values)
            # The sharpness of a model that has not converged is not that of a minimum: a cross without a mean.
            averaged = np.where(reached[function] | (quantity != "sharpness"), logs, np.nan)
            means = [(n, *mean) for n, column in zip(config.lengths, averaged.T, strict=True)
                     if (mean := _geometric_mean(column))]  # fmt: skip
            if means:
                series[label(function)] = tuple(np.array(means).T)
                at, finite = np.broadcast_to(config.lengths, logs.shape), np.isfinite(logs)
                models[label(function)] = (at[finite], values[finite], reached[function][finite])
        if series:
            panels[title] = plots.Quantity(unit, series, models)
    if not panels:
        return None
    return plots.side_by_side(
        panels, x="length of strings (bits)", heading="Loss, sharpness, blow-up and weight norm by length",
        dataset=f"transformers of width {config.architecture.width} after {config.steps:,} steps",
        sample=f"{config.seeds} model{'s' * (config.seeds > 1)} each; geometric means",
        meaning="dots: models that converged, crosses: others",
        looks=plots.in_order([label(function) for function in FUNCTIONS]),
    )  # fmt: skip


def tradeoff(config: Config, models: Mapping[str, np.ndarray]) -> "Figure | None":
    """Draw blow-up against weight norm, colored by sharpness; None if no sharpness is positive."""
    kept = models["status"] != many_models.DIVERGED
    if not (models["sharpness"][kept] > 0).any():
        return None
    y = tuple(models[f"blow_up_{name}"][kept] for name in ("median", "low", "high"))
    return cloud(
        models["weight_norm"][kept], y, models["sharpness"][kept],
        solid=estimates.converged(models, "parity")[kept], x_quantity="weight norm (l2)",
        y_quantity="cumulative blow-up, median over strings", color_quantity="sharpness (mean squared error)",
        heading="Weight norm against blow-up", dataset=f"Parity of {config.tradeoff_length} bits",
        sample=f"{int(kept.sum())} models with different learning rates and weight decays",
        whiskers="quartiles over strings",
    )  # fmt: skip


def training_sizes(
    config: Config, learned: Mapping[str, np.ndarray], rows: Sequence[Mapping[str, Any]]
) -> "Figure | None":
    """Draw the sensitivity of learned functions against the size of their training set; None if nothing was learned."""
    series = {}
    for models, name in (("all", "all models"), ("fitted", "models that fit their training set")):
        means = [
            (row["size"], *harness.row_interval(row, "learned_"))
            for row in rows
            if row["models"] == models and row["learned_mean"] is not None
        ]
        if means:
            series[name] = tuple(np.array(means, float).T)
    if not series:
        return None
    finite = np.isfinite(learned["sensitivity"])
    fitted = (learned["train_accuracy"] > estimates.ACCURATE) & finite
    first = np.unique(learned["function"], return_index=True)[1]
    target = np.full(len(config.function_sizes), learned["target_sensitivity"][first].mean())
    models = {"models": (learned["size"][finite], learned["sensitivity"][finite], fitted[finite])}
    references = {"target functions, mean": (np.array(config.function_sizes), target)}
    panel = plots.Quantity("average sensitivity (bits)", series, models, references, log=False)
    return plots.side_by_side(
        {"": panel}, x=f"training strings, of {2**config.function_length:,}",
        heading="Sensitivity of functions learned from part of their strings",
        dataset=f"{config.functions} {'given' if config.own_functions else 'random'} functions of "
        f"{config.function_length} bits",
        sample=f"{config.function_seeds} model{'s' * (config.function_seeds > 1)} of each and size",
        meaning="dots: models that fit their training set, crosses: others", looks=plots.in_order(list(series)),
    )  # fmt: skip


def _geometric_mean(logs: np.ndarray) -> tuple[float, float, float] | None:
    """Return the geometric mean over models and its interval, from logarithms; without one where there is one model."""
    finite = logs[np.isfinite(logs)]
    if not len(finite):
        return None
    mean = estimate.from_values(finite)
    ends = mean.interval() if mean.count > 1 else (mean.mean, mean.mean)
    # An interval of a few models may leave float64, and any figure long before.
    low, high = np.clip(ends, float(mean.mean) - 30, float(mean.mean) + 30)
    return float(np.exp(mean.mean)), float(np.exp(low)), float(np.exp(high))
