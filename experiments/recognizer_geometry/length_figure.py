"""A figure of a quantity against the length of strings, with fitted laws and the bounds of theorems."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxsens.plots.lines import intervals_as, line_with_interval
from jaxsens.plots.looks import Looks, in_order
from jaxsens.plots.style import (
    SMALL,
    Interval,
    capital,
    finish,
    finite_vectors,
    grid,
    require_ordered,
    require_some,
)
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = tuple[Array, Array, Array, Array]
"""Lengths, and a quantity there with the ends of its interval: ``(lengths [n], mean [n], low [n], high [n])``."""


class Fit(NamedTuple):
    """A fitted law, drawn as a thin line.

    Attributes:
        lengths: Where it is drawn ``[n]``; those that it was fitted on.
        values: The law there ``[n]``.
        slope: Its slope, with the interval.
        meaning: What the slope is, for the legend, such as ``slope`` or ``bits a position``.
    """

    lengths: Array
    values: Array
    slope: Interval
    meaning: str = "slope"


class Panel(NamedTuple):
    """One pair of axes.

    Attributes:
        series: Label -> ``Series``; means are positive, a lower end may be 0. A label has one color in all panels.
        fits: Label -> ``Fit``; one of a series has its color, and others are gray, with their label in the legend.
        bounds: Label -> ``(lengths [n], values [n])`` of a theorem, dashed.
    """

    series: Mapping[str, Series]
    fits: Mapping[str, Fit] = {}
    bounds: Mapping[str, tuple[Array, Array]] = {}


def against_length(
    panels: Mapping[str, Panel],
    *,
    quantity: str,
    unit: str,
    dataset: str = "",
    sample: str = "",
    length: str = "length N (bits)",
    log_length: bool = True,
    level: float = 0.95,
) -> "Figure":
    """Draw a quantity against the length of strings on logarithmic axes: intervals, fitted laws, and theorems' bounds.

    A lower end that lies outside of the axis, as 0 does, is drawn to its edge. Panels share the vertical axis, which
    the series set: a bound may leave it. Every panel has a legend for its fits and bounds.

    Args:
        panels: Title -> ``Panel``.
        quantity: The quantity that is drawn.
        unit: Its unit.
        dataset: Data set, for the title.
        sample: On how much of it, for the title.
        length: Label of the x axis.
        log_length: Whether that axis is logarithmic too.
        level: Level of the intervals.

    Raises:
        ValueError: If there is no panel, or none of a panel's series; if arrays are of several lengths or not finite, a
            mean is not positive or outside its interval, a length not positive; or if there are more than ten labels.
    """
    require_some("panels", panels)
    styles = in_order(list(dict.fromkeys(label for panel in panels.values() for label in panel.series)))
    every = {title: _checked(title, panel) for title, panel in panels.items()}
    across = 3 if len(panels) == 3 else 2
    figure, axes = grid(len(panels), across=across, height=3.2, sharey=True)
    positive = [end for panel in every.values() for columns in panel.values() for end in (columns[1], columns[3])]
    floor, top = min(map(np.min, positive)) / 3, max(map(np.max, positive)) * 2
    handles, labels = [], []
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        drawn = _draw(ax, every[title], styles, floor)
        handles += [handle for label, handle in drawn.items() if label not in labels]
        labels += [label for label in drawn if label not in labels]
        _draw_laws(ax, panel, styles, across == 2)
        ax.set_title(title)
        ax.set(yscale="log", ylim=(floor, top), xlabel=length)
        _length_axis(ax, every[title], log_length)
    for ax in axes[::across]:
        ax.set_ylabel(f"{quantity}\n({unit})")
    uncertain = any((columns[3] > columns[2]).any() for panel in every.values() for columns in panel.values())
    shown = intervals_as(max(len(panel.series) for panel in panels.values()))
    note = f"{shown}: {level:.0%} intervals" if uncertain else ""
    return finish(figure, f"{capital(quantity)} against length", dataset, sample, note, handles, labels)


def _checked(title: str, panel: Panel) -> dict[str, list[np.ndarray]]:
    require_some(f"panels[{title!r}].series", panel.series)
    columns_by_label = {}
    for label, columns in panel.series.items():
        where = f"panels[{title!r}].series[{label!r}]"
        columns_by_label[label] = finite_vectors(where, columns, 4)
        require_ordered(where, *columns_by_label[label][1:])
        _require_positive(where, columns_by_label[label][0], columns_by_label[label][1])
    for label, fit in panel.fits.items():
        where = f"panels[{title!r}].fits[{label!r}]"
        _require_positive(where, *finite_vectors(where, fit[:2], 2))
        slope = finite_vectors(f"{where}.slope", np.reshape(fit.slope, (-1, 1)), 3)
        require_ordered(f"{where}.slope", *slope)
    for label, pair in panel.bounds.items():
        where = f"panels[{title!r}].bounds[{label!r}]"
        _require_positive(where, *finite_vectors(where, pair, 2))
    return columns_by_label


def _require_positive(where: str, *columns: np.ndarray) -> None:
    for column in columns:
        if (column <= 0).any():
            raise ValueError(f"{where} holds {column.min():g}: a logarithmic axis has positive lengths and values only")


def _draw(ax: "Axes", series: Mapping[str, list[np.ndarray]], styles: Looks, floor: float) -> dict[str, object]:
    drawn = {}
    for place, (label, (lengths, mean, low, high)) in enumerate(series.items()):
        ends = (np.maximum(low, floor), high)
        drawn[label] = line_with_interval(ax, lengths, mean, *ends, styles[label], place=(place, len(series)))
    return drawn


def _draw_laws(ax: "Axes", panel: Panel, styles: Looks, wide: bool) -> None:
    for label, fit in panel.fits.items():
        mean, low, high = fit.slope
        text = f"{fit.meaning} {mean:.2f} [{low:.2f}, {high:.2f}]"
        text, color = (text, styles[label]["color"]) if label in styles else (f"{label}: {text}", "0.35")
        ax.plot(fit.lengths, fit.values, color=color, linewidth=2.4, alpha=0.45, label=text, zorder=1)
    dashes = ("--", ":", "-.")
    for i, (label, (lengths, values)) in enumerate(panel.bounds.items()):
        ax.plot(lengths, values, color="black", linestyle=dashes[i % 3], linewidth=1.1, label=label, zorder=1)
    handles, labels = ax.get_legend_handles_labels()  # two fits may have the same slope
    if handles:
        # Below the panel, where it hides no line.
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.24), "frameon": False, "handlelength": 1.6}
        below["ncols"] = 2 if wide and max(map(len, labels)) < 30 else 1
        ax.legend(handles, labels, fontsize=SMALL - 1, **below)


def _length_axis(ax: "Axes", series: Mapping[str, list[np.ndarray]], log: bool) -> None:
    """Put ticks at the lengths that were measured, as many as can be read."""
    lengths = np.unique(np.concatenate([columns[0] for columns in series.values()]))
    if not log:
        return
    from matplotlib.ticker import NullLocator

    ax.set_xscale("log")
    ax.set_xticks(lengths[:: math.ceil(len(lengths) / 8)])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
