"""Settings of ``experiments.vision``."""

from dataclasses import dataclass, replace

from experiments.harness import option
from experiments.images.config import LAPTOP, PUBLISHED_RATES, SMOKE, TREATMENTS, ImageSettings
from jaxsens import perturb

__all__ = ["PRESETS", "Config"]


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
    "controlled": replace(
        Config(), dataset="cifar10", seeds=5, learning_rates=(0.0003, 0.001, 0.005, 0.02, 0.1, 0.2, 0.5),
    ),
}  # fmt: skip
