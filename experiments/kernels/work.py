"""The work of a run, counted from its settings."""

import jax
import numpy as np

from experiments.harness.work import Work
from experiments.kernels.config import Config
from jaxsens.execution import flops
from jaxsens.theory import cube_tokens, finite_width_kernel
from jaxsens.theory.finite_width import KINDS

__all__ = ["work"]


def work(config: Config) -> list[Work]:
    """Return the networks of finite width, each on all points of its cube; the rest is computed on the host."""
    points = cube_tokens(config.finite_bits, config.finite_tokens).astype(np.float32)
    total = Work("networks of finite width", "small models", 0, 0)
    for kind in KINDS:
        for score in config.finite_scores:
            for read_out in config.finite_read_outs:
                for width in config.widths:
                    measure = finite_width_kernel(kind, score=score, read_out=read_out, width=width)
                    each = flops.count(measure.network, np.uint32(0), jax.random.key(0), points).operations
                    total = total.plus(config.networks * len(points), each / len(points))
    return [total]
