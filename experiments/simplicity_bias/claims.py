"""How ``experiments.simplicity_bias`` judges the paper's claims: the models that count, estimates, and verdicts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from experiments import harness
from experiments.simplicity_bias.config import CURVES, KINDS, Config
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.training.many_models import DIVERGED, REACHED
from jaxsens.typing import Array

Results = Mapping[tuple[str | int, ...], Mapping[str, Array]]
"""What was measured: ``("parity", kind, count, seed)`` and ``("labels", kind)`` -> results of the unit."""

NAMES = {"transformer": "transformer", "lstm": "LSTM"}

PUBLISHED = {"transformer": 0.16, "lstm": 0.27}
"""Normalised sensitivity at convergence on random labels, read off the figure in the readme of the paper's code."""

PAPER = "Bhattamishra et al. 2023"
WHEN = ("untrained", "trained")

NEAR = 0.05
"""How far from a published sensitivity counts as near."""

GENERAL = 0.95
"""Accuracy on clean strings above which a model counts as generalising."""

GAP = 0.05
"""How much better on the training labels than on fresh ones counts as overfitting."""

SAME = 0.02
"""How far from 1 - noise a training accuracy may be to count as equal."""


def best_rate(config: Config, results: Results, kind: str, count: int, noise: float) -> float:
    """Return the learning rate with the best mean accuracy on clean validation strings after the last epoch.

    Rates at which a model diverged come after all others; of equal ones the first.
    """

    def rank(rate: float) -> tuple[bool, float]:
        found = [(unit, place_of(config, noise, rate)) for unit in units_of(config, results, kind, count)]
        diverged = any(unit["status"][i] == DIVERGED for unit, i in found)
        return not diverged, float(np.mean([unit["validation_accuracy"][i, -1] for unit, i in found]))

    return max(config.rates, key=rank)


def units_of(config: Config, results: Results, kind: str, count: int) -> list[Mapping[str, Array]]:
    """Return the results of a kind, one for each seed."""
    return [results["parity", kind, count, seed] for seed in range(config.seeds)]


def place_of(config: Config, noise: float, rate: float) -> int:
    """Return the place of a noise level and a learning rate among the models of a unit."""
    return config.noises.index(noise) * len(config.rates) + config.rates.index(rate)


class Group:
    """The models of one kind, number of strings and noise, at the learning rate that was chosen: one a seed."""

    def __init__(self, config: Config, results: Results, kind: str, count: int, noise: float, rate: float) -> None:
        self.level, self.noise, self.rate = (kind, count, noise), noise, rate
        units, place = units_of(config, results, kind, count), place_of(config, noise, rate)
        self.epochs = units[0]["epochs"]
        self.curves = {name: np.stack([unit[name][place] for unit in units]) for name in CURVES}
        self.trials = {
            "training_accuracy": count, "validation_accuracy": config.held_out, "test_accuracy": config.held_out,
            "sensitivity": config.probes,
        }  # fmt: skip
        self.diverged = sum(int(unit["status"][place] == DIVERGED) for unit in units)

    @property
    def test_accuracy(self) -> np.ndarray:
        """Accuracy on clean test strings at the end ``[seeds]``."""
        return self.curves["test_accuracy"][:, -1]

    @property
    def unfitted(self) -> int:
        """How many models have hardly begun to learn: their training accuracy is nearer to chance than to 1 - noise."""
        return int((self.curves["training_accuracy"][:, -1] < (0.5 + 1 - self.noise) / 2).sum())

    @property
    def overfitting(self) -> np.ndarray:
        """Accuracy on the training labels less that expected on fresh labels of the same noise ``[seeds]``."""
        return overfitting(self.curves["training_accuracy"][:, -1], self.test_accuracy, self.noise)

    def final(self) -> dict[str, Estimate]:
        """Estimate what the models are like at the end; seeds are the units."""
        found = {
            name: share(self.curves[name][:, -1], self.trials[name])
            for name in ("training_accuracy", "test_accuracy", "sensitivity")
        }
        return found | {"overfitting": estimate.from_values(self.overfitting, rate=False)}

    def curve(self, name: str) -> tuple[np.ndarray, ...]:
        """Return epochs, means over seeds, and ends of their 95 % intervals, each ``[p]``."""
        every = [share(column, self.trials[name]) for column in self.curves[name].T]
        mean = np.asarray([found.mean for found in every])
        low, high = np.clip(np.transpose([found.interval() for found in every]), 0, 1)
        return self.epochs, mean, low, high

    def row(self, chosen: bool) -> dict[str, Any]:
        """Return its line in the table of noise levels."""
        kind, count, noise = self.level
        row: dict[str, Any] = {
            "kind": kind, "strings": count, "noise": noise, "learning_rate": self.rate, "chosen": chosen,
            "models": len(self.test_accuracy), "diverged": self.diverged,
        }  # fmt: skip
        for name, found in self.final().items():
            row |= cells(found, f"{name}_", (-1, 1) if name == "overfitting" else (0, 1))
        return row


