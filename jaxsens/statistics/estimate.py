"""Numbers with error bars: means over independent units, reduced on the host in float64 and in index order.

The unit is whatever was drawn independently: examples for token noise (the tokens and draws of one example are
correlated), draws or antithetic pairs for weight noise, models when several are compared. Docstrings say how often
intervals cover, which makes the file long.
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
from scipy import special

from jaxsens.execution import checks
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.statistics import intervals
from jaxsens.typing import Array, Axes, Figure

__all__ = ["METHODS", "Estimate", "clopper_pearson", "difference", "from_values", "over_models", "unpaired_difference"]


METHODS = ("student", "log", "skewed")
"""How the interval of a mean may be formed: see `Estimate.interval`."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["mean", "sem", "values", "freedom", "trials", "least", "parts"],
    meta_fields=["count", "rate", "unit"],
)
@dataclass(frozen=True, repr=False)
class Estimate(Result):
    """A mean over independent units, with its standard error.

    Attributes:
        mean: The estimate, float64 ``[*k]``.
        sem: Its standard error ``[*k]``; infinite where a single unit leaves the spread open.
        count: The number of independent units.
        values: One value for each unit ``[count *k]``.
        freedom: Degrees of freedom of the standard error ``[*k]``, by default ``count - 1``.
        rate: Whether the units are frequencies in [0, 1]; the interval then stays inside and does not collapse at 0.
        trials: For rates, the number of independent trials that the units are worth ``[*k]``.
        least: For rates, the number that they are worth at least.
        parts: For a difference of unpaired groups, the estimate of each.
        unit: What the units are, in the plural, such as ``"draws"``.

    Example:
        >>> from_values([0.2, 0.4, 0.3], unit="draws")
        Estimate(0.3 [95% 0.0516, 0.548]; 3 draws)
    """

    mean: np.ndarray
    sem: np.ndarray
    count: int
    values: np.ndarray
    freedom: float | np.ndarray | None = None
    rate: bool = False
    trials: np.ndarray | None = None
    least: float | None = None
    parts: "tuple[Estimate, Estimate] | None" = None
    unit: str = "units"

    def interval(self, level: float = 0.95, *, method: str = "student") -> tuple[np.ndarray, np.ndarray]:
        """Return the two-sided confidence interval ``(low, high)``, each ``[*k]``.

        **Rates** have Clopper and Pearson's interval with an effective number of trials (`intervals.rate`,
        `intervals.effective_trials`). Coverage at 95 %: at least 0.95 where trials are independent or come all or none
        in a unit, from 2 to 300 units and rates from 0.0005 to 0.999; 0.93 or more for clustered ones (beta-binomial
        with correlations to 0.7, logit-normal with a deviation to 4). No method can do so where what is rare was not
        seen but something else was: with half of the mean in a few units that change always and half in all the others,
        coverage is as low as the probability to see one of the few.

        **Means** have, by ``method``:

        - ``"student"``: ``mean -+ t sem``. Coverage is 0.95 to 0.97 for normal and t3 units and falls with skewness.
          For exponential, chi-squared (1) and lognormal (deviation 1) units: 0.88, 0.82, 0.84 with 3 units, 0.90, 0.86,
          0.84 with 10, 0.93, 0.91, 0.88 with 30 and 0.94, 0.93, 0.92 with 100, nearly all errors with the interval too
          low. A sample of few does not show its skewness, hence no better default; see `skewness`.
        - ``"log"``: for nonnegative values, an interval on the log scale (`intervals.log_scale`).
          Coverage is 0.93 or more for all these laws from 3 to 300 units, for normal ones with a median width of 1.4,
          1.2 and 1.1 times Student's with 3, 5 and 10 units (mean three times the deviation).
        - ``"skewed"``: for any values, the union of Student's interval with Hall's, corrected for the sample's skewness
          (`intervals.skewed`): 0.93 to 0.96 from 10 units on, but 0.91 for lognormal units; with 5 units 0.88 to 0.93.

        Raises:
            ValueError: If ``level`` is not strictly between 0 and 1, or the method is unknown or does not apply: rates
                have their own; ``"log"`` needs nonnegative values; ``"skewed"`` needs 3 units or
                more, and the standard error to be that of the values (not over models and units both).
        """
        level = checks.require_level("level", level)
        if method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, got {method!r}")
        freedom = np.asarray(self.count - 1.0 if self.freedom is None else self.freedom)
        if self.rate or method == "student":
            if method != "student":
                raise ValueError(f"method {method!r} is for means: rates have their own interval")
            if self.rate:
                return intervals.rate(self.mean, self.trials, self.least, freedom, level)
            return intervals.student(self.mean, self.sem, freedom, level)
        if self.parts is not None:
            ends = [(part.mean, *part.interval(level, method=method)) for part in self.parts]
            return intervals.combine_ends(self.mean, *ends)
        if method == "log":
            if self.values.min() < 0:
                raise ValueError(f"method 'log' is for nonnegative values, got {self.values.min()}")
            return intervals.log_scale(self.mean, self.sem, freedom, level)
        if self.freedom is not None:
            raise ValueError("method 'skewed' needs the standard error to be that of the values: use 'student'")
        if self.count < 3:
            raise ValueError(f"method 'skewed' needs 3 units or more, got {self.count}")
        return intervals.skewed(self.values, level)

    @property
    def skewness(self) -> np.ndarray:
        """The skewness of the values, ``mean((x - mean)^3) / mean((x - mean)^2)^1.5`` ``[*k]``; 0 without a spread.

        Where it is above 1 in size, Student's interval covers about 0.9 or less, on the side of the longer tail: use
        another ``method``, or judge on a log scale. A few units cannot show more than ``(n - 2) / sqrt(n - 1)``: 0.7
        with 3 of them, 1.5 with 5.
        """
        deviations = self.values - self.values.mean(0)
        square = (deviations**2).mean(0)
        return (deviations**3).mean(0) / np.where(square > 0, square, 1) ** 1.5

    def minus(self, other: "Estimate") -> "Estimate":
        """Estimate how much larger this mean is than another over the same units: ``mean(values - other.values)``.

        Units are paired in their order: the same examples, or the same draws. What a unit adds to both cancels, so that
        the interval is narrower than for unpaired groups. Of rates without any difference ``sem`` is that of a
        single unit that differs by 1, ``1 / count``, rather than 0.

        Raises:
            ValueError: If the units cannot be paired: their numbers, kinds or shapes differ, or one is a rate and the
                other not; or if a standard error is not that of the values (over models and units both, for instance).

        Example:
            >>> from_values([3.0, 5.0, 4.0]).minus(from_values([2.0, 4.0, 3.0])).interval()
            (np.float64(1.0), np.float64(1.0))
        """
        if not isinstance(other, Estimate):
            raise ValueError(f"other must be an Estimate, got a {type(other).__name__}")
        for name, value, other_value in (
            ("values", self.values.shape, other.values.shape),
            ("unit", self.unit, other.unit),
            ("rate", self.rate, other.rate),
        ):
            if value != other_value:
                raise ValueError(f"other must be over the same units: {name} is {value} here and {other_value} there")
        for name, operand in (("this estimate", self), ("other", other)):
            if operand.freedom is not None or not np.allclose(operand.sem, from_values(operand.values, rate=False).sem):
                raise ValueError(f"the standard error of {name} is not that of its values, and differences have none")
        paired = from_values(self.values - other.values, rate=False, unit=self.unit)
        if not self.rate or self.count == 1:
            return paired
        return replace(paired, sem=np.where(paired.sem == 0, 1 / self.count, paired.sem)[()])

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the mean with its 95 % interval beside the values of the units; of an array every mean and interval.

        Args:
            ax: Where to draw, by default a new figure.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        low, high = self.interval()
        if np.ndim(self.mean) == 0:
            return draw("mean_of_values", ax, self.values, self.mean, low, high, unit=self.unit)
        flat = (np.ravel(values) for values in (self.mean, low, high))
        return draw("bars_by_position", ax, *flat, position="element", quantity="mean")

    def _describe(self) -> Description:
        def table() -> dict[str, np.ndarray]:
            low, high = self.interval()
            axes = {f"axis_{i}": None for i in range(np.ndim(self.mean))}
            return tidy(axes, {"mean": self.mean, "sem": self.sem, "low": low, "high": high})

        facts = {"standard error": self.sem, "kind": "rate" if self.rate else "mean"}
        return Description(times(**{self.unit: self.count}), self.mean, self.interval(), facts=facts, table=table)


