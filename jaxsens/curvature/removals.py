"""What a basis loses as one probe, or two, are left out: the leave-one-out estimates of XDiag in small coordinates."""

import numpy as np

__all__ = ["removals"]


def removals(triangle: np.ndarray, rounding: float) -> tuple[np.ndarray, ...]:
    """Return the directions that leave the span of ``Q R`` with each column, and with each pair of columns.

    Columns may depend on each other, as they do where the matrix has a small rank, or where two probes are equal: what
    is within rounding of the span of the others takes nothing with it.

    Args:
        triangle: R ``[p p]``; its columns are coordinates of the images ``A v_i`` in the basis Q.
        rounding: Relative size of what is rounding.

    Returns:
        - An orthonormal basis ``[p r]`` of the span of the columns, in which the directions are: multiply Q by it.
        - ``s_i``, ``[p r]``: what leaving out column i removes, a unit vector, or 0 where nothing is removed.
        - ``s_i' R_i``, ``[p]``, the coordinate of its own image along it.
        - ``f_ij``, ``[p p r]``: what leaving out column j, too, removes in addition; 0 for i = j.
        - ``f_ij' R_i``, ``[p p]``.

    Example:
        >>> removals(np.diag([2.0, 1.0]), 1e-7)[2]
        array([2., 1.])
    """
    left, sizes, _ = np.linalg.svd(triangle)
    least = len(triangle) * rounding * sizes[0]
    rotation = left[:, : max(1, int(np.sum(sizes > least)))]
    columns = rotation.T @ triangle
    count, rank = len(triangle), rotation.shape[1]
    removed, further = _duals(columns, least), np.zeros((count, count, rank))
    for i in range(count):
        further[i, np.arange(count) != i] = _duals(np.delete(columns, i, 1), least)
    lengths = np.einsum("ir,ri->i", removed, columns)
    return rotation, removed, lengths, further, np.einsum("ijr,ri->ij", further, columns)


def _duals(columns: np.ndarray, least: float) -> np.ndarray:
    """Return for each column ``[r m]`` the unit vector ``[m r]`` in their span that is orthogonal to all others.

    It is 0 for a column in the span of the others: their dependence has a part of it, and the projection on the
    row space a diagonal entry below 1.
    """
    left, sizes, right = np.linalg.svd(columns, full_matrices=False)
    kept = sizes > least
    left, sizes, right = left[:, kept], sizes[kept], right[kept]
    alone = np.einsum("km,km->m", right, right) > 1 - 1e-9
    duals = (right.T / sizes) @ left.T
    lengths = np.linalg.norm(duals, axis=1, keepdims=True)
    return np.where(alone[:, None], duals / np.where(lengths > 0, lengths, 1), 0)
