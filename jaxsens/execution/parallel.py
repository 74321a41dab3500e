"""One function over many items on all devices, with the same results on any number of them; no other file uses devices.

Items are cut into aligned chunks: chunk j holds items ``[j c, (j + 1) c)``, the last one padded. A device evaluates
whole chunks in a loop whose trip count is an argument of the compiled program. The program, and therefore its results,
are the same for every number of devices and of chunks on a device. (A trip count known at compile time would not do:
XLA unrolls a loop of one step and then rounds differently.)

On a GPU, XLA chooses kernels by timing them, in every process anew, and adds the terms of a scatter in any order.
Results of several processes, and of a run that is resumed, are then equal up to rounding. Start Python with
``XLA_FLAGS="--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"`` for equal bits, or with the first flag and a
folder of chosen kernels that all processes share, ``--xla_gpu_per_fusion_autotune_cache_dir=DIR``.

Of several processes (``jax.distributed``) each evaluates whole chunks; the results are gathered once, at the end. The
file is long because devices, meshes and processes appear in no other.
"""

import concurrent.futures
import contextlib
import contextvars
import functools
import os
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from tqdm.auto import tqdm

from jaxsens.execution import checks, memory, threads
from jaxsens.execution.execution import DEFAULT, Execution, require_devices, require_execution
from jaxsens.execution.precision import require_precision
from jaxsens.typing import Array, PyTree

__all__ = [
    "Launch",
    "bind",
    "collect",
    "compiling_only",
    "describe_devices",
    "in_float64",
    "lanes",
    "local_devices",
    "map_items",
    "recording",
    "replicate",
    "spread",
    "sum_over_parts",
    "update_spread",
    "use_every_core",
]

# Chunks that one launch may take to a device, and bytes of items: bounds for the buffers, without effect on results.
_LAUNCH_CHUNKS = 64
_LAUNCH_BYTES = 2**24
# Buffers of items, and of results, that take next to no time to fill.
_SMALL_BYTES = 2**20
# Bytes of each process's results that are gathered at once, and of the smallest array that stays on the devices.
_GATHERED_BYTES = 2**24
_KEPT_BYTES = 2**16
# A launch grows until it takes this long: short enough for a progress bar, long enough for launching to cost nothing.
_LAUNCH_SECONDS = 0.25

_AXIS = "devices"

_compiling_only = contextvars.ContextVar("compiling_only", default=False)
_recorded = contextvars.ContextVar("recorded", default=None)


