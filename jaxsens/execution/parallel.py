"""One function over many items on all devices, with the same results on any number of them.

Items are cut into aligned chunks: chunk j holds items ``[j c, (j + 1) c)``, the last one padded. A device evaluates
whole chunks in a loop whose trip count is an argument of the compiled program. The program, and therefore its results,
are the same for every number of devices and of chunks on a device. (A trip count known at compile time would not do:
XLA unrolls a loop of one step and then rounds differently.)

On a GPU, XLA chooses kernels by timing them, in every process anew, and adds the terms of a scatter in any order.
Results of several processes, and of a run that is resumed, are then equal up to rounding. Start Python with
``XLA_FLAGS="--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"`` for equal bits, or with the first flag and a
folder of chosen kernels that all processes share, ``--xla_gpu_per_fusion_autotune_cache_dir=DIR``.

Of several processes (``jax.distributed``) each evaluates whole chunks; the results are gathered once, at the end.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from tqdm.auto import tqdm

from jaxsens.execution import backends, batches, checks, dry_run, memory
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.gathering import gather, share
from jaxsens.execution.precision import require_precision
from jaxsens.typing import Array, PyTree

__all__ = ["bind", "gather_parts", "map_items", "map_parts", "sum_over_parts"]

# Chunks that one launch may take to a device, and bytes of items: bounds for the buffers, without effect on results.
_LAUNCH_CHUNKS = 64
_LAUNCH_BYTES = 2**24
# Buffers of items, and of results, that take next to no time to fill.
_SMALL_BYTES = 2**20
# Numbers of a sum over parts from which on it is computed in slices: fewer are sent in one step rather than in two.
_SLICED_SIZE = 2**14
# A launch grows until it takes this long: short enough for a progress bar, long enough for launching to cost nothing.
_LAUNCH_SECONDS = 0.25


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
    devices = backends.lane_devices(execution)
    chunk = execution.chunk
    if chunk is None:
        spec = batches.item_spec(items)
        chunk = memory.chunk_of(fn, spec, *shared, execution=execution)
    chunk = min(chunk, count)
    total = -(-count // chunk)
    first, stop = share(total, jax.process_index())
    launches = dry_run.recorded()
    backend = execution.backend if launches is None else "shard_map"
    program, everywhere = _program(fn, chunk, backend, devices, execution.precision)
    shared = backends.placed(everywhere, shared) if launches is None else jax.eval_shape(lambda *a: a, *shared)
    capacity = _capacity(fn, items, shared, chunk, total)
    if launches is not None:
        sizes = len(devices), capacity * chunk
        of_launch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((*sizes, *a.shape[1:]), a.dtype), items)
        counts = jax.ShapeDtypeStruct(sizes[:1], np.int32)
        of_launch = jax.eval_shape(lambda a: a, of_launch)
        launches.append(dry_run.Launch(program, counts, of_launch, shared, chunk, capacity))
        return _zeros(fn, items, shared, count)
    if dry_run.is_compiling_only():
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
    return jax.tree.map(lambda a: a[:count], gather(results, total, chunk))


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


def sum_over_parts(fn: Callable[..., PyTree], parts: PyTree, *shared: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Return the sum over parts of ``fn(part, *shared)``, added up in index order on the devices; for use under jit.

    The number of parts does not depend on the number of devices: every device evaluates whole parts, and all partial
    results are then added in the same order. Sums are equal to the bit on two or more devices; on a single one XLA
    compiles gradients differently, which may change the last bit. Besides its own parts a device holds as much again,
    and the sum.

    Args:
        fn: A pure function of one part.
        parts: Pytree of arrays ``[p ...]``.
        *shared: Pytrees that are the same for every part.
        devices: The devices to use, at most as many as there are parts.

    Raises:
        ValueError: If there are no parts.

    Example:
        >>> total = jax.jit(lambda x: sum_over_parts(lambda part: part**2, x, devices=backends.lane_devices(DEFAULT)))
        >>> float(total(jnp.arange(4.0)))
        14.0
    """
    count = _leading(parts)
    devices = tuple(devices)[:count]
    padding = -count % len(devices)

    def local(parts: PyTree, *shared: PyTree) -> PyTree:
        mine = map_parts(lambda part: fn(part, *shared), count, parts)
        return jax.tree.map(functools.partial(_added_up, count, len(devices)), mine)

    parts = jax.tree.map(lambda a: jnp.concatenate([a, a[-1:].repeat(padding, 0)]) if padding else a, parts)
    return backends.on_shards(local, devices, parts, *shared)