def from_values(values: Array, *, rate: bool | None = None, unit: str = "units") -> Estimate:
    """Estimate a mean from one value per independent unit.

    ``mean = sum(values) / n`` and ``sem = sqrt(sum((values - mean)^2) / (n (n - 1)))``, over the leading axis.

    Args:
        values: ``[n *k]``, one entry per unit.
        rate: Whether values are frequencies in [0, 1]; by default, whether they are booleans.
        unit: What the units are, in the plural, for what is printed.

    Raises:
        ValueError: If there is no unit, or a rate lies outside [0, 1].
        FloatingPointError: If a value is not finite; the message names it.

    Example:
        >>> from_values([1.0, 2.0, 3.0])
        Estimate(2 [95% -0.484, 4.48]; 3 units)
        >>> from_values([True, False, False, False])
        Estimate(0.25 [95% 0.00631, 0.806]; 4 units)
    """
    values = checks.host_values(values, "values")
    rate = values.dtype == bool if rate is None else checks.require_flag("rate", rate)
    values = _checked(values, rate)
    count, mean = len(values), values.mean(0)
    sem = values.std(0, ddof=1) / np.sqrt(count) if count > 1 else np.full(values.shape[1:], np.inf)
    if not rate:
        return Estimate(mean, sem, count, values, unit=unit)
    # No law on [0, 1] has a larger variance than that of trials which come all or none: n units are n trials or more.
    trials = intervals.effective_trials(values, mean, sem)
    return Estimate(mean, sem, count, values, rate=True, trials=trials, least=float(count), unit=unit)