def map_items(fn: Callable[..., PyTree], items: PyTree, *shared: PyTree, execution: Execution = DEFAULT) -> PyTree:
    """Return ``fn(item, *shared)`` for every item, as numpy arrays with the items' leading axis.

    Results are equal to the bit for any number of devices and processes, and for the backends ``"pmap"`` and
    ``"shard_map"``; across values of ``chunk``, and with ``"jit"``, they are equal up to rounding.

    Args:
        fn: A pure function of one item. It is compiled once for each value (by ``==``) and each set of shapes; see
            ``bind`` for functions that are created in every call.
        items: Pytree of arrays ``[n ...]``, kept on the host and sent to the devices chunk by chunk.
        *shared: Pytrees that are the same for every item. Large arrays of JAX are copied to every device and stay there
            until they are deleted or a call has others; they must not share memory with a NumPy array that changes.
            Arrays on the host are copied in every call.
        execution: How to run; its ``chunk`` counts items here.

    Raises:
        ValueError: If there are no items, if they disagree on how many there are, if they are random keys, masked
            arrays or traced, if the platform does not have the precision, or if a 64-bit number, of items or shared,
            does not fit 32 bits and JAX narrows it.

    Example:
        >>> map_items(lambda x, y: x * y, np.arange(3.0, dtype=np.float32), np.float32(2))
        array([0., 2., 4.], dtype=float32)
    """
    require_execution(execution)
    checks.require_functions(fn=fn)
    items = checks.host_arrays(items, "items")
    shared = checks.device_arrays(shared, "shared arguments")
    checks.require_outside()
    require_precision(execution)
    count = _leading(items)
    devices = _lanes(execution)
    chunk = execution.chunk
    if chunk is None:
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), items)
        chunk = memory.chunk_of(fn, one, *shared, execution=execution)
    chunk = min(chunk, count)
    total = -(-count // chunk)
    first, stop = _share(total, jax.process_index())
    launches = _recorded.get()
    backend = execution.backend if launches is None else "shard_map"
    program, everywhere = _program(fn, chunk, backend, devices, execution.precision)
    shared = _placed(everywhere, shared) if launches is None else jax.eval_shape(lambda *a: a, *shared)
    capacity = _capacity(fn, items, shared, chunk, total)
    if launches is not None:
        sizes = len(devices), capacity * chunk
        of_launch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((*sizes, *a.shape[1:]), a.dtype), items)
        counts = jax.ShapeDtypeStruct(sizes[:1], np.int32)
        launches.append(Launch(program, counts, jax.eval_shape(lambda a: a, of_launch), shared, chunk, capacity))
        return _zeros(fn, items, shared, count)
    if _compiling_only.get():
        index = np.zeros((len(devices), capacity * chunk), int)
        nothing = program(np.zeros(len(devices), np.int32), jax.tree.map(lambda a: a[index], items), shared)
        return jax.tree.map(lambda a: np.zeros((count, *a.shape[2:]), a.dtype), nothing)

    def launch(start: int, quota: int) -> tuple[list[int], PyTree]:
        """Give every device up to ``quota`` chunks from ``start`` on, and do not wait for the results."""
        quota = -(-min(quota * len(devices), stop - start) // len(devices))
        counts = [int(np.clip(stop - start - i * quota, 0, quota)) for i in range(len(devices))]
        firsts = start + quota * np.arange(len(devices))
        index = np.minimum(firsts[:, None] * chunk + np.arange(capacity * chunk), count - 1)
        return counts, program(np.asarray(counts, np.int32), jax.tree.map(lambda a: a[index], items), shared)

    results, done = None, 0
    with _bar(execution.progress, count if jax.process_count() == 1 else (stop - first) * chunk) as advance:
        for counts, outputs in _pipelined(launch, first, stop, capacity, len(devices)):
            outputs = jax.tree.map(np.asarray, outputs)
            if results is None:
                results = jax.tree.map(lambda a: np.empty(((stop - first) * chunk, *a.shape[2:]), a.dtype), outputs)
            for device, taken in enumerate(counts):
                jax.tree.map(functools.partial(_put, done, device, taken * chunk), results, outputs)
                done += taken * chunk
            advance(sum(counts) * chunk)
    return jax.tree.map(lambda a: a[:count], _gather(results, total, chunk))


def bind(fn: Callable[..., PyTree], *static: Hashable) -> Callable[..., PyTree]:
    """Return ``fn`` with its first arguments bound; results of equal arguments are equal.

    Programs are compiled once for each function, by ``==``. Two lambdas, or two values of ``functools.partial``, are
    never equal, so that programs with them would be compiled again for every measure.

    Example:
        >>> bind(max, 3) == bind(max, 3), bind(max, 3)(5)
        (True, 5)
    """
    return _Bound(fn, static)


@dataclass(frozen=True)
class _Bound:
    fn: Callable[..., PyTree]
    static: tuple[Hashable, ...]

    def __call__(self, *args: PyTree) -> PyTree:
        return self.fn(*self.static, *args)


def in_float64(execution: Execution) -> Execution:
    """Return where a program in float64 runs: on the host where the devices are TPUs, which emulate it.

    Example:
        >>> in_float64(DEFAULT) == DEFAULT
        True
    """
    return execution.replace(devices=jax.local_devices(backend="cpu")) if execution.platform == "tpu" else execution


@contextlib.contextmanager
def compiling_only() -> Iterator[None]:
    """Let ``map_items`` compile its program, compute nothing, and return zeros, within this block and thread.

    The number of chunks is an argument of a program, which can therefore be called for none. A caller of ``map_items``
    can thus be compiled in a thread while devices compute something else. Where later programs depend on results, those
    for results of zeros are compiled.

    Example:
        >>> with compiling_only():
        ...     map_items(lambda x: x + 1, np.ones(2, np.float32))
        array([0., 0.], dtype=float32)
    """
    token = _compiling_only.set(True)
    try:
        yield
    finally:
        _compiling_only.reset(token)


@dataclass(frozen=True)
class Launch:
    """A program of ``map_items``, with the shapes of its arguments, as ``recording`` notes it.

    Attributes:
        program: The ``jax.jit`` function of the backend ``"shard_map"``, whatever the backend of the call is.
        counts: The number of chunks for each device ``[d]``, int32.
        items: The items of a launch ``[d n ...]``.
        shared: What is the same for every item.
        chunk: Number of items evaluated at once on a device.
        chunks: Number of chunks that a launch has room for on a device, ``n / chunk``.

    Example:
        >>> launches = []
        >>> with recording(launches):
        ...     zeros = map_items(lambda x: 2 * x, np.ones(5, np.float32), execution=Execution(chunk=2))
        >>> launches[0].chunk, zeros
        (2, array([0., 0., 0., 0., 0.], dtype=float32))
    """

    program: Callable[..., PyTree]
    counts: jax.ShapeDtypeStruct
    items: PyTree
    shared: tuple[PyTree, ...]
    chunk: int
    chunks: int

    def lower(self, **options: Any) -> jax.stages.Lowered:
        """Return the program, lowered for its devices, or with the options of ``jax.stages.Traced.lower``."""
        leaves, tree = jax.tree.flatten((self.counts, self.items, self.shared))
        # Of leaves, since JAX puts descriptions of arguments into their pytrees, and some check what they hold.
        return jax.jit(lambda *leaves: self.program(*tree.unflatten(leaves))).trace(*leaves).lower(**options)


@contextlib.contextmanager
def recording(launches: list[Launch]) -> Iterator[None]:
    """Let ``map_items`` append its program to a list, compute nothing, and return zeros, within this block and thread.

    Nothing is sent to a device, so that the devices may be descriptions of others
    (``jax.experimental.topologies.get_topology_desc``): a program can be compiled for a device that is not here.

    Example:
        >>> launches = []
        >>> with recording(launches):
        ...     zeros = map_items(lambda x: 2 * x, np.ones(5, np.float32))
        >>> "while" in launches[0].lower().as_text()    # the loop over chunks
        True
    """
    token = _recorded.set(launches)
    try:
        yield
    finally:
        _recorded.reset(token)


def sum_over_parts(fn: Callable[..., PyTree], parts: PyTree, *shared: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Return the sum over parts of ``fn(part, *shared)``, added up in index order on the devices; for use under jit.

    The number of parts does not depend on the number of devices: every device evaluates whole parts, and all partial
    results are then added in the same order. Sums are equal to the bit on two or more devices; on a single one XLA
    compiles gradients differently, which may change the last bit.

    Args:
        fn: A pure function of one part.
        parts: Pytree of arrays ``[p ...]``.
        *shared: Pytrees that are the same for every part.
        devices: The devices to use, at most as many as there are parts.

    Raises:
        ValueError: If there are no parts.

    Example:
        >>> total = jax.jit(lambda x: sum_over_parts(lambda part: part**2, x, devices=local_devices()))
        >>> float(total(jnp.arange(4.0)))
        14.0
    """
    count = _leading(parts)
    devices = tuple(devices)[:count]
    each = -(-count // len(devices))

    def local(parts: PyTree, *shared: PyTree) -> PyTree:
        mine = jnp.clip(count - jax.lax.axis_index(_AXIS) * each, 0, each)
        one = _blocks(lambda part: jax.tree.map(lambda a: a[None], fn(jax.tree.map(lambda a: a[0], part), *shared)), 1)
        everyone = jax.lax.all_gather(one(mine, parts), _AXIS, tiled=True)
        return jax.tree.map(lambda a: functools.reduce(jnp.add, [a[i] for i in range(count)]), everyone)

    padding = each * len(devices) - count
    parts = jax.tree.map(lambda a: jnp.concatenate([a, a[-1:].repeat(padding, 0)]) if padding else a, parts)
    specs = (PartitionSpec(_AXIS), *[PartitionSpec() for _ in shared])
    # The outputs are equal on all devices by construction; checking it is not possible through a loop.
    return jax.shard_map(
        local, mesh=_mesh(devices), in_specs=specs, out_specs=PartitionSpec(), check_vma=False, axis_names={_AXIS}
    )(parts, *shared)


def lanes(execution: Execution) -> int:
    """Return how many programs run at the same time: one on each device, or one in each thread with ``"jit"``.

    Example:
        >>> lanes(DEFAULT) == jax.local_device_count()
        True
    """
    return len(_lanes(execution))


def spread(tree: PyTree, execution: Execution) -> PyTree:
    """Return arrays ``[l s ...]`` as a state of ``update_spread``: ``s`` slots in each of ``l`` lanes.

    Example:
        >>> state = np.zeros((lanes(DEFAULT), 3), np.float32)
        >>> collect(spread(state, DEFAULT)).shape == state.shape
        True
    """
    devices = _lanes(execution)
    if execution.backend != "jit":
        return jax.device_put(tree, NamedSharding(_mesh(devices), PartitionSpec(_AXIS)))
    place = SingleDeviceSharding(devices[0])
    return [jax.device_put(jax.tree.map(lambda a, n=lane: a[n], tree), place) for lane in range(len(devices))]


def collect(state: PyTree) -> PyTree:
    """Return a state that ``spread`` made, or a part of its pytree, as arrays ``[l s ...]`` on the host.

    Example:
        >>> collect(spread({"w": np.ones((lanes(DEFAULT), 2), np.float32)}, DEFAULT))["w"].shape[1:]
        (2,)
    """
    if not isinstance(state, list):
        return jax.tree.map(np.array, state)
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *state)


def update_spread(
    fn: Callable[..., tuple[PyTree, PyTree]], state: PyTree, counts: Array, slots: Array, inputs: PyTree,
    *shared: PyTree, execution: Execution,
) -> tuple[PyTree, PyTree]:  # fmt: skip
    """Apply ``fn(state, input, active, *shared) -> (state, result)`` to slots of every lane, whose state stays there.

    Slots are taken a chunk at a time, as ``map_items`` takes items, and the program is equally one for any
    number of lanes and chunks.

    Args:
        fn: A pure function of one slot; equal ones share compiled code.
        state: As ``spread`` or the last call returned it; it is consumed.
        counts: Chunks of each lane ``[l]``.
        slots: The slot of each input ``[l s]``; the number of slots, ``s``, for an input that is not active.
        inputs: Arrays ``[l s ...]``.
        *shared: As in ``map_items``.
        execution: How to run; its ``chunk`` counts slots, and divides their number.

    Returns:
        The state, and the results ``[l s ...]`` on the host; those of inputs that are not active mean nothing.

    Example:
        >>> how, one = DEFAULT.replace(chunk=1, devices=local_devices()[:1]), np.ones((1, 1), np.int32)
        >>> state = spread(np.array([[5]], np.int32), how)
        >>> state, result = update_spread(lambda s, x, active: (s + x, s), state, one[0], 0 * one, one, execution=how)
        >>> collect(state).tolist(), result.tolist()
        ([[6]], [[5]])
    """
    inputs, shared = checks.host_arrays(inputs, "inputs"), checks.device_arrays(shared, "shared arguments")
    require_precision(execution)
    program, everywhere = _update_program(
        fn, execution.chunk, execution.backend, _lanes(execution), execution.precision
    )
    if _compiling_only.get():
        counts = np.zeros_like(counts)
    work = np.asarray(counts, np.int32), np.asarray(slots, np.int32), inputs
    state, results = program(state, work, _placed(everywhere, shared))
    return state, jax.tree.map(np.asarray, results)


def replicate(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Return a pytree of which every leaf is on every device.

    Example:
        >>> len(replicate(jnp.ones(2), local_devices()).devices()) == jax.local_device_count()
        True
    """
    if _recorded.get() is not None:
        return tree
    return jax.device_put(tree, NamedSharding(_mesh(tuple(devices)), PartitionSpec()))


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


def _put(start: int, device: int, count: int, results: np.ndarray, outputs: np.ndarray) -> None:
    """Copy what a device computed to its place."""
    results[start : start + count] = outputs[device, :count]


def _leading(items: PyTree) -> int:
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(items)}
    if len(counts) != 1 or () in counts:
        raise ValueError(f"items must be arrays that share one leading axis, got leading axes {sorted(counts)}")
    ((count,),) = counts
    if count == 0:
        raise ValueError("items must not be empty")
    return count


def _share(total: int, process: int) -> tuple[int, int]:
    """Return the chunks ``[first, stop)`` of a process: the numbers of chunks of two processes differ by 1 at most."""
    each, more = divmod(total, jax.process_count())
    first = process * each + min(process, more)
    # A process beyond the last chunk repeats it; the gathered result leaves its results out.
    return (first, first + each + (process < more)) if each or process < more else (total - 1, total)


def _capacity(fn: Callable[..., PyTree], items: PyTree, shared: tuple[PyTree, ...], chunk: int, total: int) -> int:
    """Return how many chunks a launch has room for on a device; this decides the program, and not its results."""
    size = chunk * sum(leaf[0].nbytes for leaf in jax.tree.leaves(items))
    most = min(_LAUNCH_CHUNKS, max(1, _LAUNCH_BYTES // max(size, 1)))
    # Rounded up, so that a similar number of items uses the same program.
    enough = min(most, 1 << (total - 1).bit_length())
    if enough == most or most * size > _SMALL_BYTES:
        return enough
    leaves, tree = jax.tree.flatten((jax.tree.map(lambda a: a[0], items), *shared))
    results = _result_bytes(fn, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    # Room that costs next to nothing is always there, so that every number of items uses the same program.
    return most if most * chunk * results <= _SMALL_BYTES else enough


def _zeros(fn: Callable[..., PyTree], items: PyTree, shared: tuple[PyTree, ...], count: int) -> PyTree:
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), items)
    return jax.tree.map(lambda s: np.zeros((count, *s.shape), s.dtype), jax.eval_shape(fn, one, *shared))


@functools.lru_cache(maxsize=256)
def _result_bytes(fn: Callable[..., PyTree], tree: jax.tree_util.PyTreeDef, shapes: tuple[tuple, ...]) -> int:
    arguments = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(fn, *arguments)))


