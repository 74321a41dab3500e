"""Kernels of a single layer of attention in the limit of many heads and wide keys, in closed form.

The network, for tokens ``X [t w]``, heads h and standard normal weights ``A_h, B_h [w k]``, ``C_h [w v]`` and ``U_h``:

    S = (X A_h) (X B_h)^T / (w sqrt(k)),  O_h = phi(S) X C_h / sqrt(w),  f(X) = sum_h <U_h, read-out of O_h> / sqrt(H v)

With ``G_ij = <x_i, x'_j> / w`` for two inputs, scores are normal in the limit, with ``E[S_ai S'_bj] = G_ab G_ij`` (Hron
et al., Infinite attention, 2020, Thm. 3), and

    conjugate(X, X') = sum over (a, b) of the read-out, sum_ij E[phi(S_ai) phi(S'_bj)] G_ij
    tangent(X, X')   = 2 conjugate(X, X') + 2 sum_ab sum_ij E[phi'(S_ai) phi'(S'_bj)] G_ab G_ij^2

The terms of the tangent kernel are those of U and C, and of A and B. The pairs (a, b) are ``a = b`` where U has a row
for each token (read-out ``"all"``), all pairs over t^2 for ``"mean"``, and (0, 0) for ``"first"``.
"""

from collections.abc import Callable, Iterable

import numpy as np

from jaxsens.execution import checks
from jaxsens.theory import walsh
from jaxsens.typing import Array

__all__ = ["READ_OUTS", "SCORES", "conjugate_kernel", "cube_tokens", "require_tokens", "tangent_kernel"]

SCORES = ("linear", "relu")
"""What phi may be in closed form; ``finite_width`` has softmax, too."""

READ_OUTS = ("all", "mean", "first")
"""Which tokens the output reads."""


