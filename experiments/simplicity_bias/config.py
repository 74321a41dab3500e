"""Settings of ``experiments.simplicity_bias``: the published ones, and smaller ones."""

from dataclasses import dataclass

import numpy as np

from experiments.harness import Keys, Settings, option
from jaxsens.models import recognizers
from jaxsens.models.recognizers import initialization

KINDS = ("transformer", "lstm")

CURVES = ("training_accuracy", "validation_accuracy", "test_accuracy", "sensitivity", "sensitivity_sem")
"""What is measured of a model on a sparse parity during training."""

KEYS = Keys(
    "strings", "validation", "test", "probes", "weights", "order", "label_strings", "labels", "label_probes",
    "label_weights", "label_order",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings of the experiment; the defaults are the published ones, or `README.md`'s where nothing is published."""

    seed: int = option(0, "random seed for strings, labels, weights and order")
    length: int = option(40, "bits of a string of the sparse parities", at_least=1)
    relevant: int = option(4, "bits that a sparse parity reads", at_least=1)
    counts: tuple[int, ...] = option(
        (30_000, 2_500, 1_000), "training strings of the sparse parities", fewest=1, distinct=True
    )
    noises: tuple[float, ...] = option(
        (0.0, 0.05, 0.1, 0.2), "probabilities that a training label is flipped", at_least=0, below=0.5, fewest=1,
        distinct=True,
    )  # fmt: skip
    seeds: int = option(5, "sparse parities, each with its own strings and weights", at_least=1)
    rates: tuple[float, ...] = option(
        (3e-4, 1e-3, 3e-3), "learning rates to choose from, for each kind and noise", above=0, fewest=1, distinct=True
    )
    batch: int = option(500, "strings in a training step", at_least=1)
    steps: int = option(30_000, "training steps on a sparse parity", at_least=1)
    held_out: int = option(10_000, "clean strings to choose the learning rate on, and as many to test on", at_least=1)
    points: int = option(24, "epochs after which curves are measured, besides the start", at_least=1)
    label_length: int = option(40, "bits of a string with a random label", at_least=1)
    label_strings: int = option(1_000, "strings with random labels in a set", at_least=1)
    label_sets: int = option(20, "sets of strings with random labels", at_least=1)
    label_models: int = option(100, "models of each kind for a set; they take the learning rates in turn", at_least=1)
    label_rates: tuple[float, ...] = option(
        (1e-3,), "learning rates on random labels", above=0, fewest=1, distinct=True
    )
    label_batch: int = option(500, "strings in a training step on random labels", at_least=1)
    label_epochs: int = option(2_000, "largest number of passes over random labels", at_least=1)
    own_labels: str | None = option(None, "fingerprint of the labels passed to execute", flag=False)
    probes: int = option(1_000, "fresh strings that sensitivity is averaged over", at_least=1)
    heads: int = option(4, "attention heads of a transformer")
    head_size: int = option(16, "size of a query of a transformer; the width is heads times head size")
    multiplier: int = option(2, "hidden units of a transformer's MLP over its width")
    depth: int = option(2, "layers of both kinds")
    norm_first: bool = option(False, "whether transformers normalize before attention and MLP")
    scheme: str = option("xavier_uniform", "initialization of the weights", choices=tuple(initialization.SCHEMES))
    checkpoint_every: int = option(50, "epochs between checkpoints, with random labels", at_least=1, identity=False)
    rows: int = option(32, "strings in a block of a step; more on an accelerator", at_least=1, identity=False)
    models_per_device: int | None = option(
        None, "models that a device trains together; if none, 1 on a CPU, and on an accelerator as many as fit",
        at_least=1, identity=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relevant > self.length:
            raise ValueError(f"relevant must be at most the {self.length} bits of a string, got {self.relevant}")
        if self.batch > min(self.counts):
            raise ValueError(f"batch must be at most the smallest of counts, {min(self.counts)}, got {self.batch}")
        if self.label_batch > self.label_strings:
            raise ValueError(f"label_batch must be at most the {self.label_strings} strings, got {self.label_batch}")
        _ = self.transformer

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
        """Learning rates of the models on a set of random labels."""
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
