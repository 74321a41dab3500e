"""Token sensitivity to a given standard error, in as few model forwards as that takes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import jax
import numpy as np

from jaxsens import changes, perturb
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.sensitivity import sites as token_sites
from jaxsens.sensitivity.token import Sensitivity, token_sensitivity
from jaxsens.statistics import estimate, sequential, variance_components
from jaxsens.statistics.variance_components import Allocation, Components
from jaxsens.typing import Array, Change, Key, Perturbation, PyTree, SubstituteAt

__all__ = ["Look", "SampledSensitivity", "sampled_token_sensitivity"]

# Examples are put in random order with a key of its own: the one that the last of 2^32 examples would have.
_ORDER = 2**32 - 1


class Look(NamedTuple):
    """What was seen at a look.

    Attributes:
        examples: How many were in.
        mean: Over them.
        sem: Standard error of the mean.
    """

    examples: int
    mean: float
    sem: float


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["measured", "examples", "looks", "components", "allocation"],
    meta_fields=["reached", "target_sem", "forwards"],
)
@dataclass(frozen=True)
class SampledSensitivity:
    """An average that was measured to a standard error, and how.

    Attributes:
        measured: The examples that count, with the sites that were drawn; its own interval ignores the stopping.
        examples: Their numbers ``[n]``, in the order in which they came.
        looks: All looks that were taken, the last being where it stopped.
        reached: Whether the target was reached; if not, the examples were used up.
        target_sem: The target.
        components: Components of variance, from the pilot; its examples do not count in the average.
        allocation: Sites and draws of an example, and how many examples were foreseen.
        forwards: Model forwards, those of the pilot included.
    """

    measured: Sensitivity
    examples: np.ndarray
    looks: tuple[Look, ...]
    reached: bool
    target_sem: float
    components: Components
    allocation: Allocation
    forwards: int

    @cached_property
    def estimate(self) -> estimate.Estimate:
        """The estimate over examples, as if their number had been fixed."""
        return self.measured.estimate

    @property
    def mean(self) -> float:
        """Mean over examples; of rare clustered changes it is somewhat low, as runs that saw few of them stop sooner.

        In simulations by .2 of the target; ``interval`` makes up for it.
        """
        return self.measured.mean

    @property
    def sem(self) -> float:
        """Standard error of the mean over examples."""
        return self.measured.sem

    @property
    def count(self) -> int:
        """The number of independent units: examples that count."""
        return self.measured.count

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean, honest under stopping: see ``looks``."""
        return self.measured.interval(sequential.level_of(len(self.looks), level))


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
    """Measure the average of ``token_sensitivity`` to a standard error, on a sample of examples, sites and draws.

    Examples come in random order. A pilot of the first few, with two draws of some sites each, gives the components of
    variance, these the cheapest numbers of sites and draws (``variance_components.allocate``) and a first size. Then
    fresh examples are measured, up to looks whose sizes are fixed beforehand (``looks``), until the target is reached.
    Whatever the pilot says, the average is that over all sites and the interval honest; a poor pilot costs forwards.
    Every change is the one that ``token_sensitivity`` records for that example, draw and site with the same key.

    Args:
        substitute: The primitive, such as ``substitution.one_at_a_time(model.apply)``.
        perturbation: What replaces a token.
        target_sem: The standard error to reach, in units of the change.
        change: What is recorded of ``(clean, changed)``.
        pilot: Examples that are spent on planning; the first look has at least as many.
        pilot_sites: Sites of each, at least 2 (all, where there are fewer).
        cost: Of an example, from its sites and draws; see ``variance_components.allocate``.
        execution: How to run, as in ``token_sensitivity``.

    Returns:
        ``measure(key, params, tokens [b t *s], mask=None, sites=None)`` -> ``SampledSensitivity``; tokens are all the
        examples that may be used, taken for a random sample of those that the average is about.

    Raises:
        ValueError: If the target is not positive, the pilot has fewer than 2 examples or sites, or ``substitute``
            evaluates all sites only; when called, if there are fewer than two pilots of examples, or if all of them are
            foreseen not to reach the target; also as ``token_sensitivity`` does.
        FloatingPointError: When called, if an output is not finite.
    """
    if not (np.isfinite(target_sem) and target_sem > 0):
        raise ValueError(f"target_sem must be a finite number above 0, got {target_sem}")
    for name, value in (("pilot", pilot), ("pilot_sites", pilot_sites)):
        if value != int(value) or value < 2:
            raise ValueError(f"{name} must be an integer of at least 2, so that a variance can be told, got {value}")
    target_sem = float(target_sem)
    unit = perturb.dependent_draws(perturbation)
    sampled = partial(token_sensitivity, substitute, perturbation, change=change, execution=execution)
    sampled(sites_drawn=pilot_sites)  # what cannot be sampled is refused now

    def measure(
        key: Key, params: PyTree, tokens: Array, mask: Array | None = None, sites: Array | None = None
    ) -> SampledSensitivity:
        tokens, mask, sites = token_sites.checked(tokens, mask, sites)
        count, length = tokens.shape[:2]
        if count < 2 * pilot:
            raise ValueError(f"tokens must hold two pilots of {pilot} examples at least, got {count}; or lower pilot")
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, _ORDER), count))

        def sample(which: np.ndarray, drawn: int, draws: int) -> Sensitivity:
            parts = [None if a is None else a[which] for a in (mask, sites)]
            return sampled(draws=draws, sites_drawn=drawn)(key, params, tokens[which], *parts, index=which)

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
        seen: list[Look] = []
        for measured in _growing(sample, rest, sequential.sizes(soonest, len(rest)), allocation):
            seen.append(Look(measured.count, measured.mean, measured.sem))
            reached = sequential.precise_enough(measured.estimate, target_sem)
            if reached:
                break
        spent = pilot * variance_components.forwards(few, 2 * unit)
        spent += measured.count * variance_components.forwards(allocation.sites, allocation.draws)
        return SampledSensitivity(
            measured, rest[: measured.count], tuple(seen), reached, target_sem, components, allocation, spent
        )

    return measure


def _growing(
    sample: Callable[[np.ndarray, int, int], Sensitivity], order: np.ndarray, sizes: list[int], allocation: Allocation
) -> Iterator[Sensitivity]:
    """Yield what the first examples gave, for every size; in parts of one shape, so that one program serves all."""
    part, parts = -(-sizes[0] // sequential.PARTS), []
    done = 0
    for size in sizes:
        while done < size:
            which = order[done : min(done + part, size)]
            parts.append(sample(which, allocation.sites, allocation.draws))
            done += len(which)
        joined = (np.concatenate([getattr(p, name) for p in parts]) for name in ("changes", "sites"))
        yield Sensitivity(*joined, parts[0].rate, parts[0].chunk)
