"""The programs of the benchmark's cases at default settings, recorded without computing anything."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxsens import boolean, changes, models, perturb, sensitivity, substitution
from jaxsens.execution import Execution, dry_run
from jaxsens.execution.dry_run import Launch
from jaxsens.models import recognizers
from jaxsens.models.text import bert, encoder
from jaxsens.typing import Change, PyTree, Substitute

__all__ = ["PROGRAMS", "Recorded", "bert_base", "zeros"]

KEY = 0
IMAGES, STRINGS, TEXTS = 2**15, 2**15, 2**11
"""Enough items for the largest launches; they are never touched, so that the zeros take no memory."""
LENGTH, TOKENS = 100, 128
WAYS = ("plain", "shared")


@dataclass(frozen=True)
class Recorded:
    """A program and how much it evaluates.

    Attributes:
        launch: The program.
        count: Model forwards that a run of the program evaluates, with room for all of its chunks.
        trips: How often its loops run whose number of steps is data, from the outermost.
    """

    launch: Launch
    count: int
    trips: tuple[int, ...]


def zeros(shapes: PyTree) -> PyTree:
    """Return arrays of zeros of the shapes; the memory is not touched."""
    return jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes)


def bert_base() -> bert.Bert:
    """Return an encoder of the size of BERT-base."""
    return bert.Bert(bert.Config(width=768, depth=12, heads=12, hidden=3072, vocabulary=30_522, positions=512))


def _substitutions(
    measure: Callable[[Execution], Callable[[PyTree], Any]], tokens: int, execution: Execution
) -> Recorded:
    launches: list[Launch] = []
    with dry_run.recording(launches):
        measure(execution)
    (launch,) = launches
    return Recorded(launch, launch.chunks * launch.chunk * (tokens + 1), (launch.chunks, 1))


def _image(name: str, way: str, execution: Execution) -> Recorded:
    variant = {"vit": "paper_cifar10"}.get(name, "paper")
    module = models.build(name, variant, image_shape=(32, 32, 3), classes=10, patch=4)
    shared = models.substitution.encoder if name == "vit" else models.substitution.convolutional
    substitute = shared(module) if way == "shared" else substitution.one_at_a_time(models.evaluation(module))
    variables = zeros(jax.eval_shape(lambda: models.init(module, jax.random.key(KEY))))
    return _tokens(substitute, perturb.gaussian(1.0), variables, (IMAGES, *module.config.token_shape), execution)


def _text(way: str, execution: Execution) -> Recorded:
    module = bert_base()
    evaluation = substitution.one_at_a_time(models.evaluation(module))
    substitute = models.substitution.encoder(module) if way == "shared" else evaluation
    variables = zeros(jax.eval_shape(lambda: encoder.init(module, jax.random.key(KEY))))
    noise = perturb.replace_uniform(module.config.vocabulary)
    return _tokens(substitute, noise, variables, (TEXTS, TOKENS), execution, np.int32, changes.euclidean_change)


def _tokens(
    substitute: Substitute, perturbation: Any, variables: PyTree, shape: tuple[int, ...], execution: Execution,
    dtype: Any = np.float32, change: Change = changes.prediction_change,
) -> Recorded:  # fmt: skip
    tokens = np.zeros(shape, dtype)

    def measure(execution: Execution) -> Any:
        run = sensitivity.token_sensitivity(substitute, perturbation, change=change, execution=execution)
        return run(jax.random.key(KEY), variables, tokens)

    return _substitutions(measure, shape[1], execution)


def _recognizer(sizes: tuple[int, int, int, int], way: str, execution: Execution) -> Recorded:
    depth, heads, head_size, multiplier = sizes
    config = recognizers.Config(depth=depth, heads=heads, head_size=head_size, multiplier=multiplier)
    plain = substitution.one_at_a_time(recognizers.evaluation(config))
    substitute = models.substitution.recognizer(config) if way == "shared" else plain
    variables = zeros(jax.eval_shape(lambda: recognizers.init(config, jax.random.key(KEY))))
    strings = np.zeros((STRINGS, LENGTH), np.int32)

    def measure(execution: Execution) -> Any:
        return boolean.sensitivity_profile(substitute, execution=execution)(jax.random.key(KEY), variables, strings)

    return _substitutions(measure, LENGTH, execution)


PROGRAMS: dict[str, Callable[[Execution], Recorded]] = {
    **{
        f"{name}, {way}": functools.partial(_image, name, way)
        for name in ("cnn", "convmixer", "resnet", "vit")
        for way in WAYS
    },
    **{
        f"recognizer {width}, {way}": functools.partial(_recognizer, sizes, way)
        for width, sizes in ((32, (2, 2, 16, 4)), (128, (2, 4, 32, 4)))
        for way in WAYS
    },
    **{f"bert-base, {way}": functools.partial(_text, way) for way in WAYS},
}
"""What records a program, by name: the image models of the papers at 32 x 32 pixels, recognizers of 100 bits and two
layers, BERT-base with 128 tokens."""
