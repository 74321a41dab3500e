"""A short name for arrays of a user's own, so that a run refuses to continue with others."""

import hashlib
from typing import Any

import jax
import numpy as np

__all__ = ["fingerprint"]


def fingerprint(arrays: Any) -> str:
    """Return twelve hexadecimal digits of the SHA-256 of a pytree's structure, dtypes, shapes and values.

    Example:
        >>> fingerprint(np.zeros(3)) == fingerprint(np.zeros(3, np.float32))
        False
    """
    leaves, structure = jax.tree.flatten(arrays)
    digest = hashlib.sha256(str(structure).encode())
    for leaf in map(np.asarray, leaves):
        digest.update(f"{leaf.dtype} {leaf.shape}".encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:12]
