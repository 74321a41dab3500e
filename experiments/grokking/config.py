"""Settings of ``experiments.grokking``: the published ones, and smaller ones."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.harness import Keys, Settings, option
from jaxsens.data.modular_addition import ModularAddition
from jaxsens.models import pair_transformer, recognizers

ARCHITECTURES = ("published", "standard")

TREATMENTS = ("none", "penalty", "noise")

KEYS = Keys("split", "weights", "steps", "measure", "parity_strings", "parity_weights", "parity_order", "parity_probes")


class Group(NamedTuple):
    """What is trained together: one model for each seed.

    Attributes:
        architecture: One of ``ARCHITECTURES``.
        treatment: One of ``TREATMENTS``: cross-entropy; with a penalty on noise stability; or with cross-entropy on the
            same noisy copies in the place of the penalty.
        decay: Weight decay of AdamW.
    """

    architecture: str
    treatment: str
    decay: float

    @property
    def name(self) -> str:
        """The name of its unit."""
        return f"{self.architecture}-{self.treatment}-{self.decay:g}"


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings of the experiment; the defaults are the published ones, or `README.md`'s where nothing is published."""

    seed: int = option(0, "random seed for splits, weights, learning rates and noise")
    modulus: int = option(113, "modulus of the addition, odd", at_least=5)
    fraction: float = option(0.3, "fraction of all pairs that is learned", above=0, below=1)
    seeds: int = option(10, "models of each group, each with its own split, weights and learning rate", at_least=1)
    epochs: int = option(20_000, "steps with all examples", at_least=1)
    every: int = option(100, "epochs between two measurements", at_least=1)
    rates: tuple[float, ...] = option(
        (0.0007, 0.0014), "range that every seed draws its learning rate from; published: 0.001", above=0, fewest=2
    )
    decay: float = option(1.0, "weight decay of AdamW", at_least=0)
    decays: tuple[float, ...] = option(
        (0.5, 1.0, 2.0), "weight decays at which the penalty is compared; the first group has --decay", at_least=0,
        distinct=True,
    )  # fmt: skip
    architectures: tuple[str, ...] = option(
        ARCHITECTURES, "without residual connections and normalization, as published, or with both",
        choices=ARCHITECTURES, fewest=1, distinct=True,
    )  # fmt: skip
    treatments: tuple[str, ...] = option(
        ("penalty", "noise"), "what the published architecture is trained with besides", choices=TREATMENTS[1:],
        distinct=True,
    )  # fmt: skip
    width: int = option(128, "width of the transformer", at_least=1)
    heads: int = option(4, "attention heads", at_least=1)
    hidden: int = option(512, "hidden units of the MLP", at_least=1)
    noise: float = option(0.1, "standard deviation of the noise on embeddings of numbers", above=0)
    draws: int = option(1, "noises of each token of an example", at_least=1)
    weight_noise: float = option(0.005, "standard deviation of the noise on weights", above=0)
    weight_draws: int = option(2, "noises on weights", at_least=1)
    frequencies: int = option(5, "key frequencies of the restricted and the excluded loss", at_least=1)
    rho: float = option(0.9, "correlation of the noisy copies, of the measure and of the penalty", at_least=0, below=1)
    strength: float = option(0.25, "weight of the penalty, or of the noisy copies", above=0, below=1)
    smoothing: int = option(5_000, "epochs of the published trailing mean of the test accuracy", at_least=1)
    parity_length: int = option(40, "bits of a string of the sparse parity", at_least=1)
    parity_relevant: int = option(4, "bits that the sparse parity reads", at_least=1)
    parity_strings: int = option(50_000, "training strings of the sparse parity", at_least=1)
    parity_batch: int = option(250, "strings in a training step", at_least=1)
    parity_epochs: int = option(1_000, "passes over the strings", at_least=1)
    parity_rate: float = option(0.001, "learning rate of Adam on the sparse parity", above=0)
    parity_seeds: int = option(
        3, "models on the sparse parity, each with its own bits, strings and weights", at_least=1
    )
    parity_probes: int = option(100_000, "fresh strings that sensitivity and test accuracy are taken on", at_least=2)
    parity_points: int = option(40, "epochs after which models on the parity are measured, besides the start")
    parity_heads: int = option(4, "attention heads of a recognizer", at_least=1)
    parity_head_size: int = option(8, "size of a query of a recognizer", at_least=1)
    parity_depth: int = option(2, "layers of a recognizer", at_least=1)
    rows: int = option(50, "strings of the parity in a block of a step", at_least=1, identity=False)
    models_per_device: int | None = option(
        None, "models that a device trains together; if none, 1 on a CPU, and on an accelerator as many as fit",
        at_least=1, identity=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modulus % 2 == 0:
            raise ValueError(f"modulus must be odd, got {self.modulus}")
        if self.epochs % self.every:
            raise ValueError(f"every must divide the {self.epochs} epochs, got {self.every}")
        if len(self.rates) != 2 or self.rates[0] > self.rates[1]:
            raise ValueError(f"rates must be the smallest and the largest learning rate, got {self.rates}")
        if self.frequencies > self.modulus // 2:
            raise ValueError(f"frequencies must be at most {self.modulus // 2}, got {self.frequencies}")
        if self.parity_relevant > self.parity_length or self.parity_batch > self.parity_strings:
            raise ValueError(
                f"parity_relevant must be at most parity_length = {self.parity_length}, and parity_batch at most "
                f"parity_strings = {self.parity_strings}, got {self.parity_relevant} and {self.parity_batch}"
            )
        for architecture in self.architectures:
            self.module(architecture)

    @property
    def task(self) -> ModularAddition:
        """All pairs and their sums."""
        return ModularAddition(self.modulus)

    def module(self, architecture: str) -> pair_transformer.Config:
        """Return the configuration of an architecture."""
        both = architecture == "standard"
        return pair_transformer.Config(
            numbers=self.modulus, width=self.width, heads=self.heads, hidden=self.hidden, residual=both, normalized=both
        )

    @property
    def groups(self) -> list[Group]:
        """All groups: the architectures, then the treatments of the published one with their controls."""
        groups = [Group(architecture, "none", self.decay) for architecture in self.architectures]
        for decay in self.decays if self.treatments else ():
            groups += [Group("published", treatment, decay) for treatment in ("none", *self.treatments)]
        return list(dict.fromkeys(groups))

    def learning_rates(self) -> np.ndarray:
        """Return the learning rate of every seed ``[seeds]``, log-uniform in the range; all groups share them."""
        low, high = np.log(self.rates)
        return np.exp(np.random.default_rng([self.seed, 0]).uniform(low, high, self.seeds))

    @property
    def recognizer(self) -> recognizers.Config:
        """The transformer that learns the sparse parity."""
        return recognizers.Config(depth=self.parity_depth, heads=self.parity_heads, head_size=self.parity_head_size)

    @property
    def parity_measured(self) -> np.ndarray:
        """Epochs after which models on the parity are measured: 0, and at equal ratios from the first to the last."""
        ratios = np.geomspace(1, self.parity_epochs, self.parity_points)
        return np.unique(np.append(0, np.round(ratios).astype(int)))


PRESETS = {
    "laptop": Config(
        modulus=47, fraction=0.6, epochs=5_000, decays=(1.0,), parity_length=20, parity_relevant=3,
        parity_strings=2_000, parity_batch=32, parity_epochs=150, parity_probes=200, parity_points=12, rows=32,
    ),
    "smoke": Config(
        modulus=7, fraction=0.6, seeds=3, epochs=60, every=20, rates=(0.005, 0.01), decays=(1.0,),
        architectures=("published",), treatments=("penalty",), width=8, heads=2, hidden=16, frequencies=2,
        smoothing=20, weight_draws=1, parity_length=6, parity_relevant=2, parity_strings=32, parity_batch=8,
        parity_epochs=6, parity_probes=16, parity_points=3, parity_heads=2, parity_head_size=4, parity_depth=1, rows=8,
    ),
    "paper": Config(),
}  # fmt: skip