@functools.lru_cache(maxsize=64)
def _mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    return Mesh(np.asarray(devices), (_AXIS,))


def _blocks(fn: Callable[[PyTree], PyTree], size: int) -> Callable[[Array, PyTree], PyTree]:
    """Make ``run(n, items)``: ``fn`` of the first ``n`` blocks of ``size`` items; the rest of the result is zero."""

    def run(count: Array, items: PyTree) -> PyTree:
        def block(i: Array) -> PyTree:
            return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, i * size, size), items)

        def step(i: Array, results: PyTree) -> PyTree:
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * size, axis=0)
            return jax.tree.map(lambda whole, part: put(whole, part), results, fn(block(i)))

        length = jax.tree.leaves(items)[0].shape[0]
        shapes = jax.eval_shape(fn, jax.eval_shape(block, 0))
        empty = jax.tree.map(lambda s: jnp.zeros((length, *s.shape[1:]), s.dtype), shapes)
        return jax.lax.fori_loop(0, count, step, empty)

    return run


@functools.lru_cache(maxsize=256)
def _program(
    fn: Callable[..., PyTree], chunk: int, backend: str, devices: tuple[jax.Device, ...], precision: str
) -> tuple[Callable[..., PyTree], Sharding]:
    """Compile the loop over the chunks of a device, once for each function, shape and set of devices."""

    def local(count: Array, items: PyTree, shared: tuple[PyTree, ...]) -> PyTree:
        with jax.default_matmul_precision(precision):
            return _blocks(jax.vmap(lambda item: fn(item, *shared)), chunk)(count, items)

    if backend == "jit":
        return _in_threads(jax.jit(local), devices)
    mesh = _mesh(devices)

    def on_device(count: Array, items: PyTree, shared: tuple[PyTree, ...]) -> PyTree:
        results = local(count[0], jax.tree.map(lambda a: a[0], items), shared)
        return jax.tree.map(lambda a: a[None], results)

    split, whole = PartitionSpec(_AXIS), PartitionSpec()
    if backend == "pmap":
        # One argument: with several, pmap lays in_axes over the leaves when there are as many leaves as arguments.
        whole_call = jax.pmap(lambda call: local(*call), axis_name=_AXIS, devices=devices, in_axes=((0, 0, None),))

        def program(*call: PyTree) -> PyTree:
            return whole_call(call)

    else:
        # check_vma stays off: a scan whose first carry is a constant (an LSTM's) would be refused, and every output
        # belongs to one device anyway.
        program = jax.jit(
            jax.shard_map(on_device, mesh=mesh, in_specs=(split, split, whole), out_specs=split, check_vma=False)
        )
    return program, NamedSharding(mesh, whole)


