"""Cases of the benchmark that replace tokens: recognizers, image models, a text encoder."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.benchmark.config import Config
from experiments.benchmark.peers import pytorch
from experiments.benchmark.timing import Case, Program
from jaxsens import boolean, changes, embedding_space, models, substitution
from jaxsens.execution import Execution, flops
from jaxsens.models import recognizers
from jaxsens.models.images import vit
from jaxsens.models.text import bert, encoder
from jaxsens.sensitivity import screened_token_sensitivity, token
from jaxsens.typing import Array, Key, Perturbation, PyTree, Substitute

PATCH = 4
IMAGES = 4096
"""Number of examples; each program takes as many as its time allows."""


def reverse(key: Key, draw: Array, x: Array) -> Array:
    """Replace every token by the one at the mirrored position: as random as the example, and the same for all sides."""
    del key, draw
    return x[::-1]


def flip(key: Key, draw: Array, x: Array) -> Array:
    """Flip every bit."""
    del key, draw
    return 1 - x


def drawn(config: Config) -> list[recognizers.sizes.Sizes]:
    """Return different architectures drawn from F.1's mix that are within the limit of operations, in their order."""
    mix = recognizers.sizes.drawn(
        np.random.default_rng(config.seed), layers=(2, 3, 4, 5, 6), heads=(1, 2, 4, 8), head_sizes=(16, 32, 64, 128),
        multipliers=(2, 4, 8),
    )  # fmt: skip
    within = (
        sizes
        for sizes in itertools.islice(mix, 10_000)
        if models.substitution.recognizer_operations(sizes.config(1e-5), sizes.layers, config.length)[0]
        <= config.operations
    )
    return list(itertools.islice(dict.fromkeys(within), config.recognizers))


def recognizer_flips(config: Config, sizes: recognizers.sizes.Sizes) -> Case:
    """Flip every bit of strings, one at a time."""
    module = sizes.config(1e-5)
    variables = recognizers.init(module, jax.random.key(config.seed), "xavier_normal")
    strings = np.asarray(boolean.strings.uniform(jax.random.key(config.seed + 1), IMAGES, config.length))
    shared = functools.partial(models.substitution.recognizer, module)
    plain = functools.partial(substitution.one_at_a_time, recognizers.evaluation(module))
    forward = None
    if pytorch:
        net = pytorch.recognizers.Recognizer(module, config.length)
        forward = functools.partial(net, net.parameters(variables))
    return substitutions(
        config, "recognizer", variables, strings, flip, (shared, plain), forward, published="batch_of_one"
    )


def images(config: Config, name: str) -> Case:
    """Replace every patch of images, one at a time."""
    module, variables, tokens = _image_model(config, name)
    fast = models.substitution.encoder if name == "vit" else models.substitution.convolutional
    shared = functools.partial(fast, module)
    plain = functools.partial(substitution.one_at_a_time, models.evaluation(module))
    forward = pytorch and pytorch.models.forward_of(module, variables)
    return substitutions(config, name, variables, tokens, reverse, (shared, plain), forward, published="five_masks")


def screened(config: Config) -> Case:
    """Replace every patch of images, in low precision first, with the results of float32."""
    module, variables, tokens = _image_model(config, "vit")
    halved = [dataclasses.replace(module.config, dtype="bfloat16", fused_attention=fused) for fused in (False, True)]
    programs = []
    for rows in config.rows:
        substitute = models.substitution.encoder(module, rows)
        done = flops.count(substitute, variables, tokens[0], tokens[0])
        options = {"execution": Execution(chunk=tokens.shape[1] + 1)}
        screens = {"default precision of the device": None} | {
            f"bfloat16{', fused attention' * low.fused_attention}": models.substitution.encoder(vit.ViT(low), rows)
            for low in halved
        }
        screen_with = functools.partial(screened_token_sensitivity, substitute, reverse, **options)
        ways = [("jaxsens", name, screen_with(screen=low)) for name, low in screens.items()]
        ways.append(("plain", "float32", token.token_sensitivity(substitute, reverse, **options)))
        for by, how, measure in ways:
            run = functools.partial(_predictions, measure, variables, tokens)
            programs.append(Program(by, f"{how}, blocks of {rows}", run, done.operations, tokens.shape[1], done.bytes))
    return Case("screened", "model forwards", len(tokens), 0, tuple(programs))


def _predictions(measure: Callable, variables: PyTree, tokens: np.ndarray, count: int) -> np.ndarray:
    result = measure(jax.random.key(0), variables, tokens[:count])
    return getattr(result, "measured", result).changes[:, 0].astype(np.float32)


def embeddings(config: Config) -> Case:
    """Replace every token's embedding in texts, one at a time, in an encoder that reads the class token."""
    module, variables = _text_encoder(config)
    ids = _ids(config, module, 256)
    x = np.asarray(encoder.embed(module)(variables, ids))
    shared = functools.partial(models.substitution.encoder, module, embeddings=True)
    plain = functools.partial(substitution.one_at_a_time, encoder.from_embeddings(module))
    forward = pytorch and pytorch.models.forward_of(module, variables, embeddings=True)
    return substitutions(
        config, "embeddings", variables, x, reverse, (shared, plain), forward, published="all_rows_at_once"
    )


