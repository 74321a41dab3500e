"""Shared parts of all figures: sizes, titles, legends, axes, and checks of the data."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "COLUMN",
    "MEDIUM",
    "PAGE",
    "SMALL",
    "Interval",
    "capital",
    "clip",
    "dress",
    "finish",
    "finite_vectors",
    "grid",
    "legend_entries",
    "log_floor",
    "log_ticks",
    "new_figure",
    "require_ordered",
    "require_some",
]

PAGE, COLUMN = 7.2, 4.8
"""Widths of figures in inches: of several panels side by side, and of one."""

MEDIUM, SMALL = 9, 8
"""Sizes of letters in points: of a figure's title, and of all else."""

Interval = tuple[float, float, float]
"""A value with the ends of its interval: ``(mean, low, high)``."""


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches, or raise ImportError that names the package to install.

    A notebook shows it as the value of a cell, without ``%matplotlib inline``.

    Example:
        >>> float(new_figure(3, 2).get_figwidth())
        3.0
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'jaxsens[plot]'") from error
    from jaxsens.plots.shown import ShownFigure

    return ShownFigure(figsize=(width, height), layout="constrained")


def finish(
    figure: "Figure",
    heading: str,
    dataset: str = "",
    sample: str = "",
    note: str = "",
    handles: Sequence[Any] = (),
    labels: Sequence[str] = (),
    title: str | bool | None = True,
) -> "Figure":
    """Add title, legend and note to a figure, set the sizes of its letters, and return it.

    Lines that are longer than the figure or the panel are broken.

    Args:
        figure: The figure.
        heading: First line of the title.
        dataset: Name of the data, for the second line.
        sample: Number of models and examples, for the second line.
        note: Title of the legend.
        handles: Handles of the legend.
        labels: Labels of the legend.
        title: True for the heading, data and sample; a text to write in their place; False or None for no title.

    Example:
        >>> finish(new_figure(3, 2), "Heading", "digits", "3 models").get_suptitle().splitlines()
        ['Heading', 'digits, 3 models']
        >>> finish(new_figure(3, 2), "Heading", title=None).get_suptitle()
        ''
    """
    width = figure.get_figwidth()
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
        _fit(ax, figure)
    if title is True:
        title = "\n".join(line for line in (heading, ", ".join(filter(None, (dataset, sample)))) if line)
    if title:
        figure.suptitle(_broken(title, width, MEDIUM), fontsize=MEDIUM)
    if labels or note:
        # A handle and the gap between columns take about as much room as eight letters.
        columns = int(width / _inches(max((len(label) for label in labels), default=0) + 8, SMALL))
        legend = figure.legend(
            handles, labels, loc="outside lower center", ncols=max(1, min(len(labels), columns)), frameon=False,
            title=_broken(note, width, SMALL), title_fontsize=SMALL, fontsize=SMALL, columnspacing=1.5,
        )  # fmt: skip
        legend.get_title().set_multialignment("center")
    return figure


def _fit(ax: "Axes", figure: "Figure") -> None:
    """Set the sizes of a panel's letters, and break its lines where it ends."""
    for which, axis in (("x", ax.xaxis), ("y", ax.yaxis)):  # labels that are smaller, since they are many, stay so
        ax.tick_params(which, labelsize=min([SMALL, *(label.get_fontsize() for label in axis.get_ticklabels())]))
    width, height = figure.get_figwidth(), figure.get_figheight()
    if (spec := ax.get_subplotspec()) is not None:
        down, across = spec.get_gridspec().get_geometry()
        width, height = width / across, height / down
    rows = [tick.get_text() for tick in ax.get_yticklabels()] if ax.yaxis.get_tick_params()["labelleft"] else []
    longest = max((len(row) for row in rows if not row.startswith("$")), default=0)  # numbers may be formulas
    inside = width - max(0.2 + _inches(longest, SMALL), 0.65 if ax.get_ylabel() else 0.2)
    for label, room in ((ax.xaxis.label, 1.05 * width), (ax.yaxis.label, max(0.85 * height, 1.2))):
        label.set(fontsize=SMALL, text=_broken(label.get_text(), room, SMALL))
    for place in ("left", "center"):
        ax.set_title(_broken(ax.get_title(place), inside, SMALL), loc=place, fontsize=SMALL)
    if (legend := ax.get_legend()) is not None:
        for text in legend.get_texts():
            text.set_fontsize(SMALL - 1)


def _broken(text: str, inches: float, size: float) -> str:
    """Return a text with lines no longer than some inches."""
    letters = max(8, int(inches / _inches(1, size)))
    kept = text.replace(" = ", "\xa0=\xa0")  # an equation is not broken
    lines = (textwrap.fill(line, letters, break_long_words=False, break_on_hyphens=False) for line in kept.split("\n"))
    return "\n".join(lines).replace("\xa0=\xa0", " = ")


def _inches(letters: int, size: float) -> float:
    """Return the width of letters of a size in points; a letter of DejaVu Sans is about half as wide as its size."""
    return letters * 0.53 * size / 72


