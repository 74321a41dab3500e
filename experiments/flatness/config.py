"""Settings of ``experiments.flatness``."""

from dataclasses import dataclass, replace

from experiments.harness import option
from experiments.images.config import LAPTOP, REGULARIZED, SETTINGS, SMOKE, TREATMENTS, ImageSettings
from jaxsens import perturb

__all__ = ["PRESETS", "Config"]


@dataclass(frozen=True, kw_only=True)
class Config(ImageSettings):
    """Settings of the experiment; the defaults are the paper's where it states them."""

    dataset: str = option("cifar10", f"one of {', '.join(SETTINGS)}", choices=tuple(SETTINGS))
    architectures: tuple[str, ...] = option(
        ("vit_dropout", "mlp", "cnn", "convmixer"), "models to train, plain and with the sensitivity regularizer",
        choices=tuple(name for name in TREATMENTS if not name.endswith(REGULARIZED)), distinct=True, fewest=1,
    )  # fmt: skip
    seeds: int = option(4, "trained models of each architecture, plain and regularized", at_least=1)
    measured: int = option(10_000, "training images that everything is measured on", at_least=1)
    deviations: tuple[float, ...] = option(
        (0.005, 0.05), "standard deviations of the noise on the weights", at_least=0, distinct=True, fewest=1
    )
    relative_deviation: float = option(0.1, "standard deviation of the noise relative to the weights", at_least=0)
    radius: float = option(0.2, "radius of the l2 ball of the worst case", at_least=0)
    relative_radius: float = option(0.5, "radius of the l2 ball relative to each weight", at_least=0)
    box: float = option(0.001, "radius of the l-infinity ball of the worst case", at_least=0)
    relative_box: float = option(0.01, "radius of the l-infinity ball relative to each weight", at_least=0)
    group: int = option(100, "images that share a worst case", at_least=1)
    iterations: int = option(20, "gradients to find the worst case", at_least=1)
    probes: int = option(100, "random vectors for the trace of the Hessian", at_least=1)
    lanczos_steps: int = option(
        100, "Hessian products for the top eigenvalue, and for each random vector of the spectral density", at_least=1
    )
    density_probes: int = option(2, "random vectors for the spectral density", at_least=1)
    tolerance: float = option(0.01, "relative tolerance of the top eigenvalue", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.measured % self.group:
            raise ValueError(f"group must divide measured, {self.measured}, got {self.group}")
        for deviation in (*self.deviations, self.relative_deviation):
            perturb.gaussian(deviation**2)


_LAPTOP = replace(Config(), **LAPTOP, probes=30, lanczos_steps=50)

PRESETS = {
    "laptop": _LAPTOP,
    "smoke": replace(
        _LAPTOP, **SMOKE, architectures=("vit_dropout", "mlp"), seeds=3, measured=8, sharpness_draws=3, group=4,
        iterations=3, probes=3, lanczos_steps=4, density_probes=1,
    ),
    "paper": Config(),
}  # fmt: skip
