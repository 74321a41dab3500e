"""Several processes as one run: how they connect, and how they agree on the contents of a folder.

All run the same program on the same arguments, as SLURM's ``srun``, Open MPI's ``mpirun``, a Kubernetes job or the
workers of a TPU pod start them, and ``scripts/launch`` on one machine. ``parallel.map_items`` distributes its items
over them; each computes everything else itself: curvature, ``fit``, the worst case over all examples, truth tables and
kernels in closed form are repeated by every process, as their docstrings say. Only the first process reads and writes
files, and the others receive its decisions, so that all take the same branches and none waits for another.
"""

import importlib.util
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from types import TracebackType

import jax
import numpy as np
from jax.experimental import multihost_utils

__all__ = ["VARIABLES", "from_first", "is_first", "join"]

VARIABLES = ("JAXSENS_PROCESSES", "JAXSENS_PROCESS", "JAXSENS_COORDINATOR")
"""What ``scripts/launch`` sets: the number of processes (``auto``, which it does not set: as JAX detects it), the index
of this one, and the address of the first one. Set the last one yourself for Open MPI 5 on several machines."""

_CLUSTERS = {
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", ("OMPI_MCA_orte_hnp_uri",), "OMPI_COMM_WORLD_LOCAL_SIZE", None),
    "SLURM": (
        "SLURM_NTASKS",
        ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"),
        "SLURM_NTASKS_PER_NODE",
        "SLURM_STEP_NUM_NODES",
    ),
}
"""Variables of engines that start processes and that JAX detects, in its order (``mpirun`` may run in an allocation of
SLURM): the number of processes; those that exist in started processes; the number of processes on a machine; the number
of machines. Those of Open MPI are version 4's: JAX does not detect version 5, which has no variable with an address."""

_OPEN_MPI_5 = ("PMIX_NAMESPACE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")

# All processes meet at the end of a run, and only a few seconds of work follow.
_LEAVE_SECONDS = 60
_LEAST_BYTES = 1024


def join() -> None:
    """Connect to the other processes, if ``scripts/launch``, ``srun``, ``mpirun``, Kubernetes or GKE started several.

    Where an engine starts one process on each machine, that process uses all GPUs of the machine; where it starts
    several, JAX gives each process the GPU of its number there. Open MPI 5 on several machines also needs
    ``JAXSENS_COORDINATOR=HOST:PORT``, a free port of the machine of the first process.

    It must be called before the first computation. Afterwards an uncaught exception ends the process at once, and
    SIGTERM has its default action, so that the other processes do not wait for it.

    Raises:
        ValueError: If the environment has the number of processes, but not a valid index of this one, or no valid
            address of the first one where it is needed.

    Example:
        >>> join()  # nothing to do in a process that was not started by scripts/launch
    """
    count, number, address = (os.environ.get(name) for name in VARIABLES)
    if jax.distributed.is_initialized():
        return
    alone, gpus = False, None
    if count is None and _several_by_open_mpi_5():
        count, number, address, gpus = _of_open_mpi_5(address)
    elif count is None:
        if not _several_started():
            return
        count, alone = "auto", _one_on_each_machine()
    # Otherwise JAX takes SIGTERM for the notice of a preemption, and continues.
    jax.config.update("jax_enable_preemption_service", False)
    if count == "auto":
        jax.distributed.initialize(shutdown_timeout_seconds=_LEAVE_SECONDS)
        if alone:  # JAX would give it the first GPU only
            jax.config.update("jax_cuda_visible_devices", "all")
            jax.config.update("jax_rocm_visible_devices", "all")
    else:
        places = _number("JAXSENS_PROCESSES", count, 1, None)
        place = _number("JAXSENS_PROCESS", number, 0, places - 1)
        host, _, port = (address or "").rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(
                f"JAXSENS_COORDINATOR must be HOST:PORT, got {address!r}: start with scripts/launch, or under Open MPI "
                "5 on several machines give a free port of the machine of the first process"
            )
        jax.distributed.initialize(
            address, places, place, gpus, cluster_detection_method="deactivate",
            shutdown_timeout_seconds=_LEAVE_SECONDS,
            # On one machine, the port is not open to others.
            coordinator_bind_address=address if host == "127.0.0.1" else None,
        )  # fmt: skip
    sys.excepthook = _end_at_once


def is_first() -> bool:
    """Return whether this process is the one that reads and writes the files of a run.

    Example:
        >>> is_first()
        True
    """
    return jax.process_index() == 0


def from_first(compute: Callable[[], bytes]) -> bytes:
    """Return in every process the result of ``compute()`` in the first one; only that one calls it.

    All processes must call it, in the same order.

    Raises:
        RuntimeError: In the other processes, if the first raised an error; the first raises that error itself.

    Example:
        >>> from_first(lambda: b"contents")
        b'contents'
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
    """Return the bytes ``[size]`` of the first process; in buffers of few sizes, since each size is a program."""
    padded = np.zeros(max(_LEAST_BYTES, 1 << (size - 1).bit_length()), np.uint8)
    if is_first():
        padded[:size] = np.frombuffer(content, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded))[:size]


def _several_started() -> bool:
    """Return whether an engine started several processes, this one among them, that JAX can connect."""
    if any(_count_of(count) > 1 for count, *_ in _present()):
        return True
    in_job = "KUBERNETES_SERVICE_HOST" in os.environ and "JOB_COMPLETION_INDEX" in os.environ
    in_job = in_job and _can_ask_kubernetes()
    on_pod = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "") and "TPU_WORKER_ID" in os.environ
    return in_job or on_pod


def _several_by_open_mpi_5() -> bool:
    """Return whether Open MPI 5 started several processes, this one among them."""
    launched = all(name in os.environ for name in _OPEN_MPI_5) and not any(True for _ in _present())
    return launched and _count_of("OMPI_COMM_WORLD_SIZE") > 1


def _of_open_mpi_5(address: str | None) -> tuple[str, str, str | None, list[int] | None]:
    """Return the number of processes, the index of this one, the address of the first, and this one's GPUs; None: all.

    On one machine all processes derive the same port from the name of their job.
    """
    job, number, local, locals_ = (os.environ[name] for name in _OPEN_MPI_5)
    count = os.environ["OMPI_COMM_WORLD_SIZE"]
    if address is None and count == locals_:
        address = f"127.0.0.1:{2**16 - 2**12 + zlib.crc32(job.encode()) % 2**12}"
    return count, number, address, None if locals_ == "1" else [int(local)]


def _can_ask_kubernetes() -> bool:
    """Return whether the package is there by which JAX asks for the other pods of a job."""
    return importlib.util.find_spec("kubernetes") is not None


def _one_on_each_machine() -> bool:
    """Return whether an engine started a single process on each machine."""
    for count, _, local, machines in _present():
        if _count_of(local):
            return _count_of(local) == 1
        return machines is not None and _count_of(machines) == _count_of(count)
    return False


def _present() -> Iterator[tuple[str, tuple[str, ...], str, str | None]]:
    """Yield the variables of the engines that started this process, the one that JAX chooses first."""
    yield from (engine for engine in _CLUSTERS.values() if all(name in os.environ for name in engine[1]))


def _count_of(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0


def _number(name: str, text: str | None, low: int, high: int | None) -> int:
    if text is None or not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
        valid = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be an integer {valid}, got {text!r}: start with scripts/launch")
    return int(text)


def _end_at_once(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the error and exit without the shutdown of JAX, which would wait for the other processes."""
    sys.__excepthook__(kind, error, trace)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130 if issubclass(kind, KeyboardInterrupt) else 1)
