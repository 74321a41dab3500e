"""Figures of ``experiments.vision``: sensitivity during and after training, against sharpness, and over an image."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from experiments.harness import mean_and_interval
from experiments.images.data import Data
from experiments.images.labels import dataset_label, model_label
from experiments.vision.claims import PUBLISHED, counterpart
from experiments.vision.conditions import Condition
from experiments.vision.config import Config
from experiments.vision.estimates import CURVES, Findings
from jaxsens import plots
from jaxsens.data import patches
from jaxsens.statistics.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["conditions", "sensitivity", "sharpness", "token_map", "training"]


def training(config: Config, data: Data, findings: Findings) -> "Figure | None":
    """Draw sensitivity and test accuracy by epoch; None if no model was trained here."""
    curves = {
        what: {
            model_label(name): (np.asarray(summary.epochs), *_columns(summary.curves[what]))
            for name, summary in findings.summaries.items()
            if summary.epochs
        }
        for what in CURVES
    }
    if not curves["sensitivity"]:
        return None
    images = max(summary.curve_images for summary in findings.summaries.values())
    return plots.training_curves(
        curves["sensitivity"], accuracy=curves["accuracy"], dataset=dataset_label(data.name),
        sample=_sample(config, images),
    )  # fmt: skip


def sensitivity(config: Config, data: Data, findings: Findings) -> "Figure":
    """Draw the sensitivity of every architecture, and the published values."""
    published = PUBLISHED.get(data.name, ("", {}))[1]
    marks = {_broken(name): [published[one]] for name in findings.summaries if (one := counterpart(name)) in published}
    bars = {
        _broken(name): mean_and_interval(summary.estimates["sensitivity"])
        for name, summary in findings.summaries.items()
    }
    return plots.bars_with_intervals(
        bars, published=marks or None, dataset=dataset_label(data.name), sample=_sample(config, findings.images)
    )


def sharpness(config: Config, data: Data, findings: Findings) -> "Figure":
    """Draw sensitivity against output sharpness."""
    quantities = ("output_sharpness", "sensitivity")
    points, dots = {}, {}
    for name, summary in findings.summaries.items():
        points[model_label(name)] = sum((mean_and_interval(summary.estimates[q]) for q in quantities), ())
        dots[model_label(name)] = tuple(summary.means[q] for q in quantities)
    sample = f"{_sample(config, findings.images)}, weight noise {config.deviation:g}"
    return plots.scatter_with_intervals(
        points, seeds=dots, sample=sample, x_unit="sum over logits of |change|", dataset=dataset_label(data.name)
    )


def token_map(config: Config, data: Data, findings: Findings) -> "Figure":
    """Draw the sensitivity of every patch of the most sensitive images: three, or one for more than four models."""
    maps = {model_label(name): summary.per_token for name, summary in findings.summaries.items()}
    ranked = np.argsort(-np.mean([one.mean(1) for one in maps.values()], 0), kind="stable")
    most = ranked[: 3 if len(maps) <= 4 else 1]
    images = patches.from_patches(data.train[0][most], config.token, data.image_shape) / 2 + 0.5
    chosen = "the most sensitive" if len(most) == 1 else f"the {len(most)} most sensitive"
    sample = f"{chosen} of {_sample(config, findings.images)}, {config.draws} draws a model"
    return plots.token_map(
        np.clip(images, 0, 1), {label: one[most] for label, one in maps.items()}, config.token, sample=sample,
        dataset=dataset_label(data.name),
    )  # fmt: skip


def conditions(
    config: Config, data: Data, findings: Findings, by_condition: Mapping[str, Mapping[Condition, Estimate]]
) -> "dict[str, Figure]":
    """Draw sensitivity on training images by the variance of the noise and by what gets it."""
    kinds = {
        "variances": ("variance of the noise on a patch", lambda one: one.square == config.token, "variance"),
        "squares": ("side of the squares (pixels)", lambda one: one.variance == config.noise, "square"),
        "whole_image": ("variance of the noise on the whole image", lambda one: one.square is None, "variance"),
    }
    drawn = {}
    for name, (x, belongs, field) in kinds.items():
        chosen = [one for one in next(iter(by_condition.values())) if one.images == "train" and belongs(one)]
        chosen = sorted((one for one in chosen if getattr(one, field)), key=lambda one: getattr(one, field))
        if len(chosen) < 2:
            continue
        at = [getattr(one, field) for one in chosen]
        series = {
            model_label(model): (at, *np.array([mean_and_interval(levels[one]) for one in chosen]).T)
            for model, levels in by_condition.items()
        }
        drawn[name] = plots.side_by_side(
            {"": plots.Quantity("fraction of predictions changed", series, log=False)}, x=x,
            heading="Sensitivity", dataset=dataset_label(data.name), sample=_sample(config, findings.images),
        )  # fmt: skip
    return drawn


def _sample(config: Config, images: int) -> str:
    models = "one model each" if config.seeds == 1 else f"{config.seeds} models each"
    return f"{images} training images, {models}, noise variance {config.noise:g}"


def _broken(name: str) -> str:
    """Return the label of a model in two lines, to stand under a bar."""
    return model_label(name).replace(", ", ",\n")


def _columns(estimates: tuple[Estimate, ...]) -> np.ndarray:
    return np.array([mean_and_interval(one) for one in estimates]).T
