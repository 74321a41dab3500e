"""Every test sees eight devices, raised warnings, and no silent broadcasting across ranks."""

import os
from pathlib import Path

# Eight virtual devices. Most of the suite's time is compiling, and level 1 of LLVM's optimizations halves it; without
# optimizations laws of equal bits fail. What the caller sets comes last and holds.
os.environ["XLA_FLAGS"] = " ".join((
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1", os.environ.get("XLA_FLAGS", "")
))  # fmt: skip
os.environ["JAX_PLATFORMS"] = "cpu"

# No compiled program is kept on disk: few repeat, and XLA has crashed in writing them, in a process of many tests.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def _few_programs_at_a_time():
    """Forget compiled programs at the end of a file if there are many.

    Each holds memory maps, of which Linux grants a process 65,530 (``vm.max_map_count``): XLA crashes at the limit.
    """
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > 15_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def devices():
    found = jax.devices()
    assert len(found) == 8, "tests need eight virtual CPU devices"
    return found


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield
