"""The languages of the experiment, and the models that learn them: kinds, models, and groups of one shape."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import jax
import numpy as np
from scipy import stats

from experiments.trained_recognizers.config import KEYS, PLAIN, SPARSE, Config
from jaxsens.boolean import Language, languages
from jaxsens.models.recognizers import sizes
from jaxsens.models.recognizers.sizes import Sizes
from jaxsens.typing import Key


@dataclass(frozen=True)
class Kind:
    """A kind of language, with the initialization of the models that learn it.

    Attributes:
        name: Its name in tables, such as ``sparse_parity_5``.
        family: One of ``jaxsens.boolean.languages.NAMES``.
        n: Bits of a string.
        sparsity: Number of positions that matter; None for all.
        scheme: Initialization of the weights.
    """

    name: str
    family: str
    n: int
    sparsity: int | None
    scheme: str

    @property
    def random(self) -> bool:
        """Whether labels are random; accuracy is then measured on the training strings."""
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
        kind: Kind of the language that it learns, and its initialization.
        language: Number of the language of that kind.
        number: Its number among the models of a kind, over all languages.
        sizes: Its architecture.
        batch: Strings in a step.
        learning_rate: Learning rate of Adam at the start.
    """

    kind: Kind
    language: int
    number: int
    sizes: Sizes
    batch: int
    learning_rate: float


def kinds(config: Config) -> list[Kind]:
    """Return the kinds of languages, in the order of tables and figures."""
    members = [Kind(name, name, config.length, None, config.scheme) for name in PLAIN]
    if config.sparse_languages:
        members += [
            Kind(f"{family}_{m}", family, config.length, m, config.scheme)
            for family in SPARSE
            for m in config.sparsities
        ]
    if config.random_languages:
        members += [
            Kind(f"random_{scheme}", "random", config.random_length, None, scheme) for scheme in config.random_schemes
        ]
    return members


def models(config: Config) -> list[Model]:
    """Return all models. Those of one number share sizes, rate, batch and first weights in every language."""
    members = []
    for kind in kinds(config):
        plain = (1, config.models) if kind.sparsity is None else (config.sparse_languages, config.sparse_models)
        count, each = (config.random_languages, config.random_models) if kind.random else plain
        for number in range(count * each):
            members.append(Model(kind, number // each, number, *_drawn(config, number, kind.random)))
    return members


def _drawn(config: Config, number: int, random: bool) -> tuple[Sizes, int, float]:
    generator = np.random.default_rng([config.seed, number])
    architecture = next(
        sizes.drawn(
            generator, layers=config.layers, heads=config.heads, head_sizes=config.head_sizes,
            multipliers=config.multipliers,
        )
    )  # fmt: skip
    batch = int(generator.integers(config.batches[0], config.batches[1] + 1))
    rate = float(np.exp(generator.uniform(*np.log(config.learning_rates))))
    return (
        architecture,
        min(batch, config.random_strings * config.random_passes if random else config.training_strings),
        rate,
    )


def language_of(config: Config, kind: Kind, number: int) -> Language:
    """Return language ``number`` of a kind: the same for all initializations."""
    return kind.language(language_key(config, "language", kind, number))


def language_key(config: Config, purpose: str, kind: Kind, number: int) -> Key:
    """Return the key of a purpose for language ``number`` of a kind."""
    return KEYS(config.seed, purpose, languages.NAMES.index(kind.family), kind.sparsity or 0, number)


@dataclass(frozen=True)
class Group:
    """Models of one shape, which are trained together.

    Attributes:
        sizes: Their architecture.
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
        """The languages they learn, a kind and a number each; initializations share them."""
        distinct: dict[tuple[str, int | None, int], tuple[Kind, int]] = {}
        for model in self.models:
            distinct.setdefault(self._language(model), (model.kind, model.language))
        return list(distinct.values())

    @property
    def datasets(self) -> list[int]:
        """Index in ``languages`` of the one that each model learns."""
        order = list(dict.fromkeys(self._language(model) for model in self.models))
        return [order.index(self._language(model)) for model in self.models]

    @staticmethod
    def _language(model: Model) -> tuple[str, int | None, int]:
        return model.kind.family, model.kind.sparsity, model.language


def groups(config: Config) -> Iterator[Group]:
    """Yield the models by shape, the smallest shape first."""
    by_shape: dict[tuple[Sizes, bool], list[Model]] = {}
    for model in models(config):
        by_shape.setdefault((model.sizes, model.kind.random), []).append(model)
    for (architecture, random), members in sorted(by_shape.items(), key=lambda pair: pair[0]):
        yield Group(architecture, random, tuple(members))
