"""Settings shared by the experiments on images: their models, their data sets, and the settings of both."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from experiments.harness import Settings, added_rates, option
from jaxsens import perturb, training
from jaxsens.execution import Execution

__all__ = [
    "CHANGED",
    "CHANGES",
    "LAPTOP",
    "PAPER",
    "PUBLISHED_RATES",
    "REGULARIZED",
    "SETTINGS",
    "SMOKE",
    "TREATMENTS",
    "ImageSettings",
    "Intervention",
    "Treatment",
    "learning_rates",
]

CHANGES: dict[str, tuple[str, Any]] = {
    "depth_1": ("depth", 1), "depth_4": ("depth", 4), "depth_12": ("depth", 12), "heads_1": ("heads", 1),
    "heads_8": ("heads", 8), "heads_16": ("heads", 16), "adam": ("optimizer", "adam"), "sgd": ("optimizer", "sgd"),
}  # fmt: skip
"""One change of a transformer, or of its optimizer, by the ending of its name."""

CHANGED = ("vit", "vit_small_data")
"""The transformers that are trained with each of `CHANGES`, too, such as ``vit_depth_4``."""

SETTINGS = {
    "digits": (2, 1.0),
    "mnist": (7, 1.0),
    "fashion_mnist": (4, 5.0),
    "cifar10": (4, 1.0),
    "svhn_cropped": (4, 1.0),
    "imagenet2012": (16, 15.0),
}
"""Side of a patch (pixels) and noise variance by data set: the paper's (App. D); ours for digits and MNIST's noise."""


@dataclass(frozen=True)
class Treatment:
    """An architecture and how it is trained.

    Attributes:
        model: Its name in ``models.MODELS``.
        fields: Fields of the model's configuration to replace.
        regularized: Whether it is trained with the sensitivity regularizer.
        published: Its published size in ``models.MODELS``, where no size belongs to the data set.
        optimizer: The optimizer in place of that of the settings.
    """

    model: str
    fields: tuple[tuple[str, Any], ...] = ()
    regularized: bool = False
    published: str = "paper"
    optimizer: str | None = None


@dataclass(frozen=True)
class Intervention:
    """What changes in the training of a model.

    Attributes:
        objective: The loss in place of cross-entropy.
        weight_decay: Weight decay of the optimizer.
        dropout: Rate of dropout, of models that have it; None to leave it as it is.
    """

    objective: training.objectives.Objective | None = None
    weight_decay: float = 0.0
    dropout: float | None = None


TREATMENTS = {
    "vit": Treatment("vit", fields=(("normalize_patches", False),)),
    "vit_patch_norm": Treatment("vit", fields=(("normalize_patches", True),)),
    "mlp": Treatment("mlp"),
    "mlp_sigmoid": Treatment("mlp_sigmoid"),
    "cnn": Treatment("cnn"),
    "convmixer": Treatment("convmixer"),
    "vit_dropout": Treatment("vit", fields=(("normalize_patches", False), ("dropout", 0.1))),
    "vit_small_data": Treatment("vit_small_data"),
    "vit_simple": Treatment("vit_simple"),
    "vit_imagenet": Treatment("vit_imagenet", published="large"),
    "resnet": Treatment("resnet"),
    "densenet": Treatment("densenet"),
    "convnext": Treatment("convnext", published="tiny"),
}
"""Models by name. The published ViTs normalize the pixels of each patch, which removes the scale of the noise on it:
``vit_patch_norm`` does so, in both sizes; ``vit`` sees the same noise as all others. They also drop one activation in
ten, as ``vit_dropout`` does. ``vit_small_data`` and ``vit_simple`` are the published ones, with all of their parts."""

REGULARIZED = "_regularized"
"""Ends the name of a model that is trained with the sensitivity regularizer."""

TREATMENTS |= {name + REGULARIZED: replace(plain, regularized=True) for name, plain in TREATMENTS.items()}

for _plain in CHANGED:
    for _change, (_field, _value) in CHANGES.items():
        if _field == "optimizer":
            _changed = replace(TREATMENTS[_plain], optimizer=_value)
        else:
            _changed = replace(TREATMENTS[_plain], fields=(*TREATMENTS[_plain].fields, (_field, _value)))
        TREATMENTS[f"{_plain}_{_change}"] = _changed

PUBLISHED_RATES: dict[str, dict[str, float]] = {
    "mnist": {"vit_small_data": 0.01, "mlp": 0.01},
    "fashion_mnist": {"vit_small_data": 0.1, "mlp": 0.1, "mlp_sigmoid": 0.5, "cnn": 0.005},
    "cifar10": {
        "vit_small_data": 0.1, "vit_small_data_regularized": 0.16, "vit_simple": 0.2, "resnet": 0.001,
        "densenet": 0.005, "convmixer": 0.06,
    },
    "svhn_cropped": {"vit_small_data": 0.1, "resnet": 0.0015},
}  # fmt: skip
"""Data set to the models that the paper trained on it, with their learning rates of plain SGD (App. D; of the
regularized one s.7.1). That of the ViT on SVHN is not stated: it is the one on CIFAR-10."""

PAPER = (
    "the paper: plain SGD, batches of 100, a learning rate for each architecture (ViT 0.1 or 0.2, MLP 0.1, sigmoid "
    "0.5, CNN 0.005, ConvMixer 0.06), all training images, number of epochs not stated (50 in its code), 5 draws on "
    "about 30 % of the training images, one run; its ViTs normalize the pixels of a patch (vit_patch_norm does, vit "
    "does not) and use shifted patch tokenization, a class token and dropout (vit_small_data does)"
)
"""How the published models were trained, for the manifest."""


@dataclass(frozen=True, kw_only=True)
class ImageSettings(Settings):
    """Which models are trained, on which images, and how; defaults are the paper's."""

    dataset: str = option("fashion_mnist", f"one of {', '.join(SETTINGS)}", choices=tuple(SETTINGS))
    data_dir: str | None = option(None, "folder of prepared TFDS data sets", identity=False)
    architectures: tuple[str, ...] = option(
        ("vit", "mlp", "cnn", "convmixer"), "models to compare", choices=tuple(TREATMENTS), distinct=True, fewest=1
    )
    variant: Literal["small", "paper"] = option("paper", "size of the models")
    dtype: Literal["float32", "bfloat16"] = option("float32", "dtype in which models compute")
    patch: int | None = option(None, "side of a token in pixels; that of the data set if none", at_least=1)
    variance: float | None = option(None, "variance of the noise on a token; that of the data set if none", at_least=0)
    seed: int = option(0, "random seed for data, weights and noise")
    seeds: int = option(3, "trained models of each architecture", at_least=1)
    halves: bool = option(
        False, "whether classes are joined to two, the first and the second half, as in the paper's MNIST"
    )
    train_examples: int = option(60_000, "training images at most, validation images among them", at_least=1)
    validation: float = option(
        0.15, "fraction of the training images held out to choose the learning rate", above=0, below=1
    )
    test_examples: int = option(10_000, "test images at most", at_least=1)
    optimizer: Literal["sgd", "adam", "adamw"] = option("sgd", "optimizer")
    schedule: Literal["constant", "cosine"] = option("constant", "schedule of the learning rate")
    learning_rates: tuple[float, ...] = option(
        (0.005, 0.02, 0.1, 0.2, 0.5), "learning rates to try", above=0, distinct=True, fewest=1
    )
    added_rates: int = added_rates()
    epochs: int = option(50, "passes over the training images", at_least=1)
    batch: int = option(100, "images in a step", at_least=1)
    parts: int = option(1, "parts of a batch, for several devices to share", at_least=1)
    models_per_device: int | None = option(
        None, "models of an architecture that a device trains together: all seeds, or all learning rates of the "
        "search; if none, 1 on a CPU, where a model at a time is faster, and on an accelerator as many as fit",
        at_least=1, identity=False,
    )  # fmt: skip
    checkpoints: bool = option(
        True, "whether to save every epoch, so that a training that was stopped resumes", identity=False
    )
    measured: int = option(15_000, "training images that sensitivity and sharpness are measured on", at_least=1)
    draws: int = option(5, "noisy versions of each patch", at_least=1)
    sharpness_draws: int = option(20, "noisy versions of the weights", at_least=1)
    chunk: int | None = option(None, "model forwards at once; fitted to a memory budget if none")

    def __post_init__(self) -> None:
        super().__post_init__()
        perturb.gaussian(self.noise)
        if self.parts > 1 and (self.models_per_device or 1) > 1:
            raise ValueError(f"parts must be 1 where models are trained together, got {self.parts}")

    @property
    def together(self) -> bool:
        """Whether the models of an architecture are trained in one launch, and not one after another."""
        if self.models_per_device is None:
            return self.parts == 1 and Execution().platform != "cpu"
        return self.models_per_device > 1

    @property
    def token(self) -> int:
        """Side of a token in pixels."""
        return SETTINGS[self.dataset][0] if self.patch is None else self.patch

    @property
    def noise(self) -> float:
        """Variance of the noise on a token, in normalized pixels squared."""
        return SETTINGS[self.dataset][1] if self.variance is None else self.variance

    def rates(self, name: str) -> tuple[float, ...]:
        """Return the learning rates to try for a model, by its name."""
        return self.learning_rates or learning_rates(self.dataset, name)

    def searched(self, name: str) -> str:
        """Return the model whose search chooses the learning rate of a model: by default itself."""
        return name

    def training(
        self, learning_rate: float, weight_decay: float = 0.0, optimizer: str | None = None
    ) -> training.Config:
        """Return the settings of ``training.fit`` at a learning rate, with another optimizer if one is named."""
        name = optimizer or self.optimizer
        name = "adamw" if name == "adam" and weight_decay > 0 else name
        rule = training.Optimizer(name, weight_decay=weight_decay, schedule=self.schedule)
        return training.Config(self.epochs, self.batch, learning_rate, rule, self.parts, reproducible=self.reproducible)