def substitutions(
    config: Config, name: str, variables: PyTree, tokens: np.ndarray, perturbation: Perturbation,
    ours: tuple[Callable[[int], Substitute], Callable[[int], Substitute]], forward: Any, *, published: str,
) -> Case:  # fmt: skip
    """Return the case of all single-token substitutions of examples; results are the changes of the outputs."""
    length = tokens.shape[1]
    programs = []
    for by, make in zip(("jaxsens", "plain"), ours, strict=True):
        for rows, inputs in itertools.product(config.rows, config.inputs):
            substitute = make(rows)
            done = flops.count(substitute, variables, tokens[0], tokens[0])
            run = _changes(substitute, perturbation, variables, tokens, inputs)
            how = f"blocks of {rows}" + (f", {inputs} examples at once" if inputs > 1 else "")
            programs.append(Program(by, how, run, done.operations, length, done.bytes))
    plainly = flops.count(ours[1](length + 1), variables, tokens[0], tokens[0]).operations
    if forward:
        changed = np.stack([np.asarray(perturbation(None, None, x)) for x in tokens])
        inputs = (tokens.astype(np.int64), changed.astype(np.int64)) if tokens.dtype == np.int32 else (tokens, changed)
        largest = max((length + 1) * max(config.inputs), min(config.batches))
        for rows in (b for b in config.batches if b <= largest):
            programs.append(_in_batches(forward, inputs, rows, plainly, compile=config.compile))
        if config.published:
            evaluations = min(pytorch.procedures.MASKS, length) if published == "five_masks" else length
            share = (evaluations + 1) / (length + 1)
            run = getattr(pytorch.procedures, published)(forward, *inputs)
            programs.append(Program("published", published.replace("_", " "), run, share * plainly, evaluations))
    return Case(name, "model forwards", len(tokens), 1e-3, tuple(programs))


def _in_batches(
    forward: Any, inputs: tuple[np.ndarray, np.ndarray], rows: int, operations: float, *, compile: bool
) -> Program:
    """Return PyTorch's program in batches of ``rows``; with ``compile``, a compiled version is tried too."""
    length = inputs[0].shape[1]

    def compiled() -> Program:
        run = pytorch.procedures.substitutions(pytorch.tensors.compiled(forward), *inputs, rows)
        return Program("pytorch", f"compiled, batches of {rows}", run, operations, length)

    run = pytorch.procedures.substitutions(forward, *inputs, rows)
    return Program("pytorch", f"batches of {rows}", run, operations, length, refine=compiled if compile else None)


def _changes(
    substitute: Substitute, perturbation: Perturbation, variables: PyTree, tokens: np.ndarray, inputs: int
) -> Callable[[int], np.ndarray]:
    execution = Execution(chunk=inputs * (tokens.shape[1] + 1))
    measure = token.token_sensitivity(substitute, perturbation, change=changes.absolute_change, execution=execution)
    return lambda count: measure(jax.random.key(0), variables, tokens[:count]).changes[:, 0]


def shifts(config: Config) -> Case:
    """Replace every token of texts, one at a time, and take three norms of the shift of every layer's state."""
    module, variables = _text_encoder(config)
    ids, others = _ids(config, module, 64), _ids(config, module, 64, seed=1)
    plainly = flops.count(encoder.hidden_states(module), variables, ids[:1]).operations * (config.tokens + 1)
    programs = []
    for rows in config.rows:
        measure = embedding_space.embedding_shifts(encoder.hidden_states(module), execution=Execution(chunk=rows))
        programs.append(
            Program("jaxsens", f"blocks of {rows}", _shifts(measure, variables, ids, others), plainly, config.tokens)
        )
    if pytorch:
        states = pytorch.models.states_of(module, variables)
        for rows in (b for b in config.batches if b <= max(config.tokens, min(config.batches))):
            run = pytorch.procedures.shifts(states, ids.astype(np.int64), others.astype(np.int64), rows)
            programs.append(Program("pytorch", f"batches of {rows}", run, plainly, config.tokens))
        if config.published:
            run = pytorch.procedures.shifts(states, ids.astype(np.int64), others.astype(np.int64), 1)
            programs.append(Program("published", "a forward per token", run, plainly, config.tokens))
    return Case("shifts", "model forwards", len(ids), 1e-3, tuple(programs))


def _shifts(measure: Callable, variables: PyTree, ids: np.ndarray, others: np.ndarray) -> Callable[[int], np.ndarray]:
    def run(count: int) -> np.ndarray:
        result = measure(variables, ids[:count], others[:count])
        return np.stack([result.values(norm) for norm in result.norms], -1)

    return run


def _text_encoder(config: Config) -> tuple[bert.Bert, PyTree]:
    width = config.text_width
    module = bert.Bert(
        bert.Config(width=width, depth=config.text_depth, heads=12, hidden=4 * width, vocabulary=30_522, positions=512)
    )
    return module, encoder.init(module, jax.random.key(config.seed))


def _image_model(config: Config, name: str) -> tuple[Any, PyTree, np.ndarray]:
    """Return an image model, its variables and random tokens."""
    variant = {"vit": {"paper": "paper_cifar10"}}.get(name, {}).get(config.variant, config.variant)
    module = models.build(name, variant, image_shape=(config.side, config.side, 3), classes=10, patch=PATCH)
    tokens = np.random.default_rng(config.seed).normal(size=(IMAGES, *module.config.token_shape))
    return module, models.init(module, jax.random.key(config.seed)), tokens.astype(np.float32)


def _ids(config: Config, module: bert.Bert, count: int, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng([config.seed, seed])
    return draws.integers(0, module.config.vocabulary, (count, config.tokens)).astype(np.int32)
