"""Models with embeddings and hidden states as laws: BERT, RoBERTa, GPT-2, pretrained ViTs and LSTMs.

The file is long because its tests share models and compiled programs.
"""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import models
from jaxsens.models import pretrained
from jaxsens.models.text import bert, encoder, gpt2, lstm

SIZES = {"width": 12, "depth": 1, "heads": 3, "hidden": 10, "epsilon": 1e-3}
TEXT = {"vocabulary": 13, "positions": 9}
IMAGE = {"image_shape": (4, 6, 2), "patch": 2}

MODULES = {
    "bert": bert.Bert(bert.Config(**SIZES, **TEXT, read_out="pooler", classes=3)),
    "roberta": bert.Bert(bert.Config(**SIZES, **TEXT, position_offset=2, read_out="class", activation="gelu_new")),
    "relu": bert.Bert(
        bert.Config(**SIZES | {"depth": 2}, **TEXT, attention="relu", read_out="mean", activation="relu")
    ),
    "gpt2": gpt2.GPT2(gpt2.Config(**SIZES | {"depth": 2}, **TEXT)),
    "gpt2 classifier": gpt2.GPT2(gpt2.Config(**SIZES, **TEXT, attention="relu", read_out="last", classes=3)),
    "vit": pretrained.vit.PretrainedViT(pretrained.vit.Config(**SIZES, **IMAGE, read_out="pooler", classes=3)),
    "dinov2": pretrained.vit.PretrainedViT(
        pretrained.vit.Config(
            **SIZES | {"depth": 2}, **IMAGE, layer_scale=True, read_out="class and mean", activation="silu"
        )
    ),
    "lstm": lstm.LSTM(lstm.Config(vocabulary=13, width=6, depth=2, classes=3)),
    "lstm, mean": lstm.LSTM(lstm.Config(vocabulary=13, width=6, depth=1, classes=3, read_out="mean")),
}
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
TEXTS = {name: module for name, module in MODULES.items() if module.config.example.dtype == jnp.int32}
every_text = pytest.mark.parametrize("module", TEXTS.values(), ids=TEXTS)

quick = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)  # compiling is what takes long


@functools.cache
def example(module, count=6):
    """Variables that are all large enough to matter, and two inputs."""
    draws = np.random.default_rng(0)

    def draw(path, leaf):
        spread = leaf.shape[0] ** -0.5 if path[-1].key in ("kernel", "from_before") else 0.5
        return (spread * draws.normal(size=leaf.shape) + (path[-1].key == "scale")).astype(np.float32)

    variables = jax.tree.map_with_path(draw, encoder.shapes_of(module))
    if module.config.example.dtype == jnp.int32:
        return variables, draws.integers(0, 13, (2, count)).astype(np.int32)
    return variables, draws.normal(size=(2, *module.config.token_shape)).astype(np.float32)


@functools.partial(quick, static_argnums=0)
def run(module, variables, tokens, mask=None):
    """Outputs, and hidden states ``[l+1 b t d]``."""
    return models.evaluation(module)(variables, tokens, mask), encoder.hidden_states(module)(variables, tokens, mask)


@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_fused_attention_is_attention(name, monkeypatch):
    module = MODULES[name]
    variables, tokens = example(module)
    fused = type(module)(dataclasses.replace(module.config, fused_attention=True))
    asked, original = [], jax.nn.dot_product_attention

    def spied(*args, **options):
        asked.append(options["implementation"])
        return original(*args, **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", spied)
    jax.eval_shape(models.evaluation(module), variables, tokens)
    assert asked == []
    jax.eval_shape(models.evaluation(fused), variables, tokens)
    assert set(asked) == {"xla"}
    mask = np.arange(tokens.shape[1])[None] < np.array([[tokens.shape[1]], [tokens.shape[1] - 2]])
    for seen in (None, mask):
        found, expected = run(fused, variables, tokens, seen), run(module, variables, tokens, seen)
        real = mask if seen is not None and name != "vit" else np.ones((2, expected[1].shape[2]), bool)
        chex.assert_trees_all_close(found[1][:, real], expected[1][:, real], atol=1e-5)
    for change, why in (({"attention": "relu"}, "as attention is not softmax"), ({"dtype": "float64"}, "in float64")):
        with pytest.raises(ValueError, match=f"fused_attention is True, but must be False,? {why}"):
            dataclasses.replace(fused.config, **change)


# --- what they compute ------------------------------------------------------------------------------------------------


def norm(p, x, epsilon=1e-3):
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + epsilon) * p["scale"] + p["bias"]


def affine(p, x):
    return x @ p["kernel"] + p["bias"]


