"""Figures of Boolean functions: sensitivity spectra, how models are distributed, and rates with their limit."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsens.plots.style import (
    Interval,
    finish,
    finite_vectors,
    legend_entries,
    new_figure,
    require_ordered,
    require_some,
    style,
)
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panels", "dots", "rate_by_length", "spectra", "survival"]

Panels = Mapping[str, Mapping[str, Any]]
"""Panel -> label -> data."""


def spectra(
    panels: Panels,
    *,
    at: Array,
    dataset: str,
    sample: str,
    reference: tuple[str, Array] | None = None,
    level: float = 0.95,
) -> "Figure":
    """Draw the share of strings by sensitivity, on a logarithmic axis; shares of 0 leave a gap.

    Args:
        panels: Panel -> label -> ``(mean, low, high)``, each ``[k]``: shares of strings in bins of sensitivity.
        at: Middles of the bins ``[k]``, in bits.
        dataset: Name of the data, for the title.
        sample: Number of models, for the title.
        reference: Name and shares ``[k]`` of a distribution to compare with.
        level: Confidence level of the intervals.

    Raises:
        ValueError: If there is nothing to draw, or shares are not finite, not inside their intervals, or not as many as
            there are bins.

    Example:
        >>> lines = {"transformer": ([0.9, 0.1], [0.8, 0.0], [1.0, 0.2])}
        >>> figure = spectra({"n = 20": lines}, at=[0.5, 1.5], dataset="uniform strings", sample="10 models")
        >>> figure.axes[0].get_title()
        'n = 20'
    """
    figure, axes = _grid(panels, 3.4)
    smallest = []
    for ax, (panel, lines) in zip(axes, panels.items(), strict=True):
        for label, triple in lines.items():
            name = f"panels[{panel!r}][{label!r}] beside at"
            middles, mean, low, high = finite_vectors(name, [at, *triple], 4)
            require_ordered(name, mean, low, high)
            look = style(list(lines))[label]
            shown = np.where(mean > 0, mean, np.nan)
            smallest.append(np.nanmin(shown))
            ax.plot(middles, shown, color=look["color"], marker=look["marker"], markersize=4, linewidth=1, label=label)
            bounds = (np.where(mean > 0, end, np.nan) for end in (low, high))
            ax.fill_between(middles, *bounds, color=look["color"], alpha=0.18, linewidth=0)
    for ax in axes:
        ax.set(yscale="log", ylim=(min(smallest) / 2, 1.5))
        if reference is not None:
            ax.plot(at, reference[1], color="0.4", linestyle="--", linewidth=1, label=reference[0])
        ax.set(xlabel="sensitivity of a string (bits)", ylabel="share of strings (log scale)")
    note = f"bands: {level:.0%} intervals over models"
    return finish(figure, "Sensitivity spectra", dataset, sample, note, *legend_entries(axes))


def survival(panels: Panels, *, dataset: str, sample: str, quantity: str, smallest: float) -> "Figure":
    """Draw for every value the share of models that reach it, so that a thin tail of high ones can be seen.

    Args:
        panels: Panel -> label -> one value for each model.
        dataset: Name of the data, for the title.
        sample: Number of models, for the title.
        quantity: Label of the horizontal axis, with its unit.
        smallest: The lower end of the logarithmic axis; lower values are drawn there.

    Raises:
        ValueError: If there is nothing to draw or a value is not finite.

    Example:
        >>> panels = {"n = 20": {"transformer": [0.1, 0.3]}}
        >>> figure = survival(panels, dataset="strings", sample="2 models", quantity="bits", smallest=0.01)
        >>> len(figure.axes)
        1
    """
    figure, axes = _grid(panels, 3.2)
    for ax, (panel, lines) in zip(axes, panels.items(), strict=False):
        for label, values in lines.items():
            (values,) = finite_vectors(f"panels[{panel!r}][{label!r}]", [values], 1)
            ordered = np.sort(np.maximum(values, smallest))
            share = np.arange(len(ordered), 0, -1) / len(ordered)
            look = style(list(lines))[label]
            ax.step(np.append(ordered, ordered[-1]), np.append(share, 0), where="pre", color=look["color"], label=label)
            ax.plot(ordered, share, look["marker"], color=look["color"], markersize=3)
        ax.set(xscale="log", xlim=(smallest * 0.8, None), ylim=(0, 1.05))
        ax.set(
            xlabel=f"{quantity}\n(log scale; {smallest:g} or less at the left edge)",
            ylabel="share of models with at least that",
        )
    return finish(figure, "Models by average sensitivity", dataset, sample, "", *legend_entries(axes))


def dots(
    panels: Mapping[str, Mapping[str, Interval]],
    *,
    dataset: str,
    sample: str,
    heading: str,
    quantity: str,
    level: float = 0.95,
) -> "Figure":
    """Draw a dot with its interval for every label, one below the other, a panel for each group.

    Args:
        panels: Panel -> label -> ``(mean, low, high)``.
        dataset: Name of the data, for the title.
        sample: Number of models, for the title.
        heading: Title of the figure.
        quantity: Label of the horizontal axis, with its unit.
        level: Confidence level of the intervals.

    Raises:
        ValueError: If there is nothing to draw, or a mean lies outside its interval.

    Example:
        >>> groups = {"n = 20": {"transformer": (0.2, 0.1, 0.3)}}
        >>> figure = dots(groups, dataset="strings", sample="9 models", heading="Sensitivity", quantity="bits")
        >>> figure.axes[0].get_xlabel()
        'bits'
    """
    figure, axes = _grid(panels, 0.8 + 0.28 * max((len(group) for group in panels.values()), default=1))
    for ax, (panel, group) in zip(axes, panels.items(), strict=False):
        for position, (label, triple) in enumerate(group.items()):
            name = f"panels[{panel!r}][{label!r}]"
            columns = finite_vectors(name, np.reshape(triple, (-1, 1)), 3)
            require_ordered(name, *columns)
            mean, low, high = (float(column[0]) for column in columns)
            ax.errorbar(mean, position, xerr=[[mean - low], [high - mean]], fmt="o", color="#3f90da", capsize=3)
        ax.set_yticks(range(len(group)), labels=list(group))
        ax.invert_yaxis()
        ax.set(xlabel=quantity)
        ax.set_xlim(left=min(0, ax.get_xlim()[0]))
    return finish(figure, heading, dataset, sample, f"whiskers: {level:.0%} intervals", [], [])


def rate_by_length(
    lengths: Sequence[int],
    rates: Sequence[Interval],
    *,
    limit: tuple[str, float],
    dataset: str,
    sample: str,
    quantity: str,
) -> "Figure":
    """Draw a rate with its interval against the length of strings, together with its expected limit.

    Raises:
        ValueError: If there is nothing to draw, or a rate lies outside its interval.

    Example:
        >>> figure = rate_by_length(
        ...     [10, 20], [(0.5, 0.4, 0.6), (0.6, 0.5, 0.7)],
        ...     limit=("limit", 0.63), dataset="strings", sample="99 functions", quantity="rate",
        ... )  # fmt: skip
        >>> figure.axes[0].get_ylabel()
        'rate'
    """
    require_some("lengths", dict.fromkeys(lengths))
    at, mean, low, high = finite_vectors("rates", [lengths, *np.reshape(rates, (-1, 3)).T], 4)
    require_ordered("rates", mean, low, high)
    figure = new_figure(6.0, 4.2)
    ax = figure.subplots()
    ax.errorbar(at, mean, yerr=[mean - low, high - mean], fmt="o", color="#3f90da", capsize=3, label="random functions")
    ax.axhline(limit[1], color="0.3", linestyle="--", linewidth=1, label=limit[0])
    ax.set(xlabel="length of strings (bits)", ylabel=quantity, ylim=(0, 1.05))
    return finish(figure, "Random Boolean functions", dataset, sample, "whiskers: 95% intervals", *legend_entries([ax]))


def _grid(panels: Panels, height: float) -> tuple["Figure", list["Axes"]]:
    """Return a figure with a panel for each group, two in a row, and titles."""
    require_some("panels", panels)
    for panel, group in panels.items():
        require_some(f"panels[{panel!r}]", group)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(4.8 * columns, height * rows + 1)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax, panel in zip(axes, panels, strict=False):
        ax.set_title(panel, fontsize="medium")
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return figure, axes[: len(panels)]
