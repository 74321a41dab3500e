"""Settings of ``experiments.flatness``."""

from dataclasses import dataclass

from experiments.harness import option
from experiments.images.config import REGULARISED, TREATMENTS, ImageSetting, require_count
from jaxsens import perturb

COMPARED = ("vit_dropout", "mlp", "cnn", "convmixer")


@dataclass(frozen=True)
class Config(ImageSetting):
    """Settings of the experiment; the defaults are those of the preset ``laptop``."""

    architectures: tuple[str, ...] = option(COMPARED, "what to train, plain and with the sensitivity regulariser")
    seeds: int = option(4, "trained models of each architecture and treatment")
    deviations: tuple[float, ...] = option((0.005, 0.05), "of the noise on the weights, in their units")
    relative_deviation: float = option(0.1, "of the noise on the weights, relative to their size")
    radius: float = option(0.2, "of the ball of worst cases in l2")
    relative_radius: float = option(0.5, "of that in l2 relative to every weight")
    box: float = option(0.001, "of the ball of worst cases in l-infinity")
    relative_box: float = option(0.01, "of that in l-infinity relative to every weight")
    group: int = option(100, "images that share a worst case")
    iterations: int = option(20, "gradients to find it")
    probes: int = option(30, "random vectors for the trace of the Hessian")
    lanczos_steps: int = option(
        50, "products for its top eigenvalue, and for each random vector of its spectral density"
    )
    density_probes: int = option(2, "random vectors for the spectral density")
    tolerance: float = option(0.01, "of the top eigenvalue, relative")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("group", "iterations", "probes", "lanczos_steps", "density_probes"):
            require_count(self, name)
        if again := [name for name in self.architectures if TREATMENTS[name].regularised]:
            raise ValueError(f"architectures are trained plain and regularised: give {again} without {REGULARISED!r}")
        if self.measured % self.group:
            raise ValueError(f"group must divide measured, {self.measured}, got {self.group}")
        if not self.deviations or len({f"{d:g}" for d in self.deviations}) < len(self.deviations):
            raise ValueError(f"deviations must be some that differ within six digits, got {self.deviations}")
        for deviation in (*self.deviations, self.relative_deviation):
            perturb.gaussian(deviation**2)
        for name in ("radius", "relative_radius", "box", "relative_box", "tolerance"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def treatments(self) -> tuple[str, ...]:
        """Every architecture as it is, and regularised."""
        return tuple(name + suffix for name in self.architectures for suffix in ("", REGULARISED))


PRESETS = {
    "laptop": Config(),
    "smoke": Config(
        architectures=("vit_dropout", "mlp"), seeds=3, train_examples=60, test_examples=20, learning_rates=(0.003,),
        epochs=2, batch=20, measured=8, draws=2, sharpness_draws=3, group=4, iterations=3, probes=3, lanczos_steps=4,
        density_probes=1,
    ),
    "paper": Config(
        variant="paper", train_examples=60_000, test_examples=10_000, optimiser="sgd", schedule="constant",
        learning_rates=(0.005, 0.02, 0.1, 0.2, 0.5), epochs=50, measured=10_000, chunk=None, checkpoints=True,
        probes=100, lanczos_steps=100,
    ),
}  # fmt: skip
