"""Figures of a treatment's effect on models: each untreated and treated, in two quantities with their intervals."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.looks import Look, mark_of, style
from jaxsens.plots.style import (
    clip,
    dress,
    finish,
    finite_vectors,
    grid,
    legend_entries,
    log_floor,
    require_ordered,
    require_some,
)
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Point", "treated_pairs"]

Point = tuple[float, float, float, float, float, float]
"""``(x, x_low, x_high, y, y_low, y_high)``."""


def treated_pairs(
    panels: Mapping[str, Mapping[str, tuple[Point, Point]]],
    *,
    y: str,
    treatment: str,
    heading: str,
    dataset: str = "",
    sample: str = "",
    seeds: Mapping[str, Mapping[str, tuple[tuple[Array, Array], tuple[Array, Array]]]] | None = None,
    level: float = 0.95,
) -> "Figure":
    """Draw models in several quantities against one: a filled mark as they are, a hollow one treated, and a line.

    Axes are logarithmic where what is drawn spans more than a factor of ten.

    Args:
        panels: Quantity along x, with its unit -> model -> ``(plain, treated)``.
        y: The quantity along y of all panels, with its unit.
        treatment: Name of the treatment, for the legend.
        heading: Heading of the figure.
        dataset: Data set, for the title.
        sample: Numbers of models and examples, for the title.
        seeds: Quantity -> model -> ``(plain, treated)``, each ``(x [n], y [n])``: faint dots, one a seed.
        level: Level of the intervals.

    Raises:
        ValueError: If there is nothing to draw, numbers are not finite, or one lies outside its interval.
    """
    require_some("panels", panels)
    figure, axes = grid(len(panels), across=3, height=2.3, sharey=True)
    styles = style(list(dict.fromkeys(model for pairs in panels.values() for model in pairs)))
    points, dots = _checked(panels, seeds or {})
    y_values = [p[3] for pair in points.values() for p in pair] + [d[1] for pair in dots.values() for d in pair]
    y_lows = [p[4] for pair in points.values() for p in pair] + [d[1] for pair in dots.values() for d in pair]
    y_floor = log_floor(y_values)
    for number, (ax, (quantity, pairs)) in enumerate(zip(axes, panels.items(), strict=True)):
        across = [p for model in pairs for p in points[quantity, model]]
        faint = [d for model in pairs for d in dots[quantity, model]]
        floors = (log_floor([p[0] for p in across] + [d[0] for d in faint]), y_floor)
        for model in pairs:
            _draw_model(ax, model, treatment, styles[model], points[quantity, model], dots[quantity, model], floors)
        dress(ax, "x", quantity, floors[0], [p[1] for p in across] + [d[0] for d in faint])
        dress(ax, "y", y, y_floor, y_lows)
        if number % 3:
            ax.set_ylabel("")
    note = f"whiskers: {level:.0%} intervals; a line from each model to the same {treatment}" + (
        "; faint dots: single seeds" if seeds else ""
    )
    return finish(figure, heading, dataset, sample, note, *legend_entries(axes))


def _checked(
    panels: Mapping[str, Mapping[str, tuple[Point, Point]]],
    seeds: Mapping[str, Mapping[str, tuple[tuple[Array, Array], tuple[Array, Array]]]],
) -> tuple[dict, dict]:
    """Return points and dots by quantity and model, as finite vectors."""
    points, dots = {}, {}
    for quantity, pairs in panels.items():
        require_some(f"panels[{quantity!r}]", pairs)
        for model, pair in pairs.items():
            where = f"[{quantity!r}][{model!r}]"
            checked = [finite_vectors(f"panels{where}", np.reshape(point, (-1, 1)), 6) for point in pair]
            for point in checked:
                require_ordered(f"panels{where}, x", *point[:3])
                require_ordered(f"panels{where}, y", *point[3:])
            points[quantity, model] = checked
            faint = seeds.get(quantity, {}).get(model, ())
            dots[quantity, model] = [finite_vectors(f"seeds{where}", one, 2) for one in faint]
    return points, dots


def _draw_model(
    ax: "Axes",
    model: str,
    treatment: str,
    look: Look,
    points: list[list[np.ndarray]],
    dots: list[list[np.ndarray]],
    floors: tuple[float | None, float | None],
) -> None:
    """Draw a model untreated and treated, the line between them, and the dots of its seeds."""
    ends = []
    for treated, point in enumerate(points):
        x, low, high = clip(point[:3], floors[0])
        at, under, over = clip(point[3:], floors[1])
        ends.append((x[0], at[0]))
        mark = look | {"linestyle": "none", "markerfacecolor": "white" if treated else look["color"]}
        ax.errorbar(
            x, at, xerr=[x - low, high - x], yerr=[at - under, over - at], capsize=1.5, markersize=5, elinewidth=0.9,
            zorder=3, label=f"{model}, {treatment}" if treated else model, **mark,
        )  # fmt: skip
    ax.plot(*zip(*ends, strict=True), color=look["color"], linewidth=1, alpha=0.6, zorder=2)
    for treated, pair in enumerate(dots):
        mark = mark_of(look | {"markerfacecolor": "white" if treated else look["color"]})
        ax.scatter(*map(clip, pair, floors), s=7, alpha=0.5, linewidths=0.5, zorder=1, **mark)
