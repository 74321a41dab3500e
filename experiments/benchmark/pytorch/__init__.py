"""The same computations in PyTorch, batched and compiled, and as they were published.

Models read the parameters of the JAX models, so that results can be compared. They are evaluated in batches, without
gradients, with fused attention, weights in the layout of ``linear``, images with channels last, and compiled where that
is an option. Nothing is shared among substitutions, but for the key-value cache of ``decoders``: that is the
contribution of jaxsens.
"""

from experiments.benchmark.pytorch import (
    decoders,
    loss_surface,
    models,
    procedures,
    recognizers,
    strongest,
    tensors,
    truth_tables,
)

__all__ = ["decoders", "loss_surface", "models", "procedures", "recognizers", "strongest", "tensors", "truth_tables"]
