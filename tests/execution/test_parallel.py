"""Laws of `map_items` and its relatives; long since all of them test the one file that uses devices."""

import contextlib
import functools
import os
import subprocess
import sys
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.execution import Execution, backends, dry_run, gathering, parallel
from jaxsens.execution.execution import BACKENDS

COUNT = 23  # no number of devices divides it


def noisy_network(item, weights, key):
    """A function whose rounding depends on batching: products, a softmax, noise from its own key."""
    index, x = item
    x = x + jax.random.normal(jax.random.fold_in(key, index), x.shape)
    scores = jax.nn.softmax(x @ weights @ x.T / 16)
    return {"out": jnp.tanh(scores @ x), "total": x.sum(), "event": x[0, 0] > 0}


def counting_traces():
    """Return the network, and the list of the threads by which it was traced so far."""
    traced = []

    def counted(item, *shared):
        traced.append(threading.current_thread().name)
        return noisy_network(item, *shared)

    return counted, traced


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    items = (np.arange(COUNT, dtype=np.uint32), rng.normal(size=(COUNT, 5, 16)).astype(np.float32))
    return items, rng.normal(size=(16, 16)).astype(np.float32), jax.random.key(3)


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_equal_bits_on_any_devices_and_backend(problem, devices, chunk):
    """All of them with one chunk size; with steps of one item, and with a single step, the two that differ most."""
    items, *shared = problem
    reference = parallel.map_items(
        noisy_network,
        items,
        *shared,
        execution=Execution(chunk=chunk, devices=devices[:1]),
    )
    every = [(backend, number) for backend in BACKENDS for number in (1, 2, 3, 8)]
    for backend, number in every if chunk == 5 else [("pmap", 8), ("shard_map", 3), ("jit", 1)]:
        result = parallel.map_items(
            noisy_network,
            items,
            *shared,
            execution=Execution(chunk=chunk, backend=backend, devices=devices[:number]),
        )
        chex.assert_trees_all_equal(result, reference)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("leaves", [1, 3])
@pytest.mark.parametrize("shared", [0, 1, 2])
def test_any_number_of_leaves_and_arguments(devices, backend, leaves, shared):
    items = tuple(np.arange(5 * (i + 1), dtype=np.float32).reshape(5, i + 1) for i in range(leaves))
    others = tuple(np.float32(100 * (i + 1)) for i in range(shared))

    def total(item, *others):
        return sum(part.sum() for part in item) + sum(others)

    expected = [total([part[i] for part in items], *others) for i in range(5)]
    for number in (1, 8):
        result = parallel.map_items(
            total,
            items,
            *others,
            execution=Execution(chunk=1, backend=backend, devices=devices[:number]),
        )
        np.testing.assert_array_equal(result, expected)


def test_outputs_of_any_dtype_and_items_of_any_layout():
    items = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(6, 2))
    result = parallel.map_items(
        lambda x: (x.astype(jnp.bfloat16), x > 3, x.astype(jnp.int8), jnp.zeros((0, 2))),
        jnp.asarray(items),
        execution=Execution(chunk=4),
    )
    assert [str(leaf.dtype) for leaf in result] == ["bfloat16", "bool", "int8", "float32"]
    np.testing.assert_array_equal(result[2], items)
    assert result[3].shape == (6, 0, 2)


def test_equals_the_plain_loop(problem):
    items, *shared = problem
    result = parallel.map_items(noisy_network, items, *shared, execution=Execution(chunk=4))
    for i in range(COUNT):
        expected = noisy_network(jax.tree.map(lambda a, i=i: a[i], items), *shared)
        chex.assert_trees_all_close(jax.tree.map(lambda a, i=i: a[i], result), expected, atol=2e-6)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(result))
    assert result["event"].dtype == bool


def test_a_program_is_compiled_without_computing_anything(problem, devices):
    items, *shared = problem
    counted, traced = counting_traces()
    run = functools.partial(
        parallel.map_items,
        counted,
        items,
        *shared,
        execution=Execution(chunk=4, devices=devices[:2]),
    )
    found = []

    def ahead():
        with dry_run.compiling_only():
            found.append(run())

    thread = threading.Thread(target=ahead, name="ahead")
    thread.start()
    thread.join()
    assert set(traced) == {"ahead"}
    many = len(traced)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(found))
    result = run()
    assert len(traced) == many, "what was compiled ahead serves"
    chex.assert_trees_all_equal_shapes_and_dtypes(result, found[0])
    chex.assert_trees_all_equal(
        result,
        parallel.map_items(
            noisy_network,
            items,
            *shared,
            execution=Execution(chunk=4, devices=devices[:2]),
        ),
    )


def test_any_number_of_small_items_shares_a_program(problem):
    items, *shared = problem
    counted, traced = counting_traces()
    whole = parallel.map_items(counted, items, *shared, execution=Execution(chunk=1))
    many = len(traced)
    for count in (3, 9, 20):
        part = parallel.map_items(
            counted, jax.tree.map(lambda a, n=count: a[:n], items), *shared, execution=Execution(chunk=1)
        )
        chex.assert_trees_all_equal(part, jax.tree.map(lambda a, n=count: a[:n], whole))
    assert len(traced) == many