def over_models(values: Array, *, rate: bool = False) -> Estimate:
    """Estimate a mean over models (or seeds) that were all measured on the same units.

    Both levels vary: with ``s_m`` the spread of the models' means and ``s_u`` the spread of the units' means over
    models, ``sem^2 = s_m^2 / m + s_u^2 / n``. (Interaction is in both terms, so the interval is slightly wide.) The
    degrees of freedom are those of Welch and Satterthwaite, with fewer where models are few: see
    `intervals.combine`. The estimate counts models, and its values are their means.

    Coverage of 95 % intervals for normal and t3 models and units is 0.93 to 0.99 from two models on, whatever the share
    of the variance between models; with two models they are up to twice as wide as Satterthwaite's, which cover 0.87.
    Few skewed models are covered as means of few skewed values are, 0.80 to 0.95; with ``interval(method="log")`` 0.93.
    Rates of independent or clustered trials are covered with 0.96 or more where the logits of models deviate by up to
    0.3, and with 0.90 or more where they deviate by 1 and there are 3 to 5 models.

    Args:
        values: ``[m n *k]``, model by unit.
        rate: Whether the values are frequencies in [0, 1].

    Raises:
        ValueError: If there is no model or no unit, or a rate lies outside [0, 1].
        FloatingPointError: If a value is not finite.

    Example:
        >>> result = over_models([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])  # two models, three units
        >>> float(result.mean), result.count
        (2.5, 2)
    """
    values = _models(values, rate)
    means, units = values.mean(1), values.mean(0)
    sem, freedom = intervals.combine([intervals.variance_of_mean(means), intervals.variance_of_mean(units)])
    mean = means.mean(0)
    if not rate:
        return Estimate(mean, sem, len(means), means, freedom, unit="models")
    trials = intervals.effective_trials(units, mean, sem)
    # Models and units that come all or none have the largest variance: p (1 - p) (1 / m + 1 / n).
    least = 1 / (1 / len(means) + 1 / len(units))
    return Estimate(mean, sem, len(means), means, freedom, True, trials, least, unit="models")


def difference(first: Array, second: Array, *, rate: bool = False) -> Estimate:
    """Estimate how much two groups of models differ, when all were measured on the same units.

    The units are paired, the models are not: ``mean = mean(first) - mean(second)`` and ``sem^2 = s_1^2 / m_1 +
    s_2^2 / m_2 + s_u^2 / n`` with ``s_u`` the spread over units of the difference of the groups' means. A single model
    in a group leaves its spread open and ``sem`` infinite; to compare two particular models, use ``from_values`` of the
    differences. Degrees of freedom are as in ``over_models``.

    Args:
        first: ``[m1 n *k]``, model by unit.
        second: ``[m2 n *k]``, the same units in the same order.
        rate: Whether the values are frequencies in [0, 1]. Where they show no difference at all, ``sem`` is then that
            of a single unit that differs by 1, ``1 / n``, rather than 0.

    Raises:
        ValueError: If the groups were not measured on equally many units, or one is empty.
        FloatingPointError: If a value is not finite.

    Example:
        >>> result = difference([[1.0, 2.0], [2.0, 3.0]], [[0.0, 1.0], [1.0, 2.0]])
        >>> float(result.mean)
        1.0
    """
    first, second = _models(first, rate, "first"), _models(second, rate, "second")
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"first and second must be measured on the same units, got {first.shape[1:]} and {second.shape[1:]}"
        )
    paired = first.mean(0) - second.mean(0)
    sem, freedom = intervals.combine(
        [intervals.variance_of_mean(level) for level in (paired, first.mean(1), second.mean(1))]
    )
    if rate:
        sem = np.where(sem == 0, 1 / len(paired), sem)
    return replace(from_values(paired, rate=False), sem=sem, freedom=freedom)


