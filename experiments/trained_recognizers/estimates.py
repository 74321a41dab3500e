"""What ``experiments.trained_recognizers`` found of each model, and means of that over the models of a kind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.trained_recognizers.config import Config, Kind, Model
from experiments.trained_recognizers.measure import NONFINITE
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

UNSEEN = -2
"""Stands in the place of sensitivities of a model that took no part in an epoch, having stopped or diverged before."""

STATUSES = ("all epochs", "no progress", "enough", "diverged")
"""What became of a model, in the order of ``training.many``'s codes."""

LEARNED = 0.99
"""Share of strings that a model must decide rightly to have learned a language, or fitted random labels."""


@dataclass(frozen=True)
class Result:
    """What was found of one model.

    Attributes:
        model: Which one.
        status: What became of it, of ``STATUSES``.
        epochs: Epochs done.
        best_epoch: That of its smallest watched loss, whose weights are measured; 0: its first ones.
        before: Before training: ``correct``, ``log_blow_up``, ``norm``.
        after: After it, the same.
        sensitivities: ``before``, ``after`` ``[b]``, and ``during`` training ``[e c]`` on the first c of the strings.
        history: Watched ``loss`` and ``accuracy``, and the ``learning_rate``, at the same epochs ``[e]``.
    """

    model: Model
    status: str
    epochs: int
    best_epoch: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    sensitivities: Mapping[str, np.ndarray]
    history: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, model: Model, found: Mapping[str, Array], i: int) -> "Result":
        """Take the result of model ``i`` out of its group's unit."""
        names = ("correct", "log_blow_up", "norm")
        return cls(
            model, STATUSES[int(found["status"][i])], int(found["epochs"][i]), int(found["best_epoch"][i]),
            {name: float(found[f"{name}_before"][i]) for name in names},
            {name: float(found[name][i]) for name in names},
            {
                "before": found["sensitivities_before"][i], "after": found["sensitivities"][i],
                "during": found["sensitivities_during"][i],
            },
            {name: found[name][i] for name in ("loss", "accuracy", "learning_rate")},
        )  # fmt: skip

    @property
    def perfect(self) -> bool:
        """Whether it is right about all strings that it was tested on."""
        return self.after["correct"] == 1

    @property
    def learned(self) -> bool:
        """Whether it is right about ``LEARNED`` of them."""
        return self.after["correct"] >= LEARNED

    def average(self, when: str) -> float:
        """Return its average sensitivity in bits, ``before`` or ``after`` training; NaN if a logit is not finite."""
        return average_of(self.sensitivities[when])

    def shares(self, when: str) -> np.ndarray:
        """Return the share of strings of each sensitivity ``[n+1]``; NaN if a logit is not finite."""
        found, n = self.sensitivities[when], self.model.kind.n
        if (found == NONFINITE).any():
            return np.full(n + 1, np.nan)
        return np.bincount(found, minlength=n + 1) / len(found)

    def curve(self, point: int) -> np.ndarray:
        """Return sensitivities at a point during training ``[c]``; of a model that has stopped, those after training.

        Point -1 is before training.
        """
        during = self.sensitivities["during"]
        count = during.shape[1]
        if point < 0:
            return self.sensitivities["before"][:count]
        gone = during[point, 0] == UNSEEN
        return self.sensitivities["after"][:count] if gone else during[point]


Results = Sequence[Result]


def average_of(sensitivities: np.ndarray) -> float:
    """Return the mean sensitivity in bits; NaN if a logit was not finite."""
    return np.nan if (sensitivities == NONFINITE).any() else float(sensitivities.mean())


def over(results: Results, value: Callable[[Result], float], *, rate: bool) -> Estimate | None:
    """Estimate a mean over the models of a kind; None if there is nothing to average.

    Where there are several languages with as many models each, both levels vary: see ``estimate.over_models``, whose
    models are here the languages, and its units the places of a model among those of its language. Models whose value
    is not finite are left out, which ``languages.csv`` counts.

    Args:
        results: The models.
        value: What is averaged.
        rate: Whether it lies in [0, 1], and gets an interval for rates.
    """
    by_language: dict[int, list[float]] = {}
    for result in results:
        found = value(result)
        if np.isfinite(found):
            by_language.setdefault(result.model.language, []).append(found)
    if not by_language:
        return None
    each = list(by_language.values())
    if len(each) > 1 and len(each[0]) > 1 and len({len(values) for values in each}) == 1:
        return estimate.over_models(np.array(each), rate=rate)
    return estimate.from_values(np.concatenate(each), rate=rate)


def in_bits(found: Estimate | None, n: int) -> dict[str, float | None]:
    """Return mean, standard error and interval of a share of the ``n`` flips as average sensitivity in bits."""
    cells = dict.fromkeys(("mean", "sem", "low", "high"))
    if found is None:
        return cells
    low, high = found.interval()
    numbers = zip(cells, (found.mean, found.sem, low, high), strict=True)
    return {name: n * float(number) if np.isfinite(number) else None for name, number in numbers}


def average_sensitivity(results: Results, when: str) -> Estimate | None:
    """Estimate the average sensitivity of a kind's models, as a share of the bits."""
    return over(results, lambda r: r.average(when) / r.model.kind.n, rate=True)


def change(results: Results) -> Estimate | None:
    """Estimate how much training moves the average sensitivity of models, in bits."""
    return over(results, lambda r: r.average("after") - r.average("before"), rate=False)


def mass(kind: Kind, chosen: np.ndarray) -> Callable[[Result], float]:
    """Return what gives the share of strings of the ``chosen`` sensitivities ``[n+1]`` after training."""
    if chosen.shape != (kind.n + 1,):
        raise ValueError(f"chosen must be booleans for sensitivities 0 to {kind.n}, got shape {chosen.shape}")
    return lambda result: float(result.shares("after")[chosen].sum())


def proportion(count: int, total: int) -> tuple[float, float, float]:
    """Return a share of models with its interval (Clopper and Pearson)."""
    low, high = estimate.clopper_pearson(np.array(count), total)
    return count / total, float(low), float(high)


def by_kind(results: Results) -> dict[Kind, list[Result]]:
    """Return the results of each kind, in the order of their numbers."""
    found: dict[Kind, list[Result]] = {}
    for result in sorted(results, key=lambda r: r.model.number):
        found.setdefault(result.model.kind, []).append(result)
    return found


def strings_of(config: Config, kind: Kind) -> str:
    """Say what models of a kind are tested on."""
    return "the strings learned" if kind.random else f"{config.test_strings} other strings"
