"""Estimates of ``experiments.robustness``, made once: levels, differences, relative errors, rank correlations.

A model and its treatments start from the same weights and see the images in the same order, seed by seed: differences
between treatments of an architecture are paired over seeds and over images (or draws of the weights).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from experiments.harness import verdicts
from experiments.images.bench import Results
from experiments.images.labels import split_name
from experiments.robustness.config import Config
from experiments.robustness.quantities import errors, quantities, values
from jaxsens.statistics import estimate
from jaxsens.statistics.correlation import rank_correlation
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

__all__ = ["PREDICTORS", "SCOPES", "Findings", "columns_of", "of_scopes", "reference_of", "summarize", "units"]

SCOPES = {"architectures": "between architectures", "treatments": "between treatments"}
"""What the units of a rank correlation are, and the words for it; see `units`."""

PREDICTORS = ("sensitivity", "prediction_sharpness", "relative_output_sharpness")
"""What may go with errors on corrupted images, beside the error on clean ones."""

OUTCOMES = ("corruption_error", "error_not_noise", "degradation", "probe_error", "probe_corruption_error")
"""What may go with `PREDICTORS`; the last two on a second data set."""

Pair = tuple[str, str]
"""Names of the subject and of the reference of a difference."""


@dataclass(frozen=True, eq=False)
class Findings:
    """All estimates of a run.

    Attributes:
        results: What was measured, by name of the model and treatment.
        levels: Name to quantity to its estimate.
        means: Name to quantity to the means of its models ``[seeds]``.
        accuracies: Name to the accuracy by corruption and severity ``[c s]``.
        relative: Name to the mean corruption error relative to the reference, and with the clean errors subtracted;
            None where the reference makes no more errors than that.
        differences: Pair to quantity to subject minus reference, for treatments of one architecture.
        logits: Pair to the difference of logits of token sensitivity: see `verdicts.on_logits`.
        correlations: Rows of correlations.csv.
    """

    results: Results
    levels: Mapping[str, Mapping[str, Estimate]]
    means: Mapping[str, Mapping[str, np.ndarray]]
    accuracies: Mapping[str, Estimate]
    relative: Mapping[str, tuple[Estimate | None, Estimate | None]]
    differences: Mapping[Pair, Mapping[str, Estimate]]
    logits: Mapping[Pair, Estimate]
    correlations: list[dict[str, Any]]


def summarize(config: Config, results: Results) -> Findings:
    """Estimate everything that tables, claims and figures show."""
    measured = quantities(config)
    means = {name: {key: values(config, models, key).mean(1) for key in measured} for name, models in results.items()}
    pairs = [
        (subject, reference)
        for subject in results
        for reference in results
        if subject != reference and split_name(subject)[0] == split_name(reference)[0]
    ]
    return Findings(
        results=results,
        levels={
            name: {
                key: estimate.over_models(values(config, models, key), rate=one.rate) for key, one in measured.items()
            }
            for name, models in results.items()
        },
        means=means,
        accuracies={
            name: estimate.over_models(1.0 - np.stack([model["wrong"] for model in models]), rate=True)
            for name, models in results.items()
        },
        relative={name: _relative(config, results, name) for name in results},
        differences={
            pair: {key: _paired(*(values(config, results[name], key) for name in pair)) for key in measured}
            for pair in pairs
        },
        logits={pair: _paired(*(_on_logits(config, results[name]) for name in pair)) for pair in pairs},
        correlations=_correlations(means),
    )


def reference_of(config: Config, names: Sequence[str]) -> str:
    """Return the model that relative corruption errors are relative to.

    Raises:
        ValueError: If the run has no such model.
    """
    name = names[0] if config.reference is None else config.reference
    if name not in names:
        raise ValueError(f"reference must be one of {', '.join(names)}, the models of the run, got {name!r}")
    return name


def units(values: Mapping[tuple[str, str], float]) -> dict[str, np.ndarray]:
    """Return the independent units of a rank correlation, by the keys of `SCOPES`.

    Models of an architecture are alike, and so are models of a treatment: a model is no unit. Between architectures,
    units are the architectures ``[a]``, trained plainly. Between treatments, units are the treatments ``[t]``, the
    plain training among them: the mean, over architectures, of the rank of the treatment within the architecture, over
    all architectures that were trained in all ways.

    Args:
        values: A number, mean over seeds, by architecture and treatment; the plain treatment is an empty text.
    """
    architectures, treatments = (list(dict.fromkeys(part)) for part in zip(*values, strict=True))
    whole = [one for one in architectures if all((one, treatment) in values for treatment in treatments)]
    ranks = [rankdata([values[one, treatment] for treatment in treatments]) for one in whole]
    return {
        "architectures": np.array([values[one, ""] for one in architectures]),
        "treatments": np.mean(ranks, 0) if ranks else np.zeros(0),
    }


def columns_of(means: Mapping[str, Mapping[str, np.ndarray]], key: str) -> dict[str, np.ndarray]:
    """Return the `units` of a quantity, from its means over what it was measured on, by name ``[seeds]``."""
    return units({split_name(name): float(np.mean(of_name[key])) for name, of_name in means.items()})


def of_scopes(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the models that the units of a rank correlation are made of, by the keys of `SCOPES`."""
    treatments_of: dict[str, set[str]] = {}
    for plain, treatment in map(split_name, names):
        treatments_of.setdefault(plain, set()).add(treatment)
    treatments = set().union(*treatments_of.values())
    return {
        "architectures": [name for name in names if not split_name(name)[1]],
        "treatments": [name for name in names if treatments_of[split_name(name)[0]] == treatments],
    }


