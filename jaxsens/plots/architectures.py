"""Figures of networks: sensitivity during training, against sharpness, over an image, and with published values."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsens.plots.style import (
    Interval,
    capital,
    clip,
    dress,
    finish,
    finite_vectors,
    legend_entries,
    log_floor,
    new_figure,
    require_ordered,
    require_some,
    style,
)
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["bars_with_intervals", "heat", "pixels_of", "scatter_with_intervals", "token_map", "training_curves"]


def training_curves(
    series: Mapping[str, tuple[Array, Array, Array, Array]],
    *,
    dataset: str,
    sample: str,
    quantity: str = "token sensitivity",
    unit: str = "fraction of predictions changed",
    accuracy: Mapping[str, tuple[Array, Array, Array, Array]] | None = None,
    level: float = 0.95,
) -> "Figure":
    """Draw a quantity during training, one line with a band for each model, optionally with test accuracy.

    The axis is logarithmic if the means span more than a factor of ten. Values below a third of the smallest positive
    mean are then drawn there, and the axis label says so.

    Args:
        series: label -> ``(epochs [n], mean [n], low [n], high [n])``.
        dataset: Name of the data, for the title.
        sample: Number of examples and seeds, for the title, such as ``500 test images, 3 seeds``.
        quantity: Name of the quantity.
        unit: Its unit.
        accuracy: Like ``series``, with test accuracies in [0, 1].
        level: Confidence level of the intervals.

    Raises:
        ValueError: If there is no series, arrays differ in length or are not finite, or a mean is outside its interval.

    Example:
        >>> series = {"ViT": ([1, 2], [0.2, 0.1], [0.1, 0.05], [0.3, 0.2])}
        >>> figure = training_curves(series, dataset="digits", sample="360 test images, 1 seed")
        >>> len(figure.axes)
        1
    """
    panels = [("series", series, f"{quantity}\n({unit})")]
    if accuracy is not None:
        panels.append(("accuracy", accuracy, "test accuracy (fraction)"))
    figure = new_figure(6.4 if accuracy is None else 10.4, 4.6)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    styles = style(list(dict.fromkeys([label for _, lines, _ in panels for label in lines])))
    for ax, (name, lines, text) in zip(axes, panels, strict=True):
        require_some(name, lines)
        checked = {label: finite_vectors(f"{name}[{label!r}]", columns, 4) for label, columns in lines.items()}
        floor = log_floor([columns[1] for columns in checked.values()]) if name == "series" else None
        for label, columns in checked.items():
            require_ordered(f"{name}[{label!r}]", *columns[1:])
            epochs, mean, low, high = columns[0], *clip(columns[1:], floor)
            ax.fill_between(epochs, low, high, color=styles[label]["color"], alpha=0.2, linewidth=0)
            every = max(1, math.ceil(len(epochs) / 12))
            ax.plot(epochs, mean, label=label, markevery=every, markersize=5, linewidth=1.6, **styles[label])
        ax.set_xlabel("training (epochs)")
        dress(ax, "y", text, floor, [columns[2] for columns in checked.values()])
    heading = f"{capital(quantity)} during training"
    return finish(figure, heading, dataset, sample, f"bands: {level:.0%} intervals", *legend_entries(axes))


def scatter_with_intervals(
    points: Mapping[str, tuple[float, float, float, float, float, float]],
    *,
    dataset: str,
    sample: str,
    x_quantity: str = "output sharpness",
    x_unit: str = "logits",
    y_quantity: str = "token sensitivity",
    y_unit: str = "fraction of predictions changed",
    seeds: Mapping[str, tuple[Array, Array]] | None = None,
    level: float = 0.95,
) -> "Figure":
    """Draw one quantity against another, one point with intervals in both directions for each model.

    An axis is logarithmic if its points span more than a factor of ten (see `training_curves`).

    Args:
        points: label -> ``(x, x_low, x_high, y, y_low, y_high)``.
        dataset: Name of the data, for the title.
        sample: Number of examples and seeds, for the title.
        x_quantity: Name of the quantity along x.
        x_unit: Its unit.
        y_quantity: Name of the quantity along y.
        y_unit: Its unit.
        seeds: label -> ``(x [n], y [n])``, a faint dot for each seed.
        level: Confidence level of the intervals.

    Raises:
        ValueError: If there are no points, not six finite numbers, a value outside its interval, or
            seeds of an unknown label or with two lengths.

    Example:
        >>> points = {"ViT": (1.0, 0.9, 1.1, 0.02, 0.01, 0.03), "CNN": (2.0, 1.8, 2.2, 0.05, 0.04, 0.06)}
        >>> figure = scatter_with_intervals(points, dataset="digits", sample="360 test images")
        >>> figure.axes[0].get_xlabel()
        'output sharpness (logits)'
    """
    require_some("points", points)
    checked = {
        label: finite_vectors(f"points[{label!r}]", np.reshape(point, (-1, 1)), 6) for label, point in points.items()
    }
    dots = {label: finite_vectors(f"seeds[{label!r}]", pair, 2) for label, pair in (seeds or {}).items()}
    if unknown := [label for label in dots if label not in points]:
        raise ValueError(f"seeds of {unknown}: allowed are the labels of points, {list(points)}")
    figure = new_figure(6.4, 5.2)
    ax = figure.subplots()
    floors = [log_floor([c[i] for c in checked.values()] + [d[j] for d in dots.values()]) for i, j in ((0, 0), (3, 1))]
    styles = style(list(points))
    for label, columns in checked.items():
        require_ordered(f"points[{label!r}], x", *columns[:3])
        require_ordered(f"points[{label!r}], y", *columns[3:])
        x, y = clip(columns[:3], floors[0]), clip(columns[3:], floors[1])
        look = {"capsize": 3, "linestyle": "none", "markersize": 8, "markeredgecolor": "white"} | styles[label]
        ax.errorbar(x[0], y[0], xerr=[x[0] - x[1], x[2] - x[0]], yerr=[y[0] - y[1], y[2] - y[0]], label=label, **look)
    for label, pair in dots.items():
        ax.scatter(*map(clip, pair, floors), s=18, alpha=0.4, linewidths=0, **styles[label])
    lows = [[values[i] for values in checked.values()] + [d[j] for d in dots.values()] for i, j in ((1, 0), (4, 1))]
    dress(ax, "x", f"{x_quantity} ({x_unit})", floors[0], lows[0])
    dress(ax, "y", f"{y_quantity}\n({y_unit})", floors[1], lows[1])
    note = f"whiskers: {level:.0%} intervals" + ("; faint dots: single seeds" if dots else "")
    heading = f"{capital(y_quantity)} against {x_quantity}"
    return finish(figure, heading, dataset, sample, note, *legend_entries([ax]))


def token_map(
    image: Array,
    sensitivity: Mapping[str, Array],
    patch: int,
    *,
    dataset: str,
    sample: str,
    quantity: str = "token sensitivity",
    unit: str = "fraction of predictions changed",
) -> "Figure":
    """Draw an image and, beside it, the sensitivity of each model to every patch, on one scale.

    Args:
        image: ``[h w c]`` with c = 1 or 3; floats in [0, 1], or integers in [0, 255].
        sensitivity: label -> ``[t]``, one value for each patch, in the order of ``to_patches``.
        patch: Side of a patch in pixels.
        dataset: Name of the data, for the title.
        sample: Which image and the number of draws, for the title.
        quantity: Name of the quantity.
        unit: Its unit.

    Raises:
        ValueError: If there are no models, an image of another shape or range, a patch that does not divide
            it, or values that are not one for each patch, negative or not finite.

    Example:
        >>> values = {"ViT": [0.1, 0.2, 0.0, 0.4]}
        >>> figure = token_map(np.zeros((4, 4, 1)), values, 2, dataset="digits", sample="1 image")
        >>> [ax.get_title() for ax in figure.axes[:2]]
        ['image', 'ViT']
    """
    require_some("sensitivity", sensitivity)
    pixels = pixels_of(image)
    h, w, _ = pixels.shape
    if patch < 1 or h % patch or w % patch:
        raise ValueError(f"patch = {patch} does not divide the image, {h} x {w} pixels: allowed are common divisors")
    rows, columns = h // patch, w // patch
    maps = {}
    for label, values in sensitivity.items():
        values = np.asarray(values, float)
        if values.shape != (rows * columns,):
            raise ValueError(
                f"sensitivity[{label!r}] has shape {values.shape}: a {h} x {w} image has [{rows * columns}] patches of "
                f"{patch} x {patch}"
            )
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(f"sensitivity[{label!r}] holds values that are negative or not finite")
        maps[label] = values.reshape(rows, columns)
    top = max(values.max() for values in maps.values()) or 1.0
    panel, across = 2.4, min(len(maps) + 1, 4)
    down = -(-(len(maps) + 1) // across)
    figure = new_figure(panel * across + 1.2, panel * max(h / w, 0.6) * down + 1.1)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for unused in axes[len(maps) + 1 :]:
        unused.set_axis_off()
    axes = axes[: len(maps) + 1]
    extent = (0, w, h, 0)
    gray = {"cmap": "gray", "vmin": 0, "vmax": 1, "extent": extent}
    axes[0].imshow(pixels[..., 0] if pixels.shape[2] == 1 else pixels, interpolation="nearest", **gray)
    axes[0].set_title("image")
    for ax, (label, values) in zip(axes[1:], maps.items(), strict=True):
        drawn = ax.imshow(values, cmap=heat(), vmin=0, vmax=top, extent=extent, interpolation="nearest")
        ax.set_title(label)
    for ax in axes:
        ax.set_xticks(range(0, w + 1, patch), labels=[])
        ax.set_yticks(range(0, h + 1, patch), labels=[])
        ax.grid(color="0.5", linewidth=0.5, alpha=0.6)
        ax.tick_params(length=0)
    axes[0].set_xlabel(f"patches of {patch} x {patch} pixels", fontsize="small")
    bar = figure.colorbar(drawn, ax=list(figure.axes), shrink=0.9, aspect=15 * down)
    bar.set_label(f"{quantity}\n({unit})")
    return finish(figure, f"{capital(quantity)} of every patch", dataset, sample, "", [], [])


def bars_with_intervals(
    measured: Mapping[str, Interval],
    *,
    dataset: str,
    sample: str,
    quantity: str = "token sensitivity",
    unit: str = "fraction of predictions changed",
    published: Mapping[str, Sequence[float]] | None = None,
    level: float = 0.95,
) -> "Figure":
    """Draw a bar with its interval for every model, and hollow markers for published values.

    Args:
        measured: label -> ``(mean, low, high)``.
        dataset: Name of the data, for the title.
        sample: Number of examples and seeds, for the title.
        quantity: Name of the quantity.
        unit: Its unit.
        published: label -> published values, one or several.
        level: Confidence level of the intervals.

    Raises:
        ValueError: If there are no bars, not three finite numbers, a mean outside its interval, or published
            values that are not finite or of an unknown label.

    Example:
        >>> figure = bars_with_intervals({"ViT": (0.02, 0.01, 0.03)}, dataset="digits", sample="360 test images")
        >>> len(figure.axes)
        1
    """
    require_some("measured", measured)
    for label, triple in measured.items():
        require_ordered(f"measured[{label!r}]", *finite_vectors(f"measured[{label!r}]", np.reshape(triple, (-1, 1)), 3))
    published = {label: np.atleast_1d(np.asarray(values, float)) for label, values in (published or {}).items()}
    for label, values in published.items():
        if label not in measured or not np.isfinite(values).all():
            raise ValueError(f"published[{label!r}] = {values}: allowed are finite values of {list(measured)}")
    figure = new_figure(max(4.8, 1.2 * len(measured) + 1.5), 4.6)
    ax = figure.subplots()
    styles = style(list(measured))
    for position, (label, (mean, low, high)) in enumerate(measured.items()):
        ax.bar(position, mean, width=0.6, color=styles[label]["color"], alpha=0.85)
        error = [[mean - low], [high - mean]]
        ax.errorbar(position, mean, yerr=error, color="0.15", capsize=5, linestyle="none", linewidth=1.4)
        ax.annotate(
            f"{mean:#.3g}",
            (position, max(high, 0.0)),
            (0, 4),
            textcoords="offset points",
            ha="center",
            fontsize="small",
        )
    hollow = {"marker": "D", "facecolors": "white", "edgecolors": "black", "s": 42, "zorder": 3}
    marks = [(i, value) for i, label in enumerate(measured) for value in published.get(label, ())]
    handles, labels = [], []
    if marks:
        # Beside the bar, so that they hide neither the interval nor the number.
        handles = [ax.scatter([i + 0.38 for i, _ in marks], [value for _, value in marks], **hollow)]
        labels = ["published"]
    ax.axhline(0, color="0.15", linewidth=0.8)
    ax.margins(y=0.1)
    ax.set_xticks(range(len(measured)), labels=list(measured))
    ax.set_ylabel(f"{quantity}\n({unit})")
    return finish(figure, capital(quantity), dataset, sample, f"whiskers: {level:.0%} intervals", handles, labels)


def heat() -> "Colormap":
    """Yellow to red, transparent at zero."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    colors = colormaps["YlOrRd"](np.linspace(0, 1, 256))
    colors[:, 3] = np.linspace(0, 0.95, 256) ** 0.6
    return ListedColormap(colors)


def pixels_of(image: Array) -> np.ndarray:
    """Return an image ``[h w c]`` as floats in [0, 1], or raise ValueError for another shape or range."""
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise ValueError(f"image has shape {pixels.shape}: allowed is [h w c] with c = 1 or 3")
    if np.issubdtype(pixels.dtype, np.integer):
        pixels = pixels / 255
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"image holds values from {pixels.min()} to {pixels.max()}: undo the normalization; allowed are floats in "
            "[0, 1] and integers in [0, 255]"
        )
    return pixels.astype(float)
