"""Corrupted images: a corruption of one image as a function, and of many on all devices."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.corruptions import blur, digital, noise, spatter, weather
from jaxsens.corruptions.constants import CONSTANTS, NAMES, SEVERITIES
from jaxsens.execution import batches, checks, memory, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.typing import Array, Key, PyTree

__all__ = ["Corruption", "corrupt", "require_images", "require_name", "require_severity"]

_OTHERS = {name: part for part in (noise, blur, weather, digital, spatter) for name in NAMES if hasattr(part, name)}
_IN_COLOR = ("saturate", "spatter")
"""Corruptions that have no meaning for a grayscale image."""

_PARTS = 16
"""What is done to an image is little, and bound by memory: chunks are this much smaller than those of models."""


@dataclass(frozen=True)
class Corruption:
    """One corruption of images of one shape: a pure function of a key, an image and a severity.

    Equal values share compiled code, in which the severity is an argument.

    Attributes:
        name: One of ``corruptions.NAMES``.
        shape: ``(h, w, c)`` of an image.
        constants: ``"cifar10"`` or ``"imagenet"``, the benchmark whose constants are used.

    Raises:
        ValueError: If there is no such corruption or benchmark, the shape is not ``(h, w, c)`` with c = 1 or 3, or an
            image in color is needed.

    Example:
        >>> contrast = Corruption("contrast", (4, 4, 1))
        >>> jax.jit(contrast)(None, np.full((4, 4, 1), 9, np.uint8), 3, contrast.tables())[0, 0]
        Array([9], dtype=uint8)
    """

    name: str
    shape: tuple[int, int, int]
    constants: str = "cifar10"

    def __post_init__(self) -> None:
        require_name(self.name)
        if not isinstance(self.constants, str) or self.constants not in CONSTANTS:
            raise ValueError(f"constants must be one of {tuple(CONSTANTS)}, got {self.constants!r}")
        if not isinstance(self.shape, tuple | list) or len(self.shape) != 3:
            raise ValueError(f"shape must be (h, w, c), got {self.shape!r}")
        object.__setattr__(self, "shape", tuple(checks.require_count("shape", size) for size in self.shape))
        if self.shape[2] not in (1, 3):
            raise ValueError(f"shape must have 1 or 3 channels, got {self.shape}: corrupt the channels of an image")
        if self.name in _IN_COLOR and self.shape[2] != 3:
            raise ValueError(
                f"{self.name!r} needs images in color, with 3 channels, got shape {self.shape}: leave it out, or "
                "repeat the channel, np.repeat(images, 3, -1)"
            )

    def tables(self) -> PyTree:
        """Return the arrays that the function reads, with an axis of 5 severities first; equal calls share them."""
        return _built(self)[0]

    def __call__(self, key: Key, image: Array, severity: Array, tables: PyTree) -> Array:
        """Return the corrupted image, uint8 ``[h w c]``.

        Fractions are cut off, as the published scripts do, after adding 2^-10, which is more than float32 rounds: a
        value that is an integer stays that integer.

        Args:
            key: The key of the image.
            image: uint8 ``[h w c]``.
            severity: From 1 to 5; may be traced.
            tables: ``tables()``, or the same on a device.
        """
        table = jax.tree.map(lambda a: jnp.asarray(a)[severity - 1], tables)
        changed = _built(self)[1](key, jnp.asarray(image).astype(jnp.float32), table)
        return jnp.clip(jnp.floor(changed + 2**-10), 0, 255).astype(jnp.uint8)

    def key(self, key: Key, index: Array, severity: Array) -> Key:
        """Return the key of one image: that of the corruption, then of the image's number, then of the severity."""
        for number in (NAMES.index(self.name), index, severity):
            key = jax.random.fold_in(key, number)
        return key


@functools.lru_cache(maxsize=64)
def _built(corruption: Corruption) -> tuple[PyTree, Callable[..., Array]]:
    name, constants = corruption.name, corruption.constants
    build = getattr(_OTHERS[name], name)
    if (name, constants) == ("frost", "imagenet"):
        build = weather.frost_full_size
    return build(CONSTANTS[constants][name], corruption.shape)