def map_parts(fn: Callable[[PyTree], PyTree], count: int, parts: PyTree) -> PyTree:
    """Return ``fn`` of each part that a device holds, ``[e ...]``; for use within ``backends.on_shards``.

    Args:
        fn: A pure function of one part.
        count: The number of parts on all devices together; those beyond it fill the last devices, and give 0.
        parts: Pytree of arrays ``[e ...]``, the parts of this device.

    Example:
        >>> devices = backends.lane_devices(DEFAULT)
        >>> square = lambda part: map_parts(lambda x: x**2, len(devices), part)
        >>> squares = jax.jit(lambda x: backends.on_shards(square, devices, x, keep=True))
        >>> int(squares(3 * jnp.ones(len(devices), int))[-1])
        9
    """
    each = _leading(parts)
    mine = jnp.clip(count - jax.lax.axis_index(backends.AXIS) * each, 0, each)
    # The barrier: of a device's only part, XLA would move all work out of the loop, and then round differently.
    one = _blocks(lambda part: jax.tree.map(lambda a: a[None], fn(jax.tree.map(lambda a: a[0], part))), 1, barrier=True)
    return one(mine, parts)


def gather_parts(parts: PyTree) -> PyTree:
    """Return the parts ``[e ...]`` of all devices, ``[p ...]``, on every device; for use within ``backends.on_shards``.

    Example:
        >>> devices = backends.lane_devices(DEFAULT)
        >>> everyone = jax.jit(lambda x: backends.on_shards(gather_parts, devices, x))
        >>> len(everyone(jnp.ones(len(devices)))) == len(devices)
        True
    """
    return jax.lax.all_gather(parts, backends.AXIS, tiled=True)


def _added_up(count: int, devices: int, parts: Array) -> Array:
    """Return the sum of ``count`` parts, added up in index order, of the parts ``[e *k]`` of every device.

    A large sum is computed in slices, one on each device, so that no device holds the parts of all others.
    """
    rows = parts.reshape(len(parts), -1)
    size = rows.shape[1]
    in_slices = devices > 1 and size >= _SLICED_SIZE
    if in_slices:
        padded = jnp.pad(rows, ((0, 0), (0, -size % devices)))
        rows = jax.lax.all_to_all(padded, backends.AXIS, split_axis=1, concat_axis=0, tiled=True)
    else:
        rows = gather_parts(rows)
    total = functools.reduce(jnp.add, [rows[i] for i in range(count)])
    return (gather_parts(total)[:size] if in_slices else total).reshape(parts.shape[1:])


def _blocks(fn: Callable[[PyTree], PyTree], size: int, *, barrier: bool = False) -> Callable[[Array, PyTree], PyTree]:
    """Make ``run(n, items)``: ``fn`` of the first ``n`` blocks of ``size`` items; the rest of the result is zero.

    With a barrier, XLA takes every block for another one, even if there is a single one.
    """

    def run(count: Array, items: PyTree) -> PyTree:
        def block(i: Array) -> PyTree:
            taken = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, i * size, size), items)
            return jax.lax.optimization_barrier((i, taken))[1] if barrier else taken

        def step(i: Array, results: PyTree) -> PyTree:
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * size, axis=0)
            return jax.tree.map(lambda whole, part: put(whole, part), results, fn(block(i)))

        length = jax.tree.leaves(items)[0].shape[0]
        shapes = jax.eval_shape(fn, jax.eval_shape(block, 0))
        empty = jax.tree.map(lambda s: jnp.zeros((length, *s.shape[1:]), s.dtype), shapes)
        return jax.lax.fori_loop(0, count, step, empty)

    return run


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
    spec = batches.item_spec(items)
    return jax.tree.map(lambda s: np.zeros((count, *s.shape), s.dtype), jax.eval_shape(fn, spec, *shared))


@functools.lru_cache(maxsize=256)
def _result_bytes(fn: Callable[..., PyTree], tree: jax.tree_util.PyTreeDef, shapes: tuple[tuple, ...]) -> int:
    arguments = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(fn, *arguments)))


@functools.lru_cache(maxsize=256)
def _program(
    fn: Callable[..., PyTree], chunk: int, backend: str, devices: tuple[jax.Device, ...], precision: str
) -> tuple[Callable[..., PyTree], Sharding]:
    """Compile the loop over the chunks of a device, once for each function, shape and set of devices."""

    def local(count: Array, items: PyTree, shared: tuple[PyTree, ...]) -> PyTree:
        with jax.default_matmul_precision(precision):
            return _blocks(jax.vmap(lambda item: fn(item, *shared)), chunk)(count, items)

    return backends.on_lanes(local, backend, devices)


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
