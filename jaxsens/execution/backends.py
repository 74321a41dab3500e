"""The backends: how one program runs on all devices, and what lies on them; no other file uses devices.

A lane is what runs one program at a time: a device, or with the backend ``"jit"`` on a CPU a thread. Arguments and
results of a program have the lanes as their leading axis.
"""

import concurrent.futures
import contextlib
import functools
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from jaxsens.execution import dry_run, threads
from jaxsens.execution.execution import Execution, require_devices
from jaxsens.typing import Array, PyTree

__all__ = [
    "AXIS",
    "collect",
    "describe_devices",
    "in_float64",
    "lane_devices",
    "lanes",
    "local_devices",
    "on_lanes",
    "on_shards",
    "placed",
    "replicate",
    "spread",
    "updating_lanes",
    "use_every_core",
]

AXIS = "devices"
"""Name of the axis of devices."""

# The smallest array that stays on the devices, in bytes.
_KEPT_BYTES = 2**16

Program = Callable[..., PyTree]


def local_devices(devices: Sequence[jax.Device] | None = None) -> tuple[jax.Device, ...]:
    """Return the devices as a tuple, by default all those of this process.

    Raises:
        ValueError: If there is none, one is named twice, or something other than a device is among them.

    Example:
        >>> len(local_devices()) == jax.local_device_count()
        True
    """
    return require_devices(devices) or tuple(jax.local_devices())