def _paired(subject: np.ndarray, reference: np.ndarray) -> Estimate:
    """Estimate subject minus reference ``[seeds units]``, of the same seeds and units."""
    return estimate.over_models(subject - reference)


def _on_logits(config: Config, models: list[Mapping[str, Array]]) -> np.ndarray:
    """Return sensitivities on the logit scale; that of an image is a rate over its tokens and draws."""
    tokens = models[0]["sensitivity"].shape[1]
    return verdicts.on_logits(values(config, models, "sensitivity"), tokens * config.draws)


def _relative(config: Config, results: Results, name: str) -> tuple[Estimate | None, Estimate | None]:
    """Return the relative errors of the models of a name, each with the reference model of its seed."""
    references = results[reference_of(config, list(results))]
    pairs = [
        (errors(config, model), errors(config, references[seed % len(references)]))
        for seed, model in enumerate(results[name])
    ]
    relative: list[Estimate | None] = []
    for degradation in (False, True):
        below = [reference.per_corruption.mean - degradation * reference.clean.mean for _, reference in pairs]
        if min(one.min() for one in below) <= 0:
            relative.append(None)
            continue
        ratios = [subject.relative_to(reference, degradation=degradation).values for subject, reference in pairs]
        relative.append(estimate.over_models(np.stack(ratios)))
    return relative[0], relative[1]


def _correlations(means: Mapping[str, Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
    """Return rank correlations over units, with and without the error on clean test images as a covariate."""
    outcomes = [outcome for outcome in OUTCOMES if outcome in next(iter(means.values()))]
    columns = {key: columns_of(means, key) for key in (*PREDICTORS, *outcomes, "test_error")}
    members = of_scopes(list(means))
    rows = []
    for scope in SCOPES:
        models = sum(len(means[name]["sensitivity"]) for name in members[scope])
        for predictor in PREDICTORS:
            for outcome in outcomes:
                for covariate in ("", "test_error"):
                    x, y = columns[predictor][scope], columns[outcome][scope]
                    r = rank_correlation(x, y, covariate=columns[covariate][scope] if covariate else None)
                    row = {"quantity": predictor, "correlated_with": outcome, "covariate": covariate, "scope": scope}
                    row |= {"models": models, "units": len(x)}
                    rows.append(row | dict(zip(("r", "low", "high"), (None,) * 3 if r is None else r, strict=True)))
    return rows
