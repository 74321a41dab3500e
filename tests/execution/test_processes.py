"""Several processes: none is joined without variables of the launcher, and incomplete variables are refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from jaxsens.execution import processes

ROOT = Path(__file__).parents[2]

SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[3-4]", "SLURM_NTASKS": "2", "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0", "SLURM_STEP_NUM_NODES": "2",
}  # fmt: skip
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}
POD = {"TPU_WORKER_HOSTNAMES": "worker-0,worker-1", "TPU_WORKER_ID": "1"}
MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911", "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}  # fmt: skip
MPI_5 = {
    "PMIX_NAMESPACE": "prterun-node3-21091@1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}  # fmt: skip
ENGINES = {**SLURM, **KUBERNETES, **POD, **MPI, **MPI_5, "SLURM_NTASKS_PER_NODE": ""}


@pytest.fixture
def environment(monkeypatch):
    """Set variables of a launch, and see what JAX would be called with."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *words, **options: calls.append((words, options)))
    monkeypatch.setattr("sys.excepthook", processes.sys.excepthook)
    before = jax.config.jax_enable_preemption_service

    def set_to(**variables):
        for name in processes.VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name in ENGINES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name if name in ENGINES else f"JAXSENS_{name}", value)
        processes.join()
        return calls

    yield set_to
    jax.config.update("jax_enable_preemption_service", before)


def test_without_a_launch_nothing_is_joined(environment):
    hook = processes.sys.excepthook
    assert environment() == []
    assert processes.sys.excepthook is hook
    assert processes.is_first()
    assert processes.from_first(lambda: b"content") == b"content"


def test_a_launch_is_joined_in_its_place(environment):
    ((words, options),) = environment(PROCESSES="4", PROCESS="3", COORDINATOR="node0:8476")
    assert words == ("node0:8476", 4, 3, None)
    assert options["coordinator_bind_address"] is None
    assert not jax.config.jax_enable_preemption_service
    assert processes.sys.excepthook is not processes.sys.__excepthook__


def test_on_one_host_nothing_is_open_to_others(environment):
    ((_, options),) = environment(PROCESSES="2", PROCESS="0", COORDINATOR="127.0.0.1:8476")
    assert options["coordinator_bind_address"] == "127.0.0.1:8476"


def test_on_a_pod_no_address_is_passed(environment):
    ((words, _),) = environment(PROCESSES="auto")
    assert words == ()


@pytest.mark.parametrize("engine", [SLURM, KUBERNETES, POD, MPI])
def test_processes_of_an_engine_are_joined_as_jax_detects_them(environment, monkeypatch, engine):
    monkeypatch.setattr(processes, "_can_ask_kubernetes", lambda: True)
    ((words, _),) = environment(**engine)
    assert words == ()


@pytest.mark.parametrize("engine", [SLURM | {"SLURM_NTASKS": "1"}, MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, KUBERNETES, {}])
def test_a_single_process_of_an_engine_is_not_joined(environment, monkeypatch, engine):
    """Nor a pod that JAX cannot ask for the others: it needs the package of Kubernetes."""
    monkeypatch.setattr(processes, "_can_ask_kubernetes", lambda: False)
    assert environment(**engine) == []


@pytest.mark.parametrize(
    ("engine", "visible"),
    [
        (SLURM, "all"),  # a machine each
        (SLURM | {"SLURM_STEP_NUM_NODES": "1"}, "0"),
        (MPI, "0"),
        (MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, "all"),
        (SLURM | MPI, "0"),  # mpirun in an allocation of SLURM
    ],
)
def test_a_process_alone_on_its_machine_uses_all_gpus(environment, monkeypatch, engine, visible):
    before = jax.config.values["jax_cuda_visible_devices"], jax.config.values["jax_rocm_visible_devices"]
    jax.config.update("jax_cuda_visible_devices", "0")  # as JAX sets it for the first process of a machine
    try:
        environment(**engine)
        assert jax.config.values["jax_cuda_visible_devices"] == visible
    finally:
        for name, value in zip(("jax_cuda_visible_devices", "jax_rocm_visible_devices"), before, strict=True):
            jax.config.update(name, value)


