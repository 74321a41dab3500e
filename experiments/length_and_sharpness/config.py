"""Settings of ``experiments.length_and_sharpness``: what is trained on what, and where its random numbers come from."""

from dataclasses import dataclass

import numpy as np

from experiments.harness import Keys, Settings, option
from jaxsens.boolean import languages, strings
from jaxsens.models import recognizers
from jaxsens.models.recognizers import initialization
from jaxsens.typing import Array, Key

FUNCTIONS = ("parity", "majority", "first", "mean")
"""Functions that are learned at every length. Outputs are -1 and 1, except for mean: the mean of the bits as signs."""

KEYS = Keys("length", "tradeoff", "random")
"""Random keys of the three sections; within a section, folded first by the place of the purpose in ``PURPOSES``."""

PURPOSES = ("weights", "strings", "evaluation", "order", "noise", "hyper", "function", "subset")
"""Purposes of the random numbers within a section."""

STREAMS = 16
"""Largest number of sequences of fresh strings that the models of the trade-off share; it bounds their memory."""


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings of the experiment; the defaults are the published ones."""

    seed: int = option(0, "random seed for weights, strings, order and noise")
    lengths: tuple[int, ...] = option(tuple(range(4, 31)), "bits of a string", at_least=1, rising=True, fewest=1)
    seeds: int = option(10, "models for each length and function", at_least=1)
    depth: int = option(2, "layers")
    heads: int = option(2, "attention heads")
    head_size: int = option(64, "size of a query; the width is heads times head size")
    multiplier: int = option(1, "hidden units of the MLP over the width")
    epsilon: float = option(1e-5, "epsilon of layer normalization")
    scheme: str = option("xavier_uniform", "initialization of the weights", choices=tuple(initialization.SCHEMES))
    learning_rate: float = option(3e-4, "learning rate of AdamW", above=0)
    weight_decay: float = option(0.1, "weight decay of AdamW, relative to the learning rate", at_least=0)
    batch: int = option(1024, "strings in a training step", at_least=1)
    steps: int = option(10_000, "training steps", at_least=1)
    epoch_steps: int = option(20, "training steps on the strings that are drawn at a time", at_least=1)
    noise: float = option(0.02, "standard deviation of the noise on every weight, for sharpness", above=0)
    draws: int = option(100, "perturbed models for a sharpness", at_least=1)
    strings: int = option(4096, "largest number of evaluation strings; all strings if there are fewer", at_least=1)
    exact_length: int = option(16, "largest length with exact sensitivities", at_least=1)
    sensitivity_strings: int = option(512, "strings for sampled sensitivities of longer strings", at_least=1)
    tradeoff_length: int = option(20, "bits of the parity that the models of the trade-off learn", at_least=1)
    tradeoff_models: int = option(3000, "models of the trade-off", at_least=1)
    tradeoff_group: int = option(250, "models of the trade-off that are trained together", at_least=1)
    tradeoff_rates: tuple[float, float] = option((1e-4, 5e-4), "range of their learning rates", at_least=1e-12)
    tradeoff_decays: tuple[float, float] = option((0.0, 0.4), "range of their weight decays", at_least=0)
    function_length: int = option(10, "bits of random functions", at_least=1, below=17)
    function_sizes: tuple[int, ...] = option(
        (128, 256, 512, 1024), "training strings for random functions", at_least=1, rising=True, fewest=1
    )
    functions: int = option(10, "random functions", at_least=1)
    function_seeds: int = option(10, "models for each random function and training size", at_least=1)
    function_steps: int = option(10_000, "training steps on random functions", at_least=1)
    function_rate: float = option(3e-4, "learning rate on random functions", above=0)
    own_functions: str | None = option(None, "fingerprint of the functions passed to execute", flag=False)
    rows: int = option(1024, "strings in a block of a gradient", at_least=1, identity=False)
    models_per_device: int | None = option(
        None, "models that a device trains together; if none, 1 on a CPU, and on an accelerator as many as fit",
        at_least=1, identity=False,
    )  # fmt: skip
    chunk: int | None = option(None, "model forwards computed together; none: from the memory budget", identity=False)
    checkpoint_every: int = option(25, "epochs between checkpoints", at_least=1, identity=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tradeoff_rates", "tradeoff_decays"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} must be the smallest and the largest, got {(low, high)}")
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
        if self.function_sizes[-1] > largest:
            raise ValueError(
                f"function_sizes must be at most the {largest} strings of function_length {self.function_length}, got "
                f"{self.function_sizes}"
            )
        if wrong := [size for size in self.function_sizes if self.epoch_strings % size]:
            raise ValueError(
                f"function_sizes must divide the {self.epoch_strings} strings of an epoch, so that every size gets the "
                f"same number of steps, got {wrong}"
            )
        _ = self.architecture

    @property
    def architecture(self) -> recognizers.Config:
        """The recognizer that is trained in every section: post-normalization, sinusoidal positions."""
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
        return KEYS(self.seed, section, PURPOSES.index(purpose), *numbers)


PRESETS = {
    "laptop": Config(
        lengths=(4, 6, 8, 10, 20, 30), seeds=4, head_size=16, learning_rate=2e-3, batch=64, steps=2048,
        epoch_steps=128, draws=16, strings=512, exact_length=12, sensitivity_strings=64, tradeoff_length=6,
        tradeoff_models=32, tradeoff_group=32, tradeoff_rates=(1e-3, 3e-3), tradeoff_decays=(0.0, 0.2),
        functions=4, function_seeds=1, function_steps=4096, function_rate=2e-3, rows=64,
        chunk=512, checkpoint_every=20,
    ),
    "smoke": Config(
        lengths=(4,), seeds=1, head_size=4, learning_rate=0.02, batch=16, steps=64, epoch_steps=8, draws=4,
        exact_length=3, sensitivity_strings=8, tradeoff_length=4, tradeoff_models=4, tradeoff_group=4,
        tradeoff_rates=(5e-3, 2e-2), function_length=4, function_sizes=(8, 16), functions=2, function_seeds=1,
        function_steps=64, function_rate=0.02, rows=16, chunk=40, checkpoint_every=8,
    ),
    "paper": Config(),
}  # fmt: skip


def targets(function: str, bits: Array) -> np.ndarray:
    """Return the target outputs of a function on strings ``[*b n]``: float32 ``[*b]``, -1 for 0 and 1 for 1.

    Raises:
        ValueError: If the function is none of ``FUNCTIONS``.
    """
    if function not in FUNCTIONS:
        raise ValueError(f"function must be one of {', '.join(FUNCTIONS)}, got {function!r}")
    if function == "mean":
        return (2 * np.asarray(bits, np.float32) - 1).mean(-1)
    return signs(getattr(languages, function)(np.shape(bits)[-1]).accept(bits))


def exact_sensitivity(function: str, n: int) -> float:
    """Return the average sensitivity of a function's decisions, in bits; the sign of the mean is the majority."""
    name = "majority" if function == "mean" else function
    return float(getattr(languages, name)(n).average_sensitivity)


def signs(accepted: Array) -> np.ndarray:
    """Return 1 for True and -1 for False, float32."""
    return np.where(accepted, 1, -1).astype(np.float32)


def evaluation_strings(config: Config, section: str, n: int) -> tuple[np.ndarray, bool]:
    """Return the strings ``[b n]`` on which models of a length are evaluated, and whether they are all there are."""
    if n <= 24 and 2**n <= config.strings:
        return np.asarray(strings.exhaustive(n), np.uint8), True
    drawn = strings.uniform(config.key(section, "evaluation", n), config.strings, n)
    return np.asarray(drawn, np.uint8), False
