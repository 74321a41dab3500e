"""What a measure sends to a device, and the memory that it takes there: bounds without a device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsens
from jaxsens import boolean, models, perturb, sharpness, substitution
from jaxsens.execution import backends, dry_run, parallel
from jaxsens.models import recognizers

KEY = jax.random.key(0)
NOISE = perturb.gaussian(1.0)
PARAMS = {"a": np.ones((12, 256), np.float32), "b": np.ones((256, 2), np.float32)}
TOKENS = np.ones((2**13, 3, 4), np.float32)
LENGTH = TOKENS.shape[1] + 1
KIB = 2**10


def classify(params, x, mask=None):
    return jnp.tanh(x.reshape(len(x), -1) @ params["a"]) @ params["b"]


def losses(params, x):
    return classify(params, x).sum(-1)


def of_tokens(execution, count, params=PARAMS):
    measure = jaxsens.token_sensitivity(substitution.one_at_a_time(classify), NOISE, execution=execution)
    return measure(KEY, params, TOKENS[:count])


def of_weights(execution, draws):
    sharpness.average_sharpness(losses, NOISE, draws=draws, execution=execution)(KEY, PARAMS, TOKENS[:4])


def of_worst_case(execution, count):
    stacked = jax.tree.map(lambda a: np.stack([a] * count), PARAMS)
    sharpness.worst_case_sharpness(losses, 0.1, iterations=2, execution=execution).over_models(KEY, stacked, TOKENS[:4])


def launch_of(measure, chunk, count, devices=1):
    """Return the last program that a measure would launch."""
    how = jaxsens.Execution(chunk=chunk, check=False, devices=jax.devices()[:devices])
    launches = []
    with dry_run.recording(launches):
        measure(how, count)
    return launches[-1]


def bytes_of(tree):
    leaves = [leaf for leaf in jax.tree.leaves(tree) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def item_bytes(launch):
    return bytes_of(launch.items) / (launch.chunk * launch.chunks)


@pytest.mark.parametrize(
    ("measure", "chunk", "few", "many"),
    [(of_tokens, 64 * LENGTH, 64 * 8, 64 * 64), (of_weights, 16, 16 * 8, 16 * 64)],
    ids=["tokens", "weights"],
)
def test_memory_depends_on_the_chunk_and_not_on_the_number_of_items(measure, chunk, few, many):
    """The temporary results are those of one chunk; what is kept of an item is a hundredth of them."""
    temporary = {
        (times, count): launch_of(measure, times * chunk, count).lower().compile().memory_analysis().temp_size_in_bytes
        for times, count in ((1, few), (1, many), (4, many))
    }
    assert temporary[1, few] > 100 * KIB, "too little to tell"
    assert temporary[1, many] < 1.1 * temporary[1, few] + 64 * KIB
    assert 2 * temporary[1, many] < temporary[4, many] < 5 * temporary[1, many]


@pytest.mark.parametrize(
    ("measure", "most"),
    [(of_tokens, TOKENS[0].nbytes + 32), (of_weights, 16), (of_worst_case, 16)],
    ids=["tokens", "weights", "worst case"],
)
def test_an_item_brings_its_own_data_alone(measure, most):
    """Weights, noise and alternatives are not sent with every item."""
    assert item_bytes(launch_of(measure, 64, 128)) <= most


def test_a_string_is_sent_once_and_its_flips_are_made_on_the_device():
    config = recognizers.Config(depth=2, heads=2, head_size=4)
    variables = jax.eval_shape(lambda: recognizers.init(config, KEY))
    variables = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), variables)
    one = jaxsens.Execution(devices=jax.devices()[:1])
    measure = boolean.sensitivity_profile(models.substitution.recognizer(config), execution=one)
    launches = []
    with dry_run.recording(launches):
        measure(KEY, variables, np.zeros((40, 20), np.int32))
    (launch,) = launches
    assert item_bytes(launch) <= 4 * 20 + 8
    assert bytes_of(launch.shared) <= bytes_of(variables) + 64


def test_a_second_call_sends_no_variables(monkeypatch):
    params = {"a": jnp.ones((12, 2**13)), "b": jnp.ones((2**13, 2))}
    how, sent = jaxsens.Execution(check=False, devices=jax.devices()[1:3]), []
    put = jax.device_put

    def counting(tree, *place, **options):
        sent.append(bytes_of(jax.tree.map(jnp.asarray, tree)))
        return put(tree, *place, **options)

    monkeypatch.setattr(jax, "device_put", counting)
    of_tokens(how, 4, params)
    assert sum(sent) > bytes_of(params) - KIB
    sent.clear()
    of_tokens(how, 4, params)
    assert sum(sent) < KIB


@pytest.mark.parametrize("devices", [1, 2])
def test_a_recorded_program_is_the_one_that_runs(devices):
    launch = launch_of(of_tokens, 8 * LENGTH, 40, devices)
    assert (launch.chunk, launch.counts.shape) == (8, (devices,))
    program = launch.lower().compile()
    items = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), launch.items)
    assert jax.tree.leaves(program.out_info)[0].shape[:2] == jax.tree.leaves(items)[0].shape[:2]


def test_recording_computes_nothing_and_ends_with_its_block():
    how, launches = jaxsens.Execution(chunk=2), []
    items = np.arange(5, dtype=np.float32)
    with dry_run.recording(launches):
        assert not parallel.map_items(jnp.cos, items, execution=how).any()
        assert backends.replicate(items, jax.devices()) is items
    assert parallel.map_items(jnp.cos, items, execution=how)[0] == 1
    assert len(launches) == 1
