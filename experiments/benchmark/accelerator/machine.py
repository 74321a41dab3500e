"""The machine and its peak rates: products, copies, transfers, launches."""

import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.accelerator.record import Record
from experiments.benchmark.accelerator.sizes import Sizes
from jaxsens.execution import backends

__all__ = ["Ceilings", "describe", "measure"]

Ceilings = dict[str, float]
"""Rates: ``float32``, ``tf32``, ``bf16`` in operations a second, ``copy`` and ``to_device`` in bytes a second; and in
seconds ``launch`` and ``round_trip``."""

PACKAGES = (
    "jax", "jaxlib", "jax-cuda13-plugin", "flax", "optax", "chex", "orbax-checkpoint", "numpy", "scipy", "torch",
    "triton", "transformers",
)  # fmt: skip

TURNS = 5


def describe() -> dict[str, Any]:
    """Return versions, the card as JAX and the driver name it, and the cores."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        **backends.describe_devices(),
        "driver": _driver(),
        "versions": versions,
        "python": platform.python_version(),
        "cores": cores,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _driver() -> str | None:
    """Return what the driver says of the card; None where there is no such tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    fields = "name,memory.total,driver_version,clocks.max.sm,power.limit"
    command = [tool, f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip() or None


def measure(record: Record, sizes: Sizes, seed: int) -> Ceilings:
    """Measure and record the ceilings; what fails is recorded, and missing from the result."""
    ceilings: Ceilings = {}
    for name, make in _ceilings(sizes, seed).items():
        try:
            work, call, count = make()
            spent = [_seconds(call, count) for _ in range(TURNS)]
        except Exception as error:
            record.failed(f"ceiling {name}", error)
            continue
        rates = sorted(work / s if work else s for s in spent)
        ceilings[name] = statistics.median(rates)
        record.put("ceilings", name, {"median": ceilings[name], "lowest": rates[0], "highest": rates[-1]})
        record.say(f"ceiling {name:10} {ceilings[name]:10.4g} [{rates[0]:.4g}, {rates[-1]:.4g}]")
    return ceilings


Timed = tuple[float, Callable[[], Any], int]
"""Operations or bytes of a call (0 where seconds are reported), the call, and how many calls make a turn."""


def _ceilings(sizes: Sizes, seed: int) -> dict[str, Callable[[], Timed]]:
    key = jax.random.key(seed)
    n, calls = sizes.product, max(1, min(20, sizes.launches))

    def product(dtype: str, precision: str) -> Timed:
        a, b = (jax.random.normal(jax.random.fold_in(key, i), (n, n), dtype) for i in range(2))
        with jax.default_matmul_precision(precision):
            call = jax.jit(lambda a, b: a @ b).lower(a, b).compile()
        return 2 * n**3, lambda: call(a, b), calls

    def copy() -> Timed:
        a = jax.random.normal(key, (sizes.copy // 4,))
        call = jax.jit(lambda a: a + 1)
        return 2 * sizes.copy, lambda: call(a), min(calls, 5)

    def to_device() -> Timed:
        a = np.random.default_rng(seed).normal(size=sizes.copy // 64).astype(np.float32)
        return a.nbytes, lambda: jax.device_put(a), 3

    def launch() -> Timed:
        call, a = jax.jit(lambda a: a + 1), jnp.zeros(())
        return 0, lambda: call(a), sizes.launches

    def round_trip() -> Timed:
        call, a = jax.jit(lambda a: a + 1), jnp.zeros(())
        return 0, lambda: jax.block_until_ready(call(a)), sizes.launches

    return {
        "float32": lambda: product("float32", "highest"),
        "tf32": lambda: product("float32", "tensorfloat32"),
        "bf16": lambda: product("bfloat16", "default"),
        "copy": copy,
        "to_device": to_device,
        "launch": launch,
        "round_trip": round_trip,
    }


def _seconds(call: Callable[[], Any], count: int) -> float:
    """Return the seconds of a call, from ``count`` of them that are queued together, after one to warm up."""
    jax.block_until_ready(call())
    start = time.perf_counter()
    for _ in range(count - 1):
        call()
    jax.block_until_ready(call())
    return (time.perf_counter() - start) / count
