"""Estimates of ``experiments.grokking``: leads of the measures, and epochs of grokking, over seeds."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from experiments import harness
from experiments.grokking import leads
from experiments.grokking.config import Config, Group
from experiments.grokking.leads import Change
from experiments.grokking.measure import MEASURES
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

FOLLOWED = tuple(name for name in MEASURES if not name.endswith("accuracy"))
"""Measures whose lead is estimated."""

FALLING = ("token_sensitivity", "pair_sensitivity")
"""Measures of which only a fall is a change, as published; others may change either way."""

OF_CURRENT_FREQUENCIES = ("restricted_loss", "excluded_loss")
"""Measures with the key frequencies of the model at each epoch; Nanda et al. take those of the final model."""

RULES = ("half change", "correlation")
"""Rules of leads."""


def text(name: str) -> str:
    """Return the name of a measure as claims and figures show it."""
    return name.replace("_", " ") + (", frequencies of that epoch" if name in OF_CURRENT_FREQUENCIES else "")


def column(name: str) -> str:
    """Return the name of a measure as tables have it."""
    return text(name).replace(",", "").replace(" ", "_")


class Curves:
    """The curves of a group's models, and what follows from them."""

    def __init__(self, config: Config, group: Group, unit: Mapping[str, Array]) -> None:
        self.config, self.group = config, group
        self.epochs = np.asarray(unit["epochs"])
        self.rates = np.asarray(unit["learning_rate"], np.float64)
        self.values = {name: np.asarray(unit[name], np.float64) for name in MEASURES}

    @cached_property
    def failures(self) -> dict[str, np.ndarray]:
        """Which models fail each condition of grokking ``[seeds]``, by its name."""
        accuracy = self.values["test_accuracy"]
        learned = (self.values["train_accuracy"] >= leads.MEMORIZED).any(1)
        early = accuracy[np.arange(len(accuracy)), self.memorized] >= leads.UNLEARNED
        return {
            f"a training accuracy below {leads.MEMORIZED:g} throughout": ~learned,
            f"a test accuracy of {leads.UNLEARNED:g} or more at memorization": learned & early,
            f"a test accuracy below {leads.GROKKED:g} at the end": accuracy[:, -1] < leads.GROKKED,
        }

    @cached_property
    def grokked(self) -> np.ndarray:
        """Whether a model fails no condition: it memorizes first, and generalizes by the end ``[seeds]``."""
        return ~np.any(list(self.failures.values()), axis=0)

    @cached_property
    def memorized(self) -> list[int]:
        """Place at which each model has learned its examples ``[seeds]``."""
        return [leads.memorized(one) for one in self.values["train_accuracy"]]

    @cached_property
    def grokking(self) -> list[tuple[float, bool]]:
        """First epoch with a test accuracy of at least 0.9 of every seed, and whether there is one."""
        return [leads.grokking_epoch(self.epochs, one) for one in self.values["test_accuracy"]]

    def leads(self, name: str, rule: str = "half change", *, smoothed: bool = False) -> list[float | None]:
        """Return the lead of a measure in epochs for every seed; None for models that have not grokked.

        ``smoothed`` puts the published trailing mean on the test accuracy, and none on the measure.
        """
        by_seed: list[float | None] = []
        for seed, grokked in enumerate(self.grokked):
            accuracy = self.values["test_accuracy"][seed]
            if smoothed:
                accuracy = leads.trailing_mean(accuracy, max(self.config.smoothing // self.config.every, 1))
            args = self.epochs, self.values[name][seed], accuracy, self.memorized[seed]
            if not grokked:
                by_seed.append(None)
            elif rule == "correlation":
                by_seed.append(leads.correlation_lead(*args))
            else:
                by_seed.append(leads.lead(*args, falling=name in FALLING))
        return by_seed

    def lead(self, name: str, rule: str = "half change", *, smoothed: bool = False) -> Estimate | None:
        """Return the mean lead over the seeds that have one; None if there is none."""
        return _over_seeds(self.leads(name, rule, smoothed=smoothed))

    def changes(self, name: str) -> list[Change]:
        """Return when a curve changes, of every seed that has grokked."""
        return [
            leads.change(self.epochs, self.values[name][seed], self.memorized[seed], falling=name in FALLING)
            for seed in np.flatnonzero(self.grokked)
        ]

    def pairs(self, name: str) -> np.ndarray:
        """Return the epochs at which a measure and the test accuracy change, and the rate, of seeds with a lead."""
        changes = zip(self.changes(name), self.changes("test_accuracy"), self.rates[self.grokked], strict=True)
        kept = [(a.epoch, b.epoch, rate) for a, b, rate in changes if a.epoch is not None and b.epoch is not None]
        return np.reshape(kept, (-1, 3)).astype(np.float64)

    def following(self, name: str) -> tuple[float | None, float]:
        """Return `leads.following` over the seeds with a lead."""
        return leads.following(*self.pairs(name).T, least=self.config.every)

    def placebo(self, name: str) -> Estimate | None:
        """Return the mean lead of a measure over the test accuracies of all other seeds; None with fewer than two."""
        moved, risen, _ = self.pairs(name).T
        count = len(moved)
        return _over_seeds([] if count < 2 else ((risen.sum() - risen) / (count - 1) - moved).tolist())


def _over_seeds(values: Sequence[float | None]) -> Estimate | None:
    valid = [one for one in values if one is not None]
    return estimate.from_values(valid, rate=False, unit="seeds") if valid else None


def speed_up(treated: Curves, control: Curves) -> Estimate:
    """Return the mean over seeds of ``log(grokking epoch treated / control)``; a model without one has the last epoch.

    Epochs are counted from 1 measurement on, so that the logarithm exists.
    """
    every = treated.config.every
    pairs = zip(treated.grokking, control.grokking, strict=True)
    return estimate.from_values(
        [np.log(max(a, every) / max(b, every)) for (a, _), (b, _) in pairs], rate=False, unit="seeds"
    )


def failures_in_words(curves: Curves) -> str:
    """Say how many models fail which condition of grokking; one model may fail several."""
    counts = [f"{int(failed.sum())} with {name}" for name, failed in curves.failures.items() if failed.any()]
    grokked = f"{int(curves.grokked.sum())} of {len(curves.rates)} seeds grokked"
    return f"{grokked} ({', '.join(counts)})" if counts else grokked


def all_curves(config: Config, results: Mapping[Group, Mapping[str, Array]]) -> dict[Group, Curves]:
    """Return the curves of all groups."""
    return {group: Curves(config, group, unit) for group, unit in results.items()}


def curve_rows(curves: Mapping[Group, Curves]) -> list[dict[str, Any]]:
    """Return a row for every group, seed and measured epoch."""
    rows = []
    for group, group_curves in curves.items():
        for seed, rate in enumerate(group_curves.rates):
            for place, epoch in enumerate(group_curves.epochs):
                values = {column(name): harness.cell(group_curves.values[name][seed, place]) for name in MEASURES}
                rows.append(
                    {**group._asdict(), "seed": seed, "learning_rate": float(rate), "epoch": int(epoch)} | values
                )
    return rows


def model_rows(curves: Mapping[Group, Curves]) -> list[dict[str, Any]]:
    """Return a row for every model: its epoch of grokking, last values and leads."""
    rows = []
    for group, group_curves in curves.items():
        by_name = {name: group_curves.leads(name) for name in FOLLOWED}
        smoothed = group_curves.leads("token_sensitivity", smoothed=True)
        for seed, rate in enumerate(group_curves.rates):
            epoch, reached = group_curves.grokking[seed]
            row = {**group._asdict(), "seed": seed, "learning_rate": float(rate)}
            row |= {"grokking_epoch": epoch if reached else None, "grokked": bool(group_curves.grokked[seed])}
            for name in ("test_accuracy", "mirrored_accuracy"):
                row[f"{name}_at_memorization"] = harness.cell(
                    group_curves.values[name][seed, group_curves.memorized[seed]]
                )
            row |= {
                f"last_{name}": harness.cell(group_curves.values[name][seed, -1])
                for name in ("test_accuracy", "test_loss")
            }
            row |= {f"lead_{column(name)}": values[seed] for name, values in by_name.items()}
            rows.append(row | {"lead_token_sensitivity_smoothed": smoothed[seed]})
    return rows


def lead_rows(curves: Mapping[Group, Curves]) -> list[dict[str, Any]]:
    """Return a row for every group, measure and rule: the mean lead, and how many seeds it comes first in."""
    rows = []
    for group, group_curves in curves.items():
        first = first_movers(group_curves)
        for name in FOLLOWED:
            for rule, smoothed in (*((rule, False) for rule in RULES), ("half change", True)):
                mean_lead = group_curves.lead(name, rule, smoothed=smoothed)
                row = {**group._asdict(), "measure": column(name), "rule": f"{rule}, smoothed" if smoothed else rule}
                row |= {"seeds": len(group_curves.rates), "with_a_lead": 0 if mean_lead is None else mean_lead.count}
                row["moves_before_accuracy"] = sum(
                    lead is not None and lead > 0 for lead in group_curves.leads(name, rule, smoothed=smoothed)
                )
                row["moves_first_of_all"] = first[name]
                cells = dict.fromkeys(("mean", "sem", "low", "high")) if mean_lead is None else harness.cells(mean_lead)
                rows.append(row | {f"lead_{key}": value for key, value in cells.items()})
    return rows


def first_movers(curves: Curves) -> dict[str, int]:
    """Return in how many seeds each measure has the largest lead by half change; measures that tie count all."""
    by_name = {name: curves.leads(name) for name in FOLLOWED}
    counts = dict.fromkeys(FOLLOWED, 0)
    for seed in range(len(curves.rates)):
        seed_leads = {name: values[seed] for name, values in by_name.items() if values[seed] is not None}
        for name, value in seed_leads.items():
            counts[name] += value == max(seed_leads.values())
    return counts


def group_rows(curves: Mapping[Group, Curves]) -> list[dict[str, Any]]:
    """Return a row for every group, which is printed."""
    rows = []
    for group, group_curves in curves.items():
        epochs = estimate.from_values([epoch for epoch, _ in group_curves.grokking], rate=False)
        row = {**group._asdict(), "seeds": len(group_curves.rates), "grokked": int(group_curves.grokked.sum())}
        row |= harness.cells(epochs, "grokking_epoch_")
        for name in ("test_accuracy", "test_loss", "token_sensitivity", "output_sharpness", "weight_norm"):
            values = group_curves.values[name][:, -1]
            row[f"last_{name}"] = float(values.mean()) if np.isfinite(values).all() else None
        rows.append(row)
    return rows


def parity_rows(unit: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Return a row for every seed and measured epoch of the sparse parity."""
    names = ("train_accuracy", "test_accuracy", "sensitivity")
    return [
        {"seed": seed, "epoch": int(epoch)} | {name: harness.cell(unit[name][seed, place]) for name in names}
        for seed in range(len(unit["sensitivity"]))
        for place, epoch in enumerate(unit["epochs"])
    ]
