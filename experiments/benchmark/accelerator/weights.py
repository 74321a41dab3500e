"""Cases that move weights: training many recognizers, eigenpairs of a Hessian, average sharpness."""

import functools
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.accelerator import ways
from experiments.benchmark.accelerator.sizes import Sizes
from experiments.benchmark.accelerator.smoothness import batches_of
from experiments.benchmark.accelerator.ways import Case, Run, Way
from experiments.benchmark.peers import pytorch
from jaxsens import curvature, perturb, sharpness, training
from jaxsens.execution import Execution, flops
from jaxsens.execution.flops import Work
from jaxsens.models import recognizers
from jaxsens.typing import Array, PyTree

__all__ = ["loss_surface", "trainings"]

RATE = 1e-3
DEVIATION = 0.01


def trainings(sizes: Sizes, seed: int) -> Iterator[Case]:
    """Yield (e): ``fit_many`` with all models at once, for several numbers of models."""
    (depth, heads, head_size, multiplier), length, count, batch, epochs = sizes.training
    config = recognizers.Config(depth=depth, heads=heads, head_size=head_size, multiplier=multiplier)
    draws = np.random.default_rng([seed, 13])
    strings = draws.integers(0, 2, (count, length)).astype(np.uint8)
    labels = draws.integers(0, 2, count).astype(np.float32)
    key, apply = jax.random.key(seed), recognizers.training_evaluation(config)

    def losses_of(start: PyTree, models: int, at_once: int) -> Run:
        members = training.Members(learning_rate=[RATE] * models, batch=[batch] * models, dataset=[0] * models)
        how = training.ManyConfig(
            epochs=epochs, lr_patience=None, patience=None, keep="last", rows=batch, models_per_device=at_once
        )

        def run() -> np.ndarray:
            programs = training.fit_many(key, apply, start, members, (strings[None], labels[None]), how)
            return programs.history["training_loss"]

        return run

    def counted(start: PyTree, models: int) -> Work:
        member = {"params": jax.tree.map(lambda a: a[0], start["params"])}

        def loss(variables: PyTree) -> Array:
            return apply(variables, strings[:batch].astype(np.int32)).sum()

        step, score = flops.count(jax.grad(loss), member), flops.count(loss, member)
        times = models * epochs * (count // batch)
        return Work(*(times * (a + b) for a, b in zip(step, score, strict=True)))

    for models in sizes.models:

        def made(models: int = models) -> list[Way]:
            keys = (jax.random.fold_in(jax.random.key(seed), number) for number in range(models))
            start = training.stack([recognizers.init(config, k, "xavier_normal") for k in keys])
            count_work = functools.cache(functools.partial(counted, start, models))
            programs = [
                Way(f"at once {at_once}", "jaxsens", ways.ahead(losses_of(start, models, at_once)), count_work)
                for at_once in dict.fromkeys((models, 1))
            ]
            if pytorch and models in (min(sizes.models), max(sizes.models)):
                notes: list[str] = []
                make = functools.partial(peer, start, models, notes)
                programs.append(Way("pytorch float32", "pytorch", make, count_work, tolerance=1e-2, notes=notes))
            return programs

        def peer(start: PyTree, models: int, notes: list[str]) -> Run:
            orders = [
                list(itertools.chain(*(batches_of(key, m, epoch, count, batch) for epoch in range(epochs))))
                for m in range(models)
            ]
            steps = np.swapaxes(np.asarray(orders), 0, 1)
            run = pytorch.recognizers.train_in_batches(
                config, start, strings.astype(np.int64), labels, steps, RATE, notes
            )
            return lambda: run().reshape(epochs, -1, models).mean(1).T

        steps = models * epochs * (count // batch)
        yield Case(f"e. fit_many, {models} models", "steps of a model", steps, made, ways.norm_of_difference)


def _loss(params: list[jax.Array], batch: PyTree) -> jax.Array:
    """Return the cross-entropy ``[b]`` of a tanh perceptron."""
    x, labels = batch
    for weight in params[:-1]:
        x = jnp.tanh(x @ weight)
    return -jnp.take_along_axis(jax.nn.log_softmax(x @ params[-1]), labels[:, None], 1)[:, 0]


def loss_surface(sizes: Sizes, seed: int) -> Iterator[Case]:
    """Yield (h): the top eigenpairs of a perceptron's Hessian, and its average sharpness."""
    draws = np.random.default_rng([seed, 14])
    widths = [64, *sizes.hidden, 10]
    weights = [(draws.normal(size=s) / np.sqrt(s[0])).astype(np.float32) for s in itertools.pairwise(widths)]
    batch = (
        draws.normal(size=(sizes.examples, 64)).astype(np.float32),
        draws.integers(0, 10, sizes.examples).astype(np.int32),
    )
    key, (pairs, steps) = jax.random.key(seed), sizes.eigenpairs
    together = 10

    def forwards(times: int) -> Work:
        once = flops.count(_loss, weights, batch)
        return Work(times * once.operations, times * once.bytes)

    def eigenpairs() -> list[Way]:
        top = curvature.top_eigenpairs(curvature.hessian_product(_loss), pairs, steps=steps)
        # A product is twice a gradient, which is three forwards.
        programs = [
            Way("Lanczos", "jaxsens", _after(lambda: top(key, weights, batch).values), lambda: forwards(6 * products))
        ]
        if pytorch:
            notes: list[str] = []

            def make() -> Run:
                surface = pytorch.loss_surface.LossSurface(weights, *batch)
                start = pytorch.tensors.tensor(jax.random.normal(jax.random.fold_in(key, 0), (surface.size,)))
                product = surface.strongest_product(notes)
                return lambda: surface.top_eigenpairs(pairs, steps, start, product)[0].cpu().numpy()

            programs.append(
                Way("pytorch float32", "pytorch", make, lambda: forwards(6 * products), tolerance=1e-2, notes=notes)
            )
        return programs

    def average() -> list[Way]:
        noise = perturb.gaussian(DEVIATION**2)
        measure = sharpness.average_sharpness(
            _loss, noise, draws=sizes.draws, execution=Execution(chunk=together * sizes.examples)
        )
        make = ways.ahead(lambda: measure(key, weights, batch).values)
        programs = [Way("as the budget allows", "jaxsens", make, lambda: forwards(sizes.draws), tolerance=5)]
        if pytorch:
            notes: list[str] = []

            def theirs() -> Run:
                surface = pytorch.loss_surface.LossSurface(weights, *batch)
                run = surface.strongest_rises(DEVIATION, together, notes)
                return lambda: run(sizes.draws).cpu().numpy()

            count_work = functools.partial(forwards, sizes.draws)
            programs.append(Way("pytorch float32", "pytorch", theirs, count_work, tolerance=5, notes=notes))
        return programs

    products = steps + pairs
    yield Case("h. eigenpairs", "products", products, eigenpairs, ways.norm_of_difference)
    yield Case("h. average sharpness", "perturbed models", sizes.draws, average, ways.standard_errors)


def _after(run: Run) -> Callable[[], Run]:
    """Return what runs once, so that all is compiled, and returns ``run``."""

    def make() -> Run:
        run()
        return run

    return make
