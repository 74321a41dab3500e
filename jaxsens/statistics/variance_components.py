"""Where the variance of an average comes from, and the cheapest way to sample it: examples, their sites, their draws.

Two-stage sampling with subsampling of draws (Cochran, Sampling Techniques, 3rd ed., ch. 10): of an example's T sites m
are drawn without replacement, and each is perturbed r times. Its mean then has the variance

    V(m, r) = v_examples + v_sites (1 / m - 1 / T) + v_draws / (m r)

where v_examples is the variance over examples of what all sites and infinitely many draws would give, v_sites the mean
over examples of the variance between its sites (of T - 1 degrees of freedom), v_draws that between draws of one site.
The standard error of a mean over n examples is ``sqrt(V / n)``, and its cost n times that of an example.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxsens.execution import checks
from jaxsens.results.files import part
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.typing import Array, Axes, Figure

__all__ = ["LEVELS", "Allocation", "Components", "allocate", "forwards", "from_changes"]

LEVELS = ("examples", "sites", "draws")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["examples", "sites", "draws", "unbiased", "population"],
    meta_fields=[],
)
@dataclass(frozen=True, repr=False)
class Components(Result):
    """Components of variance, in squared units of the change.

    Attributes:
        examples: Between examples; like the others, at least 0.
        sites: Between the sites of an example.
        draws: Between the draws of a site.
        unbiased: The three before those below 0 were set to 0: differences of mean squares.
        population: Sites T of each example they were estimated from ``[b]``.

    Example:
        >>> components = Components(1.0, 0.5, 0.25, (1.0, 0.5, 0.25), np.array([4, 4]))
        >>> components.variance(sites=4, draws=1)
        1.0625
    """

    examples: float
    sites: float
    draws: float
    unbiased: tuple[float, float, float]
    population: np.ndarray

    @property
    def set_to_zero(self) -> tuple[str, ...]:
        """Which components came out negative, and were set to 0."""
        return tuple(name for name, value in zip(LEVELS, self.unbiased, strict=True) if value < 0)

    def variance(self, sites: int, draws: int) -> float:
        """Return V(m, r): the variance of the mean of an example of which ``sites`` sites get ``draws`` draws each.

        An example with fewer sites has all of them taken; V is then the mean over examples, on the assumption that
        their spread does not depend on how many sites they have.
        """
        taken = np.minimum(sites, self.population)
        between_sites = self.sites * np.mean(1 / taken - 1 / self.population)
        return float(self.examples + between_sites + self.draws * np.mean(1 / (taken * draws)))

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the three components as bars.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        values = [getattr(self, name) for name in LEVELS]
        return draw("bars_by_position", ax, values, values, values, position=LEVELS, quantity="variance")

    def _describe(self) -> Description:
        shown = ", ".join(f"{name} {getattr(self, name):.3g}" for name in LEVELS)
        table = {"level": LEVELS, "variance": [getattr(self, name) for name in LEVELS], "unbiased": self.unbiased}
        zero = {"set to zero": ", ".join(self.set_to_zero)} if self.set_to_zero else {}
        return Description(times(examples=len(self.population)), words=shown, facts=zero, table=lambda: table)


@part
class Allocation(NamedTuple):
    """How many sites and draws of an example to take.

    Attributes:
        sites: Sites of an example, at most; examples with fewer have all of theirs taken.
        draws: Draws of a site.
        examples: Examples that are expected to reach the standard error.
        variance: Variance of an example's mean, V(m, r).
        cost: Cost of an example.

    Example:
        >>> Allocation(sites=8, draws=1, examples=400, variance=0.16, cost=9.0).examples
        400
    """

    sites: int
    draws: int
    examples: int
    variance: float
    cost: float


def forwards(sites: int, draws: int) -> int:
    """Return the model forwards for an example: ``draws (sites + 1)``, as the clean output comes with every draw.

    Example:
        >>> forwards(sites=8, draws=2)
        18
    """
    return draws * (sites + 1)


def from_changes(
    changes: Array, sites: Array, population: Array | None = None, *, dependent_draws: int = 1
) -> Components:
    """Estimate the components of variance without bias, from a first few examples.

    With an example's mean square between draws ``D`` and the variance between its site means ``B``: ``v_draws = mean
    D``, ``v_sites = mean (B - D / r)``, ``v_examples = var(example means) - mean ((1 / m - 1 / T) (B - D / r) + D /
    (m r))``, the last solving ``E var(example means) = V(m, r)``. On a balanced layout with T infinite these are the
    textbook's differences of mean squares.

    Args:
        changes: ``[b r t]``, as in ``Sensitivity.changes``; at least two examples and two draws.
        sites: Which tokens were perturbed ``[b t]``, at least two of each example that has two.
        population: Number of sites T of each example ``[b]``; by default, those perturbed are all.
        dependent_draws: Number of successive draws that depend on each other, as antithetic pairs do; ``v_draws`` is
            then that of independent draws of the same precision.

    Raises:
        ValueError: If there are too few examples, draws or sites to tell the components apart, or shapes do not fit.
        FloatingPointError: If a change is not finite.

    Example:
        >>> changes = np.random.default_rng(0).normal(size=(200, 2, 4)) + np.arange(4.0)
        >>> components = from_changes(changes, np.ones((200, 4), bool))
        >>> abs(components.draws - 1) < 0.2, components.sites > 1
        (True, True)
    """
    dependent_draws = checks.require_count("dependent_draws", dependent_draws)
    changes, sites = checks.host_values(changes, "changes"), checks.host_values(sites, "sites")
    if changes.dtype.kind == "c":
        raise ValueError(f"changes must be real numbers, got {changes.dtype}")
    changes = changes.astype(np.float64)
    if changes.ndim != 3 or sites.shape != changes.shape[::2] or sites.dtype != bool:
        raise ValueError(
            f"changes must be [b r t] and sites [b t] booleans, got {changes.shape} and {sites.shape} {sites.dtype}"
        )
    taken = sites.sum(1)
    population = taken if population is None else checks.host_values(population, "population")
    count, draws, _ = changes.shape
    units, rest = divmod(draws, dependent_draws)
    if count < 2 or units < 2 or rest:
        raise ValueError(
            f"changes must have 2 examples or more, and 2 draws or more in whole units of {dependent_draws}, got "
            f"{count} examples and {draws} draws: their variances are estimated"
        )
    if population.shape != taken.shape or (taken > population).any() or (taken < np.minimum(population, 2)).any():
        raise ValueError(
            f"sites must have 2 or more of each example's population, or its only one; got {taken.tolist()} of "
            f"{population.tolist()}"
        )
    if not np.isfinite(np.where(sites[:, None], changes, 0)).all():
        raise FloatingPointError("changes hold a value that is not finite: it has no variance")
    independent = changes.reshape(count, units, dependent_draws, -1).mean(2)
    means = np.where(sites, independent.mean(1), 0)
    example_means = means.sum(1) / taken
    # Per site of one independent unit of draws; of a unit of g draws, g times as much stands for one draw.
    within_site = np.where(sites, independent.var(1, ddof=1), 0).sum(1) / taken
    spread = (np.where(sites, means - example_means[:, None], 0) ** 2).sum(1) / np.maximum(taken - 1, 1)
    between_sites = np.where(taken > 1, spread - within_site / units, 0)
    sampling = (1 / taken - 1 / population) * between_sites + within_site / (taken * units)
    unbiased = (
        float(example_means.var(ddof=1) - sampling.mean()),
        float(between_sites.mean()),
        float(within_site.mean() * dependent_draws),
    )
    return Components(*(max(value, 0.0) for value in unbiased), unbiased, population)


def allocate(
    components: Components,
    target_sem: float,
    *,
    available: int | None = None,
    cost: Callable[[int, int], float] = forwards,
    most_draws: int = 8,
    dependent_draws: int = 1,
) -> Allocation:
    """Return the sites and draws of an example that reach a standard error at the least cost.

    Minimizes ``n(m, r) cost(m, r)`` with ``n = V(m, r) / target_sem^2`` over all whole numbers of sites and draws for
    which n examples are there. Without that bound and with ``cost = m + 1`` it is next to Cochran's ``sqrt((v_sites +
    v_draws) / (v_examples - v_sites / T))`` (s.10.6). A second draw pays only when all sites are taken: a new site
    costs no more and reduces the variance more.

    Args:
        components: As ``from_changes`` estimates them.
        target_sem: The standard error to reach, in units of the change.
        available: Number of examples; by default, no bound.
        cost: Cost of an example, from its sites and draws; ``forwards`` counts what ``one_at_a_time`` evaluates. Faster
            substitutions, which share work between sites, have another cost.
        most_draws: The most draws of a site to consider.
        dependent_draws: Draws come in multiples of this.

    Raises:
        ValueError: If an argument is not positive, if nothing varied, or if the examples cannot reach the target: the
            message says what they can reach.

    Example:
        >>> components = Components(1.0, 0.0, 0.5, (1.0, 0.0, 0.5), np.array([4, 4]))
        >>> allocate(components, 0.1).sites
        1
    """
    target_sem = checks.require_finite("target_sem", target_sem, above=True)
    checks.require_functions(cost=cost)
    if not isinstance(components, Components):
        raise ValueError(f"components must be Components, as of from_changes, got {components!r}")
    dependent_draws = checks.require_count("dependent_draws", dependent_draws)
    most_draws = checks.require_count("most_draws", most_draws)
    available = None if available is None else checks.require_count("available", available)
    if most_draws < dependent_draws:
        raise ValueError(f"most_draws must be at least dependent_draws, {dependent_draws} >= 1, got {most_draws}")
    if not components.examples + components.sites + components.draws > 0:
        raise ValueError("components are all 0: nothing varied, and no allocation is better than another")
    choices = [
        Allocation(sites, draws, max(1, int(np.ceil(variance / target_sem**2))), variance, cost(sites, draws))
        for sites in range(1, int(components.population.max()) + 1)
        for draws in range(dependent_draws, most_draws + 1, dependent_draws)
        for variance in [components.variance(sites, draws)]
    ]
    feasible = [choice for choice in choices if available is None or choice.examples <= available]
    if not feasible:
        best = np.sqrt(min(choice.variance for choice in choices) / available)
        raise ValueError(
            f"target_sem={target_sem:g} is out of reach of {available} examples: with all sites and {most_draws} draws "
            f"of each they are expected to reach {best:.3g}; raise target_sem above that, or give more examples"
        )
    # Not of whole examples: rounding n up would decide where few are needed.
    return min(feasible, key=lambda choice: choice.variance * choice.cost)
