"""Noise: Gaussian, shot, impulse and speckle noise, independent for every value of every channel."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.typing import Array, Key

__all__ = ["alias_tables", "gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise"]

_BITS = 23  # of a word of an alias table are the probability, the others the alias


def gaussian_noise(constants: tuple[float, ...], _shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of ``x + 255 c z``, with z standard normal.

    Example:
        >>> tables, apply = gaussian_noise((0.1,) * 5, (2, 2, 1))
        >>> tables["deviation"].shape
        (5,)
    """

    def apply(key: Key, image: Array, table: dict[str, Array]) -> Array:
        return image + 255 * table["deviation"] * jax.random.normal(key, image.shape)

    return {"deviation": np.asarray(constants, np.float32)}, apply


def speckle_noise(constants: tuple[float, ...], _shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of ``x + x c z``, with z standard normal.

    Example:
        >>> tables, apply = speckle_noise((0.1,) * 5, (2, 2, 1))
        >>> tables["deviation"].shape
        (5,)
    """

    def apply(key: Key, image: Array, table: dict[str, Array]) -> Array:
        return image + image * table["deviation"] * jax.random.normal(key, image.shape)

    return {"deviation": np.asarray(constants, np.float32)}, apply


def impulse_noise(constants: tuple[float, ...], _shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function that sets a share c of the values to 0 or 255, each with probability c / 2.

    Example:
        >>> tables, apply = impulse_noise((0.1,) * 5, (2, 2, 1))
        >>> tables["share"].shape
        (5,)
    """

    def apply(key: Key, image: Array, table: dict[str, Array]) -> Array:
        u = jax.random.uniform(key, image.shape)
        return jnp.where(u < table["share"], jnp.where(u < table["share"] / 2, 255.0, 0.0), image)

    return {"share": np.asarray(constants, np.float32)}, apply


def shot_noise(constants: tuple[int, ...], _shape: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    """Return tables and function of ``255 min(n / c, 1)``, with n from Poisson's law of mean ``c x / 255``.

    A value of an image is one of 256, so that n comes from one of 256 laws on ``0 .. c``: it is drawn from alias tables
    with one random word, exact up to a probability of 2^-23 for each n.

    Example:
        >>> tables, apply = shot_noise((3,) * 5, (2, 2, 1))
        >>> tables["words"].shape  # severities, then 256 values of a pixel by 4 columns
        (5, 1024)
    """
    most = max(constants)
    size = 1 << int(most).bit_length()  # c + 1 outcomes at least
    laws = np.stack([_poisson(c, size) for c in constants])

    def apply(key: Key, image: Array, table: dict[str, Array]) -> Array:
        bits = jax.random.bits(key, image.shape, jnp.uint32)
        column = (bits >> (32 - (size.bit_length() - 1))).astype(jnp.int32)
        share = (bits << (size.bit_length() - 1)) >> (32 - _BITS)
        word = table["words"][image.astype(jnp.int32) * size + column]
        count = jnp.where(share < (word & (2**_BITS - 1)), column, (word >> _BITS).astype(jnp.int32))
        return count * table["step"]

    words = alias_tables(laws.reshape(-1, size)).reshape(len(constants), -1)
    return {"words": words, "step": (255 / np.asarray(constants)).astype(np.float32)}, apply


def _poisson(photons: int, size: int) -> np.ndarray:
    """Return the laws of ``min(n, photons)`` for every value of a pixel, ``[256 size]``."""
    counts = np.arange(photons)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, photons + 1)))])[:photons]
    means = photons * np.arange(256)[:, None] / 255
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(counts == 0, 0.0, counts * np.log(means))
    laws = np.zeros((256, size))
    laws[:, :photons] = np.exp(terms - means - logs)
    laws[:, photons] = np.maximum(1 - laws.sum(1), 0)
    return laws / laws.sum(1, keepdims=True)


def alias_tables(laws: np.ndarray) -> np.ndarray:
    """Return tables for Walker's alias method: to draw from a law by one uniform column and one comparison.

    Args:
        laws: Probabilities ``[n k]``, with k a power of two up to 512.

    Returns:
        uint32 ``[n k]``: the lower 23 bits are the probability to stay in the column, the upper ones its alias.

    Example:
        >>> words = alias_tables(np.array([[0.75, 0.25]]))
        >>> (words & (2**23 - 1)) / 2**23, words >> 23  # of the second column half goes to the first
        (array([[0.99999988, 0.5       ]]), array([[0, 0]], dtype=uint32))
    """
    count, size = laws.shape
    rows = np.arange(count)
    order = np.argsort(laws, 1, kind="stable")
    left = laws * size
    stay, alias = np.ones((count, size)), np.broadcast_to(np.arange(size), (count, size)).copy()
    small, large = np.zeros(count, int), np.full(count, size - 1)
    current = order[:, 0].copy()
    for _ in range(size - 1):  # each step settles the column that has too little, from the one that has the most
        giver = order[rows, large]
        stay[rows, current], alias[rows, current] = np.minimum(left[rows, current], 1), giver
        left[rows, giver] -= 1 - stay[rows, current]
        spent = (left[rows, giver] < 1) & (large - small > 1)
        small = np.where(spent, small, np.minimum(small + 1, size - 1))
        current = np.where(spent, giver, order[rows, small])
        large = np.where(spent, large - 1, large)
    words = np.clip(np.round(stay * 2**_BITS), 0, 2**_BITS - 1).astype(np.uint32)
    return words | (alias.astype(np.uint32) << _BITS)
