"""What ``experiments.trained_recognizers`` trains: its settings, the languages, and the models of each."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction

import jax
import numpy as np
from scipy import stats

from experiments.harness import option
from jaxsens.boolean import Language, languages, strings
from jaxsens.models.recognizers import initialization
from jaxsens.models.recognizers import sizes as recognizer_sizes
from jaxsens.models.recognizers.sizes import Sizes
from jaxsens.typing import Key

PLAIN = ("first", "majority", "parity")
SPARSE = ("sparse_majority", "sparse_parity")

SPLITS = ("training", "validation", "test")

PURPOSES = ("weights", "order", "language", "profile", *SPLITS)
"""What random numbers are for: each has its own key."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to train and measure; the defaults are F.2's, as far as it says."""

    seed: int = option(0, "of everything")
    length: int = option(100, "bits of a string, for all languages but the random ones")
    models: int = option(50, "models of First, of Majority and of Parity")
    sparsities: tuple[int, ...] = option((5, 10, 20, 50), "positions that a sparse language reads")
    sparse_languages: int = option(10, "sparse languages of each kind and sparsity")
    sparse_models: int = option(10, "models of each of them")
    scheme: str = option("uniform", f"their initialisation, one of {', '.join(initialization.SCHEMES)}")
    random_length: int = option(40, "bits of a string of the random languages")
    random_languages: int = option(10, "languages with a random label for every string")
    random_models: int = option(50, "models of each of them, for each initialisation")
    random_schemes: tuple[str, ...] = option(("xavier_normal",), "their initialisations")
    training_strings: int = option(10_000, "that a model learns from")
    validation_strings: int = option(1000, "that decide on learning rates and on stopping")
    test_strings: int = option(1000, "that accuracy and blow-ups are measured on")
    random_strings: int = option(10_000, "of a random language: learned, watched and tested")
    random_passes: int = option(1, "over these that count as one epoch, as fewer strings mean fewer steps")
    profile_strings: int = option(1000, "that sensitivity is measured on, before and after training; not stated")
    checkpoint_strings: int = option(100, "the first of them, for sensitivity during training")
    epochs: int = option(1000, "passes over the data, at most; not stated")
    random_epochs: int = option(1000, "the same, of random languages")
    halve_after: int = option(5, "epochs without a smaller validation loss that halve the learning rate")
    stop_after: int = option(10, "epochs without a smaller validation loss that end training")
    enough_loss: float | None = option(None, "validation loss at which a model stops as well; not in F.2")
    batches: tuple[int, int] = option((128, 4096), "smallest and largest batch, drawn uniformly")
    learning_rates: tuple[float, float] = option((1e-4, 1e-2), "smallest and largest, drawn log-uniformly")
    layers: tuple[int, ...] = option((2, 3, 4, 5, 6), "drawn from")
    heads: tuple[int, ...] = option((1, 2, 4, 8), "drawn from")
    head_sizes: tuple[int, ...] = option((16, 32, 64, 128), "drawn from")
    multipliers: tuple[int, ...] = option((2, 4, 8), "drawn from")
    epsilon: float = option(1e-5, "of layer normalisation")
    rows: int = option(32, "strings in a block; moves results of training by rounding, which training magnifies")
    at_once: int = option(1, "models that a device trains at once; likewise")
    checkpoint_every: int = option(1, "epochs between checkpoints of the weights", identity=False)

    def __post_init__(self) -> None:
        counts = [field.name for field in fields(self) if field.type is int or field.type == "int"]
        for name in counts:
            least = {"seed": 0, "random_languages": 0, "sparse_languages": 0}.get(name, 1)
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.checkpoint_strings > self.profile_strings:
            raise ValueError(
                f"checkpoint_strings must be at most profile_strings = {self.profile_strings}, of which they are the "
                f"first, got {self.checkpoint_strings}"
            )
        for name in ("batches", "learning_rates"):
            low, high = getattr(self, name)
            if not 0 < low <= high < np.inf:
                raise ValueError(f"{name} must be two positive numbers, the smaller first, got {(low, high)}")
        if not set(self.sparsities) <= set(range(1, self.length + 1)):
            raise ValueError(f"sparsities must lie between 1 and the length, {self.length}, got {self.sparsities}")
        for scheme in (self.scheme, *self.random_schemes):
            if scheme not in initialization.SCHEMES:
                raise ValueError(f"scheme must be one of {', '.join(initialization.SCHEMES)}, got {scheme!r}")
        for name in ("layers", "heads", "head_sizes", "multipliers"):
            if not getattr(self, name):
                raise ValueError(f"{name} must hold something to draw from, got ()")
        for sizes in itertools.product(self.layers, self.heads, self.head_sizes, self.multipliers):
            Sizes(*sizes).config(self.epsilon)

    def key(self, purpose: str, *numbers: int) -> Key:
        """Return the key of a purpose, one of ``PURPOSES``, folded by numbers."""
        key = jax.random.fold_in(jax.random.key(self.seed), PURPOSES.index(purpose))
        for number in numbers:
            key = jax.random.fold_in(key, number)
        return key

    def curve(self, random: bool) -> tuple[int, ...]:
        """Return the epochs at which sensitivity is measured: powers of two, and the last possible one."""
        last = self.random_epochs if random else self.epochs
        return (*(1 << i for i in range(last.bit_length()) if 1 << i < last), last)


