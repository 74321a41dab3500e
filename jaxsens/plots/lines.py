"""Lines with their intervals, told apart where they coincide."""

from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.looks import Look
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["BANDS", "aside", "intervals_as", "line_with_interval"]

BANDS = 2
"""The most lines of a panel whose intervals are bands; those of more lines are whiskers, which cover less."""

_STEP, _REACH = 2.5, 9.0  # points from a line to the next, and from the first to the last at most


def line_with_interval(
    ax: "Axes",
    x: Array,
    mean: Array,
    low: Array,
    high: Array,
    look: Look,
    *,
    place: tuple[int, int] = (0, 1),
    label: str | None = None,
    every: int = 1,
) -> "Line2D":
    """Draw a line with its interval: a band where there are at most two lines in a panel, else whiskers.

    Lines of one panel are moved sideways by a few points, so that those that coincide are both seen.

    Args:
        ax: Where to draw.
        x: ``[n]``.
        mean: ``[n]``; NaN leaves a gap.
        low: Lower ends ``[n]``.
        high: Upper ends ``[n]``.
        look: Color, marker and line style.
        place: The place of the line among the lines of the panel, from 0, and their number.
        label: Label for the legend.
        every: Draw a marker, and a whisker, at every so many points.

    Example:
        >>> from jaxsens.plots import style
        >>> from jaxsens.plots.style import new_figure
        >>> ax = new_figure(3, 2).subplots()
        >>> line_with_interval(ax, [0, 1], [1, 2], [0, 1], [2, 3], style(["CNN"])["CNN"]).get_color()
        '#D55E00'
    """
    if place[1] <= BANDS:
        drawn = ax.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)
    else:
        ends = (np.asarray(values)[::every] for values in (x, low, high))
        drawn = ax.vlines(*ends, color=look["color"], linewidth=0.8, alpha=0.7)
    (line,) = ax.plot(x, mean, label=label, markersize=4.5, linewidth=1.3, markevery=every, **look)
    aside(ax, *place, drawn, line)
    return line


def aside(ax: "Axes", place: int, count: int, *artists: "Artist") -> None:
    """Move lines, bands, whiskers or dots sideways by a few points, as one of several series of a panel.

    Their data stay what they are, and so do the limits of the axes.

    Example:
        >>> from jaxsens.plots.style import new_figure
        >>> ax = new_figure(3, 2).subplots()
        >>> first, second = ax.plot([0, 1]) + ax.plot([0, 1])
        >>> aside(ax, 0, 2, first), aside(ax, 1, 2, second)
        (None, None)
        >>> left, right = (line.get_transform().transform((0, 0))[0] for line in (first, second))
        >>> float(round((right - left) * 72 / ax.figure.dpi, 6))
        2.5
    """
    from matplotlib.collections import PathCollection
    from matplotlib.transforms import ScaledTranslation

    step = min(_STEP, _REACH / max(count - 1, 1))
    moved = ax.transData + ScaledTranslation((place - (count - 1) / 2) * step / 72, 0, ax.figure.dpi_scale_trans)
    for artist in artists:
        # Set after the artist was added: the axes' limits then follow from the data alone.
        if isinstance(artist, PathCollection):
            artist.set_offset_transform(moved)
        else:
            artist.set_transform(moved)


def intervals_as(most: int) -> str:
    """Return how the intervals are drawn in panels of at most so many lines, for a legend.

    Example:
        >>> intervals_as(2), intervals_as(7)
        ('bands', 'whiskers')
    """
    return "bands" if most <= BANDS else "whiskers"
