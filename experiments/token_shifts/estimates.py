"""Estimates of ``experiments.token_shifts``: agreement of norms, fits against commonness, steps between layers.

Units are texts (or images), or tokens where each point is another one, and models where several were trained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.token_shifts.config import Config
from experiments.token_shifts.data import FREQUENCIES, Reading
from experiments.token_shifts.measure import NORMS, SCALES
from jaxsens import embedding_space
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

__all__ = [
    "NORMALIZED_AT_THE_END",
    "Findings",
    "Models",
    "Results",
    "agreements",
    "by_state",
    "counts",
    "depth_of",
    "identified",
    "line",
    "over_models",
    "shifts",
    "stacked",
    "step",
    "steps",
    "summarize",
]

Models = Sequence[Mapping[str, Array]]
"""What was measured of the models of one kind and state, one for each seed."""

Results = Mapping[tuple[str, str], Models]
"""Kind and state to what was measured of its models."""

NORMALIZED_AT_THE_END = ("gpt2", "vit")
"""Kinds whose last state is normalized once more before it is read."""

_AGREEMENT = ("pearson", "spearman", "share")


@dataclass(frozen=True, eq=False)
class Findings:
    """Estimates that need a bootstrap, by kind and state; of the models of text.

    Attributes:
        agreements: Pair of norms to correlations of counts, see `agreements`.
        lines: Source of commonness, scale, and whether with controls, to ``slope``, ``r`` and ``offset``.
    """

    agreements: dict[tuple[str, str], dict[tuple[str, str], dict[str, Estimate | None]]]
    lines: dict[tuple[str, str], dict[tuple[str, str, bool], dict[str, Estimate]]]


def summarize(config: Config, vocabulary: int, readings: Mapping[str, Reading], results: Results) -> Findings:
    """Estimate once what needs a bootstrap; ``vocabulary`` is the number of tokens."""
    every_agreement, lines = {}, {}
    for (kind, state), models in results.items():
        if kind == "vit":
            continue
        rng = np.random.default_rng([config.seed, 3])
        reading = readings[kind]
        every_agreement[kind, state] = agreements(
            models, reading.measured.tokens, vocabulary, config.top, config.resamples, rng
        )
        lines[kind, state] = {}
        for name in FREQUENCIES:
            common = reading.points[name].commonness
            controls = np.stack([stacked(models, f"{what}_{name}") for what in ("size", "distance")], -1)
            for scale, key in zip(SCALES, ("shift", "relative"), strict=True):
                values = stacked(models, f"{key}_{name}")
                for controlled in (False, True):
                    lines[kind, state][name, scale, controlled] = line(
                        common, values, config.resamples, rng, controls if controlled else None
                    )
    return Findings(every_agreement, lines)


def depth_of(kind: str, states: int) -> int:
    """Return the number of layers of a model with so many states measured."""
    return states - 1 - (kind in NORMALIZED_AT_THE_END)


def over_models(values: Array, *, rate: bool = False) -> Estimate:
    """Estimate a mean over models and units ``[m b]``; over units only where there is one model.

    One trained model has no error of training then: its verdict is "inconclusive".
    """
    values = np.asarray(values)
    return estimate.from_values(values[0], rate=rate) if len(values) == 1 else estimate.over_models(values, rate=rate)


def shifts(models: Models, chosen: str, at: str, scale: str) -> np.ndarray:
    """Return the mean shift of a sequence's chosen tokens by state ``[m b l]``, float64."""
    return np.stack([np.asarray(model[f"{chosen}_{at}_{scale}"], np.float64).mean(1) for model in models])


def step(values: np.ndarray, start: int, end: int) -> np.ndarray:
    """Return ``ln(shift at state end / shift at state start)`` of every sequence ``[m b]`` from ``[m b l]``.

    It has no unit, so that models of all widths compare; below 0 the shift falls.
    """
    return np.log(values[..., end]) - np.log(values[..., start])


def steps(values: np.ndarray, last: int) -> list[Estimate]:
    """Return the `step` of every layer from the first to ``last``, over models, from ``[m b l]``."""
    return [over_models(step(values, layer - 1, layer)) for layer in range(1, last + 1)]


