"""The models of ``experiments.language``: their modules, and how they are trained."""

from typing import Any

import jax

from experiments.language.config import Config
from experiments.language.data import PADDING
from jaxsens import models
from jaxsens.execution.parallel import bind
from jaxsens.models.text import bert, encoder, gpt2, lstm
from jaxsens.typing import Apply, Array, Key, PyTree, TrainApply

__all__ = ["FROZEN", "evaluation", "module", "train_apply"]

FROZEN = ("tokens", "norm_embedding", "classifier")
"""Parameters of the LSTM that the published code does not train."""


def module(config: Config, family: str, vocabulary: int) -> Any:
    """Return the untrained model of a family, with a classifier of two classes."""
    if family.startswith("lstm"):
        return lstm.LSTM(
            lstm.Config(
                vocabulary=vocabulary, width=config.width, depth=config.depth, classes=2, dropout=config.dropout
            )
        )
    hidden = 2 * config.width if config.hidden is None else config.hidden
    sizes = {
        "width": config.width, "depth": config.depth, "heads": config.heads, "hidden": hidden, "classes": 2,
        "dropout": config.dropout, "vocabulary": vocabulary, "positions": config.longest,
    }  # fmt: skip
    if family == "gpt2":
        return gpt2.GPT2(gpt2.Config(**sizes, read_out="last"))
    attention = "relu" if family == "roberta_relu" else "softmax"
    return bert.Bert(
        bert.Config(**sizes, attention=attention, position_offset=2, types=1, read_out="pooler", epsilon=1e-5)
    )


def train_apply(family: str, model: Any) -> TrainApply:
    """Return the model in training mode, for ids with ``PADDING``."""
    return bind(_frozen, model) if family == "lstm_frozen" else encoder.train_apply(model, padding=PADDING)


def evaluation(model: Any) -> Apply:
    """Return the model in evaluation mode, for ids with ``PADDING``."""
    return bind(_padded, model)


def _frozen(model: Any, variables: PyTree, tokens: Array, key: Key, /) -> tuple[jax.Array, PyTree]:
    params = {
        name: jax.lax.stop_gradient(part) if name in FROZEN else part for name, part in variables["params"].items()
    }
    logits, _ = encoder.train_apply(model, padding=PADDING)({"params": params}, tokens, key)
    return logits, variables


def _padded(model: Any, variables: PyTree, tokens: Array, /) -> jax.Array:
    return models.evaluation(model)(variables, tokens, tokens != PADDING)
