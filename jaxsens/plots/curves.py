"""Figures of training: several quantities, one below the other, for several settings side by side."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.lines import intervals_as, line_with_interval
from jaxsens.plots.looks import Looks, style
from jaxsens.plots.style import (
    COLUMN,
    PAGE,
    finish,
    finite_vectors,
    legend_entries,
    new_figure,
    require_ordered,
    require_some,
)
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curve", "curve_grid"]

Curve = tuple[Array, Array, Array, Array]
"""Epochs, and a quantity after them with the ends of its interval: ``(epochs [n], mean [n], low [n], high [n])``."""


def curve_grid(
    rows: Mapping[str, Mapping[str, Mapping[str, Curve]]],
    *,
    heading: str,
    dataset: str = "",
    sample: str = "",
    references: Mapping[str, Mapping[str, tuple[str, float]]] | None = None,
    level: float = 0.95,
    looks: Looks | None = None,
    title: str | bool | None = True,
) -> "Figure":
    """Draw quantities during training: a row for each quantity, a column for each setting, a line for each model.

    The axis of epochs is logarithmic and linear up to 1, so that epoch 0, before training, can be shown.

    Args:
        rows: Quantity with its unit -> setting -> label -> ``Curve``; every row has the same settings.
        heading: Title of the figure.
        dataset: Name of the data, for the title.
        sample: Number of models, for the title.
        references: Quantity -> setting -> ``(name, value)``, drawn as a dashed line, of another kind in every row.
        level: Confidence level of the intervals.
        looks: Looks of labels that are settings rather than models; see `in_order`.
        title: True for heading, data and sample; a text to write in their place; False or None for no title.

    Raises:
        ValueError: If there is nothing to draw; if rows have other settings, or references another quantity or setting;
            if curves have several lengths, are not finite, have a negative epoch, or a mean outside its interval.

    Example:
        >>> rows = {"accuracy": {"parity": {"LSTM": ([0, 1], [0.5, 0.9], [0.4, 0.8], [0.6, 1.0])}}}
        >>> figure = curve_grid(rows, heading="Training", dataset="parity", sample="5 models")
        >>> figure.axes[0].get_title()
        'parity'
    """
    require_some("rows", rows)
    settings = list(next(iter(rows.values())))
    references = references or {}
    for quantity, panels in (*rows.items(), *references.items()):
        row = rows.get(quantity, {})
        if quantity not in rows or not set(panels) <= set(row) or list(row) != settings:
            raise ValueError(f"{quantity!r} with {list(panels)}: allowed are {list(rows)}, each with {settings}")
    labels = [label for panels in rows.values() for lines in panels.values() for label in lines]
    styles = style(list(dict.fromkeys(labels)), looks)
    figure = new_figure(PAGE if len(settings) > 1 else COLUMN, 1.0 + 1.7 * len(rows))
    axes = figure.subplots(len(rows), len(settings), squeeze=False, sharex=True, sharey="row")
    dashes = ("--", "-.", ":")
    for number, ((quantity, panels), across) in enumerate(zip(rows.items(), axes, strict=True)):
        require_some(f"rows[{quantity!r}]", panels)
        for (setting, lines), ax in zip(panels.items(), across, strict=True):
            where = f"rows[{quantity!r}][{setting!r}]"
            require_some(where, lines)
            if setting in references.get(quantity, {}):
                name, value = references[quantity][setting]
                ax.axhline(value, color="0.35", linestyle=dashes[number % 3], linewidth=1, label=name)
            for place, (label, curve) in enumerate(lines.items()):
                epochs, mean, low, high = finite_vectors(f"{where}[{label!r}]", curve, 4)
                require_ordered(f"{where}[{label!r}]", mean, low, high)
                if (epochs < 0).any():
                    raise ValueError(f"{where}[{label!r}] has epoch {epochs.min():g}: allowed are 0 and more")
                where_in = (place, len(lines))
                line_with_interval(ax, epochs, mean, low, high, styles[label], place=where_in, label=label)
        across[0].set_ylabel(quantity)
    for ax, setting in zip(axes[0], settings, strict=True):
        ax.set_title(setting)
    last = max(float(np.max(c[0])) for panels in rows.values() for lines in panels.values() for c in lines.values())
    for ax in axes[-1]:
        _epoch_axis(ax, last)
    most = max(len(lines) for panels in rows.values() for lines in panels.values())
    note = f"{intervals_as(most)}: {level:.0%} intervals over models"
    return finish(figure, heading, dataset, sample, note, *legend_entries(list(axes.flat)), title)


def _epoch_axis(ax: "Axes", last: float) -> None:
    from matplotlib.ticker import NullLocator

    powers = [10**i for i in range(12) if 10**i <= last]
    ax.set_xscale("symlog", linthresh=1, linscale=0.3)
    ax.set_xticks([0, *powers], labels=[f"{tick:g}" for tick in (0, *powers)])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(-0.15, max(1.0, last) * 1.15)
    ax.set_xlabel("training (epochs)")