def counts(models: Models, tokens: np.ndarray, vocabulary: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Count the least-shifting tokens under each norm, over all models ``[n v]``.

    Args:
        models: With ``least`` ``[n b k]``.
        tokens: Ids ``[b t]``.
        vocabulary: Number of ids.
        weights: How often each sequence counts ``[b]``, once by default.
    """
    totals = np.zeros((len(NORMS), vocabulary))
    for model in models:
        for number, positions in enumerate(model["least"]):
            ids = np.take_along_axis(tokens, positions, 1)
            each = np.ones(len(ids)) if weights is None else weights
            totals[number] += np.bincount(ids.ravel(), np.repeat(each, ids.shape[1]), vocabulary)
    return totals


def agreements(
    models: Models, tokens: np.ndarray, vocabulary: int, top: int, resamples: int, rng: np.random.Generator
) -> dict[tuple[str, str], dict[str, Estimate | None]]:
    """Estimate how well norms agree on the counts of a model, with the bootstrap over sequences; mean over models.

    Returns:
        Pair of norms to ``pearson``, ``spearman`` (of the ``top`` tokens) and ``share`` (of counts that those have);
        None where counts of a model are constant, so that there is no correlation.
    """
    length = len(tokens)

    def every(weights: np.ndarray | None) -> dict[tuple[str, str], np.ndarray | None]:
        counted = [counts([model], tokens, vocabulary, weights) for model in models]
        pairs = [(i, j) for i in range(len(NORMS)) for j in range(i + 1, len(NORMS))]
        return {(NORMS[i], NORMS[j]): _agreement([(one[i], one[j]) for one in counted], top) for i, j in pairs}

    observed = every(None)
    drawn = [every(rng.multinomial(length, np.full(length, 1 / length))) for _ in range(resamples)]
    result = {}
    for pair, value in observed.items():
        resampled = [one[pair].mean(0) for one in drawn if one[pair] is not None]
        if value is None or len(resampled) < 2:
            result[pair] = dict.fromkeys(_AGREEMENT)
            continue
        each = np.stack(resampled)
        result[pair] = {name: _estimate(value[:, i], each[:, i], length) for i, name in enumerate(_AGREEMENT)}
    return result


def line(
    x: np.ndarray, y: np.ndarray, resamples: int, rng: np.random.Generator, controls: np.ndarray | None = None
) -> dict[str, Estimate]:
    """Fit ``y = offset + slope x`` by least squares, with the bootstrap over points and the spread over models.

    With controls, ``slope`` and ``r`` are those of what they leave of x and y: partial ones.

    Args:
        x: ``[p]``.
        y: ``[m p]``, of every model.
        resamples: Number of resamples of the bootstrap.
        rng: Draws them.
        controls: ``[m p c]``.

    Returns:
        ``slope``, ``r``, and ``offset``, the line at x = 0.

    Raises:
        ValueError: If there are fewer than three points.
    """
    if len(x) < 3:
        raise ValueError(f"a line needs at least three points, got {len(x)}: give more texts, or a larger pool")

    def fits(index: np.ndarray) -> np.ndarray:
        return np.stack(
            [_line(x[index], y[i][index], None if controls is None else controls[i][index]) for i in range(len(y))]
        )

    observed = fits(np.arange(len(x)))
    drawn = [fits(rng.integers(0, len(x), len(x))).mean(0) for _ in range(resamples)]
    drawn = np.stack([one for one in drawn if np.isfinite(one).all()])
    return {name: _estimate(observed[:, i], drawn[:, i], len(x)) for i, name in enumerate(("slope", "r", "offset"))}


def _line(x: np.ndarray, y: np.ndarray, controls: np.ndarray | None) -> np.ndarray:
    design = np.ones((len(x), 1)) if controls is None else np.concatenate([np.ones((len(x), 1)), controls], 1)
    both = np.stack([x, y], 1)
    a, b = (both - design @ np.linalg.lstsq(design, both, rcond=None)[0]).T
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may repeat a single point
        slope = (a @ b) / (a @ a)
        return np.array([slope, (a @ b) / np.sqrt((a @ a) * (b @ b)), y.mean() - slope * x.mean()])


def _estimate(values: np.ndarray, drawn: np.ndarray, units: int) -> Estimate:
    """Return the mean over models ``[m]``, with the variance of resamples of units and that between models.

    It counts models; the units that were resampled where there is one model, which has no other values then.
    """
    levels = [(drawn.var(ddof=1), units - 1)]
    if len(values) > 1:
        levels.append((values.var(ddof=1) / len(values), len(values) - 1))
    variance = sum(level for level, _ in levels)
    weight = sum(level**2 / freedom for level, freedom in levels)
    count = len(values) if len(values) > 1 else units
    return Estimate(
        values.mean(), np.sqrt(variance), count, values, float(variance**2 / weight) if weight > 0 else units - 1
    )


def _agreement(pairs: Sequence[tuple[np.ndarray, np.ndarray]], top: int) -> np.ndarray | None:
    """Return the agreement of two counts, in the order of `_AGREEMENT`, for each model ``[m 3]``."""
    try:
        scores = [embedding_space.agreement(*pair, top=top) for pair in pairs]
    except ValueError:  # constant counts have no correlation
        return None
    return np.array([[getattr(one, name) for name in _AGREEMENT] for one in scores])


def stacked(models: Models, name: str) -> np.ndarray:
    """Return what was measured of each model, stacked ``[m ...]``, float64."""
    return np.stack([np.asarray(model[name], np.float64) for model in models])


def by_state(values: np.ndarray, estimator: Callable[[Array], Estimate]) -> list[Estimate]:
    """Return an estimate for every state of ``[m b l]``."""
    return [estimator(values[..., state]) for state in range(values.shape[-1])]


def identified(models: Models) -> list[Estimate]:
    """Return the share of tokens that are the nearest row of their own state, one estimate for each state."""
    return by_state(stacked(models, "identified"), lambda values: over_models(values, rate=True))
