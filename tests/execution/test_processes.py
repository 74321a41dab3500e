"""Several processes: none is joined without variables of the launcher, and incomplete variables are refused."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from jaxsens.execution import processes


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
        for name, value in variables.items():
            monkeypatch.setenv(f"JAXSENS_{name}", value)
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
    assert words == ("node0:8476", 4, 3)
    assert options["coordinator_bind_address"] is None
    assert not jax.config.jax_enable_preemption_service
    assert processes.sys.excepthook is not processes.sys.__excepthook__


def test_on_one_host_nothing_is_open_to_others(environment):
    ((_, options),) = environment(PROCESSES="2", PROCESS="0", COORDINATOR="127.0.0.1:8476")
    assert options["coordinator_bind_address"] == "127.0.0.1:8476"


def test_on_a_pod_no_address_is_passed(environment):
    ((words, _),) = environment(PROCESSES="auto")
    assert words == ()


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
