"""Figures of one result, drawn on axes that the caller may give: what ``Result.plot`` shows.

Every function takes ``ax``, or None for a new figure, and plain numbers, and returns the figure.
"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.looks import BLUE, in_order
from jaxsens.plots.maps import draw_image, draw_patches, heat, pixels_of
from jaxsens.plots.style import COLUMN, PAGE, SMALL, new_figure
from jaxsens.plots.token_matrix import token_matrix
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "bars_by_position",
    "colored_text",
    "histogram",
    "line_with_band",
    "lines",
    "map_beside_image",
    "mean_of_values",
    "mosaic",
    "plane",
    "points",
    "token_matrix",
]

_COLOR = BLUE
_MOST_BARS = 64  # more are drawn as a line with a band
_MOST_NAMES = 8  # more are written from below to above
_MOST_LINES = 10  # more have no labels


def bars_by_position(
    ax: "Axes | None", mean: Array, low: Array, high: Array, *, position: str | Sequence[str], quantity: str
) -> "Figure":
    """Draw a bar with its interval for every position, or a line with a band where there are more than 64.

    Args:
        ax: Where to draw; None for a new figure.
        mean: Heights of the bars ``[n]``; NaN leaves a gap.
        low: Lower ends of the intervals; NaN and infinite ones are not drawn.
        high: Upper ends.
        position: Label of the positions, or a name for each of them.
        quantity: Label of the heights.

    Example:
        >>> figure = bars_by_position(None, [0.1, 0.3], [0.0, 0.2], [0.2, 0.4], position="token", quantity="rate")
        >>> figure.axes[0].get_ylabel()
        'rate'
    """
    mean, low, high = (np.asarray(values, float) for values in (mean, low, high))
    at = np.arange(len(mean))
    named = not isinstance(position, str)
    if len(mean) > _MOST_BARS and not named:
        return line_with_band(ax, at, mean, low, high, across=position, quantity=quantity)
    ax = _axes(ax, min(max(COLUMN, 0.15 * len(mean) + 1.5), PAGE), 3.2)
    ax.bar(at, mean, width=0.8, color=_COLOR)
    drawn = np.isfinite(mean) & np.isfinite(low) & np.isfinite(high) & (high > low)
    if drawn.any():
        reach = [(mean - low)[drawn], (high - mean)[drawn]]
        ax.errorbar(at[drawn], mean[drawn], yerr=reach, color="0.15", capsize=2, linestyle="none", linewidth=1)
    if named:
        room = max(8, int(55 / len(mean)))  # letters under a bar
        names = [textwrap.fill(str(name), room, break_long_words=False) for name in position]
        ax.set_xticks(at, labels=names, rotation=90 if len(mean) > _MOST_NAMES else 0)
    else:
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="" if named else position, ylabel=quantity)
    return _finished(ax)


def line_with_band(
    ax: "Axes | None",
    x: Array,
    mean: Array,
    low: Array,
    high: Array,
    *,
    across: str,
    quantity: str,
    smallest: float | None = None,
    log: bool = False,
) -> "Figure":
    """Draw a line with a band around it.

    Args:
        ax: Where to draw; None for a new figure.
        x: Positions ``[n]``.
        mean: Heights of the line.
        low: Lower ends of the band; infinite ones are not drawn.
        high: Upper ends.
        across: Label of the positions.
        quantity: Label of the heights.
        smallest: The lower end of a logarithmic axis; smaller values are drawn there.
        log: Whether the axis is logarithmic without such an end.

    Example:
        >>> ends = [0.5, 1.5], [1.5, 2.5]
        >>> line_with_band(None, [0, 1], [1.0, 2.0], *ends, across="layer", quantity="shift").axes[0].get_xlabel()
        'layer'
    """
    ax = _axes(ax, COLUMN, 3.2)
    least = -np.inf if smallest is None else smallest / 10
    mean, low, high = (np.maximum(np.asarray(values, float), least) for values in (mean, low, high))
    ax.plot(x, mean, color=_COLOR, linewidth=1.4, marker="o" if len(mean) <= _MOST_BARS else "", markersize=3)
    ax.fill_between(x, low, high, where=np.isfinite(low) & np.isfinite(high), color=_COLOR, alpha=0.25, linewidth=0)
    if log or smallest is not None:
        ax.set_yscale("log")
    if smallest is not None:
        ax.set_ylim(bottom=smallest)
    ax.set(xlabel=across, ylabel=quantity)
    return _finished(ax)


def lines(ax: "Axes | None", x: Array, heights: Array, *, across: str, quantity: str) -> "Figure":
    """Draw a line for each row of ``heights [m n]`` over ``x [n]``.

    Example:
        >>> len(lines(None, [1, 2], np.zeros((3, 2)), across="epoch", quantity="loss").axes[0].lines)
        3
    """
    ax = _axes(ax, COLUMN, 3.2)
    heights = np.asarray(heights, float)
    few = len(heights) <= _MOST_LINES
    looks = in_order([str(number) for number in range(len(heights))])
    for number, row in enumerate(heights):
        line = {name: looks[str(number)][name] for name in ("color", "linestyle")}
        look = {"label": str(number), **line} if few else {"color": _COLOR, "alpha": 0.3}
        ax.plot(x, row, linewidth=1.2, **look)
    if few and len(heights) > 1:
        ax.legend(frameon=False, fontsize=SMALL)
    ax.set(xlabel=across, ylabel=quantity)
    return _finished(ax)


def points(ax: "Axes | None", mean: Array, low: Array, high: Array, *, position: str, quantity: str) -> "Figure":
    """Draw a point with its interval for every position, and a line at 0.

    Example:
        >>> ends = [1.9, 0.9], [2.1, 1.1]
        >>> points(None, [2.0, 1.0], *ends, position="pair", quantity="eigenvalue").axes[0].get_xlabel()
        'pair'
    """
    ax = _axes(ax, COLUMN, 3.2)
    mean, low, high = (np.asarray(values, float) for values in (mean, low, high))
    ax.errorbar(range(len(mean)), mean, yerr=[mean - low, high - mean], fmt="o", markersize=4, capsize=2, color=_COLOR)
    ax.axhline(0, color="0.5", linewidth=0.8)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel=position, ylabel=quantity)
    return _finished(ax)


def mean_of_values(
    ax: "Axes | None", values: Array, mean: Array, low: Array, high: Array, *, unit: str, quantity: str = "value"
) -> "Figure":
    """Draw how the values of the units are distributed, with a line at their mean and a band for its interval.

    Example:
        >>> mean_of_values(None, [0.1, 0.2, 0.3], 0.2, 0.1, 0.3, unit="draws").axes[0].get_ylabel()
        'number of draws'
    """
    ax = _axes(ax, COLUMN, 3.2)
    ax.hist(np.ravel(values), bins="auto" if np.ptp(values) > 0 else 1, color="0.75")
    if np.isfinite([low, high]).all():
        ax.axvspan(float(low), float(high), color=_COLOR, alpha=0.25, linewidth=0)
    ax.axvline(float(mean), color=_COLOR)
    ax.set(xlabel=quantity, ylabel=f"number of {unit}")
    return _finished(ax)


def histogram(ax: "Axes | None", values: Array, *, quantity: str) -> "Figure":
    """Draw how values are distributed.

    Example:
        >>> histogram(None, [1.0, 2.0, 2.5], quantity="quotient").axes[0].get_xlabel()
        'quotient'
    """
    ax = _axes(ax, COLUMN, 3.2)
    ax.hist(np.ravel(values), bins="auto" if np.ptp(values) > 0 else 1, color=_COLOR)
    ax.set(xlabel=quantity, ylabel="number")
    return _finished(ax)


def map_beside_image(ax: "Axes | None", image: Array, values: Array, *, patch: int, quantity: str) -> "Figure":
    """Draw an image and, to its right, one value for each patch; NaN, where a patch was not perturbed, is gray.

    Args:
        ax: Where to draw; None for a new figure.
        image: ``[h w c]`` with c = 1 or 3; floats in [0, 1], or integers in [0, 255].
        values: ``[t]``, in the order of ``to_patches``.
        patch: Side of a patch in pixels.
        quantity: Label of the colors.

    Raises:
        ValueError: If the image has another shape or range, or there is not one value for each patch.

    Example:
        >>> figure = map_beside_image(None, np.zeros((4, 4, 1)), [0.1, 0.2, 0.0, 0.4], patch=2, quantity="rate")
        >>> [drawn.get_array().shape for drawn in figure.axes[0].images]
        [(4, 4), (2, 2)]
    """
    pixels, values = pixels_of(image), np.asarray(values, float)
    height, width, _ = pixels.shape
    rows, columns = height // patch, width // patch
    if height % patch or width % patch or values.shape != (rows * columns,):
        raise ValueError(
            f"image of {height} x {width} pixels has {height / patch:g} x {width / patch:g} patches of {patch} x "
            f"{patch}, and there are {values.size} tokens"
        )
    ax = _axes(ax, COLUMN, 0.45 * COLUMN * height / width)
    right = 1.06 * width  # where the map begins
    finite = values[np.isfinite(values)]
    draw_image(ax, pixels)
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    drawn = draw_patches(ax, values.reshape(rows, columns), patch, top, right)
    for left in (0, right):
        for at in range(0, width + 1, patch):
            ax.plot([left + at] * 2, [0, height], color="0.5", linewidth=0.4, alpha=0.6)
        for at in range(0, height + 1, patch):
            ax.plot([left, left + width], [at, at], color="0.5", linewidth=0.4, alpha=0.6)
    ax.set(xlim=(0, right + width), ylim=(height, 0))
    ax.set_axis_off()
    ax.figure.colorbar(drawn, ax=ax, label=quantity, fraction=0.05)
    return ax.figure


def colored_text(ax: "Axes | None", words: Sequence[str], values: Array, *, quantity: str) -> "Figure":
    """Draw a text whose tokens have the color of their value; NaN, where a token was not perturbed, has none.

    Args:
        ax: Where to draw; None for a new figure.
        words: The tokens ``[t]``.
        values: ``[t]``.
        quantity: Label of the colors.

    Example:
        >>> figure = colored_text(None, ["not", "good"], [0.5, 0.1], quantity="rate")
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['not', 'good']
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    values, across = np.asarray(values, float), 72
    finite = values[np.isfinite(values)]
    colors = ScalarMappable(Normalize(0, float(finite.max()) if finite.size and finite.max() > 0 else 1.0), heat())
    places, line, column = [], 0, 0
    for word in words:
        if column and column + len(word) > across:
            line, column = line + 1, 0
        places.append((column, line))
        column += max(len(word), 1) + 2
    ax = _axes(ax, 8.0, 1.2 + 0.28 * (line + 1))
    # A monospaced letter is 0.6 of its size wide; sizes are in points, 72 to the inch.
    wide = ax.get_position().width * ax.figure.get_figwidth()
    size = min(10.0, 0.85 * 72 * wide / (across + 3) / 0.6)
    for word, value, (x, y) in zip(words, values, places, strict=True):
        box = colors.to_rgba(value) if np.isfinite(value) else "none"
        ink = "white" if np.isfinite(value) and sum(box[:3]) < 1.2 else "black"
        # A dollar sign would begin a formula.
        shown = word.replace("$", r"\$")
        look = {"facecolor": box, "edgecolor": "none", "pad": 1.5}
        ax.text(x, y, shown, family="monospace", fontsize=size, va="center", bbox=look, color=ink)
    ax.set(xlim=(-1, across + 2), ylim=(line + 0.7, -0.7))
    ax.set_axis_off()
    ax.figure.colorbar(colors, ax=ax, label=quantity, orientation="horizontal", shrink=0.5, aspect=40)
    return ax.figure


