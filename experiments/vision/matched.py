"""Sensitivities at equal accuracy: where the curves of two models reach the accuracy that both reach."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.harness import verdicts
from experiments.images.bench import Results
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

__all__ = ["CURVES", "Matched", "at_accuracy", "compare"]

CURVES = {"train": "curve_train_accuracy", "test": "curve_accuracy"}
"""Whose accuracy is equal, and under which key the curve is kept."""


@dataclass(frozen=True, eq=False)
class Matched:
    """Two architectures at equal accuracy.

    Attributes:
        accuracies: The accuracy of each pair of seeds ``[seeds]``.
        subject: Sensitivity of the subject.
        reference: Sensitivity of the reference.
        logits: The difference of their logits, paired over images: see `verdicts.on_logits`.
    """

    accuracies: np.ndarray
    subject: Estimate
    reference: Estimate
    logits: Estimate


def at_accuracy(accuracy: Array, sensitivity: Array, level: float) -> np.ndarray:
    """Return the sensitivity of each image ``[b]`` where a model first reaches an accuracy during its training.

    Linear between the two measurements around it, of which the later one is the first with at least this accuracy.

    Args:
        accuracy: At each measurement ``[e]``.
        sensitivity: At each measurement ``[e b]``.
        level: The accuracy; at most the largest one.

    Raises:
        ValueError: If the model never reaches it.
    """
    accuracy = np.asarray(accuracy, np.float64)
    if level > accuracy.max():
        raise ValueError(f"level must be at most the largest accuracy, {accuracy.max()}, got {level}")
    after = int(np.argmax(accuracy >= level))
    if after == 0:
        return np.asarray(sensitivity[0], np.float64)
    weight = (level - accuracy[after - 1]) / (accuracy[after] - accuracy[after - 1])
    return (1 - weight) * sensitivity[after - 1] + weight * sensitivity[after]


def compare(results: Results, tokens: int) -> Mapping[tuple[str, str, str], Matched]:
    """Compare all pairs of architectures that were trained here, at equal training and at equal test accuracy.

    The models of a seed of both are compared at the smaller one of their largest accuracies.

    Args:
        results: What was measured.
        tokens: Tokens that the sensitivity of an image is a mean over.

    Returns:
        ``train`` or ``test``, subject and reference to the comparison.
    """
    trained = {name: models for name, models in results.items() if "curve_train_accuracy" in models[0]}
    pairs = [(subject, reference) for subject in trained for reference in trained if subject != reference]
    return {
        (images, *pair): _matched(*(trained[name] for name in pair), curve, tokens)
        for pair in pairs
        for images, curve in CURVES.items()
    }


def _matched(
    subject: list[Mapping[str, Array]], reference: list[Mapping[str, Array]], curve: str, tokens: int
) -> Matched:
    accuracies, sensitivities = [], ([], [])
    for models in zip(subject, reference, strict=True):
        curves = [model[curve].mean(1) for model in models]
        accuracies.append(min(one.max() for one in curves))
        for values, model, one in zip(sensitivities, models, curves, strict=True):
            values.append(at_accuracy(one, model["curve_sensitivity"], accuracies[-1]))
    of_subject, of_reference = (np.clip(values, 0, 1) for values in sensitivities)
    difference = verdicts.on_logits(of_subject, tokens) - verdicts.on_logits(of_reference, tokens)
    return Matched(
        np.array(accuracies),
        estimate.over_models(of_subject, rate=True),
        estimate.over_models(of_reference, rate=True),
        estimate.over_models(difference),
    )
