"""What the reports of the experiments on images share: estimates as verdicts, and as points of a figure."""

import numpy as np

from experiments import harness
from jaxsens.statistics.estimate import Estimate


def below_zero(found: Estimate, seeds: int) -> str:
    """Return the verdict on a quantity that is claimed to be below 0; one model's interval is open, and tells none."""
    low, high = (float(end) for end in found.interval())
    if not np.isfinite([low, high]).all():
        return "inconclusive"
    return harness.verdict((low, high), seeds=seeds, below=0.0)
