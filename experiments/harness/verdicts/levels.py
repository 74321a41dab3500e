"""How often the rules of `experiments.harness.verdicts` say "supported": where they should not, and where they should.

Closed forms or exact sums, but for rank correlations: those are a fixed simulation, made once for each number of units.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from scipy import special, stats

from jaxsens.statistics import correlation, estimate, intervals

__all__ = ["ERROR", "bounded_interval", "level", "power", "share_counts"]

ERROR = 0.05
"""Both errors together: intervals have the level ``1 - ERROR``, each one-sided error is at most ``ERROR / 2``."""

_SAMPLES = 4000  # of the simulation of rank correlations
_MOST = 300  # units that are simulated: with more the level is the same and the power higher


def level(rule: str, units: int, **settings: float) -> float:
    """Return the largest probability that a rule says "supported" where the claim is false.

    Closed forms and exact sums under the rule's assumptions; for ``correlation`` a fixed simulation of 4000 independent
    normal pairs. The slow test of the rules simulates all of them, with skewed and heavy-tailed units too.

    Args:
        rule: The name of its function.
        units: Number of independent units.
        settings: The rule's own: ``above`` or ``below`` of `share`; ``bounds`` and ``above``, ``below`` or ``within``
            of `bounded_mean`; ``share`` and ``exhaustive`` of `no_exception`.

    Raises:
        ValueError: If there is no such rule.
    """
    return _rule(rule)[0](units, **settings)


def power(rule: str, units: int, effect: float, **settings: float) -> float:
    """Return the probability that a rule says "supported" at an alternative, in the rule's units of ``effect``.

    Args:
        rule: The name of its function.
        units: Number of independent units.
        effect: As the rule's argument of that name.
        settings: As for `level`; also ``within=True`` of `mean`, ``other``, the number of models of the second group of
            its differences, and ``steps``, their number, of `rises_in_each`.

    Raises:
        ValueError: If there is no such rule.
    """
    return _rule(rule)[1](units, effect, **settings)


def bounded_interval(
    values: np.ndarray, bounds: tuple[float, float], error: float = ERROR
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of `bounded_mean` from units ``[n *k]``, each end ``[*k]``."""
    return _with_unseen(*estimate.from_values(values, rate=False).interval(1 - error / 2), len(values), bounds, error)


def _with_unseen(
    low: np.ndarray, high: np.ndarray, units: int, bounds: tuple[float, float], error: float
) -> tuple[np.ndarray, np.ndarray]:
    unseen = 1 - (error / 4) ** (1 / units)
    low, high = np.maximum(low, bounds[0]), np.minimum(high, bounds[1])
    return (1 - unseen) * low + unseen * bounds[0], (1 - unseen) * high + unseen * bounds[1]


def share_counts(total: int, error: float = ERROR) -> tuple[np.ndarray, np.ndarray]:
    """Return Clopper and Pearson's ends for all counts from 0 to the total, each ``[total+1]``."""
    return estimate.clopper_pearson(np.arange(total + 1), total, 1 - error)


def _rule(name: str) -> tuple[Callable[..., float], Callable[..., float]]:
    if name not in _RULES:
        raise ValueError(f"rule must be one of {sorted(_RULES)}, got {name!r}")
    return _RULES[name]


def _half(units: int, **settings: float) -> float:  # noqa: ARG001 exact for normal units, however many
    return ERROR / 2


def _mean_power(units: int, effect: float, within: bool = False, other: int | None = None) -> float:
    if min(units, units if other is None else other) < 2:
        return 0.0
    groups = [units] if other is None else [units, other]
    sem, freedom = intervals.combine([(np.asarray(1 / count), count - 1.0) for count in groups])
    freedom, shift = float(freedom), effect / float(sem)
    quantile = special.stdtrit(freedom, 1 - ERROR / 2)
    if not within:
        return float(stats.nct.sf(quantile, freedom, shift)) if shift < 30 else 1.0
    spread = np.sqrt(stats.chi2.ppf((np.arange(500) + 0.5) / 500, freedom) / freedom)
    return float(np.maximum(2 * special.ndtr(shift - quantile * spread) - 1, 0).mean())


