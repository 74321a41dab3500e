import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import changes, substitution
from jaxsens.models import recognizers
from jaxsens.models.recognizers import baselines
from jaxsens.models.recognizers.baselines import LSTMConfig, MLPConfig, matched, parameter_count
from jaxsens.sensitivity import token

CONFIGS = {
    "lstm": LSTMConfig(depth=2, width=3),
    "mlp": MLPConfig(length=5, depth=3, width=4),
    "shallow mlp": MLPConfig(length=5, depth=1, width=4),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)

STRINGS = np.random.default_rng(0).integers(0, 2, (4, 5)).astype(np.int32)


def variables_of(config):
    return recognizers.init(config, jax.random.key(2), "uniform")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_by_loops(config, params, string):
    inputs = [params["embedding"][symbol] for symbol in [*string, recognizers.EOS]]
    for index in range(config.depth):
        below, before, bias = (params["layers"][name][index] for name in ("from_below", "from_before", "bias"))
        h, c, outputs = np.zeros(config.width), np.zeros(config.width), []
        for x in inputs:
            enter, forget, new, leave = (x @ below[:, gate] + h @ before[:, gate] + bias[gate] for gate in range(4))
            c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(new)
            h = sigmoid(leave) * np.tanh(c)
            outputs.append(h)
        inputs = outputs
    return inputs[-1]


def mlp_by_loops(config, params, string):
    x = np.array([-1.0 if bit else 1.0 for bit in string])
    x = np.maximum(x @ params["first"]["weight"] + params["first"]["bias"], 0)
    for index in range(config.depth - 1):
        x = np.maximum(x @ params["layers"]["weight"][index] + params["layers"]["bias"][index], 0)
    return x


@every_config
def test_equals_loops_in_float64(config):
    variables = variables_of(config)
    params = jax.tree.map(np.float64, variables["params"])
    final = lstm_by_loops if isinstance(config, LSTMConfig) else mlp_by_loops
    expected = [
        final(config, params, string) @ params["readout"]["weight"] + params["readout"]["bias"] for string in STRINGS
    ]
    assert np.ptp(expected) > 1e-3
    found = baselines.evaluation(config)(variables, STRINGS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found, baselines.evaluation(config)(variables, jnp.asarray(STRINGS, jnp.uint8)))


def test_an_lstm_that_counts_measures_majority():
    """Gates open, a cell adds one for every 0 and takes one away for every 1: the sign of the sum is majority."""
    config = LSTMConfig(depth=1, width=2)
    params = jax.tree.map(np.zeros_like, variables_of(config)["params"])
    params["embedding"][:, 0] = 1, -1, 0
    params["layers"]["from_below"][0, 0, 2, 0] = 50  # the new content of cell 0 is +1, -1, and 0 at the end
    params["layers"]["bias"][0, [0, 1, 3], 0] = 50  # input, forget and output gate
    params["readout"]["weight"][:] = 1, 0
    sums = (1 - 2 * STRINGS).sum(1)
    logits = baselines.evaluation(config)({"params": params}, STRINGS)
    np.testing.assert_allclose(logits, np.tanh(sums), rtol=1e-6)


def test_a_perceptron_that_adds_measures_the_sensitivity_of_majority():
    """``relu(s) - relu(-s)`` of the sum s of 5 signs; a flip changes the majority where s is 1 or -1."""
    config = MLPConfig(length=5, depth=1, width=2)
    params = jax.tree.map(np.zeros_like, variables_of(config)["params"])
    params["first"]["weight"][:] = 1, -1
    params["readout"]["weight"][:] = 1, -1
    strings = ((np.arange(32)[:, None] >> np.arange(5)) & 1).astype(np.int32)
    sums = (1 - 2 * strings).sum(1)
    np.testing.assert_array_equal(baselines.evaluation(config)({"params": params}, strings), sums)
    substitute = substitution.one_at_a_time(baselines.evaluation(config))
    measure = token.token_sensitivity(substitute, lambda key, draw, x: 1 - x, change=changes.sign_change)
    result = measure(jax.random.key(0), {"params": params}, strings)
    assert abs(result.mean - 2 * 10 * 3 / 5 / 32) < 1e-12


@every_config
def test_every_parameter_counts(config):
    """On some of the strings: a hidden unit may be asleep on one of them."""
    variables = variables_of(config)
    total = lambda v: (baselines.evaluation(config)(v, STRINGS) ** 2).sum()  # noqa: E731
    for path, leaf in jax.tree.leaves_with_path(jax.jit(jax.grad(total))(variables)):
        for part in leaf if "layers" in str(path) else [leaf]:
            assert np.abs(part).max() > 1e-6, path


