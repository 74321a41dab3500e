"""Blurs: Gaussian, defocus, glass, motion and zoom blur."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.corruptions import filters
from jaxsens.typing import Array, Key

__all__ = ["defocus_blur", "disk", "gaussian_blur", "glass_blur", "glass_sources", "motion_blur", "zoom_blur"]


def gaussian_blur(constants: tuple[float, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of a Gaussian blur of deviation c pixels; the border pixel is repeated.

    The boundary and the radius, ``int(4 c + 1/2)``, are those of ``skimage.filters.gaussian``.

    Example:
        >>> tables, apply = gaussian_blur((1.0,) * 5, (4, 6, 1))
        >>> tables["rows"].shape, tables["columns"].shape
        ((5, 4, 4), (5, 6, 6))
    """

    def apply(_key: Key, image: Array, table: dict[str, Array]) -> Array:
        return filters.separable(image, table["rows"], table["columns"])

    rows, columns = (filters.stacked([filters.gaussian(c, n) for c in constants]) for n in shape[:2])
    return {"rows": rows, "columns": columns}, apply


def disk(radius: float, alias: float) -> np.ndarray:
    """Return the kernel of a defocused lens: a disk whose edge is smoothed by a Gaussian of 3 or 5 pixels, ``[k k]``.

    Example:
        >>> disk(1, 0.2).shape, round(float(disk(1, 0.2).sum()), 6)
        ((17, 17), 1.0)
    """
    reach, width = (8, 3) if radius <= 8 else (radius, 5)
    x = np.arange(-reach, reach + 1)
    solid = ((x[:, None] ** 2 + x**2) <= radius**2).astype(np.float64)
    smooth = np.exp(-((np.arange(width) - width // 2) ** 2) / (2 * alias**2))
    matrix = filters.correlation(smooth / smooth.sum(), len(x), "mirror")
    return matrix @ (solid / solid.sum()) @ matrix.T


def defocus_blur(constants: tuple[Any, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of the correlation with a `disk`; the image is mirrored, as by ``cv2.filter2D``.

    A disk is no product of a row and a column, but a sum of few: those of its singular values above 1e-7 of the
    largest.

    Example:
        >>> tables, apply = defocus_blur(((1, 0.2),) * 5, (8, 8, 1))
        >>> tables["rows"].shape  # severities, terms, then the matrix
        (5, 2, 8, 8)
    """
    terms = []
    for radius, alias in constants:
        left, sizes, right = np.linalg.svd(disk(radius, alias))
        terms.append([(left[:, i] * size, right[i]) for i, size in enumerate(sizes) if size > 1e-7 * sizes[0]])
    most = max(map(len, terms))
    tables = {"terms": np.asarray([len(pairs) for pairs in terms], np.int32)}
    for axis, (name, length) in enumerate((("rows", shape[0]), ("columns", shape[1]))):
        matrices = np.zeros((len(terms), most, length, length), np.float32)
        for severity, pairs in enumerate(terms):
            for i, pair in enumerate(pairs):
                matrices[severity, i] = filters.correlation(pair[axis], length, "mirror")
        tables[name] = matrices

    def apply(_key: Key, image: Array, table: dict[str, Array]) -> Array:
        def term(i: Array, total: Array) -> Array:
            return total + filters.separable(image, table["rows"][i], table["columns"][i])

        return jax.lax.fori_loop(0, table["terms"], term, jnp.zeros_like(image))

    return tables, apply


def motion_weights(pairs: list[tuple[float, float]]) -> np.ndarray:
    """Return the half of a Gaussian along which a motion smears, for radius and deviation: ``[5 n]``, sums 1.

    Example:
        >>> motion_weights([(1, 100.0)]).round(2)
        array([[0.33, 0.33, 0.33]], dtype=float32)
    """
    width = 2 * int(max(radius for radius, _ in pairs)) + 1
    steps = np.arange(width)
    weights = np.stack([np.exp(-(steps**2) / (2 * s**2)) * (steps <= 2 * radius) for radius, s in pairs])
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def motion_blur(constants: tuple[Any, ...], _shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of a smear along a line at an angle drawn from -45 to 45 degrees.

    The steps, weights and boundary are those of ImageMagick's motion blur, which the published scripts call: half of a
    Gaussian, in one direction, offsets rounded to pixels, the border pixel repeated.

    Example:
        >>> tables, apply = motion_blur(((2, 1),) * 5, (8, 8, 1))
        >>> tables["weights"].shape
        (5, 5)
    """
    weights = motion_weights(list(constants))
    along = weights.shape[1] - 1
    across = int(np.ceil(along * np.sin(np.pi / 4)))

    def apply(key: Key, image: Array, table: dict[str, Array]) -> Array:
        angle = jax.random.uniform(key, minval=-jnp.pi / 4, maxval=jnp.pi / 4)
        return jnp.round(filters.motion(image, table["weights"], angle, (across, across, 0, along)))

    return {"weights": weights}, apply


def zoom_blur(constants: tuple[Any, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of the mean of the image and its center enlarged by every factor of a list.

    ``(x + sum_f zoom_f(x)) / (1 + number of f)``, see `filters.zoom`. Factors that give equal matrices are added up.

    Example:
        >>> tables, apply = zoom_blur(((1.0, 1.5),) * 5, (4, 4, 1))
        >>> tables["rows"].shape  # severities, factors, then the matrix
        (5, 2, 4, 4)
    """
    terms = []
    for factors in constants:
        different: dict[bytes, list[Any]] = {}
        for factor in (1.0, *factors):
            pair = [filters.zoom(factor, length) for length in shape[:2]]
            entry = different.setdefault(b"".join(matrix.tobytes() for matrix in pair), [0.0, *pair])
            entry[0] += 1 / (1 + len(factors))
        terms.append(list(different.values()))
    most = max(map(len, terms))
    rows, columns = (np.zeros((len(terms), most, length, length), np.float32) for length in shape[:2])
    for severity, entries in enumerate(terms):
        for i, (weight, row, column) in enumerate(entries):
            rows[severity, i], columns[severity, i] = weight * row, column

    def apply(_key: Key, image: Array, table: dict[str, Array]) -> Array:
        zoomed = jnp.einsum("fph,hwc->pfwc", table["rows"], image)
        return jnp.einsum("pfwc,fqw->pqc", zoomed, table["columns"])

    return {"rows": rows, "columns": columns}, apply


def glass_blur(constants: tuple[Any, ...], shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of a Gaussian blur, pixels taken from neighbors at random, and the blur again.

    The published scripts walk over the pixels from the last to the first and mean to swap each with a neighbor. What
    their assignment does to arrays of colors is a copy (its right side are views): the pixel takes the neighbor's
    value, which stays as it is. That is what the published images show, and what is reproduced: see `glass_sources`.

    Example:
        >>> tables, apply = glass_blur(((0.5, 1, 1),) * 5, (8, 8, 1))
        >>> tables["reach"].tolist()
        [1, 1, 1, 1, 1]
    """
    sigmas, reaches, rounds = zip(*constants, strict=True)
    rows, columns = (filters.stacked([filters.gaussian(s, n) for s in sigmas]) for n in shape[:2])
    most, chains = max(rounds), max(reaches) > 1

    def apply(key: Key, image: Array, table: dict[str, Array]) -> Array:
        blurred = jnp.floor(filters.separable(image, table["rows"], table["columns"]) + 2**-10)
        whole = jnp.arange(shape[0] * shape[1], dtype=jnp.int32)
        sources = whole
        for i in range(most):
            bits = jax.random.bits(jax.random.fold_in(key, i), shape[:2], jnp.uint32)
            walk_sources = glass_sources(bits, table["reach"], chains)
            sources = jnp.where(i < table["rounds"], sources[walk_sources], sources)
        mixed = _taken(blurred.reshape(-1, shape[2]), sources).reshape(shape)
        return filters.separable(mixed, table["rows"], table["columns"])

    counts = {"reach": np.asarray(reaches, np.int32), "rounds": np.asarray(rounds, np.int32)}
    return {"rows": rows, "columns": columns, **counts}, apply


@jax.custom_batching.sequential_vmap
def _taken(rows: Array, index: Array) -> Array:
    return rows[index]


def glass_sources(bits: Array, reach: Array, chains: bool = True) -> Array:
    """Return from which pixel each one takes its value in one walk of the glass blur, ``[h * w]``.

    Pixel ``(y, x)``, from ``n - reach`` down to ``reach + 1`` in both directions, takes the present value of ``(y + dy,
    x + dx)``, with both drawn from ``-reach .. reach - 1``. If that pixel was visited before, its value came from
    elsewhere in turn: a chain, which ends at a pixel not yet visited. All chains are followed at once, each step
    doubling the part that is done.

    Args:
        bits: Random words ``[h w]``, uint32.
        reach: How far the neighbors are.
        chains: Whether a pixel can take its value from one visited before: false where reach is 1.

    Example:
        >>> bits = jnp.zeros((4, 4), jnp.uint32)  # takes from (y - 1, x - 1)
        >>> jax.jit(glass_sources, static_argnums=2)(bits, 1, False).reshape(4, 4)[2:].tolist()
        [[8, 9, 5, 6], [12, 13, 9, 10]]
    """
    height, width = bits.shape
    y, x = jnp.arange(height, dtype=jnp.int32)[:, None], jnp.arange(width, dtype=jnp.int32)[None]
    reach = jnp.asarray(reach, jnp.int32)
    span = (2 * reach).astype(jnp.uint32)
    down, right = (((part * span) >> 16).astype(jnp.int32) - reach for part in (bits >> 16, bits & 0xFFFF))
    visited = (y > reach) & (y <= height - reach) & (x > reach) & (x <= width - reach)
    here = y * width + x
    target = jnp.where(visited, here + down * width + right, here).ravel()
    if not chains:
        return target
    inside = (y + down > reach) & (y + down <= height - reach) & (x + right > reach) & (x + right <= width - reach)
    goes_on = (visited & inside & ((down > 0) | ((down == 0) & (right > 0)))).ravel()
    following = jnp.where(goes_on, target, here.ravel())

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        twice = state[0][state[0]]
        return twice, (twice != state[0]).any()

    last, _ = jax.lax.while_loop(lambda state: state[1], step, (following, jnp.array(True)))
    return target[last]
