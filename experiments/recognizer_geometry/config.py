"""Settings of ``experiments.recognizer_geometry``."""

from dataclasses import dataclass

import jax

from experiments.harness import option
from jaxsens.models import recognizers
from jaxsens.typing import Key

PURPOSES = ("bound", "influence", "blow-up", "count", "string", "perturbed")
"""What random numbers are for: each has its own key."""


ENCODINGS = ("sinusoidal", "none")
"""Of positions. The slowest sinusoid of D numbers turns once in about 6 * 10^(4 - 8/D) bits, so that attention goes on
changing with N far beyond the lengths that can be measured; without encodings it does not."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment; the defaults are those of the preset ``laptop``."""

    seed: int = option(0, "of everything")
    models: int = option(40, "random models of each setting; for blow-ups see draws")
    heads: int = option(2, "of all random models")
    bound_epsilons: tuple[float, ...] = option((1e-5, 1e-2, 1.0), "for the bound of the blow-up")
    bound_depths: tuple[int, ...] = option((1, 2, 4), "layers, for the bound of the blow-up")
    bound_length: int = option(64, "bits, for the bound of the blow-up")
    strings: int = option(2, "strings of a model and length, for the bound and the influences")
    depth: int = option(2, "layers of the models whose influences are measured")
    width: int = option(8, "their D, and that of the bound's")
    half_widths: tuple[float, ...] = option((0.25, 0.5, 1.0), "a of their parameter space [-a, a]^M")
    epsilons: tuple[float, ...] = option((1e-5, 1e-1), "of their layer normalisation")
    encodings: tuple[str, ...] = option(ENCODINGS, "of their positions; but sinusoidal, for the last epsilon alone")
    lengths: tuple[int, ...] = option((8, 16, 32, 64, 128, 256, 512), "at which influences are measured")
    tail: int = option(3, "longest lengths that late slopes are fitted on")
    margin_epsilons: tuple[float, ...] = option((0.0, 1e-4, 1e-2), "of the constructions")
    margin_lengths: tuple[int, ...] = option((4, 10, 32, 64, 128, 256, 512), "at which they are evaluated")
    margins: tuple[float, ...] = option((0.1, 0.5), "that they should keep, in logits; without epsilon they have 1")
    shapes: tuple[tuple[int, int], ...] = option(((1, 4), (1, 5), (2, 6)), "(layers, D) of blow-ups", flag=False)
    zeta: float = option(0.9, "in the threshold of blow-ups")
    radius: float = option(0.5, "of the perturbation of weights whose blow-ups are counted")
    centres: int = option(20, "embeddings, strings and centres of perturbation for blow-ups, a length and setting")
    draws: int = option(400, "weights drawn for each of these")
    blow_up_lengths: tuple[int, ...] = option((8, 16, 32, 64, 128), "at which blow-ups are counted")
    count_shapes: tuple[tuple[int, int], ...] = option(((1, 16), (2, 8)), "(layers, D) of counts", flag=False)
    exhaustive_lengths: tuple[int, ...] = option((4, 6, 8, 10, 12), "at which all strings are evaluated")
    sampled_lengths: tuple[int, ...] = option((16, 32, 64, 100), "at which a sample of them is")
    sampled_strings: int = option(200, "strings of that sample, for each model and length")

    def __post_init__(self) -> None:
        for name in (
            "models",
            "heads",
            "strings",
            "depth",
            "width",
            "bound_length",
            "centres",
            "draws",
            "sampled_strings",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lengths", "margin_lengths", "blow_up_lengths", "exhaustive_lengths", "sampled_lengths"):
            found = getattr(self, name)
            if len(found) < 2 or list(found) != sorted(set(found)) or found[0] < 1:
                raise ValueError(f"{name} must be two or more rising positive numbers of bits, got {found}")
        if max(self.exhaustive_lengths) > 20 or self.exhaustive_lengths[-1] >= self.sampled_lengths[0]:
            raise ValueError(
                f"exhaustive_lengths must be at most 20 bits, and shorter than sampled_lengths = "
                f"{self.sampled_lengths}, got {self.exhaustive_lengths}"
            )
        if not 2 <= self.tail <= min(len(self.lengths), len(self.margin_lengths)):
            raise ValueError(f"tail must be from 2 to the number of lengths, got {self.tail}")
        for name in ("bound_epsilons", "epsilons", "half_widths", "margins"):
            if not getattr(self, name) or min(getattr(self, name)) <= 0:
                raise ValueError(f"{name} must be positive, and at least one, got {getattr(self, name)}")
        if not self.margin_epsilons or min(self.margin_epsilons) < 0 or self.radius <= 0:
            raise ValueError(
                f"margin_epsilons must be at least 0 and radius positive, got {self.margin_epsilons}, {self.radius}"
            )
        if not self.encodings or not set(self.encodings) <= set(ENCODINGS):
            raise ValueError(f"encodings must be some of {', '.join(ENCODINGS)}, got {self.encodings}")
        for depth, width in self.shapes:
            if not 2 * depth / (width - 1) < self.zeta < 1:
                raise ValueError(
                    f"zeta must lie strictly between 2L / (D - 1) = {2 * depth / (width - 1):.3g} and 1 for shape "
                    f"{(depth, width)}, got {self.zeta}"
                )

    def architecture(self, depth: int, width: int, epsilon: float) -> recognizers.Config:
        """Return a recognizer in the block of the paper, with square MLPs as in its s.2.2."""
        return recognizers.Config(
            block="paper", depth=depth, heads=self.heads, head_size=width, multiplier=1, epsilon=epsilon
        )

    @property
    def normalised(self) -> list[tuple[str, float]]:
        """The encodings and epsilons of the models whose influences are measured."""
        return [(e, epsilon) for e in self.encodings for epsilon in self.epsilons[0 if e == "sinusoidal" else -1 :]]

    def key(self, purpose: str, *indices: int) -> Key:
        """Return the key of a purpose, folded by indices."""
        key = jax.random.fold_in(jax.random.key(self.seed), PURPOSES.index(purpose))
        for index in indices:
            key = jax.random.fold_in(key, index)
        return key


PRESETS = {
    "laptop": Config(),
    "smoke": Config(
        models=4, strings=2, width=4, bound_epsilons=(1e-2,), bound_depths=(2,), bound_length=6, half_widths=(0.5,),
        epsilons=(1e-2,), encodings=("none",), lengths=(4, 8), tail=2,
        margin_epsilons=(0.0, 1e-2), margin_lengths=(4, 12), margins=(0.5,), shapes=((1, 4),), centres=4, draws=100,
        blow_up_lengths=(4, 8), count_shapes=((1, 13),), exhaustive_lengths=(3, 4), sampled_lengths=(6, 8),
        sampled_strings=20,
    ),
    "paper": Config(
        models=200, strings=10, width=16, heads=4, half_widths=(0.125, 0.25, 0.5, 1.0),
        lengths=(8, 16, 32, 64, 128, 256, 512, 1024, 2048), margin_lengths=(4, 8, 10, 16, 64, 256, 1024, 4096),
        shapes=((1, 4), (1, 5), (1, 6), (2, 6), (2, 8)), centres=50, draws=1000,
        blow_up_lengths=(8, 16, 32, 64, 128, 256, 512),
        count_shapes=((1, 16), (1, 24), (2, 8), (2, 32)), exhaustive_lengths=(4, 6, 8, 10, 12, 14, 16),
        sampled_lengths=(24, 32, 48, 64, 100, 200), sampled_strings=10_000,
    ),
}  # fmt: skip
