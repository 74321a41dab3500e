"""The bound of noise stability by the largest sensitivity, checked exactly for given functions.

Proposition 3.2 of Vasudeva et al. (Transformers Learn Low Sensitivity Functions): for rho-correlated x and y,
``P[f(x) != f(y)] <= (1 - rho^(S^2)) / 2`` with S the largest sensitivity, that is ``Stab_rho(f) >= rho^(S^2)``.

More holds: with A the average sensitivity, ``Stab_rho(f) >= rho^A``. The weights by degree are a probability whose mean
degree is A, and ``rho^k`` is convex in k, so that this is Jensen's inequality. A is at most S.
"""

from collections.abc import Sequence

import numpy as np

from jaxsens.boolean import truth_tables
from jaxsens.noise_stability.correlated import require_rhos
from jaxsens.typing import Array

__all__ = ["EXPONENTS", "all_tables", "degree_slack", "stability_slack"]

EXPONENTS = ("largest squared", "largest", "average")
"""Sensitivities that a bound may have for its exponent."""


def all_tables(n: int) -> np.ndarray:
    """Return the truth tables of all functions of ``n`` bits ``[2**(2**n) 2**n]``, ``n`` from 1 to 4.

    Raises:
        ValueError: If ``n`` is not from 1 to 4.

    Example:
        >>> all_tables(2).shape
        (16, 4)
    """
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or not 1 <= n <= 4:
        raise ValueError(f"n must be from 1 to 4, got {n!r}: there are 2^(2^n) functions")
    return (np.arange(2**2**n)[:, None] >> np.arange(2**n)[::-1] & 1).astype(bool)


def degree_slack(tables: Array) -> np.ndarray:
    """Return ``S^2 - degree`` of functions, integers ``[...]``; at least 0 by Huang's theorem (2019).

    Where it is at least 0 the proposition holds for every rho from 0 to 1, since ``Stab_rho = sum_k W_k rho^k`` is at
    least ``rho^degree``: the weights sum to 1, and powers of rho fall.

    Args:
        tables: Truth tables ``[... 2**n]``.

    Raises:
        ValueError: If the tables are no truth tables.

    Example:
        >>> int(degree_slack([0, 1, 1, 0]))      # parity of two bits: 2^2 - 2
        2
    """
    largest = np.asarray(truth_tables.max_sensitivity(tables), np.int64)
    return largest**2 - np.asarray(truth_tables.degree(tables), np.int64)


def stability_slack(tables: Array, rhos: Sequence[float], *, exponent: str = "largest squared") -> np.ndarray:
    """Return ``Stab_rho(f) - rho^exponent`` of functions ``[... r]``; at least 0 where the bound holds.

    Weights are exact up to 12 bits; the powers are float64.

    Args:
        tables: Truth tables ``[... 2**n]``.
        rhos: Correlations ``[r]``, different numbers from -1 to 1; from 0 for ``"average"``.
        exponent: ``"largest squared"``, S^2, as published; ``"largest"``, S; or ``"average"``, the average sensitivity.

    Raises:
        ValueError: If the tables are no truth tables, rhos are not different numbers in the range, or the exponent is
            unknown.

    Example:
        >>> parity = np.array([0, 1, 1, 0, 1, 0, 0, 1])
        >>> stability_slack(parity, [0.5, -0.5]).tolist()      # rho^3 - rho^9
        [0.123046875, -0.123046875]
        >>> float(stability_slack([0, 0, 0, 1], [0.5], exponent="average")[0])      # "and": weights 1/4, 1/2, 1/4
        0.0625
    """
    if exponent not in EXPONENTS:
        raise ValueError(f"exponent must be one of {EXPONENTS}, got {exponent!r}")
    rhos = require_rhos(rhos)
    if exponent == "average" and rhos.min() < 0:
        raise ValueError(f"rhos must be at least 0 for the average sensitivity, which is no integer, got {rhos.min()}")
    weights = np.asarray(truth_tables.degree_weights(tables), np.float64)
    numbers = np.arange(weights.shape[-1])
    largest = np.asarray(truth_tables.max_sensitivity(tables), np.float64)
    power = {"largest squared": largest**2, "largest": largest, "average": weights @ numbers}[exponent]
    return weights @ rhos ** numbers[:, None] - rhos ** power[..., None]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
