"""What holds of a kernel on the cube: the parts of a proposition, each measured apart, and a counterexample.

Proposition 3.1 of Vasudeva et al. (Transformers Learn Low Sensitivity Functions) says of the kernels of attention with
linear scores: (a) ``K(x, y) = Psi(<x, y>)``; (b) every ``chi_S`` is an eigenfunction, whose eigenvalue depends on |S|;
(c) eigenvalues fall with the degree among even and among odd degrees.
"""

from typing import NamedTuple

import numpy as np

from jaxsens.theory import walsh
from jaxsens.typing import Array

__all__ = ["Counterexample", "KernelStructure", "counterexample", "degree_order_holds", "structure"]

_ROUNDING = 1e-9
"""Differences below this share of ``K(x, x)`` are rounding."""


class KernelStructure(NamedTuple):
    """How far a kernel is from the parts of the proposition; all numbers are 0, and ``ordered`` true, where they hold.

    Attributes:
        spread: Largest difference of ``K(x, y)`` at one ``<x, y>``, over the mean of ``K(x, x)``: part (a).
        off_diagonal: Frobenius norm of the matrix in the Walsh-Fourier basis off its diagonal, over that of the whole:
            the first half of part (b).
        within_degree: Largest difference of diagonal entries of one degree, over their sum: the second half.
        parity_leak: The norm of entries between sets that differ in the parity of a column of the tokens, over that of
            the whole. Kernels that depend on products of tokens only do not change where the sign of one bit flips in
            all tokens of both inputs, hence have none.
        degree_means: Means of the diagonal over the sets of one degree, over their sum ``[n + 1]``: the eigenvalues of
            the kernel averaged over all symmetries of the cube.
        ordered: Whether degree means fall among even and among odd degrees: a weaker part (c).

    Example:
        >>> structure(np.eye(4), 2).ordered
        True
    """

    spread: float
    off_diagonal: float
    within_degree: float
    parity_leak: float
    degree_means: np.ndarray
    ordered: bool


class Counterexample(NamedTuple):
    """Two pairs of points with ``<x, y> = <u, v>`` and different kernels, as values +-1 ``[n]``.

    Example:
        >>> Counterexample(*np.ones((4, 2)), 2.0, 1.0, 0.0).inner
        2.0
    """

    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    inner: float
    kernel_x_y: float
    kernel_u_v: float


def structure(kernel: Array, tokens: int) -> KernelStructure:
    """Measure how far a kernel on the cube is from Proposition 3.1.

    Each of several processes computes the whole result; the work is not shared among them.

    Args:
        kernel: ``[2**n 2**n]``, in the order of ``walsh.signs``.
        tokens: Tokens of an input; divides n.

    Raises:
        ValueError: If the kernel is not ``[2**n 2**n]`` and real, or ``tokens`` does not divide n.

    Example:
        >>> from jaxsens.theory.attention_kernels import conjugate_kernel, cube_tokens
        >>> round(structure(conjugate_kernel(cube_tokens(4, 2)), 2).off_diagonal, 3), structure(
        ...     conjugate_kernel(cube_tokens(4, 1)), 1).off_diagonal
        (0.267, 0.0)
    """
    spectrum = walsh.kernel_spectrum(kernel)
    kernel, n = np.asarray(kernel, np.float64), walsh.require_power(spectrum.shape)
    if not isinstance(tokens, int | np.integer) or tokens < 1 or n % tokens:
        raise ValueError(f"tokens must divide the {n} bits of the kernel, got {tokens}")
    inner = walsh.signs(n) @ walsh.signs(n).T
    spread = max(np.ptp(kernel[inner == value]) for value in np.unique(inner))
    diagonal, sizes = np.diag(spectrum), walsh.degrees(n)
    within = max(np.ptp(diagonal[sizes == k]) for k in range(n + 1))
    sets = (1 - walsh.signs(n)).reshape(-1, tokens, n // tokens) / 2
    columns = sets.sum(1) % 2
    across = (columns[:, None] != columns[None]).any(-1)
    norm = np.linalg.norm(spectrum)
    means = np.array([diagonal[sizes == k].mean() for k in range(n + 1)])
    return KernelStructure(
        spread=float(spread / np.diag(kernel).mean()),
        off_diagonal=float(np.linalg.norm(spectrum - np.diag(diagonal)) / norm),
        within_degree=float(within / diagonal.sum()),
        parity_leak=float(np.linalg.norm(spectrum[across]) / norm),
        degree_means=means / diagonal.sum(),
        ordered=degree_order_holds(means),
    )


def degree_order_holds(means: Array) -> bool:
    """Return whether numbers by degree fall, up to rounding, among even and among odd degrees.

    Example:
        >>> degree_order_holds([0.1, 0.5, 0.0, 0.2]), degree_order_holds([0.1, 0.2, 0.0, 0.5])
        (True, False)
    """
    means = np.asarray(means, np.float64)
    return bool((means[2:] <= means[:-2] + _ROUNDING * np.abs(means).max()).all())


def counterexample(kernel: Array) -> Counterexample | None:
    """Return two pairs of points at which ``K(x, y)`` is no function of ``<x, y>``; None if there are none.

    The difference is the largest one; of equal ones the first in the order of ``walsh.signs``.

    Each of several processes computes the whole result; the work is not shared among them.

    Args:
        kernel: ``[2**n 2**n]``, in the order of ``walsh.signs``.

    Raises:
        ValueError: If the kernel is not ``[2**n 2**n]`` and real.

    Example:
        >>> from jaxsens.theory.attention_kernels import conjugate_kernel, cube_tokens
        >>> pairs = counterexample(conjugate_kernel(cube_tokens(4, 2)))
        >>> pairs.inner, pairs.kernel_x_y, pairs.kernel_u_v
        (4.0, 8.0, 4.0)
        >>> counterexample(conjugate_kernel(cube_tokens(4, 1))) is None
        True
    """
    n = walsh.require_power(walsh.kernel_spectrum(kernel).shape)
    kernel, points = np.asarray(kernel, np.float64), walsh.signs(n)
    inner, best = points @ points.T, None
    for value in np.unique(inner)[::-1]:
        pairs = np.argwhere(inner == value)
        values = kernel[inner == value]
        high, low = values.argmax(), values.argmin()
        gap = values[high] - values[low]
        if gap > _ROUNDING * np.diag(kernel).mean() and (best is None or gap > best[0] * (1 + _ROUNDING)):
            x, y, u, v = points[[*pairs[high], *pairs[low]]]
            best = gap, Counterexample(x, y, u, v, float(value), float(values[high]), float(values[low]))
    return None if best is None else best[1]
