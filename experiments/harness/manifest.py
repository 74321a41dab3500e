"""The manifest of a run: what was run, with which versions, on what, in how many sessions and in what time."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
from tqdm.auto import tqdm

from experiments.harness import cli, storage
from jaxsens.execution import backends, threads

NAME = "manifest.json"

_VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "JAX_", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "XLA_")
"""What the environment variables begin with that may change numbers or speed."""

_PLACES = ("JAX_COMPILATION_CACHE_DIR", "JAX_COORDINATOR_ADDRESS")
"""Those of them that name a place, and change neither."""

_DECIDING = (
    "CUBLAS_WORKSPACE_CONFIG", "JAX_DEFAULT_PRNG_IMPL", "JAX_DISABLE_MOST_OPTIMIZATIONS",
    "JAX_EXEC_TIME_OPTIMIZATION_EFFORT", "JAX_OPTIMIZATION_LEVEL", "JAX_THREEFRY_PARTITIONABLE", "LIBTPU_INIT_ARGS",
    "NVIDIA_TF32_OVERRIDE",
)  # fmt: skip
"""Those that may change numbers, beside what the entries ``platform`` and ``precision`` have."""

_DECIDING_FLAGS = (
    "xla_allow_excess_precision", "xla_backend_optimization_level", "xla_cpu_", "xla_disable_hlo_passes", "xla_gpu_",
    "xla_tpu_",
)  # fmt: skip
"""What the flags in ``XLA_FLAGS`` begin with that may change the last bits of results."""

_OTHER_FLAGS = ("xla_cpu_parallel_codegen_", "xla_gpu_cuda_data_dir", "xla_gpu_force_compilation_parallelism")
"""What those begin with that change none all the same."""


def refuse_foreign(folder: Path) -> None:
    """Raise ValueError if ``folder`` is there and is neither empty nor a run."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"out = '{folder}' is not a folder: give another --out")
    names = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in names if name != storage.LOCK and not name.startswith(storage.TEMPORARY)]
    if foreign and NAME not in names:
        raise ValueError(f"out = '{folder}' holds {foreign[:5]} but no run: give another --out, or delete them")


