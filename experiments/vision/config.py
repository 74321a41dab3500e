"""Settings of ``experiments.vision``."""

from dataclasses import dataclass, replace

from experiments import harness
from experiments.harness import option
from experiments.images.config import CHANGES, LAPTOP, PUBLISHED_RATES, SMOKE, TREATMENTS, ImageSettings
from jaxsens import perturb

__all__ = ["KEYS", "PRESETS", "Config"]

KEYS = harness.Keys("noise")
"""Keys of trained models on disk; those of models that are trained are `images.bench.Bench.key`."""


@dataclass(frozen=True, kw_only=True)
class Config(ImageSettings):
    """Settings of the experiment; the defaults are the paper's."""

    architectures: tuple[str, ...] = option(
        (), "models to compare; those that the paper has on the data set if none", choices=tuple(TREATMENTS),
        distinct=True,
    )  # fmt: skip
    seeds: int = option(1, "trained models of each architecture", at_least=1)
    learning_rates: tuple[float, ...] = option(
        (), "learning rates to try; the published one of each model if none", above=0, distinct=True
    )
    curve_points: int = option(10, "measurements during training", at_least=1)
    curve_examples: int = option(1500, "images of each measurement during training", at_least=1)
    deviation: float = option(0.005, "standard deviation of the noise on the weights; 0.02 suits the small models")
    matched: bool = option(False, "whether to compare sensitivity at equal training and at equal test accuracy")
    test_images: bool = option(False, "whether to measure sensitivity on test images, too")
    variances: tuple[float, ...] = option((), "other variances of the noise on a patch", above=0, distinct=True)
    squares: tuple[int, ...] = option(
        (), "other sides of the squares that get noise, in pixels; the model's patches stay", at_least=1, distinct=True
    )
    whole_variances: tuple[float, ...] = option((), "variances of noise on the whole image", above=0, distinct=True)

    pretrained: bool = option(False, "whether to compare trained models on disk in place of training")
    weights: tuple[str, ...] = option((), "folders of their weights, in the order of architectures", identity=False)
    image_folder: str | None = option(None, "folder of class folders that they see", identity=False)
    sites_drawn: int | None = option(
        None, "patches of an image that get noise, drawn at random; for trained models on disk", at_least=1
    )
    workers: int | None = option(
        None, "processes that decode the images of a folder; all cores if none", at_least=0, identity=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        perturb.gaussian(self.deviation**2)
        if not self.architectures and self.dataset not in PUBLISHED_RATES:
            raise ValueError(
                f"architectures is empty, and the paper trains none on {self.dataset}: give some of "
                f"{', '.join(TREATMENTS)}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The models to compare."""
        return self.architectures or tuple(PUBLISHED_RATES[self.dataset])


SMALL = ("vit", "vit_patch_norm", "vit_regularized", "mlp", "mlp_sigmoid", "cnn", "convmixer")
"""The models of the preset ``laptop``."""

_LAPTOP = replace(Config(), **LAPTOP, architectures=SMALL, seeds=3, curve_points=6, curve_examples=100, deviation=0.02)

PRESETS = {
    "laptop": _LAPTOP,
    "smoke": replace(
        _LAPTOP, **SMOKE, architectures=("vit", "vit_regularized", "mlp"), seeds=2, measured=4, curve_points=2,
        curve_examples=2, sharpness_draws=2,
    ),
    "paper": Config(),
    "imagenet": replace(
        Config(), dataset="imagenet2012", pretrained=True, architectures=("vit_imagenet", "convnext"), measured=20_000
    ),
    "controlled": replace(
        Config(), dataset="cifar10", seeds=5, learning_rates=(0.0003, 0.001, 0.005, 0.02, 0.1, 0.2, 0.5),
        architectures=(*PUBLISHED_RATES["cifar10"], *(f"vit_small_data_{one}" for one in CHANGES if one != "sgd")),
        matched=True, test_images=True, variances=(0.25, 4.0), squares=(2, 8), whole_variances=(0.025,),
    ),
}  # fmt: skip
