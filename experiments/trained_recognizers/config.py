"""Settings of the experiment."""

import itertools
from dataclasses import dataclass

from experiments.harness import Keys, Settings, option
from jaxsens.models.recognizers import initialization
from jaxsens.models.recognizers.sizes import Sizes

PLAIN = ("first", "majority", "parity")
SPARSE = ("sparse_majority", "sparse_parity")

SPLITS = ("training", "validation", "test")

KEYS = Keys("weights", "order", "language", "profile", *SPLITS)


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What to train and measure; the defaults are those of F.2, where it states them."""

    seed: int = option(0, "random seed for architectures, weights, strings and languages", at_least=0)
    length: int = option(100, "bits of a string, for all languages except random ones", at_least=1)
    models: int = option(50, "models of First, of Majority and of Parity", at_least=1)
    sparsities: tuple[int, ...] = option((5, 10, 20, 50), "numbers of positions of sparse languages", at_least=1)
    sparse_languages: int = option(10, "sparse languages of each kind and sparsity", at_least=0)
    sparse_models: int = option(10, "models of each sparse language", at_least=1)
    scheme: str = option(
        "uniform", f"initialization for these languages, one of {', '.join(initialization.SCHEMES)}",
        choices=tuple(initialization.SCHEMES),
    )  # fmt: skip
    random_length: int = option(40, "bits of a string of the random languages", at_least=1)
    random_languages: int = option(10, "languages with a random label for every string", at_least=0)
    random_models: int = option(50, "models of each random language, for each initialization", at_least=1)
    random_schemes: tuple[str, ...] = option(
        ("xavier_normal",), "initializations for random languages", choices=tuple(initialization.SCHEMES)
    )
    training_strings: int = option(10_000, "training strings of a language", at_least=1)
    validation_strings: int = option(1000, "strings for learning rates and for stopping", at_least=1)
    test_strings: int = option(1000, "strings for accuracy and blow-ups", at_least=1)
    random_strings: int = option(10_000, "strings of a random language, for training and all tests", at_least=1)
    random_passes: int = option(
        1, "passes over these strings that count as an epoch, since fewer strings mean fewer steps", at_least=1
    )
    profile_strings: int = option(
        1000, "strings for sensitivity before and after training; not stated in F.2", at_least=1
    )
    checkpoint_strings: int = option(100, "the first of them, for sensitivity during training", at_least=1)
    epochs: int = option(1000, "largest number of epochs; not stated in F.2", at_least=1)
    random_epochs: int = option(1000, "largest number of epochs for random languages", at_least=1)
    lr_patience: int = option(5, "epochs without a smaller validation loss that halve the learning rate", at_least=1)
    patience: int = option(10, "epochs without a smaller validation loss that end training", at_least=1)
    target_loss: float | None = option(None, "validation loss at which a model stops as well; not in F.2", at_least=0)
    batches: tuple[int, int] = option((128, 4096), "smallest and largest batch, drawn uniformly", at_least=1)
    learning_rates: tuple[float, float] = option(
        (1e-4, 1e-2), "smallest and largest learning rate, drawn log-uniformly", above=0
    )
    layers: tuple[int, ...] = option((2, 3, 4, 5, 6), "numbers of layers to draw from", fewest=1)
    heads: tuple[int, ...] = option((1, 2, 4, 8), "numbers of heads to draw from", fewest=1)
    head_sizes: tuple[int, ...] = option((16, 32, 64, 128), "head sizes to draw from", fewest=1)
    multipliers: tuple[int, ...] = option((2, 4, 8), "MLP multipliers to draw from", fewest=1)
    epsilon: float = option(1e-5, "epsilon of layer normalization")
    rows: int = option(32, "strings in a block; changes rounding, which training magnifies", at_least=1)
    models_per_device: int | None = option(
        None, "models that a device trains together; if none, 1 on a CPU, and on an accelerator as many as fit; "
        "changes rounding too", at_least=1,
    )  # fmt: skip
    checkpoint_every: int = option(1, "epochs between checkpoints of the weights", at_least=1, identity=False)
    data: str = option("", "fingerprint of the strings that were passed to execute", flag=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.checkpoint_strings > self.profile_strings:
            raise ValueError(
                f"checkpoint_strings must be at most profile_strings = {self.profile_strings}, of which they are the "
                f"first, got {self.checkpoint_strings}"
            )
        for name in ("batches", "learning_rates"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be two numbers, the smaller first, got {(low, high)}")
        if self.sparsities and max(self.sparsities) > self.length:
            raise ValueError(f"sparsities must be at most the length, {self.length}, got {self.sparsities}")
        for architecture in itertools.product(self.layers, self.heads, self.head_sizes, self.multipliers):
            Sizes(*architecture).config(self.epsilon)

    def curve(self, random: bool) -> tuple[int, ...]:
        """Return the epochs at which sensitivity is measured: powers of two, and the last possible one."""
        last = self.random_epochs if random else self.epochs
        return (*(1 << i for i in range(last.bit_length()) if 1 << i < last), last)


PRESETS = {
    "laptop": Config(
        length=20, models=36, sparsities=(3, 5, 10), sparse_languages=3, sparse_models=2, random_languages=3,
        random_models=4, random_schemes=("xavier_normal", "uniform"), training_strings=4000, validation_strings=500,
        test_strings=500, random_strings=100, random_passes=10, profile_strings=256, checkpoint_strings=64, epochs=80,
        random_epochs=60, target_loss=1e-3, batches=(32, 128), layers=(2,), heads=(2, 4), head_sizes=(8,),
        multipliers=(2,), checkpoint_every=10,
    ),
    "smoke": Config(
        length=6, models=3, sparsities=(2,), sparse_languages=1, sparse_models=3, random_length=6,
        random_languages=5, random_models=3, training_strings=64, validation_strings=64, test_strings=64,
        random_strings=64, profile_strings=64, checkpoint_strings=64, epochs=20, random_epochs=8, batches=(8, 16),
        learning_rates=(5e-3, 3e-2), layers=(2,), heads=(1,), head_sizes=(8,), multipliers=(2,), rows=16,
        checkpoint_every=10,
    ),
    "paper": Config(),
}  # fmt: skip
