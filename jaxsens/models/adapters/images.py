"""Models of images as models of their patches."""

from dataclasses import dataclass

import numpy as np

from jaxsens.data.patches import from_patches
from jaxsens.execution.checks import require_count, require_functions
from jaxsens.models.adapters.calls import NO_MASK
from jaxsens.models.common import as_sizes, require
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["from_images"]


def from_images(apply: Apply, patch: int, image_shape: tuple[int, int, int] | None = None) -> Apply:
    """Return a model of images as one of tokens: the square patches of ``jaxsens.data.patches.to_patches``.

    Perturbing a token then perturbs one patch of the image, whatever the model is.

    Args:
        apply: ``apply(params, images [b h w c])`` -> outputs ``[b *k]``.
        patch: Side of a patch in pixels; divides h and w.
        image_shape: ``(h, w, c)``; by default images are square, and the tokens say how large.

    Returns:
        ``apply(params, tokens [b t patch*patch*c])`` -> the outputs of the images of these patches.

    Raises:
        ValueError: If ``patch`` is not an integer of at least 1, or ``image_shape`` not ``(h, w, c)`` in whole patches;
            when called, if tokens are not the patches of such images, or a mask is given.

    Example:
        >>> from jaxsens.data.patches import to_patches
        >>> images = np.arange(32.0).reshape(2, 4, 4, 1)
        >>> brightness = from_images(lambda params, images: images.mean((1, 2, 3)), patch=2)
        >>> brightness(None, to_patches(images, 2)).tolist()
        [7.5, 23.5]
    """
    require_functions(apply=apply)
    patch = require_count("patch", patch, hint=", the side of a patch in pixels")
    if image_shape is not None:
        image_shape = as_sizes("image_shape", image_shape)
        whole = len(image_shape) == 3 and not image_shape[0] % patch and not image_shape[1] % patch
        require(whole, "image_shape", image_shape, f"(h, w, c), with h and w multiples of the patch, {patch}")
    return _Images(apply, patch, image_shape)


@dataclass(frozen=True)
class _Images:
    apply: Apply
    patch: int
    image_shape: tuple[int, int, int] | None

    def __call__(self, params: PyTree, tokens: Array, mask: Array | None = None, /) -> PyTree:
        if mask is not None:
            raise ValueError(f"a model of images {NO_MASK}")
        shape = self.image_shape
        if shape is None:
            require(
                np.ndim(tokens) == 3,
                "tokens' shape",
                np.shape(tokens),
                "patches [b t patch*patch*c], as jaxsens.data.patches.to_patches(images, patch) cuts them",
            )
            count, size = np.shape(tokens)[1:]
            side, channels = round(count**0.5), size // self.patch**2
            square = side**2 == count and size == self.patch**2 * channels
            allowed = f"the patches of side {self.patch} of square images; for others give image_shape=(h, w, c)"
            require(square, "tokens' shape", np.shape(tokens), allowed)
            shape = side * self.patch, side * self.patch, channels
        return self.apply(params, from_patches(tokens, self.patch, shape))
