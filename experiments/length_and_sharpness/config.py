"""Settings of ``experiments.length_and_sharpness``: what is trained on what, and where its random numbers come from."""

from dataclasses import dataclass

import jax
import numpy as np

from experiments.harness import option
from jaxsens.boolean import languages, strings
from jaxsens.models import recognizers
from jaxsens.models.recognizers import initialization
from jaxsens.typing import Array, Key

FUNCTIONS = ("parity", "majority", "first", "mean")
"""What is learned at every length. Outputs are -1 and 1, but for mean: the mean of the bits as signs."""

PURPOSES = ("weights", "strings", "evaluation", "order", "noise", "hyper", "function", "subset")
"""What random numbers are for: each has its own key."""

SECTIONS = ("length", "tradeoff", "random")
"""The three parts of the experiment."""

STREAMS = 16
"""Sequences of fresh strings that the members of the trade-off share, at most: they bound its memory."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the experiment; the defaults are those of the preset ``paper``."""

    seed: int = option(0, "of everything")
    lengths: tuple[int, ...] = option(tuple(range(4, 31)), "bits of a string")
    seeds: int = option(10, "models for each length and function")
    depth: int = option(2, "layers")
    heads: int = option(2, "of attention")
    head_size: int = option(64, "numbers of a query; the width is heads times that")
    multiplier: int = option(1, "hidden units of the MLP over the width")
    epsilon: float = option(1e-5, "of layer normalisation")
    scheme: str = option("xavier_uniform", f"initialisation, one of {', '.join(initialization.SCHEMES)}")
    learning_rate: float = option(3e-4, "of AdamW")
    weight_decay: float = option(0.1, "of AdamW, relative to the learning rate")
    batch: int = option(1024, "strings of a step")
    steps: int = option(10_000, "of training")
    epoch_steps: int = option(20, "steps on the strings that are drawn at a time")
    noise: float = option(0.02, "standard deviation of what is added to every weight for sharpness")
    draws: int = option(100, "perturbed models for a sharpness")
    strings: int = option(4096, "strings for evaluation, at most: all of a length if they are no more")
    exact_length: int = option(16, "bits up to which sensitivities are exact")
    sensitivity_strings: int = option(512, "strings on which they are sampled beyond")
    tradeoff_length: int = option(20, "bits of the parity whose models show the trade-off")
    tradeoff_models: int = option(3000, "of them")
    tradeoff_group: int = option(250, "of them that are trained together")
    tradeoff_rates: tuple[float, float] = option((1e-4, 5e-4), "least and largest learning rate of these")
    tradeoff_decays: tuple[float, float] = option((0.0, 0.4), "least and largest weight decay of these")
    function_length: int = option(10, "bits of random functions")
    function_sizes: tuple[int, ...] = option((128, 256, 512, 1024), "training strings for random functions")
    functions: int = option(10, "random functions")
    function_seeds: int = option(10, "models for each of them and each size")
    function_steps: int = option(10_000, "of their training")
    function_rate: float = option(3e-4, "their learning rate")
    rows: int = option(1024, "strings in a block of a gradient", identity=False)
    at_once: int = option(40, "models that a device trains at once; 1 on a CPU", identity=False)
    chunk: int | None = option(None, "model forwards at once; fitted to a memory budget if none", identity=False)
    checkpoint_every: int = option(25, "epochs between checkpoints", identity=False)

    def __post_init__(self) -> None:
        for name in (
            "seeds", "batch", "steps", "epoch_steps", "draws", "strings", "exact_length", "sensitivity_strings",
            "tradeoff_length", "tradeoff_models", "tradeoff_group", "function_length", "functions", "function_seeds",
            "function_steps", "rows", "at_once", "checkpoint_every",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "noise", "function_rate"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name, least in (("tradeoff_rates", 1e-12), ("tradeoff_decays", 0.0)):
            low, high = getattr(self, name)
            if not least <= low <= high < np.inf:
                raise ValueError(f"{name} must be the least and the largest, of at least {least:g}, got {(low, high)}")
        for name in ("lengths", "function_sizes"):
            found = getattr(self, name)
            if not found or list(found) != sorted(set(found)) or found[0] < 1:
                raise ValueError(f"{name} must be one or more rising positive numbers, got {found}")
        for name in ("steps", "function_steps"):
            if getattr(self, name) % self.epoch_steps:
                raise ValueError(
                    f"{name} must be a multiple of epoch_steps {self.epoch_steps}, got {getattr(self, name)}"
                )
        if self.tradeoff_models % self.tradeoff_group:
            raise ValueError(
                f"tradeoff_group must divide the {self.tradeoff_models} tradeoff_models, got {self.tradeoff_group}"
            )
        largest = 2**self.function_length
        if self.function_length > 16 or self.function_sizes[-1] > largest:
            raise ValueError(
                f"function_sizes must be at most the {largest} strings there are, and function_length at most 16, got "
                f"{self.function_sizes} and {self.function_length}"
            )
        if wrong := [size for size in self.function_sizes if self.epoch_strings % size]:
            raise ValueError(
                f"function_sizes must divide the {self.epoch_strings} strings of an epoch, as all are to take as many "
                f"steps, got {wrong}"
            )
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if self.scheme not in initialization.SCHEMES:
            raise ValueError(f"scheme must be one of {sorted(initialization.SCHEMES)}, got {self.scheme!r}")
        _ = self.architecture

    @property
    def architecture(self) -> recognizers.Config:
        """The recognizer that is trained everywhere: post-normalised, with sinusoidal positions."""
        return recognizers.Config(
            depth=self.depth, heads=self.heads, head_size=self.head_size, multiplier=self.multiplier,
            epsilon=self.epsilon,
        )  # fmt: skip

    @property
    def epoch_strings(self) -> int:
        """Strings of an epoch."""
        return self.epoch_steps * self.batch

    def key(self, section: str, purpose: str, *numbers: int) -> Key:
        """Return the key of a purpose in a section, folded by numbers."""
        key = jax.random.fold_in(jax.random.key(self.seed), SECTIONS.index(section))
        key = jax.random.fold_in(key, PURPOSES.index(purpose))
        for number in numbers:
            key = jax.random.fold_in(key, number)
        return key


PRESETS = {
    "laptop": Config(
        lengths=(4, 6, 8, 10, 20, 30), seeds=4, head_size=16, learning_rate=2e-3, batch=64, steps=2048,
        epoch_steps=128, draws=16, strings=512, exact_length=12, sensitivity_strings=64, tradeoff_length=6,
        tradeoff_models=32, tradeoff_group=32, tradeoff_rates=(1e-3, 3e-3), tradeoff_decays=(0.0, 0.2),
        functions=4, function_seeds=1, function_steps=4096, function_rate=2e-3, rows=64, at_once=1, chunk=512,
        checkpoint_every=20,
    ),
    "smoke": Config(
        lengths=(4,), seeds=1, head_size=4, learning_rate=0.02, batch=16, steps=64, epoch_steps=8, draws=4,
        exact_length=3, sensitivity_strings=8, tradeoff_length=4, tradeoff_models=4, tradeoff_group=4,
        tradeoff_rates=(5e-3, 2e-2), function_length=4, function_sizes=(8, 16), functions=2, function_seeds=1,
        function_steps=64, function_rate=0.02, rows=16, at_once=1, chunk=40, checkpoint_every=8,
    ),
    "paper": Config(),
}  # fmt: skip


def targets(function: str, bits: Array) -> np.ndarray:
    """Return what a function's outputs should be on strings ``[*b n]``: float32 ``[*b]``, -1 for 0 and 1 for 1.

    Raises:
        ValueError: If the function is none of ``FUNCTIONS``.
    """
    if function not in FUNCTIONS:
        raise ValueError(f"function must be one of {', '.join(FUNCTIONS)}, got {function!r}")
    if function == "mean":
        return (2 * np.asarray(bits, np.float32) - 1).mean(-1)
    return signs(getattr(languages, function)(np.shape(bits)[-1]).accept(bits))


def signs(accepted: Array) -> np.ndarray:
    """Return 1 for True and -1 for False, float32."""
    return np.where(accepted, 1, -1).astype(np.float32)


def evaluation_strings(config: Config, section: str, n: int) -> tuple[np.ndarray, bool]:
    """Return the strings ``[b n]`` on which models of a length are evaluated, and whether they are all there are."""
    if n <= 24 and 2**n <= config.strings:
        return np.asarray(strings.exhaustive(n), np.uint8), True
    drawn = strings.uniform(config.key(section, "evaluation", n), config.strings, n)
    return np.asarray(drawn, np.uint8), False
