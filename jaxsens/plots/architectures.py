"""Figures of networks: sensitivity during training, against sharpness, and beside published values."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.lines import intervals_as, line_with_interval
from jaxsens.plots.looks import Looks, hatch, mark_of, style
from jaxsens.plots.style import (
    COLUMN,
    PAGE,
    SMALL,
    Interval,
    capital,
    clip,
    dress,
    finish,
    finite_vectors,
    legend_entries,
    log_floor,
    new_figure,
    require_ordered,
    require_some,
)
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bars_with_intervals", "scatter_with_intervals", "training_curves"]


def training_curves(
    series: Mapping[str, tuple[Array, Array, Array, Array]],
    *,
    dataset: str = "",
    sample: str = "",
    quantity: str = "token sensitivity",
    unit: str = "fraction of predictions changed",
    accuracy: Mapping[str, tuple[Array, Array, Array, Array]] | None = None,
    level: float = 0.95,
    title: str | bool | None = True,
) -> "Figure":
    """Draw a quantity during training, one line with its intervals for each model, optionally with test accuracy.

    The axis is logarithmic if the means span more than a factor of ten. Values below a third of the smallest positive
    mean are then drawn there, and the axis label says so.

    Args:
        series: label -> ``(epochs [n], mean [n], low [n], high [n])``.
        dataset: Name of the data, for the title.
        sample: Number of examples and seeds, for the title, such as ``500 test images, 3 seeds``.
        quantity: Name of the quantity.
        unit: Its unit.
        accuracy: Like ``series``, with test accuracies in [0, 1].
        level: Confidence level of the intervals.
        title: True for quantity, data and sample; a text to write in their place; False or None for no title.

    Raises:
        ValueError: If there is no series, arrays differ in length or are not finite, or a mean is outside its interval.

    Example:
        >>> series = {"ViT": ([1, 2], [0.2, 0.1], [0.1, 0.05], [0.3, 0.2])}
        >>> figure = training_curves(series, dataset="digits", sample="360 test images, 1 seed")
        >>> len(figure.axes)
        1
    """
    panels = [("series", series, f"{quantity}\n({unit})")]
    if accuracy is not None:
        panels.append(("accuracy", accuracy, "test accuracy (fraction)"))
    figure = new_figure(COLUMN, 3.6) if accuracy is None else new_figure(PAGE, 3.7)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    styles = style(list(dict.fromkeys([label for _, lines, _ in panels for label in lines])))
    for ax, (name, lines, text) in zip(axes, panels, strict=True):
        require_some(name, lines)
        checked = {label: finite_vectors(f"{name}[{label!r}]", columns, 4) for label, columns in lines.items()}
        floor = log_floor([columns[1] for columns in checked.values()]) if name == "series" else None
        for number, (label, columns) in enumerate(checked.items()):
            require_ordered(f"{name}[{label!r}]", *columns[1:])
            points = columns[0], *clip(columns[1:], floor)
            every = max(1, math.ceil(len(columns[0]) / 12))
            line_with_interval(ax, *points, styles[label], place=(number, len(checked)), label=label, every=every)
        ax.set_xlabel("training (epochs)")
        ax.xaxis.get_major_locator().set_params(integer=True)
        dress(ax, "y", text, floor, [columns[2] for columns in checked.values()])
    heading = f"{capital(quantity)} during training"
    note = f"{intervals_as(max(len(lines) for _, lines, _ in panels))}: {level:.0%} intervals"
    return finish(figure, heading, dataset, sample, note, *legend_entries(axes), title)


def scatter_with_intervals(
    points: Mapping[str, tuple[float, float, float, float, float, float]],
    *,
    dataset: str = "",
    sample: str = "",
    x_quantity: str = "output sharpness",
    x_unit: str = "logits",
    y_quantity: str = "token sensitivity",
    y_unit: str = "fraction of predictions changed",
    seeds: Mapping[str, tuple[Array, Array]] | None = None,
    level: float = 0.95,
    looks: Looks | None = None,
    title: str | bool | None = True,
) -> "Figure":
    """Draw one quantity against another, one point with intervals in both directions for each model.

    An axis is logarithmic if its points span more than a factor of ten (see `training_curves`).

    Args:
        points: label -> ``(x, x_low, x_high, y, y_low, y_high)``.
        dataset: Name of the data, for the title.
        sample: Number of examples and seeds, for the title.
        x_quantity: Name of the quantity along x.
        x_unit: Its unit.
        y_quantity: Name of the quantity along y.
        y_unit: Its unit.
        seeds: label -> ``(x [n], y [n])``, a faint dot for each seed.
        level: Confidence level of the intervals.
        looks: Looks of labels that are settings rather than models; see `in_order`.
        title: True for quantity, data and sample; a text to write in their place; False or None for no title.

    Raises:
        ValueError: If there are no points, not six finite numbers, a value outside its interval, or
            seeds of an unknown label or with two lengths.

    Example:
        >>> points = {"ViT": (1.0, 0.9, 1.1, 0.02, 0.01, 0.03), "CNN": (2.0, 1.8, 2.2, 0.05, 0.04, 0.06)}
        >>> figure = scatter_with_intervals(points, dataset="digits", sample="360 test images")
        >>> figure.axes[0].get_xlabel()
        'output sharpness (logits)'
    """
    require_some("points", points)
    checked = {
        label: finite_vectors(f"points[{label!r}]", np.reshape(point, (-1, 1)), 6) for label, point in points.items()
    }
    dots = {label: finite_vectors(f"seeds[{label!r}]", pair, 2) for label, pair in (seeds or {}).items()}
    if unknown := [label for label in dots if label not in points]:
        raise ValueError(f"seeds of {unknown}: allowed are the labels of points, {list(points)}")
    figure = new_figure(COLUMN, 4.3)
    ax = figure.subplots()
    floors = [log_floor([c[i] for c in checked.values()] + [d[j] for d in dots.values()]) for i, j in ((0, 0), (3, 1))]
    styles = style(list(points), looks)
    for label, columns in checked.items():
        require_ordered(f"points[{label!r}], x", *columns[:3])
        require_ordered(f"points[{label!r}], y", *columns[3:])
        x, y = clip(columns[:3], floors[0]), clip(columns[3:], floors[1])
        look = styles[label] | {"linestyle": "none", "capsize": 2, "markersize": 6, "elinewidth": 1}
        ax.errorbar(x[0], y[0], xerr=[x[0] - x[1], x[2] - x[0]], yerr=[y[0] - y[1], y[2] - y[0]], label=label, **look)
    for label, pair in dots.items():
        ax.scatter(*map(clip, pair, floors), s=10, alpha=0.5, linewidths=0.6, **mark_of(styles[label]))
    lows = [[values[i] for values in checked.values()] + [d[j] for d in dots.values()] for i, j in ((1, 0), (4, 1))]
    dress(ax, "x", f"{x_quantity} ({x_unit})", floors[0], lows[0])
    dress(ax, "y", f"{y_quantity}\n({y_unit})", floors[1], lows[1])
    note = f"whiskers: {level:.0%} intervals" + ("; faint dots: single seeds" if dots else "")
    heading = f"{capital(y_quantity)} against {x_quantity}"
    return finish(figure, heading, dataset, sample, note, *legend_entries([ax]), title)


def bars_with_intervals(
    measured: Mapping[str, Interval],
    *,
    dataset: str = "",
    sample: str = "",
    quantity: str = "token sensitivity",
    unit: str = "fraction of predictions changed",
    published: Mapping[str, Sequence[float]] | None = None,
    level: float = 0.95,
    title: str | bool | None = True,
) -> "Figure":
    """Draw a bar with its interval for every model, and hollow markers for published values.

    Args:
        measured: label -> ``(mean, low, high)``.
        dataset: Name of the data, for the title.
        sample: Number of examples and seeds, for the title.
        quantity: Name of the quantity.
        unit: Its unit.
        published: label -> published values, one or several.
        level: Confidence level of the intervals.
        title: True for quantity, data and sample; a text to write in their place; False or None for no title.

    Raises:
        ValueError: If there are no bars, not three finite numbers, a mean outside its interval, or published
            values that are not finite or of an unknown label.

    Example:
        >>> figure = bars_with_intervals({"ViT": (0.02, 0.01, 0.03)}, dataset="digits", sample="360 test images")
        >>> len(figure.axes)
        1
    """
    require_some("measured", measured)
    for label, triple in measured.items():
        require_ordered(f"measured[{label!r}]", *finite_vectors(f"measured[{label!r}]", np.reshape(triple, (-1, 1)), 3))
    published = {label: np.atleast_1d(np.asarray(values, float)) for label, values in (published or {}).items()}
    for label, values in published.items():
        if label not in measured or not np.isfinite(values).all():
            raise ValueError(f"published[{label!r}] = {values}: allowed are finite values of {list(measured)}")
    figure = new_figure(min(max(COLUMN, len(measured) + 1.2), PAGE), 3.5)
    ax = figure.subplots()
    styles = style(list(measured))
    for position, (label, (mean, low, high)) in enumerate(measured.items()):
        fill = {"facecolor": styles[label]["markerfacecolor"], "edgecolor": styles[label]["color"]}
        ax.bar(position, mean, width=0.6, hatch=hatch(styles[label]), **fill)
        error = [[mean - low], [high - mean]]
        ax.errorbar(position, mean, yerr=error, color="0.3", capsize=4, linestyle="none", linewidth=1.2)
        ax.annotate(
            f"{mean:#.3g}",
            (position, max(high, 0.0)),
            (0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL,
        )
    hollow = {"marker": "D", "facecolors": "white", "edgecolors": "black", "s": 28, "zorder": 3}
    marks = [(i, value) for i, label in enumerate(measured) for value in published.get(label, ())]
    handles, labels = [], []
    if marks:
        # Beside the bar, so that they hide neither the interval nor the number.
        handles = [ax.scatter([i + 0.38 for i, _ in marks], [value for _, value in marks], **hollow)]
        labels = ["published"]
    ax.axhline(0, color="0.15", linewidth=0.8)
    ax.margins(y=0.1)
    room = max(6, int(90 / len(measured)))  # letters under a bar
    ax.set_xticks(
        range(len(measured)), labels=[textwrap.fill(label, room, break_long_words=False) for label in measured]
    )
    ax.set_ylabel(f"{quantity}\n({unit})")
    note = f"whiskers: {level:.0%} intervals"
    return finish(figure, capital(quantity), dataset, sample, note, handles, labels, title)
