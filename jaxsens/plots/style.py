"""Shared parts of all figures: colors and markers, titles, legends, axes, and checks of the data."""

import io
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Interval",
    "capital",
    "clip",
    "dress",
    "finish",
    "finite_vectors",
    "legend_entries",
    "log_floor",
    "new_figure",
    "require_ordered",
    "require_some",
    "style",
]

# Petroff's ten colors (arXiv:2107.02270), distinguishable with any color vision, and a marker for each.
_LOOKS = {
    "vit": ("#3f90da", "o"),
    "mlp": ("#ffa90e", "s"),
    "cnn": ("#bd1f01", "^"),
    "convmixer": ("#832db6", "D"),
    "resnet": ("#a96b59", "v"),
    "densenet": ("#e76300", "P"),
    "convnext": ("#717581", "X"),
    "lstm": ("#b9ac70", "<"),
    "bert": ("#94a4a2", ">"),
    "gpt": ("#92dadd", "p"),
}

Interval = tuple[float, float, float]
"""A value with the ends of its interval: ``(mean, low, high)``."""


def style(labels: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return color and marker of every label: those of the model that its name starts with, else the next free ones.

    Raises:
        ValueError: If there are more than ten labels, which readers could not distinguish.

    Example:
        >>> style(["ViT, small", "mine"])["ViT, small"]
        {'color': '#3f90da', 'marker': 'o'}
    """
    if len(labels) > len(_LOOKS):
        raise ValueError(
            f"labels = {list(labels)}: {len(labels)} are more than the {len(_LOOKS)} pairs of color and marker"
        )
    free = list(_LOOKS)
    chosen: dict[str, str] = {}
    for label in labels:
        plain = "".join(letter for letter in label.lower() if letter.isalnum())
        if own := [model for model in free if plain.startswith(model)]:
            chosen[label] = own[0]
            free.remove(own[0])
    for label in labels:
        if label not in chosen:
            chosen[label] = free.pop(0)
    return {label: {"color": _LOOKS[chosen[label]][0], "marker": _LOOKS[chosen[label]][1]} for label in labels}


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches, or raise ImportError that names the package to install.

    A notebook shows it as the value of a cell, without ``%matplotlib inline``.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'jaxsens[plot]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    figure._repr_png_ = types.MethodType(_png, figure)
    return figure


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def finish(
    figure: "Figure", heading: str, dataset: str, sample: str, note: str, handles: list[Any], labels: list[str]
) -> "Figure":
    """Add title, legend and note to a figure, and return it."""
    figure.suptitle(f"{heading}\n{dataset}, {sample}", fontsize="medium")
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
    if handles or note:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=max(1, min(len(labels), int(figure.get_figwidth() / 1.9))),
            frameon=False,
            title=note,
            title_fontsize="small",
        )
    return figure


def legend_entries(axes: Sequence["Axes"]) -> tuple[list[Any], list[str]]:
    """Return handles and labels of the axes' legends, each label once."""
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def log_floor(values: Sequence[Array]) -> float | None:
    """Return where a logarithmic axis ends, below values that span more than a factor of ten; None for a linear one."""
    every = np.concatenate(list(values))
    positive = every[every > 0]
    if (every < 0).any() or not positive.size or positive.max() <= 10 * positive.min():
        return None
    return float(positive.min()) / 3


def clip(values: Array | Sequence[Array], floor: float | None) -> np.ndarray:
    """Return the values, none of them below the floor of a logarithmic axis."""
    return np.asarray(values) if floor is None else np.maximum(values, floor)


def dress(ax: "Axes", which: str, text: str, floor: float | None, lows: Sequence[Array]) -> None:
    """Label an axis; with a floor make it logarithmic, and note on the label if values were moved up to it."""
    if floor is not None:
        from matplotlib.ticker import LogLocator, NullLocator

        axis = ax.xaxis if which == "x" else ax.yaxis
        ax.set(**{f"{which}scale": "log"})
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")
        if min(low.min() for low in lows) < floor:
            ax.set(**{f"{which}lim": (floor, None)})
            text += f"\nlog scale; less than {floor:.2g} is drawn there"
    ax.set(**{f"{which}label": text})


def capital(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def require_some(name: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError if there is nothing to draw."""
    if not values:
        raise ValueError(f"{name} = {{}}: give at least one entry")


def finite_vectors(name: str, values: Sequence[Array], count: int) -> list[np.ndarray]:
    """Return ``count`` finite vectors of one length, or raise ValueError."""
    columns = [np.asarray(column, float) for column in values]
    shapes = [column.shape for column in columns]
    if len(columns) != count or len(set(shapes)) != 1 or columns[0].ndim != 1 or not columns[0].size:
        raise ValueError(f"{name} has arrays of shapes {shapes}: give {count} vectors of one length")
    if not all(np.isfinite(column).all() for column in columns):
        raise ValueError(f"{name} holds values that are not finite: leave those out")
    return columns


def require_ordered(name: str, mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Raise ValueError unless every mean lies in its interval."""
    bad = np.flatnonzero((low > mean) | (mean > high))
    if bad.size:
        i = bad[0]
        raise ValueError(f"{name}: at index {i} the mean {mean[i]} is outside its interval [{low[i]}, {high[i]}]")