ERF = np.vectorize(math.erf)
ACTIVATIONS = {
    "gelu": lambda x: x * (1 + ERF(x / 2**0.5)) / 2,
    "gelu_new": lambda x: x * (1 + np.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def attend(config, p, x):
    """Attention of one text ``[t d]``, a head and a query at a time."""
    query, key, value = (affine(p[name], x).reshape(len(x), config.heads, -1) for name in ("query", "key", "value"))
    mixed = np.zeros(query.shape)
    for head in range(config.heads):
        for place in range(len(x)):
            seen = place + 1 if config.causal else len(x)
            scores = key[:seen, head] @ query[place, head] / config.head_size**0.5
            weights = np.maximum(scores, 0) / seen if config.attention == "relu" else np.exp(scores)
            weights = weights if config.attention == "relu" else weights / weights.sum()
            mixed[place, head] = weights @ value[:seen, head]
    return affine(p["out"], mixed.reshape(len(x), -1))


def states_by_numpy(config, params, x):
    states = [x]
    for index in range(config.depth):
        p = params[f"block_{index}"]
        mlp = lambda x, p=p: affine(p["contract"], ACTIVATIONS[config.activation](affine(p["expand"], x)))  # noqa: E731
        if config.norm_first:
            x = x + p.get("scale_attention", 1) * attend(config, p["attention"], norm(p["norm_attention"], x))
            x = x + p.get("scale_mlp", 1) * mlp(norm(p["norm_mlp"], x))
        else:
            x = norm(p["norm_attention"], x + attend(config, p["attention"], x))
            x = norm(p["norm_mlp"], x + mlp(x))
        states.append(x)
    return states


def embedded_by_numpy(config, params, tokens):
    if isinstance(config, bert.Config):
        x = params["tokens"][tokens] + params["positions"][config.position_offset :][: len(tokens)] + params["types"][0]
        return norm(params["norm_embedding"], x)
    if isinstance(config, gpt2.Config):
        return params["tokens"][tokens] + params["positions"][: len(tokens)]
    x = np.concatenate([params["class_token"][0], affine(params["patches"], tokens)])
    return x + params["positions"][0]


def output_by_numpy(config, params, x):
    x = norm(params["norm"], x) if config.norm_first else x
    if config.read_out == "next":
        return params["tokens"] @ x[-1]
    read = {"class": x[0], "last": x[-1], "mean": x.mean(0), "class and mean": np.append(x[0], x[1:].mean(0))}
    x = np.tanh(affine(params["pooler"], x[0])) if config.read_out == "pooler" else read[config.read_out]
    return affine({"bias": 0, **params["classifier"]}, x) if config.classes else x


@pytest.mark.parametrize("name", [name for name in MODULES if "lstm" not in name])
def test_transformers_are_the_textbook_formulas(name):
    module = MODULES[name]
    variables, tokens = example(module)
    output, states = run(module, variables, tokens)
    params = jax.tree.map(np.float64, variables["params"])
    for row in range(2):
        x = embedded_by_numpy(module.config, params, tokens[row])
        expected = states_by_numpy(module.config, params, x)
        np.testing.assert_allclose(states[:, row], expected, rtol=0, atol=2e-5)
        wanted = output_by_numpy(module.config, params, expected[-1])
        np.testing.assert_allclose(output[row], wanted, rtol=0, atol=2e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("name", ["lstm", "lstm, mean"])
def test_lstms_are_the_textbook_formulas(name):
    module = MODULES[name]
    variables, tokens = example(module)
    output, states = run(module, variables, tokens)
    params = jax.tree.map(np.float64, variables["params"])
    x = norm(params["norm_embedding"], params["tokens"][tokens[0]], 1e-6)
    expected = [x]
    for index in range(module.config.depth):
        p = params[f"layer_{index}"]
        h, c, outputs = np.zeros(6), np.zeros(6), []
        for below in expected[-1]:
            enter, forget, new, leave = np.split(affine(p["from_below"], below) + h @ p["from_before"], 4)
            c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(new)
            h = sigmoid(leave) * np.tanh(c)
            outputs.append(h)
        expected.append(np.array(outputs))
    np.testing.assert_allclose(states[:, 0], expected, rtol=0, atol=1e-5)
    read = expected[-1].mean(0) if module.config.read_out == "mean" else expected[-1][-1]
    np.testing.assert_allclose(output[0], affine(params["classifier"], read), rtol=0, atol=1e-5)


@pytest.mark.parametrize("module", [MODULES[name] for name in ("bert", "gpt2", "dinov2", "lstm")])
def test_embeddings_are_what_the_model_goes_on_with(module):
    variables, tokens = example(module)
    mask = np.arange(6)[None] < np.array([[6], [4]])

    @quick
    def in_two_steps(variables, tokens, mask):
        x = encoder.embed(module)(variables, tokens, mask)
        return x, encoder.from_embeddings(module)(variables, x, mask)

    x, found = in_two_steps(variables, tokens, mask)
    garbage = np.where(mask, tokens, -7) if tokens.ndim == 2 else tokens
    np.testing.assert_array_equal(in_two_steps(variables, garbage, mask)[0], x)  # and padding's are no nan
    output, states = run(module, variables, tokens, mask)
    assert x.shape[:2] == tokens.shape[:2]
    np.testing.assert_allclose(found, output, rtol=0, atol=1e-6)
    first = states[0][:, -tokens.shape[1] :]
    np.testing.assert_allclose(np.asarray(x)[mask], first[mask], rtol=0, atol=1e-6)


def test_the_last_state_may_be_normalized():
    """As BERT's are anyway."""
    for name in ("gpt2", "bert"):
        module = MODULES[name]
        variables, tokens = example(module)
        states = np.asarray(run(module, variables, tokens)[1])
        normalized = quick(encoder.hidden_states(module, normalize_last=True))(variables, tokens)
        last = norm(variables["params"]["norm"], states[-1]) if name == "gpt2" else states[-1]
        np.testing.assert_allclose(normalized, [*states[:-1], last], rtol=0, atol=1e-5)


# --- padding ----------------------------------------------------------------------------------------------------------


@every_text
def test_padding_alters_no_real_token_and_no_output(module):
    """Wherever it is, and whatever ids are there."""
    variables, tokens = example(module)
    output, states = run(module, variables, tokens)
    for left in (0, 3, 1):
        padded = np.full((2, 9), -7, np.int32)
        mask = np.zeros((2, 9), bool)
        padded[:, left : left + 6], mask[:, left : left + 6] = tokens, True
        found, found_states = run(module, variables, padded, mask)
        np.testing.assert_allclose(found, output, rtol=0, atol=2e-6)
        np.testing.assert_allclose(found_states[:, :, left : left + 6], states, rtol=0, atol=2e-6)
    garbage = run(module, variables, np.where(mask, padded, 10**6), mask)[0]
    np.testing.assert_array_equal(garbage, found)
    assert np.isfinite(run(module, variables, padded, np.zeros((2, 9), bool))[0]).all()


@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_a_vit_sees_no_patch_that_is_padding(name):
    module = MODULES[name]
    variables, tokens = example(module)
    mask = np.arange(6)[None] < np.array([[6], [4]])
    output, _ = run(module, variables, tokens, mask)
    garbage = run(module, variables, np.where(mask[..., None], tokens, np.float32(np.nan)), mask)
    np.testing.assert_array_equal(garbage[0], output)
    whole, _ = run(module, variables, tokens)
    np.testing.assert_allclose(output[0], whole[0], rtol=0, atol=2e-6)
    assert np.abs(output[1] - whole[1]).max() > 1e-3


@every_module
def test_examples_are_independent(module):
    variables, tokens = example(module)
    output, _ = run(module, variables, tokens)
    others, _ = run(module, variables, np.concatenate([tokens[:1], tokens[1:, ::-1]]))
    np.testing.assert_array_equal(others[0], output[0])
    assert np.abs(others[1] - output[1]).max() > 1e-4


@every_text
def test_tokens_attend_to_the_right_tokens(module):
    """In GPT-2 and an LSTM a token depends on those before it, in BERT on all."""
    variables, tokens = example(module)
    _, states = run(module, variables, tokens)
    changed = tokens.copy()
    changed[:, 3] = (changed[:, 3] + 1) % 13
    moved = np.abs(run(module, variables, changed)[1] - states).max((1, 3)) > 1e-6  # [l+1 t]
    np.testing.assert_array_equal(moved[0], np.arange(6) == 3)
    np.testing.assert_array_equal(moved[-1], np.arange(6) >= (0 if isinstance(module, bert.Bert) else 3))


# --- identities -------------------------------------------------------------------------------------------------------


def test_types_come_with_ids():
    module = MODULES["bert"]
    variables, tokens = example(module)
    with_types = np.stack([tokens, np.zeros_like(tokens)], -1)
    np.testing.assert_array_equal(run(module, variables, with_types)[0], run(module, variables, tokens)[0])
    with_types[:, 3:, 1] = 1
    swapped = jax.tree.map(np.copy, variables)
    swapped["params"]["types"] = variables["params"]["types"][::-1]
    opposite = with_types * [1, -1] + [0, 1]
    expected = run(module, variables, with_types)[0]
    assert np.abs(expected - run(module, variables, tokens)[0]).max() > 1e-3
    np.testing.assert_array_equal(run(module, swapped, opposite.astype(np.int32))[0], expected)


def test_roberta_is_bert_with_its_positions_moved():
    roberta = MODULES["roberta"]
    variables, tokens = example(roberta)
    moved = {"params": variables["params"] | {"positions": variables["params"]["positions"][2:]}}
    plain = bert.Bert(dataclasses.replace(roberta.config, position_offset=0))
    chex.assert_trees_all_equal(run(plain, moved, tokens), run(roberta, variables, tokens))


def test_the_next_token_is_read_after_the_last_of_every_token():
    module = MODULES["gpt2"]
    every = gpt2.GPT2(dataclasses.replace(module.config, read_out="every"))
    variables, tokens = example(module)
    mask = np.arange(6)[None] < np.array([[6], [4]])
    all_logits, _ = run(every, variables, tokens, mask)
    np.testing.assert_allclose(run(module, variables, tokens, mask)[0], all_logits[[0, 1], [5, 3]], rtol=0, atol=1e-5)


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "gpt2 classifier", "dinov2", "lstm"])
def test_every_parameter_is_trained(name):
    module = MODULES[name]
    variables, tokens = example(module)
    tokens = np.concatenate([tokens, (tokens + 6) % 13]) if tokens.ndim == 2 else tokens

    def loss(params):
        outputs, _ = models.train_apply(module)({"params": params}, tokens, jax.random.key(0))
        return (outputs * jnp.arange(outputs.size).reshape(outputs.shape)).sum()

    gradients = quick(jax.grad(loss))(variables["params"])
    for path, gradient in jax.tree.leaves_with_path(gradients):
        # A softmax does not see what is added to all of its scores.
        if not (jax.tree_util.keystr(path).endswith("['key']['bias']") and module.config.attention == "softmax"):
            assert np.abs(gradient).max() > 1e-5, jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", ["bert", "lstm"])
def test_dropout_draws_from_the_key_in_training_only(name):
    module = MODULES[name]
    variables, tokens = example(module)
    dropping = type(module)(dataclasses.replace(module.config, dropout=0.3))
    train = quick(models.train_apply(dropping))
    first, again, other = (train(variables, tokens, jax.random.key(seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(run(dropping, variables, tokens)[0], run(module, variables, tokens)[0])


def test_padding_is_marked_by_its_id_in_training():
    module = MODULES["bert"]
    variables, tokens = example(module)
    mask = np.arange(6)[None] < np.array([[6], [4]])
    train = quick(encoder.train_apply(module, padding=-1))
    found, same_variables = train(variables, np.where(mask, tokens, -1), jax.random.key(0))
    np.testing.assert_allclose(found[0], run(module, variables, tokens)[0][0], rtol=0, atol=2e-6)
    np.testing.assert_allclose(found[1], run(module, variables, tokens[:, :4])[0][1], rtol=0, atol=2e-6)
    chex.assert_trees_all_equal(same_variables, variables)
    assert encoder.train_apply(module, padding=-1) == encoder.train_apply(module, padding=-1)
    with pytest.raises(ValueError, match="module is 'PretrainedViT', but must be a model of text"):
        encoder.train_apply(MODULES["vit"], padding=-1)


def test_initial_outputs_differ_between_examples():
    module = MODULES["bert"]
    variables = quick(lambda key: encoder.init(module, key))(jax.random.key(0))
    encoder.require_variables(module, variables)
    output, _ = run(module, variables, example(module)[1])
    assert np.ptp(output, axis=0).max() > 1e-4


# --- precision --------------------------------------------------------------------------------------------------------


def test_activations_have_the_dtype_of_the_configuration():
    module = MODULES["bert"]
    variables, tokens = example(module)
    exact, _ = run(module, variables, tokens)
    rounded, states = run(type(module)(dataclasses.replace(module.config, dtype="bfloat16")), variables, tokens)
    assert (rounded.dtype, states.dtype) == (jnp.float32, jnp.bfloat16)
    assert 1e-5 < np.abs(exact - rounded).max() / np.abs(exact).max() < 5e-2
    with jax.enable_x64(True):
        wide = type(module)(dataclasses.replace(module.config, dtype="float64"))
        doubled, states = run(wide, jax.tree.map(np.float64, variables), tokens)
        assert (doubled.dtype, states.dtype) == (jnp.float64, jnp.float64)
        assert 0 < np.abs(exact - doubled).max() / np.abs(exact).max() < 1e-5


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_equal_modules_are_one_compiled_function():
    module = MODULES["bert"]
    again = bert.Bert(dataclasses.replace(module.config, dtype="float32"))
    for make in (encoder.embed, encoder.from_embeddings, encoder.hidden_states):
        assert make(again) == make(module)
        assert hash(make(again)) == hash(make(module))
    assert encoder.embed(module) != encoder.from_embeddings(module)
    assert encoder.hidden_states(module, normalize_last=True) != encoder.hidden_states(module)


@pytest.mark.parametrize("name", ["bert", "gpt2", "lstm"])
def test_tokens_that_do_not_fit_are_refused(name):
    module = MODULES[name]
    variables, tokens = example(module)
    wrong = [
        (tokens[0], None, "tokens' shape is"),
        (tokens[:, :0], None, "tokens' shape is"),
        (tokens.astype(np.float32), None, "tokens' dtype is 'float32', but must be int32"),
        (tokens + 13, None, r"an id in tokens is \d+, but must be at least 0 and below 13"),
        (tokens - 13, None, "an id in tokens is -"),
        (tokens, np.ones((2, 5), bool), r"mask's shape is \(2, 5\)"),
        (tokens, np.ones((2, 6), np.int32), "mask's dtype is 'int32'"),
    ]
    if not isinstance(module, lstm.LSTM):
        wrong.append((np.zeros((2, 10), np.int32), None, "tokens' length is 10, but must be at most 9"))
    for given, mask, message in wrong:
        with pytest.raises(ValueError, match=message):
            encoder.embed(module)(variables, given, mask)
    with pytest.raises(ValueError, match=r"embeddings' shape is \(2, 6, 5\)"):
        encoder.from_embeddings(module)(variables, np.zeros((2, 6, 5), np.float32))
    with pytest.raises(ValueError, match=r"variables\['params'\]\['surplus'\] is \(3,\), but .* needs it to be absent"):
        encoder.embed(module)({"params": variables["params"] | {"surplus": np.zeros(3)}}, tokens)
    # Inside jit nothing can be raised, and no other token may be looked up instead.
    assert np.isnan(run(module, variables, np.where(np.arange(6) == 5, 13, tokens).astype(np.int32))[0]).all()
    assert np.isnan(run(module, variables, np.where(np.arange(6) == 5, -1, tokens).astype(np.int32))[0]).all()


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (bert.Config, {"heads": 5}, "heads is 5, but must be a divisor of the width 12"),
        (bert.Config, {"depth": 0}, "depth is 0, but must be an integer of at least 1"),
        (bert.Config, {"activation": "tanh"}, "activation is 'tanh', but must be one of gelu, gelu_fast, gelu_new"),
        (bert.Config, {"attention": "linear"}, "attention is 'linear', but must be one of softmax, relu"),
        (bert.Config, {"epsilon": 0}, "epsilon is 0"),
        (bert.Config, {"dropout": 1.0}, "dropout is 1.0"),
        (bert.Config, {"dtype": "int32"}, "dtype is 'int32'"),
        (bert.Config, {"vocabulary": 0}, "vocabulary is 0"),
        (bert.Config, {"position_offset": -1}, "position_offset is -1"),
        (bert.Config, {"read_out": "last"}, "read_out is 'last', but must be one of class, pooler, mean"),
        (bert.Config, {"classes": 0}, "classes is 0"),
        (gpt2.Config, {"read_out": "class"}, "read_out is 'class', but must be one of last, next, every"),
        (gpt2.Config, {"classes": 2}, "read_out is 'next', but must be 'last' where there are classes"),
        (pretrained.vit.Config, {"patch": 5}, "patch is 5, but must be a divisor of the image's height 4"),
        (pretrained.vit.Config, {"image_shape": (4, 6)}, r"image_shape is \(4, 6\), but must be \(h, w, c\)"),
        (pretrained.vit.Config, {"read_out": "max"}, "read_out is 'max'"),
        (lstm.Config, {"width": 0}, "width is 0"),
        (lstm.Config, {"read_out": "first"}, "read_out is 'first', but must be one of last, mean"),
    ],
)
def test_configurations_that_cannot_work_are_refused(config, changes, message):
    sizes = {
        lstm.Config: {"vocabulary": 13, "width": 6, "depth": 1, "classes": 2},
        pretrained.vit.Config: {**SIZES, **IMAGE},
    }.get(config, {**SIZES, **TEXT})
    config(**sizes)
    with pytest.raises(ValueError, match=message):
        config(**{**sizes, **changes})