def share(values: Array, trials: int) -> Estimate:
    """Estimate a share over models or data sets, each of which had ``trials`` trials of its own.

    The interval is Student's. Its standard error is at least that of one trial of all coming out differently,
    ``1 / (n trials)``: units that agree wholly, as where all are perfect, say no more than that.
    """
    found = estimate.from_values(values, rate=False)
    return replace(found, sem=np.maximum(found.sem, 1 / (found.count * trials)))


def cells(found: Estimate, prefix: str = "", bounds: tuple[float, float] = (0, 1)) -> dict[str, float | None]:
    """Return what ``harness.cells`` does, with an interval inside of what the quantity can be."""
    row = harness.cells(found, prefix)
    for end in ("low", "high"):
        value = row[prefix + end]
        row[prefix + end] = None if value is None else float(np.clip(value, *bounds))
    return row


def overfitting(training: Array, clean: Array, noise: float) -> np.ndarray:
    """Return how much better models are on their training labels than on fresh ones: 0 if they generalise.

    ``training - (clean (1 - noise) + (1 - clean) noise)``: a model with accuracy ``clean`` on clean labels has the
    second one on labels that are flipped with probability ``noise``.
    """
    clean = np.asarray(clean)
    return np.asarray(training) - (clean * (1 - noise) + (1 - clean) * noise)


def of_sets(config: Config, results: Results, kind: str) -> dict[int, tuple[float, float]]:
    """Return data set -> mean normalised sensitivity of its converged models, before and after training."""
    found, unit = {}, results["labels", kind]
    for dataset in range(config.label_sets):
        there = unit["status"][dataset] == REACHED
        if there.any():
            both = [unit[f"{when}_sensitivity"][dataset, there] for when in WHEN]
            found[dataset] = tuple(float(values.mean()) for values in both)
    return found


def label_estimates(config: Config, results: Results, kind: str) -> dict[str, Estimate]:
    """Estimate the sensitivities of converged models; data sets are the units, each averaged over its models first."""
    found = np.asarray(list(of_sets(config, results, kind).values()))
    if not len(found):
        return {}
    both = {name: share(values, config.probes) for name, values in zip(WHEN, found.T, strict=True)}
    return both | {"change": estimate.from_values(found[:, 1] - found[:, 0], rate=False)}


def converged(results: Results, kind: str) -> tuple[int, int]:
    """Return how many models of a kind made no error on their random labels, and of how many."""
    reached = results["labels", kind]["status"] == REACHED
    return int(reached.sum()), reached.size


def _claim(
    quantity: str, published: float | str | None, place: str, found: Estimate | None, note: str, unfitted: int = 0,
    **limits: Any,
) -> harness.Claim:  # fmt: skip
    """Return a claim about an estimate over independent models or data sets; without one nothing can be told.

    It is not refuted by models that are ``unfitted`` when the steps run out.
    """
    row = cells(found, bounds=(-1, 1)) if found is not None else dict.fromkeys(("mean", "sem", "low", "high"))
    verdict = "inconclusive" if limits else ""
    if limits and row["low"] is not None and row["high"] is not None:
        verdict = harness.verdict((row["low"], row["high"]), seeds=found.count, **limits)
    if unfitted:
        verdict = "inconclusive" if verdict == "contradicted" else verdict
        note += f"; {unfitted} of them had hardly begun to learn when the steps ran out"
    return harness.Claim(
        PAPER, quantity, published, place, row["mean"], row["sem"], row["low"], row["high"], verdict, note
    )


