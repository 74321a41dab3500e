"""Quantities of each model, and their means over the models of a kind and an initialization."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.random_recognizers.config import Config, Model
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

Results = Sequence[tuple[Model, Mapping[str, Array]]]
"""Models, and what was measured of each."""

Groups = Mapping[tuple[str, str], Results]
"""Results by kind and initialization."""

COMPARED = ("transformer", "lstm", "mlp")
"""Kinds that are compared with each other; the others are readings of F.1."""


def by_kind(config: Config, results: Results) -> Groups:
    """Return results by kind and initialization, in the order of tables: compared kinds, then readings of F.1."""
    groups: dict[tuple[str, str], list[tuple[Model, Mapping[str, Array]]]] = {}
    for model, values in results:
        groups.setdefault((model.kind, model.scheme), []).append((model, values))
    kinds = list(dict.fromkeys(kind for kind, _ in groups))
    kinds.sort(key=lambda kind: COMPARED.index(kind) if kind in COMPARED else len(COMPARED))
    ordered = [(kind, scheme) for kind in kinds for scheme in config.schemes if (kind, scheme) in groups]
    return {key: sorted(groups[key], key=lambda pair: (pair[0].dataset, pair[0].number)) for key in ordered}


def of_model(config: Config, values: Mapping[str, Array], quantity: str) -> float:
    """Return a quantity of one model.

    Args:
        config: The configuration.
        values: What was measured of the model.
        quantity: ``average`` (average sensitivity as a share of the bits), ``zero`` (share of strings of sensitivity
            0), ``small`` (share of strings of sensitivity at most n/20) or ``altered`` (share of audited decisions that
            float64 changes).
    """
    sensitivities = values["sensitivities"]
    if quantity == "average":
        return float(sensitivities.mean() / config.length)
    if quantity == "altered":
        return float(values["altered"])
    return float(np.mean(sensitivities <= (0 if quantity == "zero" else config.length // 20)))


def over_models(config: Config, group: Results, quantity: str) -> Estimate:
    """Estimate a quantity, see `of_model`, over models."""
    return estimate.from_values([of_model(config, values, quantity) for _, values in group], rate=True)


def differences(config: Config, groups: Groups, key: tuple[str, str], quantity: str) -> np.ndarray:
    """Return how a quantity of another reading of F.1 differs from the default's, by pair of models ``[m]``.

    Pairs share their architecture, strings and random numbers.
    """
    values, default = (
        np.asarray([of_model(config, values, quantity) for _, values in groups[k]]) for k in (key, ("default", key[1]))
    )
    return values - default


def shares(config: Config, group: Results, width: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return shares of strings by sensitivity: mean over models and ends of its 95 % interval, each ``[bins]``.

    The first bin is sensitivity 0; the others hold ``width`` sensitivities each, up to n.
    """
    bins = bin_centers(config, width)
    each = [np.bincount(-(-values["sensitivities"] // width), minlength=len(bins)) for _, values in group]
    each = np.stack([counts / counts.sum() for counts in each])
    ends = np.asarray([estimate.from_values(column, rate=True).interval() for column in each.T])
    return each.mean(0), *ends.reshape(len(bins), 2).T


def bin_centers(config: Config, width: int) -> np.ndarray:
    """Return the middle of each bin of `shares`, in bits ``[bins]``."""
    rest = np.arange(-(-config.length // width)) * width + (1 + width) / 2
    return np.append(0, rest)
