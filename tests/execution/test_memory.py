from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution import memory


def network(params, x):
    return jax.lax.map(lambda row: jnp.tanh(row @ params).sum(), x)


def test_the_largest_result_decides_wherever_it_hides(monkeypatch):
    params, x = np.zeros((10, 1000), np.float32), np.zeros((7, 10), np.float32)
    monkeypatch.setattr(memory, "BYTES", 20 * 4000)  # a row's hidden layer takes 4,000 bytes
    assert memory.chunk_of(network, params, x) == 20
    assert memory.chunk_of(jax.jit(jax.vmap(network, (None, 0))), params, x[None]) == 20
    assert memory.chunk_of(jax.vmap(network, (None, 0)), params, jnp.stack([x, x])) == 10


def test_shapes_are_enough_and_one_is_the_least(monkeypatch):
    monkeypatch.setattr(memory, "BYTES", 1)
    shapes = [jax.ShapeDtypeStruct(s, np.float32) for s in ((10, 1000), (7, 10))]
    assert memory.chunk_of(network, *shapes) == 1


def test_keys_are_no_obstacle():
    assert memory.chunk_of(lambda key: jax.random.normal(jax.random.fold_in(key, 1), (100,)), jax.random.key(0)) >= 1


def test_a_gpu_has_room_for_more_at_once_and_for_many_weights():
    params, x = np.zeros((10, 1000), np.float32), np.zeros((7, 10), np.float32)
    cpu, gpu, tpu = (SimpleNamespace(platform=platform) for platform in ("cpu", "gpu", "tpu"))
    chunks = [memory.chunk_of(network, params, x, execution=execution) for execution in (cpu, gpu, tpu)]
    assert chunks == [memory.BYTES // 4000, 8 * memory.BYTES // 4000, memory.BYTES // 4000]
    assert memory.chunk_of(network, params, x, execution=gpu, derivative=True) == chunks[0], "all results are kept"
    large = jax.ShapeDtypeStruct((memory.BYTES // 2,), np.float32)  # 128 MiB of weights: more than a chunk on a CPU
    rooms = [memory.room_for_copies(large, execution) for execution in (cpu, gpu, tpu)]
    assert rooms == [0, 64, 16]
