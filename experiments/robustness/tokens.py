"""Tokens of the bytes of images, as models read them."""

from dataclasses import dataclass

from jaxsens.data import images
from jaxsens.typing import Array

__all__ = ["Tokens"]


@dataclass(frozen=True)
class Tokens:
    """Makes tokens ``[b t d]`` of the bytes of images ``[b h w c]``, as `experiments.images.data.load` does.

    Attributes:
        patch: Side of a patch in pixels.
    """

    patch: int

    def __call__(self, pixels: Array) -> Array:
        """Return the tokens."""
        return images.to_patches(images.normalize(pixels), self.patch)
