"""Measures of models: sensitivity, accuracy, blow-up and the norm of weights.

Numbers that are not finite are marked and kept, since training may leave weights with logits that overflow.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.boolean import blow_up, decisions
from jaxsens.execution import Execution, parallel
from jaxsens.models import recognizers, substitution
from jaxsens.typing import Array, PyTree

NONFINITE = -1
"""The sensitivity of a string if its logit or that of a neighbor is not finite."""

ROWS = 32
"""Strings in a block, for accuracy and blow-ups."""

FLIPS = 4
"""Flips of a string in a block, for sensitivity."""


def sensitivities(config: recognizers.Config, variables: PyTree, strings: Array) -> np.ndarray:
    """Return the sensitivity of a model on strings ``[b n]``, int16 ``[b]``, from 0 to n, or ``NONFINITE``."""
    one_string = parallel.bind(_sensitivity, config)
    return parallel.map_items(one_string, np.asarray(strings, np.uint8), variables, execution=Execution(chunk=1))


@dataclass(frozen=True)
class Evaluation:
    """Results of ``m`` models on ``b`` strings each.

    Attributes:
        correct: Share of strings with the right decision; a logit that is not a number decides nothing ``[m]``.
        log_blow_up: Mean over strings of ``log10 beta``, the cumulative blow-up (Eq. 18); NaN where it is none ``[m]``.
        norm: l2 norm of all weights ``[m]``.
    """

    correct: np.ndarray
    log_blow_up: np.ndarray
    norm: np.ndarray


def evaluate(config: recognizers.Config, stacked: PyTree, strings: Array, labels: Array) -> Evaluation:
    """Evaluate models with stacked variables ``[m ...]`` on strings ``[m b n]`` with labels ``[m b]``."""
    one_model = parallel.bind(_logits_and_blow_ups, config)
    logits, tau = parallel.map_items(one_model, (stacked, np.asarray(strings)), execution=Execution(chunk=1))
    with np.errstate(invalid="ignore"):
        decided = decisions.decide(logits)
        log_blow_up = np.log10(tau.astype(np.float64)).sum(-1).mean(-1)
    return Evaluation((decided == labels).mean(1), log_blow_up, norms(stacked))


def norms(stacked: PyTree) -> np.ndarray:
    """Return the l2 norm of all floating leaves ``[m ...]`` together, in float64 ``[m]``."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(stacked)]
    squares = [
        (leaf.astype(np.float64) ** 2).reshape(len(leaf), -1).sum(1) for leaf in leaves if leaf.dtype.kind == "f"
    ]
    return np.sqrt(np.sum(squares, 0))


def _sensitivity(config: recognizers.Config, string: Array, variables: PyTree) -> Array:
    """Return the sensitivity of one string (Def. 2.2), or ``NONFINITE``."""
    bits = string.astype(jnp.int32)
    with jax.default_matmul_precision("highest"):
        clean, changed = substitution.recognizer(config, FLIPS)(variables, bits, 1 - bits)
    flipped = (decisions.decide(changed) != decisions.decide(clean)).sum()
    finite = jnp.isfinite(clean) & jnp.isfinite(changed).all()
    return jnp.where(finite, flipped, NONFINITE).astype(jnp.int16)


def _logits_and_blow_ups(config: recognizers.Config, item: tuple[PyTree, Array]) -> tuple[Array, Array]:
    """Return logits ``[b]`` and blow-ups of every normalization ``[b r]`` (Eq. 17) of a model on strings ``[b n]``."""
    variables, strings = item

    def of_string(string: Array) -> tuple[Array, Array]:
        values = recognizers.internals(config)(variables, string[None])
        return values.logits[0], blow_up.blow_up(values.normalizers[0])

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(of_string, strings, batch_size=ROWS)
