"""How many times as fast one program is as others."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxsens.plots.style import Interval, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def speed_ratios(found: Mapping[str, Mapping[str, Interval]]) -> "Figure":
    """Draw, for every program and case, how many times as fast ours is ``(median, least, most)``, on a log scale.

    Args:
        found: By program, then by case; a program may lack cases.

    Raises:
        ValueError: If there is nothing to draw, or a ratio is not positive.
    """
    cases = list(dict.fromkeys(case for programs in found.values() for case in programs))
    if not cases:
        raise ValueError("found holds no ratio: give one program and one case at least")
    if any(not value > 0 for of in found.values() for interval in of.values() for value in interval):
        raise ValueError("found holds a ratio that is not positive: give times as fast, such as (2.0, 1.9, 2.2)")
    from matplotlib import ticker

    figure = new_figure(7.5, 1.2 + 0.32 * len(cases))
    axes = figure.add_subplot()
    looks = style(list(found))
    for number, (program, of) in enumerate(found.items()):
        places = [cases.index(case) + 0.22 * (number - (len(found) - 1) / 2) for case in of]
        middle = [interval[0] for interval in of.values()]
        ends = [
            [interval[0] - interval[1] for interval in of.values()],
            [interval[2] - interval[0] for interval in of.values()],
        ]
        look = looks[program]
        axes.errorbar(
            middle, places, xerr=ends, fmt=look["marker"], color=look["color"], label=program, capsize=2, markersize=5
        )
    axes.axvline(1, color="0.5", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.set_xlabel("how many times as fast jaxsens is (median and range of repeats)")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=len(found))
    return figure