def previous(folder: Path, experiment: str, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of the run that the folder holds, or a new one.

    Raises:
        ValueError: it is the run of another experiment or configuration, or its manifest is damaged.
    """
    path = folder / NAME
    fresh = {"experiment": experiment, "config": identity, "seed": identity.get("seed"), "status": "", "seconds": 0.0}
    if not path.exists():
        return fresh | {"units": {}, "sessions": []}
    try:
        stored = json.loads(path.read_bytes())
        before = {"experiment": stored["experiment"], "config": stored["config"]}
        if not isinstance(stored["units"], dict) or not isinstance(stored["sessions"], list):
            raise TypeError("units or sessions are not what a run writes")
        for unit in stored["units"].values():
            stored["sessions"][unit["session"]]["environment"], unit["seconds"]
        for session in stored["sessions"]:
            session["status"], float(session["seconds"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"'{path}' cannot be read ({error}): delete '{folder}', or give another --out") from error
    if changed := cli.differences(before, {"experiment": experiment, "config": identity}):
        raise ValueError(
            f"out = '{folder}' holds the run of another configuration ({'; '.join(changed)}): give another --out, or "
            "delete that folder"
        )
    return stored


def begin_session(
    folder: Path,
    manifest: dict[str, Any],
    settings: dict[str, Any],
    *,
    trains: bool = False,
    elsewhere: bool = False,
    reproducible: bool = False,
) -> None:
    """Append a session to the manifest, and say what it takes over from earlier ones.

    Args:
        folder: Folder of the run.
        manifest: As `previous` returned it.
        settings: What the configuration says of where and how fast to run.
        trains: Whether units train models. The bits of a training depend on the versions of JAX, on flags of XLA and on
            the numbers of cores and devices, so that units made with others are not mixed.
        elsewhere: Whether they may be mixed all the same; the manifest records it.
        reproducible: Whether trainings have ``Config(reproducible=True)``. On a CPU their bits then depend on the fixed
            number of XLA's threads, which the manifest records, and not on cores and devices.

    Raises:
        ValueError: Units that train were made with other versions, flags of XLA, cores or devices, and ``elsewhere`` is
            not set. Units whose session recorded no flags are taken over.
    """
    sessions, units = manifest["sessions"], manifest["units"]
    for session in sessions:
        if session["status"] == "running":
            session["status"] = "killed"
    kept = {path.stem for path in (folder / "units").glob("[!.]*.npz")}
    # A process that is killed between a unit and its line in the manifest leaves the unit; that was the last session.
    manifest["units"] = {
        name: units.get(name, {"session": len(sessions) - 1, "seconds": None}) for name in sorted(kept)
    }
    here = _environment()
    if reproducible:
        here["training"] = {"reproducible": True, "threads": threads.fixed_cpu_threads()}
    if kept:
        say(f"{folder}: going on, with {len(kept)} finished units")
    for number in sorted({unit["session"] for unit in manifest["units"].values()}):
        before = sessions[number]["environment"]
        now = here if "variables" in before else {name: part for name, part in here.items() if name != "variables"}
        if trains and not elsewhere and (changed := cli.differences(_of_training(before), _of_training(now))):
            raise ValueError(
                f"'{folder}' holds units that were trained with other cores, devices, versions or flags of XLA "
                f"({'; '.join(changed)}): results would not be those of a run without interruption. Continue where it "
                "began, give another --out, or pass --resume-elsewhere, which is recorded"
            )
        if changed := cli.differences(_deciding(before), _deciding(now)):
            say(f"warning: units of session {number} were made otherwise ({'; '.join(changed)}): last bits may differ")
    sessions.append(
        {"started": datetime.now(UTC).isoformat(timespec="seconds"), "status": "running", "seconds": 0.0}
        | {"environment": here, "settings": settings, "resumed_elsewhere": elsewhere, "recorded": {}}
    )


def _environment() -> dict[str, Any]:
    """What numbers may depend on in addition to the configuration."""
    versions = {"python": platform.python_version()}
    for package in ("jax", "jaxlib", "flax", "optax", "numpy", "jaxsens"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    machine = backends.describe_devices()
    return {
        "variables": {
            name: text
            for name, text in sorted(os.environ.items())
            if name.startswith(_VARIABLES) and name not in _PLACES
        },
        "versions": versions,
        "code": _commit(),
        "platform": {"backend": machine["platform"], "devices": machine["kind"], "machine": platform.machine()},
        "precision": {"matmul": jax.config.jax_default_matmul_precision, "x64": jax.config.jax_enable_x64},
        "counts": {"devices": machine["devices"], "processes": machine["processes"], "cpus": threads.cores()},
    }


def _of_training(environment: dict[str, Any]) -> dict[str, Any]:
    """Return what the bits of a training depend on."""
    versions = {name: environment["versions"].get(name) for name in ("jax", "jaxlib", "flax", "optax")}
    mode, counts = environment.get("training", {}), environment.get("counts")
    if mode.get("threads") is not None and environment["platform"]["backend"] == "cpu":
        counts = {"processes": counts["processes"]}  # equal bits on any cores and devices
    entries = {name: environment.get(name) for name in ("platform", "precision")}
    return entries | {"versions": versions, "training": mode, "counts": counts, "flags": _flags(environment)}


def _deciding(environment: dict[str, Any]) -> dict[str, Any]:
    """Return what the numbers of a measurement depend on: all but counts and some variables."""
    kept = {name: entry for name, entry in environment.items() if name not in ("counts", "variables")}
    return kept | {"flags": _flags(environment)}


def _flags(environment: dict[str, Any]) -> dict[str, str]:
    """Return the variables and the flags of XLA that may change numbers; none where a session recorded none.

    The order of flags changes nothing, and neither does the name of a folder, such as that of an autotune cache. Of a
    flag that is given twice the last one counts, as for XLA.
    """
    variables = environment.get("variables", {})
    deciding = {name: text for name, text in variables.items() if name in _DECIDING}
    for word in variables.get("XLA_FLAGS", "").split():
        name, _, value = word.lstrip("-").partition("=")
        if name.startswith(_DECIDING_FLAGS) and not name.startswith(_OTHER_FLAGS):
            deciding[name] = "a folder" if name.endswith("_dir") else value
    return deciding


def _commit() -> dict[str, Any]:
    """Commit of the working copy that this file belongs to, if it does and git can say."""
    here = Path(__file__).resolve()
    # Inside a git hook, GIT_DIR would name another repository than the one that this file is in.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str:
        # A copy that belongs to another user (as in a container) is read all the same; nothing in it is run.
        trusted = ["-c", f"safe.directory={here.parents[2]}", "-c", "core.fsmonitor=false"]
        command = ["git", "--no-optional-locks", *trusted, "-C", str(here.parent), *words]
        options = {"capture_output": True, "text": True, "timeout": 20, "check": True, "env": outside}
        return subprocess.run(command, **options).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # an installed copy may lie inside somebody else's repository
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def say(text: str) -> None:
    """Print a line on stderr without tearing the progress bars."""
    tqdm.write(text, file=sys.stderr)
