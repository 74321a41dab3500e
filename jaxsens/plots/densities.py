"""Figures of spectral densities: how eigenvalues are spread, several models in a panel."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxsens.plots.looks import Looks, style
from jaxsens.plots.style import finish, finite_vectors, grid, legend_entries, require_ordered, require_some
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["spectral_densities"]


def spectral_densities(
    panels: Mapping[str, Mapping[str, tuple[Array, Array, Array, Array]]],
    *,
    quantity: str,
    heading: str,
    dataset: str = "",
    sample: str = "",
    smallest: float,
    level: float = 0.95,
    looks: Looks | None = None,
    title: str | bool | None = True,
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
        looks: Looks of labels that are settings rather than models; see `in_order`.
        title: True for heading, data and sample; a text to write in their place; False or None for no title.

    Raises:
        ValueError: If there is nothing to draw; if arrays are of several lengths or not finite, a mean is outside of
            its interval, or ``smallest`` is not positive.

    Example:
        >>> panels = {"MNIST": {"SGD": ([0.0, 1.0], [1.0, 0.1], [0.9, 0.05], [1.1, 0.2])}}
        >>> figure = spectral_densities(
        ...     panels, quantity="eigenvalue", heading="Hessian", dataset="MNIST", sample="3 models", smallest=1e-3
        ... )
        >>> figure.axes[0].get_title()
        'MNIST'
    """
    require_some("panels", panels)
    styles = style(list(dict.fromkeys(label for lines in panels.values() for label in lines)), looks)
    if not smallest > 0:
        raise ValueError(f"smallest must be above 0, got {smallest}: the scale is logarithmic")
    figure, axes = grid(len(panels), across=2, height=2.2, sharey=True)
    for number, (ax, (panel, lines)) in enumerate(zip(axes, panels.items(), strict=True)):
        require_some(f"panels[{panel!r}]", lines)
        for label, columns_of in lines.items():
            where = f"panels[{panel!r}][{label!r}]"
            x, mean, low, high = finite_vectors(where, columns_of, 4)
            require_ordered(where, mean, low, high)
            line = {"color": styles[label]["color"], "linestyle": styles[label]["linestyle"]}
            ax.plot(x, mean.clip(smallest / 10), linewidth=1.2, label=label, **line)
            ends = (end.clip(smallest / 10) for end in (low, high))
            ax.fill_between(x, *ends, color=styles[label]["color"], alpha=0.2, linewidth=0)
        ax.set_title(panel)
        ax.set(yscale="log", xlabel=quantity)
        if number % 2 == 0:
            ax.set_ylabel("density of eigenvalues\n(integral 1)")
        ax.set_ylim(bottom=smallest)
    note = f"bands: {level:.0%} intervals over models"
    return finish(figure, heading, dataset, sample, note, *legend_entries(axes), title)
