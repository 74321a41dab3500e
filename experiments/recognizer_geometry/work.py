"""The work of a run, counted from its settings."""

from experiments.harness.work import Work
from experiments.recognizer_geometry.config import Config
from experiments.recognizer_geometry.estimates import WEIGHTS
from jaxsens.models import substitution

__all__ = ["work"]


def work(config: Config) -> list[Work]:
    """Return bounds, influences, blow-ups and counts; the few hard strings of constructions are not counted.

    Operations are those of `substitution.recognizers.operations`. All but blow-ups are computed in float64.
    """
    bound, influence = Work("bound of the blow-up", "float64", 0, 0), Work("influences", "float64", 0, 0)
    blow_ups, counts = Work("blow-ups", "small models", 0, 0), Work("counts", "float64", 0, 0)

    def costs(depth: int, width: int, length: int) -> tuple[float, float]:
        """Return the operations of a plain forward and of a shared one."""
        both = substitution.recognizers.operations(config.architecture(depth, width, 0.0), depth, length)
        return both[0] / (length + 1), both[1] / (length + 1)

    strings = config.models * config.strings
    for depth in config.bound_depths:
        plain, _ = costs(depth, config.width, config.bound_length)
        bound = bound.plus(len(config.bound_epsilons) * strings, plain)
    for n in config.lengths:
        _, shared = costs(config.depth, config.width, n)
        settings = len(config.influence_settings) * len(config.half_widths)
        influence = influence.plus(settings * strings * (n + 1), shared)
    for depth, width in config.shapes:
        for n in config.blow_up_lengths:
            blow_ups = blow_ups.plus(len(WEIGHTS) * config.centers * config.draws, costs(depth, width, n)[0])
    for depth, width in config.count_shapes:
        for n in config.exhaustive_lengths:
            counts = counts.plus(config.models * 2**n, costs(depth, width, n)[0])
        for n in config.sampled_lengths:
            flips = config.models * config.sampled_strings * (n + 1)
            counts = counts.plus(flips, costs(depth, width, n)[1])
    return [bound, influence, blow_ups, counts]
