"""Token sensitivity to a given standard error, in as few model forwards as that takes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxsens import changes, perturb
from jaxsens.execution import checks
from jaxsens.execution.checks import require_count
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.results.files import part
from jaxsens.results.result import Description
from jaxsens.sensitivity import misfits
from jaxsens.sensitivity import sites as token_sites
from jaxsens.sensitivity.results import Delegated, Sensitivity
from jaxsens.sensitivity.sites import Groups, Sites
from jaxsens.sensitivity.token import token_sensitivity
from jaxsens.statistics import sequential, variance_components
from jaxsens.statistics.estimate import Estimate
from jaxsens.statistics.variance_components import Allocation, Components
from jaxsens.typing import Array, Change, Key, Perturbation, PyTree, SubstituteAt

__all__ = ["InterimLook", "SampledSensitivity", "sampled_token_sensitivity"]

# The order of the examples is drawn with its own key: the one that the last of 2^32 examples would have.
_ORDER = 2**32 - 1


@part
class InterimLook(NamedTuple):
    """The result at an interim look.

    Attributes:
        examples: The number of examples so far.
        mean: The mean over them.
        sem: Standard error of the mean.

    Example:
        >>> InterimLook(examples=100, mean=0.25, sem=0.02).examples
        100
    """

    examples: int
    mean: float
    sem: float


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["measured", "examples", "looks", "components", "allocation"],
    meta_fields=["reached", "target_sem", "forwards"],
)
@dataclass(frozen=True, repr=False)
class SampledSensitivity(Delegated):
    """Token sensitivity measured to a target standard error.

    Attributes:
        measured: The measured examples, with the sites that were drawn; ``measured.interval`` ignores the stopping.
        examples: Their numbers ``[n]``, in the order of measurement.
        looks: All interim looks; the measurement stopped at the last one.
        reached: Whether the target was reached; if not, all examples were used.
        target_sem: The target.
        components: Components of variance, estimated on the pilot; its examples do not count in the mean.
        allocation: Sites and draws of an example, and the planned number of examples.
        forwards: Model forwards, including those of the pilot.

    Example:
        >>> changes = np.array([[[True, False], [True, True]], [[False, False], [True, False]]])
        >>> measured = Sensitivity(changes, np.ones((2, 2), bool), True, 3)
        >>> components = variance_components.from_changes(changes, measured.sites)
        >>> allocation, looks = Allocation(2, 2, 2, 0.1, 6.0), (InterimLook(2, 0.5, 0.25),)
        >>> result = SampledSensitivity(measured, np.array([4, 1]), looks, True, 0.3, components, allocation, 24)
        >>> result.mean, result.reached
        (0.5, True)
    """

    measured: Sensitivity
    examples: np.ndarray
    looks: tuple[InterimLook, ...]
    reached: bool
    target_sem: float
    components: Components
    allocation: Allocation
    forwards: int

    @property
    def mean(self) -> float:
        """Mean over examples.

        Of changes that come all or none in an example and are rare (0.002), the mean is low by up to 0.8 of the target
        and deviates by up to 1.6 times the target, since runs that observe few of them stop sooner; of nearly
        independent changes by at most 0.1 and 0.7. ``interval`` covers all the same (0.97 or more in simulations).
        """
        return self.measured.mean

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean, valid for the stopping rule; see ``statistics.sequential``."""
        return self.measured.interval(sequential.level_of(len(self.looks), level))

    def minus(self, other: "SampledSensitivity") -> Estimate:
        """Estimate the difference to another sampled sensitivity of the same examples and sites.

        Its interval is that of a fixed number of examples: it does not account for the stopping.

        Raises:
            ValueError: If the measured examples or their sites differ, or one is a rate and the other not.
        """
        if not isinstance(other, SampledSensitivity):
            raise ValueError(f"other must be a SampledSensitivity, got a {type(other).__name__}")
        if not np.array_equal(self.examples, other.examples):
            raise ValueError(
                "other must have measured the same examples in the same order, got other numbers of examples: measure "
                "both with token_sensitivity, on as many as are needed"
            )
        return self.measured.minus(other.measured)

    def _describe(self) -> Description:
        whole = self.measured._describe()
        facts = {
            "target": f"standard error {self.target_sem:.3g}, {'reached' if self.reached else 'not reached'}",
            "interim looks": len(self.looks),
            "model forwards": self.forwards,
        }
        return replace(whole, ends=self.interval(), facts={**whole.facts, **facts})