def learning_rates(dataset: str, name: str) -> tuple[float]:
    """Return the learning rate that the paper states for a model on a data set, as a grid of one.

    Raises:
        ValueError: If it states none.
    """
    published = PUBLISHED_RATES.get(dataset, {})
    if name not in published:
        stated = f"only for {', '.join(published)}" if published else "for no model"
        raise ValueError(
            f"learning_rates is empty, and on {dataset} the paper states a learning rate {stated}, got {name!r}: give "
            "the rates to try, such as --learning-rates 0.01,0.03,0.1"
        )
    return (published[name],)


LAPTOP: dict[str, Any] = {
    "dataset": "digits", "variant": "small", "train_examples": 6000, "test_examples": 2000, "optimizer": "adam",
    "schedule": "cosine", "learning_rates": (0.0003, 0.001, 0.003, 0.01, 0.03), "epochs": 15, "checkpoints": False,
    "measured": 300, "chunk": 256,
}  # fmt: skip
"""What the preset ``laptop`` replaces."""

SMOKE: dict[str, Any] = {
    "train_examples": 60, "test_examples": 20, "learning_rates": (0.003,), "epochs": 2, "batch": 20, "draws": 2,
}  # fmt: skip
"""What the preset ``smoke`` replaces in that of ``laptop``."""
