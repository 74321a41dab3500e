"""The smoke run of every experiment, once for the whole suite, whichever worker asks for it first."""

import contextlib
import dataclasses
import fcntl
import importlib
import json
import shutil

import jax
import numpy as np
import pytest

from tests.experiments.counted import counted

EXPERIMENTS = (
    "vision",
    "flatness",
    "robustness",
    "token_shifts",
    "random_recognizers",
    "recognizer_geometry",
    "trained_recognizers",
    "length_and_sharpness",
    "simplicity_bias",
    "sparse_tokens",
    "kernels",
    "language",
    "language_models",
    "grokking",
)
COUNTED = ("kernels", "sparse_tokens", "simplicity_bias", "length_and_sharpness", "grokking", "robustness", "vision")
"""Experiments whose smoke run is counted, see ``counted``."""

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [
    *SPECIAL, "a", "the", "good", "bad", "film", "plot", "was", "is", "very", "not", "it", "of", "and", "in", "cat",
    "dog", "sat", ".", ",", "mat", "##s", "##ing",
]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """A folder with a tiny BERT and its tokenizer, and a file of texts with labels."""
    tokenizers, _ = pytest.importorskip("tokenizers"), pytest.importorskip("safetensors")
    from jaxsens.models import pretrained
    from jaxsens.models.text import bert, encoder

    folder = tmp_path_factory.mktemp("model")
    rules = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    rules.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    rules.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    rules.add_special_tokens(SPECIAL)
    rules.save(str(folder / "tokenizer.json"))
    sizes = {"width": 8, "depth": 2, "heads": 2, "hidden": 16, "vocabulary": len(WORDS), "positions": 16}
    module = bert.Bert(bert.Config(**sizes, read_out="mean"))
    pretrained.save(folder, module, encoder.init(module, jax.random.key(0)))
    draws, common = np.random.default_rng(0), 1 / np.arange(1, len(WORDS) - 5)
    with (folder / "texts.jsonl").open("w") as file:
        for number in range(40):
            words = draws.choice(WORDS[4:-2], draws.integers(6, 14), p=common / common.sum())
            file.write(json.dumps({"text": " ".join(words), "label": number % 2}) + "\n")
    return {"model": str(folder), "texts": str(folder / "texts.jsonl")}


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory, tiny_bert):
    """A folder with a tiny Llama and the same tokenizer, and the same texts."""
    from jaxsens.models import pretrained
    from jaxsens.models.text import encoder, llama

    folder = tmp_path_factory.mktemp("llama")
    shutil.copy(f"{tiny_bert['model']}/tokenizer.json", folder)
    sizes = {"width": 8, "depth": 1, "heads": 2, "key_heads": 1, "head_size": 4, "hidden": 8}
    module = llama.Llama(llama.Config(**sizes, vocabulary=len(WORDS), positions=16))
    pretrained.save(folder, module, encoder.init(module, jax.random.key(0)))
    return {"model": str(folder), "texts": tiny_bert["texts"]}


@pytest.fixture(scope="session")
def smoke_config(request):
    """``smoke_config(name)``: the configuration of an experiment's smoke run."""

    def config(name):
        preset = importlib.import_module(f"experiments.{name}.experiment").PRESETS["smoke"]
        if name == "flatness":  # one architecture: compiling takes most of the time
            return dataclasses.replace(preset, architectures=("mlp",))
        if name == "robustness":
            return dataclasses.replace(preset, treatments=("regularized",))
        if name == "token_shifts":
            small = {"kinds": ("minilm",), "seeds": 1, "parts": 1}
            return dataclasses.replace(preset, **small, **request.getfixturevalue("tiny_bert"))
        if name == "language":
            return dataclasses.replace(preset, texts=request.getfixturevalue("tiny_bert")["texts"])
        if name == "language_models":
            return dataclasses.replace(preset, **request.getfixturevalue("tiny_llama"))
        return preset

    return config


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory, smoke_config, worker_id):
    """``smoke_run(name)``: the folder of an experiment's finished smoke run, to be read only."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "smoke"
    shared.mkdir(exist_ok=True)

    def run(name):
        pytest.importorskip("matplotlib")
        folder = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "comparison.csv").exists():
                with counted() if name in COUNTED else contextlib.nullcontext() as found:
                    importlib.import_module(f"experiments.{name}.experiment").execute(smoke_config(name), folder)
                if name in COUNTED:
                    (shared / f"{name}-counted.json").write_text(json.dumps(found))
        return folder

    return run