def sampled_token_sensitivity(
    substitute: SubstituteAt,
    perturbation: Perturbation,
    *,
    target_sem: float,
    change: Change = changes.prediction_change,
    pilot: int = 200,
    pilot_sites: int = 8,
    cost: Callable[[int, int], float] = variance_components.forwards,
    execution: Execution = DEFAULT,
) -> Callable[..., SampledSensitivity]:
    """Measure token sensitivity to a target standard error, on a sample of examples, sites and draws.

    ``S = mean over examples X, draws and sites i of change(f(X), f(X with token i replaced))``.

    Examples are taken in random order. A pilot on the first ones, with two draws of some sites each, gives the
    components of variance; these give the cheapest numbers of sites and draws (``variance_components.allocate``) and a
    first sample size. Then further examples are measured, up to interim looks at sizes fixed beforehand
    (``statistics.sequential``), until the target is reached. The mean is that over all sites, and the interval is
    valid, for any pilot; a poor pilot only costs forwards. Each sampled change equals the one that
    ``token_sensitivity`` would record for that example, draw and site with the same key.

    Args:
        substitute: The primitive, such as ``substitution.one_at_a_time(model.apply)``.
        perturbation: Sampler of replacements for a token.
        target_sem: The standard error to reach, in units of the change.
        change: Function recorded of ``(clean, changed)``.
        pilot: The number of examples used for planning; the first look has at least as many.
        pilot_sites: Sites of each, at least 2 (all, where there are fewer).
        cost: ``cost(sites, draws)`` of an example; see ``variance_components.allocate``.
        execution: How to run; its ``chunk`` counts model forwards.

    Returns:
        ``measure(key, params, tokens [b t *s], mask=None, sites=None)`` -> ``SampledSensitivity``; tokens are all the
        examples that may be used, a random sample of the population that the mean is about. Sites are as those of
        ``token_sensitivity``; with ``Groups(labels)``, groups are sampled in the place of tokens.

    Raises:
        ValueError: If the target is not positive, the pilot has fewer than 2 examples or sites, or ``substitute`` does
            not take sites; when called, if the key is not a typed threefry key, there are fewer than two pilots of
            examples, all of them are not expected to reach the target, or the model does not accept the tokens.
        FloatingPointError: When called, if an output is not finite.

    Example:
        >>> substitute = substitution.one_at_a_time(lambda w, x: jnp.einsum("btd,d->b", x, w))
        >>> measure = sampled_token_sensitivity(substitute, perturb.gaussian(1.0), target_sem=0.1, pilot=20)
        >>> x = np.random.default_rng(0).normal(size=(200, 3, 2)).astype(np.float32)
        >>> measure(jax.random.key(0), np.ones(2, np.float32), x).reached
        True
    """
    require_execution(execution)
    misfits.require_parts(substitute, perturbation, change)
    checks.require_functions(cost=cost)
    if not (isinstance(target_sem, int | float | np.number) and np.isfinite(target_sem) and target_sem > 0):
        raise ValueError(f"target_sem must be a finite number above 0, got {target_sem!r}")
    pilot = require_count("pilot", pilot, 2, hint=", since a variance is estimated")
    pilot_sites = require_count("pilot_sites", pilot_sites, 2, hint=", since a variance is estimated")
    target_sem = float(target_sem)
    unit = perturb.dependent_draws(perturbation)
    sampled = partial(token_sensitivity, substitute, perturbation, change=change, execution=execution)
    sampled(sites_drawn=pilot_sites)  # checks its arguments

    def measure(
        key: Key, params: PyTree, tokens: Array, mask: Array | None = None, sites: Sites | Groups | None = None
    ) -> SampledSensitivity:
        require_key(key)
        tokens, mask, sites, groups = token_sites.checked_groups(tokens, mask, sites)
        count, length = sites.shape
        if count < 2 * pilot:
            raise ValueError(f"tokens must hold two pilots of {pilot} examples at least, got {count}; or lower pilot")
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, _ORDER), count))

        def sample(which: np.ndarray, drawn: int, draws: int) -> Sensitivity:
            real = None if mask is None else mask[which]
            part = token_sites.selected(sites, groups, which)
            return sampled(draws=draws, sites_drawn=drawn)(key, params, tokens[which], real, part, index=which)

        first, rest = order[:pilot], order[pilot:]
        few = min(pilot_sites, length)
        planning = sample(first, few, 2 * unit)
        components = variance_components.from_changes(
            planning.changes, planning.sites, sites[first].sum(1), dependent_draws=unit
        )
        if components.variance(1, 1) > 0:
            allocation = variance_components.allocate(
                components, target_sem, available=len(rest), cost=cost, dependent_draws=unit, most_draws=8 * unit
            )
        else:  # Nothing varied: no allocation is better than another.
            allocation = Allocation(few, unit, 1, 0.0, cost(few, unit))
        soonest = max(allocation.examples, pilot, sequential.least(target_sem, planning.rate))
        sizes = sequential.sizes(soonest, len(rest))
        measured, looks, reached = _until_precise(_growing(sample, rest, sizes, allocation), target_sem)
        spent = pilot * variance_components.forwards(few, 2 * unit)
        spent += measured.count * variance_components.forwards(allocation.sites, allocation.draws)
        return SampledSensitivity(
            measured, rest[: measured.count], looks, reached, target_sem, components, allocation, spent
        )

    return measure


def _until_precise(
    measurements: Iterator[Sensitivity], target_sem: float
) -> tuple[Sensitivity, tuple[InterimLook, ...], bool]:
    """Return the first measurement that is precise enough, or the last; all looks; and whether it is precise enough."""
    looks: list[InterimLook] = []
    for measured in measurements:
        looks.append(InterimLook(measured.count, measured.mean, measured.sem))
        reached = sequential.precise_enough(measured.estimate, target_sem)
        if reached:
            break
    return measured, tuple(looks), reached


def _growing(
    sample: Callable[[np.ndarray, int, int], Sensitivity], order: np.ndarray, sizes: list[int], allocation: Allocation
) -> Iterator[Sensitivity]:
    """Yield the sensitivity of the first examples, for every size; in parts of one shape, to compile one program."""
    part, parts = -(-sizes[0] // sequential.PARTS), []
    done = 0
    for size in sizes:
        while done < size:
            which = order[done : min(done + part, size)]
            parts.append(sample(which, allocation.sites, allocation.draws))
            done += len(which)
        joined = (np.concatenate([getattr(p, name) for p in parts]) for name in ("changes", "sites"))
        yield Sensitivity(*joined, parts[0].rate, parts[0].chunk)
