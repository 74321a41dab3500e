"""Estimates of ``experiments.flatness``, made once: levels, differences, rank correlations, spectral densities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.flatness.config import Config
from experiments.flatness.quantities import all_quantities, sharpness_measures
from experiments.harness import verdicts
from experiments.images.bench import Results
from experiments.images.config import REGULARIZED
from jaxsens import curvature
from jaxsens.statistics import estimate
from jaxsens.statistics.correlation import rank_correlation
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

__all__ = ["SCOPES", "Findings", "correlations", "scopes", "summarize", "values"]

SCOPES = {
    "all": "over all models",
    "architecture": "within architectures, plain and regularized",
    "treatment": "between seeds of a treatment",
}
"""The groups within which models are compared, and their description."""

Curve = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Grid, mean, and the ends of the interval, ``[n]`` each."""


@dataclass(frozen=True, eq=False)
class Findings:
    """All estimates of a run.

    Attributes:
        results: What was measured, by treatment.
        pairs: Architecture to the names of its plain and its regularized models.
        levels: Treatment to quantity to its estimate.
        means: Treatment to quantity to the means of its models ``[seeds]``.
        differences: Architecture to quantity to regularized minus plain.
        logits: The same of logits, for token sensitivity and shares of predictions: see `verdicts.on_logits`.
        added: Treatment to ``output`` or ``prediction`` and deviation to what training mode adds to that sharpness.
        correlations: Rows of correlations.csv.
        densities: Architecture to ``plain`` and ``regularized`` to the spectral density of the Hessian.
    """

    results: Results
    pairs: Mapping[str, tuple[str, str]]
    levels: Mapping[str, Mapping[str, Estimate]]
    means: Mapping[str, Mapping[str, np.ndarray]]
    differences: Mapping[str, Mapping[str, Estimate]]
    logits: Mapping[str, Mapping[str, Estimate]]
    added: Mapping[str, Mapping[tuple[str, float], Estimate]]
    correlations: list[dict[str, Any]]
    densities: Mapping[str, Mapping[str, Curve]]


def summarize(config: Config, results: Results, tokens: int) -> Findings:
    """Estimate everything that tables, claims and figures show, of images of so many tokens."""
    quantities = all_quantities(config)
    pairs = {name: (name, name + REGULARIZED) for name in results if name + REGULARIZED in results}
    return Findings(
        results=results,
        pairs=pairs,
        levels={
            name: {key: _level(models, key, quantity.rate) for key, quantity in quantities.items()}
            for name, models in results.items()
        },
        means={name: {key: values(models, key).mean(1) for key in quantities} for name, models in results.items()},
        differences={
            name: {
                key: _difference(results[regularized], results[plain], key, quantity.rate)
                for key, quantity in quantities.items()
            }
            for name, (plain, regularized) in pairs.items()
        },
        logits={
            name: {
                key: _logits(config, tokens, results[regularized], results[plain], key)
                for key, quantity in quantities.items()
                if quantity.rate and not key.endswith("error")
            }
            for name, (plain, regularized) in pairs.items()
        },
        added={name: _added(config, models) for name, models in results.items()},
        correlations=correlations(config, results),
        densities={name: _densities(results, pair) for name, pair in pairs.items()},
    )


def values(models: list[Mapping[str, Array]], name: str) -> np.ndarray:
    """Return what was measured, model by independent unit ``[seeds units]``; one unit where nothing was sampled."""
    if name.startswith("relative_output"):
        scale = np.stack([model["scale"] for model in models])
        return values(models, name.removeprefix("relative_")) / scale[:, None]
    if name in ("test_error", "train_error"):
        return 1.0 - np.stack([model[name.replace("error", "correct")] for model in models])
    return np.stack([np.atleast_1d(model[name]) for model in models]).astype(np.float64)


def _level(models: list[Mapping[str, Array]], name: str, rate: bool) -> Estimate:
    """Estimate a quantity over models, and over the units that it was measured on."""
    every = values(models, name)
    return estimate.over_models(every, rate=rate) if every.shape[1] > 1 else estimate.from_values(every[:, 0])