def parity_claims(config: Config, groups: Mapping[tuple, Group]) -> list[harness.Claim]:
    """Judge generalisation and overfitting, with the models of the learning rates that were chosen."""
    claims = []
    place = "arXiv 2211.12316, sparse parities with label noise"
    for count in config.counts:
        for noise in config.noises:
            pair = {kind: groups[kind, count, noise] for kind in KINDS}
            final = {kind: group.final() for kind, group in pair.items()}
            of = f"parity of {config.relevant} of {config.length} bits, {count} strings, noise {noise:g}"
            note = f"{config.seeds} seeds; learning rates " + ", ".join(
                f"{NAMES[kind]} {group.rate:g}" + (f" ({group.diverged} diverged)" if group.diverged else "")
                for kind, group in pair.items()
            )
            if (config.length, config.relevant, count) == (40, 4, 1_000):
                claims.append(
                    _claim(
                        f"transformer: accuracy on the training labels less that on fresh ones, {of}",
                        "1,000 strings overfit", place, final["transformer"]["overfitting"],
                        f"{note}; held above {GAP}", above=GAP,
                    )
                )  # fmt: skip
            else:
                claims += [
                    _claim(
                        f"transformer: accuracy on clean test strings, {of}", "tends to 1", place,
                        final["transformer"]["test_accuracy"], f"{note}; held above {GENERAL}",
                        pair["transformer"].unfitted, above=GENERAL,
                    ),
                    _claim(
                        f"transformer: accuracy on the training labels, {of}", 1 - noise, place,
                        final["transformer"]["training_accuracy"], f"{note}; held within {SAME}",
                        pair["transformer"].unfitted,
                        within=(1 - noise - SAME, 1 - noise + SAME),
                    ),
                ]  # fmt: skip
            claims.append(
                _claim(
                    f"LSTM: accuracy on the training labels less that on fresh ones, {of}", "overfits", place,
                    final["lstm"]["overfitting"], f"{note}; held above {GAP}", above=GAP,
                )
            )  # fmt: skip
            difference = pair["transformer"].test_accuracy - pair["lstm"].test_accuracy
            claims.append(
                _claim(
                    f"accuracy on clean test strings, transformer minus LSTM, {of}",
                    "transformers generalise, LSTMs overfit", place, estimate.from_values(difference, rate=False),
                    f"{note}; paired by seed; held above 0", above=0.0,
                )
            )  # fmt: skip
            last = [pair[kind].curves["sensitivity"][:, -1] for kind in KINDS]
            claims.append(
                _claim(
                    f"normalised sensitivity after training, transformer minus LSTM, {of}", None, place,
                    estimate.from_values(last[0] - last[1], rate=False),
                    f"{note}; paired by seed; the parity's is {config.relevant / config.length:g}",
                )
            )  # fmt: skip
    return claims


def label_claims(config: Config, results: Results) -> list[harness.Claim]:
    """Judge the sensitivities of the models that made no error on their random labels."""
    place = "arXiv 2211.12316, random labels; readme figure of its code"
    sets = {kind: of_sets(config, results, kind) for kind in KINDS}
    both = sorted(set(sets["transformer"]) & set(sets["lstm"]))
    counts = {kind: converged(results, kind) for kind in KINDS}
    of = f"random labels of {config.label_strings} strings of {config.label_length} bits"
    said = ", ".join(f"{NAMES[kind]} {count} of {total} converged" for kind, (count, total) in counts.items())
    paired = [sets["transformer"][dataset][1] - sets["lstm"][dataset][1] for dataset in both]
    found = estimate.from_values(paired, rate=False) if both else None
    claims = [
        _claim(
            f"normalised sensitivity at convergence, transformer minus LSTM, {of}",
            round(PUBLISHED["transformer"] - PUBLISHED["lstm"], 2), place, found,
            f"{said}; paired by data set, {len(both)} of {config.label_sets} with both; held below 0", below=0.0,
        )
    ]  # fmt: skip
    for kind in KINDS:
        published, (count, total) = PUBLISHED[kind], counts[kind]
        found = label_estimates(config, results, kind).get("trained")
        claims.append(
            _claim(
                f"{NAMES[kind]}: normalised sensitivity at convergence, {of}", published, place, found,
                f"{said}; {len(sets[kind])} data sets; held within {NEAR}", within=(published - NEAR, published + NEAR),
            )
        )  # fmt: skip
        low, high = estimate.clopper_pearson(count, total)
        claims.append(
            harness.Claim(
                PAPER, f"{NAMES[kind]}: share of models that reach zero training error, {of}", None, place,
                count / total, None, float(low), float(high), "", f"{count} of {total} in {config.label_epochs} epochs",
            )
        )  # fmt: skip
    return claims