def corrupt(
    key: Key,
    images: Array,
    name: str,
    severity: int,
    *,
    constants: str = "cifar10",
    index: Array | None = None,
    execution: Execution = DEFAULT,
) -> np.ndarray:
    """Return images with one of the corruptions of CIFAR-10-C and ImageNet-C, made on the devices.

    What is random depends on the key, the corruption, the number of the image and the severity only: an image gets the
    same noise on any number of devices and in any part of a data set. (Hendrycks and Dietterich, Benchmarking Neural
    Network Robustness to Common Corruptions and Perturbations, ICLR 2019.)

    Args:
        key: Decides what is random.
        images: uint8 ``[n h w c]``, of any size, with 1 or 3 channels.
        name: One of ``corruptions.NAMES``, ``COMMON`` and ``EXTRA`` among them.
        severity: From 1 to 5.
        constants: ``"cifar10"`` or ``"imagenet"``: the benchmark whose constants are used, whatever the size.
        index: Numbers of the images ``[n]``, by default from 0.
        execution: How to run; its ``chunk`` counts images.

    Returns:
        uint8 ``[n h w c]``.

    Raises:
        ValueError: If the key is not a typed threefry key, there is no such corruption, severity or benchmark, images
            are not uint8 ``[n h w c]`` with 1 or 3 channels, they are grayscale and the corruption needs color, or
            ``index`` is not a number for each image.

    Example:
        >>> images = np.full((2, 8, 8, 3), 100, np.uint8)
        >>> corrupt(jax.random.key(0), images, "brightness", 2)[0, 0, 0].tolist()  # 100 + 25.5
        [125, 125, 125]
    """
    require_execution(execution)
    key = require_key(key)
    images = require_images(images)
    corruption = Corruption(require_name(name), images.shape[1:], constants)
    items = (checks.require_index(index, len(images), "images"), images)
    shared = key, np.int32(require_severity(severity)), corruption.tables()
    fn = parallel.bind(_one, corruption)
    if execution.chunk is None:
        spec = batches.item_spec(items)
        execution = execution.replace(chunk=max(1, memory.chunk_of(fn, spec, *shared, execution=execution) // _PARTS))
    return parallel.map_items(fn, items, *shared, execution=execution)


def _one(corruption: Corruption, item: tuple[Array, Array], key: Key, severity: Array, tables: PyTree) -> Array:
    index, image = item
    return corruption(corruption.key(key, index, severity), image, severity, tables)


def require_name(name: Any) -> str:
    """Return the name of a corruption.

    Raises:
        ValueError: If there is none of that name.

    Example:
        >>> require_name("blur")
        Traceback (most recent call last):
        ValueError: name must be one of gaussian_noise, shot_noise, ..., saturate, got 'blur'
    """
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    return name


def require_severity(severity: Any) -> int:
    """Return a severity.

    Raises:
        ValueError: If it is not an integer from 1 to 5.

    Example:
        >>> require_severity(0)
        Traceback (most recent call last):
        ValueError: severity must be an integer from 1 to 5, got 0
    """
    try:
        return SEVERITIES[SEVERITIES.index(checks.require_count("severity", severity))]
    except ValueError as error:
        raise ValueError(f"severity must be an integer from 1 to 5, got {severity!r}") from error


def require_images(images: Any) -> np.ndarray:
    """Return images as a numpy array.

    Raises:
        ValueError: If they are not uint8 ``[n h w c]`` with 1 or 3 channels.

    Example:
        >>> require_images(np.zeros((2, 4, 4, 3)))
        Traceback (most recent call last):
        ValueError: images must be uint8 [n h w c] with 1 or 3 channels, values 0..255, got float64 (2, 4, 4, 3)
    """
    images = checks.host_values(images, "images")
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape or images.shape[3] not in (1, 3):
        raise ValueError(
            f"images must be uint8 [n h w c] with 1 or 3 channels, values 0..255, got {images.dtype} {images.shape}"
        )
    return images
