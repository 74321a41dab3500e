"""The figures: sensitivity during training, against sharpness, over an image, and beside the papers' values.

Every function takes plain numbers and returns a `matplotlib.figure.Figure` that belongs to no global state; save it
with ``Run.figure`` or ``figure.savefig``. A model keeps its colour and its marker in all figures.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Petroff's ten colours (arXiv:2107.02270), told apart with any colour vision; the marker tells the rest.
_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#717581",
    "#b9ac70",
    "#94a4a2",
    "#92dadd",
)
_MARKERS = "os^DvPX<>p"
_MODELS = ("vit", "mlp", "cnn", "convmixer", "resnet", "densenet", "convnext", "lstm", "bert", "gpt")

Interval = tuple[float, float, float]
"""A value with the ends of its interval: ``(mean, low, high)``."""


def style(labels: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return colour and marker of every label: those of the model whose name it begins with, else the next free ones.

    Raises:
        ValueError: more than ten labels, which no reader could tell apart.
    """
    if len(labels) > len(_COLOURS):
        raise ValueError(f"labels = {list(labels)}: {len(labels)} are more than {len(_COLOURS)} can be told apart")
    numbers: dict[str, int] = {}
    for label in labels:
        plain = "".join(letter for letter in label.lower() if letter.isalnum())
        found = next((i for i, model in enumerate(_MODELS) if plain.startswith(model)), None)
        if found is not None and found not in numbers.values():
            numbers[label] = found
    free = [i for i in range(len(_COLOURS)) if i not in numbers.values()]
    for label in labels:
        if label not in numbers:
            numbers[label] = free.pop(0)
    return {label: {"color": _COLOURS[numbers[label]], "marker": _MARKERS[numbers[label]]} for label in labels}


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
    """Draw a quantity during training, one line a model with its band; test accuracy beside it if that is given.

    The axis is logarithmic where the means span more than a factor of ten; what is below a third of the smallest
    positive mean is then drawn there, and the axis says so.

    Args:
        series: label -> ``(epochs [n], mean [n], low [n], high [n])``.
        dataset: name of the data, for the title.
        sample: how many examples and seeds, for the title, such as ``500 test images, 3 seeds``.
        quantity: what is drawn.
        unit: its unit.
        accuracy: as ``series``, with test accuracies in [0, 1].
        level: of the intervals.

    Raises:
        ValueError: no series, arrays of several lengths or that are not finite, or a mean outside its interval.
    """
    _require_some("series", series)
    panels = [("series", series, f"{quantity} ({unit})")]
    if accuracy is not None:
        panels.append(("accuracy", accuracy, "test accuracy (fraction)"))
    figure = _figure(6.4 if accuracy is None else 10.4, 4.6)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    styles = style(list(dict.fromkeys([label for _, lines, _ in panels for label in lines])))
    for ax, (name, lines, text) in zip(axes, panels, strict=True):
        checked = {label: _columns(f"{name}[{label!r}]", columns, 4) for label, columns in lines.items()}
        for label, columns in checked.items():
            _require_ordered(f"{name}[{label!r}]", *columns[1:])
        floor = None
        if name == "series":
            floor = _set_scale(ax, "y", [columns[1] for columns in checked.values()])
        for label, columns in checked.items():
            epochs, mean, low, high = columns[0], *(_clip(column, floor) for column in columns[1:])
            ax.fill_between(epochs, low, high, color=styles[label]["color"], alpha=0.2, linewidth=0)
            every = max(1, math.ceil(len(epochs) / 12))
            ax.plot(epochs, mean, label=label, markevery=every, markersize=5, linewidth=1.6, **styles[label])
        ax.set(xlabel="training (epochs)", ylabel=_with_note(text, floor))
    heading = f"{_capital(quantity)} during training"
    return _finish(figure, heading, dataset, sample, f"bands: {level:.0%} intervals", *_entries(axes))


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
    """Draw one quantity against another, a point a model with an interval in both directions.

    An axis is logarithmic where its points span more than a factor of ten (see `training_curves`).

    Args:
        points: label -> ``(x, x_low, x_high, y, y_low, y_high)``.
        dataset: name of the data, for the title.
        sample: how many examples and seeds, for the title.
        x_quantity: what is drawn along x.
        x_unit: its unit.
        y_quantity: what is drawn along y.
        y_unit: its unit.
        seeds: label -> ``(x [n], y [n])``, drawn as faint dots: one a seed.
        level: of the intervals.

    Raises:
        ValueError: no points, not six finite numbers, a value outside its interval, seeds of an unknown label or with
            two lengths.
    """
    _require_some("points", points)
    for label, point in points.items():
        if np.shape(point) != (6,):
            raise ValueError(
                f"points[{label!r}] has shape {np.shape(point)}: give (x, x_low, x_high, y, y_low, y_high)"
            )
        _require_ordered(f"points[{label!r}], x", *_columns(f"points[{label!r}]", np.reshape(point[:3], (3, 1)), 3))
        _require_ordered(f"points[{label!r}], y", *_columns(f"points[{label!r}]", np.reshape(point[3:], (3, 1)), 3))
    dots = {label: _columns(f"seeds[{label!r}]", pair, 2) for label, pair in (seeds or {}).items()}
    if unknown := [label for label in dots if label not in points]:
        raise ValueError(f"seeds of {unknown}: allowed are the labels of points, {list(points)}")
    figure = _figure(6.4, 5.2)
    ax = figure.subplots()
    x_floor = _set_scale(ax, "x", [[point[0]] for point in points.values()] + [pair[0] for pair in dots.values()])
    y_floor = _set_scale(ax, "y", [[point[3]] for point in points.values()] + [pair[1] for pair in dots.values()])
    styles = style(list(points))
    for label, point in points.items():
        x, x_low, x_high = _clip(np.asarray(point[:3], float), x_floor)
        y, y_low, y_high = _clip(np.asarray(point[3:], float), y_floor)
        if label in dots:
            ax.scatter(
                _clip(dots[label][0], x_floor),
                _clip(dots[label][1], y_floor),
                s=18,
                alpha=0.4,
                linewidths=0,
                **styles[label],
            )
        ax.errorbar(
            x,
            y,
            xerr=[[x - x_low], [x_high - x]],
            yerr=[[y - y_low], [y_high - y]],
            label=label,
            capsize=3,
            linestyle="none",
            markersize=8,
            markeredgecolor="white",
            **styles[label],
        )
    ax.set(
        xlabel=_with_note(f"{x_quantity} ({x_unit})", x_floor), ylabel=_with_note(f"{y_quantity} ({y_unit})", y_floor)
    )
    note = f"bars: {level:.0%} intervals" + ("; faint dots: single seeds" if dots else "")
    heading = f"{_capital(y_quantity)} against {x_quantity}"
    return _finish(figure, heading, dataset, sample, note, *_entries([ax]))


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
    """Draw an image, and over a pale copy of it the sensitivity to every patch, one panel a model, on one scale.

    Args:
        image: ``[h w c]`` with c = 1 or 3; floats in [0, 1], or integers in [0, 255].
        sensitivity: label -> ``[t]``, one value a patch, row by row (as `jaxsens.data.images.to_patches` orders them).
        patch: side of a patch in pixels.
        dataset: name of the data, for the title.
        sample: which image and how many draws, for the title.
        quantity: what is drawn.
        unit: its unit.

    Raises:
        ValueError: no models, an image of another shape or range, a patch that does not divide it, values of another
            number than patches, negative or not finite.
    """
    _require_some("sensitivity", sensitivity)
    pixels = _pixels(image)
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
    panel = 2.4
    figure = _figure(panel * (len(maps) + 1) + 1.0, panel * max(h / w, 0.6) + 1.1)
    axes = figure.subplots(1, len(maps) + 1, squeeze=False)[0]
    extent = (0, w, h, 0)
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1, "extent": extent}
    axes[0].imshow(pixels[..., 0] if pixels.shape[2] == 1 else pixels, interpolation="nearest", **grey)
    axes[0].set_title("image")
    for ax, (label, values) in zip(axes[1:], maps.items(), strict=True):
        ax.imshow(0.4 + 0.6 * pixels.mean(axis=2), interpolation="nearest", **grey)  # pale: the colours shall be read
        drawn = ax.imshow(values, cmap="viridis", vmin=0, vmax=top, alpha=0.75, extent=extent, interpolation="nearest")
        ax.set_title(label)
    for ax in axes:
        ax.set_xticks(range(0, w + 1, patch), labels=[])
        ax.set_yticks(range(0, h + 1, patch), labels=[])
        ax.grid(color="white", linewidth=0.5, alpha=0.5)
        ax.tick_params(length=0)
    axes[0].set_xlabel(f"patches of {patch} x {patch} pixels", fontsize="small")
    bar = figure.colorbar(drawn, ax=list(axes[1:]), shrink=0.9, aspect=15)
    bar.set_label(f"{quantity}\n({unit})")
    return _finish(figure, f"{_capital(quantity)} of every patch", dataset, sample, "", [], [])


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
    """Draw a bar with its interval for every model, and hollow markers where a paper published its values.

    Args:
        measured: label -> ``(mean, low, high)``.
        dataset: name of the data, for the title.
        sample: how many examples and seeds, for the title.
        quantity: what is drawn.
        unit: its unit.
        published: label -> published values, one or several.
        level: of the intervals.

    Raises:
        ValueError: no bars, not three finite numbers, a mean outside its interval, or published values that are not
            finite or of an unknown label.
    """
    _require_some("measured", measured)
    for label, triple in measured.items():
        if np.shape(triple) != (3,):
            raise ValueError(f"measured[{label!r}] has shape {np.shape(triple)}: give (mean, low, high)")
        _require_ordered(f"measured[{label!r}]", *_columns(f"measured[{label!r}]", np.reshape(triple, (3, 1)), 3))
    published = {label: np.atleast_1d(np.asarray(values, float)) for label, values in (published or {}).items()}
    for label, values in published.items():
        if label not in measured or not np.isfinite(values).all():
            raise ValueError(f"published[{label!r}] = {values}: allowed are finite values of {list(measured)}")
    figure = _figure(max(4.8, 1.2 * len(measured) + 1.5), 4.6)
    ax = figure.subplots()
    styles = style(list(measured))
    for position, (label, (mean, low, high)) in enumerate(measured.items()):
        ax.bar(position, mean, width=0.6, color=styles[label]["color"], alpha=0.85)
        error = [[mean - low], [high - mean]]
        ax.errorbar(position, mean, yerr=error, color="0.15", capsize=5, linestyle="none", linewidth=1.4)
        ax.annotate(
            f"{mean:.3g}", (position, max(high, 0.0)), (0, 4), textcoords="offset points", ha="center", fontsize="small"
        )
    hollow = {"marker": "D", "facecolors": "white", "edgecolors": "black", "s": 42, "zorder": 3}
    marks = [(i, value) for i, label in enumerate(measured) for value in published.get(label, ())]
    handles, labels = [], []
    if marks:
        # Beside the middle, so that they hide neither the interval nor the number.
        handles = [ax.scatter([i + 0.2 for i, _ in marks], [value for _, value in marks], **hollow)]
        labels = ["published"]
    ax.axhline(0, color="0.15", linewidth=0.8)
    ax.margins(y=0.1)
    ax.set_xticks(range(len(measured)), labels=list(measured))
    ax.set_ylabel(f"{quantity} ({unit})")
    return _finish(figure, _capital(quantity), dataset, sample, f"bars: {level:.0%} intervals", handles, labels)


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'jaxsens[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _finish(
    figure: "Figure", heading: str, dataset: str, sample: str, note: str, handles: list[Any], labels: list[str]
) -> "Figure":
    """Say what it shows, of what, and over how many; and what the marks mean."""
    figure.suptitle(f"{heading}\n{dataset}, {sample}", fontsize="medium")
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
    if handles or note:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(5, max(1, len(labels))),
            frameon=False,
            title=note,
            title_fontsize="small",
        )
    return figure


