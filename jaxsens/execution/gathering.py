"""Shares of several processes: which chunks each evaluates, and how all receive the results."""

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxsens.typing import PyTree

__all__ = ["gather", "share"]

# Bytes of each process's results that are gathered at once.
_GATHERED_BYTES = 2**24


def share(total: int, process: int) -> tuple[int, int]:
    """Return the chunks ``[first, stop)`` of a process: the numbers of chunks of two processes differ by 1 at most.

    Example:
        >>> share(5, 0)    # of one process
        (0, 5)
    """
    each, more = divmod(total, jax.process_count())
    first = process * each + min(process, more)
    # A process beyond the last chunk repeats it; the gathered result leaves its results out.
    return (first, first + each + (process < more)) if each or process < more else (total - 1, total)


def gather(results: PyTree, total: int, chunk: int) -> PyTree:
    """Gather the results of all processes; as bytes, since JAX would narrow float64.

    They are gathered piece by piece, as devices and the buffers of communication would otherwise hold all of them.

    Args:
        results: Arrays ``[n ...]`` of this process's chunks, as numpy arrays.
        total: Number of chunks of all processes.
        chunk: Number of items in a chunk.

    Example:
        >>> gather(np.arange(4), total=2, chunk=2).tolist()    # of one process
        [0, 1, 2, 3]
    """
    processes = jax.process_count()
    if processes == 1:
        return results
    shares = [share(total, process) if process < total else (0, 0) for process in range(processes)]
    lengths = [(stop - first) * chunk for first, stop in shares]

    def whole_of(part: np.ndarray) -> np.ndarray:
        whole = np.empty((total * chunk, *part.shape[1:]), part.dtype)
        rows = min(lengths[0], max(1, _GATHERED_BYTES // max(part[0].nbytes, 1)))
        piece = np.zeros((rows, *part.shape[1:]), part.dtype)
        for start in range(0, lengths[0], rows):
            mine = part[start : start + rows]
            piece[: len(mine)] = mine
            pieces = np.asarray(multihost_utils.process_allgather(piece.view(np.uint8).reshape(rows, -1)))
            pieces = pieces.reshape(processes * rows, -1).view(part.dtype).reshape(processes, *piece.shape)
            for (first, _), length, theirs in zip(shares, lengths, pieces, strict=True):
                count = min(rows, length - start)
                if count > 0:
                    whole[first * chunk + start : first * chunk + start + count] = theirs[:count]
        return whole

    return jax.tree.map(whole_of, results)