@functools.lru_cache(maxsize=256)
def _update_program(
    fn: Callable[..., tuple[PyTree, PyTree]], chunk: int, backend: str, devices: tuple[jax.Device, ...], precision: str
) -> tuple[Callable[..., tuple[PyTree, PyTree]], Sharding]:
    """Compile the loop over the chunks of a lane's slots."""

    def local(state: PyTree, work: PyTree, shared: tuple[PyTree, ...]) -> tuple[PyTree, PyTree]:
        count, slots, inputs = work
        one = jax.vmap(lambda state, *own: fn(state, *own, *shared))

        def block(i: Array, state: PyTree) -> tuple[Array, PyTree, PyTree]:
            part = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=i * chunk, slice_size=chunk)
            at = part(slots)
            mine = jax.tree.map(lambda a: a.at[at].get(mode="clip"), state)
            with jax.default_matmul_precision(precision):
                return at, *one(mine, jax.tree.map(part, inputs), at < len(slots))

        def step(i: Array, carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
            state, results = carry
            at, new, found = block(i, state)
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * chunk, axis=0)
            # The slots of inputs that are not active lie outside.
            state = jax.tree.map(lambda whole, part: whole.at[at].set(part, mode="drop"), state, new)
            return state, jax.tree.map(lambda whole, part: put(whole, part), results, found)

        shapes = jax.eval_shape(block, 0, state)[2]
        empty = jax.tree.map(lambda s: jnp.zeros((len(slots), *s.shape[1:]), s.dtype), shapes)
        return jax.lax.fori_loop(0, count, step, (state, empty))

    if backend == "jit":
        return _update_in_threads(jax.jit(local, donate_argnums=0), devices)
    program = jax.pmap(local, axis_name=_AXIS, devices=devices, in_axes=(0, 0, None), donate_argnums=0)
    return program, NamedSharding(_mesh(devices), PartitionSpec())


