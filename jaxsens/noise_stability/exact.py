"""Exact noise stability of functions of n bits, over a whole curve of correlations."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.boolean import truth_tables
from jaxsens.execution import checks
from jaxsens.noise_stability.correlated import require_rhos
from jaxsens.theory import walsh
from jaxsens.typing import Array

__all__ = ["exact_noise_stability"]


def exact_noise_stability(values: Array, rhos: Sequence[float]) -> np.ndarray:
    """Return ``Stab_rho(f) = sum_k rho^k W_k`` for functions on the cube: truth tables, or functions with real values.

    A truth table stands for a function of values +-1 and goes to ``truth_tables.noise_stability``; the weights of real
    values are ``W_k = sum over |S| = k of fhat(S)^2``, from ``theory.walsh``. (O'Donnell, Thm. 2.49.)

    Args:
        values: ``[... 2**n]`` at the index whose bits are the string, the first position the most significant bit:
            booleans or integers 0 and 1, or floats.
        rhos: Correlations ``[r]``, different numbers from -1 to 1.

    Returns:
        Stabilities ``[... r]``, float32 for truth tables and float64 for real values.

    Raises:
        ValueError: If the last axis is no power of two, or rhos are not different numbers from -1 to 1.

    Example:
        >>> exact_noise_stability([0, 1, 1, 0], [0.5, 1.0]).tolist()      # parity of two bits
        [0.25, 1.0]
        >>> exact_noise_stability([0.0, 0.0, 0.0, 4.0], [0.0]).tolist()   # mean 1
        [1.0]
    """
    rhos, table = require_rhos(rhos), checks.host_values(values, "values")
    if table.dtype.kind != "f":
        stabilities = jax.vmap(lambda rho: truth_tables.noise_stability(jnp.asarray(table), rho))
        truth_tables.noise_stability(table, 0.0)  # refuses what is no truth table, which traced tables cannot be
        return np.moveaxis(np.asarray(stabilities(rhos.astype(np.float32))), 0, -1)
    weights = walsh.degree_weights(table)
    return weights @ rhos ** np.arange(weights.shape[-1])[:, None]
