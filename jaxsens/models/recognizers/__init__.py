"""Recognizers of bit strings: the transformer of the papers, its baselines, its initialization and its sizes.

config = recognizers.Config(depth=2, heads=4, head_size=16)
variables = recognizers.init(config, key, "xavier_normal")
logits = recognizers.evaluation(config)(variables, strings)            # strings [b n] -> [b]
"""

from jaxsens.models.recognizers.transformer import (
    Config,
    Recognizer,
    at_depth,
    evaluation,
    init,
    internals,
    training_evaluation,
)

__all__ = ["Config", "Recognizer", "at_depth", "evaluation", "init", "internals", "training_evaluation"]
