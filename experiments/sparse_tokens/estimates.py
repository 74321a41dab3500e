"""Estimates of ``experiments.sparse_tokens``: the models at the chosen learning rate, in groups by kind and case."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import harness
from experiments.sparse_tokens.config import Config
from jaxsens.data.sparse_tokens import SOLUTIONS
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.training.many_models import DIVERGED
from jaxsens.typing import Array

Results = Mapping[tuple[str, str], Mapping[str, Array]]
"""Results of the units, by kind and case."""

FITTED = 0.9
"""Test accuracy above which a model has learned one of the rules, or a mix of them."""


class Group:
    """The models of a kind on a case at one initial scale, at its chosen learning rate: a model for each seed."""

    def __init__(self, config: Config, results: Results, kind: str, case: str, scale: float) -> None:
        unit, place = results[kind, case], config.scales.index(scale)
        rate = int(unit["chosen"][place])
        self.kind, self.case, self.scale, self.rate = kind, case, scale, config.rates[rate]
        self.task = config.task(case)
        self.test = np.asarray(unit["test_accuracy"][:, place, rate], np.float64)
        self.other = np.asarray(unit["other_accuracy"][:, place, rate], np.float64)
        self.sensitivity = np.asarray(unit["sensitivity"][:, place], np.float64)
        self.sensitivity_sem = np.asarray(unit["sensitivity_sem"][:, place], np.float64)
        self.diverged = int((unit["status"][:, place, rate] == DIVERGED).sum())

    @property
    def exact(self) -> dict[str, float]:
        """Exact sensitivities of the two rules."""
        return {solution: float(self.task.sensitivity(solution)) for solution in SOLUTIONS}

    @property
    def less_sensitive(self) -> str:
        """The rule with the smaller sensitivity."""
        return min(SOLUTIONS, key=self.exact.__getitem__)

    @property
    def fitted(self) -> np.ndarray:
        """Whether a model has learned ``[seeds]``."""
        return self.test > FITTED

    @property
    def follows_less_sensitive(self) -> np.ndarray:
        """Whether a model that has learned decides most examples by the less sensitive rule ``[seeds]``.

        Out of distribution the two rules disagree on every example.
        """
        frequent = self.other > 0.5
        return self.fitted & (frequent if self.less_sensitive == "frequent" else ~frequent & (self.other < 0.5))

    def estimates(self) -> dict[str, Estimate]:
        """Return the means over seeds."""
        return {
            "test_accuracy": estimate.from_values(self.test, rate=True),
            "other_accuracy": estimate.from_values(self.other, rate=True),
            "sensitivity": estimate.from_values(self.sensitivity, rate=True),
        }

    def row(self) -> dict[str, Any]:
        """Return its row of the table of groups."""
        row: dict[str, Any] = {
            "kind": self.kind, "case": self.case, "initial_scale": self.scale, "learning_rate": self.rate,
            "models": len(self.test), "diverged": self.diverged, "fitted": int(self.fitted.sum()),
            "less_sensitive_rule": self.less_sensitive, "follow_it": int(self.follows_less_sensitive.sum()),
            **{f"exact_{solution}": value for solution, value in self.exact.items()},
        }  # fmt: skip
        for name, one in self.estimates().items():
            row |= harness.cells(one, f"{name}_")
        return row


def groups(config: Config, results: Results) -> dict[tuple[str, str, float], Group]:
    """Return the groups of all cases, initial scales and kinds."""
    keys = [(kind, case, scale) for case in config.cases for scale in config.scales for kind in config.kinds]
    return {key: Group(config, results, *key) for key in keys}


def model_rows(config: Config, results: Results) -> list[dict[str, Any]]:
    """Return a row for every model, of all learning rates."""
    rows = []
    for (kind, case), unit in results.items():
        for place, (seed, scale, rate) in enumerate(config.members):
            at = np.unravel_index(place, unit["status"].shape)
            row = {"kind": kind, "case": case, "seed": seed, "initial_scale": scale, "learning_rate": rate}
            row |= {"chosen": bool(unit["chosen"][at[1]] == at[2]), "diverged": bool(unit["status"][at] == DIVERGED)}
            for name in ("validation_loss", "validation_accuracy", "test_accuracy", "other_accuracy"):
                row[name] = float(unit[name][at]) if np.isfinite(unit[name][at]) else None
            chosen = row["chosen"]
            row |= {name: float(unit[name][at[:2]]) if chosen else None for name in ("sensitivity", "sensitivity_sem")}
            rows.append(row)
    return rows
