"""Digital corruptions: contrast, saturation, elastic transformation, pixelation and JPEG compression."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.corruptions import filters
from jaxsens.typing import Array, Key

__all__ = ["contrast", "elastic_transform", "jpeg_compression", "pixelate", "quantization", "saturate"]

# The example tables of ITU-T T.81, Annex K, which libjpeg scales by the quality.
_LUMINANCE_STEPS = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_COLOR_STEPS = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32,
)  # fmt: skip


def contrast(constants: tuple[float, ...], _shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of ``m + c (x - m)``, with m the mean of each channel.

    Example:
        >>> tables, apply = contrast((0.5,) * 5, (1, 2, 1))
        >>> apply(None, jnp.array([[[0.0], [100.0]]]), {"factor": 0.5}).ravel().tolist()
        [25.0, 75.0]
    """

    def apply(_key: Key, image: Array, table: dict[str, Array]) -> Array:
        mean = image.mean((0, 1), keepdims=True)
        return mean + table["factor"] * (image - mean)

    return {"factor": np.asarray(constants, np.float32)}, apply


def saturate(constants: tuple[Any, ...], _shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function that makes the saturation of HSV ``min(a s + b, 1)``; hue and value stay.

    A gray pixel has the hue of red, as in ``skimage.color.rgb2hsv``.

    Example:
        >>> tables, apply = saturate(((0.5, 0.0),) * 5, (1, 1, 3))
        >>> apply(None, jnp.array([[[100.0, 50.0, 0.0]]]), {"factor": 0.5, "summand": 0.0}).ravel().tolist()
        [100.0, 75.0, 50.0]
    """

    def apply(_key: Key, image: Array, table: dict[str, Array]) -> Array:
        value, least = image.max(-1, keepdims=True), image.min(-1, keepdims=True)
        span = value - least
        red = jnp.arange(3, dtype=image.dtype).reshape(1, 1, 3) > 0
        below = jnp.where(span > 0, (value - image) / jnp.maximum(span, 1), red)  # in [0, 1], by the hue only
        saturation = jnp.clip(span / jnp.maximum(value, 1) * table["factor"] + table["summand"], 0, 1)
        return value * (1 - saturation * below)

    factors, summands = zip(*constants, strict=True)
    return {"factor": np.asarray(factors, np.float32), "summand": np.asarray(summands, np.float32)}, apply


def pixelate(constants: tuple[float, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function that shrinks an image to the share c of its sides and enlarges it again.

    Both by Pillow's resize with the filter ``BOX``: columns first, then rows, each rounded to bytes.

    Example:
        >>> tables, apply = pixelate((0.5,) * 5, (4, 4, 1))
        >>> tables["rows_down"].shape, tables["columns_up"].shape
        ((5, 2, 4), (5, 4, 2))
    """
    small = [[max(1, int(length * share)) for share in constants] for length in shape[:2]]
    tables = {}
    for name, length, sizes in zip(("rows", "columns"), shape[:2], small, strict=True):
        down = np.zeros((len(constants), max(sizes), length), np.float32)
        up = np.zeros((len(constants), length, max(sizes)), np.float32)
        for severity, size in enumerate(sizes):
            down[severity, :size] = filters.box_resize(length, size)
            up[severity, :, :size] = filters.box_resize(size, length)
        tables |= {f"{name}_down": down, f"{name}_up": up}

    def apply(_key: Key, image: Array, table: dict[str, Array]) -> Array:
        # The exact mean of bytes may end in one half, which float32 must not round down.
        narrow = _rounded(jnp.einsum("hwc,qw->hqc", image, table["columns_down"]))
        small = _rounded(jnp.einsum("hqc,ph->pqc", narrow, table["rows_down"]))
        wide = _rounded(jnp.einsum("pqc,wq->pwc", small, table["columns_up"]))
        return _rounded(jnp.einsum("pwc,hp->hwc", wide, table["rows_up"]))

    return tables, apply


def _rounded(values: Array) -> Array:
    return jnp.floor(values + (0.5 + 2**-10))


def quantization(quality: int) -> np.ndarray:
    """Return the quantization steps of libjpeg for luminance and color, ``[2 64]``.

    Example:
        >>> quantization(50)[:, 0].tolist(), quantization(95)[:, 0].tolist()
        ([16, 17], [2, 2])
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((np.array([_LUMINANCE_STEPS, _COLOR_STEPS]) * scale + 50) // 100, 1, 255)


def jpeg_compression(constants: tuple[int, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of JPEG's lossy steps at a quality; there is no codec and no file.

    Conversion to luminance and two colors in bytes, colors halved in both directions (4:2:0) by means of four pixels,
    cosine transform of blocks of 8 x 8, quantization with libjpeg's tables, and back, with libjpeg's triangular
    enlargement of the colors. Borders are repeated to whole blocks. The transform is in float32, where libjpeg's is in
    integers. On CIFAR-10 the result differs from Pillow's by 0.07 to 0.09 gray levels in the mean, where compression
    itself changes 1.8 to 6.9, and not at all in 93 to 95 % of the values. Stored as JPEG before, those images have many
    coefficients half-way between two steps of quality 50, where it differs by 0.6, and in 19 % of the values.

    Example:
        >>> tables, apply = jpeg_compression((80,) * 5, (16, 16, 3))
        >>> tables["steps"].shape  # severities, luminance and color, coefficients
        (5, 2, 64)
    """
    height, width, channels = shape
    pads = ((0, -height % 8), (0, -width % (8 if channels == 1 else 16)), (0, 0))
    k, x = np.arange(8)[:, None], np.arange(8)
    cosines = np.sqrt(np.where(k == 0, 1 / 8, 2 / 8)) * np.cos((2 * x + 1) * k * np.pi / 16)
    transform = np.kron(cosines, cosines).astype(np.float32)  # of the 64 pixels of a block

    def lossy(plane: Array, steps: Array) -> Array:
        rows, columns = plane.shape[0] // 8, plane.shape[1] // 8
        blocks = (plane - 128).reshape(rows, 8, columns, 8).swapaxes(1, 2).reshape(-1, 64)
        steps = steps[None]
        # libjpeg has coefficients in eighths, and rounds halves away from zero: those of flat blocks are often halves.
        eighths = jnp.round(8 * (blocks @ transform.T))
        kept = jnp.sign(eighths) * jnp.floor(jnp.abs(eighths) / (8 * steps) + 0.5) * steps
        pixels = (kept @ transform).reshape(rows, columns, 8, 8).swapaxes(1, 2).reshape(plane.shape)
        return jnp.clip(jnp.round(pixels + 128), 0, 255)

    def apply(_key: Key, image: Array, table: dict[str, Array]) -> Array:
        padded = jnp.pad(image, pads, mode="edge")
        if channels == 1:
            return lossy(padded[..., 0], table["steps"][0])[:height, :width, None]
        red, green, blue = (padded[..., i] for i in range(3))
        bright = jnp.round(0.299 * red + 0.587 * green + 0.114 * blue)
        colors = (
            jnp.round(-0.168735892 * red - 0.331264108 * green + 0.5 * blue + 128),
            jnp.round(0.5 * red - 0.418687589 * green - 0.081312411 * blue + 128),
        )
        bright = lossy(bright, table["steps"][0])
        kept = slice(-(-height // 2)), slice(-(-width // 2))  # what pads the blocks does not enter the enlargement
        rows = height + height % 2  # libjpeg repeats rows of the halved colors, but columns of the whole ones
        halves = (jnp.pad(_halved(color[:rows]), ((0, -(rows // 2) % 8), (0, 0)), mode="edge") for color in colors)
        coarse = (lossy(color, table["steps"][1])[kept] for color in halves)
        blue_part, red_part = (_doubled(plane)[:height, :width] - 128 for plane in coarse)
        bright = bright[:height, :width]
        green = bright - jnp.round(0.344136286 * blue_part + 0.714136286 * red_part)
        red, blue = bright + jnp.round(1.402 * red_part), bright + jnp.round(1.772 * blue_part)
        return jnp.stack([red, green, blue], -1)

    return {"steps": np.stack([quantization(quality) for quality in constants]).astype(np.float32)}, apply


def _halved(plane: Array) -> Array:
    """Return the means of 2 x 2 pixels as libjpeg rounds them: up and down in turn along a row."""
    total = plane.reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2).sum((1, 3))
    return jnp.floor((total + 1 + jnp.arange(total.shape[1])[None] % 2) / 4)


def _doubled(plane: Array) -> Array:
    """Return a plane twice as large, 3/4 of the nearest pixel and 1/4 of the next in both directions, as libjpeg."""
    padded = jnp.pad(plane, ((1, 1), (0, 0)), mode="edge")
    above, below = 3 * plane + padded[:-2], 3 * plane + padded[2:]
    tall = jnp.stack([above, below], 1).reshape(2 * plane.shape[0], -1)
    padded = jnp.pad(tall, ((0, 0), (1, 1)), mode="edge")
    left, right = jnp.floor((3 * tall + padded[:, :-2] + 8) / 16), jnp.floor((3 * tall + padded[:, 2:] + 7) / 16)
    return jnp.stack([left, right], 2).reshape(2 * plane.shape[0], -1)


def elastic_transform(constants: tuple[Any, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of a random affine map, then of a random smooth displacement of every pixel.

    Three points around the center move by up to ``c s``, with s the shorter side; then pixels by ``a s`` times uniform
    noise blurred by ``b s``. Both are sampled linearly, the first mirrored at the border as by ``cv2.warpAffine`` (in
    float32 in place of its steps of 1/32 pixel), the second reflected as by ``scipy.ndimage.map_coordinates``.

    Example:
        >>> tables, apply = elastic_transform(((0, 0, 0),) * 5, (4, 4, 1))
        >>> tables["rows"][0].tolist() == np.eye(4).tolist()  # without a blur
        True
    """
    height, width, _ = shape
    side = min(height, width)
    amounts, sigmas, reaches = (side * np.asarray(part) for part in zip(*constants, strict=True))
    third, middle = max(1.0, float(side // 3)), np.array([height // 2, width // 2], np.float32)
    tables = {"amount": amounts.astype(np.float32), "reach": reaches.astype(np.float32)}
    for name, length in (("rows", height), ("columns", width)):
        tables[name] = filters.stacked([filters.gaussian(sigma, length, "reflect", truncate=3.0) for sigma in sigmas])

    def apply(key: Key, image: Array, table: dict[str, Array]) -> Array:
        moves = table["reach"] * jax.random.uniform(jax.random.fold_in(key, 0), (3, 2), minval=-1, maxval=1)
        points = np.array([[third, third], [third, -third], [-third, -third]], np.float32) + middle
        moved = points + moves  # (x, y), as the script has them
        # The map takes the differences of the points, along the axes, to those of the moved points: invert it.
        right, down = (moved[1] - moved[2]) / (2 * third), (moved[0] - moved[1]) / (2 * third)
        size = right[0] * down[1] - right[1] * down[0]
        y, x = jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)[None]
        x, y = x - moved[2, 0], y - moved[2, 1]
        columns = (down[1] * x - down[0] * y) / size + points[2, 0]
        rows = (right[0] * y - right[1] * x) / size + points[2, 1]
        image = filters.bilinear(image, rows, columns, filters.mirrored)
        noise = jax.random.uniform(jax.random.fold_in(key, 1), (height, width, 2), minval=-1, maxval=1)
        shift = table["amount"] * filters.separable(noise, table["rows"], table["columns"])
        y, x = jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)[None]
        return filters.bilinear(image, y + shift[..., 0], x + shift[..., 1], filters.reflected)

    return tables, apply