def use_every_core() -> None:
    """Make every core of a CPU a device, for programs that train or measure many small models.

    A model too small to occupy two cores would leave one idle. It must be called before the first computation: it has
    no effect on existing devices, on a number of devices set by ``XLA_FLAGS``, or on accelerators.

    Example:
        >>> use_every_core()  # no effect on devices that exist
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", threads.cores())


def describe_devices() -> dict[str, Any]:
    """Return the platform, the kind and the number of devices, and the number of processes, for a manifest.

    Example:
        >>> sorted(describe_devices())
        ['devices', 'kind', 'platform', 'processes']
    """
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
    }


def in_float64(execution: Execution) -> Execution:
    """Return where a program in float64 runs: on the host where the devices are TPUs, which emulate it.

    Example:
        >>> in_float64(Execution()) == Execution()
        True
    """
    return execution.replace(devices=jax.local_devices(backend="cpu")) if execution.platform == "tpu" else execution


def lane_devices(execution: Execution) -> tuple[jax.Device, ...]:
    """Return the device of each lane; one appears several times where its threads are lanes.

    Example:
        >>> lane_devices(Execution()) == local_devices()
        True
    """
    devices = local_devices(execution.devices)
    if execution.backend != "jit":
        return devices
    return devices[:1] * (threads.cores() if devices[0].platform == "cpu" else 1)


def lanes(execution: Execution) -> int:
    """Return how many programs run at the same time: one on each device, or one in each thread with ``"jit"``.

    Example:
        >>> lanes(Execution()) == jax.local_device_count()
        True
    """
    return len(lane_devices(execution))


def on_lanes(local: Program, backend: str, devices: tuple[jax.Device, ...]) -> tuple[Program, Sharding]:
    """Return ``program(counts, items, shared)``, which calls ``local`` on every lane, and where ``shared`` must be.

    Args:
        local: Called with a lane's count, its items and the shared arguments.
        backend: One of ``execution.BACKENDS``.
        devices: As ``lane_devices`` returns them.

    Example:
        >>> program, place = on_lanes(lambda count, items, shared: items * shared, "pmap", local_devices()[:1])
        >>> program(np.ones(1, np.int32), np.ones((1, 2), np.int32), placed(place, np.int32(3))).tolist()
        [[3, 3]]
    """
    if backend == "jit":
        return _in_threads(jax.jit(local), devices)
    mesh = _mesh(devices)

    def on_device(count: Array, items: PyTree, shared: PyTree) -> PyTree:
        results = local(count[0], jax.tree.map(lambda a: a[0], items), shared)
        return jax.tree.map(lambda a: a[None], results)

    split, whole = PartitionSpec(AXIS), PartitionSpec()
    if backend == "pmap":
        # One argument: with several, pmap lays in_axes over the leaves when there are as many leaves as arguments.
        whole_call = jax.pmap(lambda call: local(*call), axis_name=AXIS, devices=devices, in_axes=((0, 0, None),))

        def program(*call: PyTree) -> PyTree:
            return whole_call(call)

    else:
        # check_vma stays off: a scan whose first carry is a constant (an LSTM's) would be refused, and every output
        # belongs to one device anyway.
        program = jax.jit(
            jax.shard_map(on_device, mesh=mesh, in_specs=(split, split, whole), out_specs=split, check_vma=False)
        )
    return program, NamedSharding(mesh, whole)


def updating_lanes(local: Program, backend: str, devices: tuple[jax.Device, ...]) -> tuple[Program, Sharding]:
    """Return ``program(state, work, shared) -> (state, results)``, as ``on_lanes`` does.

    The state is one that ``spread`` or the program returned; it is consumed.

    Example:
        >>> program, place = updating_lanes(lambda state, x, shared: (state + x, state), "pmap", local_devices()[:1])
        >>> state = spread(np.ones((1, 2), np.int32), Execution().replace(devices=local_devices()[:1]))
        >>> state, before = program(state, np.ones((1, 2), np.int32), placed(place, ()))
        >>> collect(state).tolist(), before.tolist()
        ([[2, 2]], [[1, 1]])
    """
    if backend == "jit":
        return _update_in_threads(jax.jit(local, donate_argnums=0), devices)
    program = jax.pmap(local, axis_name=AXIS, devices=devices, in_axes=(0, 0, None), donate_argnums=0)
    return program, NamedSharding(_mesh(devices), PartitionSpec())


def on_shards(
    local: Program, devices: tuple[jax.Device, ...], split: PyTree, *shared: PyTree, axis: int = 0, keep: bool = False
) -> PyTree:
    """Return ``local(shard, *shared)``, which must be equal on all devices, for use under jit.

    Within ``local``, collectives such as ``jax.lax.all_gather`` know the axis ``AXIS``.

    Args:
        local: Called on every device with its part of ``split``.
        devices: The devices.
        split: Arrays ``[dn ...]``, ``n`` of each device.
        *shared: The same for all devices.
        axis: The axis that is split.
        keep: Whether results are split too, along the same axis: each device holds its own.

    Example:
        >>> total = jax.jit(lambda x: on_shards(lambda x: jax.lax.psum(x.sum(), AXIS), local_devices(), x))
        >>> int(total(jnp.ones(2 * lanes(Execution()), int))) == 2 * lanes(Execution())
        True
    """
    parts, whole = PartitionSpec(*[None] * axis, AXIS), PartitionSpec()
    # Whole outputs are equal on all devices by construction; checking it is not possible through a loop.
    return jax.shard_map(
        local,
        mesh=_mesh(devices),
        in_specs=(parts, *[whole for _ in shared]),
        out_specs=parts if keep else whole,
        check_vma=False,
        axis_names={AXIS},
    )(split, *shared)


def spread(tree: PyTree, execution: Execution) -> PyTree:
    """Return arrays ``[l s ...]`` as a state of ``updating_lanes``: ``s`` slots in each of ``l`` lanes.

    Example:
        >>> state = np.zeros((lanes(Execution()), 3), np.float32)
        >>> collect(spread(state, Execution())).shape == state.shape
        True
    """
    devices = lane_devices(execution)
    if execution.backend != "jit":
        return jax.device_put(tree, NamedSharding(_mesh(devices), PartitionSpec(AXIS)))
    place = SingleDeviceSharding(devices[0])
    return [jax.device_put(jax.tree.map(lambda a, n=lane: a[n], tree), place) for lane in range(len(devices))]


def collect(state: PyTree) -> PyTree:
    """Return a state that ``spread`` made, or a part of its pytree, as arrays ``[l s ...]`` on the host.

    Example:
        >>> collect(spread({"w": np.ones((lanes(Execution()), 2), np.float32)}, Execution()))["w"].shape[1:]
        (2,)
    """
    if not isinstance(state, list):
        return jax.tree.map(np.array, state)
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *state)


def replicate(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Return a pytree of which every leaf is on every device.

    Example:
        >>> len(replicate(jnp.ones(2), local_devices()).devices()) == jax.local_device_count()
        True
    """
    if dry_run.recorded() is not None:
        return tree
    return jax.device_put(tree, NamedSharding(_mesh(tuple(devices)), PartitionSpec()))


