"""Linear filters of images as matrices, and sampling between pixels: what several corruptions are made of.

A filter that treats rows and columns alike is two matrices, ``rows @ image @ columns^T``, with the boundary in them.
Matrix products are what devices do best. The matrices are made on the host, in float64, one for each severity, so that
the severity is an index into an array and one compiled program serves all.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.typing import Array

__all__ = [
    "bilinear",
    "box_resize",
    "correlation",
    "gaussian",
    "gaussian_weights",
    "mirrored",
    "motion",
    "reflected",
    "separable",
    "stacked",
    "zoom",
]


def separable(image: Array, rows: Array, columns: Array) -> Array:
    """Return ``rows @ image @ columns^T`` for every channel: ``[h w c]``, ``[p h]`` and ``[q w]`` to ``[p q c]``.

    Example:
        >>> separable(np.ones((2, 3, 1)), np.ones((1, 2)), np.eye(3)).shape
        (1, 3, 1)
    """
    return jnp.einsum("phc,qp->qhc", jnp.einsum("hwc,qw->hqc", image, columns), rows)


def stacked(matrices: list[np.ndarray]) -> np.ndarray:
    """Return matrices of all severities as one float32 array.

    Example:
        >>> stacked([np.eye(2), np.eye(2)]).shape
        (2, 2, 2)
    """
    return np.stack(matrices).astype(np.float32)


def reflected(index: np.ndarray | Array, length: int) -> np.ndarray | Array:
    """Return indices inside ``0 .. length - 1`` by reflection at the edge of the border pixel: ``b a | a b c | c b``.

    ``reflect`` of ``scipy.ndimage``, ``BORDER_REFLECT`` of OpenCV.

    Example:
        >>> reflected(np.arange(-2, 5), 3).tolist()
        [1, 0, 0, 1, 2, 2, 1]
    """
    place = index % (2 * length)
    return (jnp if isinstance(index, jax.Array) else np).minimum(place, 2 * length - 1 - place)


def mirrored(index: np.ndarray | Array, length: int) -> np.ndarray | Array:
    """Return indices inside ``0 .. length - 1`` by reflection at the center of the border pixel: ``c b | a b c | b a``.

    ``mirror`` of ``scipy.ndimage``, ``BORDER_REFLECT_101`` of OpenCV.

    Example:
        >>> mirrored(np.arange(-2, 5), 3).tolist()
        [2, 1, 0, 1, 2, 1, 0]
    """
    period = max(2 * length - 2, 1)
    place = index % period
    return (jnp if isinstance(index, jax.Array) else np).minimum(place, period - place) if length > 1 else place * 0


def correlation(weights: np.ndarray, length: int, boundary: str) -> np.ndarray:
    """Return the matrix of a centered correlation along an axis, ``[length length]``.

    Args:
        weights: ``[2 r + 1]``.
        length: The number of pixels.
        boundary: ``"nearest"`` repeats the border pixel, ``"reflect"`` and ``"mirror"`` are `reflected` and `mirrored`.

    Example:
        >>> correlation(np.array([0.0, 0.0, 1.0]), 3, "nearest").tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    """
    radius = len(weights) // 2
    at = np.arange(length)[:, None] + np.arange(-radius, radius + 1)
    inside = {"nearest": lambda i, n: np.clip(i, 0, n - 1), "reflect": reflected, "mirror": mirrored}[boundary]
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], inside(at, length)), weights[None])
    return matrix


def gaussian_weights(sigma: float, truncate: float) -> np.ndarray:
    """Return the weights of ``scipy.ndimage.gaussian_filter1d``: radius ``int(truncate sigma + 1/2)``, sum 1.

    Example:
        >>> gaussian_weights(0.0, 4.0).tolist(), len(gaussian_weights(1.0, 4.0))
        ([1.0], 9)
    """
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    weights = np.exp(-0.5 / sigma**2 * np.arange(-radius, radius + 1) ** 2)
    return weights / weights.sum()


def gaussian(sigma: float, length: int, boundary: str = "nearest", truncate: float = 4.0) -> np.ndarray:
    """Return the matrix of a Gaussian blur, as ``skimage.filters.gaussian`` has it, ``[length length]``.

    Example:
        >>> gaussian(1.0, 5).sum(1)
        array([1., 1., 1., 1., 1.])
    """
    return correlation(gaussian_weights(sigma, truncate), length, boundary)


def zoom(factor: float, length: int) -> np.ndarray:
    """Return the matrix that enlarges the central part of an axis by a factor of at least 1, ``[length length]``.

    The central ``ceil(length / factor)`` pixels, interpolated linearly with both ends kept, and cut to the center, as
    the published scripts do with ``scipy.ndimage.zoom``.

    Example:
        >>> zoom(1.0, 2).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    kept = int(np.ceil(length / factor))
    size = round(kept * factor)
    place = (np.arange(length) + (size - length) // 2) * ((kept - 1) / max(size - 1, 1))
    low = np.minimum(np.floor(place).astype(int), max(kept - 2, 0))
    share, first = place - low, (length - kept) // 2
    matrix = np.zeros((length, length))
    matrix[np.arange(length), first + low] += 1 - share
    matrix[np.arange(length), first + np.minimum(low + 1, kept - 1)] += share
    return matrix


def box_resize(size: int, new: int) -> np.ndarray:
    """Return the matrix ``[new size]`` of Pillow's resize with the filter ``BOX``: means of the pixels in each box.

    Example:
        >>> box_resize(4, 2).tolist()
        [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    scale = size / new
    width = max(scale, 1.0)
    center = (np.arange(new)[:, None] + 0.5) * scale
    offset = (np.arange(size) - center + 0.5) / width
    inside = ((offset > -0.5) & (offset <= 0.5)).astype(np.float64)
    return inside / inside.sum(1, keepdims=True)


def motion(image: Array, weights: Array, angle: Array, reach: tuple[int, int, int, int]) -> Array:
    """Return an image smeared along a line: ``sum_i weights[i] image[y + dy_i, x + dx_i]``, ``[h w c]``.

    ``dx_i = ceil(i cos(angle) - 1/2)`` and ``dy_i = ceil(i sin(angle) - 1/2)``; the border pixel is repeated. These are
    the offsets of ImageMagick's motion blur.

    Args:
        image: ``[h w c]``.
        weights: ``[n]``.
        angle: In radians.
        reach: The largest offsets up, down, to the left and to the right that the angle can give.

    Example:
        >>> line = jnp.array([0.0, 0.0, 1.0]).reshape(1, 3, 1)
        >>> motion(line, jnp.array([0.5, 0.5]), jnp.array(0.0), (0, 0, 0, 1))[0, :, 0].tolist()
        [0.0, 0.5, 1.0]
    """
    up, below, before, after = reach
    steps = jnp.arange(len(weights), dtype=jnp.float32)
    down = jnp.ceil(steps * jnp.sin(angle) - 0.5).astype(jnp.int32)
    right = jnp.ceil(steps * jnp.cos(angle) - 0.5).astype(jnp.int32)

    @jax.custom_batching.sequential_vmap  # of one image the offsets are scalars, and all terms one loop over pixels
    def one(image: Array, weights: Array, down: Array, right: Array) -> Array:
        height, width, channels = image.shape
        padded = jnp.pad(image, ((up, below), (before, after), (0, 0)), mode="edge")
        padded = padded.reshape(len(padded), -1)
        total = jnp.zeros((height, width * channels), image.dtype)
        for i in range(len(weights)):
            start = (up + down[i], (before + right[i]) * channels)
            total += weights[i] * jax.lax.dynamic_slice(padded, start, total.shape)
        return total.reshape(image.shape)

    return one(image, weights, down, right)


def bilinear(image: Array, rows: Array, columns: Array, inside: Callable[[Array, int], Array]) -> Array:
    """Return an image at places between its pixels, ``[h w c]`` at places ``[p q]`` to ``[p q c]``.

    Args:
        image: ``[h w c]``.
        rows: Place of each result, in pixels from the center of the first row, ``[p q]``.
        columns: The same for columns.
        inside: `reflected` or `mirrored`, for places outside the image.

    Example:
        >>> line = jnp.array([[[0.0], [4.0]]])
        >>> bilinear(line, jnp.zeros((1, 2)), jnp.array([[0.25, 1.5]]), mirrored)[..., 0].tolist()
        [[1.0, 2.0]]
    """

    @jax.custom_batching.sequential_vmap  # the index of a pixel is then a number in a loop, not a batch of indices
    def one(image: Array, rows: Array, columns: Array) -> Array:
        height, width, channels = image.shape
        flat = image.reshape(-1, channels)
        above, left = jnp.floor(rows), jnp.floor(columns)
        down, right = (rows - above)[..., None], (columns - left)[..., None]
        above, left = above.astype(jnp.int32), left.astype(jnp.int32)
        above, below = (inside(above + i, height) * width for i in (0, 1))
        left, beside = (inside(left + i, width) for i in (0, 1))
        top = flat[above + left] * (1 - right) + flat[above + beside] * right
        bottom = flat[below + left] * (1 - right) + flat[below + beside] * right
        return top * (1 - down) + bottom * down

    return one(image, rows, columns)
