"""Fingerprints of the user's data, models and texts, which a run gets in addition to its configuration."""

import hashlib
from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxsens.typing import PyTree

if TYPE_CHECKING:
    from experiments.harness.run import Run

__all__ = ["fingerprint", "require_same"]


def fingerprint(*trees: PyTree) -> str:
    """Return the SHA-256 of all arrays of some pytrees, in the order of their leaves; text counts as UTF-8."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        digest.update(leaf.encode() if isinstance(leaf, str) else np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def require_same(run: "Run", **inputs: str) -> None:
    """Keep fingerprints of the inputs as the run's unit ``data``, or compare them with those that it holds.

    Args:
        run: The run.
        **inputs: Name of an input, such as ``images``, to its `fingerprint`.

    Raises:
        ValueError: If the run was begun with another input; the message names it.
    """
    kept = run.unit("data", lambda: inputs)
    for name in dict.fromkeys([*inputs, *kept]):
        if name not in kept or name not in inputs or kept[name] != inputs[name]:
            raise ValueError(f"the run in {run.folder} was begun with other {name}: give those, or another --out")
