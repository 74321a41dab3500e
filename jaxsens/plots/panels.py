"""Figures of several quantities against one axis, each with its own scale; models are dots next to their means."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxsens.plots.lines import aside, intervals_as, line_with_interval
from jaxsens.plots.looks import Looks, style
from jaxsens.plots.style import finish, finite_vectors, grid, log_ticks, require_ordered, require_some
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Quantity", "side_by_side"]


_MANY = 7
"""From so many panels on there are three beside each other."""


class Quantity(NamedTuple):
    """One pair of axes.

    Attributes:
        unit: Label of the y axis.
        series: Label -> ``(x [n], mean [n], low [n], high [n])``. A label has one color in all panels.
        models: Label -> ``(x [m], value [m], solid [m])``: a faint dot for each model, a cross where not solid.
        references: Label -> ``(x [n], values [n])``, dashed, in the color of a series of that name, else gray.
        log: Whether the y axis is logarithmic; all but the lower ends of intervals are positive then.

    Example:
        >>> Quantity("bits", {"ViT": ([10, 20], [1.0, 2.0], [0.9, 1.9], [1.1, 2.1])}).unit
        'bits'
    """

    unit: str
    series: Mapping[str, tuple[Array, Array, Array, Array]]
    models: Mapping[str, tuple[Array, Array, Array]] = {}
    references: Mapping[str, tuple[Array, Array]] = {}
    log: bool = True


def side_by_side(
    panels: Mapping[str, Quantity],
    *,
    x: str,
    heading: str,
    dataset: str = "",
    sample: str = "",
    meaning: str = "models",
    log_x: bool = True,
    one_y: bool = False,
    level: float = 0.95,
    looks: Looks | None = None,
    title: str | bool | None = True,
) -> "Figure":
    """Draw several quantities against one axis: means with intervals, and the models that they are over.

    Means, models and references set the y axis: where an interval leaves it, its band is cut there.

    Args:
        panels: Title -> ``Quantity``.
        x: Label of the x axis, with its unit.
        heading: Title of the figure.
        dataset: Name of the data, for the title.
        sample: Number of models and examples, for the title.
        meaning: Meaning of dots and crosses, for the legend.
        log_x: Whether the x axis is logarithmic.
        one_y: Whether all panels have the same y axis, which holds all intervals.
        level: Confidence level of the intervals.
        looks: Looks of labels that are settings rather than models; see `in_order`.
        title: True for heading, data and sample; a text to write in their place; False or None for no title.

    Raises:
        ValueError: If there is nothing to draw; if arrays are of several lengths or not finite, or a mean outside its
            interval; or if a logarithmic axis is given numbers that are not positive.

    Example:
        >>> panel = Quantity("bits", {"ViT": ([10, 20], [1.0, 2.0], [0.9, 1.9], [1.1, 2.1])})
        >>> figure = side_by_side(
        ...     {"sensitivity": panel}, x="length", heading="Growth", dataset="bits", sample="3 models"
        ... )
        >>> figure.axes[0].get_xlabel()
        'length'
    """
    require_some("panels", panels)
    styles = style(list(dict.fromkeys(label for panel in panels.values() for label in panel.series)), looks)
    across = 2 if len(panels) < _MANY else 3
    figure, axes = grid(len(panels), across=across, height=5 / across if len(panels) > 1 else 2.9)
    handles, dotted = {}, False
    ends = [end for panel in panels.values() for columns in panel.series.values() for end in columns[2:]]
    for ax, (name, panel) in zip(axes, panels.items(), strict=True):
        require_some(f"panels[{name!r}].series", panel.series)
        drawn = _series(ax, name, panel, styles, handles, log_x)
        drawn += _models(ax, name, panel, styles, log_x)
        drawn += _references(ax, name, panel, styles, log_x, handles)
        dotted = dotted or bool(panel.models)
        _y_axis(ax, np.concatenate([*drawn, *(ends if one_y else [])]), panel.log)
        _x_axis(ax, np.unique(np.concatenate([columns[0] for columns in panel.series.values()])), log_x)
        ax.set_title(name)
        ax.set(xlabel=x, ylabel=panel.unit)
    shown = intervals_as(max(len(panel.series) for panel in panels.values()))
    cut = "" if one_y else ", cut where they leave the panel"
    note = f"{shown}: {level:.0%} intervals{cut}" + (f"; {meaning}" if dotted else "")
    return finish(figure, heading, dataset, sample, note, list(handles.values()), list(handles), title)


def _series(ax: "Axes", name: str, panel: Quantity, styles: Looks, handles: dict, log_x: bool) -> list[np.ndarray]:
    means = []
    for place, (label, columns) in enumerate(panel.series.items()):
        where = f"panels[{name!r}].series[{label!r}]"
        at, mean, low, high = finite_vectors(where, columns, 4)
        require_ordered(where, mean, low, high)
        _require_positive(where, (at, log_x), (mean, panel.log))
        ends = (np.maximum(low, mean * 1e-6), high) if panel.log else (low, high)
        line = line_with_interval(ax, at, mean, *ends, styles[label], place=(place, len(panel.series)))
        handles.setdefault(label, line)
        means.append(mean)
    return means


def _models(ax: "Axes", name: str, panel: Quantity, styles: Looks, log_x: bool) -> list[np.ndarray]:
    """Draw the models beside the mean of their label, so that neither hides the other."""
    shown, labels = [], list(panel.series)
    for label, (at, values, solid) in panel.models.items():
        where = f"panels[{name!r}].models[{label!r}]"
        at, values = finite_vectors(where, (at, values), 2)
        _require_positive(where, (at, log_x), (values, panel.log))
        solid = np.asarray(solid, bool)
        place = labels.index(label) if label in labels else 0
        look = {"color": styles[label]["color"] if label in styles else "0.5", "zorder": 1}
        dots = ax.scatter(at[solid], values[solid], s=9, alpha=0.45, linewidths=0, **look)
        crosses = ax.scatter(at[~solid], values[~solid], s=12, alpha=0.6, linewidths=0.8, marker="x", **look)
        aside(ax, place, len(labels), dots, crosses)
        shown.append(values)
    return shown


def _references(ax: "Axes", name: str, panel: Quantity, styles: Looks, log_x: bool, handles: dict) -> list[np.ndarray]:
    shown = []
    for label, pair in panel.references.items():
        where = f"panels[{name!r}].references[{label!r}]"
        at, values = finite_vectors(where, pair, 2)
        _require_positive(where, (at, log_x), (values, panel.log))
        color = styles[label]["color"] if label in styles else "0.35"
        (line,) = ax.plot(at, values, color=color, linestyle="--", linewidth=1.2, zorder=1)
        if label not in styles:
            handles.setdefault(label, line)
        shown.append(values)
    return shown


def _y_axis(ax: "Axes", values: np.ndarray, log: bool) -> None:
    low, high = values.min(), values.max()
    if not log:
        room = 0.15 * (high - low) or 0.5
        bottom = low - room if low < 0 else max(low - room, -0.3 * room)
        ax.set(ylim=(bottom, high + room))
        return
    room = max((high / low) ** 0.1, 1.3)
    ax.set(yscale="log", ylim=(low / room, high * room))
    log_ticks(ax.yaxis, low / room, high * room)


def _x_axis(ax: "Axes", at: np.ndarray, log: bool) -> None:
    """Put ticks where something was measured, as many as can be read."""
    if log:
        from matplotlib.ticker import NullLocator

        ax.set(xscale="log", xlim=(at[0] / 1.15, at[-1] * 1.15))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(_spread(at) if log else at[:: math.ceil(len(at) / 8)])
    ax.xaxis.set_major_formatter("{x:g}")


def _spread(at: np.ndarray, most: int = 8) -> list[float]:
    """Return up to ``most`` of some rising positive numbers, far enough from each other on a logarithmic axis."""
    if len(at) <= most:
        return list(at)
    ratio = (at[-1] / at[0]) ** (1 / (most - 1))
    chosen = [at[0]]
    for value in at[1:]:
        if value >= 0.999 * ratio * chosen[-1]:
            chosen.append(value)
    return chosen


def _require_positive(where: str, *columns: tuple[np.ndarray, bool]) -> None:
    for column, log in columns:
        if log and (column <= 0).any():
            raise ValueError(f"{where} holds {column.min():g}: a logarithmic axis has positive numbers only")