def test_xavier_draws_every_gate_as_a_matrix():
    drawn = recognizers.init(LSTMConfig(depth=1, width=50), jax.random.key(0), "xavier_uniform")["params"]["layers"]
    limit = np.sqrt(6 / 100)
    assert 0.99 * limit < np.abs(drawn["from_before"]).max() <= limit
    assert not np.asarray(drawn["bias"]).any()


@pytest.mark.parametrize("config", [*CONFIGS.values(), recognizers.Config(depth=2, heads=2, head_size=4)], ids=str)
def test_parameter_count_is_that_of_what_is_drawn(config):
    leaves = jax.tree.leaves(recognizers.init(config, jax.random.key(0))["params"])
    assert parameter_count(config) == sum(leaf.size for leaf in leaves)


@pytest.mark.parametrize(("kind", "type_"), [("lstm", LSTMConfig), ("mlp", MLPConfig)])
@pytest.mark.parametrize("parameters", [1, 100, 12_345, 3_000_000])
@pytest.mark.parametrize("depth", [1, 2])
def test_no_width_is_nearer(kind, type_, parameters, depth):
    found = matched(kind, parameters, 20, depth)
    assert type(found) is type_
    assert found.depth == depth
    sizes = {field: value for field, value in vars(found).items() if field != "width"}
    assert sizes.get("length", 20) == 20
    distance = lambda width: abs(parameter_count(type_(**sizes, width=width)) - parameters)  # noqa: E731
    assert distance(found.width) <= distance(found.width + 1)
    assert found.width == 1 or distance(found.width) < distance(found.width - 1)


def test_a_width_that_exists_is_returned():
    for config in (LSTMConfig(depth=2, width=37), MLPConfig(length=20, depth=2, width=37)):
        kind = "lstm" if isinstance(config, LSTMConfig) else "mlp"
        assert matched(kind, parameter_count(config), 20) == config


def test_equal_configurations_make_equal_functions():
    first, again = LSTMConfig(depth=2, width=3), LSTMConfig(depth=2, width=3)
    assert baselines.evaluation(first) == baselines.evaluation(again)
    assert hash(baselines.evaluation(first)) == hash(baselines.evaluation(again))
    assert baselines.evaluation(first) != baselines.evaluation(LSTMConfig(depth=1, width=3))
    one, other = MLPConfig(length=4, depth=2, width=3), MLPConfig(length=5, depth=2, width=3)
    assert baselines.evaluation(one) != baselines.evaluation(other)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="width is 0, but must be an integer of at least 1"):
        LSTMConfig(depth=1, width=0)
    with pytest.raises(ValueError, match=r"length is 2\.5, but must be an integer"):
        MLPConfig(length=2.5, depth=1, width=3)
    with pytest.raises(ValueError, match="kind is 'gru', but must be one of lstm, mlp"):
        matched("gru", 100, 20)
    with pytest.raises(ValueError, match="parameters is 0, but"):
        matched("lstm", 0, 20)
    with pytest.raises(ValueError, match=r"but must be LSTMConfig or MLPConfig; transformers have recognizers\.eval"):
        baselines.evaluation(recognizers.Config(depth=2, heads=2, head_size=4))


@every_config
def test_bad_calls_are_named(config):
    apply, variables = baselines.evaluation(config), variables_of(config)
    with pytest.raises(ValueError, match="mask must be None"):
        apply(variables, STRINGS, np.ones(STRINGS.shape, bool))
    with pytest.raises(ValueError, match=r"strings' shape is \(5,\), but must be \[b n\]"):
        apply(variables, STRINGS[0])
    with pytest.raises(ValueError, match="strings' dtype is 'float64', but must be int32"):
        apply(variables, STRINGS * 1.0)
    with pytest.raises(ValueError, match=r"keys is \['params', 'positions'\], but must be \['params'\]\."):
        apply({**variables, "positions": np.zeros((6, 3))}, STRINGS)
    with pytest.raises(ValueError, match=r"\['readout'\]\['bias'\] is 'absent', but must be"):
        apply({"params": {**variables["params"], "readout": {}}}, STRINGS)
    if isinstance(config, MLPConfig):
        with pytest.raises(ValueError, match="strings' length is 4, but must be 5, as in MLPConfig"):
            apply(variables, STRINGS[:, 1:])