def placed(place: Sharding, tree: PyTree) -> PyTree:
    """Return arrays where a program reads them; large arrays of JAX are copied once, since they cannot change.

    The copies of the last call are kept, and no others: those of many models would fill the devices.

    Example:
        >>> place = on_lanes(lambda *call: call[1], "jit", local_devices()[:1])[1]
        >>> placed(place, {"w": np.ones(2, np.float32)})["w"].sharding == place
        True
    """
    leaves, structure = jax.tree.flatten(tree)
    used = {id(leaf) for leaf in leaves}
    for number in [number for number in _copies if number not in used]:
        _copies.pop(number, None)
    stay = [_stays(leaf) and leaf.sharding != place for leaf in leaves]
    sent = iter(jax.device_put([leaf for leaf, stays in zip(leaves, stay, strict=True) if not stays], place))
    placed = [_copy_on(place, leaf) if stays else next(sent) for leaf, stays in zip(leaves, stay, strict=True)]
    return jax.tree.unflatten(structure, placed)


def _stays(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return False
    return leaf.nbytes >= _KEPT_BYTES and not leaf.is_deleted()


def _copy_on(place: Sharding, array: jax.Array) -> jax.Array:
    number = id(array)
    of_array, there, copy = _copies.get(number, (None, None, None))
    if of_array is None or of_array() is not array or there != place:
        # Its copy goes with the array: its number may be that of another one then.
        copy = jax.device_put(array, place)
        _copies[number] = weakref.ref(array, lambda _: _copies.pop(number, None)), place, copy
    return copy


@functools.lru_cache(maxsize=64)
def _mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    return Mesh(np.asarray(devices), (AXIS,))


def _in_threads(one: Callable[..., PyTree], lanes: tuple[jax.Device, ...]) -> tuple[Callable[..., PyTree], Sharding]:
    """Make the program that calls ``one`` for every lane, each in a thread; all lanes are the same device.

    The CPU backend runs a call in the thread that makes it, so that calls from one thread would follow each other.
    """
    place = SingleDeviceSharding(lanes[0])

    def program(counts: Array, items: PyTree, shared: tuple[PyTree, ...]) -> PyTree:
        def call(_: int, lane_items: PyTree) -> PyTree:
            return jax.tree.map(np.asarray, one(*lane_items, shared))

        outputs = _threads(call, (counts, items), place, len(lanes))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *outputs)

    return program, place


def _update_in_threads(
    one: Callable[..., tuple[PyTree, PyTree]], lanes: tuple[jax.Device, ...]
) -> tuple[Callable[..., tuple[PyTree, PyTree]], Sharding]:
    """Make the program that calls ``one`` for every lane, as ``_in_threads`` does."""
    place = SingleDeviceSharding(lanes[0])

    def program(state: list[PyTree], work: PyTree, shared: tuple[PyTree, ...]) -> tuple[list[PyTree], PyTree]:
        def call(lane: int, lane_work: PyTree) -> tuple[PyTree, PyTree]:
            new, results = one(state[lane], lane_work, shared)
            return new, jax.tree.map(np.asarray, results)

        outputs = _threads(call, work, place, len(lanes))
        return [new for new, _ in outputs], jax.tree.map(lambda *leaves: np.stack(leaves), *(r for _, r in outputs))

    return program, place


def _threads(call: Callable[[int, PyTree], PyTree], work: PyTree, place: Sharding, lanes: int) -> list[PyTree]:
    """Return ``call(lane, work of the lane)`` for every lane, each in a thread."""
    wide = jax.config.jax_enable_x64  # a thread does not inherit it

    def in_thread(lane: int) -> PyTree:
        with jax.enable_x64(wide):
            return call(lane, jax.device_put(jax.tree.map(lambda a: a[lane], work), place))

    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        return list(pool.map(in_thread, range(lanes)))


_copies: dict[int, tuple[weakref.ref, Sharding, jax.Array]] = {}
"""Arrays that are kept on devices, by the number of the array of which they are copies."""
