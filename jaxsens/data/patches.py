"""Images as tokens: square patches in row-major order, and back."""

import operator

import jax
import numpy as np

from jaxsens.execution import checks
from jaxsens.typing import Array

__all__ = ["from_patches", "to_patches"]


def to_patches(images: Array, patch: int) -> Array:
    """Cut images into square patches, one token each.

    ``tokens[..., i * (w / patch) + j, :]`` holds the pixels ``images[..., i * patch : (i + 1) * patch, j * patch :
    (j + 1) * patch, :]``, themselves in row-major order with the channel last. Only the shape changes: ``from_patches``
    is the exact inverse.

    Args:
        images: ``[*b h w c]``, with any number of leading axes.
        patch: Side of a patch in pixels; must divide both h and w.

    Returns:
        Tokens ``[*b t patch*patch*c]`` with ``t = (h / patch) * (w / patch)``, of the type and dtype of ``images``.

    Raises:
        ValueError: If ``images`` has no axes h, w, c, or ``patch`` is no positive integer that divides h and w.

    Example:
        >>> import numpy as np
        >>> to_patches(np.arange(8).reshape(2, 4, 1), 2)
        array([[0, 1, 4, 5],
               [2, 3, 6, 7]])
    """
    if isinstance(images, np.ma.MaskedArray) or not hasattr(images, "ndim"):
        raise ValueError(f"images must be an array [*b h w c], without a mask, got {type(images).__name__}")
    if images.ndim < 3:
        raise ValueError(f"images must have axes [*b h w c], got shape {tuple(images.shape)}")
    *leading, height, width, channels = images.shape
    patch, rows, columns = _grid(patch, height, width)
    cut = images.reshape(*leading, rows, patch, columns, patch, channels).swapaxes(-4, -3)
    return cut.reshape(*leading, rows * columns, patch * patch * channels)


def from_patches(tokens: Array, patch: int, image_shape: tuple[int, int, int]) -> Array:
    """Put patches together again: the inverse of ``to_patches``.

    Args:
        tokens: ``[*b t patch*patch*c]``.
        patch: Side of a patch in pixels, as given to ``to_patches``.
        image_shape: ``(h, w, c)`` of one image.

    Returns:
        Images ``[*b h w c]``.

    Raises:
        ValueError: If ``patch`` is no positive integer that divides h and w, or tokens of this shape do not make up
            such an image.

    Example:
        >>> import numpy as np
        >>> from_patches(np.array([[0, 1, 4, 5], [2, 3, 6, 7]]), 2, (2, 4, 1))[..., 0]
        array([[0, 1, 2, 3],
               [4, 5, 6, 7]])
    """
    if not isinstance(image_shape, tuple | list) or len(image_shape) != 3:
        raise ValueError(f"image_shape must be (h, w, c), got {image_shape!r}")
    if isinstance(tokens, np.ma.MaskedArray) or not hasattr(tokens, "shape"):
        raise ValueError(f"tokens must be an array [*b t patch*patch*c], without a mask, got {type(tokens).__name__}")
    height, width, channels = (checks.require_count("image_shape", size) for size in image_shape)
    patch, rows, columns = _grid(patch, height, width)
    expected = (rows * columns, patch * patch * channels)
    if tuple(tokens.shape[-2:]) != expected:
        raise ValueError(
            f"tokens has shape {tuple(tokens.shape)}, but an image of shape {tuple(image_shape)} in patches of {patch} "
            f"needs its last two axes to be {expected}"
        )
    leading = tokens.shape[:-2]
    cut = tokens.reshape(*leading, rows, columns, patch, patch, channels).swapaxes(-4, -3)
    return cut.reshape(*leading, height, width, channels)


def _grid(patch: int, height: int, width: int) -> tuple[int, int, int]:
    """Return the patch as an int, and the rows and columns of the grid of patches."""
    try:
        side = 0 if operator.index(patch) < 1 else checks.require_count("patch", patch)
    except (TypeError, ValueError, jax.errors.ConcretizationTypeError) as error:
        raise ValueError(f"patch={patch!r} must be an integer, the side of a patch in pixels") from error
    if side < 1 or height % side or width % side:
        allowed = [p for p in range(1, min(height, width) + 1) if height % p == 0 and width % p == 0]
        raise ValueError(f"patch={patch} does not divide images of {height} x {width} pixels; allowed are {allowed}")
    return side, height // side, width // side


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
