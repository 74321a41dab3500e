"""Settings of the experiment."""

from dataclasses import dataclass

from experiments.harness import Keys, Settings, option
from jaxsens.models import recognizers

KEYS = Keys("bound", "influence", "blow-up", "count", "string", "perturbed")

ENCODINGS = ("sinusoidal", "none")
"""Position encodings. The slowest sinusoid of D numbers turns once in about 6 * 10^(4 - 8/D) bits, so that attention
still changes with N far beyond the lengths that can be measured; without encodings it does not."""


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What to measure."""

    seed: int = option(0, "random seed for weights and strings", at_least=0)
    models: int = option(200, "random models of each setting; for blow-ups see draws", at_least=1)
    heads: int = option(4, "heads of all random models", at_least=1)
    bound_epsilons: tuple[float, ...] = option(
        (1e-5, 1e-2, 1.0), "epsilons of normalization for the bound of the blow-up", above=0, fewest=1
    )
    bound_depths: tuple[int, ...] = option((1, 2, 4), "layers for the bound of the blow-up", at_least=1, fewest=1)
    bound_length: int = option(64, "bits of a string for the bound of the blow-up", at_least=1)
    strings: int = option(10, "strings of a model and length, for the bound and the influences", at_least=1)
    depth: int = option(2, "layers of the models of which influences are measured", at_least=1)
    width: int = option(16, "width D of these models and of those for the bound", at_least=1)
    half_widths: tuple[float, ...] = option(
        (0.125, 0.25, 0.5, 1.0), "a of the parameter space [-a, a]^M for influences", above=0, fewest=1
    )
    epsilons: tuple[float, ...] = option((1e-5, 1e-1), "epsilons of normalization for influences", above=0, fewest=1)
    encodings: tuple[str, ...] = option(
        ENCODINGS, "position encodings for influences; none is measured with the last epsilon only",
        choices=ENCODINGS, fewest=1,
    )  # fmt: skip
    lengths: tuple[int, ...] = option(
        (8, 16, 32, 64, 128, 256, 512, 1024, 2048), "bits of the strings for influences",
        at_least=1, rising=True, fewest=2,
    )  # fmt: skip
    tail: int = option(3, "number of longest lengths that late slopes are fitted on", at_least=2)
    margin_epsilons: tuple[float, ...] = option((0.0, 1e-4, 1e-2), "epsilons of constructions", at_least=0, fewest=1)
    margin_lengths: tuple[int, ...] = option(
        (4, 8, 10, 16, 64, 256, 1024, 4096), "bits of the strings of constructions", at_least=1, rising=True, fewest=2
    )
    margins: tuple[float, ...] = option(
        (0.1, 0.5), "margins that constructions should keep, in logits; with epsilon = 0 they have 1", above=0, fewest=1
    )
    shapes: tuple[tuple[int, int], ...] = option(
        ((1, 4), (1, 5), (1, 6), (2, 6), (2, 8)), "(layers, D) of blow-ups", flag=False
    )
    zeta: float = option(0.9, "exponent zeta in the threshold of blow-ups", below=1)
    radius: float = option(0.5, "half width of the perturbation of weights for blow-ups", above=0)
    centers: int = option(
        50, "centers (embedding, string, center of perturbation) of each setting and length, for blow-ups", at_least=1
    )
    draws: int = option(1000, "draws of weights around each center", at_least=1)
    blow_up_lengths: tuple[int, ...] = option(
        (8, 16, 32, 64, 128, 256, 512), "bits of the strings for blow-ups", at_least=1, rising=True, fewest=2
    )
    count_shapes: tuple[tuple[int, int], ...] = option(
        ((1, 16), (1, 24), (2, 8), (2, 32)), "(layers, D) of the models for counts", flag=False
    )
    exhaustive_lengths: tuple[int, ...] = option(
        (4, 6, 8, 10, 12, 14, 16), "lengths at which all strings are counted, at most 20 bits",
        at_least=1, below=21, rising=True, fewest=2,
    )  # fmt: skip
    sampled_lengths: tuple[int, ...] = option(
        (24, 32, 48, 64, 100, 200), "lengths at which strings are sampled", at_least=1, rising=True, fewest=2
    )
    sampled_strings: int = option(10_000, "strings sampled for each model and length", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exhaustive_lengths[-1] >= self.sampled_lengths[0]:
            raise ValueError(
                f"exhaustive_lengths must be shorter than sampled_lengths = {self.sampled_lengths}, "
                f"got {self.exhaustive_lengths}"
            )
        if self.tail > (most := min(len(self.lengths), len(self.margin_lengths))):
            raise ValueError(f"tail must be at most {most}, the number of lengths, got {self.tail}")
        for depth, width in self.shapes:
            if not 2 * depth / (width - 1) < self.zeta:
                raise ValueError(
                    f"zeta must be above 2L / (D - 1) = {2 * depth / (width - 1):.3g} for shape {(depth, width)}, "
                    f"got {self.zeta}"
                )

    def architecture(self, depth: int, width: int, epsilon: float) -> recognizers.Config:
        """Return a recognizer in the block of the paper, with square MLPs as in its s.2.2."""
        return recognizers.Config(
            block="paper", depth=depth, heads=self.heads, head_size=width, multiplier=1, epsilon=epsilon
        )

    @property
    def influence_settings(self) -> list[tuple[str, float]]:
        """The encodings and epsilons of the models of which influences are measured."""
        return [(e, epsilon) for e in self.encodings for epsilon in self.epsilons[0 if e == "sinusoidal" else -1 :]]


PRESETS = {
    "laptop": Config(
        models=40, heads=2, strings=2, width=8, half_widths=(0.25, 0.5, 1.0), lengths=(8, 16, 32, 64, 128, 256, 512),
        margin_lengths=(4, 10, 32, 64, 128, 256, 512), shapes=((1, 4), (1, 5), (2, 6)), centers=20, draws=400,
        blow_up_lengths=(8, 16, 32, 64, 128), count_shapes=((1, 16), (2, 8)), exhaustive_lengths=(4, 6, 8, 10, 12),
        sampled_lengths=(16, 32, 64, 100), sampled_strings=200,
    ),
    "smoke": Config(
        models=4, heads=2, strings=2, width=4, bound_epsilons=(1e-2,), bound_depths=(2,), bound_length=6,
        half_widths=(0.5,), epsilons=(1e-2,), encodings=("none",), lengths=(4, 8), tail=2,
        margin_epsilons=(0.0, 1e-2), margin_lengths=(4, 12), margins=(0.5,), shapes=((1, 4),), centers=4, draws=100,
        blow_up_lengths=(4, 8), count_shapes=((1, 13),), exhaustive_lengths=(3, 4), sampled_lengths=(6, 8),
        sampled_strings=20,
    ),
    "paper": Config(),
}  # fmt: skip