PRESETS = {
    "laptop": Config(
        length=20, models=36, sparsities=(3, 5, 10), sparse_languages=3, sparse_models=2, random_languages=3,
        random_models=4, random_schemes=("xavier_normal", "uniform"), training_strings=4000, validation_strings=500,
        test_strings=500, random_strings=100, random_passes=10, profile_strings=256, checkpoint_strings=64, epochs=80,
        random_epochs=60, enough_loss=1e-3, batches=(32, 128), layers=(2,), heads=(2, 4), head_sizes=(8,),
        multipliers=(2,), checkpoint_every=10,
    ),
    "smoke": Config(
        length=6, models=3, sparsities=(2,), sparse_languages=1, sparse_models=3, random_length=6,
        random_languages=5, random_models=3, training_strings=64, validation_strings=64, test_strings=64,
        random_strings=64, profile_strings=64, checkpoint_strings=64, epochs=20, random_epochs=20, batches=(8, 16),
        learning_rates=(5e-3, 3e-2), layers=(2,), heads=(1,), head_sizes=(8,), multipliers=(2,), rows=16,
    ),
    "paper": Config(),
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of language, with the initialisation of the models that learn it.

    Attributes:
        name: As it is called in tables, such as ``sparse_parity_5``.
        family: One of the library's ``languages.NAMES``.
        n: Bits of a string.
        sparsity: Positions that matter; None for all.
        scheme: Of the weights.
    """

    name: str
    family: str
    n: int
    sparsity: int | None
    scheme: str

    @property
    def random(self) -> bool:
        """Whether labels are random; accuracy is then that on the strings learned."""
        return self.family == "random"

    @property
    def average(self) -> float:
        """The exact average sensitivity of its languages in bits; for random ones its expectation."""
        return float(sum(s * Fraction(share) for s, share in enumerate(self.exact)))

    @property
    def exact(self) -> np.ndarray:
        """The exact shares of strings by sensitivity ``[n+1]``; for random languages their expectation."""
        if self.random:
            return stats.binom.pmf(np.arange(self.n + 1), self.n, 0.5)
        counts = self.language(jax.random.key(0)).profile()
        return np.array([float(Fraction(count, 2**self.n)) for count in counts])

    def language(self, key: Key) -> Language:
        """Draw a language of this kind."""
        if self.random:
            return languages.random_language(key, self.n)
        if self.sparsity is None:
            return Language(self.family, self.n)
        positions = jax.random.permutation(key, self.n)[: self.sparsity]
        return Language(self.family, self.n, tuple(np.asarray(positions).tolist()))


@dataclass(frozen=True)
class Model:
    """A model to train.

    Attributes:
        kind: What kind of language it learns, and how it is initialised.
        language: Which of that kind.
        number: Its number among the models of a kind, over all languages.
        sizes: Of its architecture.
        batch: Strings in a step.
        learning_rate: Of Adam, at the start.
    """

    kind: Kind
    language: int
    number: int
    sizes: Sizes
    batch: int
    learning_rate: float


def kinds(config: Config) -> list[Kind]:
    """Return the kinds of languages, in the order of tables and figures."""
    found = [Kind(name, name, config.length, None, config.scheme) for name in PLAIN]
    if config.sparse_languages:
        found += [
            Kind(f"{family}_{m}", family, config.length, m, config.scheme)
            for family in SPARSE
            for m in config.sparsities
        ]
    if config.random_languages:
        found += [
            Kind(f"random_{scheme}", "random", config.random_length, None, scheme) for scheme in config.random_schemes
        ]
    return found


def models(config: Config) -> list[Model]:
    """Return all models. Those of one number share sizes, rate, batch and first weights, whatever they learn."""
    found = []
    for kind in kinds(config):
        plain = (1, config.models) if kind.sparsity is None else (config.sparse_languages, config.sparse_models)
        count, each = (config.random_languages, config.random_models) if kind.random else plain
        for number in range(count * each):
            found.append(Model(kind, number // each, number, *_drawn(config, number, kind.random)))
    return found


def _drawn(config: Config, number: int, random: bool) -> tuple[Sizes, int, float]:
    generator = np.random.default_rng([config.seed, number])
    sizes = next(
        recognizer_sizes.drawn(
            generator, layers=config.layers, heads=config.heads, head_sizes=config.head_sizes,
            multipliers=config.multipliers,
        )
    )  # fmt: skip
    batch = int(generator.integers(config.batches[0], config.batches[1] + 1))
    rate = float(np.exp(generator.uniform(*np.log(config.learning_rates))))
    return sizes, min(batch, config.random_strings * config.random_passes if random else config.training_strings), rate


def language_of(config: Config, kind: Kind, number: int) -> Language:
    """Return language ``number`` of a kind: the same for all initialisations."""
    return kind.language(_language_key(config, "language", kind, number))


Examples = tuple[np.ndarray, np.ndarray]
"""Strings ``[count n]`` (uint8) and labels ``[count]`` (float32)."""


def examples(config: Config, kind: Kind, number: int) -> dict[str, Examples]:
    """Draw the examples of a language: for ``training``, ``validation`` and ``test``, each with a key of its own.

    Of a random language all three are those that are learned.
    """
    counts = {name: getattr(config, f"{name}_strings") for name in SPLITS}
    if kind.random:
        counts = {"training": config.random_strings}
    bits = [strings.uniform(_language_key(config, name, kind, number), count, kind.n) for name, count in counts.items()]
    labels = language_of(config, kind, number).accept(np.concatenate(bits))  # at once: each shape is compiled
    ends = np.cumsum(list(counts.values()))[:-1]
    parts = zip(bits, np.split(np.asarray(labels), ends), strict=True)
    found = [(np.asarray(own, np.uint8), np.asarray(label, np.float32)) for own, label in parts]
    if not kind.random:
        return dict(zip(counts, found, strict=True))
    repeated = tuple(np.concatenate([part] * config.random_passes) for part in found[0])
    return {"training": repeated, "validation": found[0], "test": found[0]}


def profiled(config: Config, n: int) -> np.ndarray:
    """Draw the strings ``[count n]`` that sensitivity is measured on: the same for all models of a length."""
    return np.asarray(strings.uniform(config.key("profile", n), config.profile_strings, n), np.uint8)


def exact_on_strings(config: Config, kind: Kind, numbers: Sequence[int]) -> float:
    """Return the average sensitivity of languages on the strings that models are measured on, in bits.

    It tells what of a difference from the exact average is due to these strings, which all models share.
    """
    bits = profiled(config, kind.n)
    flipped = bits[:, None] ^ np.eye(kind.n, dtype=np.uint8)
    averages = []
    for number in numbers:
        accept = language_of(config, kind, number).accept
        averages.append((np.asarray(accept(flipped)) != np.asarray(accept(bits))[:, None]).sum(1).mean())
    return float(np.mean(averages))


def _language_key(config: Config, purpose: str, kind: Kind, number: int) -> Key:
    return config.key(purpose, languages.NAMES.index(kind.family), kind.sparsity or 0, number)


@dataclass(frozen=True)
class Group:
    """Models of one shape, which are trained together.

    Attributes:
        sizes: Of all of them.
        random: Whether they learn random languages.
        models: The models.
    """

    sizes: Sizes
    random: bool
    models: tuple[Model, ...]

    @property
    def name(self) -> str:
        """The name of its unit."""
        s = self.sizes
        what = "random" if self.random else "languages"
        return f"{what}-layers{s.layers}-heads{s.heads}-size{s.head_size}-multiplier{s.multiplier}"

    @property
    def languages(self) -> list[tuple[Kind, int]]:
        """The languages they learn, a kind and a number each; initialisations share them."""
        found: dict[tuple[str, int | None, int], tuple[Kind, int]] = {}
        for model in self.models:
            found.setdefault(self._language(model), (model.kind, model.language))
        return list(found.values())

    @property
    def datasets(self) -> list[int]:
        """Which of ``languages`` each model learns."""
        order = list(dict.fromkeys(self._language(model) for model in self.models))
        return [order.index(self._language(model)) for model in self.models]

    @staticmethod
    def _language(model: Model) -> tuple[str, int | None, int]:
        return model.kind.family, model.kind.sparsity, model.language


def groups(config: Config) -> Iterator[Group]:
    """Yield the models by shape, the smallest shape first."""
    found: dict[tuple[Sizes, bool], list[Model]] = {}
    for model in models(config):
        found.setdefault((model.sizes, model.kind.random), []).append(model)
    for (sizes, random), members in sorted(found.items(), key=lambda pair: pair[0]):
        yield Group(sizes, random, tuple(members))
