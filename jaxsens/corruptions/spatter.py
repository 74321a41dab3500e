"""Spatter: drops of water, or of mud, on the lens."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.corruptions import filters
from jaxsens.typing import Array, Key

__all__ = ["edges", "spatter", "water"]

_WATER, _MUD = (175, 238, 238), (63, 42, 20)
_FAR = 20  # pixels: distances are cut there


def spatter(constants: tuple[Any, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of drops: blurred Gaussian noise above a threshold.

    Mud covers the image where the drops, blurred again, are above 0.8. For water see `water`.

    Example:
        >>> tables, apply = spatter(((0.65, 0.1, 0.7, 0.69, 0.6, 1),) * 5, (8, 6, 3))
        >>> tables["columns_mud"].shape
        (5, 6, 6)
    """
    means, deviations, blurs, thresholds, strengths, muds = zip(*constants, strict=True)
    numbers = {"mean": means, "deviation": deviations, "threshold": thresholds, "strength": strengths, "mud": muds}
    tables = {name: np.asarray(values, np.float32) for name, values in numbers.items()}
    for name, length in (("rows", shape[0]), ("columns", shape[1])):
        tables[name] = filters.stacked([filters.gaussian(sigma, length) for sigma in blurs])
        tables[f"{name}_mud"] = filters.stacked([filters.gaussian(sigma, length) for sigma in strengths])

    def mud(image: Array, layer: Array, table: dict[str, Array]) -> Array:
        solid = (layer > table["threshold"]).astype(image.dtype)
        cover = filters.separable(solid, table["rows_mud"], table["columns_mud"])
        cover = jnp.where(cover < 0.8, 0, cover)
        return image * (1 - cover) + cover * jnp.array(_MUD, image.dtype).reshape(1, 1, 3)

    def drops(image: Array, layer: Array, table: dict[str, Array]) -> Array:
        liquid = jnp.floor(255 * jnp.clip(jnp.where(layer < table["threshold"], 0, layer), 0, 1))[..., 0]
        color = jnp.array(_WATER, image.dtype).reshape(1, 1, 3)
        return image + table["strength"] * water(liquid)[..., None] * color

    def apply(key: Key, image: Array, table: dict[str, Array]) -> Array:
        noise = table["mean"] + table["deviation"] * jax.random.normal(key, (*shape[:2], 1))
        layer = filters.separable(noise, table["rows"], table["columns"])
        return jax.lax.cond(table["mud"] > 0, mud, drops, image, layer, table)

    return tables, apply


def water(liquid: Array) -> Array:
    """Return how strongly a layer of drops shows, from 0 to 1 ``[h w]``: dark edges on one side, bright on the other.

    The distance from the edges of the drops, cut at 20 pixels, with its histogram made flat, is filtered to a relief
    and multiplied by the layer. Distances are Euclidean, where ``cv2.distanceTransform`` approximates them to 2 %.

    Args:
        liquid: Bytes ``[h w]``, as floats.

    Example:
        >>> layer = np.zeros((8, 8), np.float32)
        >>> layer[2:6, 2:6] = 200
        >>> show = jax.jit(water)
        >>> float(show(layer).max()), float(show(0 * layer).max())
        (1.0, 0.0)
    """
    distance = jnp.minimum(_distance(edges(liquid)), _FAR)
    level = _equalized(jnp.floor(_mean_of_nine(distance) + 2**-12))
    mirror = _neighbors(level, "reflect")
    relief = 2 * (mirror(1, 1) - mirror(-1, -1)) + mirror(0, 1) + mirror(1, 0) - mirror(-1, 0) - mirror(0, -1) + level
    shown = liquid * jnp.round(_mean_of_nine(jnp.clip(relief, 0, 255)))
    return shown / jnp.maximum(shown.max(), 1)


def _neighbors(image: Array, mode: str) -> Callable[[int, int], Array]:
    """Return the function ``(down, right) -> image moved``, for neighbors one pixel away."""
    height, width = image.shape
    padded = jnp.pad(image, 1, mode=mode)
    return lambda down, right: padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]


def _around(at: Callable[[int, int], Array]) -> list[Array]:
    return [at(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]


def _mean_of_nine(image: Array) -> Array:
    return sum(_around(_neighbors(image, "reflect"))) / 9


def edges(image: Array, low: float = 50, high: float = 150) -> Array:
    """Return where Canny's detector sees an edge in bytes ``[h w]``, as ``cv2.Canny`` with its defaults does.

    Example:
        >>> jax.jit(edges)(np.float32([[0, 0, 0, 255, 255, 255]] * 4))[0].tolist()
        [False, False, True, False, False, False]
    """
    at = _neighbors(image, "edge")
    right = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1)
    down = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1)
    size = jnp.abs(right) + jnp.abs(down)
    of = _neighbors(size, "constant")
    # Only pixels stay that are the largest across the edge, in one of four directions.
    steep = 13573 / 2**15  # tan(22.5 degrees), as OpenCV rounds it
    across = (size > of(0, -1)) & (size >= of(0, 1))
    along = (size > of(-1, 0)) & (size >= of(1, 0))
    rising, falling = (size > of(-1, -1)) & (size > of(1, 1)), (size > of(-1, 1)) & (size > of(1, -1))
    slanted = jnp.where(right * down < 0, falling, rising)
    flat, upright = jnp.abs(down) < steep * jnp.abs(right), jnp.abs(down) > (steep + 2) * jnp.abs(right)
    thin = jnp.where(flat, across, jnp.where(upright, along, slanted)) & (size > low)

    def grow(state: tuple[Array, Array]) -> tuple[Array, Array]:
        strong, _ = state
        near = jnp.stack(_around(_neighbors(strong, "constant"))).any(0) & thin
        return near, (near != strong).any()

    return jax.lax.while_loop(lambda state: state[1], grow, (thin & (size > high), jnp.array(True)))[0]


def _distance(marked: Array) -> Array:
    """Return the Euclidean distance from the nearest marked pixel, exact up to 20 pixels ``[h w]``."""
    squares = jnp.where(marked, 0.0, 4.0 * _FAR**2)
    for axis, length in enumerate(marked.shape):  # the square of a distance is a sum over axes: one after the other
        reach = min(_FAR, length - 1)
        padded = jnp.pad(squares, [(reach, reach) if i == axis else (0, 0) for i in (0, 1)], constant_values=1e9)
        moved = [
            jax.lax.slice_in_dim(padded, reach + k, reach + k + length, axis=axis) + k**2
            for k in range(-reach, reach + 1)
        ]
        squares = jnp.stack(moved).min(0)
    return jnp.sqrt(squares)


def _equalized(levels: Array) -> Array:
    """Return integers from 0 to 20 with a flat histogram on 0 .. 255, as ``cv2.equalizeHist`` does."""
    below = (levels[None] <= jnp.arange(_FAR + 1, dtype=levels.dtype).reshape(-1, 1, 1)).sum((1, 2))
    first = jnp.where(below > 0, below, levels.size).min()
    new = jnp.round((below - first) * (255 / jnp.maximum(levels.size - first, 1)))
    return jnp.where(first == levels.size, levels, new[levels.astype(jnp.int32)])
