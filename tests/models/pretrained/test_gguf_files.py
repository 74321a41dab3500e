"""A Llama that is written as GGUF files are, and converted back, gives the logits that it gave."""

import functools

import jax
import numpy as np
import pytest

from jaxsens import models
from jaxsens.models import pretrained
from jaxsens.models.pretrained import gguf_files
from jaxsens.models.pretrained.tensor_names import by_path
from jaxsens.models.text import encoder, llama, tokenizer

gguf = pytest.importorskip("gguf")
pytest.importorskip("safetensors")

CONFIG = llama.Config(
    width=32, depth=1, heads=4, key_heads=2, head_size=8, hidden=32, vocabulary=8, positions=9, theta=50.0, epsilon=1e-5
)
TOKENS = ["<|end|>", "a", "b", "ab", "Ġ", "Ġab", "1", "2"]
WORDS = {"attention": "attn_output", "norm_attention": "attn_norm", "norm_mlp": "ffn_norm"}
WORDS |= {"gate": "ffn_gate", "expand": "ffn_up", "contract": "ffn_down"}
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def variables():
    draws = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: draws.normal(0, 0.5, leaf.shape).astype(np.float32), encoder.shapes_of(llama.Llama(CONFIG))
    )


def neighbors(kernel, heads):
    """The rows of queries or keys in the order of llama.cpp: the two numbers that are rotated together side by side."""
    rows = kernel.T.reshape(heads, 2, -1, CONFIG.width)
    return rows.swapaxes(1, 2).reshape(-1, CONFIG.width)


def tensors():
    params = by_path(variables()["params"])
    found = {"token_embd.weight": params["tokens"], "output_norm.weight": params["norm/scale"]}
    for path, values in params.items():
        if not path.startswith("block_0/"):
            continue
        parts = path.split("/")[1:]
        if parts[-1] == "kernel":
            heads = {"query": 4, "key": 2}.get(parts[-2])
            name = {"query": "attn_q", "key": "attn_k", "value": "attn_v"}.get(parts[-2]) or WORDS[parts[0]]
            values = values.T if heads is None else neighbors(values, heads)
        else:
            name = WORDS[parts[0]]
        found[f"blk.0.{name}.weight"] = np.ascontiguousarray(values)
    return found


def written(path, *, quantized=False, leave_out=(), architecture="llama", **settings):
    writer = gguf.GGUFWriter(str(path), architecture)
    numbers = {"embedding_length": 32, "block_count": 1, "attention.head_count": 4, "attention.head_count_kv": 2}
    numbers |= {"feed_forward_length": 32, "context_length": 9, "rope.dimension_count": 8}
    for name, value in numbers.items():
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32("llama.rope.freq_base", 50.0)
    for name, value in settings.items():
        writer.add_string(name.replace("__", "."), value)
    writer.add_tokenizer_model("gpt2")
    if "tokenizer__ggml__pre" not in settings:
        writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] + [1] * (len(TOKENS) - 1))
    writer.add_token_merges(["a b", "Ġ ab"])
    for name, values in tensors().items():
        if name in leave_out:
            continue
        if quantized and values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_converted_file_gives_the_logits_of_the_model_and_its_tokens(tmp_path):
    ids = np.array([[1, 5, 7, 2, 0]], np.int32)
    expected = quick(models.evaluation(llama.Llama(CONFIG)))(variables(), ids)
    for quantized, bound in ((False, 1e-5), (True, 5e-2)):
        folder = tmp_path / str(quantized)
        gguf_files.convert(written(tmp_path / f"{quantized}.gguf", quantized=quantized), folder)
        model = pretrained.load(folder)
        assert model.module.config == CONFIG
        found = quick(models.evaluation(model.module))(model.variables, ids)
        error = np.abs(np.asarray(found - expected)).max() / np.abs(np.asarray(expected)).max()
        assert error < bound
        assert quantized == (error > 1e-4)
    texts = tokenizer.load(tmp_path / "True", vocabulary=8)
    assert texts(["ab ab12<|end|>"], longest=9).tokens.tolist() == [[3, 5, 6, 7, 0]]
    with pytest.raises(ValueError, match="but must be a folder without a model"):
        gguf_files.convert(tmp_path / "True.gguf", tmp_path / "True")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "gemma"}, "general.architecture in .* is 'gemma', but must be 'llama'"),
        ({"leave_out": ("blk.0.attn_q.weight",)}, "blk.0.attn_q.weight in .* is None, but must be given"),
        ({"llama__rope__scaling__type": "yarn"}, "llama.rope.scaling.type in .* is 'yarn', but must be 'none'"),
        ({"tokenizer__ggml__pre": "other"}, "tokenizer.ggml.pre in .* is 'other', but must be one of gpt-2, smollm"),
    ],
)
def test_files_that_cannot_be_converted_are_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        gguf_files.convert(written(tmp_path / "model.gguf", **options), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_damaged_files_are_named(tmp_path):
    whole = written(tmp_path / "model.gguf").read_bytes()
    for name, content in (("empty", b""), ("text", b"no model, but a text"), ("cut", whole[: len(whole) // 3])):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is truncated, corrupted or no GGUF file"):
            gguf_files.convert(file, tmp_path / "folder")
