"""What ``map_items`` does in place of computing: only compile its programs, or only note them."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

from jaxsens.typing import PyTree

__all__ = ["Launch", "compiling_only", "is_compiling_only", "recorded", "recording"]

_compiling_only = contextvars.ContextVar("compiling_only", default=False)
_recorded = contextvars.ContextVar("recorded", default=None)


@contextlib.contextmanager
def compiling_only() -> Iterator[None]:
    """Let ``map_items`` compile its program, compute nothing, and return zeros, within this block and thread.

    The number of chunks is an argument of a program, which can therefore be called for none. A caller of ``map_items``
    can thus be compiled in a thread while devices compute something else. Where later programs depend on results, those
    for results of zeros are compiled.

    Example:
        >>> from jaxsens import map_items
        >>> with compiling_only():
        ...     map_items(lambda x: x + 1, np.ones(2, np.float32))
        array([0., 0.], dtype=float32)
    """
    token = _compiling_only.set(True)
    try:
        yield
    finally:
        _compiling_only.reset(token)


def is_compiling_only() -> bool:
    """Return whether this is a block of ``compiling_only``.

    Example:
        >>> is_compiling_only()
        False
    """
    return _compiling_only.get()


@dataclass(frozen=True)
class Launch:
    """A program of ``map_items``, with the shapes of its arguments, as ``recording`` notes it.

    Attributes:
        program: The ``jax.jit`` function of the backend ``"shard_map"``, whatever the backend of the call is.
        counts: The number of chunks for each device ``[d]``, int32.
        items: The items of a launch ``[d n ...]``.
        shared: What is the same for every item.
        chunk: Number of items evaluated at once on a device.
        chunks: Number of chunks that a launch has room for on a device, ``n / chunk``.

    Example:
        >>> from jaxsens import Execution, map_items
        >>> launches = []
        >>> with recording(launches):
        ...     zeros = map_items(lambda x: 2 * x, np.ones(5, np.float32), execution=Execution(chunk=2))
        >>> launches[0].chunk, zeros
        (2, array([0., 0., 0., 0., 0.], dtype=float32))
    """

    program: Callable[..., PyTree]
    counts: jax.ShapeDtypeStruct
    items: PyTree
    shared: tuple[PyTree, ...]
    chunk: int
    chunks: int

    def lower(self, **options: Any) -> jax.stages.Lowered:
        """Return the program, lowered for its devices, or with the options of ``jax.stages.Traced.lower``."""
        leaves, tree = jax.tree.flatten((self.counts, self.items, self.shared))
        # Of leaves, since JAX puts descriptions of arguments into their pytrees, and some check what they hold.
        return jax.jit(lambda *leaves: self.program(*tree.unflatten(leaves))).trace(*leaves).lower(**options)


@contextlib.contextmanager
def recording(launches: list[Launch]) -> Iterator[None]:
    """Let ``map_items`` append its program to a list, compute nothing, and return zeros, within this block and thread.

    Nothing is sent to a device, so that the devices may be descriptions of others
    (``jax.experimental.topologies.get_topology_desc``): a program can be compiled for a device that is not here.

    Example:
        >>> from jaxsens import map_items
        >>> launches = []
        >>> with recording(launches):
        ...     zeros = map_items(lambda x: 2 * x, np.ones(5, np.float32))
        >>> "while" in launches[0].lower().as_text()    # the loop over chunks
        True
    """
    token = _recorded.set(launches)
    try:
        yield
    finally:
        _recorded.reset(token)


def recorded() -> list[Launch] | None:
    """Return the list of the block of ``recording`` that this is, or None outside of one.

    Example:
        >>> recorded() is None
        True
    """
    return _recorded.get()
