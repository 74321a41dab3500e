"""Settings of ``experiments.simplicity_bias``: the published ones, and smaller ones."""

from dataclasses import dataclass

import numpy as np

from experiments.harness import option
from jaxsens.models import recognizers
from jaxsens.models.recognizers import initialization

KINDS = ("transformer", "lstm")

CURVES = ("training_accuracy", "validation_accuracy", "test_accuracy", "sensitivity", "sensitivity_sem")
"""What is measured of a model on a sparse parity, again and again."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to train; every field is also a flag."""

    seed: int = option(0, "of everything")
    length: int = option(40, "bits of a string of the sparse parities")
    relevant: int = option(4, "bits that a sparse parity reads")
    counts: tuple[int, ...] = option((30_000, 2_500, 1_000), "training strings of the sparse parities")
    noises: tuple[float, ...] = option((0.0, 0.05, 0.1, 0.2), "probabilities that a training label is flipped")
    seeds: int = option(5, "parities, each with strings and weights of its own")
    rates: tuple[float, ...] = option((3e-4, 1e-3, 3e-3), "learning rates to choose from, for each kind and noise")
    batch: int = option(500, "strings of a step")
    steps: int = option(30_000, "of training on a sparse parity")
    held_out: int = option(10_000, "clean strings to choose the learning rate on, and as many to test on")
    points: int = option(24, "epochs after which curves are measured, beside the start")
    label_length: int = option(40, "bits of a string with a random label")
    label_strings: int = option(1_000, "strings with random labels in a set")
    label_sets: int = option(20, "sets of strings with random labels")
    label_models: int = option(100, "models of each kind for a set; they go through the learning rates by turns")
    label_rates: tuple[float, ...] = option((1e-3,), "their learning rates")
    label_batch: int = option(500, "strings of a step on random labels")
    label_epochs: int = option(2_000, "passes over them, at most")
    probes: int = option(1_000, "fresh strings that sensitivity is averaged over")
    heads: int = option(4, "of a transformer")
    head_size: int = option(16, "of a transformer")
    multiplier: int = option(2, "hidden units of a transformer's MLP over its width")
    depth: int = option(2, "layers of either kind")
    norm_first: bool = option(False, "whether transformers normalise before attention and MLP")
    scheme: str = option("xavier_uniform", f"initialisation, of {', '.join(initialization.SCHEMES)}")
    checkpoint_every: int = option(50, "epochs between checkpoints, with random labels", identity=False)
    rows: int = option(32, "strings in a block of a step; many on an accelerator", identity=False)
    at_once: int = option(1, "models that a device trains at once; many on an accelerator", identity=False)

    def __post_init__(self) -> None:
        positive = (
            "length", "relevant", "seeds", "batch", "steps", "held_out", "points", "label_length", "label_strings",
            "label_sets", "label_models", "label_batch", "label_epochs", "probes", "checkpoint_every", "rows",
            "at_once",
        )  # fmt: skip
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.relevant > self.length:
            raise ValueError(f"relevant must be at most the {self.length} bits of a string, got {self.relevant}")
        for name in ("counts", "noises", "rates", "label_rates"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be one or more different numbers, got {values}")
        for name in ("rates", "label_rates"):
            if min(getattr(self, name)) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= min(self.noises) <= max(self.noises) < 0.5:
            raise ValueError(f"noises must be at least 0 and below 0.5, where labels say nothing, got {self.noises}")
        if self.batch > min(self.counts):
            raise ValueError(f"batch must be at most the smallest of counts, {min(self.counts)}, got {self.batch}")
        if self.label_batch > self.label_strings:
            raise ValueError(f"label_batch must be at most the {self.label_strings} strings, got {self.label_batch}")
        if self.scheme not in initialization.SCHEMES:
            raise ValueError(f"scheme must be one of {sorted(initialization.SCHEMES)}, got {self.scheme!r}")
        self.transformer  # noqa: B018  its own checks

    @property
    def transformer(self) -> recognizers.Config:
        """The configuration of the transformers."""
        return recognizers.Config(
            depth=self.depth, heads=self.heads, head_size=self.head_size, multiplier=self.multiplier,
            norm_first=self.norm_first,
        )  # fmt: skip

    def epochs(self, count: int) -> int:
        """Return how many passes over ``count`` strings the steps are, rounded up."""
        return -(-self.steps // -(-count // self.batch))

    @property
    def settings(self) -> list[tuple[float, float]]:
        """Noise and learning rate of every model of a kind that learns a seed's parity."""
        return [(noise, rate) for noise in self.noises for rate in self.rates]

    @property
    def label_rates_by_model(self) -> list[float]:
        """Learning rates of the models on a set of random labels: the grid by turns."""
        return [self.label_rates[number % len(self.label_rates)] for number in range(self.label_models)]

    def measured(self, count: int) -> np.ndarray:
        """Return after which epochs curves are measured: 0, and at equal ratios from the first to the last."""
        ratios = np.geomspace(1, self.epochs(count), self.points)
        return np.unique(np.append(0, np.round(ratios).astype(int)))


PRESETS = {
    "laptop": Config(
        relevant=2, counts=(4_000,), seeds=3, rates=(1e-3,), batch=32, steps=9_375,
        held_out=500, points=10, label_strings=250, label_sets=6, label_models=1, label_rates=(3e-3,), label_batch=25,
        label_epochs=600, probes=100, heads=2, head_size=8, norm_first=True,
    ),
    "smoke": Config(
        length=16, relevant=2, counts=(32,), noises=(0.0, 0.1, 0.2), seeds=3, rates=(1e-3, 1e-2), batch=8, steps=160,
        held_out=32, points=3, label_length=16, label_strings=32, label_sets=3, label_models=2, label_rates=(1e-2,),
        label_batch=8, label_epochs=200, probes=32, heads=2, head_size=4, depth=1, norm_first=True, rows=8,
    ),
    "paper": Config(),
}  # fmt: skip
