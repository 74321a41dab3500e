"""Estimates of ``experiments.language``, made once for tables, claims and figures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import harness
from experiments.harness import verdicts
from experiments.language.config import Config
from experiments.language.measure import name_of
from jaxsens.statistics import estimate
from jaxsens.statistics.correlation import rank_correlation
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

__all__ = [
    "BY_WORDS",
    "Family",
    "Findings",
    "Matched",
    "choose",
    "cross_task",
    "curve_rows",
    "logits",
    "matched_logits",
    "position_rows",
    "quantities",
    "rows",
]


BY_WORDS = {"words": "another word", "nearest": "nearest word"}
"""Sensitivities to other words, with their names in tables and figures."""


def quantities(config: Config) -> list[str]:
    """Return the names of the measured sensitivities."""
    kinds = ("raw", "renormalized", "published", "sentence")
    return [name_of(kind, variance) for variance in config.noise for kind in kinds] + [*BY_WORDS]


def choose(found: Mapping[float, Mapping[str, Array]]) -> float:
    """Return the learning rate with the highest accuracy on held-out texts.

    Of equal ones that with the highest accuracy on training texts, then the smallest rate. The cross-entropy is not
    used: on few texts it can rise while the accuracy stays, so that the smallest one at the end of training is that of
    a model that learned least.
    """
    return max(sorted(found), key=lambda rate: score(found[rate]))


def score(found: Mapping[str, Array]) -> tuple[float, float]:
    """Return by what learning rates are compared: the accuracies on held-out and on training texts."""
    return float(found["accuracy"]), float(found["train_accuracy"])


class Matched(NamedTuple):
    """The models of a family at about equal training accuracy.

    Attributes:
        sensitivity: To raw noise of the first variance, by one draw ``[seeds b]``.
        accuracy: On the measured training texts ``[seeds]``.
    """

    sensitivity: np.ndarray
    accuracy: np.ndarray


class Place(NamedTuple):
    """Sensitivity to noise on tokens that ``first`` to ``last`` tokens follow, over texts that have such a token."""

    first: int
    last: int
    texts: int
    sensitivity: Estimate


class Family:
    """The models of a family on a data set, one for each seed, at the best of the learning rates that were tried."""

    def __init__(
        self,
        config: Config,
        name: str,
        rate: float,
        models: Sequence[Mapping[str, Array]],
        rates: Sequence[float],
    ) -> None:
        self.name, self.rate, self.models, self.rates = name, rate, list(models), tuple(rates)
        self.parameters = int(self.models[0]["parameters"])
        self.majority = float(self.models[0]["majority"])
        self.points, self._matched, self._draws = config.points, config.matched, config.draws

    def values(self, quantity: str) -> np.ndarray:
        """Return a sensitivity, or ``test_correct`` or ``train_correct``, model by text ``[seeds n]``."""
        stacked = np.stack([np.asarray(model[quantity], np.float64) for model in self.models])
        return stacked if stacked.ndim == 2 else np.nanmean(stacked, 2)

    def trials(self, quantity: str) -> int:
        """Return how many replacements the sensitivity of a text is a mean of, on average over texts."""
        first = np.asarray(self.models[0][quantity], np.float64)
        sites = 1.0 if first.ndim == 1 else np.isfinite(first).sum(1).mean()
        # There is one nearest word, so that it is not drawn.
        return max(1, round((1 if quantity == "nearest" else self._draws) * sites))

    @property
    def accuracy(self) -> np.ndarray:
        """Accuracy of every model on the measured training texts ``[seeds]``."""
        return self.values("train_correct").mean(1)

    def estimate(self, quantity: str) -> Estimate:
        """Return the mean over models and texts."""
        return estimate.over_models(self.values(quantity), rate=True)

    @property
    def matched(self) -> "Matched | None":
        """What models have at the first point where they know the training texts; None if one never does.

        The accuracy that counts as knowing is ``config.matched``.
        """
        accuracy = [np.mean(model["curve_accuracy"], 1, dtype=np.float64) for model in self.models]
        at = [np.flatnonzero(one >= self._matched) for one in accuracy]
        if not all(len(points) for points in at):
            return None
        first = [points[0] for points in at]
        sensitivity = [model["curve_sensitivity"][point] for model, point in zip(self.models, first, strict=True)]
        return Matched(
            np.stack(sensitivity).astype(np.float64),
            np.array([one[point] for one, point in zip(accuracy, first, strict=True)]),
        )

    def curve(self, what: str) -> list[Estimate]:
        """Return ``sensitivity`` or ``accuracy`` after each of ``points``."""
        stacked = np.stack([model[f"curve_{what}"] for model in self.models]).astype(np.float64)
        return [estimate.over_models(stacked[:, point], rate=True) for point in range(stacked.shape[1])]

    def by_position(self, quantity: str) -> list["Place"]:
        """Return sensitivities by the number of tokens after the noisy one: 0, 1, 2 to 3, 4 to 7, 8 to 15 and so on."""
        values = np.stack([np.asarray(model[quantity], np.float64) for model in self.models])  # [seeds b t]
        sites = np.isfinite(values[0])
        longest = int(sites.sum(1).max())
        aligned = np.full((*values.shape[:2], longest), np.nan)
        for text, row in enumerate(sites):
            places = np.flatnonzero(row)[::-1]
            aligned[:, text, : len(places)] = values[:, text, places]
        places, first = [], 0
        while first < longest:
            end = min(max(2 * first, 1), longest)
            part = aligned[:, np.isfinite(aligned[0, :, first]), first:end]
            if part.shape[1] > 1:
                places.append(
                    Place(first, end - 1, part.shape[1], estimate.over_models(np.nanmean(part, 2), rate=True))
                )
            first = end
        return places


Findings = Mapping[str, Mapping[str, Family]]
"""The families of every data set."""


def logits(subject: Family, reference: Family, quantity: str, other: str | None = None) -> Estimate:
    """Return the difference of two families, as one of logits of rates; see `verdicts.on_logits`.

    With ``other``, the reference is measured by another quantity; models are paired where both are the same.
    """
    first, second = (
        verdicts.on_logits(family.values(name), family.trials(name))
        for family, name in ((subject, quantity), (reference, other or quantity))
    )
    return estimate.over_models(first - second) if subject is reference else estimate.difference(first, second)


def matched_logits(config: Config, subject: Family, reference: Family) -> Estimate | None:
    """Return the difference of two families at about equal training accuracy; None where one never reaches it."""
    matched = [point for family in (subject, reference) if (point := family.matched) is not None]
    if len(matched) < 2:
        return None
    raw = np.asarray(reference.models[0][name_of("raw", config.noise[0])])[: config.curve_texts]
    trials = max(1, round(np.isfinite(raw).sum(1).mean()))  # of the one draw that curves are measured by
    return estimate.difference(*(verdicts.on_logits(one.sensitivity, trials) for one in matched))


def rows(config: Config, findings: Findings) -> list[dict[str, Any]]:
    """Return a row for every family and data set."""
    table = []
    for dataset, families in findings.items():
        for family in families.values():
            row: dict[str, Any] = {
                "dataset": dataset, "family": family.name, "models": len(family.models),
                "parameters": family.parameters, "learning_rate": family.rate, "majority_rate": family.majority,
            }  # fmt: skip
            for name in ("test_correct", "train_correct", *quantities(config)):
                row |= harness.cells(family.estimate(name), f"{name}_")
            matched = family.matched
            row |= (
                dict.fromkeys(harness.cells(family.estimate("words"), "matched_"))
                if matched is None
                else harness.cells(estimate.over_models(matched.sensitivity, rate=True), "matched_")
            )
            table.append(row)
    return table


def curve_rows(findings: Findings) -> list[dict[str, Any]]:
    """Return a row for every family, data set and point of training."""
    return [
        {"dataset": dataset, "family": family.name, "epoch": epoch}
        | harness.cells(sensitivity, "sensitivity_")
        | harness.cells(accuracy, "train_accuracy_")
        for dataset, families in findings.items()
        for family in families.values()
        for epoch, sensitivity, accuracy in zip(
            family.points, family.curve("sensitivity"), family.curve("accuracy"), strict=True
        )
    ]


def position_rows(config: Config, findings: Findings) -> list[dict[str, Any]]:
    """Return a row for every family, data set and place of a token, counted from the last one of a text."""
    return [
        {"dataset": dataset, "family": family.name, "tokens_after_from": one.first, "tokens_after_to": one.last}
        | {"texts": one.texts, **harness.cells(one.sensitivity, "sensitivity_")}
        for dataset, families in findings.items()
        for family in families.values()
        for one in family.by_position(name_of("raw", config.noise[0]))
    ]


def cross_task(config: Config, findings: Findings) -> list[dict[str, Any]]:
    """Return for every two data sets how families rank by noise on the one and by other words on the other."""
    table = []
    for first, families in findings.items():
        for second in findings:
            shared = [name for name in families if name in findings[second]]
            if first == second or len(shared) < 2:
                continue
            noise = [families[name].values(name_of("raw", config.noise[0])).mean() for name in shared]
            words = [findings[second][name].values("words").mean() for name in shared]
            correlation = rank_correlation(np.array(noise), np.array(words)) if len(shared) > 3 else None
            row = {"noise_on": first, "words_on": second, "families": len(shared)}
            table.append(row | dict(zip(("rank_correlation", "low", "high"), correlation or (None,) * 3, strict=True)))
    return table