def plane(ax: "Axes | None", x: Array, y: Array, heights: Array, *, quantity: str) -> "Figure":
    """Draw contours of ``heights [p q]`` over ``x [p]`` and ``y [q]``; a cross marks the origin.

    Raises:
        ValueError: If a side has a single point.

    Example:
        >>> plane(None, [0, 1], [0, 1], np.array([[1.0, 2.0], [3.0, 4.0]]), quantity="loss").axes[1].get_ylabel()
        'loss'
    """
    if min(np.shape(heights)) < 2:
        raise ValueError(f"contours need two points or more along each direction, got {np.shape(heights)}")
    ax = _axes(ax, 4.8, 4.0)
    drawn = ax.contourf(x, y, np.transpose(heights), 16, cmap="viridis")
    ax.plot(0, 0, marker="+", color="white", markersize=9)
    ax.set(xlabel="first direction", ylabel="second direction")
    ax.figure.colorbar(drawn, ax=ax, label=quantity)
    return ax.figure


def mosaic(ax: "Axes | None", images: Array) -> "Figure":
    """Draw images ``[n h w c]`` side by side, in rows.

    Raises:
        ValueError: If they have neither one nor three channels, or values outside of the range of an image.

    Example:
        >>> mosaic(None, np.zeros((3, 4, 4, 1))).axes[0].images[0].get_array().shape
        (9, 9)
    """
    pictures = [pixels_of(image) for image in np.asarray(images)]
    height, width, channels = pictures[0].shape
    across = int(np.ceil(np.sqrt(len(pictures))))
    down = -(-len(pictures) // across)
    sheet = np.ones((down * (height + 1) - 1, across * (width + 1) - 1, channels))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, across)
        top, left = row * (height + 1), column * (width + 1)
        sheet[top : top + height, left : left + width] = picture
    ax = _axes(ax, 4.4, 4.4 * sheet.shape[0] / sheet.shape[1])
    ax.imshow(sheet[..., 0] if channels == 1 else sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    return ax.figure


def _axes(ax: "Axes | None", width: float, height: float) -> "Axes":
    if ax is not None and not hasattr(ax, "set_xlabel"):
        raise ValueError(f"ax must be matplotlib's Axes or None, got a {type(ax).__name__}")
    return new_figure(width, height).subplots() if ax is None else ax


def _finished(ax: "Axes") -> "Figure":
    ax.spines[["top", "right"]].set_visible(False)
    return ax.figure
