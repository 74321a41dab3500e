"""Language models in a GGUF file, quantized or not, as a folder that ``load`` and ``transformers`` read.

Needs the packages ``gguf``, which dequantizes, and ``safetensors``. In a GGUF file of a Llama the rows of queries and
keys have another order, in which neighboring numbers are rotated; here they are put back.
"""

import importlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxsens.models.common import require, require_dtype, require_path
from jaxsens.models.pretrained import checkpoints
from jaxsens.models.pretrained.tensor_names import nested
from jaxsens.models.text import llama

__all__ = ["convert"]

_SIZES = {
    "width": "embedding_length",
    "depth": "block_count",
    "heads": "attention.head_count",
    "hidden": "feed_forward_length",
    "positions": "context_length",
    "epsilon": "attention.layer_norm_rms_epsilon",
}

_LAYER = {
    "attn_norm.weight": "norm_attention/scale",
    "attn_q.weight": "attention/query/kernel",
    "attn_k.weight": "attention/key/kernel",
    "attn_v.weight": "attention/value/kernel",
    "attn_output.weight": "attention/out/kernel",
    "ffn_norm.weight": "norm_mlp/scale",
    "ffn_gate.weight": "gate/kernel",
    "ffn_up.weight": "expand/kernel",
    "ffn_down.weight": "contract/kernel",
}
"""The tensors of a layer."""

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BEFORE_MERGES = {
    "gpt-2": _BYTES,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTES]},
}
"""What splits a text before pairs are merged, by ``tokenizer.ggml.pre``."""

_CONTROL, _USER = 3, 4  # types of tokens


def convert(path: str | os.PathLike[str], folder: str | os.PathLike[str], *, dtype: str = "float32") -> None:
    """Write the model of a GGUF file, with its tokenizer, as ``config.json``, safetensors and ``tokenizer.json``.

    Quantized weights are read as the numbers that they stand for, which float32 holds exactly.

    Args:
        path: The file, of the architecture ``"llama"``, with a byte-level BPE tokenizer.
        folder: Where to write; it must hold no model.
        dtype: The dtype of the tensors that are written.

    Raises:
        ImportError: If a package is missing.
        ValueError: If the file is missing, empty or corrupted; the architecture, a scaling of rotations or the
            tokenizer is not supported; a tensor is missing or unknown; or the folder holds a model.

    Example:
        With a file ``SmolLM2-135M-Instruct.Q4_1.gguf``::

            gguf_files.convert("SmolLM2-135M-Instruct.Q4_1.gguf", "models/smollm2")
            model = pretrained.load("models/smollm2", read_out="every")

        >>> convert("no/such/model.gguf", "models/mine")
        Traceback (most recent call last):
        ValueError: path is 'no/such/model.gguf', but must be a GGUF file.
    """
    require_path(path)
    require_path(folder)
    file, folder, dtype = Path(path), Path(folder), require_dtype(dtype)
    require(file.is_file(), "path", str(path), "a GGUF file")
    try:
        package = importlib.import_module("gguf")
    except ImportError as error:
        raise ImportError("GGUF files need the package of that name: pip install 'jaxsens[text]'") from error
    try:
        reader = package.GGUFReader(str(file))
        settings = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # the package raises whatever NumPy does
        raise ValueError(f"{file} is truncated, corrupted or no GGUF file: {error}") from error
    architecture = settings.get("general.architecture")
    require(architecture == "llama", f"general.architecture in {file}", architecture, "'llama'")
    tokenizer = _tokenizer(file, settings)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    config = _config(file, settings, tied="output.weight" not in stored)
    names = _names(config)
    unknown, missing = sorted(stored.keys() - names.keys()), sorted(names.keys() - stored.keys())
    require(not unknown, f"a tensor in {file}", next(iter(unknown), None), "one of a Llama without scaled rotations")
    require(not missing, f"{next(iter(missing), None)} in {file}", None, "given")
    parameters = {}
    for name, place in names.items():
        values = package.quants.dequantize(stored[name].data, stored[name].tensor_type)
        heads = {"query": config.heads, "key": config.key_heads}.get(place.split("/")[-2] if "/" in place else "")
        values = values if heads is None else _in_halves(values, heads)
        parameters[place] = (values.T if place.endswith("kernel") else values).astype(dtype)
    checkpoints.save(folder, llama.Llama(config), {"params": nested(parameters)})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")


def _config(file: Path, settings: dict[str, Any], *, tied: bool) -> llama.Config:
    for theirs in _SIZES.values():
        require(f"llama.{theirs}" in settings, f"llama.{theirs} in {file}", None, "given")
    taken = {ours: settings[f"llama.{theirs}"] for ours, theirs in _SIZES.items()}
    kind = settings.get("llama.rope.scaling.type", "none")
    require(kind == "none", f"llama.rope.scaling.type in {file}", kind, "'none': scaled rotations are not converted")
    for name, neutral in (("llama.rope.scale_linear", 1), ("llama.attention.sliding_window", 0)):
        value = settings.get(name, neutral)
        require(value == neutral, f"{name} in {file}", value, f"{neutral}: no other value is converted")
    size = settings.get("llama.attention.key_length", taken["width"] // taken["heads"])
    turned = settings.get("llama.rope.dimension_count", size)
    require(turned == size, f"llama.rope.dimension_count in {file}", turned, f"{size}, the length of a query")
    return llama.Config(
        # Settings are float32 there: 1e-5 is 9.99999975e-06.
        **taken | {"epsilon": float(f"{taken['epsilon']:.6g}")},
        key_heads=settings.get("llama.attention.head_count_kv", taken["heads"]),
        head_size=size,
        vocabulary=len(settings["tokenizer.ggml.tokens"]),
        theta=float(settings.get("llama.rope.freq_base", 1e4)),
        tied=tied,
        read_out="next",
    )


def _names(config: llama.Config) -> dict[str, str]:
    """Return the path of the parameter that each tensor is."""
    names = {"token_embd.weight": "tokens", "output_norm.weight": "norm/scale"}
    names |= {} if config.tied else {"output.weight": "head"}
    for index in range(config.depth):
        names |= {f"blk.{index}.{theirs}": f"block_{index}/{ours}" for theirs, ours in _LAYER.items()}
    return names


def _in_halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """Return rows ``[heads k, d]`` of which neighbors are rotated, with the first of each pair before all second."""
    pairs = rows.reshape(heads, -1, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _tokenizer(file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what ``tokenizer.json`` holds."""
    for name in ("tokens", "token_type", "merges"):
        require(f"tokenizer.ggml.{name}" in settings, f"tokenizer.ggml.{name} in {file}", None, "given")
    model, before = (settings.get(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
    require(model == "gpt2", f"tokenizer.ggml.model in {file}", model, "'gpt2', byte-level BPE")
    require(before in _BEFORE_MERGES, f"tokenizer.ggml.pre in {file}", before, f"one of {', '.join(_BEFORE_MERGES)}")
    tokens, kinds = settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.token_type"]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": number, "content": token, **plain, "special": kind == _CONTROL}
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _USER)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": _BEFORE_MERGES[before],
        "post_processor": None,
        "decoder": _BYTES,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in settings["tokenizer.ggml.merges"]],
        },
    }


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
