"""Figures of spectral densities: how eigenvalues are spread, several models in a panel."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxsens.plots.style import finish, finite_vectors, legend_entries, new_figure, require_ordered, require_some
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["spectral_densities"]

_COLORS = ("#3f90da", "#bd1f01", "#ffa90e", "#832db6")


def spectral_densities(
    panels: Mapping[str, Mapping[str, tuple[Array, Array, Array, Array]]],
    *,
    quantity: str,
    heading: str,
    dataset: str,
    sample: str,
    smallest: float,
    level: float = 0.95,
) -> "Figure":
    """Draw densities with their bands side by side, on a logarithmic scale.

    Args:
        panels: Title -> label -> ``(eigenvalues [g], mean [g], low [g], high [g])``, the same labels in all panels.
        quantity: Label of the eigenvalues, with their unit.
        heading: Title of the figure.
        dataset: Name of the data, for the title.
        sample: Number of models and examples, for the title.
        smallest: The lower end of the density axis; smaller densities are not drawn.
        level: Confidence level of the intervals.

    Raises:
        ValueError: If there is nothing to draw; if arrays are of several lengths or not finite, a mean is outside of
            its interval, ``smallest`` is not positive, or there are more than four labels.

    Example:
        >>> panels = {"MNIST": {"SGD": ([0.0, 1.0], [1.0, 0.1], [0.9, 0.05], [1.1, 0.2])}}
        >>> figure = spectral_densities(
        ...     panels, quantity="eigenvalue", heading="Hessian", dataset="MNIST", sample="3 models", smallest=1e-3
        ... )
        >>> figure.axes[0].get_title()
        'MNIST'
    """
    require_some("panels", panels)
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    if len(labels) > len(_COLORS):
        raise ValueError(f"labels = {labels}: {len(labels)} are more than the {len(_COLORS)} colors of this figure")
    if not smallest > 0:
        raise ValueError(f"smallest must be above 0, got {smallest}: the scale is logarithmic")
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(5.2 * columns, 2.9 * rows + 1.0)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    for number, (ax, (title, lines)) in enumerate(zip(axes, panels.items(), strict=False)):
        require_some(f"panels[{title!r}]", lines)
        for label, columns_of in lines.items():
            where = f"panels[{title!r}][{label!r}]"
            x, mean, low, high = finite_vectors(where, columns_of, 4)
            require_ordered(where, mean, low, high)
            color = _COLORS[labels.index(label)]
            ax.plot(x, mean.clip(smallest / 10), color=color, linewidth=1.3, label=label)
            ax.fill_between(x, low.clip(smallest / 10), high.clip(smallest / 10), color=color, alpha=0.2, linewidth=0)
        ax.set_title(title, fontsize="medium")
        ax.set(yscale="log", xlabel=quantity)
        if number % columns == 0:
            ax.set_ylabel("density of eigenvalues\n(integral 1)")
        ax.set_ylim(bottom=smallest)
    note = f"bands: {level:.0%} intervals over models"
    return finish(figure, heading, dataset, sample, note, *legend_entries(axes[: len(panels)]))
