"""Process-wide settings that every command makes before it computes anything; an import makes none of them."""

import os
import warnings
from pathlib import Path

import jax

from experiments.harness.cli import Command
from jaxsens.execution import backends, processes, threads


def start(command: Command, *, every_core: bool = False) -> None:
    """Join the processes of a launch, choose devices, and keep compiled programs.

    Args:
        command: What the command line asked for; ``--no-compilation-cache`` keeps no compiled programs.
        every_core: Whether every core of a CPU is to be a device, see ``backends.use_every_core``.

    Raises:
        ValueError: ``scripts/launch``'s variables are not right, see ``processes.join``; or JAX has started, and
            ``config.reproducible`` needs another number of threads.
    """
    if getattr(command.config, "reproducible", False):
        threads.fix_cpu_threads()  # trainings then use all cores with one device
    elif every_core:
        backends.use_every_core()
    processes.join()
    # JAX's own variable may have switched one on, too.
    jax.config.update("jax_enable_compilation_cache", command.compilation_cache)
    if command.compilation_cache:
        enable_compilation_cache()


def enable_compilation_cache() -> Path | None:
    """Keep compiled programs on disk for later processes; mains of experiments call it, an import never does.

    The folder is ``$JAX_COMPILATION_CACHE_DIR``, or ``jaxsens/xla`` in the user's cache folder. JAX loads what it finds
    there as code, so it must be writable by its owner only.

    Returns:
        The folder; None, with a warning, where it cannot be made.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or Path(home) / "jaxsens" / "xla")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(
            f"'{folder}' cannot be made ({error.strerror}): compiled programs are not kept; name another folder in "
            "$JAX_COMPILATION_CACHE_DIR, or pass --no-compilation-cache",
            stacklevel=2,
        )
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # tests and small models compile in less
    return folder
