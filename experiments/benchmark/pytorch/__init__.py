"""The same computations in PyTorch, as strong as we can write them plainly, and as they were published.

The only files that import PyTorch, but for one script. Models read the parameters of ours, so that answers can be
compared; they are evaluated in batches, without gradients, with fused attention, weights laid out for ``linear``,
images with channels last, and where asked compiled. Nothing is shared among substitutions: that is what our side adds.
"""

from experiments.benchmark.pytorch import (
    loss_surface,
    models,
    procedures,
    recognizers,
    strongest,
    tensors,
    truth_tables,
)

__all__ = ["loss_surface", "models", "procedures", "recognizers", "strongest", "tensors", "truth_tables"]
