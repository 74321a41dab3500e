"""Settings of ``experiments.robustness``."""

from dataclasses import dataclass, replace

from experiments.harness import option
from experiments.images.config import (
    LAPTOP,
    PUBLISHED_RATES,
    REGULARIZED,
    SETTINGS,
    SMOKE,
    TREATMENTS,
    ImageSettings,
    Intervention,
)
from experiments.images.labels import INTERVENTIONS, split_name
from jaxsens import corruptions, perturb, training

__all__ = ["PRESETS", "Config"]

AUGMENTED_RATE = 0.2
"""The learning rate of the augmented ViT on CIFAR-10 (Vasudeva et al., s.7.1)."""


@dataclass(frozen=True, kw_only=True)
class Config(ImageSettings):
    """Settings of the experiment; the defaults are the paper's where it states them."""

    dataset: str = option("cifar10", f"one of {', '.join(SETTINGS)}", choices=tuple(SETTINGS))
    architectures: tuple[str, ...] = option(
        ("vit_small_data", "vit_simple", "resnet", "densenet"), "models to train, each in all ways",
        choices=[name for name in TREATMENTS if not name.endswith((REGULARIZED, "_dropout"))], distinct=True, fewest=1,
    )  # fmt: skip
    treatments: tuple[str, ...] = option(
        ("regularized", "augmented", "mixup", "weight_decay"), "ways to train the models, beside the plain one",
        choices=tuple(INTERVENTIONS), distinct=True,
    )  # fmt: skip
    reference: str | None = option(
        None, "model that relative corruption errors are relative to; the first architecture, trained plainly, if none"
    )
    seeds: int = option(1, "trained models of each architecture and treatment", at_least=1)
    learning_rates: tuple[float, ...] = option(
        (), "learning rates to try with every model and treatment; the published ones if none", above=0, distinct=True
    )
    shared_rate: bool = option(
        False, "whether treatments take the best rate of the plain training, which saves their search: they are not "
        "judged then",
    )  # fmt: skip
    strength: float = option(0.25, "weight of the sensitivity regularizer", above=0, below=1)
    regularizer_variance: float = option(1.0, "variance of the noise of the sensitivity regularizer", above=0)
    augmentation_variance: float = option(0.1, "variance of the noise of Gaussian augmentation", above=0)
    mixup: float = option(0.2, "parameter of the Beta distribution of mixup", above=0)
    weight_decay: float = option(0.0005, "weight decay: of SGD, or decoupled of AdamW in the place of Adam", above=0)
    dropout: float = option(0.2, "rate of dropout", above=0, below=1)
    corruptions: tuple[str, ...] = option(
        corruptions.COMMON, "corruptions of the images", choices=corruptions.NAMES, distinct=True, fewest=1
    )
    severities: tuple[int, ...] = option(
        (1, 2, 3, 4, 5), "their severities, of 1 to 5", at_least=1, below=6, rising=True, fewest=1
    )
    corrupted: int = option(10_000, "test images that are corrupted", at_least=2)
    deviation: float = option(0.005, "standard deviation of the noise on the weights", at_least=0)
    second_dataset: str | None = option(
        None, "data set that a linear probe of every model is fitted to; none by default"
    )
    probe_examples: int = option(2000, "training images of the probes", at_least=10)
    tolerance: float = option(
        0.02, "difference of clean accuracies up to which a control is compared with a treatment", above=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        perturb.gaussian(self.deviation**2)

    @property
    def constants(self) -> str:
        """The benchmark whose constants the corruptions have."""
        return "imagenet" if self.dataset == "imagenet2012" else "cifar10"

    @property
    def interventions(self) -> dict[str, Intervention]:
        """What changes in training, by the name of the treatment."""
        consistency = training.NoiseConsistency(variance=self.regularizer_variance, strength=self.strength)
        every = {
            "regularized": Intervention(consistency),
            "augmented": Intervention(training.GaussianAugmentation(self.augmentation_variance)),
            "mixup": Intervention(training.Mixup(self.mixup)),
            "weight_decay": Intervention(weight_decay=self.weight_decay),
            "dropout": Intervention(dropout=self.dropout),
        }
        return {name: every[name] for name in self.treatments}

    def rates(self, name: str) -> tuple[float, ...]:
        """Return the learning rates to try: those of the plain training, if the paper states none for a treatment."""
        plain, treatment = split_name(name)
        if (
            not self.learning_rates
            and (self.dataset, treatment) == ("cifar10", "augmented")
            and plain.startswith("vit")
        ):
            return (AUGMENTED_RATE,)
        stated = name in PUBLISHED_RATES.get(self.dataset, {})
        return super().rates(name if stated else plain)

    def searched(self, name: str) -> str:
        """Return the model whose search chooses the rate of a model: itself, or the plain one of a shared rate."""
        return split_name(name)[0] if self.learning_rates and self.shared_rate else name


_LAPTOP = replace(
    Config(),
    **LAPTOP
    | {
        "dataset": "cifar10", "train_examples": 4000, "test_examples": 2000, "epochs": 6, "measured": 100,
        "learning_rates": (0.001, 0.003, 0.01), "added_rates": 2,
    },
    architectures=("vit", "mlp", "cnn", "convmixer"), treatments=("regularized", "augmented", "mixup"), seeds=3,
    draws=2, weight_decay=0.3, corrupted=200, deviation=0.02, sharpness_draws=10,
)  # fmt: skip

PRESETS = {
    "laptop": _LAPTOP,
    "smoke": replace(
        _LAPTOP, **SMOKE | {"dataset": "digits"}, architectures=("mlp",), treatments=("regularized", "mixup"), seeds=3,
        measured=4, corruptions=("gaussian_noise", "contrast"), severities=(1, 5), corrupted=20, sharpness_draws=2,
    ),
    "paper": Config(),
}  # fmt: skip
