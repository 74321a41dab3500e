"""State of many items that stays on the devices between calls: only inputs go there, and only results come back."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from jaxsens.execution import backends, batches, checks, dry_run, memory, parallel
from jaxsens.execution.execution import Execution
from jaxsens.execution.precision import require_precision
from jaxsens.typing import Array, PyTree

__all__ = ["Resident"]

_ROOM = 4
"""Bytes of a state that stays on a device, at most, in multiples of those that weights of several models may take."""


class Resident:
    """The state of ``n`` items, updated by ``fn(state, input, active, *shared) -> (state, result)``.

    The items of a call, in the order given, are cut into chunks as ``parallel.map_items`` does it, so that results do
    not depend on the number of devices. Chunk j belongs to lane ``j % lanes``; items whose lane changes, since others
    are no longer updated, are moved by the host. In several processes, and where the state is larger than a device may
    hold, it stays on the host.

    Args:
        fn: A pure function of one item; equal ones share compiled code. ``active`` is false for an input that only
            fills a chunk, whose results are left out.
        state: Pytree of arrays ``[n ...]``.
        execution: How to run; its ``chunk``, an integer, counts items.

    Example:
        >>> state = Resident(lambda s, x, active: (s + x, 2 * s), np.arange(3), Execution(chunk=1))
        >>> state.update(np.array([2, 0]), np.array([10, 20])).tolist()
        [4, 0]
        >>> state.read().tolist()
        [20, 1, 12]
    """

    def __init__(self, fn: Callable[..., tuple[PyTree, PyTree]], state: PyTree, execution: Execution) -> None:
        self._fn, self._state = fn, state
        self._count = batches.count_of(state)
        chunk = min(execution.chunk, self._count)
        self._execution = execution.replace(chunk=chunk)
        self._lanes = backends.lanes(execution)
        self._slots = -(-self._count // (chunk * self._lanes)) * chunk
        self._home = None  # the place of each item, lane * slots + slot; none while the state is on the host
        self._stays = jax.process_count() == 1 and _fits(state, execution)

    def update(self, items: np.ndarray, inputs: PyTree, *shared: PyTree) -> PyTree:
        """Update some items, each once, and return the results as numpy arrays ``[k ...]``.

        Args:
            items: Numbers of the items ``[k]``.
            inputs: Their inputs ``[k ...]``.
            *shared: The same for all; see ``parallel.map_items``.
        """
        if not self._stays:
            return self._update_on_host(items, inputs, shared)
        chunk, count = self._execution.chunk, len(items)
        number = np.arange(count) // chunk
        lane, place = number % self._lanes, number // self._lanes * chunk + np.arange(count) % chunk
        self._bring(items, lane)
        at = lane * self._slots + place
        slots = np.full(self._lanes * self._slots, self._slots)
        slots[at] = self._home[items] % self._slots
        # An input that is not active is a copy of the last one.
        chosen = np.full(len(slots), count - 1)
        chosen[at] = np.arange(count)
        chunks = np.bincount(number[::chunk] % self._lanes, minlength=self._lanes)
        shape = self._lanes, self._slots
        self._state, results = _update(
            self._fn, self._state, chunks, slots.reshape(shape),
            jax.tree.map(lambda a: np.asarray(a)[chosen.reshape(shape)], inputs), *shared, execution=self._execution,
        )  # fmt: skip
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[at], results)

    def read(self, part: Callable[[PyTree], PyTree] = lambda state: state) -> PyTree:
        """Return the state, or a part of its pytree, as numpy arrays ``[n ...]``."""
        if self._home is None:
            return jax.tree.map(np.asarray, part(self._state))
        # With "jit" every lane has a pytree of its own.
        state = [part(one) for one in self._state] if self._execution.backend == "jit" else part(self._state)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[self._home], backends.collect(state))

    def _bring(self, items: np.ndarray, lane: np.ndarray) -> None:
        """Let the state of each item be in its lane."""
        if self._home is not None and (self._home[items] // self._slots == lane).all():
            return
        state = self.read()
        others = np.setdiff1d(np.arange(self._count), items)
        free = np.repeat(np.arange(self._lanes), self._slots - np.bincount(lane, minlength=self._lanes))
        members, lanes = np.concatenate([items, others]), np.concatenate([lane, free[: len(others)]])
        order = np.argsort(lanes, kind="stable")
        first = np.searchsorted(lanes[order], lanes[order])
        self._home = np.empty(self._count, int)
        self._home[members[order]] = lanes[order] * self._slots + np.arange(self._count) - first
        # A slot without an item has the state of the first.
        source = np.zeros(self._lanes * self._slots, int)
        source[self._home] = np.arange(self._count)
        source = source.reshape(self._lanes, self._slots)
        self._state = backends.spread(jax.tree.map(lambda a: a[source], state), self._execution)

    def _update_on_host(self, items: np.ndarray, inputs: PyTree, shared: tuple[PyTree, ...]) -> PyTree:
        """Update items whose state is on the host.

        Inputs that are not active follow those of the items. All calls therefore have one shape and one program, and
        whole chunks of inputs that are not active take no time if ``fn`` takes none.
        """
        count = len(items)
        chosen = np.minimum(np.arange(self._count), count - 1)
        chosen_inputs = jax.tree.map(lambda a: np.asarray(a)[chosen], inputs)
        work = (
            jax.tree.map(lambda a: np.asarray(a)[items[chosen]], self._state),
            chosen_inputs,
            np.arange(self._count) < count,
        )
        outputs = parallel.map_items(parallel.bind(_one, self._fn), work, *shared, execution=self._execution)
        new, results = jax.tree.map(lambda a: a[:count], outputs)

        def put(old: np.ndarray, part: np.ndarray) -> np.ndarray:
            old = np.array(old)
            old[items] = part
            return old

        self._state = jax.tree.map(put, self._state, new)
        return results


def _fits(state: PyTree, execution: Execution) -> bool:
    """Return whether a state may stay on the devices; on a CPU it is in the memory of the host in any case."""
    if execution.platform == "cpu":
        return True
    return memory.room_for_copies(state, execution, budgets=_ROOM * len(backends.local_devices(execution.devices))) > 0


def _one(
    fn: Callable[..., tuple[PyTree, PyTree]], item: tuple[PyTree, PyTree, np.ndarray], *shared: PyTree
) -> tuple[PyTree, PyTree]:
    return fn(*item, *shared)


def _update(
    fn: Callable[..., tuple[PyTree, PyTree]], state: PyTree, counts: Array, slots: Array, inputs: PyTree,
    *shared: PyTree, execution: Execution,
) -> tuple[PyTree, PyTree]:  # fmt: skip
    """Apply ``fn(state, input, active, *shared) -> (state, result)`` to slots of every lane, whose state stays there.

    Slots are taken a chunk at a time, as ``parallel.map_items`` takes items, and the program is equally one for any
    number of lanes and chunks.

    Args:
        fn: A pure function of one slot; equal ones share compiled code.
        state: As ``backends.spread`` or the last call returned it; it is consumed.
        counts: Chunks of each lane ``[l]``.
        slots: The slot of each input ``[l s]``; the number of slots, ``s``, for an input that is not active.
        inputs: Arrays ``[l s ...]``.
        *shared: As in ``parallel.map_items``.
        execution: How to run; its ``chunk`` counts slots, and divides their number.

    Returns:
        The state, and the results ``[l s ...]`` on the host; those of inputs that are not active mean nothing.
    """
    inputs, shared = checks.host_arrays(inputs, "inputs"), checks.device_arrays(shared, "shared arguments")
    require_precision(execution)
    devices = backends.lane_devices(execution)
    program, everywhere = _program(fn, execution.chunk, execution.backend, devices, execution.precision)
    if dry_run.is_compiling_only():
        counts = np.zeros_like(counts)
    work = np.asarray(counts, np.int32), np.asarray(slots, np.int32), inputs
    state, results = program(state, work, backends.placed(everywhere, shared))
    return state, jax.tree.map(np.asarray, results)


@functools.lru_cache(maxsize=256)
def _program(
    fn: Callable[..., tuple[PyTree, PyTree]], chunk: int, backend: str, devices: tuple[jax.Device, ...], precision: str
) -> tuple[Callable[..., tuple[PyTree, PyTree]], Sharding]:
    """Compile the loop over the chunks of a lane's slots."""

    def local(state: PyTree, work: PyTree, shared: tuple[PyTree, ...]) -> tuple[PyTree, PyTree]:
        count, slots, inputs = work
        batched_fn = jax.vmap(lambda state, *args: fn(state, *args, *shared))

        def block(i: Array, state: PyTree) -> tuple[Array, PyTree, PyTree]:
            part = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=i * chunk, slice_size=chunk)
            at = part(slots)
            mine = jax.tree.map(lambda a: a.at[at].get(mode="clip"), state)
            with jax.default_matmul_precision(precision):
                return at, *batched_fn(mine, jax.tree.map(part, inputs), at < len(slots))

        def step(i: Array, carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
            state, results = carry
            at, new, chunk_results = block(i, state)
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * chunk, axis=0)
            # The slots of inputs that are not active lie outside.
            state = jax.tree.map(lambda whole, part: whole.at[at].set(part, mode="drop"), state, new)
            return state, jax.tree.map(lambda whole, part: put(whole, part), results, chunk_results)

        shapes = jax.eval_shape(block, 0, state)[2]
        empty = jax.tree.map(lambda s: jnp.zeros((len(slots), *s.shape[1:]), s.dtype), shapes)
        return jax.lax.fori_loop(0, count, step, (state, empty))

    return backends.updating_lanes(local, backend, devices)
