"""Figures of several quantities against one axis, each with its own scale; models are dots next to their means."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxsens.plots.style import finish, finite_vectors, new_figure, require_ordered, require_some, style
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Quantity", "side_by_side"]


class Quantity(NamedTuple):
    """One pair of axes.

    Attributes:
        unit: Label of the y axis.
        series: Label -> ``(x [n], mean [n], low [n], high [n])``. A label has one color in all panels.
        models: Label -> ``(x [m], value [m], solid [m])``: a faint dot for each model, a cross where not solid.
        references: Label -> ``(x [n], values [n])``, dashed, in the color of a series of that name, else gray.
        log: Whether the y axis is logarithmic; all but the lower ends of intervals are positive then.
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
    dataset: str,
    sample: str,
    meaning: str = "models",
    log_x: bool = True,
    level: float = 0.95,
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
        level: Confidence level of the intervals.

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
    styles = style(list(dict.fromkeys(label for panel in panels.values() for label in panel.series)))
    across = 1 if len(panels) == 1 else 2
    figure = new_figure(10.8 if across > 1 else 7.4, 1.1 + 3.5 * math.ceil(len(panels) / across))
    axes = figure.subplots(math.ceil(len(panels) / across), across, squeeze=False).ravel()
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    handles, dotted = {}, False
    for ax, (title, panel) in zip(axes, panels.items(), strict=False):
        require_some(f"panels[{title!r}].series", panel.series)
        drawn = _series(ax, title, panel, styles, handles, log_x)
        drawn += _models(ax, title, panel, styles, log_x)
        drawn += _references(ax, title, panel, styles, log_x, handles)
        dotted = dotted or bool(panel.models)
        _y_axis(ax, np.concatenate(drawn), panel.log)
        _x_axis(ax, np.unique(np.concatenate([columns[0] for columns in panel.series.values()])), log_x)
        ax.set_title(title, fontsize="medium")
        ax.set(xlabel=x, ylabel=panel.unit)
    note = f"bands: {level:.0%} intervals, cut where they leave the panel" + (f"; {meaning}" if dotted else "")
    return finish(figure, heading, dataset, sample, note, list(handles.values()), list(handles))


def _series(
    ax: "Axes", title: str, panel: Quantity, styles: Mapping[str, dict[str, str]], handles: dict, log_x: bool
) -> list[np.ndarray]:
    means = []
    for label, columns in panel.series.items():
        where = f"panels[{title!r}].series[{label!r}]"
        at, mean, low, high = finite_vectors(where, columns, 4)
        require_ordered(where, mean, low, high)
        _require_positive(where, (at, log_x), (mean, panel.log))
        ends = (np.maximum(low, mean * 1e-6), high) if panel.log else (low, high)
        ax.fill_between(at, *ends, color=styles[label]["color"], alpha=0.15, linewidth=0)
        (line,) = ax.plot(at, mean, markersize=5, linewidth=1.4, **styles[label])
        handles.setdefault(label, line)
        means.append(mean)
    return means


def _models(
    ax: "Axes", title: str, panel: Quantity, styles: Mapping[str, dict[str, str]], log_x: bool
) -> list[np.ndarray]:
    """Draw the models, each label a little beside the others, so that none hides another."""
    shown = []
    for i, (label, (at, values, solid)) in enumerate(panel.models.items()):
        where = f"panels[{title!r}].models[{label!r}]"
        at, values = finite_vectors(where, (at, values), 2)
        _require_positive(where, (at, log_x), (values, panel.log))
        solid = np.asarray(solid, bool)
        aside = (i - (len(panel.models) - 1) / 2) * 0.02
        at = at * (1 + aside) if log_x else at + aside * np.ptp(at)
        color = styles[label]["color"] if label in styles else "0.5"
        ax.scatter(at[solid], values[solid], s=12, alpha=0.45, linewidths=0, color=color, zorder=1)
        ax.scatter(at[~solid], values[~solid], s=16, alpha=0.6, linewidths=1, marker="x", color=color, zorder=1)
        shown.append(values)
    return shown


def _references(
    ax: "Axes", title: str, panel: Quantity, styles: Mapping[str, dict[str, str]], log_x: bool, handles: dict
) -> list[np.ndarray]:
    shown = []
    for label, pair in panel.references.items():
        where = f"panels[{title!r}].references[{label!r}]"
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
        ax.set(ylim=(low - room, high + room))
        return
    from matplotlib.ticker import LogLocator, NullLocator

    room = max((high / low) ** 0.1, 1.3)
    ax.set(yscale="log", ylim=(low / room, high * room))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter("{x:g}")


def _x_axis(ax: "Axes", at: np.ndarray, log: bool) -> None:
    """Put ticks where something was measured, as many as can be read."""
    if log:
        from matplotlib.ticker import NullLocator

        ax.set(xscale="log", xlim=(at[0] / 1.15, at[-1] * 1.15))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(at[:: math.ceil(len(at) / 8)])
    ax.xaxis.set_major_formatter("{x:g}")


def _require_positive(where: str, *columns: tuple[np.ndarray, bool]) -> None:
    for column, log in columns:
        if log and (column <= 0).any():
            raise ValueError(f"{where} holds {column.min():g}: a logarithmic axis has positive numbers only")