def test_room_is_not_kept_for_large_results(monkeypatch):
    """A launch for two items does not hold 64 copies of what an item gives."""
    rooms, original = [], parallel._capacity
    monkeypatch.setattr(parallel, "_capacity", lambda *args: rooms.append(original(*args)) or rooms[-1])
    for fn in (grown, jnp.negative):
        parallel.map_items(fn, np.ones(2, np.float32), execution=Execution(chunk=1))
    assert rooms == [2, parallel._LAUNCH_CHUNKS]


def grown(x):
    return x + jnp.zeros(2**15)


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_of_jax_stay_on_the_devices_until_they_are_deleted_or_others_come(devices, backend):
    array = jnp.ones((300, 100))
    execution = Execution(chunk=1, backend=backend, devices=devices[:2])
    run = functools.partial(parallel.map_items, jnp.dot, np.ones((3, 300), np.float32), execution=execution)
    run(array)
    kept = backends._copies.get(id(array))
    run(array)
    assert backends._copies.get(id(array)) is kept
    assert (kept is None) == (backend == "jit"), "it is on the only device of jit"
    run(jnp.ones((300, 200)))
    assert id(array) not in backends._copies, "many models would fill the devices"
    run(array)
    number = id(array)
    del array
    assert number not in backends._copies


@pytest.mark.parametrize(("total", "processes"), [(65, 16), (7, 3), (2, 4), (8, 8), (1, 1)])
def test_shares_of_processes_are_balanced_and_gathered_in_order(monkeypatch, total, processes):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    monkeypatch.setattr(gathering, "_GATHERED_BYTES", 40)  # in pieces of a few rows, the last one not full
    shares = [gathering.share(total, process) for process in range(processes)]
    counts = [stop - first for first, stop in shares]
    assert max(counts) - min(counts) <= 1
    real = [share for process, share in enumerate(shares) if process < total]
    assert [chunk for first, stop in real for chunk in range(first, stop)] == list(range(total))
    chunk, meet = 3, threading.Barrier(processes)
    rows = np.arange(total * chunk * 2, dtype=np.float64).reshape(-1, 2)
    sent, found = [None] * processes, [None] * processes
    place = threading.local()

    def allgather(piece):
        sent[place.number] = piece.copy()
        meet.wait()
        whole = np.stack(sent)
        meet.wait()
        return whole

    monkeypatch.setattr(gathering.multihost_utils, "process_allgather", allgather)

    def process(number):
        place.number = number
        first, stop = shares[number]
        found[number] = gathering.gather(rows[first * chunk : stop * chunk], total, chunk)

    threads = [threading.Thread(target=process, args=(number,)) for number in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for whole in found:
        np.testing.assert_array_equal(whole, rows)


def test_results_of_a_long_call_stream_to_the_host(monkeypatch):
    """The devices hold those of two launches at most: the one that is read, and the next."""
    length, live = 1027, []

    @contextlib.contextmanager
    def bar(label, total):
        yield lambda done: live.append(sum(a.nbytes for a in jax.live_arrays() if of_launches(a)))

    def of_launches(array):  # the part on a device, which reading makes an array of its own, shares its memory
        return array.shape[-1:] == (length,) and len(array.devices()) == 2

    monkeypatch.setattr(parallel, "_LAUNCH_CHUNKS", 2)
    monkeypatch.setattr(parallel, "_bar", bar)
    items = np.arange(64, dtype=np.float32)
    execution = Execution(chunk=1, devices=jax.devices()[:2])
    found = parallel.map_items(lambda x: jnp.full(length, x), items, execution=execution)
    np.testing.assert_array_equal(found, np.broadcast_to(items[:, None], (64, length)))
    of_launch = 2 * 2 * length * 4  # devices, chunks of each, numbers of 4 bytes
    assert len(live) >= 16
    assert of_launch <= max(live) <= 2 * of_launch < found.nbytes / 4


def test_across_chunks_values_agree_up_to_rounding(problem):
    items, *shared = problem
    one, four = (parallel.map_items(noisy_network, items, *shared, execution=Execution(chunk=c)) for c in (1, 4))
    chex.assert_trees_all_close(one, four, atol=2e-6)


def test_launches_of_any_size_give_the_same_bits(problem, monkeypatch):
    items, *shared = problem
    reference = parallel.map_items(noisy_network, items, *shared, execution=Execution(chunk=2))
    for seconds, chunks in ((0.0, 64), (1e9, 64), (0.25, 1), (0.25, 3)):
        monkeypatch.setattr(parallel, "_LAUNCH_SECONDS", seconds)
        monkeypatch.setattr(parallel, "_LAUNCH_CHUNKS", chunks)
        chex.assert_trees_all_equal(
            parallel.map_items(noisy_network, items, *shared, execution=Execution(chunk=2)), reference
        )


def test_does_not_compile_again(problem):
    items, *shared = problem
    fn, traced = counting_traces()
    parallel.map_items(fn, items, *shared, execution=Execution(chunk=4))
    first = len(traced)
    parallel.map_items(fn, items, shared[0] + 1, shared[1], execution=Execution(chunk=4))
    parallel.map_items(fn, jax.tree.map(lambda a: a[:21], items), *shared, execution=Execution(chunk=4))
    assert first >= 1
    assert len(traced) == first


def test_float64_is_restored_exactly(float64):
    items = np.arange(5) / 3
    result = parallel.map_items(lambda x: x * jnp.pi, items, execution=Execution(chunk=2))
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, items * np.pi)


