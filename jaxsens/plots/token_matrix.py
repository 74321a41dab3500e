"""A matrix over the tokens of a text: which token is replaced, and which prediction changes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.maps import heat
from jaxsens.plots.style import PAGE, SMALL, new_figure
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["token_matrix"]

_MOST_WORDS = 80


def token_matrix(ax: "Axes | None", values: Array, *, words: Sequence[str] | None, quantity: str) -> "Figure":
    """Draw ``values [i j]``: a row for the replaced token i, a column for the prediction after token j.

    Args:
        ax: Where to draw; None for a new figure.
        values: NaN is gray; the colors end at the largest value.
        words: Names of the tokens; None for numbers.
        quantity: Label of the colors.

    Example:
        >>> figure = token_matrix(None, np.eye(2), words=["a", "b"], quantity="total variation")
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['a', 'b']
    """
    if ax is not None and not hasattr(ax, "set_xlabel"):
        raise ValueError(f"ax must be matplotlib's Axes or None, got a {type(ax).__name__}")
    values = np.asarray(values, float)
    side = min(max(4.2, 0.12 * len(values) + 1.5), PAGE)
    ax = new_figure(side, side * 0.86).subplots() if ax is None else ax
    top = np.nanmax(values, initial=0.0) or 1.0
    shown = ax.imshow(np.ma.masked_invalid(values), cmap=heat(), vmin=0, vmax=top, interpolation="nearest")
    if words is not None and len(words) <= _MOST_WORDS:
        names = [word.replace("$", r"\$").strip() or "\u2423" for word in words]
        size = min(SMALL, 300 / len(words))
        ax.set_xticks(np.arange(len(names)), labels=names, rotation=90, fontsize=size)
        ax.set_yticks(np.arange(len(names)), labels=names, fontsize=size)
        ax.tick_params(length=0)
    ax.set(xlabel="prediction after token", ylabel="replaced token")
    ax.figure.colorbar(shown, ax=ax, shrink=0.8).set_label(quantity)
    return ax.figure


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
