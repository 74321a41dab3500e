"""Settings of ``experiments.vision``."""

from dataclasses import dataclass, replace

from experiments.harness import option
from experiments.images.config import LAPTOP, SMOKE, TREATMENTS, ImageSettings
from jaxsens import perturb

__all__ = ["PRESETS", "Config"]


@dataclass(frozen=True, kw_only=True)
class Config(ImageSettings):
    """Settings of the experiment; the defaults are the paper's."""

    architectures: tuple[str, ...] = option(
        ("vit", "vit_patch_norm", "vit_regularized", "mlp", "mlp_sigmoid", "cnn", "convmixer"), "models to compare",
        choices=tuple(TREATMENTS), distinct=True, fewest=1,
    )  # fmt: skip
    curve_points: int = option(10, "measurements during training", at_least=1)
    curve_examples: int = option(1500, "images of each measurement during training", at_least=1)
    deviation: float = option(0.005, "standard deviation of the noise on the weights; 0.02 suits the small models")

    def __post_init__(self) -> None:
        super().__post_init__()
        perturb.gaussian(self.deviation**2)


_LAPTOP = replace(Config(), **LAPTOP, curve_points=6, curve_examples=100, deviation=0.02)

PRESETS = {
    "laptop": _LAPTOP,
    "smoke": replace(
        _LAPTOP, **SMOKE, architectures=("vit", "vit_regularized", "mlp"), seeds=2, measured=4, curve_points=2,
        curve_examples=2, sharpness_draws=2,
    ),
    "paper": Config(),
}  # fmt: skip
