"""Estimates of ``experiments.vision``, made once for tables, claims and figures.

Units are images (sensitivity, accuracy) or draws of the weights (sharpness), and models where several were trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.harness import verdicts
from experiments.images.bench import Results, rates_tried
from experiments.vision.config import Config
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

__all__ = ["CURVES", "QUANTITIES", "Findings", "Model", "Summary", "summarize", "values"]

QUANTITIES = {
    "test_accuracy": ("test_correct", True),
    "sensitivity": ("sensitivity", True),
    "output_sharpness": ("output_sharpness", False),
    "prediction_sharpness": ("prediction_sharpness", True),
}
"""Quantity to the key of its values, and whether they are frequencies."""

RELATIVE = "relative_output_sharpness"
"""Output sharpness divided by the size of the logits."""

CURVES = ("sensitivity", "accuracy")
"""What is followed during training."""


@dataclass(frozen=True, eq=False)
class Model:
    """Estimates of one model.

    Attributes:
        training_loss: Training loss of the last epoch, in nats; None for a model that was not trained here.
        logit_scale: Size of its logits.
        estimates: By quantity, over images or draws.
    """

    training_loss: float | None
    logit_scale: float
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True, eq=False)
class Summary:
    """Estimates of one architecture.

    Attributes:
        parameters: Number of trained parameters.
        learning_rate: The one that did best; None for a model that was not trained here.
        rates_tried: All that were tried.
        models: One for each seed.
        estimates: By quantity, over models and what they were measured on.
        means: By quantity, of each model ``[seeds]``.
        epochs: Epochs of the curves.
        curves: Quantities of ``CURVES``, one estimate for each of ``epochs``.
        per_token: Token sensitivity, mean over models ``[b t]``.
        curve_images: Images of a point of the curves.
    """

    parameters: int
    learning_rate: float | None
    rates_tried: tuple[float, ...]
    models: tuple[Model, ...]
    estimates: Mapping[str, Estimate]
    means: Mapping[str, np.ndarray]
    epochs: tuple[int, ...]
    curves: Mapping[str, tuple[Estimate, ...]]
    per_token: np.ndarray
    curve_images: int


@dataclass(frozen=True, eq=False)
class Findings:
    """All estimates of a run.

    Attributes:
        summaries: By name of the architecture.
        differences: ``(subject, reference)`` to quantity to the subject minus the reference, paired over images or
            draws. Sharpness only between models of as many parameters, which share the draws.
        logits: The same of logits, for token sensitivity and prediction sharpness: see `verdicts.on_logits`.
        images: Images that sensitivity was measured on.
    """

    summaries: Mapping[str, Summary]
    differences: Mapping[tuple[str, str], Mapping[str, Estimate]]
    logits: Mapping[tuple[str, str], Mapping[str, Estimate]]
    images: int


def summarize(config: Config, results: Results) -> Findings:
    """Estimate everything that tables, claims and figures show."""
    summaries = {name: _summary(config, name, models) for name, models in results.items()}
    pairs = [(first, second) for first in results for second in results if first != second]
    first = next(iter(results.values()))
    return Findings(
        summaries,
        {pair: _differences(results, *pair) for pair in pairs},
        {pair: _logits(config, results, *pair) for pair in pairs},
        values(first, "sensitivity").shape[1],
    )


def values(models: list[Mapping[str, Array]], quantity: str) -> np.ndarray:
    """Return what was measured, model by independent unit: ``[seeds images]`` or ``[seeds draws]``, float64."""
    if quantity == RELATIVE:
        return values(models, "output_sharpness") / np.stack([model["scale"] for model in models])[:, None]
    stacked = np.stack([model[QUANTITIES[quantity][0]] for model in models]).astype(np.float64)
    return stacked.mean(2) if quantity == "sensitivity" else stacked


def _summary(config: Config, name: str, models: list[Mapping[str, Array]]) -> Summary:
    each = {quantity: (values(models, quantity), rate) for quantity, (_, rate) in QUANTITIES.items()}
    trained = "losses" in models[0]
    epochs = models[0]["curve_epochs"] if trained else ()
    curves = {
        what: tuple(
            estimate.over_models(np.stack([model[f"curve_{what}"][i] for model in models]), rate=True)
            for i in range(len(epochs))
        )
        for what in CURVES
    }
    return Summary(
        parameters=int(models[0]["parameters"]),
        learning_rate=float(models[0]["learning_rate"]) if trained else None,
        rates_tried=rates_tried(config, name, models[0]) if trained else (),
        models=tuple(
            Model(
                float(model["losses"][-1]) if trained else None,
                float(model["scale"]),
                {quantity: estimate.from_values(v[i], rate=rate) for quantity, (v, rate) in each.items()},
            )
            for i, model in enumerate(models)
        ),
        estimates={quantity: estimate.over_models(v, rate=rate) for quantity, (v, rate) in each.items()},
        means={quantity: v.mean(1) for quantity, (v, _) in each.items()},
        epochs=tuple(map(int, epochs)),
        curves=curves,
        per_token=np.mean([model["sensitivity"] for model in models], 0),
        curve_images=models[0]["curve_sensitivity"].shape[1] if trained else 0,
    )


def _compared(first: list[Mapping[str, Array]], second: list[Mapping[str, Array]]) -> list[str]:
    """Return the quantities that two architectures are compared by: draws are shared only by models of one shape."""
    alike = first[0]["parameters"] == second[0]["parameters"]
    return [quantity for quantity in (*QUANTITIES, RELATIVE) if alike or not quantity.endswith("sharpness")]


def _differences(results: Results, first: str, second: str) -> dict[str, Estimate]:
    one, other = results[first], results[second]
    rates = {quantity: rate for quantity, (_, rate) in QUANTITIES.items()} | {RELATIVE: False}
    return {
        quantity: estimate.difference(values(one, quantity), values(other, quantity), rate=rates[quantity])
        for quantity in _compared(one, other)
    }


def _logits(config: Config, results: Results, first: str, second: str) -> dict[str, Estimate]:
    """Return differences of logits; a rate of an image is over its tokens and draws, one of a draw over the images."""
    one, other = results[first], results[second]
    images, tokens = np.shape(one[0]["sensitivity"])
    trials = {"sensitivity": tokens * config.draws, "prediction_sharpness": images}
    return {
        quantity: estimate.difference(
            *(verdicts.on_logits(values(m, quantity), trials[quantity]) for m in (one, other))
        )
        for quantity in _compared(one, other)
        if quantity in trials
    }