def test_processes_of_open_mpi_5_on_a_machine_agree_on_a_port(environment):
    """JAX does not detect version 5, so that each process would run on its own."""
    environment(**MPI_5 | {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "0"})
    (first, _), (second, options) = environment(**MPI_5)
    address = first[0]
    assert first[1:] == (2, 0, [0])
    assert second == (address, 2, 1, [1])
    assert options["coordinator_bind_address"] == address
    host, port = address.split(":")
    assert host == "127.0.0.1"
    assert 2**16 - 2**12 <= int(port) < 2**16


def test_open_mpi_5_on_several_machines_needs_an_address(environment):
    apart = MPI_5 | {"OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}
    with pytest.raises(ValueError, match=r"JAXSENS_COORDINATOR must be HOST:PORT, got None.*Open MPI 5 on several"):
        environment(**apart)
    ((words, _),) = environment(**apart, COORDINATOR="node3:8476")
    assert words == ("node3:8476", 2, 1, None)  # all GPUs of its machine


@pytest.mark.parametrize(
    ("variables", "match"),
    [
        ({"PROCESSES": "two"}, "JAXSENS_PROCESSES must be an integer at least 1, got 'two'"),
        ({"PROCESSES": "0"}, "JAXSENS_PROCESSES must be an integer at least 1, got '0'"),
        ({"PROCESSES": "2"}, "JAXSENS_PROCESS must be an integer from 0 to 1, got None"),
        ({"PROCESSES": "2", "PROCESS": "2"}, "JAXSENS_PROCESS must be an integer from 0 to 1, got '2'"),
        ({"PROCESSES": "2", "PROCESS": "1"}, "JAXSENS_COORDINATOR must be HOST:PORT, got None"),
        ({"PROCESSES": "2", "PROCESS": "1", "COORDINATOR": ":80"}, "JAXSENS_COORDINATOR must be HOST:PORT, got ':80'"),
    ],
)
def test_half_a_word_is_refused(environment, variables, match):
    with pytest.raises(ValueError, match=match):
        environment(**variables)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("size", [0, 1, 1024, 1025, 5000])
def test_what_the_first_says_arrives_whole(monkeypatch, first, size):
    """With the wire between two processes replaced: it carries the first one's buffers."""
    wire, content = [], np.random.default_rng(size).bytes(size)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda a: wire.append(a) or a)
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    assert processes.from_first(lambda: content) == content
    assert all(len(a) & (len(a) - 1) == 0 for a in wire)  # few sizes, few programs
    if not first:
        sent = list(wire)

        def carry(a):
            assert len(a) == len(sent[0])
            assert not a.any()
            return sent.pop(0)

        monkeypatch.setattr(jax, "process_index", lambda: 1)
        monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", carry)
        assert processes.from_first(pytest.fail) == content


def test_an_error_of_the_first_is_one_of_all(monkeypatch):
    wire = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda a: wire.append(a) or a)
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    with pytest.raises(ZeroDivisionError):
        processes.from_first(lambda: bytes([1 // 0]))
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda a: wire.pop(0))
    with pytest.raises(RuntimeError, match="in the first process: ZeroDivisionError"):
        processes.from_first(pytest.fail)


JOINED = """
import jax, numpy as np
from jaxsens.execution import Execution, map_items, processes
processes.join()
rows = np.random.default_rng(0).normal(size=(11, 5)).astype(np.float32)
doubled = map_items(lambda x, w: x * w, rows, np.float32(2), execution=Execution(chunk=2))
assert (doubled == 2 * rows).all()
said = processes.from_first(lambda: b"by the first").decode()
print(f"process {jax.process_index()} of {jax.process_count()}: {said}", flush=True)
"""


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="Open MPI is not installed")
def test_two_processes_under_mpirun_are_one_run():
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2", sys.executable, "-c", JOINED]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    for number in range(2):
        assert f"process {number} of 2: by the first" in ended.stdout
