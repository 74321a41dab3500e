"""What ``experiments.trained_recognizers`` measures of models: sensitivity, accuracy, blow-up and the norm of weights.

Numbers that are not finite are marked and kept: training may leave weights whose logits overflow.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.boolean import blow_up, decisions
from jaxsens.execution import Execution, parallel
from jaxsens.models import recognizers
from jaxsens.models.substitution import recognizers as recognizer_substitution
from jaxsens.typing import Array, PyTree

NONFINITE = -1
"""The sensitivity of a string where a logit, its own or one with a bit flipped, is not finite."""

ROWS = 32
"""Strings evaluated at once for accuracy and blow-ups."""


def sensitivities(config: recognizers.Config, variables: PyTree, strings: Array) -> np.ndarray:
    """Return the sensitivity of a model on strings ``[b n]``, int16 ``[b]``, from 0 to n, or ``NONFINITE``."""
    return parallel.map_items(
        Sensitivity(config), np.asarray(strings, np.uint8), variables, execution=Execution(chunk=1)
    )


@dataclass(frozen=True)
class Evaluated:
    """What models say of their own strings, ``m`` models with ``b`` strings each.

    Attributes:
        correct: Share of strings of which the decision is the label; a logit that is no number decides nothing ``[m]``.
        log_blow_up: Mean over strings of ``log10 beta``, the cumulative blow-up (Eq. 18); NaN where it is none ``[m]``.
        norm: l2 norm of all weights ``[m]``.
    """

    correct: np.ndarray
    log_blow_up: np.ndarray
    norm: np.ndarray


def evaluate(config: recognizers.Config, stacked: PyTree, strings: Array, labels: Array) -> Evaluated:
    """Evaluate models with stacked variables ``[m ...]`` on strings ``[m b n]`` with labels ``[m b]``."""
    logits, tau = parallel.map_items(
        LogitsAndBlowUps(config), (stacked, np.asarray(strings)), execution=Execution(chunk=1)
    )
    with np.errstate(invalid="ignore"):
        decided = decisions.decide(logits)
        log_blow_up = np.log10(tau.astype(np.float64)).sum(-1).mean(-1)
    return Evaluated((decided == labels).mean(1), log_blow_up, norms(stacked))


def norms(stacked: PyTree) -> np.ndarray:
    """Return the l2 norm of all floating leaves ``[m ...]`` together, in float64 ``[m]``."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(stacked)]
    squares = [
        (leaf.astype(np.float64) ** 2).reshape(len(leaf), -1).sum(1) for leaf in leaves if leaf.dtype.kind == "f"
    ]
    return np.sqrt(np.sum(squares, 0))


@dataclass(frozen=True)
class Sensitivity:
    """The sensitivity of one string (Def. 2.2), or ``NONFINITE``; equal ones share compiled code."""

    config: recognizers.Config
    rows: int = 4

    def __call__(self, string: Array, variables: PyTree) -> Array:
        """Measure it."""
        bits = string.astype(jnp.int32)
        with jax.default_matmul_precision("highest"):
            clean, changed = recognizer_substitution.substitute(self.config, self.rows)(variables, bits, 1 - bits)
        flipped = (decisions.decide(changed) != decisions.decide(clean)).sum()
        finite = jnp.isfinite(clean) & jnp.isfinite(changed).all()
        return jnp.where(finite, flipped, NONFINITE).astype(jnp.int16)


@dataclass(frozen=True)
class LogitsAndBlowUps:
    """Logits ``[b]`` and blow-ups of every normalisation ``[b r]`` (Eq. 17) of a model on its strings ``[b n]``."""

    config: recognizers.Config

    def __call__(self, item: tuple[PyTree, Array]) -> tuple[Array, Array]:
        """Measure those of one model."""
        variables, strings = item

        def of(string: Array) -> tuple[Array, Array]:
            found = recognizers.internals(self.config)(variables, string[None])
            return found.logits[0], blow_up.blow_up(found.normalizers[0])

        with jax.default_matmul_precision("highest"):
            return jax.lax.map(of, strings, batch_size=ROWS)
