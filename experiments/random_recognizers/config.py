"""Settings of the experiment: what to draw, how many of it, and the list of models."""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.harness import Keys, Settings, option
from experiments.harness.inputs import fingerprint
from jaxsens.execution import Execution
from jaxsens.models.recognizers import initialization, sizes
from jaxsens.models.recognizers.sizes import Sizes
from jaxsens.typing import Array

KEYS = Keys("weights", "strings", "audit", "functions")

TRANSFORMERS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "transformer": ({}, {}),
    "default": ({}, {}),
    "unscaled": ({"scaled": False}, {}),
    "norm_first": ({"norm_first": True}, {}),
    "paper_block": ({"block": "paper"}, {}),
    "zero_biases": ({}, {"biases": "zero"}),
    "drawn_gains": ({}, {"gains": "scheme"}),
    "drawn_embedding": ({}, {"embedding": "scheme"}),
}
"""Kinds of transformer by what they change: fields of the configuration, and arguments of the initialization.

From ``default`` on they are readings of what F.1 leaves open, all on the same architectures.
"""

BASELINES = ("lstm", "mlp")

SCREENING = ("total", "redone", "audited", "disagreed")
"""Counts of decisions that are kept when a model is screened: all, recomputed, audited, and audited but different."""

PLAIN_AUDIT = 1e11
"""Floating-point operations of a string up to which the audit evaluates every flip in full."""


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What to measure; the defaults are those of F.1."""

    seed: int = option(0, "random seed for architectures, weights, strings and random functions", at_least=0)
    schemes: tuple[str, ...] = option(
        ("uniform", "normal", "xavier_uniform", "xavier_normal"),
        f"initializations, of {', '.join(initialization.SCHEMES)}",
        choices=tuple(initialization.SCHEMES),
        fewest=1,
    )
    length: int = option(100, "bits of a string", at_least=1)
    datasets: int = option(10, "sets of strings", at_least=1)
    strings: int = option(10_000, "largest number of strings in a set", at_least=1)
    models: int = option(50, "transformers for each initialization and set", at_least=1)
    operations: float | None = option(
        None, "floating-point operations that the strings of a model may cost; none: no limit", above=0
    )
    baselines: int = option(50, "LSTMs and MLPs for each initialization and set", at_least=0)
    choices: int = option(50, "transformers of each other reading of F.1, for each initialization and set", at_least=0)
    choice_width: int = option(1024, "largest width of the transformers of other readings")
    audit: int = option(10, "strings of a model that are evaluated again in float64", at_least=0)
    layers: tuple[int, ...] = option((2, 3, 4, 5, 6), "numbers of layers to draw from", at_least=2, fewest=1)
    heads: tuple[int, ...] = option((1, 2, 4, 8), "numbers of heads to draw from", fewest=1)
    head_sizes: tuple[int, ...] = option((16, 32, 64, 128), "head sizes to draw from", fewest=1)
    multipliers: tuple[int, ...] = option((2, 4, 8), "MLP multipliers to draw from", fewest=1)
    epsilon: float = option(1e-5, "epsilon of layer normalization")
    control_lengths: tuple[int, ...] = option(
        (1, 2, 3, 4, 6, 8, 10, 12, 14, 16), "bits of the random functions, at most 20", at_least=1, below=21, fewest=1
    )
    control_functions: int = option(10_000, "random functions of each length above 4", at_least=1)
    rows: int | None = option(
        None, "substitutions in a block; if none, 4 on a CPU and all on an accelerator", at_least=1, identity=False
    )
    chunk: int | None = option(
        None, "model forwards at once; if none, 101 on a CPU and fitted to a memory budget on an accelerator",
        at_least=1, identity=False,
    )  # fmt: skip
    screened: bool = option(
        False, "evaluate in low precision first, in float32 where that cannot decide; for accelerators"
    )
    data: str = option("", "fingerprint of the strings that were passed to execute", flag=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for architecture in itertools.product(self.layers, self.heads, self.head_sizes, self.multipliers):
            Sizes(*architecture).config(self.epsilon)

    @property
    def blocks(self) -> tuple[int | None, Execution]:
        """Substitutions in a block, None for all, and how to run: defaults are those of the platform."""
        rows, chunk = (4, 101) if Execution().platform == "cpu" else (None, None)
        return self.rows or rows, Execution(chunk=self.chunk or chunk)


PRESETS = {
    "laptop": Config(
        datasets=1, models=24, strings=256, operations=1e11, baselines=12, choices=8, choice_width=128, audit=1,
        control_lengths=(1, 2, 3, 4, 6, 8, 10, 12),
    ),
    "smoke": Config(
        schemes=("uniform", "xavier_normal"), length=12, datasets=1, models=3, strings=16, baselines=2, choices=1,
        audit=2, layers=(2,), heads=(1,), head_sizes=(4,), multipliers=(2,), control_lengths=(2, 4, 6),
        control_functions=50, chunk=52,
    ),
    "paper": Config(),
}  # fmt: skip


def with_strings(config: Config, strings: Array) -> tuple[Config, np.ndarray]:
    """Return the configuration of a run on the user's strings ``[count n]``, and these strings as int32.

    The configuration holds their length, their number (at most ``config.strings``) and a fingerprint.

    Raises:
        ValueError: If they are not a matrix of zeros and ones with at least one row and one column.
    """
    bits = np.asarray(strings)
    if bits.ndim != 2 or 0 in bits.shape or not np.isin(bits, (0, 1)).all():
        raise ValueError(f"data must be strings [count n] of 0 and 1, got shape {bits.shape} and {bits.dtype}")
    bits = bits.astype(np.int32)
    count = min(config.strings, len(bits))
    return dataclasses.replace(config, length=bits.shape[1], strings=count, data=fingerprint(bits)), bits


@dataclass(frozen=True)
class Model:
    """One model to measure: what it is, how it is initialized, and on which set of strings."""

    kind: str
    scheme: str
    dataset: int
    number: int
    architecture: Sizes

    @property
    def name(self) -> str:
        """The name of its unit."""
        return f"{self.kind}-{self.scheme}-set{self.dataset}-{self.number}"


def models(config: Config) -> list[Model]:
    """Return all models, those that share a program next to each other.

    All initializations, and all readings of F.1, use the same architectures: their differences are paired.
    """
    members = []
    for dataset in range(config.datasets):
        drawn = list(itertools.islice(_sizes(config, dataset), config.models))
        narrow = (a for a in _sizes(config, dataset) if a.width <= config.choice_width)
        narrow = list(itertools.islice(narrow, config.choices)) if config.choices else []
        groups = {"transformer": drawn} | dict.fromkeys(BASELINES, drawn[: config.baselines])
        groups |= {kind: narrow for kind in TRANSFORMERS if kind != "transformer"}
        members += [
            Model(kind, scheme, dataset, number, architecture)
            for kind, architectures in groups.items()
            for scheme in config.schemes
            if _differs(kind, scheme)
            for number, architecture in enumerate(architectures)
        ]
    return sorted(members, key=lambda model: (model.kind in BASELINES, model.kind, *model.architecture.shape))


def _differs(kind: str, scheme: str) -> bool:
    """Return whether a reading of F.1 differs from the default under an initialization."""
    if kind in ("zero_biases", "drawn_gains"):
        return not scheme.startswith("xavier")
    return kind != "drawn_embedding" or scheme != "normal"


def _sizes(config: Config, dataset: int) -> Iterator[Sizes]:
    return sizes.drawn(
        np.random.default_rng([config.seed, dataset]),
        layers=config.layers,
        heads=config.heads,
        head_sizes=config.head_sizes,
        multipliers=config.multipliers,
    )
