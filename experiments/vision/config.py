"""Settings of ``experiments.vision``."""

from dataclasses import dataclass

from experiments.harness import option
from experiments.images.config import ImageSetting, require_count
from jaxsens import perturb

COMPARED = ("vit", "vit_patch_norm", "vit_regularised", "mlp", "mlp_sigmoid", "cnn", "convmixer")


@dataclass(frozen=True)
class Config(ImageSetting):
    """Settings of the experiment; the defaults are those of the preset ``laptop``."""

    architectures: tuple[str, ...] = option(COMPARED, "what to compare")
    curve_points: int = option(6, "measurements during training")
    curve_examples: int = option(100, "images of each")
    deviation: float = option(0.02, "of the noise on the weights; the paper's is 0.005, for larger models")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("curve_points", "curve_examples"):
            require_count(self, name)
        perturb.gaussian(self.deviation**2)


PRESETS = {
    "laptop": Config(),
    "smoke": Config(
        architectures=("vit", "vit_regularised", "mlp"), seeds=2, train_examples=60, test_examples=20,
        learning_rates=(0.003,), epochs=2, batch=20, measured=4, draws=2, curve_points=2, curve_examples=2,
        sharpness_draws=2,
    ),
    "paper": Config(
        variant="paper", train_examples=60_000, test_examples=10_000, optimiser="sgd", schedule="constant",
        learning_rates=(0.005, 0.02, 0.1, 0.2, 0.5), epochs=50, measured=15_000, curve_points=10, curve_examples=1500,
        deviation=0.005, chunk=None, checkpoints=True,
    ),
}  # fmt: skip
