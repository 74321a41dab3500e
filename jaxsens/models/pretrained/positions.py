"""Learned positions of an image's patches, for images of another size than the one that they were trained for."""

import numpy as np

from jaxsens.typing import Array

__all__ = ["resize_positions"]


def resize_positions(table: Array, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Interpolate a ViT's positions to another grid of patches, by cubic convolution (Keys 1981) both ways.

    The free parameter is -3/4, centers of patches are aligned, beyond the border its values go on, and nothing is
    smoothed before a reduction: what DINOv2 and, if asked to, ViTs in ``transformers`` do.

    Args:
        table: ``[1 1+t d]``, the class token's position first, which stays.
        old: Patches down and across of the table.
        new: Those wanted.

    Returns:
        ``[1 1+t' d]`` in the dtype of the table.
    """
    first, patches = np.split(np.asarray(table), [1], axis=1)
    grid = patches.reshape(*old, -1).astype(np.float64)
    resized = np.einsum("ih,jw,hwd->ijd", _weights(old[0], new[0]), _weights(old[1], new[1]), grid)
    return np.concatenate([first, resized.reshape(1, -1, grid.shape[2]).astype(first.dtype)], axis=1)


def _weights(old: int, new: int) -> np.ndarray:
    """Return ``[new old]``: how much of every old place is in every new one."""
    places = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        near = np.floor(places) + tap
        np.add.at(weights, (np.arange(new), np.clip(near, 0, old - 1).astype(int)), _cubic(np.abs(places - near)))
    return weights


def _cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    inner = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    outer = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, inner, np.where(distance < 2, outer, 0))
