"""Recognizers of bit strings: the transformer of the papers, its baselines, its initialization and its sizes.

config = recognizers.Config(depth=2, heads=4, head_size=16)
variables = recognizers.init(config, key, "xavier_normal")
logits = recognizers.evaluation(config)(variables, strings)            # strings [b n] -> [b]
"""

from jaxsens.models.recognizers import baselines, initialization, layers, sizes
from jaxsens.models.recognizers.config import BLOCKS, Config
from jaxsens.models.recognizers.transformer import (
    EOS,
    Recognizer,
    at_depth,
    evaluation,
    init,
    internals,
    sinusoidal_positions,
    training_evaluation,
)

__all__ = [
    "BLOCKS",
    "EOS",
    "Config",
    "Recognizer",
    "at_depth",
    "baselines",
    "evaluation",
    "init",
    "initialization",
    "internals",
    "layers",
    "sinusoidal_positions",
    "sizes",
    "training_evaluation",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
