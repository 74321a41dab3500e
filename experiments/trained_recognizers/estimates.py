"""Results of each model, and their means over the models of a kind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments import harness
from experiments.harness.verdicts import outer_means
from experiments.trained_recognizers.measure import NONFINITE
from experiments.trained_recognizers.models import Kind, Model
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

UNSEEN = -2
"""In place of the sensitivities of a model that had stopped or diverged before an epoch."""

STATUSES = ("all epochs", "no progress", "target loss", "diverged")
"""How the training of a model ended, in the order of the codes of ``training.many_models``."""

LEARNED = 0.99
"""Share of right decisions from which a model has learned a language, or fitted random labels."""


@dataclass(frozen=True)
class Result:
    """Results of one model.

    Attributes:
        model: The model.
        status: The end of its training, of ``STATUSES``.
        epochs: Epochs done.
        best_epoch: Epoch of the smallest validation loss; its weights are measured. 0: the first weights.
        before: ``correct``, ``log_blow_up`` and ``norm`` before training.
        after: The same after training.
        sensitivities: ``before``, ``after`` ``[b]``, and ``during`` training ``[e c]`` on the first c of the strings.
        history: Validation ``loss`` and ``accuracy``, and the ``learning_rate``, at the same epochs ``[e]``.
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
    def of(cls, model: Model, unit: Mapping[str, Array], i: int) -> "Result":
        """Return the results of model ``i`` of a group from the unit of the group."""
        names = ("correct", "log_blow_up", "norm")
        return cls(
            model, STATUSES[int(unit["status"][i])], int(unit["epochs"][i]), int(unit["best_epoch"][i]),
            {name: float(unit[f"{name}_before"][i]) for name in names},
            {name: float(unit[name][i]) for name in names},
            {
                "before": unit["sensitivities_before"][i], "after": unit["sensitivities"][i],
                "during": unit["sensitivities_during"][i],
            },
            {name: unit[name][i] for name in ("loss", "accuracy", "learning_rate")},
        )  # fmt: skip

    @property
    def perfect(self) -> bool:
        """Whether all its decisions on the test strings are right."""
        return self.after["correct"] == 1

    @property
    def learned(self) -> bool:
        """Whether a share of ``LEARNED`` of them is."""
        return self.after["correct"] >= LEARNED

    def average(self, when: str) -> float:
        """Return its average sensitivity in bits, ``before`` or ``after`` training; NaN if a logit is not finite."""
        return average_of(self.sensitivities[when])

    def shares(self, when: str) -> np.ndarray:
        """Return the share of strings of each sensitivity ``[n+1]``; NaN if a logit is not finite."""
        values, n = self.sensitivities[when], self.model.kind.n
        if (values == NONFINITE).any():
            return np.full(n + 1, np.nan)
        return np.bincount(values, minlength=n + 1) / len(values)

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


def over(
    results: Results, value: Callable[[Result], float], *, rate: bool, among: Callable[[Result], bool] | None = None
) -> Estimate | None:
    """Estimate a mean over the models of a kind; None if there is nothing to average.

    With several languages these are the units, as models of one language are alike: models are averaged within each
    language first (`outer_means`). Models with a value that is not finite are left out; ``languages.csv`` counts them.

    Args:
        results: All models of the kind.
        value: The quantity that is averaged.
        rate: Whether it lies in [0, 1], and gets an interval for rates.
        among: Which models to average, by default all.
    """
    chosen = [r for r in results if among is None or among(r)]
    values = np.array([value(r) for r in chosen], np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return None
    if len({r.model.language for r in results}) == 1:
        return estimate.from_values(values[finite], rate=rate)
    return outer_means(values[finite], np.array([r.model.language for r in chosen])[finite], rate=rate)


def in_bits(share: Estimate | None, n: int) -> dict[str, float | None]:
    """Return mean, standard error and interval of a share of the ``n`` flips as average sensitivity in bits."""
    cells = dict.fromkeys(("mean", "sem", "low", "high"))
    if share is None:
        return cells
    low, high = share.interval()
    numbers = zip(cells, (share.mean, share.sem, low, high), strict=True)
    return {name: harness.cell(n * number) for name, number in numbers}


def average_sensitivity(
    results: Results, when: str, among: Callable[[Result], bool] | None = None, *, rate: bool = True
) -> Estimate | None:
    """Estimate the average sensitivity of a kind's models, as a share of the bits; arguments as of `over`."""
    return over(results, lambda r: r.average(when) / r.model.kind.n, rate=rate, among=among)


def change(results: Results, among: Callable[[Result], bool] | None = None) -> Estimate | None:
    """Estimate how much training moves the average sensitivity of models, in bits; arguments as of `over`."""
    return over(results, lambda r: r.average("after") - r.average("before"), rate=False, among=among)


def mass(kind: Kind, chosen: np.ndarray) -> Callable[[Result], float]:
    """Return a function for the share of strings of the ``chosen`` sensitivities ``[n+1]`` after training."""
    if chosen.shape != (kind.n + 1,):
        raise ValueError(f"chosen must be booleans for sensitivities 0 to {kind.n}, got shape {chosen.shape}")
    return lambda result: float(result.shares("after")[chosen].sum())


def proportion(
    results: Results, holds: Callable[[Result], bool], among: Callable[[Result], bool] | None = None
) -> tuple[float, float, float]:
    """Return the share of models of which something holds, with its interval; arguments as of `over`.

    The interval is Clopper and Pearson's over models; with several languages that of `over`.
    """
    if len({r.model.language for r in results}) == 1:
        chosen = [r for r in results if among is None or among(r)]
        count = sum(map(holds, chosen))
        low, high = estimate.clopper_pearson(np.array(count), len(chosen))
        return count / len(chosen), float(low), float(high)
    share = over(results, lambda r: float(holds(r)), rate=True, among=among)
    low, high = share.interval()
    return float(share.mean), float(low), float(high)


def by_kind(results: Results) -> dict[Kind, list[Result]]:
    """Return the results of each kind, in the order of their numbers."""
    groups: dict[Kind, list[Result]] = {}
    for result in sorted(results, key=lambda r: r.model.number):
        groups.setdefault(result.model.kind, []).append(result)
    return groups
