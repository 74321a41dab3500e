"""The work of a run, counted from its settings."""

from functools import partial

import numpy as np

from experiments.harness.work import Work, operations
from experiments.language_models.config import Config
from jaxsens import models
from jaxsens.models.text import encoder, llama

__all__ = ["SMOLLM2", "work"]

SMOLLM2 = llama.Config(
    width=576, depth=30, heads=9, key_heads=3, head_size=64, hidden=1536, vocabulary=49_152, positions=8_192,
    read_out="every",
)  # fmt: skip
"""The sizes of SmolLM2-135M, for which the work is counted; the settings do not tell those of another model."""


def work(config: Config) -> list[Work]:
    """Return the losses of the texts and the influences of their tokens, for a model of the sizes of ``SMOLLM2``.

    Replacing token i evaluates the positions from i on: half of a forward on average.
    """
    module = llama.Llama(SMOLLM2)
    ids = ((1, config.length), np.int32)
    each = operations(models.evaluation(module), partial(encoder.init, module), ids)
    texts = len(config.subjects) * config.count
    replaced = texts * (config.draws + len(config.noise))
    return [
        Work.of("losses", "text models", texts, each),
        Work.of("influences", "text models", replaced * (1 + (config.length + 1) / 2), each),
    ]
