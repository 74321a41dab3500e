"""Weather: snow, frost, fog and brightness."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.corruptions import filters
from jaxsens.corruptions.blur import motion_weights
from jaxsens.typing import Array, Key

__all__ = ["brightness", "fog", "frost", "luminance", "plasma", "snow"]

_LUMINANCE = (0.299, 0.587, 0.114)

# Of the pictures of frost that the published scripts cut from, measured: mean color, deviation of a crop's mean, and
# deviation within a crop, each once for every picture.
_FROST_COLORS = ((77, 148, 165), (198, 203, 212), (198, 202, 212), (143, 158, 170), (102, 114, 125))
_FROST_OFFSETS = (10.0, 8.5, 8.5, 10.0, 15.0)
_FROST_SPREADS = (14.2, 18.2, 18.4, 26.0, 34.4)
# Shares of the variance of white noise blurred by so many pixels, fitted to the mean squared difference of two pixels
# at distances 1 to 24, of the pictures at a fifth of their size (CIFAR-10-C) and at full size (ImageNet-C).
_FROST_GRAINS = {
    "cifar10": ((0, 0.57), (1, 0.14), (3, 0.09), (12, 0.20)),
    "imagenet": ((0, 0.15), (0.8, 0.45), (1.6, 0.07), (4, 0.22), (12, 0.11)),
}


def luminance(image: Array) -> Array:
    """Return ``0.299 r + 0.587 g + 0.114 b`` ``[h w 1]``; a grayscale image stays as it is.

    Example:
        >>> luminance(jnp.ones((1, 1, 3))).shape
        (1, 1, 1)
    """
    if image.shape[-1] == 1:
        return image
    return sum(image[..., i : i + 1] * weight for i, weight in enumerate(_LUMINANCE))


def brightness(constants: tuple[float, ...], _shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function that adds c to the value of HSV, the largest of the three colors, cut at 1.

    Hue and saturation stay, so that all colors of a pixel are multiplied by the same factor.

    Example:
        >>> tables, apply = brightness((0.2,) * 5, (1, 1, 3))
        >>> apply(None, jnp.array([[[51.0, 102.0, 0.0]]]), {"summand": 51.0})[0, 0].tolist()
        [76.5, 153.0, 0.0]
    """

    def apply(_key: Key, image: Array, table: dict[str, Array]) -> Array:
        value = image.max(-1, keepdims=True)
        brighter = jnp.minimum(value + table["summand"], 255)
        return jnp.where(value > 0, image * (brighter / jnp.maximum(value, 1)), brighter)

    return {"summand": (255 * np.asarray(constants)).astype(np.float32)}, apply


def plasma(bits: Array, decay: Array) -> Array:
    """Return the fractal that fog is made of, by the diamond-square algorithm on a torus, ``[n n]`` in [0, 1].

    From one corner of height 0, every level halves the grid: centers of squares, then midpoints of edges, are means of
    their four neighbors plus ``a^2 u``, with u uniform in [-1, 1], a = 100 at first and divided by ``decay`` from level
    to level. At the end the map is scaled to [0, 1].

    Args:
        bits: Uniform numbers in [-1, 1], one for each place of the map, ``[n n]``, with n a power of two.
        decay: How fast roughness falls.

    Example:
        >>> jax.jit(plasma)(jnp.array([[0.0, 0.0], [0.0, 1.0]]), 2.0)[1].tolist()  # the center is highest
        [0.5, 1.0]
    """
    size = bits.shape[0]
    corners, step, amount = jnp.zeros((1, 1)), size, jnp.asarray(1e4, bits.dtype)
    while step >= 2:
        half = step // 2
        centers, above, beside = bits[half::step, half::step], bits[::step, half::step], bits[half::step, ::step]
        across = corners + jnp.roll(corners, -1, 1)
        down = corners + jnp.roll(corners, -1, 0)
        middle = (across + jnp.roll(across, -1, 0)) / 4 + amount * centers
        top = (middle + jnp.roll(middle, 1, 0) + across) / 4 + amount * above
        left = (middle + jnp.roll(middle, 1, 1) + down) / 4 + amount * beside
        rows = [jnp.stack(pair, -1).reshape(len(corners), -1) for pair in ((corners, top), (left, middle))]
        corners = jnp.stack(rows, 1).reshape(2 * len(corners), -1)
        step, amount = half, amount / decay**2
    corners -= corners.min()
    return corners / corners.max()