def _update_in_threads(
    one: Callable[..., tuple[PyTree, PyTree]], lanes: tuple[jax.Device, ...]
) -> tuple[Callable[..., tuple[PyTree, PyTree]], Sharding]:
    """Make the program that calls ``one`` for every lane, as ``_in_threads`` does."""
    place = SingleDeviceSharding(lanes[0])

    def program(state: list[PyTree], work: PyTree, shared: tuple[PyTree, ...]) -> tuple[list[PyTree], PyTree]:
        def call(lane: int, own: PyTree) -> tuple[PyTree, PyTree]:
            new, results = one(state[lane], own, shared)
            return new, jax.tree.map(np.asarray, results)

        outputs = _threads(call, work, place, len(lanes))
        return [new for new, _ in outputs], jax.tree.map(lambda *leaves: np.stack(leaves), *(r for _, r in outputs))

    return program, place


def _lanes(execution: Execution) -> tuple[jax.Device, ...]:
    """Return the devices that share the chunks; one appears several times where its threads share them."""
    devices = local_devices(execution.devices)
    if execution.backend != "jit":
        return devices
    return devices[:1] * (threads.cores() if devices[0].platform == "cpu" else 1)


def _in_threads(one: Callable[..., PyTree], lanes: tuple[jax.Device, ...]) -> tuple[Callable[..., PyTree], Sharding]:
    """Make the program that calls ``one`` for every lane, each in a thread; all lanes are the same device.

    The CPU backend runs a call in the thread that makes it, so that calls from one thread would follow each other.
    """
    place = SingleDeviceSharding(lanes[0])

    def program(counts: Array, items: PyTree, shared: tuple[PyTree, ...]) -> PyTree:
        def call(_: int, own: PyTree) -> PyTree:
            return jax.tree.map(np.asarray, one(*own, shared))

        outputs = _threads(call, (counts, items), place, len(lanes))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *outputs)

    return program, place


