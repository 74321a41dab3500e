"""Estimates that tables, claims and figures share: slopes of influence, ends of margins, decay of blow-ups."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.recognizer_geometry.config import Config
from experiments.recognizer_geometry.constructions import CONSTRUCTIONS
from experiments.recognizer_geometry.fits import decay, kept_until, line, log_slopes
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

Units = dict[tuple[Any, ...], dict[str, np.ndarray]]
"""Setting to the arrays of its unit."""

Results = dict[str, Units]
"""Section to its units."""

QUANTITIES = ("activation_mean", "activation_max", "logit_mean", "logit_max")
"""Of influences: over the bits and strings of a model, their mean or the largest."""

WEIGHTS = ("uniform", "perturbed")
"""Of blow-ups: drawn from the parameter space, or around a center."""


@dataclass(frozen=True)
class Slope:
    """Slope of ``ln influence`` against ``ln N`` over models.

    Attributes:
        setting: Position encoding, epsilon of normalization and half width of the parameter space.
        quantity: One of ``QUANTITIES``.
        which: ``all`` lengths or the ``late`` ones.
        lengths: These lengths.
        estimate: The slope; None if fewer than two models have one.
        kept: Which models have one ``[m]``: those of which no influence is 0.
    """

    setting: tuple[str, float, float]
    quantity: str
    which: str
    lengths: tuple[int, ...]
    estimate: Estimate | None
    kept: np.ndarray


def influences_of(config: Config, units: Units, setting: tuple[str, float, float], quantity: str) -> np.ndarray:
    """Return a quantity of influences by model and length ``[m n]``."""
    return np.stack([units[*setting, n][quantity] for n in config.lengths], 1)


def influence_slopes(config: Config, units: Units) -> list[Slope]:
    """Fit the slopes of all settings, quantities and sets of lengths."""
    late = config.lengths[-config.tail :]
    slopes = []
    for setting in [(*pair, half_width) for pair in config.influence_settings for half_width in config.half_widths]:
        for quantity in QUANTITIES:
            measured = influences_of(config, units, setting, quantity)
            for which, lengths in (("all", config.lengths), ("late", late)):
                fitted, _, kept = log_slopes(lengths, measured[:, -len(lengths) :])
                mean_slope = estimate.from_values(fitted) if len(fitted) > 1 else None
                slopes.append(Slope(setting, quantity, which, lengths, mean_slope, kept))
    return slopes


def margins_of(config: Config, units: Units, name: str, epsilon: float) -> np.ndarray:
    """Return the smallest margins of a construction by length ``[n]``."""
    return np.array([float(units[name, epsilon, n]["margin"]) for n in config.margin_lengths])


def margin_rows(config: Config, units: Units, ends: Units) -> list[dict[str, Any]]:
    """Return the rows of margin_lengths.csv: up to which length each construction keeps each margin.

    Args:
        config: The configuration.
        units: What was measured at ``margin_lengths``.
        ends: Where the ends of margins were looked for with the models themselves.
    """
    rows, lengths = [], np.array(config.margin_lengths)
    for name, build in CONSTRUCTIONS.items():
        for epsilon in config.margin_epsilons:
            margins = margins_of(config, units, name, epsilon)
            late = slice(-config.tail, None)
            slope = float(line(np.log(lengths[late]), np.log(margins[None, late]))[0][0])
            for margin in config.margins:
                # Where the end was looked for, that length and the next one were tried too.
                end = ends.get((name, epsilon, margin))
                tried = [*lengths[margins >= margin], *([] if end is None else [end["kept"]])]
                longest = int(max(tried, default=0))
                row = {"construction": name, "epsilon": epsilon, "margin": margin, "longest_kept": longest}
                row["longest_tried"] = int(max(lengths[-1], longest if end is None else end["kept"] + 1))
                row["closed_form_first_order"] = kept_until(build(epsilon).smallest, margin)
                rows.append(row | {"late_slope": slope})
    return rows


@dataclass(frozen=True)
class Decay:
    """Exponent of the frequency of blow-ups against N.

    Attributes:
        setting: Layers, width, and whether weights are ``uniform`` or ``perturbed``.
        which: ``all`` lengths or the ``late`` ones.
        exponent: Over centers.
        offset: Offset of the line, in natural logarithms.
        lengths: The lengths used ``[n]``.
        lemma: The upper bound of Lem. 4.2 on the exponent.
    """

    setting: tuple[int, int, str]
    which: str
    exponent: Estimate
    offset: float
    lengths: np.ndarray
    lemma: float


def blow_up_rates(config: Config, units: Units, setting: tuple[int, int, str]) -> np.ndarray:
    """Return the frequency of blow-ups by center and length ``[c n]``."""
    return np.stack([units[*setting, n]["rates"] for n in config.blow_up_lengths], 1)


def lemma_exponent(config: Config, depth: int, width: int) -> float:
    """Return ``1 - (D - 1) zeta / 2L``, the bound of Lem. 4.2 (k = 0) on the exponent."""
    return 1 - (width - 1) * config.zeta / (2 * depth)


def blow_up_decays(config: Config, units: Units) -> list[Decay]:
    """Fit the decays of all settings; those with fewer than two lengths with enough blow-ups have none."""
    lengths, decays = np.array(config.blow_up_lengths), []
    for depth, width in config.shapes:
        for weights in WEIGHTS:
            setting = (depth, width, weights)
            rates = blow_up_rates(config, units, setting)
            for which, first in (("all", 0), ("late", -config.tail)):
                if (fit := decay(lengths[first:], rates[:, first:])) is not None:
                    decays.append(Decay(setting, which, *fit, lemma_exponent(config, depth, width)))
    return decays
