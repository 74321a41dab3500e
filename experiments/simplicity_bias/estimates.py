"""Estimates of ``experiments.simplicity_bias``: chosen learning rates, groups of models, means over data sets."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments import harness
from experiments.simplicity_bias.config import CURVES, KINDS, Config
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.training.many_models import DIVERGED, REACHED
from jaxsens.typing import Array

Results = Mapping[tuple[str | int, ...], Mapping[str, Array]]
"""Results of the units: ``("parity", kind, count, seed)`` and ``("labels", kind)``."""

WHEN = ("untrained", "trained")


def best_rate(config: Config, results: Results, kind: str, count: int, noise: float) -> float:
    """Return the learning rate with the best mean accuracy on clean validation strings after the last epoch.

    Learning rates at which a model diverged rank last; of equal ones the first is chosen.
    """

    def rank(rate: float) -> tuple[bool, float]:
        units, i = units_of(config, results, kind, count), place_of(config, noise, rate)
        diverged = any(unit["status"][i] == DIVERGED for unit in units)
        return not diverged, float(np.mean([unit["validation_accuracy"][i, -1] for unit in units]))

    return max(config.rates, key=rank)


def units_of(config: Config, results: Results, kind: str, count: int) -> list[Mapping[str, Array]]:
    """Return the results of a kind, one for each seed."""
    return [results["parity", kind, count, seed] for seed in range(config.seeds)]


def place_of(config: Config, noise: float, rate: float) -> int:
    """Return the place of a noise level and a learning rate among the models of a unit."""
    return config.noises.index(noise) * len(config.rates) + config.rates.index(rate)


class Group:
    """The models of one kind, number of strings and noise, at one learning rate: a model for each seed."""

    def __init__(self, config: Config, results: Results, kind: str, count: int, noise: float, rate: float) -> None:
        self.level, self.noise, self.rate = (kind, count, noise), noise, rate
        units, place = units_of(config, results, kind, count), place_of(config, noise, rate)
        self.epochs = units[0]["epochs"]
        self.curves = {name: np.stack([unit[name][place] for unit in units]) for name in CURVES}
        self.diverged = sum(int(unit["status"][place] == DIVERGED) for unit in units)

    @property
    def test_accuracy(self) -> np.ndarray:
        """Accuracy on clean test strings at the end ``[seeds]``."""
        return self.curves["test_accuracy"][:, -1]

    @property
    def unfitted(self) -> np.ndarray:
        """Whether the training accuracy of a model is nearer to chance than to 1 - noise ``[seeds]``."""
        return self.training_accuracy < (0.5 + 1 - self.noise) / 2

    @property
    def training_accuracy(self) -> np.ndarray:
        """Accuracy on the training labels at the end ``[seeds]``."""
        return self.curves["training_accuracy"][:, -1]

    @property
    def overfitting(self) -> np.ndarray:
        """Accuracy on the training labels minus that expected on fresh labels of the same noise ``[seeds]``."""
        return overfitting(self.training_accuracy, self.test_accuracy, self.noise)

    def final(self) -> dict[str, Estimate]:
        """Return the estimates after the last epoch; seeds are the units."""
        shares = {
            name: estimate.from_values(self.curves[name][:, -1], rate=True)
            for name in ("training_accuracy", "test_accuracy", "sensitivity")
        }
        return shares | {"overfitting": estimate.from_values(self.overfitting, rate=False)}

    def curve(self, name: str) -> tuple[np.ndarray, ...]:
        """Return epochs, means over seeds, and ends of their 95 % intervals, each ``[p]``."""
        shares = estimate.from_values(self.curves[name], rate=True)
        return self.epochs, shares.mean, *shares.interval()

    def row(self, chosen: bool) -> dict[str, Any]:
        """Return its row of the table of noise levels."""
        kind, count, noise = self.level
        row: dict[str, Any] = {
            "kind": kind, "strings": count, "noise": noise, "learning_rate": self.rate, "chosen": chosen,
            "models": len(self.test_accuracy), "diverged": self.diverged,
        }  # fmt: skip
        for name, final in self.final().items():
            row |= cells(final, f"{name}_", (-1, 1) if name == "overfitting" else (0, 1))
        return row


def cells(mean: Estimate, prefix: str = "", bounds: tuple[float, float] = (0, 1)) -> dict[str, float | None]:
    """Return mean, standard error and interval for a table, the interval cut at the bounds of the quantity."""
    row = harness.cells(mean, prefix)
    for end in ("low", "high"):
        value = row[prefix + end]
        row[prefix + end] = None if value is None else float(np.clip(value, *bounds))
    return row


def overfitting(training: Array, clean: Array, noise: float) -> np.ndarray:
    """Return how much better models are on their training labels than on fresh ones: 0 if they generalize.

    ``training - (clean (1 - noise) + (1 - clean) noise)``: a model with accuracy ``clean`` on clean labels has the
    second one on labels that are flipped with probability ``noise``.
    """
    clean = np.asarray(clean)
    return np.asarray(training) - (clean * (1 - noise) + (1 - clean) * noise)


def of_sets(config: Config, results: Results, kind: str) -> dict[int, tuple[float, float]]:
    """Return data set -> mean normalized sensitivity of its converged models, before and after training."""
    means, unit = {}, results["labels", kind]
    for dataset in range(config.label_sets):
        there = unit["status"][dataset] == REACHED
        if there.any():
            both = [unit[f"{when}_sensitivity"][dataset, there] for when in WHEN]
            means[dataset] = tuple(float(values.mean()) for values in both)
    return means


def label_estimates(config: Config, results: Results, kind: str) -> dict[str, Estimate]:
    """Estimate the sensitivities of converged models; data sets are the units, each averaged over its models first."""
    means = np.asarray(list(of_sets(config, results, kind).values()))
    if not len(means):
        return {}
    both = {name: estimate.from_values(values, rate=False) for name, values in zip(WHEN, means.T, strict=True)}
    return both | {"change": estimate.from_values(means[:, 1] - means[:, 0], rate=False)}


def converged(results: Results, kind: str) -> tuple[int, int]:
    """Return how many models of a kind made no error on their random labels, and of how many."""
    reached = results["labels", kind]["status"] == REACHED
    return int(reached.sum()), reached.size


def converged_share(results: Results, kind: str) -> Estimate:
    """Estimate the share of models of a kind that made no error on their random labels; data sets are the units."""
    return estimate.from_values((results["labels", kind]["status"] == REACHED).mean(1), rate=True)


def every_model(config: Config, results: Results) -> Iterator[tuple[tuple, float, int, Mapping[str, Array], int]]:
    """Yield (kind, count, noise), learning rate, seed, unit and place within the unit of every model on a parity."""
    for kind in KINDS:
        for count in config.counts:
            for noise in config.noises:
                for rate in config.rates:
                    for seed, unit in enumerate(units_of(config, results, kind, count)):
                        yield (kind, count, noise), rate, seed, unit, place_of(config, noise, rate)
