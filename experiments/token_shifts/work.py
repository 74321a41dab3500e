"""The work of a run, counted from its settings."""

from functools import partial
from typing import Any

import numpy as np

from experiments.harness.work import GRADIENT, Work, operations
from experiments.images.config import SETTINGS
from experiments.images.work import IMAGES
from experiments.token_shifts.config import KINDS, STATES, Config
from jaxsens import models
from jaxsens.models import pretrained
from jaxsens.models.text import bert, encoder, gpt2

__all__ = ["MINILM", "work"]

MINILM = {"width": 384, "depth": 6, "heads": 12, "hidden": 1536, "vocabulary": 30_522, "positions": 512}
"""The sizes of MiniLM, for which the work is counted; the settings do not tell those of another model."""


def work(config: Config) -> list[Work]:
    """Return training and measures of all models, if every text has as many tokens as a model reads.

    Shifts of embeddings alone, where no layer is computed, have no matrix products and are not counted.
    """
    training = Work("training", "training", 0, 0, at_most=True)
    layers, looked_up = (
        Work(part, "text models", 0, 0, at_most=True) for part in ("shifts in all layers", "nearest rows of states")
    )
    accuracy = Work("accuracy", "text models", 0, 0, at_most=True)
    for kind in (kind for kind in KINDS if kind in config.kinds):
        module, inputs, examples, epochs, batch = _of_kind(config, kind)
        each = operations(models.evaluation(module), partial(encoder.init, module), inputs)
        length = inputs[0][1]
        for state in STATES:
            count = 1 if (kind, state) == ("minilm", "before") else config.seeds
            if state == "after":
                training = training.plus(count * epochs * (examples // batch * batch) * GRADIENT, each)
                accuracy = accuracy.plus(count * config.tested, each)
            followed = config.followed * (2 * config.least + 1)
            followed += 0 if kind == "vit" else length + 1  # every token of an example
            layers = layers.plus(count * followed, each)
            if kind != "vit":
                table = 2 * length * module.config.width * module.config.vocabulary * (module.config.depth + 1)
                looked_up = looked_up.plus(count * config.identified, each + table)
    return [training, layers, looked_up, accuracy]


def _of_kind(config: Config, kind: str) -> tuple[Any, tuple[tuple[int, ...], Any], int, int, int]:
    """Return a module, shape and dtype of an input, numbers of training examples and epochs, and the batch."""
    if kind == "minilm":
        module = bert.Bert(bert.Config(**MINILM, classes=2, read_out=config.read_out))
        return module, ((1, config.longest), np.int32), config.train_texts, config.epochs, config.batch
    if kind == "vit":
        shape, classes, train, _ = IMAGES[config.images]
        patch = SETTINGS[config.images][0]
        module = pretrained.vit.PretrainedViT(config.small_vit(shape, classes))
        tokens = (1, shape[0] // patch * (shape[1] // patch), patch * patch * shape[2])
        return module, (tokens, np.float32), train, config.image_epochs, config.small_batch
    vocabulary = MINILM["vocabulary"]
    module = gpt2.GPT2(config.small_gpt2(vocabulary)) if kind == "gpt2" else bert.Bert(config.small_bert(vocabulary))
    ids = (1, config.small_longest), np.int32
    return module, ids, config.small_texts, config.small_epochs, config.small_batch
