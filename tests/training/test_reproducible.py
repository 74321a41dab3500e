"""Trainings with ``reproducible=True`` give equal bits in processes with other numbers of devices and cores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsens import training
from jaxsens.execution import threads

PROGRAM = Path(__file__).with_name("reproducible.py")


def linear(variables, tokens, key):
    return tokens @ variables["params"]["w"], variables


def started(devices, cores, fixed=8):
    flags = f"--xla_force_host_platform_device_count={devices}"
    # Without the cache: a program from it would have been compiled for the cores of another process.
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    environment["PYTHONPATH"] = str(PROGRAM.parents[2])
    command = [sys.executable, str(PROGRAM), str(fixed), str(cores)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def results(processes):
    found = []
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        found.append(json.loads(output.splitlines()[-1]))
    return found


@pytest.mark.whole
def test_one_core_and_device_and_all_cores_with_three_devices_give_the_same_bits():
    one, several = results([started(1, cores=1), started(3, cores=0)])
    assert (one.pop("devices"), several.pop("devices")) == (1, 3)
    assert one == several


@pytest.mark.slow
def test_eight_devices_and_cores_that_only_some_machines_have_give_the_same_bits():
    found = results([started(devices, cores) for devices, cores in ((1, 1), (1, 0), (8, 1), (8, 0))])
    assert [one.pop("devices") for one in found] == [1, 1, 8, 8]
    assert all(one == found[0] for one in found)


def test_threads_that_are_not_fixed_are_refused(monkeypatch, devices):
    monkeypatch.delenv("NPROC", raising=False)
    assert threads.fixed_cpu_threads() is None
    with pytest.raises(ValueError, match="call fix_cpu_threads before the first computation"):
        threads.fix_cpu_threads(64)
    assert "NPROC" not in os.environ
    monkeypatch.setenv("NPROC", "64")  # too late: the pool has another number
    assert threads.fixed_cpu_threads() is None
    monkeypatch.setenv("NPROC", "7")  # fewer than devices
    assert threads.fixed_cpu_threads() is None
    config = training.Config(epochs=1, batch=2, reproducible=True)
    start = {"params": {"w": np.zeros((2, 2), np.float32)}}
    with pytest.raises(ValueError, match="reproducible needs a fixed number of threads on a CPU"):
        training.fit(jax.random.key(0), linear, start, np.eye(2, dtype=np.float32), np.arange(2), config)
