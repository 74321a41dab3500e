"""What the experiments on images share: models and how they are trained, data sets, and the settings of both."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from experiments.harness import option
from jaxsens import perturb, training
from jaxsens.data import images
from jaxsens.typing import Array

SETTINGS = {
    "digits": (2, 1.0),
    "mnist": (7, 1.0),
    "fashion_mnist": (4, 5.0),
    "cifar10": (4, 1.0),
    "svhn_cropped": (4, 1.0),
    "imagenet2012": (16, 15.0),
}
"""Patch and noise variance by data set: the paper's (App. D), and for the digits, and MNIST's variance, our choice."""


@dataclass(frozen=True)
class Treatment:
    """An architecture and how it is trained.

    Attributes:
        model: Its name in ``models.MODELS``.
        fields: Fields of the model's configuration to replace.
        regularised: Whether it is trained with the sensitivity regulariser.
    """

    model: str
    fields: tuple[tuple[str, Any], ...] = ()
    regularised: bool = False


TREATMENTS = {
    "vit": Treatment("vit", fields=(("normalize_patches", False),)),
    "vit_patch_norm": Treatment("vit", fields=(("normalize_patches", True),)),
    "mlp": Treatment("mlp"),
    "mlp_sigmoid": Treatment("mlp_sigmoid"),
    "cnn": Treatment("cnn"),
    "convmixer": Treatment("convmixer"),
    "vit_dropout": Treatment("vit", fields=(("normalize_patches", False), ("dropout", 0.1))),
}
"""How an architecture may be trained. The published ViTs normalise the pixels of each patch, which takes the scale out
of the noise on it: ``vit_patch_norm`` does so, in both sizes; ``vit`` sees the same noise as all others. They also drop
one activation in ten, as ``vit_dropout`` does."""

REGULARISED = "_regularised"
TREATMENTS |= {name + REGULARISED: replace(plain, regularised=True) for name, plain in TREATMENTS.items()}


@dataclass(frozen=True)
class ImageSetting:
    """Which models are trained, on which images, and how."""

    dataset: str = option("digits", f"one of {', '.join(images.NAMES)}")
    data_dir: str | None = option(None, "folder of prepared TFDS data sets", identity=False)
    architectures: tuple[str, ...] = option(("vit", "mlp", "cnn", "convmixer"), "what to compare")
    variant: Literal["small", "paper"] = option("small", "size of the models")
    dtype: Literal["float32", "bfloat16"] = option("float32", "in which models compute")
    patch: int | None = option(None, "side of a token in pixels; the data set's if none")
    variance: float | None = option(None, "of the noise on a token; the data set's if none")
    seed: int = option(0, "of everything")
    seeds: int = option(3, "trained models of each architecture")
    train_examples: int = option(6000, "training images at most, validation images among them")
    validation: float = option(0.15, "fraction of the training images held out to choose the learning rate")
    test_examples: int = option(2000, "test images at most")
    optimiser: Literal["sgd", "adam", "adamw"] = option("adam", "rule of steps")
    schedule: Literal["constant", "cosine"] = option("cosine", "of the learning rate")
    learning_rates: tuple[float, ...] = option((0.001, 0.003), "the grid")
    epochs: int = option(15, "passes over the training images")
    batch: int = option(100, "images in a step")
    parts: int = option(1, "parts of a batch, for several devices to share")
    checkpoints: bool = option(False, "whether to save every epoch, so that a killed training resumes", identity=False)
    measured: int = option(300, "training images that sensitivity and sharpness are measured on")
    draws: int = option(5, "noisy versions of each patch")
    sharpness_draws: int = option(20, "noisy versions of the weights")
    chunk: int | None = option(256, "model forwards at once; fitted to a memory budget if none")

    def __post_init__(self) -> None:
        if self.dataset not in SETTINGS:
            raise ValueError(f"dataset must be one of {sorted(SETTINGS)}, got {self.dataset!r}")
        if not self.architectures or not set(self.architectures) <= set(TREATMENTS):
            raise ValueError(f"architectures must be some of {sorted(TREATMENTS)}, got {self.architectures}")
        if len(set(self.architectures)) < len(self.architectures):
            raise ValueError(f"architectures must differ, got {self.architectures}")
        for name in ("seeds", "train_examples", "test_examples", "epochs", "batch", "parts", "measured", "draws"):
            require_count(self, name)
        require_count(self, "sharpness_draws")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation must lie strictly between 0 and 1, got {self.validation}")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rates must be positive, and at least one, got {self.learning_rates}")
        if len({f"{rate:g}" for rate in self.learning_rates}) < len(self.learning_rates):
            raise ValueError(f"learning_rates must differ within six digits, got {self.learning_rates}")
        perturb.gaussian(self.noise)

    @property
    def token(self) -> int:
        """Side of a token in pixels."""
        return SETTINGS[self.dataset][0] if self.patch is None else self.patch

    @property
    def noise(self) -> float:
        """Variance of the noise on a token, in normalised pixels squared."""
        return SETTINGS[self.dataset][1] if self.variance is None else self.variance

    def training(self, learning_rate: float) -> training.Config:
        """Return how to train at a learning rate."""
        optimiser = training.Optimizer(self.optimiser, schedule=self.schedule)
        return training.Config(self.epochs, self.batch, learning_rate, optimiser, self.parts)


def require_count(config: ImageSetting, name: str) -> None:
    """Raise ValueError unless the setting is at least 1."""
    if getattr(config, name) < 1:
        raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")


@dataclass(frozen=True)
class Data:
    """Images as tokens ``[n t d]`` in the normalised pixel space, with labels ``[n]``."""

    source: str
    image_shape: tuple[int, int, int]
    classes: int
    train: tuple[Array, Array]
    validation: tuple[Array, Array]
    test: tuple[Array, Array]


def load(config: ImageSetting) -> Data:
    """Load the images, and cut them into training, validation and test tokens.

    Raises:
        ValueError: If the data set is not there, the patch does not divide the image, or too few images are left.
    """
    # Whole where it fits: what a run takes is then a random sample, not the first that are stored.
    limit = config.train_examples if config.dataset == "imagenet2012" else None
    found = images.load(config.dataset, data_dir=config.data_dir, limit=limit)

    def split(which: Array, labels: Array, count: int) -> tuple[Array, Array]:
        chosen = np.random.default_rng(config.seed).permutation(len(labels))[:count]
        return images.to_patches(images.normalize(which[chosen]), config.token), labels[chosen]

    tokens, labels = split(found.train_images, found.train_labels, config.train_examples)
    held_out = round(config.validation * len(labels))
    if not 0 < held_out <= len(labels) - config.batch:
        raise ValueError(
            f"train_examples must leave a batch of {config.batch} beside a fraction of {config.validation} held out, "
            f"got {len(labels)}"
        )
    return Data(
        found.source,
        found.image_shape,
        found.classes,
        (tokens[held_out:], labels[held_out:]),
        (tokens[:held_out], labels[:held_out]),
        split(found.test_images, found.test_labels, config.test_examples),
    )
