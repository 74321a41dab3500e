"""The recognizer against an implementation by loops, against PyTorch's encoder, and in its limits.

The file is long because its tests share models and compiled programs.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.models import recognizers
from jaxsens.models.recognizers import Config, baselines

PAPER = Config(block="paper", depth=2, heads=2, head_size=6, multiplier=1, epsilon=1e-3)
STANDARD = Config(depth=2, heads=2, head_size=3, multiplier=2)
FIRST = Config(depth=2, heads=2, head_size=3, multiplier=2, norm_first=True)
CONFIGS = {"paper": PAPER, "standard": STANDARD, "norm_first": FIRST}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)

STRINGS = np.random.default_rng(0).integers(0, 2, (3, 5)).astype(np.int32)


@functools.cache
def variables_of(config, seed=0):
    """Every parameter is drawn, gains and offsets too, so that none can be left out unseen."""
    return recognizers.init(config, jax.random.key(seed), "uniform", gains="scheme")


@functools.partial(jax.jit, static_argnums=0)
def evaluate(config, variables, strings):
    return recognizers.evaluation(config)(variables, strings)


@functools.partial(jax.jit, static_argnums=0)
def internals(config, variables, strings):
    return recognizers.internals(config)(variables, strings)


def close(found, expected, tolerance=2e-5):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))


# The same in NumPy and float64, by loops over heads and positions, from the equations of s.2.2 and 2.3.


def normalized(v, epsilon, gain=1.0, offset=0.0):
    z = 1 / math.sqrt(np.mean((v - v.mean()) ** 2) + epsilon)  # Eqs. 11, 12
    return gain * z * (v - v.mean()) + offset  # Eq. 13


def heads_by_loops(config, w, y):
    """Eqs. 8a to 8c: what every head gives at every position ``[t h k]``."""
    biased = lambda name, h: w.get(f"{name}_bias", np.zeros((config.heads, config.head_size)))[h]  # noqa: E731
    c = np.zeros((len(y), config.heads, config.head_size))
    for n in range(len(y)):
        for h in range(config.heads):
            query = y[n] @ w["query"][:, h] + biased("query", h)
            scores = [query @ (y[m] @ w["key"][:, h] + biased("key", h)) for m in range(len(y))]
            weights = np.exp(np.array(scores) / (math.sqrt(config.head_size) if config.standard else 1))
            for m in range(len(y)):
                c[n, h] += weights[m] / weights.sum() * (y[m] @ w["value"][:, h] + biased("value", h))
    return c


def layer_by_loops(config, w, y):
    mlp = lambda v: np.maximum(v @ w["expand"] + w["expand_bias"], 0) @ w["contract"] + w["contract_bias"]  # noqa: E731
    if not config.standard:
        c = heads_by_loops(config, w, y)
        return np.stack([normalized(y[n] + mlp(c[n].sum(0)), config.epsilon) for n in range(len(y))])  # Eq. 9
    norm = lambda name, v: normalized(v, config.epsilon, w[f"{name}_gain"], w[f"{name}_offset"])  # noqa: E731
    project = lambda c: np.concatenate(c) @ w["out"].reshape(-1, config.width) + w["out_bias"]  # noqa: E731
    if config.norm_first:
        c = heads_by_loops(config, w, np.stack([norm("attention", row) for row in y]))
        y = y + np.stack([project(c[n]) for n in range(len(y))])
        return np.stack([row + mlp(norm("mlp", row)) for row in y])
    c = heads_by_loops(config, w, y)
    y = np.stack([norm("attention", y[n] + project(c[n])) for n in range(len(y))])
    return np.stack([norm("mlp", row + mlp(row)) for row in y])


def states_by_loops(config, variables, string):
    params = jax.tree.map(np.float64, variables["params"])
    angle = lambda n, i: n / 10_000 ** (2 * (i // 2) / config.width)  # noqa: E731
    wave = lambda n, i: math.cos(angle(n, i)) if i % 2 else math.sin(angle(n, i))  # noqa: E731
    y = [[e + wave(n, i) for i, e in enumerate(params["embedding"][s])] for n, s in enumerate([*string, 2])]  # Eq. 7
    states = [np.array(y)]
    for index in range(config.depth):
        states.append(layer_by_loops(config, jax.tree.map(lambda a, i=index: a[i], params["layers"]), states[-1]))
    return np.stack(states)


def logit_by_loops(config, variables, string):
    readout = jax.tree.map(np.float64, variables["params"]["readout"])
    final = states_by_loops(config, variables, string)[-1, -1]
    if config.norm_first:
        final = normalized(final, config.epsilon, readout["gain"], readout["offset"])
    return readout["weight"] @ final + readout["bias"]  # Eq. 14


@every_config
def test_equations_7_to_14_by_loops(config):
    variables = variables_of(config)
    close(evaluate(config, variables, STRINGS), [logit_by_loops(config, variables, string) for string in STRINGS])
    found = internals(config, variables, STRINGS)
    close(found.states, [states_by_loops(config, variables, string) for string in STRINGS])


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_standard_block_is_that_of_pytorch(norm_first):
    torch = pytest.importorskip("torch", reason="an oracle that the library does not need")
    config = FIRST if norm_first else STANDARD
    variables = variables_of(config)
    d, f = config.width, config.multiplier * config.width
    tensors = lambda tree: jax.tree.map(lambda a: torch.tensor(np.array(a)), tree)  # noqa: E731
    x = tensors(internals(config, variables, STRINGS).states)
    for index in range(config.depth):
        w = tensors(jax.tree.map(lambda a, i=index: np.asarray(a)[i], variables["params"]["layers"]))
        block = torch.nn.TransformerEncoderLayer(
            d, config.heads, f, dropout=0.0, layer_norm_eps=config.epsilon, batch_first=True, norm_first=norm_first
        )
        joined = torch.cat([w[name].reshape(d, d).T for name in ("query", "key", "value")])
        biases = torch.cat([w[f"{name}_bias"].reshape(d) for name in ("query", "key", "value")])
        state = {
            "self_attn.in_proj_weight": joined,
            "self_attn.in_proj_bias": biases,
            "self_attn.out_proj.weight": w["out"].reshape(d, d).T,
            "self_attn.out_proj.bias": w["out_bias"],
            "linear1.weight": w["expand"].T,
            "linear1.bias": w["expand_bias"],
            "linear2.weight": w["contract"].T,
            "linear2.bias": w["contract_bias"],
            "norm1.weight": w["attention_gain"],
            "norm1.bias": w["attention_offset"],
            "norm2.weight": w["mlp_gain"],
            "norm2.bias": w["mlp_offset"],
        }
        block.load_state_dict(state)
        with torch.no_grad():
            close(block(x[:, index]).numpy(), x[:, index + 1])


def test_sinusoidal_positions_in_closed_form():
    table = recognizers.sinusoidal_positions(50, 6)
    np.testing.assert_array_equal(table[0], [0, 1, 0, 1, 0, 1])
    np.testing.assert_allclose(table[:, 0], np.sin(np.arange(50)))
    np.testing.assert_allclose(table[:, 3], np.cos(np.arange(50) / 10_000 ** (1 / 3)))
    # A pair of waves turns by the same angle at every step, and keeps its length.
    np.testing.assert_allclose(table[:, 0::2] ** 2 + table[:, 1::2] ** 2, 1)
    np.testing.assert_allclose((table[1:] * table[:-1]).sum(1), (table[1] * table[0]).sum())
    assert recognizers.sinusoidal_positions(4, 5).shape == (4, 5)


def test_positions_of_the_variables_replace_the_sinusoidal_ones():
    variables = variables_of(PAPER)
    same = recognizers.sinusoidal_positions(6, PAPER.width)
    plain = evaluate(PAPER, variables, STRINGS)
    np.testing.assert_array_equal(plain, evaluate(PAPER, {**variables, "positions": same}, STRINGS))
    # Without positions a string is a bag of bits.
    nowhere = {**variables, "positions": np.zeros((6, PAPER.width), np.float32)}
    close(evaluate(PAPER, nowhere, STRINGS), evaluate(PAPER, nowhere, STRINGS[:, ::-1]), 1e-6)
    assert not np.allclose(plain, evaluate(PAPER, variables, STRINGS[:, ::-1]))


@every_config
def test_depth_as_data_equals_depth_as_shape(config):
    """Padding is never evaluated: one program serves all depths."""
    deep = Config(**{**vars(config), "depth": 4})
    padded = recognizers.at_depth(variables_of(config), 4)
    close(evaluate(deep, padded, STRINGS), evaluate(config, variables_of(config), STRINGS), 1e-6)
    spoilt = jax.tree.map(np.copy, padded)
    for leaf in jax.tree.leaves(spoilt["params"]["layers"]):
        leaf[2:] = np.nan
    np.testing.assert_array_equal(evaluate(deep, spoilt, STRINGS), evaluate(deep, padded, STRINGS))
    with pytest.raises(ValueError, match="layers is 1, but must be at least 2"):
        recognizers.at_depth(variables_of(config), 1)
    with pytest.raises(ValueError, match=r"variables\['depth'\] is 'present', but must be absent"):
        recognizers.at_depth(padded, 5)


@every_config
@pytest.mark.parametrize("depth", [1, 2])
def test_the_training_evaluation_gives_the_same_logits(config, depth, float64):
    """Its last layer is computed at the end of string alone; in float64, so that nothing hides behind rounding."""
    config = Config(**{**vars(config), "depth": depth})
    variables = jax.tree.map(lambda a: np.asarray(a, np.float64), recognizers.init(config, jax.random.key(1), "normal"))
    lean = jax.jit(recognizers.training_evaluation(config))(variables, STRINGS)
    close(lean, evaluate(config, variables, STRINGS), 1e-11)
    with pytest.raises(ValueError, match="absent: give the layers unpadded"):
        recognizers.training_evaluation(config)(recognizers.at_depth(variables, 3), STRINGS)


@every_config
def test_internals_agree_with_the_evaluation(config):
    variables = variables_of(config)
    found = internals(config, variables, STRINGS)
    norms = {"paper": config.depth, "standard": 2 * config.depth, "norm_first": 2 * config.depth + 1}
    applied = norms["norm_first" if config.norm_first else config.block]
    close(found.logits, evaluate(config, variables, STRINGS), 1e-6)
    assert found.states.shape == (3, config.depth + 1, 6, config.width)
    assert found.normalizers.shape == (3, applied, 6)
    weight, bias = (np.asarray(variables["params"]["readout"][name]) for name in ("weight", "bias"))
    if not config.norm_first:
        close(found.logits, found.states[:, -1, -1] @ weight + bias, 1e-6)
    with pytest.raises(ValueError, match="absent: give the layers unpadded"):
        recognizers.internals(config)(recognizers.at_depth(variables, 3), STRINGS)


def test_normalizers_are_those_of_the_normalized_rows():
    """By Eqs. 12 and 13 a row has mean 0 and variance ``1 - epsilon z^2`` after its normalization."""
    found = internals(PAPER, variables_of(PAPER), STRINGS)
    np.testing.assert_allclose(found.states[:, 1:].mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(found.states[:, 1:].var(-1), 1 - PAPER.epsilon * found.normalizers**2, rtol=1e-5)
    assert (PAPER.epsilon * found.normalizers**2 > 1e-5).any()
    first = internals(FIRST, variables_of(FIRST), STRINGS)
    variance = np.var(first.states, -1)  # every second one is taken before attention, on the states themselves
    np.testing.assert_allclose(first.normalizers[:, ::2], 1 / np.sqrt(variance + FIRST.epsilon), rtol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e6])
def test_without_epsilon_a_constant_row_is_zero_and_flat(constant):
    config = Config(block="paper", depth=1, heads=1, head_size=7, epsilon=0)
    row = jnp.full((7,), constant)
    normalize = lambda x: recognizers.layers.normalize(config, x)  # noqa: E731
    value, z = normalize(row)
    np.testing.assert_array_equal(value, np.zeros(7))
    assert z == np.inf
    np.testing.assert_array_equal(jax.jacobian(lambda x: normalize(x)[0])(row), np.zeros((7, 7)))
    close(np.var(normalize(row + jnp.arange(7.0))[0]), 1, 1e-6)


def test_without_epsilon_a_constant_row_in_a_model_blows_up():
    """Its embedding is constant, there are no positions, and the MLP adds nothing: only the end of string differs."""
    config = Config(block="paper", depth=1, heads=1, head_size=6, epsilon=0)
    params = jax.tree.map(np.zeros_like, variables_of(config)["params"])
    params["embedding"][:] = [[3.0] * 6, [5.0] * 6, [1, 2, 3, 4, 5, 6]]
    params["readout"]["weight"][:] = 1, 0, 0, 0, 0, 2
    variables = {"params": params, "positions": np.zeros((6, 6), np.float32)}
    found = internals(config, variables, STRINGS)
    np.testing.assert_array_equal(found.states[:, 1, :5], 0)
    assert np.isinf(found.normalizers[:, 0, :5]).all()
    z = 1 / np.sqrt(35 / 12)
    close(found.normalizers[:, 0, 5], [z] * 3, 1e-6)
    close(found.logits, [(-2.5 + 2 * 2.5) * z] * 3, 1e-6)
    gradient = jax.grad(lambda v: evaluate(config, v, STRINGS).sum())(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@every_config
def test_every_parameter_counts_but_the_biases_of_keys(config):
    """Those move all scores of a query alike, which softmax does not see."""
    rows = np.ones(config.depth, bool)
    gradient = jax.jit(jax.grad(lambda v: evaluate(config, v, STRINGS)[0]))(variables_of(config))["params"]
    assert STRINGS[0].min() != STRINGS[0].max()
    for name, leaf in gradient["layers"].items():
        largest = np.abs(np.asarray(leaf)).reshape(config.depth, -1).max(1)
        expected = rows if name != "key_bias" else ~rows
        np.testing.assert_array_equal(largest > 1e-5, expected, err_msg=name)
    assert (np.abs(gradient["embedding"]).max(1) > 1e-5).all()
    for name, leaf in gradient["readout"].items():
        assert np.abs(leaf).max() > 1e-5, name


@every_config
def test_the_linen_module_has_the_same_parameters_and_logits(config):
    module = recognizers.Recognizer(config, "normal")
    shapes = jax.eval_shape(module.init, jax.random.key(1), STRINGS)["params"]
    assert jax.tree.map(lambda leaf: leaf.shape, shapes) == jax.tree.map(lambda spec: spec.shape, config.specs)
    variables = variables_of(config)
    close(module.apply(variables, STRINGS), evaluate(config, variables, STRINGS), 1e-6)


def test_the_linen_module_draws_by_its_scheme():
    drawn = recognizers.Recognizer(STANDARD, "uniform_10").init(jax.random.key(1), STRINGS)["params"]["layers"]
    for name in ("query", "out", "expand_bias"):
        assert 5 < np.abs(drawn[name]).max() <= 10
    assert (np.asarray(drawn["mlp_gain"]) == 1).all()


def test_equal_configurations_make_equal_functions():
    again, other = Config(**vars(STANDARD)), Config(**{**vars(STANDARD), "multiplier": 3})
    assert Config(**{**vars(STANDARD), "scaled": True}) == STANDARD
    for make in (recognizers.evaluation, recognizers.training_evaluation, recognizers.internals):
        assert make(again) == make(STANDARD)
        assert hash(make(again)) == hash(make(STANDARD))
        assert make(other) != make(STANDARD)


def test_scores_are_divided_in_the_standard_block_only():
    assert STANDARD.scaled
    assert not PAPER.scaled
    other = Config(**{**vars(PAPER), "scaled": True})
    variables = variables_of(PAPER)
    scaled = jax.tree.map(np.copy, variables)
    scaled["params"]["layers"]["key"] *= PAPER.head_size**0.5
    close(evaluate(other, scaled, STRINGS), evaluate(PAPER, variables, STRINGS))
    assert not np.allclose(evaluate(other, variables, STRINGS), evaluate(PAPER, variables, STRINGS))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("block", "encoder", "block is 'encoder', but must be one of standard, paper"),
        ("depth", 0, "depth is 0, but must be an integer of at least 1"),
        ("heads", 2.0, "heads is 2.0, but"),
        ("head_size", -1, "head_size is -1, but"),
        ("multiplier", True, "multiplier is True, but"),
        ("epsilon", -1e-5, "epsilon is -1e-05, but must be a finite number of at least 0"),
        ("epsilon", math.nan, "epsilon is nan, but"),
    ],
)
def test_a_bad_configuration_is_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        Config(**{**vars(STANDARD), field: value})


def test_the_block_of_the_paper_normalizes_after_the_mlp():
    with pytest.raises(ValueError, match="norm_first is True, but must be False in the block of the paper"):
        Config(**{**vars(PAPER), "norm_first": True})


@pytest.mark.parametrize(
    ("strings", "message"),
    [
        (STRINGS[0], r"strings' shape is \(5,\), but must be \[b n\] with at least one bit"),
        (STRINGS[:, :0], r"strings' shape is \(3, 0\), but"),
        (STRINGS.astype(np.float32), "strings' dtype is 'float32', but must be int32"),
    ],
)
def test_bad_strings_are_named(strings, message):
    with pytest.raises(ValueError, match=message):
        recognizers.evaluation(STANDARD)(variables_of(STANDARD), strings)


def test_bad_variables_are_named():
    variables, apply = variables_of(STANDARD), recognizers.evaluation(STANDARD)
    with pytest.raises(ValueError, match="mask must be None: all strings of a batch have one length"):
        apply(variables, STRINGS, np.ones(STRINGS.shape, bool))
    with pytest.raises(ValueError, match=r"variables\['params'\]\['embedding'\] is \(3, 6\), but must be \(3, 9\)"):
        recognizers.evaluation(Config(depth=2, heads=3, head_size=3))(variables, STRINGS)
    with pytest.raises(ValueError, match=r"\['attention_gain'\] is 'absent', but must be \(2, 6\) for Config"):
        apply(variables_of(PAPER), STRINGS)
    extra = {"params": {**variables["params"], "head": np.zeros(2)}}
    with pytest.raises(ValueError, match=r"\['head'\] is \(2,\), but must be absent"):
        apply(extra, STRINGS)
    with pytest.raises(ValueError, match=r"variables' keys is \['params', 'position'\], but must be \['params'\]"):
        apply({**variables, "position": np.zeros((6, 6))}, STRINGS)
    with pytest.raises(ValueError, match=r"variables\['positions'\]' shape is \(5, 6\), but must be \(6, 6\)"):
        apply({**variables, "positions": np.zeros((5, 6))}, STRINGS)


def test_nothing_wrong_is_hidden_by_a_normalization():
    """NaN stays NaN, an overflow becomes one, and without epsilon small and large rows alike have unit variance."""
    row = jnp.array([1.0, -1.0, 2.0, 0.5])
    zero, small = (recognizers.Config(block="paper", depth=1, heads=1, head_size=4, epsilon=e) for e in (0.0, 1e-5))
    for config in (zero, small):
        y, z = recognizers.layers.normalize(config, row.at[1].set(jnp.nan))
        assert jnp.isnan(y).all()
        assert jnp.isnan(z)
    y, z = recognizers.layers.normalize(small, 1e20 * row)
    assert jnp.isnan(y).all()
    assert jnp.isnan(z)
    expected, z = recognizers.layers.normalize(zero, row)
    for factor in (1e-25, 1e20):
        scaled, own = recognizers.layers.normalize(zero, factor * row)
        np.testing.assert_allclose(scaled, expected, rtol=1e-5)
        np.testing.assert_allclose(own * factor, z, rtol=1e-5)


@pytest.mark.parametrize("block", recognizers.BLOCKS)
def test_variables_of_the_host_may_be_closed_over(block):
    config = recognizers.Config(block=block, depth=1, heads=1, head_size=4)
    variables = recognizers.init(config, jax.random.key(0))
    apply = recognizers.evaluation(config)
    strings = np.array([[0, 1, 1], [1, 0, 0]], np.int32)
    np.testing.assert_allclose(jax.jit(lambda x: apply(variables, x))(strings), apply(variables, strings), rtol=1e-5)


def test_strings_may_be_booleans_but_hold_bits_only():
    config = recognizers.Config(depth=1, heads=1, head_size=4)
    variables = recognizers.init(config, jax.random.key(0))
    apply = recognizers.evaluation(config)
    strings = np.array([[False, True, True]])
    np.testing.assert_array_equal(apply(variables, strings), apply(variables, strings.astype(np.int32)))
    np.testing.assert_array_equal(apply(variables, strings.tolist()), apply(variables, strings))
    with pytest.raises(ValueError, match="2, but must be 0 or 1"):
        apply(variables, np.array([[0, 2]]))


@pytest.mark.parametrize(
    "config", [Config(depth=1, heads=1, head_size=4), baselines.MLPConfig(length=3, depth=1, width=4)]
)
def test_traced_symbols_that_are_no_bits_give_nan(config):
    """Traced strings cannot raise; the end of string is a symbol of the transformer, and none of the perceptron."""
    apply = recognizers.evaluation if isinstance(config, Config) else baselines.evaluation
    variables = recognizers.init(config, jax.random.key(0))
    for symbol, finite in ((0, True), (1, True), (-1, False), (3, False), (9, False)):
        logits = jax.jit(apply(config))(variables, jnp.array([[0, symbol, 1]]))
        assert np.isfinite(logits).all() == finite, symbol
        if not finite:
            with pytest.raises(ValueError, match=f"a value in strings is {symbol}, but must be 0 or 1"):
                apply(config)(variables, np.array([[0, symbol, 1]]))
