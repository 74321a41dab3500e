"""Several processes that work as one: how they find each other, and how they agree on what is in a folder.

All run the same program on the same arguments, as ``scripts/launch`` starts them. ``parallel.map_items`` shares its
items out among them; whatever else they compute, each computes for itself. The first alone decides what is there and
writes what is new, and the others hear it from the first, so that none waits for another that took another way.
"""

import os
import sys
from collections.abc import Callable
from types import TracebackType

import jax
import numpy as np
from jax.experimental import multihost_utils

__all__ = ["VARIABLES", "from_first", "is_first", "join"]

VARIABLES = ("JAXSENS_PROCESSES", "JAXSENS_PROCESS", "JAXSENS_COORDINATOR")
"""What ``scripts/launch`` sets: how many processes there are (``auto`` on a TPU pod), the number of this one, and where
the first one listens."""

# The others are ready to leave when the first is: all meet when a run ends, and few seconds of work come after that.
_LEAVE_SECONDS = 60
_LEAST_BYTES = 1024


def join() -> None:
    """Become one of the processes that ``scripts/launch`` started, if it started this one; mains call it first.

    It has to come before the first computation. From then on an exception that nothing catches ends the process at
    once, and SIGTERM ends it as if there were no JAX: the others would wait for it in vain.

    Raises:
        ValueError: If the environment says how many processes there are, but not rightly which one this is, or where
            the first one listens.
    """
    count, number, address = (os.environ.get(name) for name in VARIABLES)
    if count is None or jax.distributed.is_initialized():
        return
    # Else JAX would take SIGTERM for the notice of a preemption, and go on.
    jax.config.update("jax_enable_preemption_service", False)
    if count == "auto":
        jax.distributed.initialize(shutdown_timeout_seconds=_LEAVE_SECONDS)
    else:
        places = _number("JAXSENS_PROCESSES", count, 1, None)
        place = _number("JAXSENS_PROCESS", number, 0, places - 1)
        host, _, port = (address or "").rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"JAXSENS_COORDINATOR must be HOST:PORT, got {address!r}: start with scripts/launch")
        jax.distributed.initialize(
            address, places, place, cluster_detection_method="deactivate", shutdown_timeout_seconds=_LEAVE_SECONDS,
            # Nobody else has to see what stays on this machine.
            coordinator_bind_address=address if host == "127.0.0.1" else None,
        )  # fmt: skip
    sys.excepthook = _end_at_once


def is_first() -> bool:
    """Return whether this process is the one that reads and writes the files of a run."""
    return jax.process_index() == 0


def from_first(compute: Callable[[], bytes]) -> bytes:
    """Return in every process what ``compute()`` gives in the first one, which alone calls it.

    All have to call it, in the same order.

    Raises:
        RuntimeError: In the others, if the first raised an error; the first raises that error itself.
    """
    if jax.process_count() == 1:
        return compute()
    content, error = b"", None
    if is_first():
        try:
            content = compute()
        except Exception as raised:
            content, error = f"{type(raised).__name__}: {raised}".encode(), raised
    size, failed = _broadcast(np.array([len(content), error is not None]).tobytes(), 16).view(np.int64)
    if size:
        content = _broadcast(content, int(size)).tobytes()
    if error is not None:
        raise error
    if failed:
        raise RuntimeError(f"in the first process: {content.decode()}")
    return content


def _broadcast(content: bytes, size: int) -> np.ndarray:
    """Return the first process's bytes ``[size]``; on the way in buffers of few sizes, as each is a program."""
    padded = np.zeros(max(_LEAST_BYTES, 1 << (size - 1).bit_length()), np.uint8)
    if is_first():
        padded[:size] = np.frombuffer(content, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded))[:size]


def _number(name: str, text: str | None, low: int, high: int | None) -> int:
    if text is None or not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
        wanted = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be an integer {wanted}, got {text!r}: start with scripts/launch")
    return int(text)


def _end_at_once(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say what happened and end, without JAX's farewell: that waits for the others, and they for this process."""
    sys.__excepthook__(kind, error, trace)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130 if issubclass(kind, KeyboardInterrupt) else 1)