def unpaired_difference(first: Array, second: Array) -> Estimate:
    """Estimate how much the means of two groups of models differ, from one value for each model.

    ``mean = mean(first) - mean(second)``, ``sem^2 = s_1^2 / m_1 + s_2^2 / m_2``, infinite where a group has a single
    model. Degrees of freedom are those of Welch, with fewer where a group has two to four models, as in
    ``over_models``. Where models share the units that they were measured on, ``difference`` is sharper.

    Two groups of one mean, of which one is skewed to the right, differ too often: with 3 to 30 models a chi-squared or
    lognormal group has an interval wholly below that of a normal one with probability up to 0.15, where 0.025 is meant,
    and coverage is 0.85 to 0.93. With ``interval(method="log")``, for nonnegative values, these are 0.045 and 0.94 to
    0.98.

    Args:
        first: ``[m1]``.
        second: ``[m2]``.

    Raises:
        ValueError: If a group is empty, or not a vector.
        FloatingPointError: If a value is not finite.

    Example:
        >>> float(unpaired_difference([2.0, 3.0, 4.0], [1.0, 2.0]).mean)
        1.5
    """
    first, second = _checked(first, name="first"), _checked(second, name="second")
    if first.ndim != 1 or second.ndim != 1:
        raise ValueError(f"first and second must be vectors, one value a model, got {first.shape} and {second.shape}")
    return _unpaired(first, second)


def _unpaired(first: np.ndarray, second: np.ndarray) -> Estimate:
    sem, freedom = intervals.combine([intervals.variance_of_mean(group) for group in (first, second)])
    parts = from_values(first, rate=False), from_values(second, rate=False)
    return replace(from_values(first - parts[1].mean, rate=False), sem=sem, freedom=freedom, parts=parts)


def clopper_pearson(
    counts: Array, total: int, level: float = 0.95, *, comparisons: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return intervals for the probabilities of events that were seen ``counts`` times in ``total`` independent trials.

    ``low`` solves ``P[X >= k] = alpha / 2`` and ``high`` solves ``P[X <= k] = alpha / 2`` with X binomial and
    ``alpha = (1 - level) / comparisons`` (Bonferroni); 0 where k = 0 and 1 where k is the total. They cover at the
    level or above, whatever the probabilities. Clopper and Pearson, The Use of Confidence or Fiducial Limits (1934).

    Args:
        counts: Integers from 0 to ``total``, ``[*k]``.
        total: The number of trials.
        level: The confidence with which all the comparisons hold at once.
        comparisons: Number of intervals that hold simultaneously.

    Returns:
        ``(low, high)``, float64, each ``[*k]``.

    Raises:
        ValueError: If ``level`` is not strictly between 0 and 1, if a count is no integer from 0 to ``total``, or if
            ``total`` or ``comparisons`` is smaller than 1.

    Example:
        >>> low, high = clopper_pearson(np.array([0, 5]), 10)
        >>> low.round(3).tolist(), high.round(3).tolist()
        ([0.0, 0.187], [0.308, 0.813])
    """
    level = checks.require_level("level", level)
    total, comparisons = checks.require_count("total", total), checks.require_count("comparisons", comparisons)
    counts = checks.host_values(counts, "counts")
    if counts.dtype.kind not in "iu" or (counts < 0).any() or (counts > total).any():
        raise ValueError(f"counts must be integers from 0 to the total, {total}, got {counts.tolist()}")
    counts = counts.astype(np.int64)  # 1 more than the largest of a narrow type would wrap
    tail = (1 - level) / (2 * comparisons)
    low = special.betaincinv(np.maximum(counts, 1), total - counts + 1, tail)
    high = special.betainccinv(counts + 1, np.maximum(total - counts, 1), tail)
    return np.where(counts > 0, low, 0.0), np.where(counts < total, high, 1.0)


def _models(values: Array, rate: bool, name: str = "values") -> np.ndarray:
    values = _checked(values, checks.require_flag("rate", rate), name)
    if values.ndim < 2:
        raise ValueError(f"{name} must be [m n *k], model by unit, got shape {values.shape}")
    return values


def _checked(values: Array, rate: bool = False, name: str = "values") -> np.ndarray:
    values = checks.host_values(values, name)
    if values.dtype.kind == "c":
        raise ValueError(f"{name} must be real numbers, got {values.dtype}")
    if values.ndim == 0 or 0 in values.shape:
        raise ValueError(f"{name} must hold at least one unit along every axis, got shape {values.shape}")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise FloatingPointError(f"{name}: value {where} is {values[where]}: no mean or error of it exists")
    if rate and (values.min() < 0 or values.max() > 1):
        raise ValueError(f"rates must lie in [0, 1], got values from {values.min()} to {values.max()}")
    return values
