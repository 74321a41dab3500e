"""What is compared: for each case the problem, our programs, and those of PyTorch and boofun where they are there."""

import functools
import itertools
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets

from experiments.benchmark_setting import Config
from experiments.benchmark_timing import Case, Program
from jaxsens import (
    boolean,
    changes,
    curvature,
    models,
    perturb,
    screened_sensitivity,
    sensitivity,
    sharpness,
    substitution,
    token_shifts,
    training,
    work,
)
from jaxsens.models import (
    bert,
    encoder,
    encoder_substitution,
    recognizer,
    recognizer_sizes,
    recognizer_substitution,
    windowed_substitution,
)
from jaxsens.typing import Array, Key, Perturbation, PyTree, Substitute

try:
    from experiments import benchmark_torch as peer
except ImportError:
    peer = None

PATCH = 4
IMAGES = 4096
"""Examples that there are; each program takes as many as its time allows."""


def peers() -> dict[str, str | None]:
    """Return the versions of what is compared with; None for what is not installed."""
    found = {}
    for name in ("torch", "boofun"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def reverse(key: Key, draw: Array, x: Array) -> Array:
    """Replace every token by its mirror image in the example: as random as the example, and the same for all sides."""
    del key, draw
    return x[::-1]


def flip(key: Key, draw: Array, x: Array) -> Array:
    """Flip every bit."""
    del key, draw
    return 1 - x


def cases(config: Config) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Yield the name of every case, and what makes it."""
    for name in config.cases:
        if name == "recognizers":
            for sizes in drawn(config):
                shape = "x".join(map(str, (sizes.layers, *sizes.shape)))
                yield f"recognizer-{shape}", functools.partial(recognizers, config, sizes)
        elif name in ("vit", "convmixer", "cnn", "resnet"):
            yield name, functools.partial(images, config, name)
        elif name == "cube":
            for n in config.cubes:
                yield f"cube-{n}", functools.partial(cube, config, n)
        else:
            yield name.replace("_", "-"), functools.partial(OTHERS[name], config)


def drawn(config: Config) -> list[recognizer_sizes.Sizes]:
    """Return architectures of F.1's mix that are within the limit of operations; in the order drawn, each once."""
    mix = recognizer_sizes.drawn(
        np.random.default_rng(config.seed), layers=(2, 3, 4, 5, 6), heads=(1, 2, 4, 8), head_sizes=(16, 32, 64, 128),
        multipliers=(2, 4, 8),
    )  # fmt: skip
    within = (
        sizes
        for sizes in itertools.islice(mix, 10_000)
        if recognizer_substitution.operations(sizes.config(1e-5), sizes.layers, config.length)[0] <= config.operations
    )
    return list(itertools.islice(dict.fromkeys(within), config.recognizers))


def recognizers(config: Config, sizes: recognizer_sizes.Sizes) -> Case:
    """Flip every bit of strings, one at a time."""
    module = sizes.config(1e-5)
    variables = recognizer.init(module, jax.random.key(config.seed), "xavier_normal")
    strings = np.asarray(boolean.strings.uniform(jax.random.key(config.seed + 1), IMAGES, config.length))
    shared = functools.partial(recognizer_substitution.substitute, module)
    plain = functools.partial(substitution.one_at_a_time, recognizer.evaluation(module))
    forward = None
    if peer:
        net = peer.Recognizer(module, config.length)
        forward = functools.partial(net, net.parameters(variables))
    return substitutions(
        config, "recognizer", variables, strings, flip, (shared, plain), forward, published="batch_of_one"
    )


def images(config: Config, name: str) -> Case:
    """Replace every patch of images, one at a time."""
    module, variables, tokens = _image_model(config, name)
    family = encoder_substitution if name == "vit" else windowed_substitution
    shared = functools.partial(family.substitute, module)
    plain = functools.partial(substitution.one_at_a_time, models.evaluation(module))
    forward = peer and peer.forward_of(module, variables)
    return substitutions(config, name, variables, tokens, reverse, (shared, plain), forward, published="five_masks")


def screened(config: Config) -> Case:
    """Replace every patch of images in low precision first, with the answer of float32."""
    module, variables, tokens = _image_model(config, "vit")
    programs = []
    for rows in config.rows:
        substitute = encoder_substitution.substitute(module, rows)
        done = work.count(substitute, variables, tokens[0], tokens[0])
        options = {"chunk": tokens.shape[1] + 1}
        fast = screened_sensitivity.screened_token_sensitivity(substitute, reverse, **options)
        slow = sensitivity.token_sensitivity(substitute, reverse, **options)
        for by, measure in (("jaxsens", fast), ("plain", slow)):
            run = functools.partial(_predictions, measure, variables, tokens)
            programs.append(Program(by, f"blocks of {rows}", run, done.operations, tokens.shape[1], done.bytes))
    return Case("screened", "model forwards", len(tokens), 0, tuple(programs))


def _predictions(measure: Callable, variables: PyTree, tokens: np.ndarray, count: int) -> np.ndarray:
    found = measure(jax.random.key(0), variables, tokens[:count])
    return getattr(found, "measured", found).changes[:, 0].astype(np.float32)


def embeddings(config: Config) -> Case:
    """Replace every token's embedding in texts, one at a time, in an encoder that reads the class token."""
    module, variables = _text_encoder(config)
    ids = _ids(config, module, 256)
    x = np.asarray(encoder.embed(module)(variables, ids))
    shared = functools.partial(encoder_substitution.substitute, module, embeddings=True)
    plain = functools.partial(substitution.one_at_a_time, encoder.from_embeddings(module))
    forward = peer and peer.forward_of(module, variables, embeddings=True)
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
        for rows in config.rows:
            substitute = make(rows)
            done = work.count(substitute, variables, tokens[0], tokens[0])
            run = _changes(substitute, perturbation, variables, tokens)
            programs.append(Program(by, f"blocks of {rows}", run, done.operations, length, done.bytes))
    plainly = work.count(ours[1](length + 1), variables, tokens[0], tokens[0]).operations
    if forward:
        changed = np.stack([np.asarray(perturbation(None, None, x)) for x in tokens])
        inputs = (tokens.astype(np.int64), changed.astype(np.int64)) if tokens.dtype == np.int32 else (tokens, changed)
        for rows in (b for b in config.batches if b <= max(length + 1, min(config.batches))):
            programs.append(_in_batches(forward, inputs, rows, plainly, compile=config.compile))
        if config.published:
            evaluations = min(peer.MASKS, length) if published == "five_masks" else length
            share = (evaluations + 1) / (length + 1)
            run = getattr(peer, published)(forward, *inputs)
            programs.append(Program("published", published.replace("_", " "), run, share * plainly, evaluations))
    return Case(name, "model forwards", len(tokens), 1e-3, tuple(programs))


def _in_batches(
    forward: Any, inputs: tuple[np.ndarray, np.ndarray], rows: int, operations: float, *, compile: bool
) -> Program:
    """Return PyTorch's program in batches of ``rows``, which if asked is to be compiled, too."""
    length = inputs[0].shape[1]

    def compiled() -> Program:
        run = peer.substitutions(peer.compiled(forward), *inputs, rows)
        return Program("pytorch", f"compiled, batches of {rows}", run, operations, length)

    run = peer.substitutions(forward, *inputs, rows)
    return Program("pytorch", f"batches of {rows}", run, operations, length, refine=compiled if compile else None)


def _changes(
    substitute: Substitute, perturbation: Perturbation, variables: PyTree, tokens: np.ndarray
) -> Callable[[int], np.ndarray]:
    measure = sensitivity.token_sensitivity(
        substitute, perturbation, change=changes.absolute_change, chunk=tokens.shape[1] + 1
    )
    return lambda count: measure(jax.random.key(0), variables, tokens[:count]).changes[:, 0]


def shifts(config: Config) -> Case:
    """Replace every token of texts, one at a time, and take three norms of the shift of every layer's state."""
    module, variables = _text_encoder(config)
    ids, others = _ids(config, module, 64), _ids(config, module, 64, seed=1)
    plainly = work.count(encoder.hidden_states(module), variables, ids[:1]).operations * (config.tokens + 1)
    programs = []
    for rows in config.rows:
        measure = token_shifts.embedding_shifts(encoder.hidden_states(module), chunk=rows)
        programs.append(
            Program("jaxsens", f"blocks of {rows}", _shifts(measure, variables, ids, others), plainly, config.tokens)
        )
    if peer:
        states = peer.states_of(module, variables)
        for rows in (b for b in config.batches if b <= max(config.tokens, min(config.batches))):
            run = peer.shifts(states, ids.astype(np.int64), others.astype(np.int64), rows)
            programs.append(Program("pytorch", f"batches of {rows}", run, plainly, config.tokens))
        if config.published:
            run = peer.shifts(states, ids.astype(np.int64), others.astype(np.int64), 1)
            programs.append(Program("published", "a forward per token", run, plainly, config.tokens))
    return Case("shifts", "model forwards", len(ids), 1e-3, tuple(programs))


def _shifts(measure: Callable, variables: PyTree, ids: np.ndarray, others: np.ndarray) -> Callable[[int], np.ndarray]:
    def run(count: int) -> np.ndarray:
        found = measure(variables, ids[:count], others[:count])
        return np.stack([found.values(norm) for norm in found.norms], -1)

    return run


def flatness(config: Config) -> Case:
    """Average sharpness: the rise of the loss under Gaussian noise on all weights."""
    weights, inputs, labels = _perceptron(config)
    noise = perturb.gaussian(config.deviation**2)
    most = 10_000

    def run(count: int) -> np.ndarray:
        measure = sharpness.average_sharpness(_loss, noise, draws=count, chunk=len(inputs))
        return measure(jax.random.key(config.seed), weights, (inputs, labels)).values

    plainly = work.count(_loss, weights, (inputs, labels)).operations
    programs = [Program("jaxsens", "one model at once", run, plainly, 1)]
    if peer:
        programs.append(
            Program("pytorch", "one model at once", peer.rises(weights, inputs, labels, config.deviation), plainly, 1)
        )
    return Case("sharpness", "perturbed models", most, 5, tuple(programs), statistical=True)


def eigenvalues(config: Config) -> Case:
    """The largest eigenvalues of a Hessian."""
    weights, inputs, labels = _perceptron(config)
    key = jax.random.key(config.seed)
    top = curvature.top_eigenpairs(curvature.hessian_product(_loss), config.eigenvalues, steps=config.steps)

    def run(count: int) -> np.ndarray:
        del count
        return np.asarray(top(key, weights, (inputs, labels)).values)[None]

    products = config.steps + config.eigenvalues  # with those for the residuals
    # The gradient's graph is built once; its derivative takes twice what that takes, which is three forwards.
    plainly = products * 6 * work.count(_loss, weights, (inputs, labels)).operations
    programs = [Program("jaxsens", f"{products} products", run, plainly, products)]
    if peer:
        theirs = peer.eigenvalues(weights, inputs, labels, config.eigenvalues, config.steps, jax.random.fold_in(key, 0))
        programs.append(Program("pytorch", f"{products} products", theirs, plainly, products))
    return Case("eigenvalues", "products", 1, 1e-2, tuple(programs))


def cube(config: Config, n: int) -> Case:
    """The sensitivity profile of a Boolean function, from its truth table."""
    table = np.random.default_rng(config.seed).integers(0, 2, 2**n, dtype=np.uint8).view(bool)

    def run(count: int) -> np.ndarray:
        del count
        return np.asarray(boolean.cube.profile(table))[None]

    pairs = n * 2 ** (n - 1)
    programs = [Program("jaxsens", "the whole table", run, 0.0, pairs)]
    theirs = _boofun(table, n) if config.published and n <= config.boofun else None
    if theirs:
        programs.append(Program("boofun", "the whole table", theirs, 0.0, pairs))
    return Case(f"cube-{n}", "pairs of strings", 1, 0, tuple(programs))


def _boofun(table: np.ndarray, n: int) -> Callable[[int], np.ndarray] | None:
    """Return boofun's profile, if it is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without Numba it warns
        try:
            import boofun
            from boofun.analysis import sensitivity as theirs
        except ImportError:
            return None
        function = boofun.create(table)

    def run(count: int) -> np.ndarray:
        del count
        return np.bincount(theirs.sensitivity_profile(function), minlength=n + 1)[None]

    return run


def train_many(config: Config) -> Case:
    """Train many recognizers of one size, each step on all strings."""
    layers, *shape = config.train_size
    return _training(
        config, "train-recognizers", (layers, *shape), config.models, config.train_length, config.train_strings
    )


def train_full_batch(config: Config) -> Case:
    """Train one model on a full batch as large as a grokking run's: one layer, width 128, three tokens, sums mod 113.

    The 113 symbols and logits of such a run, 2 % of its operations, are two and one here.
    """
    return _training(config, "train-full-batch", (1, 4, 32, 4), 1, 2, config.sums)


def _training(
    config: Config, name: str, size: tuple[int, int, int, int], count: int, length: int, strings: int
) -> Case:
    """Return the case of ``count`` models trained with Adam; results are their losses by epoch, items are epochs."""
    module = recognizer.Config(depth=size[0], heads=size[1], head_size=size[2], multiplier=size[3])
    keys = (jax.random.fold_in(jax.random.key(config.seed), number) for number in range(count))
    start = training.stack([recognizer.init(module, key, "xavier_normal") for key in keys])
    x = np.asarray(boolean.strings.uniform(jax.random.key(config.seed + 1), strings, length))
    y = np.random.default_rng(config.seed).integers(0, 2, strings).astype(np.float32)
    apply, rate = recognizer.training_evaluation(module), 1e-3
    members = training.Members(learning_rate=[rate] * count, batch=[strings] * count, dataset=[0] * count)

    def ours(rows: int) -> Callable[[int], np.ndarray]:
        def run(epochs: int) -> np.ndarray:
            how = training.ManyConfig(
                epochs=epochs, halve_after=None, stop_after=None, keep="last", rows=rows, checkpoint_every=epochs
            )
            trained = training.fit_many(
                jax.random.key(config.seed), apply, start, members, (x[None].astype(np.uint8), y[None]), how
            )
            return trained.history["training_loss"].T

        return run

    def loss(params: PyTree) -> Array:
        return apply(params, x).sum()

    one = jax.tree.map(lambda a: np.asarray(a[0]), start)
    plainly = count * work.count(jax.grad(loss), one).operations
    blocks = sorted({min(strings, rows) for rows in config.train_rows})
    programs = [Program("jaxsens", f"blocks of {rows}", ours(rows), plainly, count) for rows in blocks]
    if peer:
        for how, together in (("one by one", False), ("vectorised", True)) if count > 1 else (("alone", False),):
            run = peer.train_recognizers(module, start, x, y, rate, together=together)
            programs.append(Program("pytorch", how, run, plainly, count))
    return Case(name, "steps of a model", 1000, 1e-2, tuple(programs))


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


def _perceptron(config: Config) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return a tanh perceptron with random weights, and the UCI digits."""
    draws = np.random.default_rng(config.seed)
    pixels, labels = datasets.load_digits(return_X_y=True)
    weights = [draws.normal(size=s) / np.sqrt(s[0]) for s in itertools.pairwise([64, *config.hidden, 10])]
    return [w.astype(np.float32) for w in weights], (pixels / 16).astype(np.float32), labels.astype(np.int32)


def _loss(params: list[jax.Array], batch: PyTree) -> jax.Array:
    """Return the cross-entropy of every example, ``[b]``."""
    x, labels = batch
    for weight in params[:-1]:
        x = jnp.tanh(x @ weight)
    return -jnp.take_along_axis(jax.nn.log_softmax(x @ params[-1]), labels[:, None], 1)[:, 0]


OTHERS = {
    "screened": screened,
    "embeddings": embeddings,
    "shifts": shifts,
    "sharpness": flatness,
    "eigenvalues": eigenvalues,
    "train_recognizers": train_many,
    "train_full_batch": train_full_batch,
}
