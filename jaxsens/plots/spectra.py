"""Figures of Boolean functions: sensitivity spectra, how models are distributed, and rates with their limit."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsens.plots.lines import aside, intervals_as, line_with_interval
from jaxsens.plots.looks import Look, Looks, is_model, style
from jaxsens.plots.style import (
    COLUMN,
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

__all__ = ["Panels", "dots", "rate_by_length", "spectra", "survival"]

Panels = Mapping[str, Mapping[str, Any]]
"""Panel -> label -> data."""


def spectra(
    panels: Panels,
    *,
    at: Array,
    dataset: str = "",
    sample: str = "",
    reference: tuple[str, Array] | None = None,
    level: float = 0.95,
    looks: Looks | None = None,
    title: str | bool | None = True,
) -> "Figure":
    """Draw the share of strings by sensitivity, on a logarithmic axis; shares of 0 leave a gap.

    Args:
        panels: Panel -> label -> ``(mean, low, high)``, each ``[k]``: shares of strings in bins of sensitivity.
        at: Middles of the bins ``[k]``, in bits.
        dataset: Name of the data, for the title.
        sample: Number of models, for the title.
        reference: Name and shares ``[k]`` of a distribution to compare with.
        level: Confidence level of the intervals.
        looks: Looks of labels that are settings rather than models; see `in_order`.
        title: True for heading, data and sample; a text to write in their place; False or None for no title.

    Raises:
        ValueError: If there is nothing to draw, or shares are not finite, not inside their intervals, or not as many as
            there are bins.

    Example:
        >>> lines = {"transformer": ([0.9, 0.1], [0.8, 0.0], [1.0, 0.2])}
        >>> figure = spectra({"n = 20": lines}, at=[0.5, 1.5], dataset="uniform strings", sample="10 models")
        >>> figure.axes[0].get_title()
        'n = 20'
    """
    figure, axes = _grid(panels, 2.4, sharey=True)
    styles = _styles(panels, looks)
    smallest = []
    for ax, (panel, lines) in zip(axes, panels.items(), strict=True):
        for place, (label, triple) in enumerate(lines.items()):
            name = f"panels[{panel!r}][{label!r}] beside at"
            middles, mean, low, high = finite_vectors(name, [at, *triple], 4)
            require_ordered(name, mean, low, high)
            shown = [np.where(mean > 0, column, np.nan) for column in (mean, np.maximum(low, 1e-12), high)]
            smallest.append(np.nanmin(shown[0]))
            line_with_interval(ax, middles, *shown, styles[label], place=(place, len(lines)), label=label)
    for number, ax in enumerate(axes):
        ax.set(yscale="log", ylim=(min(smallest) / 2, 1.5))
        if reference is not None:
            ax.plot(at, reference[1], color="0.4", linestyle="--", linewidth=1, label=reference[0])
        ax.set(xlabel="sensitivity of a string (bits)")
        if number % _across(panels) == 0:
            ax.set_ylabel("share of strings (log scale)")
    note = f"{intervals_as(max(map(len, panels.values())))}: {level:.0%} intervals over models"
    return finish(figure, "Sensitivity spectra", dataset, sample, note, *legend_entries(axes), title)


def survival(
    panels: Panels,
    *,
    dataset: str = "",
    sample: str = "",
    quantity: str,
    smallest: float,
    looks: Looks | None = None,
    title: str | bool | None = True,
) -> "Figure":
    """Draw for every value the share of models that reach it, so that a thin tail of high ones can be seen.

    Args:
        panels: Panel -> label -> one value for each model.
        dataset: Name of the data, for the title.
        sample: Number of models, for the title.
        quantity: Label of the horizontal axis, with its unit.
        smallest: The lower end of the logarithmic axis; lower values are drawn there.
        looks: Looks of labels that are settings rather than models; see `in_order`.
        title: True for data and sample; a text to write in their place; False or None for no title.

    Raises:
        ValueError: If there is nothing to draw or a value is not finite.

    Example:
        >>> panels = {"n = 20": {"transformer": [0.1, 0.3]}}
        >>> figure = survival(panels, dataset="strings", sample="2 models", quantity="bits", smallest=0.01)
        >>> len(figure.axes)
        1
    """
    figure, axes = _grid(panels, 2.3, sharey=True)
    styles, across = _styles(panels, looks), _across(panels)
    for number, (ax, (panel, lines)) in enumerate(zip(axes, panels.items(), strict=True)):
        for place, (label, values) in enumerate(lines.items()):
            (values,) = finite_vectors(f"panels[{panel!r}][{label!r}]", [values], 1)
            ordered = np.sort(np.maximum(values, smallest))
            share = np.arange(len(ordered), 0, -1) / len(ordered)
            ends = np.append(ordered, ordered[-1]), np.append(share, 0)
            line = {name: styles[label][name] for name in ("color", "linestyle")}
            steps = ax.step(*ends, where="pre", linewidth=1, **line)
            mark = styles[label] | {"linestyle": "none"}
            models = ax.plot(ordered, share, markersize=3, markeredgewidth=0.6, label=label, **mark)
            aside(ax, place, len(lines), *steps, *models)
        ax.set(xscale="log", xlim=(smallest * 0.8, None), ylim=(0, 1.05))
        if number >= len(panels) - across:
            ax.set_xlabel(f"{quantity}\n(log scale; {smallest:g} or less at the left edge)")
        if number % across == 0:
            ax.set_ylabel("share of models with at least that")
    return finish(figure, "Models by average sensitivity", dataset, sample, "", *legend_entries(axes), title)


def dots(
    panels: Mapping[str, Mapping[str, Interval]],
    *,
    dataset: str = "",
    sample: str = "",
    heading: str,
    quantity: str,
    limits: tuple[float, float] | None = None,
    level: float = 0.95,
    looks: Looks | None = None,
    title: str | bool | None = True,
) -> "Figure":
    """Draw a dot with its interval for every label, one below the other, a panel for each group.

    Dots of models have the model's color and marker, others are black unless they are given looks. If all labels are
    among those of one panel, they are written once.

    Args:
        panels: Panel -> label -> ``(mean, low, high)``, three times the value where it is exact.
        dataset: Name of the data, for the title.
        sample: Number of models, for the title.
        heading: Title of the figure.
        quantity: Label of the horizontal axis, with its unit.
        limits: Ends of the horizontal axis of all panels; by default each panel has its own.
        level: Confidence level of the intervals.
        looks: Looks of labels that are settings rather than models; see `in_order`.
        title: True for heading, data and sample; a text to write in their place; False or None for no title.

    Raises:
        ValueError: If there is nothing to draw, or a mean lies outside its interval.

    Example:
        >>> groups = {"n = 20": {"transformer": (0.2, 0.1, 0.3)}}
        >>> figure = dots(groups, dataset="strings", sample="9 models", heading="Sensitivity", quantity="bits")
        >>> figure.axes[0].get_xlabel()
        'bits'
    """
    rows = list(max(panels.values(), key=len, default={}))
    shared = all(set(group) <= set(rows) for group in panels.values())
    figure, axes = _grid(panels, 0.65 + 0.2 * len(rows), most=2, sharey=shared)
    for ax, (panel, group) in zip(axes, panels.items(), strict=True):
        places = rows if shared else list(group)
        for label, triple in group.items():
            has_look = is_model(label) or label in (looks or {})
            look = style([label], looks)[label] if has_look else {"color": "0.15", "marker": "o"}
            name = f"panels[{panel!r}][{label!r}]"
            columns = finite_vectors(name, np.reshape(triple, (-1, 1)), 3)
            require_ordered(name, *columns)
            mean, low, high = (float(column[0]) for column in columns)
            at = {"x": mean, "y": places.index(label), "xerr": [[mean - low], [high - mean]]}
            ax.errorbar(**at, **look | {"linestyle": "none"}, markersize=5, capsize=2, elinewidth=1, clip_on=False)
        ax.set_yticks(range(len(places)), labels=places)
        ax.set(xlabel=quantity, ylim=(len(places) - 0.5, -0.5))
        ax.set_xlim(*(limits or (min(0, ax.get_xlim()[0]), None)))
        if ax.get_xlim()[0] < 0:
            ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    exact = all(low == high for group in panels.values() for _, low, high in group.values())
    return finish(figure, heading, dataset, sample, "" if exact else f"whiskers: {level:.0%} intervals", title=title)


def rate_by_length(
    lengths: Sequence[int],
    rates: Sequence[Interval],
    *,
    limit: tuple[str, float],
    dataset: str = "",
    sample: str = "",
    quantity: str,
    title: str | bool | None = True,
) -> "Figure":
    """Draw a rate with its interval against the length of strings, together with its expected limit.

    Args:
        lengths: Lengths ``[n]``, in bits.
        rates: ``(mean, low, high)`` of each length, in [0, 1]; intervals of 95 %.
        limit: Name and value of the limit, drawn as a dashed line.
        dataset: Name of the data, for the title.
        sample: Number of functions, for the title.
        quantity: Label of the vertical axis.
        title: True for data and sample; a text to write in their place; False or None for no title.

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
    figure = new_figure(COLUMN, 3.3)
    ax = figure.subplots()
    ax.errorbar(at, mean, yerr=[mean - low, high - mean], fmt="o", color="0.15", capsize=2, label="random functions")
    ax.axhline(limit[1], color="0.3", linestyle="--", linewidth=1, label=limit[0])
    ax.set(xlabel="length of strings (bits)", ylabel=quantity, ylim=(0, 1.05))
    ax.xaxis.get_major_locator().set_params(integer=True)
    note = "whiskers: 95% intervals"
    return finish(figure, "Random Boolean functions", dataset, sample, note, *legend_entries([ax]), title)


def _grid(panels: Panels, height: float, most: int = 3, **shared: Any) -> tuple["Figure", list["Axes"]]:
    """Return a figure with a panel for each group, and titles."""
    require_some("panels", panels)
    for panel, group in panels.items():
        require_some(f"panels[{panel!r}]", group)
    figure, axes = grid(len(panels), across=min(most, _across(panels)), height=height, **shared)
    for ax, panel in zip(axes, panels, strict=True):
        ax.set_title(panel)
    return figure, axes


def _across(panels: Panels) -> int:
    """Return how many panels are in a row."""
    return min(len(panels), 2 if len(panels) <= 4 else 3)


def _styles(panels: Panels, looks: Looks | None) -> dict[str, Look]:
    return style(list(dict.fromkeys(label for group in panels.values() for label in group)), looks)