def fog(constants: tuple[Any, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of ``(x + 255 c plasma) m / (m + 255 c)``, with m the largest value of the image.

    The map is as large as the next power of two of the longer side.

    Example:
        >>> tables, apply = fog(((0.5, 2.0),) * 5, (3, 3, 1))
        >>> tables["amount"].tolist()[0]
        127.5
    """
    size = max(2, 1 << (max(shape[:2]) - 1).bit_length())
    amounts, decays = zip(*constants, strict=True)

    def apply(key: Key, image: Array, table: dict[str, Array]) -> Array:
        bits = jax.random.uniform(key, (size, size), minval=-1, maxval=1)
        layer = plasma(bits, table["decay"])[: shape[0], : shape[1], None]
        largest = image.max()
        return (image + table["amount"] * layer) * (largest / (largest + table["amount"]))

    return {"amount": 255 * np.asarray(amounts, np.float32), "decay": np.asarray(decays, np.float32)}, apply


def frost(constants: tuple[Any, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of ``a x + b frost``, with a procedural texture in the place of pictures of frost.

    The published scripts cut a random piece from one of five photographs. Here one of five textures is drawn: Gaussian
    noise with the mean color, the spread of means, the spread within a piece and the correlation of neighbors that
    pieces of that photograph have. What a texture does not have are the crystals' shapes.

    Example:
        >>> tables, apply = frost(((1, 0.2),) * 5, (8, 8, 3))
        >>> tables["rows"].shape  # severities, blurs, then the matrix
        (5, 4, 8, 8)
    """
    return _frost(constants, shape, "cifar10")


def frost_full_size(constants: tuple[Any, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return `frost` with the grain of the photographs at full size, as ImageNet-C has it.

    Example:
        >>> frost_full_size(((1, 0.2),) * 5, (8, 8, 3))[0]["share"].tolist()[0]
        1.0
    """
    return _frost(constants, shape, "imagenet")


def _frost(constants: tuple[Any, ...], shape: tuple[int, int, int], grains: str) -> tuple[dict[str, Any], Any]:
    colors = np.asarray(_FROST_COLORS, np.float32)
    if shape[2] == 1:
        colors = colors @ np.asarray(_LUMINANCE, np.float32)[:, None]
    shares, amounts = zip(*constants, strict=True)
    blurs = {}
    for axis, length in zip(("rows", "columns"), shape[:2], strict=True):
        matrices = [filters.gaussian(sigma, length, "reflect") for sigma, _ in _FROST_GRAINS[grains]]
        matrices = [matrix / np.sqrt((matrix**2).sum(1, keepdims=True)) for matrix in matrices]  # keeps the variance
        blurs[axis] = filters.stacked(matrices)
    weights = np.sqrt([share for _, share in _FROST_GRAINS[grains]]).astype(np.float32)[:, None, None]

    def apply(key: Key, image: Array, table: dict[str, Array]) -> Array:
        choice = jax.random.randint(jax.random.fold_in(key, 0), (), 0, len(colors))
        noise = jax.random.normal(jax.random.fold_in(key, 1), (len(weights) * shape[0] * shape[1] + 1,))
        white = noise[1:].reshape(-1, *shape[:2]) * weights
        grain = jnp.einsum("kph,khw->kpw", table["rows"], white)
        grain = jnp.einsum("kpw,kqw->pq", grain, table["columns"])
        gray = jnp.asarray(_FROST_OFFSETS)[choice] * noise[0] + jnp.asarray(_FROST_SPREADS)[choice] * grain
        color = jnp.asarray(colors)[choice].reshape(1, 1, -1)
        texture = jnp.clip(color + gray[..., None], 0, 255)
        return table["share"] * image + table["amount"] * texture

    tables = {"share": np.asarray(shares, np.float32), "amount": np.asarray(amounts, np.float32)}
    return tables | {name: np.stack([part] * len(constants)) for name, part in blurs.items()}, apply


def snow(constants: tuple[Any, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of whitened colors plus flakes, and the same flakes turned by half a turn.

    Flakes are Gaussian noise, enlarged by `filters.zoom`, cut below a threshold, in bytes, and smeared by
    `filters.motion` at an angle from -135 to -45 degrees. Colors are ``a x + (1 - a) max(x, 1.5 gray + 1 / 2)``.

    Example:
        >>> tables, apply = snow(((0.1, 0.2, 1, 0.6, 2, 3, 0.95),) * 5, (8, 8, 3))
        >>> tables["weights"].shape
        (5, 5)
    """
    means, deviations, zooms, thresholds, radii, sigmas, shares = zip(*constants, strict=True)
    weights = motion_weights(list(zip(radii, sigmas, strict=True)))
    up = weights.shape[1] - 1
    aside = int(np.ceil(up * np.sin(np.pi / 4)))
    numbers = {"mean": means, "deviation": deviations, "threshold": thresholds, "share": shares}
    tables = {name: np.asarray(values, np.float32) for name, values in numbers.items()}
    rows, columns = (filters.stacked([filters.zoom(factor, length) for factor in zooms]) for length in shape[:2])

    def apply(key: Key, image: Array, table: dict[str, Array]) -> Array:
        noise = jax.random.normal(jax.random.fold_in(key, 0), (*shape[:2], 1))
        layer = table["mean"] + table["deviation"] * noise
        layer = filters.separable(layer, table["rows"], table["columns"])
        layer = jnp.floor(255 * jnp.where(layer < table["threshold"], 0, jnp.clip(layer, 0, 1)))
        angle = jax.random.uniform(jax.random.fold_in(key, 1), minval=-3 * jnp.pi / 4, maxval=-jnp.pi / 4)
        flakes = jnp.round(filters.motion(layer, table["weights"], angle, (up, 0, aside, aside)))
        share = table["share"]
        white = share * image + (1 - share) * jnp.maximum(image, 1.5 * luminance(image) + 127.5)
        return white + flakes + flakes[::-1, ::-1]

    return tables | {"weights": weights, "rows": rows, "columns": columns}, apply