def _difference(
    subject: list[Mapping[str, Array]], reference: list[Mapping[str, Array]], name: str, rate: bool
) -> Estimate:
    """Estimate subject minus reference, paired over the units that models share."""
    one, other = values(subject, name), values(reference, name)
    if one.shape[1] > 1:
        return estimate.difference(one, other, rate=rate)
    return estimate.unpaired_difference(one[:, 0], other[:, 0])


def _logits(
    config: Config, tokens: int, subject: list[Mapping[str, Array]], reference: list[Mapping[str, Array]], name: str
) -> Estimate:
    """Estimate a difference of logits: an image has a rate over its tokens and draws, a draw one over the images."""
    trials = tokens * config.draws if name == "sensitivity" else len(subject[0]["sensitivity"])
    return estimate.difference(*(verdicts.on_logits(values(models, name), trials) for models in (subject, reference)))


def _added(config: Config, models: list[Mapping[str, Array]]) -> dict[tuple[str, float], Estimate]:
    """Estimate the sharpness of noisy copies in training mode minus that of the same copies in evaluation mode."""
    return {
        (what, deviation): estimate.over_models(
            values(models, f"train_mode_{what}_{deviation:g}") - values(models, f"{what}_gaussian_{deviation:g}")
        )
        for what in ("output", "prediction")
        for deviation in config.deviations
    }


def scopes(names: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the groups within which models are compared, and their units, by the keys of `SCOPES`.

    Args:
        names: The treatment of every model ``[m]``.

    Returns:
        dict: Group of every model ``[m]``, and cluster ``[m]``.
    """
    treatments = np.array(names)
    architectures = np.array([name.removesuffix(REGULARIZED) for name in names])
    # Seeds of one treatment are alike: together they are one unit, except where seeds are compared with each other.
    return {
        "all": (np.zeros(len(names), int), treatments),
        "architecture": (architectures, treatments),
        "treatment": (treatments, np.arange(len(names))),
    }


def correlations(config: Config, results: Results) -> list[dict[str, Any]]:
    """Return rank correlations over models of token sensitivity, and of test error, with every other quantity."""
    names = [name for name, models in results.items() for _ in models]
    others = ("scale", *sharpness_measures(config))
    means = {
        key: np.concatenate([values(models, key).mean(1) for models in results.values()])
        for key in ("sensitivity", "test_error", *others)
    }
    rows = []
    for quantity, partners in (("sensitivity", ("test_error", *others)), ("test_error", others)):
        for partner in partners:
            for scope, (groups, clusters) in scopes(names).items():
                r = rank_correlation(means[quantity], means[partner], groups=groups, clusters=clusters)
                row = {"quantity": quantity, "correlated_with": partner, "scope": scope, "models": len(names)}
                row |= {"units": len(np.unique(clusters)), "groups": len(np.unique(groups))}
                rows.append(row | dict(zip(("r", "low", "high"), (None,) * 3 if r is None else r, strict=True)))
    return rows


def _densities(results: Results, pair: tuple[str, str]) -> dict[str, Curve]:
    """Return densities on a grid that plain and regularized models share, smoothed alike; models are the units."""
    atoms = np.concatenate([np.ravel(model["atoms"]) for name in pair for model in results[name]])
    width = max(np.ptp(atoms) / 150, 1e-6)
    grid = np.linspace(atoms.min() - 4 * width, atoms.max() + 4 * width, 1200)
    densities = {}
    for label, name in zip(("plain", "regularized"), pair, strict=True):
        curves = [
            curvature.smoothed(model["atoms"], model["atom_weights"], grid, width).mean for model in results[name]
        ]
        over = estimate.from_values(np.stack(curves), rate=False)
        low, high = over.interval()
        finite = np.isfinite(low) & np.isfinite(high)
        low, high = (np.where(finite, end, over.mean) for end in (low, high))
        densities[label] = (grid, over.mean, np.maximum(low, 0), high)
    return densities