def _rises_power(units: int, effect: float, steps: int = 1) -> float:
    return _mean_power(units, effect) ** steps


def _share_power(units: int, effect: float, above: float | None = None, below: float | None = None) -> float:
    low, high = share_counts(units)
    supported = low > above if above is not None else high < below
    return float(stats.binom.pmf(np.arange(units + 1), units, effect)[supported].sum())


def _share_level(units: int, above: float | None = None, below: float | None = None) -> float:
    return _share_power(units, above if above is not None else below, above, below)


def _bounded_power(
    units: int,
    effect: float,
    bounds: tuple[float, float] = (0.0, 1.0),
    above: float | None = None,
    below: float | None = None,
    within: tuple[float, float] | None = None,
) -> float:
    """Sum over the number of failures: those have the worst value, the others the best one without a spread."""
    if units < 2:
        return 0.0
    best, worst = _extremes(bounds, above, within)
    failed = np.arange(units + 1)
    mean = best + (worst - best) * failed / units
    sem = abs(worst - best) * np.sqrt(failed * (units - failed) / (units**2 * (units - 1.0)))
    margin = special.stdtrit(units - 1, 1 - ERROR / 4) * sem
    low, high = _with_unseen(mean - margin, mean + margin, units, bounds, ERROR)
    supported = low > above if above is not None else high < below if below is not None else None
    if within is not None:
        supported = (within[0] < low) & (high < within[1])
    return float(stats.binom.pmf(np.arange(units + 1), units, effect)[supported].sum())


def _bounded_level(
    units: int,
    bounds: tuple[float, float] = (0.0, 1.0),
    above: float | None = None,
    below: float | None = None,
    within: tuple[float, float] | None = None,
) -> float:
    best, worst = _extremes(bounds, above, within)
    limit = above if above is not None else below if below is not None else within[0 if worst < best else 1]
    return _bounded_power(units, abs(best - limit) / abs(best - worst), bounds, above, below, within)


def _extremes(
    bounds: tuple[float, float], above: float | None, within: tuple[float, float] | None
) -> tuple[float, float]:
    if within is None:
        return (bounds[1], bounds[0]) if above is not None else (bounds[0], bounds[1])
    best = sum(within) / 2
    return best, max(bounds, key=lambda end: abs(end - best))


@functools.cache
def _correlation_power(units: int, effect: float) -> float:
    if units < correlation.FEWEST + 2:
        return 0.0
    units = min(units, _MOST)
    draws = np.random.default_rng(units).normal(size=(2, _SAMPLES, units))
    draws[1] = effect * draws[0] + math.sqrt(1 - effect**2) * draws[1]
    first, second = draws.argsort(-1).argsort(-1) - (units - 1) / 2
    low, _ = correlation.fisher_interval((first * second).sum(-1) * 12 / (units**3 - units), units - 2, 1 - ERROR)
    return float(np.mean(low > 0))


def _correlation_level(units: int) -> float:
    return _correlation_power(units, 0.0)


def _exception_power(units: int, effect: float, share: float = 0.05, exhaustive: bool = False) -> float:
    if exhaustive:
        return float(effect == 0)
    return (1 - effect) ** units if (1 - share) ** units <= ERROR / 2 else 0.0


def _exception_level(units: int, share: float = 0.05, exhaustive: bool = False) -> float:
    return _exception_power(units, share, share, exhaustive)


_RULES = {
    "mean": (_half, _mean_power),
    "slope": (_half, _mean_power),
    "rises_in_each": (_half, _rises_power),
    "share": (_share_level, _share_power),
    "bounded_mean": (_bounded_level, _bounded_power),
    "correlation": (_correlation_level, _correlation_power),
    "no_exception": (_exception_level, _exception_power),
}
