"""Every test sees eight devices, raised warnings, and no silent broadcasting across ranks."""

import os

# One thread a virtual device: XLA's CPU thread pool splits work by the threads that it finds.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 " + os.environ.get("XLA_FLAGS", "")
os.environ["JAX_PLATFORMS"] = "cpu"

# No compiled program is kept on disk: few repeat, and XLA has crashed in writing them, in a process of many tests.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def devices():
    found = jax.devices()
    assert len(found) == 8, "tests need eight virtual CPU devices"
    return found


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield
