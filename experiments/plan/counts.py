"""The work of each experiment, counted from its configuration, without data or weights."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.images.config import TREATMENTS
from experiments.plan.parts import Part
from experiments.random_recognizers import config as random_recognizers
from experiments.random_recognizers.measure import strings_for
from experiments.vision import config as vision
from jaxsens import models
from jaxsens.execution import flops
from jaxsens.models import substitution
from jaxsens.models.recognizers import baselines

__all__ = ["EXPERIMENTS", "of_random_recognizers", "of_vision"]

IMAGES = {
    "digits": ((8, 8, 1), 1_437), "mnist": ((28, 28, 1), 60_000), "fashion_mnist": ((28, 28, 1), 60_000),
    "cifar10": ((32, 32, 3), 50_000), "svhn_cropped": ((32, 32, 3), 73_257), "imagenet2012": ((224, 224, 3), 1_281_167),
}  # fmt: skip
"""The shape of an image and the number of training images, by data set."""


def of_random_recognizers(config: random_recognizers.Config) -> list[Part]:
    """Return the flips of all bits of all strings, for each kind of model; audits in float64 are left out."""
    forwards, operations = Counter(), Counter()
    for model in random_recognizers.models(config):
        fields, _ = random_recognizers.TRANSFORMERS.get(model.kind, ({}, {}))
        architecture = model.architecture.config(config.epsilon, **fields)
        if model.kind in random_recognizers.BASELINES:
            matched = baselines.matched(model.kind, baselines.parameter_count(architecture), config.length)
            steps = config.length + 1 if model.kind == "lstm" else 1
            cost = limit = 2 * baselines.parameter_count(matched) * steps * (config.length + 1)
        else:
            cost = substitution.recognizers.operations(architecture, model.architecture.layers, config.length)[1]
            middle = sorted(config.layers)[len(config.layers) // 2]
            limit = substitution.recognizers.operations(architecture, middle, config.length)[1]
        strings = strings_for(config, limit)
        forwards[model.kind] += strings * (config.length + 1)
        operations[model.kind] += strings * cost
    return [Part(f"sensitivity, {kind}", "recognizers", forwards[kind], operations[kind]) for kind in forwards]


def of_vision(config: vision.Config) -> list[Part]:
    """Return training, sensitivity and sharpness; every search for a learning rate trains on all training images."""
    shape, count = IMAGES[config.dataset]
    examples, tokens = min(config.train_examples, count), shape[0] // config.token * (shape[1] // config.token)
    rates = len(config.learning_rates) if len(config.learning_rates) > 1 else 0
    points = len(np.unique(np.geomspace(1, config.epochs, max(config.curve_points - 1, 1)).round())) + 1
    work = {"training": 0, "sensitivity": 0, "sensitivity during training": 0, "sharpness": 0}
    operations = dict.fromkeys(work, 0.0)
    for name in config.architectures:
        one = _operations_of_image(config, name, shape)
        gradients = (2 if TREATMENTS[name].regularized else 1) * 3
        forwards = {
            "training": (config.seeds + rates) * config.epochs * examples * gradients,
            "sensitivity": config.seeds * min(config.measured, examples) * config.draws * (tokens + 1),
            "sensitivity during training": config.seeds * points * (
                min(config.curve_examples, examples) * (tokens + 1) + config.test_examples
            ),
            "sharpness": config.seeds * min(config.measured, examples) * (config.sharpness_draws + 1),
        }  # fmt: skip
        for part, number in forwards.items():
            work[part] += number
            operations[part] += number * one
    kinds = {part: "training" if part == "training" else "image models" for part in work}
    return [Part(part, kinds[part], work[part], operations[part]) for part in work]


def _operations_of_image(config: vision.Config, name: str, shape: tuple[int, int, int]) -> float:
    """Return the floating-point operations of a forward of an image model."""
    treatment = TREATMENTS[name]
    for_data = f"paper_{config.dataset}"
    known = models.MODELS[treatment.model].variants
    variant = for_data if config.variant == "paper" and for_data in known else config.variant
    module = models.build(treatment.model, variant, image_shape=shape, classes=10, patch=config.token)
    module = type(module)(dataclasses.replace(module.config, **dict(treatment.fields)))
    variables = jax.eval_shape(lambda: models.init(module, jax.random.key(0)))
    image = jax.ShapeDtypeStruct((1, *module.config.token_shape), np.float32)
    return flops.count(models.evaluation(module), variables, image).operations


EXPERIMENTS: dict[str, tuple[dict[str, Any], Callable[[Any], list[Part]]]] = {
    "random_recognizers": (random_recognizers.PRESETS, of_random_recognizers),
    "vision": (vision.PRESETS, of_vision),
}
"""The presets of each experiment whose work is counted, and the function that counts it."""