def legend_entries(axes: Sequence["Axes"]) -> tuple[list[Any], list[str]]:
    """Return handles and labels of the axes' legends, each label once.

    Example:
        >>> ax = new_figure(3, 2).subplots()
        >>> _ = ax.plot([1, 2], label="ViT"), ax.plot([2, 1], label="ViT")
        >>> legend_entries([ax])[1]
        ['ViT']
    """
    handles: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    return list(handles.values()), list(handles)


def grid(count: int, *, across: int, height: float, **shared: Any) -> tuple["Figure", list["Axes"]]:
    """Return a figure as wide as a page with some panels, so many in a row, and the panels.

    Args:
        count: Number of panels.
        across: The most panels in a row.
        height: Height of a panel in inches, with its labels.
        shared: Options of ``Figure.subplots``, such as ``sharey``.

    Example:
        >>> figure, axes = grid(3, across=2, height=2.0)
        >>> len(axes), float(figure.get_figwidth())
        (3, 7.2)
    """
    across = min(across, count)
    down = -(-count // across)
    figure = new_figure(COLUMN if across == 1 else PAGE, height * down + 0.9)
    axes = list(figure.subplots(down, across, squeeze=False, **shared).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def log_floor(values: Sequence[Array]) -> float | None:
    """Return where a logarithmic axis ends, below values that span more than a factor of ten; None for a linear one.

    Example:
        >>> log_floor([np.array([3.0, 60.0])]), log_floor([np.array([3.0, 6.0])])
        (1.0, None)
    """
    every = np.concatenate(list(values))
    positive = every[every > 0]
    if (every < 0).any() or not positive.size or positive.max() <= 10 * positive.min():
        return None
    return float(positive.min()) / 3


def clip(values: Array | Sequence[Array], floor: float | None) -> np.ndarray:
    """Return the values, none of them below the floor of a logarithmic axis.

    Example:
        >>> clip([0.0, 2.0], 1.0).tolist()
        [1.0, 2.0]
    """
    return np.asarray(values) if floor is None else np.maximum(values, floor)


def dress(ax: "Axes", which: str, text: str, floor: float | None, lows: Sequence[Array]) -> None:
    """Label an axis; with a floor make it logarithmic, and note on the label if values were moved up to it.

    Example:
        >>> ax = new_figure(3, 2).subplots()
        >>> dress(ax, "y", "loss (nats)", 0.5, [np.array([0.0])])
        >>> ax.get_ylabel().splitlines()
        ['loss (nats)', 'log scale; less than 0.5 is drawn there']
    """
    if floor is not None:
        ax.set(**{f"{which}scale": "log"})
        axis = ax.xaxis if which == "x" else ax.yaxis
        if min(low.min() for low in lows) < floor:
            ax.set(**{f"{which}lim": (floor, None)})
            text += f"\nlog scale; less than {floor:.2g} is drawn there"
        log_ticks(axis, *axis.get_view_interval())
    ax.set(**{f"{which}label": text})


def log_ticks(axis: "Axis", low: float, high: float) -> None:
    """Put as many ticks on a logarithmic axis as can be read, written as plain numbers.

    Example:
        >>> ax = new_figure(3, 2).subplots()
        >>> _ = ax.set(xscale="log", xlim=(1, 40))
        >>> log_ticks(ax.xaxis, 1, 40)
        >>> [float(tick) for tick in ax.get_xticks() if 1 <= tick <= 40]
        [1.0, 3.0, 10.0, 30.0]
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    ratio = high / low
    many = 500 if low >= 1e-3 else 100  # numbers with many zeros need more room
    subs = (1, 2, 5) if ratio < 25 else (1, 3) if ratio < many else (1,)
    axis.set_major_locator(MaxNLocator(4) if ratio < 5 else LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def capital(text: str) -> str:
    """Return the text with its first letter in upper case.

    Example:
        >>> capital("token sensitivity")
        'Token sensitivity'
    """
    return text[:1].upper() + text[1:]


def require_some(name: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError if there is nothing to draw.

    Example:
        >>> require_some("series", {"ViT": 1})
    """
    if not values:
        raise ValueError(f"{name} = {{}}: give at least one entry")


def finite_vectors(name: str, values: Sequence[Array], count: int) -> list[np.ndarray]:
    """Return ``count`` finite vectors of one length, or raise ValueError.

    Example:
        >>> finite_vectors("series", [[1, 2], [3, 4]], 2)[1].tolist()
        [3.0, 4.0]
    """
    columns = [np.asarray(column, float) for column in values]
    shapes = [column.shape for column in columns]
    if len(columns) != count or len(set(shapes)) != 1 or columns[0].ndim != 1 or not columns[0].size:
        raise ValueError(f"{name} has arrays of shapes {shapes}: give {count} vectors of one length")
    if not all(np.isfinite(column).all() for column in columns):
        raise ValueError(f"{name} holds values that are not finite: leave those out")
    return columns


def require_ordered(name: str, mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Raise ValueError unless every mean lies in its interval.

    Example:
        >>> require_ordered("series", np.array([1.0]), np.array([0.5]), np.array([2.0]))
    """
    bad = np.flatnonzero((low > mean) | (mean > high))
    if bad.size:
        i = bad[0]
        raise ValueError(f"{name}: at index {i} the mean {mean[i]} is outside its interval [{low[i]}, {high[i]}]")
