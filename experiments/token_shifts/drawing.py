"""Drawing of tokens of texts: how often each, a quantity against how common it is, and a text in colors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxsens.plots.looks import BLUE, RED, in_order
from jaxsens.plots.style import (
    PAGE,
    SMALL,
    Interval,
    finish,
    finite_vectors,
    grid,
    legend_entries,
    new_figure,
    require_ordered,
    require_some,
)
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Scatter", "colored_text", "scatters_with_lines", "token_counts"]


def token_counts(
    panels: Mapping[str, tuple[Sequence[str], Mapping[str, Array]]],
    *,
    unit: str,
    heading: str,
    dataset: str = "",
    sample: str = "",
) -> "Figure":
    """Draw how often each of some tokens was counted, a bar for every way of counting, one panel below the other.

    Args:
        panels: Title -> ``(tokens, counts)``, ``counts`` from labels to ``[n]``.
        unit: The unit of the counts.
        heading: Heading of the figure.
        dataset: Data set, for the title.
        sample: On how much of it, for the title.

    Raises:
        ValueError: If there is nothing to draw, or counts are not as many as tokens, finite and at least 0.
    """
    require_some("panels", panels)
    styles = in_order(list(dict.fromkeys(label for _, counts in panels.values() for label in counts)))
    figure = new_figure(PAGE, 1.0 + 1.9 * len(panels))
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for ax, (title, (tokens, counts)) in zip(axes, panels.items(), strict=True):
        require_some(f"panels[{title!r}]", counts)
        width = 0.8 / len(counts)
        for number, (label, values) in enumerate(counts.items()):
            name = f"panels[{title!r}][{label!r}]"
            places, values = finite_vectors(f"{name} beside its tokens", (np.arange(len(tokens)), values), 2)
            if (values < 0).any():
                raise ValueError(f"{name} holds {values.min():g}: counts are at least 0")
            aside = (number - (len(counts) - 1) / 2) * width
            ax.bar(places + aside, values, width, color=styles[label]["color"], label=label)
        # A dollar sign would begin a formula.
        ax.set_xticks(range(len(tokens)), labels=[_plain(token) for token in tokens])
        ax.set_title(title)
        ax.set_ylabel(unit)
    return finish(figure, heading, dataset, sample, "", *legend_entries(list(axes)))


class Scatter(NamedTuple):
    """Points with a line through them.

    Attributes:
        x: ``[p]``.
        y: ``[p]``.
        slope: Slope of the line, with its interval.
        offset: The line at x = 0.
        correlation: Correlation of x and y, with its interval.
    """

    x: Array
    y: Array
    slope: Interval
    offset: float
    correlation: Interval


def scatters_with_lines(
    panels: Mapping[str, Scatter],
    *,
    x: str,
    y: str,
    heading: str,
    dataset: str = "",
    sample: str = "",
    bins: int = 10,
    reference: tuple[str, float, float] | None = None,
    level: float = 0.95,
) -> "Figure":
    """Draw points, their line with slope and correlation, and their means in equal bins from x = 0 to 1.

    Args:
        panels: Title -> ``Scatter``.
        x: Quantity on the x axis, from 0 to 1.
        y: Quantity on the y axis, with its unit.
        heading: Heading of the figure.
        dataset: Data set, for the title.
        sample: On how much of it, for the title.
        bins: Number of bins.
        reference: Name, slope and offset of a line to compare with, dashed.
        level: Level of the intervals.

    Raises:
        ValueError: If there is nothing to draw, numbers are not finite, or one lies outside its interval.
    """
    require_some("panels", panels)
    figure, axes = grid(len(panels), across=2, height=2.7, sharey=True)
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        at, values = finite_vectors(f"panels[{title!r}]", (panel.x, panel.y), 2)
        texts = []
        for what, interval in (("slope", panel.slope), ("r", panel.correlation)):
            numbers = finite_vectors(f"panels[{title!r}].{what}", np.reshape(interval, (-1, 1)), 3)
            require_ordered(f"panels[{title!r}].{what}", *numbers)
            texts.append("{} {:.2f} [{:.2f}, {:.2f}]".format(what, *interval))
        ax.scatter(at, values, s=6, alpha=0.35, linewidths=0, color=BLUE, label="a token")
        ends = np.array([0.0, 1.0])
        ax.plot(ends, panel.offset + panel.slope[0] * ends, color=RED, linewidth=1.4, label="least squares")
        which = np.clip((at * bins).astype(int), 0, bins - 1)
        there = np.unique(which)
        means = [values[which == number].mean() for number in there]
        ax.plot((there + 0.5) / bins, means, "s", markersize=3.5, color="0.15", label="mean of a bin")
        if reference is not None:
            name, slope, offset = reference
            ax.plot(ends, offset + slope * ends, color="0.35", linestyle="--", linewidth=1.2, label=name)
        ax.set_title(f"{title}\n{', '.join(texts)}")
        ax.set(xlabel=x)
    for ax in axes[::2]:
        ax.set_ylabel(y)
    note = f"in brackets: {level:.0%} intervals"
    return finish(figure, heading, dataset, sample, note, *legend_entries(axes))


def colored_text(
    rows: Mapping[str, tuple[Sequence[str], Array]],
    *,
    quantity: str,
    heading: str,
    dataset: str = "",
    sample: str = "",
    line: float = 92.0,
) -> "Figure":
    """Draw texts with their tokens colored by a quantity, each text on its own scale from pale (least) to dark (most).

    Args:
        rows: Title -> ``(tokens, values [n])``; NaN for a token without a value, which stays white.
        quantity: Quantity that the colors show, with its unit.
        heading: Heading of the figure.
        dataset: Data set, for the title.
        sample: The text, for the title.
        line: Number of letters in a line; fewer are spread out.

    Raises:
        ValueError: If there is nothing to draw, a text has not as many values as tokens, or only infinite ones.
    """
    require_some("rows", rows)
    from matplotlib import colormaps

    colors, lines, height = colormaps["YlOrRd"], {}, 0.0
    for title, (tokens, values) in rows.items():
        values = np.asarray(values, float)
        if values.shape != (len(tokens),) or not np.isfinite(values).any():
            raise ValueError(f"rows[{title!r}] must have a value for each of {len(tokens)} tokens, got {values}")
        lines[title] = _broken([_plain(token) for token in tokens], line)
        height += 0.4 + 0.26 * (1 + max(number for number, _ in lines[title]))
    figure = new_figure(PAGE, 0.8 + height)
    axes = figure.subplots(
        len(rows),
        1,
        squeeze=False,
        height_ratios=[2 + max(number for number, _ in places) for places in lines.values()],
    )[:, 0]
    for ax, (title, (tokens, values)) in zip(axes, rows.items(), strict=True):
        values = np.asarray(values, float)
        low, high = np.nanmin(values), np.nanmax(values)
        for token, value, (number, start) in zip(tokens, values, lines[title], strict=True):
            share = 0.0 if high == low else (value - low) / (high - low)
            back = "white" if np.isnan(value) else colors(0.05 + 0.7 * share)
            ax.text(
                start / line, -number, _plain(token), family="monospace", fontsize=SMALL, va="center",
                bbox={"facecolor": back, "edgecolor": "0.85", "linewidth": 0.4, "pad": 1.6},
            )  # fmt: skip
        ax.set(xlim=(0, 1), ylim=(-max(number for number, _ in lines[title]) - 0.6, 0.6), xticks=[], yticks=[])
        ax.set_title(f"{title}: {quantity} from {low:.3g} (pale) to {high:.3g} (dark)", loc="left")
        _without_frame(ax)
    return finish(figure, heading, dataset, sample, "", [], [])


def _broken(tokens: Sequence[str], line: float) -> list[tuple[int, float]]:
    """Return line number and first letter of every token."""
    places, number, start = [], 0, 0.0
    for token in tokens:
        if start > 0 and start + len(token) > line:
            number, start = number + 1, 0.0
        places.append((number, start))
        start += len(token) + 1.4
    return places


def _plain(token: str) -> str:
    return token.replace("$", r"\$")


def _without_frame(ax: "Axes") -> None:
    ax.spines[["left", "bottom"]].set_visible(False)
