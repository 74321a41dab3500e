"""The models of ``experiments.token_shifts``: before and after training, and their accuracy."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import harness
from experiments.token_shifts.config import KINDS, Config
from experiments.token_shifts.data import PADDING, Pictures, Reading
from jaxsens import models, training
from jaxsens.execution import Execution, parallel
from jaxsens.models import pretrained
from jaxsens.models.text import bert, encoder, gpt2
from jaxsens.typing import Array, PyTree

__all__ = ["Start", "before", "correct", "train"]

_KEYS = harness.Keys(*KINDS)


class Start(NamedTuple):
    """A model before training: its module, and its variables."""

    module: Any
    variables: PyTree


def before(config: Config, kind: str, seed: int, minilm: pretrained.Pretrained, pictures: Pictures) -> Start:
    """Return MiniLM with an untrained classifier, or a small model with random weights.

    Raises:
        ValueError: If the folder holds no BERT, or one that reads fewer tokens than ``longest``.
    """
    key = jax.random.fold_in(_KEYS(config.seed, kind, seed), 0)
    published = minilm.module.config
    if not isinstance(published, bert.Config) or published.positions < config.longest:
        raise ValueError(
            f"model={config.model!r} must be a BERT with positions for longest={config.longest} tokens, got {published}"
        )
    if kind == "minilm":
        module = bert.Bert(dataclasses.replace(published, classes=2, dropout=config.dropout))
        variables = encoder.init(module, key)
        return Start(module, {"params": variables["params"] | minilm.variables["params"]})
    module = {
        "bert": lambda: bert.Bert(config.small_bert(published.vocabulary)),
        "gpt2": lambda: gpt2.GPT2(config.small_gpt2(published.vocabulary)),
        "vit": lambda: pretrained.vit.PretrainedViT(config.small_vit(pictures.image_shape, pictures.classes)),
    }[kind]()
    return Start(module, encoder.init(module, key))


def train(
    config: Config, kind: str, seed: int, start: Start, reading: Reading, pictures: Pictures
) -> tuple[PyTree, np.ndarray]:
    """Train a model to classify texts or images, and return its variables and the losses of its epochs, in nats."""
    fine = kind == "minilm"
    epochs = {"minilm": config.epochs, "vit": config.image_epochs}.get(kind, config.small_epochs)
    tokens, labels = pictures.train if kind == "vit" else reading.train
    return training.fit(
        jax.random.fold_in(_KEYS(config.seed, kind, seed), 1),
        models.train_apply(start.module) if kind == "vit" else encoder.train_apply(start.module, padding=PADDING),
        start.variables,
        tokens,
        labels,
        training.Config(
            epochs,
            config.batch if fine else config.small_batch,
            config.learning_rate if fine else config.small_learning_rate,
            training.Optimizer("adamw", weight_decay=0.01, schedule="cosine", warmup=0.1),
            config.parts,
            reproducible=config.reproducible,
        ),
        progress=f"{kind}, seed {seed}",
    )


def correct(
    config: Config, kind: str, module: Any, variables: PyTree, reading: Reading, pictures: Pictures
) -> np.ndarray:
    """Return for every held-out text, or test image, whether the model is right ``[n]``."""
    apply = models.evaluation(module) if kind == "vit" else parallel.bind(_padded, module)
    tested = pictures.tested if kind == "vit" else reading.tested
    return training.accuracy(apply, variables, *tested, execution=Execution(chunk=config.chunk))


def _padded(module: Any, variables: PyTree, tokens: Array) -> jax.Array:
    """Evaluate a model of padded ids."""
    return models.evaluation(module)(variables, tokens, tokens != PADDING)
