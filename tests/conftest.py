"""Every test sees eight devices, raised warnings, and no silent broadcasting across ranks."""

import os
import re
from importlib import metadata
from pathlib import Path

# Eight virtual devices. Most of the suite's time is compiling. Level 1 of LLVM's optimizations halves it. JAX 0.10 has
# two kinds of emitters for fusions, and the older kind halves it again; other versions may not know the flag, and a
# process ends at an unknown flag. Without optimizations some laws of equal bits fail. The caller's flags come last and
# hold; where they set the level, the emitters are those of users.
os.environ["XLA_FLAGS"] = " ".join((
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1",
    "--xla_cpu_use_fusion_emitters=false"
    if metadata.version("jaxlib").startswith("0.10.")
    and "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", "")
    else "",
    os.environ.get("XLA_FLAGS", ""),
))  # fmt: skip
os.environ["JAX_PLATFORMS"] = "cpu"

# No compiled program is kept on disk: few repeat, and XLA has crashed in writing them, in a process of many tests.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

_QUICK = re.findall(r"xla_backend_optimization_level=(\d)", os.environ["XLA_FLAGS"])[-1] == "1"
_HERE = Path(__file__).parent
_UNOPTIMIZED = (_HERE / "experiments", _HERE / "models", _HERE / "test_docstrings.py")
"""Tests that compile most, and compare no bits of one program with those of another program."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what needs the smoke run of an experiment, or the READMEs' examples, which take up to a minute."""
    for item in items:
        if {"smoke_run", "run_blocks"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("whole")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Compile some tests without optimizations, which takes less than half the time.

    This comes before all fixtures, and no program is kept where the optimizations change: a run that is resumed in
    another process gives the same bytes only if all of its programs are compiled in one way.
    """
    unoptimized = _QUICK and any(item.path.is_relative_to(part) for part in _UNOPTIMIZED)
    if jax.config.values["jax_disable_most_optimizations"] != unoptimized:
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", unoptimized)


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
