"""Figures of the loss around the weights: along lines, and on planes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.looks import style
from jaxsens.plots.style import COLUMN, capital, finish, grid, legend_entries, new_figure, require_some
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["loss_planes"]


def loss_planes(
    planes: Mapping[str, tuple[Sequence[Array], Array]],
    *,
    quantity: str = "loss",
    unit: str = "nats",
    direction: str = "filter-normalized direction",
    dataset: str = "",
    sample: str = "",
    title: str | bool | None = True,
) -> "Figure":
    """Draw the loss along a line, all lines in one panel; or on planes, a panel of contours for each.

    Planes share one logarithmic scale of colors, so that they can be compared; a cross marks the weights themselves.

    Args:
        planes: Label -> ``(coordinates, losses)``, as in ``LossPlane.coordinates`` and ``LossPlane.losses.mean``:
            ``([p],), [p]`` for lines, or ``([p], [q]), [p q]`` for planes.
        quantity: Name of the quantity.
        unit: Its unit.
        direction: Label of the coordinates.
        dataset: Name of the data, for the title.
        sample: Number of models and examples, for the title.
        title: True for quantity, data and sample; a text to write in their place; False or None for no title.

    Raises:
        ValueError: If there is no plane, if lines and planes are mixed, or if shapes do not match or values are not
            finite; for planes, if a side has a single point or a loss is not positive.

    Example:
        >>> plane = ([np.array([-1.0, 0.0, 1.0])], np.array([1.0, 0.0, 1.0]))
        >>> figure = loss_planes({"SGD": plane}, dataset="digits", sample="1 model")
        >>> len(figure.axes)
        1
    """
    require_some("planes", planes)
    checked = {label: _checked(label, *plane) for label, plane in planes.items()}
    dimensions = {losses.ndim for _, losses in checked.values()}
    if len(dimensions) > 1:
        raise ValueError(f"planes mix lines and planes: {sorted(planes)}; draw them in two figures")
    heading = f"{capital(quantity)} around the weights"
    if dimensions == {1}:
        figure = new_figure(COLUMN, 3.6)
        ax = figure.subplots()
        looks = style(list(checked))
        for label, ((x,), losses) in checked.items():
            ax.plot(x, losses, label=label, linewidth=1.3, markersize=4, markevery=-(-len(x) // 12), **looks[label])
        ax.set(xlabel=direction, ylabel=f"{quantity}\n({unit})")
        return finish(figure, heading, dataset, sample, "", *legend_entries([ax]), title)
    from matplotlib.colors import LogNorm

    lowest = min(losses.min() for _, losses in checked.values())
    highest = max(losses.max() for _, losses in checked.values())
    if lowest <= 0:
        raise ValueError(f"planes hold the loss {lowest:g}: contours on a logarithmic scale need positive ones")
    levels = np.geomspace(lowest, max(highest, lowest * 1.001), 16)
    figure, axes = grid(len(checked), across=3, height=2.6)
    for ax, (label, ((x, y), losses)) in zip(axes, checked.items(), strict=True):
        # Contours take [y x].
        drawn = ax.contourf(x, y, losses.T, levels, norm=LogNorm(levels[0], levels[-1]), cmap="viridis", extend="both")
        ax.contour(x, y, losses.T, levels, colors="white", linewidths=0.4)
        ax.plot(0, 0, marker="+", color="black", markersize=9)
        ax.set_title(label)
        ax.set(xlabel=direction, ylabel=f"another {direction}" if ax is axes[0] else "")
    bar = figure.colorbar(drawn, ax=list(axes), label=f"{quantity} ({unit})", format="{x:.3g}")
    bar.ax.minorticks_off()
    return finish(figure, heading, dataset, sample, title=title)


def _checked(label: str, coordinates: Sequence[Array], losses: Array) -> tuple[list[np.ndarray], np.ndarray]:
    axes, losses = [np.asarray(a, float) for a in coordinates], np.asarray(losses, float)
    shape = tuple(len(np.atleast_1d(a)) for a in axes)
    if len(axes) not in (1, 2) or any(a.ndim != 1 for a in axes) or losses.shape != shape or 0 in shape:
        raise ValueError(
            f"planes[{label!r}] has coordinates of shapes {[a.shape for a in axes]} and losses of shape "
            f"{losses.shape}: give one vector and [p], or two and [p q]"
        )
    if len(axes) == 2 and min(shape) < 2:
        raise ValueError(f"planes[{label!r}] has shape {shape}: contours need two points or more along each side")
    if not all(np.isfinite(a).all() for a in (*axes, losses)):
        raise ValueError(f"planes[{label!r}] holds values that are not finite: leave those out")
    return axes, losses
