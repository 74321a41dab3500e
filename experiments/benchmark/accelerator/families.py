"""Small models of every family, with fresh inputs, and every substitution that each family has."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxsens import models, substitution
from jaxsens.models import recognizers
from jaxsens.models.recognizers import baselines
from jaxsens.models.text import bert, encoder, gpt2, lstm
from jaxsens.typing import Array, Key, PyTree, Substitute

__all__ = ["Family", "families", "flip", "reverse"]


def reverse(key: Key, draw: Array, x: Array) -> Array:
    """Replace every token by its mirror image in the example: as random as the example, the same in every precision."""
    del key, draw
    return x[::-1]


def flip(key: Key, draw: Array, x: Array) -> Array:
    """Flip every bit."""
    del key, draw
    return 1 - x


@dataclasses.dataclass(frozen=True)
class Family:
    """A model and its inputs.

    Attributes:
        name: Name of the family.
        variables: Variables of the model, float32.
        tokens: Inputs ``[b t *s]``.
        mask: Which tokens are real ``[b t]``, or None.
        perturbation: What replaces a token.
        substitutes: The ways to evaluate substitutions, by name; the first is the plain one.
        exact: The plain way in float64, for float64 variables.
    """

    name: str
    variables: PyTree
    tokens: np.ndarray
    mask: np.ndarray | None
    perturbation: Callable[[Key, Array, Array], Array]
    substitutes: dict[str, Substitute]
    exact: Substitute


def families(seed: int) -> Iterator[tuple[str, Callable[[], Family]]]:
    """Yield the name of every family, and what makes it."""
    for number, name in enumerate(_IMAGES):
        yield name, lambda name=name, number=number: _image(name, *_IMAGES[name], [seed, 1, number])
    for number, (name, config) in enumerate(_RECOGNIZERS.items()):
        yield name, lambda name=name, config=config, number=number: _recognizer(name, config, [seed, 2, number])
    for number, (name, make) in enumerate(_TEXTS.items()):
        yield name, lambda name=name, make=make, number=number: _text(name, make, [seed, 3, number])


_IMAGES = {
    "cnn": ("cnn", "small"),
    "convmixer": ("convmixer", "small"),
    "resnet": ("resnet", "small"),
    "vit, mean": ("vit", "small"),
    "vit, class token": ("vit", "paper_mnist"),
    "mlp": ("mlp", "small"),
}
BITS, SYMBOLS = 12, 50
_RECOGNIZERS = {
    "recognizer": recognizers.Config(depth=3, heads=2, head_size=8),
    "recognizer, paper's block": recognizers.Config(block="paper", depth=2, heads=2, head_size=8),
    "recognizer, LSTM": baselines.LSTMConfig(depth=2, width=16),
    "recognizer, MLP": baselines.MLPConfig(length=BITS, depth=2, width=16),
}
_SIZES = {"width": 24, "depth": 3, "heads": 3, "hidden": 48, "vocabulary": SYMBOLS, "positions": 16}
_TEXTS = {
    "bert": lambda dtype: bert.Bert(bert.Config(dtype=dtype, classes=4, **_SIZES)),
    "bert, mean": lambda dtype: bert.Bert(bert.Config(dtype=dtype, read_out="mean", **_SIZES)),
    "gpt2": lambda dtype: gpt2.GPT2(gpt2.Config(dtype=dtype, read_out="last", **_SIZES)),
    "lstm": lambda dtype: lstm.LSTM(lstm.Config(dtype=dtype, width=16, depth=2, vocabulary=SYMBOLS, classes=4)),
}


def _image(name: str, family: str, variant: str, seed: list[int]) -> Family:
    def module(dtype: str) -> Any:
        return models.build(family, variant, image_shape=(16, 16, 3), classes=5, patch=4, dtype=dtype)

    model = module("float32")
    draws = np.random.default_rng(seed)
    tokens = draws.normal(size=(3, *model.config.token_shape)).astype(np.float32)
    variables = jax.device_get(models.init(model, jax.random.key(int(draws.integers(2**31)))))
    fast = {"vit": models.substitution.encoder}
    fast |= dict.fromkeys(("cnn", "convmixer", "resnet"), models.substitution.convolutional)
    ways: dict[str, Substitute] = {"plain": substitution.one_at_a_time(models.evaluation(model))}
    if family in fast:
        ways["shared"] = fast[family](model)
    exact = substitution.one_at_a_time(models.evaluation(module("float64")))
    return Family(name, variables, tokens, None, reverse, ways, exact)


def _recognizer(name: str, config: Any, seed: list[int]) -> Family:
    draws = np.random.default_rng(seed)
    strings = draws.integers(0, 2, (3, BITS)).astype(np.int32)
    variables = jax.device_get(recognizers.init(config, jax.random.key(int(draws.integers(2**31))), "xavier_normal"))
    if isinstance(config, recognizers.Config):
        plain = substitution.one_at_a_time(recognizers.evaluation(config))
        ways = {"plain": plain, "shared": models.substitution.recognizer(config)}
    else:
        plain = substitution.one_at_a_time(baselines.evaluation(config))
        ways = {"plain": plain}
    return Family(name, variables, strings, None, flip, ways, plain)


def _text(name: str, make: Callable[[str], Any], seed: list[int]) -> Family:
    draws = np.random.default_rng(seed)
    ids = draws.integers(0, SYMBOLS, (3, 9)).astype(np.int32)
    mask = np.arange(9)[None] < np.asarray([9, 6, 8])[:, None]
    model = make("float32")
    variables = jax.device_get(encoder.init(model, jax.random.key(int(draws.integers(2**31)))))
    ways = {"plain": substitution.one_at_a_time(models.evaluation(model))}
    if name != "lstm":
        ways["shared"] = models.substitution.encoder(model)
    exact = substitution.one_at_a_time(models.evaluation(make("float64")))
    return Family(name, variables, ids, mask, reverse, ways, exact)
