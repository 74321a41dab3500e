"""Figures of images, with the sensitivity to each of their patches beside them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsens.plots.style import PAGE, capital, finish, new_figure, require_some
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["draw_image", "draw_patches", "heat", "patch_grid", "pixels_of", "token_map"]

_ACROSS = 4
"""The most maps beside an image; more continue in the next row, beside the image again."""


def token_map(
    image: Array,
    sensitivity: Mapping[str, Array],
    patch: int,
    *,
    dataset: str = "",
    sample: str = "",
    quantity: str = "token sensitivity",
    unit: str = "fraction of predictions changed",
    title: str | bool | None = True,
) -> "Figure":
    """Draw images and, beside each, the sensitivity of every model to its patches, all on one scale of colors.

    Args:
        image: ``[h w c]`` with c = 1 or 3, or several, ``[n h w c]``; floats in [0, 1], or integers in [0, 255].
        sensitivity: label -> ``[t]``, one value for each patch, in the order of ``to_patches``; ``[n t]`` for several
            images. NaN, for a patch that was not perturbed, is gray.
        patch: Side of a patch in pixels.
        dataset: Name of the data, for the title.
        sample: Which image and the number of draws, for the title.
        quantity: Name of the quantity.
        unit: Its unit.
        title: True for quantity, data and sample; a text to write in their place; False or None for no title.

    Raises:
        ValueError: If there are no models, an image of another shape or range, a patch that does not divide
            it, or values that are not one for each patch, negative or infinite.

    Example:
        >>> values = {"ViT": [0.1, 0.2, 0.0, 0.4]}
        >>> figure = token_map(np.zeros((4, 4, 1)), values, 2, dataset="digits", sample="1 image")
        >>> [ax.get_title() for ax in figure.axes[:2]]
        ['image', 'ViT']
    """
    require_some("sensitivity", sensitivity)
    several = np.ndim(image) == 4
    images = [pixels_of(one) for one in (np.asarray(image) if several else [image])]
    if not images:
        raise ValueError("image has shape [0 h w c]: give at least one")
    maps = {
        label: [_checked(label, value, pixels, patch) for pixels, value in zip(images, of_each, strict=True)]
        for label, of_each in _by_image(sensitivity, len(images), several).items()
    }
    tops = [value.max() for of_each in maps.values() for value in (np.nan_to_num(one) for one in of_each)]
    across = min(len(maps), _ACROSS)
    labels = [list(maps)[i : i + across] for i in range(0, len(maps), across)]
    rows = [(number, chosen) for number in range(len(images)) for chosen in labels]
    height, width, _ = images[0].shape
    panel = (PAGE - 0.9) / (across + 1) if across > 1 else 2.4
    figure = new_figure(panel * (across + 1) + 0.9, (panel * height / width + 0.25) * len(rows) + 0.7)
    axes = figure.subplots(len(rows), across + 1, squeeze=False)
    for (number, chosen), (shown, *beside) in zip(rows, axes, strict=True):
        draw_image(shown, images[number])
        shown.set_title("image")
        patch_grid(shown, height, width, patch)
        for ax, label in zip(beside, chosen, strict=False):
            drawn = draw_patches(ax, maps[label][number], patch, max(tops) or 1.0)
            ax.set_title(label)
            patch_grid(ax, height, width, patch)
        for unused in beside[len(chosen) :]:
            unused.set_axis_off()
    axes[-1, 0].set_xlabel(f"patches of {patch} x {patch} pixels")
    bar = figure.colorbar(drawn, ax=list(axes.flat), shrink=0.9, aspect=15 * len(rows))
    bar.set_label(f"{quantity}\n({unit})")
    return finish(figure, f"{capital(quantity)} of every patch", dataset, sample, title=title)


def _by_image(sensitivity: Mapping[str, Array], count: int, several: bool) -> dict[str, Any]:
    """Return the values of every model by image."""
    if not several:
        return {label: [value] for label, value in sensitivity.items()}
    for label, values in sensitivity.items():
        if len(np.shape(values)) != 2 or len(values) != count:
            raise ValueError(f"sensitivity[{label!r}] has shape {np.shape(values)}: {count} images have [{count} t]")
    return dict(sensitivity)


def _checked(label: str, values: Array, pixels: np.ndarray, patch: int) -> np.ndarray:
    """Return the values of the patches ``[rows columns]``, or raise ValueError."""
    height, width, _ = pixels.shape
    if patch < 1 or height % patch or width % patch:
        raise ValueError(
            f"patch = {patch} does not divide the image, {height} x {width} pixels: allowed are common divisors"
        )
    rows, columns = height // patch, width // patch
    values = np.asarray(values, float)
    if values.shape != (rows * columns,):
        raise ValueError(
            f"sensitivity[{label!r}] has shape {values.shape}: a {height} x {width} image has [{rows * columns}] "
            f"patches of {patch} x {patch}"
        )
    if np.isinf(values).any() or (values < 0).any():
        raise ValueError(f"sensitivity[{label!r}] holds values that are negative or infinite")
    return values.reshape(rows, columns)


def draw_image(ax: "Axes", pixels: np.ndarray, left: float = 0.0) -> None:
    """Draw an image ``[h w c]`` with values in [0, 1]; a pixel is a square of side 1, from ``left`` and 0 on.

    Example:
        >>> ax = new_figure(2, 2).subplots()
        >>> draw_image(ax, np.zeros((4, 4, 3)))
        >>> ax.images[0].get_array().shape
        (4, 4, 3)
    """
    height, width, channels = pixels.shape
    look = {"cmap": "gray", "vmin": 0, "vmax": 1, "extent": (left, left + width, height, 0)}
    ax.imshow(pixels[..., 0] if channels == 1 else pixels, interpolation="nearest", **look)


def draw_patches(ax: "Axes", values: np.ndarray, patch: int, top: float, left: float = 0.0) -> Any:
    """Draw a value for each patch ``[rows columns]``, one color for each, from 0 to ``top``; return what was drawn.

    Example:
        >>> draw_patches(new_figure(2, 2).subplots(), np.array([[0.1, 0.2]]), 4, 0.5).get_extent()
        [0.0, 8.0, 4, 0]
    """
    rows, columns = values.shape
    look = {"cmap": heat(), "vmin": 0, "vmax": top, "extent": (left, left + columns * patch, rows * patch, 0)}
    return ax.imshow(np.ma.masked_invalid(values), interpolation="nearest", **look)


def patch_grid(ax: "Axes", height: int, width: int, patch: int) -> None:
    """Draw thin lines between the patches of an image.

    Example:
        >>> ax = new_figure(2, 2).subplots()
        >>> patch_grid(ax, 4, 4, 2)
        >>> ax.get_xticks().tolist()
        [0, 2, 4]
    """
    ax.set_xticks(range(0, width + 1, patch), labels=[])
    ax.set_yticks(range(0, height + 1, patch), labels=[])
    ax.grid(color="0.5", linewidth=0.4, alpha=0.6)
    ax.tick_params(length=0)


def heat() -> "Colormap":
    """Return the colors of sensitivities, pale yellow to dark red; gray where nothing was measured.

    Example:
        >>> [round(float(part), 1) for part in heat()(np.ma.masked)]
        [0.8, 0.8, 0.8, 1.0]
    """
    from matplotlib import colormaps

    return colormaps["YlOrRd"].with_extremes(bad="0.8")


def pixels_of(image: Array) -> np.ndarray:
    """Return an image ``[h w c]`` as floats in [0, 1], or raise ValueError for another shape or range.

    Example:
        >>> float(pixels_of(np.full((2, 2, 1), 255, np.uint8)).max())
        1.0
    """
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
