"""Measures of a model: accuracy on three sets of strings, and normalized average sensitivity."""

import jax
import numpy as np

from experiments import harness
from experiments.simplicity_bias.config import Config
from jaxsens import boolean, substitution
from jaxsens.execution import Execution
from jaxsens.typing import Apply, Array, PyTree

Labeled = tuple[np.ndarray, np.ndarray]
"""Strings ``[c n]`` and their labels ``[c]``, 0 or 1."""


def sensitivity(config: Config, apply: Apply, variables: PyTree, probes: np.ndarray) -> tuple[float, float]:
    """Return the normalized average sensitivity of a model, in [0, 1], and its standard error over ``probes [b n]``.

    ``mean of s(x) / n``: the share of single-bit flips that change the decision. A single string has no error: 0.
    """
    measure = boolean.sensitivity_profile(
        substitution.one_at_a_time(apply), execution=Execution(chunk=max(config.rows, probes.shape[1] + 1))
    )
    average = measure(jax.random.key(0), variables, probes).normalized_average  # the key is for an audit: not used
    return float(average.mean), float(average.sem) if len(probes) > 1 else 0.0


def accuracies(config: Config, apply: Apply, variables: PyTree, *sets: Labeled) -> tuple[float, ...]:
    """Return the accuracy of a model on each set; it accepts a string where its logit is above 0."""
    strings = np.concatenate([strings for strings, _ in sets])  # together, so that one program serves all sets
    accepted = harness.outputs_on(apply, variables, strings, execution=Execution(chunk=config.rows)) > 0
    parts = np.split(accepted, np.cumsum([len(labels) for _, labels in sets])[:-1])
    return tuple(_share(part == (labels > 0.5)) for part, (_, labels) in zip(parts, sets, strict=True))


def _share(right: Array) -> float:
    return float(np.mean(right))
