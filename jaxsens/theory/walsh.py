"""Walsh-Fourier analysis of real functions and of kernels on the cube, in float64 on the host.

Values are ordered as in ``boolean.truth_tables``: the bits of an index are the string, the first position the most
significant bit; bit 0 stands for +1 and bit 1 for -1. The bits of an index of a spectrum mark the positions of a set.
"""

import numpy as np

from jaxsens.execution import checks
from jaxsens.typing import Array

__all__ = ["degree_weights", "degrees", "kernel_spectrum", "require_power", "signs", "transform"]


def transform(values: Array) -> np.ndarray:
    """Return ``fhat(S) = 2**-n sum_x f(x) chi_S(x)`` of real functions, ``chi_S(x) = prod of x_i, i in S``.

    ``truth_tables.walsh`` is the same for truth tables, whose 0 and 1 stand for +1 and -1. (O'Donnell, s.1.2.)

    Args:
        values: ``[... 2**n]``, real.

    Returns:
        Coefficients ``[... 2**n]``, float64.

    Raises:
        ValueError: If the last axis is no power of two, or values are not real.

    Example:
        >>> transform([1.0, -1.0, -1.0, 1.0]).tolist()      # the product of two bits
        [0.0, 0.0, 0.0, 1.0]
    """
    values = _real("values", values)
    shape, n = values.shape, require_power(values.shape[-1:] or (0,))
    for bit in range(n):
        pairs = values.reshape(*shape[:-1], 2**bit, 2, -1)
        values = np.stack([pairs[..., 0, :] + pairs[..., 1, :], pairs[..., 0, :] - pairs[..., 1, :]], -2)
    return values.reshape(shape) / 2**n


def degrees(n: int) -> np.ndarray:
    """Return the size of the set of each index ``[2**n]``.

    Example:
        >>> degrees(2).tolist()
        [0, 1, 1, 2]
    """
    n = checks.require_count("n", n, 0)
    return np.bitwise_count(np.arange(2**n)).astype(np.int64)


def signs(n: int) -> np.ndarray:
    """Return all points of the cube ``[2**n n]`` in values +-1, in the order of their indices.

    Example:
        >>> signs(2).tolist()
        [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
    """
    n = checks.require_count("n", n)
    return 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n)[::-1] & 1)


def degree_weights(values: Array) -> np.ndarray:
    """Return ``W_k = sum over |S| = k of fhat(S)^2`` of real functions ``[... n + 1]``, with sum ``E[f^2]``.

    Args:
        values: ``[... 2**n]``, real.

    Raises:
        ValueError: If the last axis is no power of two, or values are not real.

    Example:
        >>> degree_weights([0.0, 0.0, 0.0, 4.0]).tolist()
        [1.0, 2.0, 1.0]
    """
    squares = transform(values) ** 2
    sizes = degrees(squares.shape[-1].bit_length() - 1)
    return np.stack([squares[..., sizes == k].sum(-1) for k in range(sizes.max() + 1)], -1)


def kernel_spectrum(kernel: Array) -> np.ndarray:
    """Return ``Khat(S, S') = 4**-n sum_xy K(x, y) chi_S(x) chi_S'(y)`` of kernels on the cube.

    If it is diagonal, every ``chi_S`` is an eigenfunction of ``f -> E_y[K(x, y) f(y)]`` with eigenvalue ``Khat(S, S)``.
    The diagonal sums to ``E_x K(x, x)``.

    Args:
        kernel: ``[... 2**n 2**n]``, real.

    Returns:
        The matrix in the Walsh-Fourier basis ``[... 2**n 2**n]``, float64.

    Raises:
        ValueError: If the last two axes are not one power of two, or the kernel is not real.

    Example:
        >>> kernel_spectrum(np.eye(2)).tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    kernel = _real("kernel", kernel)
    if kernel.ndim < 2 or kernel.shape[-1] != kernel.shape[-2]:
        raise ValueError(f"kernel must be [2**n 2**n], got shape {kernel.shape}")
    return np.swapaxes(transform(np.swapaxes(transform(kernel), -1, -2)), -1, -2)


def require_power(shape: tuple[int, ...]) -> int:
    """Return n for a last axis of ``2**n`` entries, or raise ValueError.

    Example:
        >>> require_power((3, 8))
        3
    """
    count = shape[-1]
    if count < 1 or count & (count - 1):
        raise ValueError(f"the last axis of values must have 2**n entries, got {count}")
    return count.bit_length() - 1


def _real(name: str, values: Array) -> np.ndarray:
    values = checks.host_values(values, name)
    if values.dtype.kind not in "biuf" or not values.ndim:
        raise ValueError(f"{name} must be real, with an axis of 2**n entries, got {values.dtype} {values.shape}")
    return values.astype(np.float64)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