def _entries(axes: Sequence["Axes"]) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def _set_scale(ax: "Axes", which: str, values: Sequence[Array]) -> float | None:
    """Make an axis logarithmic if the values span a factor of ten; the floor is then where lower ones are drawn."""
    every = np.concatenate([np.asarray(value, float).ravel() for value in values])
    positive = every[every > 0]
    if (every < 0).any() or not positive.size or positive.max() <= 10 * positive.min():
        return None
    floor = float(positive.min()) / 3
    getattr(ax, f"set_{which}scale")("log")
    getattr(ax, f"set_{which}lim")(**{"bottom" if which == "y" else "left": floor})
    return floor


def _clip(values: np.ndarray, floor: float | None) -> np.ndarray:
    return values if floor is None else np.maximum(values, floor)


def _with_note(text: str, floor: float | None) -> str:
    return text if floor is None else f"{text}\nlog scale; less than {floor:.1g} is drawn there"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _require_some(name: str, values: Mapping[str, Any]) -> None:
    if not values:
        raise ValueError(f"{name} = {{}}: give one entry at least")


def _columns(name: str, values: Sequence[Array], count: int) -> list[np.ndarray]:
    """``count`` vectors of one length, checked."""
    columns = [np.asarray(column, float) for column in values]
    shapes = [column.shape for column in columns]
    if len(columns) != count or len(set(shapes)) != 1 or columns[0].ndim != 1 or not columns[0].size:
        raise ValueError(f"{name} has arrays of shapes {shapes}: give {count} vectors of one length")
    if not all(np.isfinite(column).all() for column in columns):
        raise ValueError(f"{name} holds values that are not finite: leave those out")
    return columns


def _require_ordered(name: str, mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    bad = np.flatnonzero((low > mean) | (mean > high))
    if bad.size:
        i = bad[0]
        raise ValueError(f"{name}: at index {i} the mean {mean[i]} is outside its interval [{low[i]}, {high[i]}]")


def _pixels(image: Array) -> np.ndarray:
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise ValueError(f"image has shape {pixels.shape}: allowed is [h w c] with c = 1 or 3")
    if np.issubdtype(pixels.dtype, np.integer):
        pixels = pixels / 255
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"image holds values from {pixels.min()} to {pixels.max()}: undo the normalisation; allowed are floats in "
            "[0, 1] and integers in [0, 255]"
        )
    return pixels.astype(float)