@pytest.mark.parametrize(
    ("items", "options", "match"),
    [
        (np.zeros((0, 2)), {"chunk": 1}, "must not be empty"),
        ((np.zeros(3), np.zeros(4)), {"chunk": 1}, "leading axis"),
        (np.array([2**40 + 5]), {}, "items must fit int32, the dtype on the device, got 1099511627781"),
        (np.ma.masked_array([1.0, 1e6], [0, 1]), {}, "items must not be a masked array"),
        (jax.random.split(jax.random.key(0), 3), {"chunk": 1}, "got random keys"),
    ],
)
def test_bad_arguments_are_named(items, options, match):
    with pytest.raises(ValueError, match=match):
        parallel.map_items(lambda item: item, items, execution=Execution(**options))


def test_shared_arguments_that_do_not_fit_are_refused_and_counts_of_numpy_accepted():
    items = np.arange(5, dtype=np.int32)
    with pytest.raises(ValueError, match="shared arguments must fit int32"):
        parallel.map_items(lambda i, y: y[i], items, np.arange(5) + 2**32)
    found = parallel.map_items(lambda i, y: y[i], items, np.arange(5) + 7, execution=Execution(chunk=np.int64(2)))
    np.testing.assert_array_equal(found, np.arange(5) + 7)


def test_progress_bar_counts_items(problem, monkeypatch):
    seen = []

    class Bar:
        n = 0

        def __init__(self, **options):
            seen.append(options)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            seen.append(self.n)

        def update(self, count):
            self.n += count

    monkeypatch.setattr(parallel, "tqdm", Bar)
    items, *shared = problem
    parallel.map_items(
        noisy_network,
        items,
        *shared,
        execution=Execution(chunk=4, progress="noise"),
    )
    assert seen[0]["desc"] == "noise"
    assert seen[0]["total"] == seen[1] == COUNT


def part_gradient(part, weights):
    x, y = part
    return jax.grad(lambda w: jnp.sum((jnp.tanh(x @ w) - y) ** 2))(weights)


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_sum_over_parts_does_not_depend_on_devices(devices, parts, monkeypatch):
    """Nor on whether it is computed in slices."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(parts, 6, 4)).astype(np.float32), rng.normal(size=(parts, 6, 2)).astype(np.float32)
    weights = rng.normal(size=(4, 2)).astype(np.float32)
    results = {}
    for number in (1, 2, 3, 8):
        used = devices[:number]
        total = jax.jit(lambda p, w, used=used: parallel.sum_over_parts(part_gradient, p, w, devices=used))
        results[number] = np.asarray(total((x, y), weights))
        monkeypatch.setattr(parallel, "_SLICED_SIZE", 1)
        sliced = jax.jit(lambda p, w, used=used: parallel.sum_over_parts(part_gradient, p, w, devices=used))
        np.testing.assert_array_equal(sliced((x, y), weights), results[number])
        monkeypatch.undo()
    expected = part_gradient((x.reshape(-1, 4), y.reshape(-1, 2)), weights)
    np.testing.assert_allclose(results[1], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(results[2], results[3])
    np.testing.assert_array_equal(results[2], results[8])
    np.testing.assert_allclose(results[2], results[1], rtol=1e-6, atol=1e-6)


def test_no_device_holds_the_parts_of_all_others(devices):
    """Each of eight devices computes one part; a gathered sum would hold eight."""
    shape = 2**15
    total = jax.jit(lambda parts: parallel.sum_over_parts(jnp.sin, parts, devices=devices))
    memory = total.lower(jax.ShapeDtypeStruct((8, shape), np.float32)).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 5 * 4 * shape


def test_every_core_is_a_device_unless_it_is_too_late_or_said_otherwise():
    """In a separate process, since this one has its devices already; a call here changes nothing."""
    before = jax.devices()
    backends.use_every_core()
    assert jax.devices() == before
    script = (
        "import os, jax; from jaxsens.execution import backends; backends.use_every_core();"
        "found = len(jax.devices('cpu'));"
        "assert found == (3 if os.environ['XLA_FLAGS'] else len(os.sched_getaffinity(0))), found;"
        "backends.use_every_core()"
    )
    for flags in ("", "--xla_force_host_platform_device_count=3"):
        environment = os.environ | {"XLA_FLAGS": flags}
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
