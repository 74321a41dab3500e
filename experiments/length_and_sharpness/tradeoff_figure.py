"""Figures of many models: two quantities of each, with a third as its colour."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.style import finish, finite_vectors, new_figure, require_ordered
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def cloud(
    x: Array,
    y: Sequence[Array],
    colour: Array,
    *,
    solid: Array,
    x_quantity: str,
    y_quantity: str,
    colour_quantity: str,
    heading: str,
    dataset: str,
    sample: str,
    whiskers: str,
    meanings: tuple[str, str] = ("converged", "not converged"),
) -> "Figure":
    """Draw a dot for every model, coloured by a third quantity, on logarithmic scales but for x.

    Colours end at a thousandth of the largest; what is less, or not positive, has the last colour.

    Args:
        x: ``[m]``.
        y: ``(value [m], low [m], high [m])``, positive; whiskers go from low to high.
        colour: ``[m]``; at least one is positive.
        solid: Which models are dots; the others are crosses ``[m]``.
        x_quantity: What lies along x, with its unit; so for the other two.
        y_quantity: Along y.
        colour_quantity: What the colour is.
        heading: What the figure is about.
        dataset: What was measured, for the title.
        sample: How many models, for the title.
        whiskers: What the whiskers are, for the legend.
        meanings: What dots are, and what crosses.

    Raises:
        ValueError: If there is nothing to draw; if arrays are of several lengths or not finite, a value is outside its
            whiskers, y is not positive, or no colour is.
    """
    x, value, low, high, colour = finite_vectors("x, y and colour", (x, *y, colour), 5)
    require_ordered("y", value, low, high)
    if (low <= 0).any():
        raise ValueError(f"y holds {low.min():g}: a logarithmic axis has positive numbers only")
    if not (colour > 0).any():
        raise ValueError(f"colour holds nothing above 0, the largest is {colour.max():g}: its scale is logarithmic")
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, NullLocator

    figure = new_figure(6.8, 5.2)
    ax = figure.subplots()
    top = colour.max()
    floor = max(top / 1000, colour[colour > 0].min())
    norm = LogNorm(floor if floor < top else top / 10, top)
    ax.errorbar(x, value, yerr=[value - low, high - value], fmt="none", ecolor="0.75", elinewidth=0.8, zorder=1)
    solid, shown, handles, labels = np.asarray(solid, bool), None, [], []
    for chosen, marker, meaning in ((solid, "o", meanings[0]), (~solid, "X", meanings[1])):
        if chosen.any():
            look = {"marker": marker, "s": 34, "linewidths": 0.4, "edgecolors": "0.2", "zorder": 2}
            shown = ax.scatter(
                x[chosen], value[chosen], c=np.maximum(colour[chosen], floor), norm=norm, cmap="viridis", **look
            )
            handles.append(ax.scatter([], [], color="0.6", **look))
            labels.append(meaning)
    bar = figure.colorbar(shown, ax=ax, extend="min" if colour.min() < floor else "neither")
    bar.set_label(colour_quantity)
    ax.set(yscale="log", xlabel=x_quantity, ylabel=y_quantity)
    for axis in (ax.yaxis, bar.ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")
    return finish(figure, heading, dataset, sample, f"whiskers: {whiskers}", handles, labels)
