"""Images of the experiments as tokens, with labels: of a named data set, or of the user."""

import math
from dataclasses import dataclass

import numpy as np

from experiments.images.config import ImageSettings
from jaxsens.data import images
from jaxsens.data.images import ImageData
from jaxsens.typing import Array

__all__ = ["Data", "load", "pixels"]


@dataclass(frozen=True, eq=False)
class Data:
    """Images as tokens ``[n t d]`` in the normalized pixel space, with labels ``[n]``.

    Attributes:
        name: Name of the data set, for tables and figures.
        source: Where the images came from.
        image_shape: ``(h, w, c)``.
        classes: Number of classes.
        train: Tokens and labels that models learn from; those measured are the first of them.
        validation: Held out to choose the learning rate.
        test: Test images.
    """

    name: str
    source: str
    image_shape: tuple[int, int, int]
    classes: int
    train: tuple[Array, Array]
    validation: tuple[Array, Array]
    test: tuple[Array, Array]


def pixels(data: Data, tokens: Array) -> np.ndarray:
    """Return the images uint8 ``[n h w c]`` that tokens ``[n t d]`` were made of."""
    side = math.isqrt(tokens.shape[-1] // data.image_shape[-1])
    whole = images.from_patches(np.asarray(tokens), side, data.image_shape)
    return np.rint((whole / 2 + 0.5) * 255).astype(np.uint8)


def load(config: ImageSettings, data: ImageData | None = None) -> Data:
    """Load the images, and cut them into training, validation and test tokens.

    Args:
        config: Which data set, how many images, which patches.
        data: The user's images in place of ``config.dataset``; ``patch`` and ``variance`` must be set then.

    Raises:
        ValueError: If the data set is not there, the patch does not divide the image, or too few images are left.
    """
    if data is None:
        # Whole where it fits: what a run takes is then a random sample, not the first that are stored.
        limit = config.train_examples if config.dataset == "imagenet2012" else None
        count = 1000 if config.dataset == "imagenet2012" else 10
        classes = [range(count // 2), range(count // 2, count)] if config.halves else None
        data = images.load(config.dataset, data_dir=config.data_dir, limit=limit, classes=classes)
    elif config.patch is None or config.variance is None:
        raise ValueError(
            f"patch={config.patch}, variance={config.variance}: set both in the configuration for your own images"
        )
    elif config.halves:
        raise ValueError("halves=True is for a named data set: join the classes of your own images yourself")

    def split(which: Array, labels: Array, count: int) -> tuple[Array, Array]:
        chosen = np.random.default_rng(config.seed).permutation(len(labels))[:count]
        return images.to_patches(images.normalize(which[chosen]), config.token), labels[chosen]

    tokens, labels = split(data.train_images, data.train_labels, config.train_examples)
    held_out = round(config.validation * len(labels))
    if not 0 < held_out <= len(labels) - config.batch:
        raise ValueError(
            f"train_examples must leave a batch of {config.batch} in addition to a fraction of {config.validation} "
            f"held out, got {len(labels)}"
        )
    return Data(
        data.name,
        data.source,
        data.image_shape,
        data.classes,
        (tokens[held_out:], labels[held_out:]),
        (tokens[:held_out], labels[:held_out]),
        split(data.test_images, data.test_labels, config.test_examples),
    )
