"""Figures of many models: two quantities of each, with a third as its color."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.style import COLUMN, finish, finite_vectors, log_ticks, new_figure, require_ordered
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure


def cloud(
    x: Array,
    y: Sequence[Array],
    color: Array,
    *,
    solid: Array,
    x_quantity: str,
    y_quantity: str,
    color_quantity: str,
    heading: str,
    dataset: str = "",
    sample: str = "",
    whiskers: str,
    meanings: tuple[str, str] = ("converged", "not converged"),
) -> "Figure":
    """Draw a dot for every model, colored by a third quantity; y and color have logarithmic scales.

    Colors end at a thousandth of the largest; smaller values, and those that are not positive, get the last color.

    Args:
        x: ``[m]``.
        y: ``(value [m], low [m], high [m])``, positive; whiskers go from low to high.
        color: ``[m]``; at least one is positive.
        solid: Which models are dots; the others are crosses ``[m]``.
        x_quantity: Quantity and unit of the x axis.
        y_quantity: Quantity and unit of the y axis.
        color_quantity: Quantity and unit of the color.
        heading: The first line of the title.
        dataset: The data, for the title.
        sample: The number of models, for the title.
        whiskers: The meaning of the whiskers, for the legend.
        meanings: The meanings of dots and of crosses.

    Raises:
        ValueError: If there is nothing to draw; if arrays are of several lengths or not finite, a value is outside its
            whiskers, y is not positive, or no color is.
    """
    x, value, low, high, color = finite_vectors("x, y and color", (x, *y, color), 5)
    require_ordered("y", value, low, high)
    if (low <= 0).any():
        raise ValueError(f"y holds {low.min():g}: a logarithmic axis has positive numbers only")
    if not (color > 0).any():
        raise ValueError(f"color holds nothing above 0, the largest is {color.max():g}: its scale is logarithmic")

    figure = new_figure(COLUMN + 0.6, 4.0)
    ax = figure.subplots()
    floor, norm = _scale(color)
    ax.errorbar(x, value, yerr=[value - low, high - value], fmt="none", ecolor="0.75", elinewidth=0.8, zorder=1)
    solid, shown, handles, labels = np.asarray(solid, bool), None, [], []
    for chosen, marker, meaning in ((solid, "o", meanings[0]), (~solid, "X", meanings[1])):
        if chosen.any():
            look = {"marker": marker, "s": 24, "linewidths": 0.4, "edgecolors": "0.2", "zorder": 2}
            colors = {"c": np.maximum(color[chosen], floor), "norm": norm, "cmap": "viridis"}
            shown = ax.scatter(x[chosen], value[chosen], **colors, **look)
            handles.append(ax.scatter([], [], color="0.6", **look))
            labels.append(meaning)
    bar = figure.colorbar(shown, ax=ax, extend="min" if color.min() < floor else "neither")
    bar.set_label(color_quantity)
    ax.set(yscale="log", xlabel=x_quantity, ylabel=y_quantity)
    log_ticks(ax.yaxis, *ax.get_ylim())
    log_ticks(bar.ax.yaxis, norm.vmin, norm.vmax)
    return finish(figure, heading, dataset, sample, f"whiskers: {whiskers}", handles, labels)


def _scale(color: np.ndarray) -> tuple[float, "LogNorm"]:
    """Return the smallest value with a color of its own, and the logarithmic scale from it to the largest."""
    from matplotlib.colors import LogNorm

    top = color.max()
    floor = max(top / 1000, color[color > 0].min())
    return floor, LogNorm(floor if floor < top else top / 10, top)