def _threads(call: Callable[[int, PyTree], PyTree], work: PyTree, place: Sharding, lanes: int) -> list[PyTree]:
    """Return ``call(lane, work of the lane)`` for every lane, each in a thread."""
    wide = jax.config.jax_enable_x64  # a thread does not inherit it

    def in_thread(lane: int) -> PyTree:
        with jax.enable_x64(wide):
            return call(lane, jax.device_put(jax.tree.map(lambda a: a[lane], work), place))

    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        return list(pool.map(in_thread, range(lanes)))


def _pipelined(
    launch: Callable[[int, int], tuple[list[int], PyTree]], first: int, stop: int, capacity: int, devices: int
) -> Iterator[tuple[list[int], PyTree]]:
    """Launch chunks ``[first, stop)``, one launch ahead of the results that are read."""
    quota, start, waiting = 1, first, None
    clock = time.perf_counter()
    while start < stop or waiting is not None:
        ahead = None
        if start < stop:
            ahead = launch(start, quota)
            start = min(start + quota * devices, stop)
        if waiting is not None:
            jax.block_until_ready(waiting[1])
            now = time.perf_counter()
            if now - clock < _LAUNCH_SECONDS:
                quota = min(2 * quota, capacity)
            clock = now
            yield waiting
        waiting = ahead


