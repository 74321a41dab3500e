"""Settings of ``experiments.sparse_tokens``: the published ones, and smaller ones."""

from dataclasses import dataclass

from experiments.harness import Keys, Settings, option
from jaxsens.data.sparse_tokens import SparseTokens

KINDS = ("attention", "linear", "mlp", "lstm")

KEYS = Keys("training", "validation", "test", "probes", "weights", "order", "replacements")


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings of the experiment; the defaults are the published ones, or `README.md`'s where nothing is published."""

    seed: int = option(0, "random seed for examples, weights, order and replacements")
    cases: tuple[str, ...] = option(
        ("3-5-1-16", "1-17-7-20"), "settings n_s-n_f-n_d-m of Definition 4.2", fewest=1, distinct=True
    )
    vocabulary: int = option(59, "ids of the vocabulary, M; not published", at_least=1)
    length: int = option(50, "tokens of an example, T", at_least=1)
    kinds: tuple[str, ...] = option(KINDS, "kinds of models", choices=KINDS, fewest=1, distinct=True)
    seeds: int = option(10, "models of each kind and setting, each with its own examples and weights", at_least=1)
    rates: tuple[float, ...] = option(
        (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0), "learning rates to choose from", above=0, fewest=1, distinct=True
    )
    scales: tuple[float, ...] = option(
        (0.1, 1.0), "initial weights, as multiples of 1 / sqrt(fan-in)", above=0, fewest=1, distinct=True
    )
    examples: int = option(1_000, "training examples", at_least=1)
    held_out: int = option(500, "examples to choose the learning rate on, and as many to test on", at_least=1)
    batch: int = option(100, "examples in a training step", at_least=1)
    epochs: int = option(300, "passes over the training examples", at_least=1)
    width: int = option(16, "width of queries, keys and values, and of the MLP and the LSTM", at_least=1)
    probes: int = option(500, "fresh examples that sensitivity is averaged over", at_least=2)
    draws: int = option(2, "replacements of each token", at_least=1)
    rows: int = option(100, "examples in a block of a step", at_least=1, identity=False)
    models_per_device: int | None = option(
        None, "models that a device trains together; if none, 1 on a CPU, and on an accelerator as many as fit",
        at_least=1, identity=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch > self.examples:
            raise ValueError(f"batch must be at most the {self.examples} training examples, got {self.batch}")
        for case in self.cases:
            self.task(case)

    def task(self, case: str) -> SparseTokens:
        """Return the law of the examples of a case, ``"n_s-n_f-n_d-m"``."""
        numbers = case.split("-")
        if len(numbers) != 4 or not all(number.isdecimal() for number in numbers):
            raise ValueError(f"cases must be n_s-n_f-n_d-m, such as 3-5-1-16, got {case!r}")
        sparse, frequent, excess, pool = map(int, numbers)
        return SparseTokens(self.vocabulary, self.length, sparse, frequent, excess, pool)

    @property
    def members(self) -> list[tuple[int, float, float]]:
        """Seed, initial scale and learning rate of every model of a kind and case, in the order of training."""
        return [(seed, scale, rate) for seed in range(self.seeds) for scale in self.scales for rate in self.rates]


PRESETS = {
    "laptop": Config(
        rates=(0.3, 1.0, 3.0, 10.0), scales=(1.0,), epochs=100, probes=100, draws=1, held_out=300, width=8,
    ),
    "smoke": Config(
        cases=("2-3-1-5",), kinds=("attention", "linear"), vocabulary=17, length=12, seeds=3,
        rates=(0.03, 0.3, 3.0), scales=(1.0,),
        examples=64, held_out=32, batch=16, epochs=20, width=4, probes=16, draws=1, rows=16,
    ),
    "paper": Config(),
}  # fmt: skip
