"""Figures of what a treatment does to models: each as it is and treated, in two quantities with their intervals."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.drawing import (  # fmt: skip
    clip,
    dress,
    finish,
    finite_vectors,
    legend_entries,
    log_floor,
    new_figure,
    require_ordered,
    require_some,
    style,
)
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Point = tuple[float, float, float, float, float, float]
"""``(x, x_low, x_high, y, y_low, y_high)``."""


def treated_pairs(
    panels: Mapping[str, Mapping[str, tuple[Point, Point]]],
    *,
    y: str,
    treatment: str,
    heading: str,
    dataset: str,
    sample: str,
    seeds: Mapping[str, Mapping[str, tuple[tuple[Array, Array], tuple[Array, Array]]]] | None = None,
    level: float = 0.95,
) -> "Figure":
    """Draw models in several quantities against one: a filled mark as they are, a hollow one treated, and a line.

    Axes are logarithmic where what is drawn spans more than a factor of ten.

    Args:
        panels: Quantity along x, with its unit -> model -> ``(plain, treated)``.
        y: The quantity along y of all panels, with its unit.
        treatment: What was done to the treated, for the legend.
        heading: What the figure is about.
        dataset: What was measured, for the title.
        sample: How many models and examples, for the title.
        seeds: Quantity -> model -> ``(plain, treated)``, each ``(x [n], y [n])``: faint dots, one a seed.
        level: Of the intervals.

    Raises:
        ValueError: If there is nothing to draw, numbers are not finite, or one lies outside its interval.
    """
    require_some("panels", panels)
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(4.0 * columns + 0.4, 3.4 * rows + 1.0)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    styles = style(list(dict.fromkeys(model for pairs in panels.values() for model in pairs)))
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    for number, (ax, (quantity, pairs)) in enumerate(zip(axes, panels.items(), strict=False)):
        require_some(f"panels[{quantity!r}]", pairs)
        points = {
            model: [finite_vectors(f"panels[{quantity!r}][{model!r}]", np.reshape(p, (-1, 1)), 6) for p in pair]
            for model, pair in pairs.items()
        }
        dots = {
            model: [finite_vectors(f"seeds[{quantity!r}][{model!r}]", p, 2) for p in pair]
            for model, pair in (seeds or {}).get(quantity, {}).items()
        }
        every = [point for pair in points.values() for point in pair]
        faint = [point for pair in dots.values() for point in pair]
        floors = [log_floor([p[i] for p in every] + [d[j] for d in faint]) for i, j in ((0, 0), (3, 1))]
        for model, pair in points.items():
            look = styles[model]
            for treated, point in enumerate(pair):
                require_ordered(f"panels[{quantity!r}][{model!r}], x", *point[:3])
                require_ordered(f"panels[{quantity!r}][{model!r}], y", *point[3:])
                x, low, high = clip(point[:3], floors[0])
                at, under, over = clip(point[3:], floors[1])
                ax.errorbar(
                    x, at, xerr=[x - low, high - x], yerr=[at - under, over - at], linestyle="none", capsize=2,
                    markersize=7, markerfacecolor="white" if treated else look["color"], elinewidth=1, zorder=3,
                    label=f"{model}, {treatment}" if treated else model, **look,
                )  # fmt: skip
            ends = [[clip(p[i], floors[j])[0] for p in pair] for i, j in ((0, 0), (3, 1))]
            ax.plot(*ends, color=look["color"], linewidth=1, alpha=0.6, zorder=2)
            for point in dots.get(model, []):
                ax.scatter(*map(clip, point, floors), s=12, alpha=0.35, linewidths=0, zorder=1, **look)
        dress(ax, "x", quantity, floors[0], [p[1] for p in every] + [d[0] for d in faint])
        dress(ax, "y", y if number % columns == 0 else "", floors[1], [p[4] for p in every] + [d[1] for d in faint])
    note = f"whiskers: {level:.0%} intervals; a line from each model to the same {treatment}" + (
        "; faint dots: single seeds" if seeds else ""
    )
    return finish(figure, heading, dataset, sample, note, *legend_entries(axes[: len(panels)]))
