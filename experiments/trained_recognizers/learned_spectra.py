"""A figure of the sensitivity spectra of models with the exact spectra of the languages that they learned."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.looks import Looks, style
from jaxsens.plots.style import finish, finite_vectors, grid, legend_entries, require_ordered, require_some
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLEST = 1e-4
"""Largest start of the logarithmic axis: less than a sample of strings can show."""

DENSE = 25
"""Number of sensitivities above which marks and whiskers are smaller."""


def learned_spectra(
    panels: Mapping[str, Mapping[str, tuple[Array, Array, Array]]],
    *,
    dataset: str = "",
    sample: str = "",
    level: float = 0.95,
    looks: Looks | None = None,
) -> "Figure":
    """Draw shares of strings by sensitivity, on a logarithmic axis: exact ones as hollow squares, models' as dots.

    Shares of 0 leave a gap. A dot has a whisker, its interval, drawn down to the edge if it contains 0.

    Args:
        panels: Title -> label -> ``(mean, low, high)``, each ``[n+1]``: shares of strings of sensitivity 0 to n. The
            first label of a panel is the exact spectrum of the language.
        dataset: Description of the strings, for the title.
        sample: Number of models, for the title.
        level: Level of the intervals.
        looks: Looks of labels that are settings rather than models.

    Raises:
        ValueError: If there is nothing to draw, or shares are not finite or not inside their intervals.
    """
    require_some("panels", panels)
    checked: dict[str, dict[str, list[np.ndarray]]] = {}
    for title, lines in panels.items():
        require_some(f"panels[{title!r}]", lines)
        checked[title] = {}
        for label, triple in lines.items():
            name = f"panels[{title!r}][{label!r}]"
            checked[title][label] = finite_vectors(name, triple, 3)
            require_ordered(name, *checked[title][label])
    figure, axes = grid(len(panels), across=3, height=2.3, sharey=True)
    floor = max(SMALLEST, min(_smallest(lines) for lines in checked.values()) / 3)
    styles = style(list(dict.fromkeys(label for lines in checked.values() for label in list(lines)[1:])), looks)
    for ax, (title, lines) in zip(axes, checked.items(), strict=True):
        dense = max(len(mean) for mean, _, _ in lines.values()) > DENSE
        for place, (label, (mean, low, high)) in enumerate(lines.items()):
            there = np.flatnonzero(mean > 0)
            if place == 0:
                hollow = {"marker": "s", "facecolors": "none", "edgecolors": "black", "linewidths": 0.8}
                ax.scatter(there, mean[there], label=label, zorder=3, s=14 if dense else 30, **hollow)
                continue
            moved = there + 0.16 * (2 * place - len(lines))  # next to each other, so that no whisker hides another
            ends = [mean[there] - np.maximum(low[there], floor / 10), high[there] - mean[there]]
            look = styles[label] | {"linestyle": "none", "elinewidth": 0.5 if dense else 0.8, "capsize": 0}
            look |= {"markersize": 2 if dense else 3}
            ax.errorbar(moved, mean[there], yerr=ends, label=label, **look)
        ax.set_title(title)
        top = max(np.flatnonzero(mean > 0).max(initial=0) for mean, _, _ in lines.values())
        ax.set(yscale="log", ylim=(floor, 1.6), xlim=(-0.6, top + 0.6), xlabel="sensitivity of a string (bits)")
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes[::3]:
        ax.set_ylabel("share of strings (log scale)")
    note = f"whiskers: {level:.0%} intervals over models; shares below {floor:.1g} are not shown"
    return finish(figure, "Sensitivity spectra", dataset, sample, note, *legend_entries(axes))


def _smallest(lines: Mapping[str, list[np.ndarray]]) -> float:
    """Return the smallest positive share of the models."""
    return min((mean[mean > 0].min() for mean, _, _ in list(lines.values())[1:] if (mean > 0).any()), default=1.0)