def cube_tokens(bits: int, tokens: int) -> np.ndarray:
    """Return all strings of ``bits`` values +-1 as tokens ``[2**bits tokens bits/tokens]``.

    Raises:
        ValueError: If the numbers are not integers of at least 1, or ``tokens`` does not divide ``bits``.

    Example:
        >>> cube_tokens(4, 2).shape
        (16, 2, 2)
    """
    bits, tokens = checks.require_count("bits", bits), checks.require_count("tokens", tokens)
    if bits % tokens or bits > 12:
        raise ValueError(f"tokens must divide bits, at most 12, got {tokens} tokens for {bits} bits")
    return walsh.signs(bits).reshape(-1, tokens, bits // tokens)


def conjugate_kernel(
    first: Array, second: Array | None = None, *, score: str = "linear", read_out: str = "all"
) -> Array:
    """Return the conjugate kernel (of the Gaussian process) of single-layer attention; see the module.

    Linear scores: ``E[phi(S) phi(S')] = E[S S']``, so that the kernel is ``sum_ab G_ab sum_ij G_ij^2``. ReLU: the
    arc-cosine kernel of degree 1 (Cho and Saul, 2009).

    Each of several processes computes the whole result; the work is not shared among them.

    Args:
        first: Inputs ``[m t w]``.
        second: Inputs ``[n t w]``; by default the first ones.
        score: ``"linear"`` or ``"relu"``.
        read_out: ``"all"``, ``"mean"`` or ``"first"``.

    Returns:
        The kernel ``[m n]``, float64.

    Raises:
        ValueError: If inputs are not finite ``[m t w]``, differ in tokens, or a word is unknown.

    Example:
        >>> conjugate_kernel(cube_tokens(2, 1)).tolist()[0]      # one token: (<x, y> / 2)^3
        [1.0, 0.0, 0.0, -1.0]
    """
    return _summed(first, second, score, read_out, lambda pair, grams: pair.products * grams)


def tangent_kernel(
    first: Array, second: Array | None = None, *, score: str = "linear", read_out: str = "all"
) -> np.ndarray:
    """Return the neural tangent kernel of single-layer attention, of all four weights; see the module.

    With linear scores it is four times the conjugate kernel.

    Each of several processes computes the whole result; the work is not shared among them.

    Args:
        first: Inputs ``[m t w]``.
        second: Inputs ``[n t w]``; by default the first ones.
        score: ``"linear"`` or ``"relu"``.
        read_out: ``"all"``, ``"mean"`` or ``"first"``.

    Returns:
        The kernel ``[m n]``, float64.

    Raises:
        ValueError: As ``conjugate_kernel`` does.

    Example:
        >>> tangent_kernel(cube_tokens(2, 1)).tolist()[0]
        [4.0, 0.0, 0.0, -4.0]
    """

    def term(pair: "_Pair", grams: np.ndarray) -> np.ndarray:
        return 2 * pair.products * grams + 2 * pair.slopes * pair.gram * grams**2

    return _summed(first, second, score, read_out, term)


def require_tokens(name: str, tokens: Array) -> np.ndarray:
    """Return inputs ``[m t w]`` as float64.

    Raises:
        ValueError: If they are not finite numbers of that shape.

    Example:
        >>> require_tokens("first", np.ones((1, 2, 3))).dtype
        dtype('float64')
    """
    tokens = checks.host_values(tokens, name)
    if tokens.ndim != 3 or not tokens.size or tokens.dtype.kind not in "iuf" or not np.isfinite(tokens).all():
        raise ValueError(f"{name} must be finite inputs [m t w], got {tokens.dtype} of shape {tokens.shape}")
    return tokens.astype(np.float64)


_Term = Callable[["_Pair", np.ndarray], np.ndarray]


class _Pair:
    """Moments of the scores of two tokens a and b: ``E[phi phi']`` and ``E[phi' phi']``, each ``[m n t t]``."""

    def __init__(
        self, score: str, gram: np.ndarray, grams: np.ndarray, variances: tuple[np.ndarray, np.ndarray]
    ) -> None:
        self.gram = gram[:, :, None, None]
        covariance = self.gram * grams
        if score == "linear":
            self.products, self.slopes = covariance, np.ones_like(covariance)
            return
        scale = np.sqrt(variances[0][:, None, :, None] * variances[1][None, :, None, :])
        cosine = np.clip(covariance / np.where(scale > 0, scale, 1), -1, 1)
        angle = np.pi - np.arccos(cosine)
        self.products = scale * (np.sqrt(1 - cosine**2) + cosine * angle) / (2 * np.pi)
        self.slopes = angle / (2 * np.pi)


def _summed(first: Array, second: Array | None, score: str, read_out: str, term: _Term) -> np.ndarray:
    first = require_tokens("first", first)
    second = first if second is None else require_tokens("second", second)
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"second must have tokens of shape {first.shape[1:]}, got {second.shape[1:]}")
    if score not in SCORES:
        raise ValueError(f"score must be one of {SCORES}, got {score!r}; finite_width_kernel samples softmax")
    if read_out not in READ_OUTS:
        raise ValueError(f"read_out must be one of {READ_OUTS}, got {read_out!r}")
    tokens, width = first.shape[1:]
    grams = np.einsum("miw,njw->mnij", first, second) / width
    norms = [(inputs**2).sum(-1) / width for inputs in (first, second)]
    total = np.zeros(grams.shape[:2])
    for a, b in _pairs(read_out, tokens):
        variances = norms[0][:, a, None] * norms[0], norms[1][:, b, None] * norms[1]
        total += term(_Pair(score, grams[:, :, a, b], grams, variances), grams).sum((2, 3))
    return total / (tokens**2 if read_out == "mean" else 1)


def _pairs(read_out: str, tokens: int) -> Iterable[tuple[int, int]]:
    if read_out == "first":
        return [(0, 0)]
    return [(a, b) for a in range(tokens) for b in range(tokens) if a == b or read_out == "mean"]
