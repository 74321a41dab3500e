"""The number of threads that XLA cuts operations on a CPU by, which decides the last bits of long sums.

By default it is the number of cores, or of CPU devices if that is larger. Matrix products and convolutions sum their
terms in as many pieces, so that gradients differ by rounding between machines. jaxlib reads another number from the
variable ``NPROC`` when its CPU backend starts.
"""

import os
from pathlib import Path

import jax

from jaxsens.execution import checks

__all__ = ["cores", "fix_cpu_threads", "fixed_cpu_threads"]

_VARIABLE = "NPROC"
_POOL = "tf_XLAEigen"  # name of the threads of the pool


def fix_cpu_threads(count: int = 8) -> None:
    """Let XLA cut operations on a CPU by ``count`` threads, whatever the numbers of cores and devices are.

    Call it before the first computation. It sets the environment variable ``NPROC``, which a process may also be
    started with, and which processes started from this one inherit.

    Args:
        count: The number of threads. It must be at least the number of CPU devices, and may exceed that of cores.

    Raises:
        ValueError: If ``count`` is not an integer of at least 1, or JAX has started with another number of threads.

    Example:
        >>> fix_cpu_threads(0)
        Traceback (most recent call last):
        ValueError: count must be at least 1, got 0
    """
    count = checks.require_count("count", count)
    devices = jax.config.jax_num_cpu_devices
    try:
        # A change of this setting, here undone at once, is refused when a backend has started.
        jax.config.update("jax_num_cpu_devices", 1 if devices != 1 else 2)
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError as error:
        if fixed_cpu_threads() == count:
            return
        raise ValueError(
            f"count can no longer become {count}, since JAX has started: call fix_cpu_threads before the first "
            f"computation, or start Python with {_VARIABLE}={count} in its environment"
        ) from error
    os.environ[_VARIABLE] = str(count)


def fixed_cpu_threads() -> int | None:
    """Return the number of threads if it was fixed, or None if the numbers of cores or of devices decide it.

    Example:
        >>> fixed_cpu_threads() in (None, int(os.environ.get("NPROC", 0)))
        True
    """
    text = os.environ.get(_VARIABLE, "")
    if not text.isdecimal() or int(text) < max(1, len(jax.local_devices(backend="cpu"))):
        return None
    # The variable may have been set too late; where the system lists threads, they are counted.
    running = sum(name == _POOL for name in _thread_names())
    return int(text) if running in (0, int(text)) else None


def cores() -> int:
    """Return the number of cores that this process may use.

    Example:
        >>> cores() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _thread_names() -> list[str]:
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        try:
            names.append(path.read_text().strip())
        except OSError:  # the thread has ended, or may not be read
            continue
    return names
