"""Settings of ``experiments.language``: the published ones, controlled ones, and smaller ones."""

from dataclasses import dataclass, replace

from experiments.harness import Keys, Settings, added_rates, option
from jaxsens import training

__all__ = ["DATASETS", "FAMILIES", "KEYS", "PRESETS", "Config"]

FAMILIES = ("lstm", "lstm_frozen", "roberta", "roberta_relu", "gpt2")
"""``lstm_frozen`` keeps its random embedding and classifier, as in the published code."""

DATASETS = {
    "mrpc": ("glue/mrpc", "train", "test"),
    "sst2": ("glue/sst2", "train", "validation"),
    "qqp": ("glue/qqp", "train", "validation"),
}
"""TFDS name, and the splits to train and to test on."""

KEYS = Keys("weights", "training", "noise", "words")


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings of the experiment; the defaults are the published ones, or `README.md`'s where nothing is published."""

    seed: int = option(0, "random seed for held-out texts, weights, order, noise and words")
    datasets: tuple[str, ...] = option(("mrpc", "qqp"), "data sets", choices=tuple(DATASETS), fewest=1, distinct=True)
    data_dir: str | None = option(None, "folder of prepared TFDS data sets", identity=False)
    texts: str | None = option(None, "your CSV or JSONL file with columns text and label, in place of the data sets")
    families: tuple[str, ...] = option(FAMILIES, "families of models", choices=FAMILIES, fewest=1, distinct=True)
    seeds: int = option(3, "models of each family", at_least=1)
    learning_rates: tuple[float, ...] = option((1e-4,), "rates to choose from", above=0, fewest=1, distinct=True)
    added_rates: int = added_rates()
    schedule: str = option("constant", "schedule of the learning rate", choices=training.optimizers.SCHEDULES)
    width: int = option(256, "width of embeddings and layers", at_least=1)
    depth: int = option(4, "layers", at_least=1)
    heads: int = option(8, "attention heads", at_least=1)
    hidden: int | None = option(3072, "width of an MLP; 2 width if None, which gives a layer the LSTM's parameters")
    dropout: float = option(0.1, "dropout rate", at_least=0, below=1)
    weight_decay: float = option(1e-4, "weight decay of AdamW", at_least=0)
    batch: int = option(32, "texts in a training step", at_least=1)
    epochs: int = option(100, "passes over the training texts", at_least=1)
    vocabulary: int = option(8_000, "tokens that the tokenizer learns from the training texts", at_least=300)
    longest: int = option(128, "tokens of a text; longer ones are cut", at_least=3)
    training_texts: int | None = option(None, "training texts; all by default", at_least=1)
    held_out: float = option(0.1, "share of the training texts to choose the learning rate on", above=0, below=1)
    noise: tuple[float, ...] = option((15.0, 4.0), "variances of the noise", above=0, fewest=1, distinct=True)
    measured: int = option(408, "training texts that sensitivity is averaged over", at_least=2)
    draws: int = option(3, "replacements of each token", at_least=1)
    curve_points: int = option(10, "measurements during training", at_least=1)
    curve_texts: int = option(100, "texts of each measurement during training", at_least=2)
    matched: float = option(0.9, "training accuracy at which models are compared, too", above=0)
    margin: float = option(0.1, "training accuracy of a judged model above that of the majority class", above=0)
    tolerance: float = option(0.05, "difference of training accuracies up to which families are compared", above=0)
    rows: int = option(8, "inputs of a model evaluated at once", at_least=1, identity=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads={self.heads}, got {self.width}")
        if self.curve_texts > self.measured:
            raise ValueError(f"curve_texts must be at most measured={self.measured}, got {self.curve_texts}")

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the data sets; of your own texts, ``"own"``."""
        return self.datasets if self.texts is None else ("own",)

    @property
    def points(self) -> list[int]:
        """Epochs after which a model is measured during training, the last one among them."""
        count = min(self.curve_points, self.epochs)
        return sorted({round(self.epochs ** (i / max(count - 1, 1))) for i in range(count)} | {self.epochs})


_CONTROLLED = Config(
    datasets=("mrpc", "sst2"), learning_rates=(1e-4, 3e-4, 1e-3, 3e-3), added_rates=2, schedule="cosine", hidden=None,
    epochs=20, seeds=5,
)  # fmt: skip

PRESETS = {
    "laptop": replace(
        _CONTROLLED, seeds=3, learning_rates=(3e-4, 1e-3, 3e-3), width=64, depth=2, heads=4, epochs=8,
        vocabulary=4_000, longest=72, training_texts=1_500, measured=48, draws=1, curve_points=6, curve_texts=24,
    ),
    "smoke": replace(
        _CONTROLLED, families=("lstm", "roberta"), seeds=2, learning_rates=(1e-3,), width=8, depth=1, heads=2, epochs=2,
        batch=8, vocabulary=300, longest=12, noise=(15.0,), measured=3, draws=1, curve_points=2, curve_texts=2,
    ),
    "controlled": _CONTROLLED,
    "paper": Config(),
}  # fmt: skip
