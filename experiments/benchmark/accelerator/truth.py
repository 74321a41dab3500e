"""Float64 on the CPU backend, whatever the accelerator: what answers are compared with."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np

from jaxsens.typing import PyTree

__all__ = ["cpu", "on_cpu_in_float64", "widened"]


def cpu() -> jax.Device:
    """Return a device of the CPU backend."""
    return jax.local_devices(backend="cpu")[0]


@contextlib.contextmanager
def on_cpu_in_float64() -> Iterator[None]:
    """Compute on the CPU, with float64 where it is asked for, within this block and in this thread."""
    with jax.enable_x64(True), jax.default_device(cpu()):
        yield


def widened(tree: PyTree) -> PyTree:
    """Return arrays on the host, floating ones in float64."""

    def wide(leaf: np.ndarray) -> np.ndarray:
        leaf = np.asarray(leaf)
        return leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf

    return jax.tree.map(wide, tree)