@contextlib.contextmanager
def _bar(label: str | None, total: int) -> Iterator[Callable[[int], None]]:
    hidden = label is None or jax.process_index() > 0
    with tqdm(desc=label, total=total, delay=2, leave=False, disable=hidden, dynamic_ncols=True) as bar:
        yield lambda count: bar.update(min(count, total - bar.n)) and None


def _gather(results: PyTree, total: int, chunk: int) -> PyTree:
    """Gather the results of all processes; as bytes, since JAX would narrow float64.

    They are gathered piece by piece, as devices and the buffers of communication would otherwise hold all of them.
    """
    processes = jax.process_count()
    if processes == 1:
        return results
    shares = [_share(total, process) if process < total else (0, 0) for process in range(processes)]
    lengths = [(stop - first) * chunk for first, stop in shares]

    def gather(part: np.ndarray) -> np.ndarray:
        whole = np.empty((total * chunk, *part.shape[1:]), part.dtype)
        rows = min(lengths[0], max(1, _GATHERED_BYTES // max(part[0].nbytes, 1)))
        piece = np.zeros((rows, *part.shape[1:]), part.dtype)
        for start in range(0, lengths[0], rows):
            mine = part[start : start + rows]
            piece[: len(mine)] = mine
            pieces = np.asarray(multihost_utils.process_allgather(piece.view(np.uint8).reshape(rows, -1)))
            pieces = pieces.reshape(processes * rows, -1).view(part.dtype).reshape(processes, *piece.shape)
            for (first, _), length, theirs in zip(shares, lengths, pieces, strict=True):
                count = min(rows, length - start)
                if count > 0:
                    whole[first * chunk + start : first * chunk + start + count] = theirs[:count]
        return whole

    return jax.tree.map(gather, results)


def _placed(place: Sharding, tree: PyTree) -> PyTree:
    """Return arrays where a program reads them; large arrays of JAX are copied once, since they cannot change.

    The copies of the last call are kept, and no others: those of many models would fill the devices.
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


_copies: dict[int, tuple[weakref.ref, Sharding, jax.Array]] = {}
"""Arrays that are kept on devices, by the number of the array of which they are copies."""
