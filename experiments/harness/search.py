"""The search for a learning rate, on a grid that grows where its best rate is at an end."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from experiments.harness.settings import option

__all__ = ["added_rates", "search_rates"]

T = TypeVar("T")


def added_rates(count: int = 0) -> Any:
    """Return the field of a `Settings` class for the rates that `search_rates` may add."""
    return option(
        count, "learning rates that the search may add, one at a time, beyond the end of the grid where the best one "
        "lies", at_least=0,
    )  # fmt: skip


def search_rates(
    rates: Sequence[float],
    attempt: Callable[[float], T],
    score: Callable[[T], Any],
    added: int = 0,
) -> dict[float, T]:
    """Try all learning rates of a grid, and further ones while an end of it is better than all others.

    The ratio of a further rate to the end is that of the end to its neighbor, and the rate has three digits. A grid of
    one rate does not grow.

    Args:
        rates: The grid.
        attempt: Maps a rate to what came of it.
        score: Maps what came of a rate to what is compared, the larger the better. Nothing is added where the best ones
            are equal.
        added: The largest number of further rates.

    Returns:
        What came of each rate, in the order in which they were tried.

    Example:
        >>> list(search_rates([1e-3, 2e-3], lambda rate: -abs(rate - 5e-3), lambda score: score, added=2))
        [0.001, 0.002, 0.004, 0.008]
    """
    results = {rate: attempt(rate) for rate in rates}
    for _ in range(added):
        grid, scores = sorted(results), {rate: score(one) for rate, one in results.items()}
        best = [rate for rate in grid if scores[rate] == max(scores.values())]
        if len(grid) < 2 or len(best) > 1 or best[0] not in (grid[0], grid[-1]):
            break
        end, neighbor = grid[:2] if best[0] == grid[0] else grid[:-3:-1]
        rate = float(f"{end * end / neighbor:.3g}")
        results[rate] = attempt(rate)
    return results
