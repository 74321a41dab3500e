"""State that stays on the devices: it is updated as it would be on the host, wherever it is."""

import jax
import numpy as np
import pytest

from jaxsens.execution import Execution, backends, resident

COUNT = 11


def step(state, number, active, offset):
    """Another state, and a result that depends on the old one; an input that is not active would spoil both."""
    new = {"sum": state["sum"] + number + offset, "calls": state["calls"] + 1}
    return jax.tree.map(lambda a: a * active, new), state["sum"] * active


def start():
    return {"sum": np.arange(10, 10 + COUNT, dtype=np.int32), "calls": np.zeros((COUNT, 2), np.int32)}


CALLS = (np.arange(COUNT)[::-1], np.array([4, 9, 0, 7, 2]), np.array([9, 2]), np.array([2, 9]))
"""Items of each call: fewer each time, as members of a training stop, and in other orders."""


def updated(state):
    """The results of some calls, with inputs that are other numbers for each item, and the state after them."""
    return [state.update(items, np.int32(100 * items), np.int32(1)) for items in CALLS], state.read()


@pytest.mark.parametrize("execution", [Execution(chunk=1), Execution(chunk=2), Execution(chunk=3, backend="jit")])
@pytest.mark.parametrize("stays", [True, False])
def test_items_are_updated_as_on_the_host(execution, stays, devices, monkeypatch):
    expected, results = start(), []
    for items in CALLS:
        results.append(expected["sum"][items])
        expected["sum"][items] += np.int32(100 * items + 1)
        expected["calls"][items] += 1
    monkeypatch.setattr(resident, "_fits", lambda *_: stays)
    state = resident.Resident(step, start(), execution.replace(devices=devices[:3]))
    found, after = updated(state)
    for one, other in zip(found, results, strict=True):
        np.testing.assert_array_equal(one, other)
    jax.tree.map(np.testing.assert_array_equal, after, expected)


def test_a_state_crosses_the_host_only_where_lanes_change(devices, monkeypatch):
    """On one device never; on three, where other items are updated."""
    moved, spread = [], backends.spread
    monkeypatch.setattr(backends, "spread", lambda *call: moved.append(1) or spread(*call))
    for count, times in ((1, [1, 1, 1]), (3, [1, 2, 2])):
        moved.clear()
        state = resident.Resident(step, start(), Execution(chunk=1, devices=devices[:count]))
        seen = []
        for items in (np.arange(COUNT), np.array([1, 0]), np.array([1, 0])):
            state.update(items, np.int32(items), np.int32(0))
            seen.append(len(moved))
        assert seen == times


def test_a_state_too_large_for_a_device_stays_on_the_host():
    gpu = type("Gpu", (), {"platform": "gpu", "devices": jax.devices()[:1]})
    for megabytes, fits in ((2**14, True), (2**16, False)):
        assert resident._fits(jax.ShapeDtypeStruct((megabytes, 2**20), np.uint8), gpu) == fits
