"""Cases of the benchmark that train recognizers: many together, and one on a full batch."""

from collections.abc import Callable

import jax
import numpy as np

from experiments.benchmark.config import Config
from experiments.benchmark.peers import pytorch
from experiments.benchmark.timing import Case, Program
from jaxsens import boolean, training
from jaxsens.execution import flops
from jaxsens.models import recognizers
from jaxsens.typing import Array, PyTree


def many(config: Config) -> Case:
    """Train many recognizers of one size, each step on all strings."""
    layers, *shape = config.train_size
    return _training(
        config, "train-recognizers", (layers, *shape), config.models, config.train_length, config.train_strings
    )


def full_batch(config: Config) -> Case:
    """Train one model on a full batch as large as a grokking run's: one layer, width 128, three tokens, sums mod 113.

    The 113 symbols and logits of such a run, 2 % of its operations, are two and one here.
    """
    return _training(config, "train-full-batch", (1, 4, 32, 4), 1, 2, config.sums)


def _training(
    config: Config, name: str, size: tuple[int, int, int, int], count: int, length: int, strings: int
) -> Case:
    """Return the case of ``count`` models trained with Adam; results are their losses by epoch, items are epochs."""
    module = recognizers.Config(depth=size[0], heads=size[1], head_size=size[2], multiplier=size[3])
    keys = (jax.random.fold_in(jax.random.key(config.seed), number) for number in range(count))
    start = training.stack([recognizers.init(module, key, "xavier_normal") for key in keys])
    x = np.asarray(boolean.strings.uniform(jax.random.key(config.seed + 1), strings, length))
    y = np.random.default_rng(config.seed).integers(0, 2, strings).astype(np.float32)
    apply, rate = recognizers.training_evaluation(module), 1e-3
    members = training.Members(learning_rate=[rate] * count, batch=[strings] * count, dataset=[0] * count)

    def ours(rows: int) -> Callable[[int], np.ndarray]:
        def run(epochs: int) -> np.ndarray:
            how = training.ManyConfig(
                epochs=epochs, lr_patience=None, patience=None, keep="last", rows=rows, checkpoint_every=epochs
            )
            trained = training.fit_many(
                jax.random.key(config.seed), apply, start, members, (x[None].astype(np.uint8), y[None]), how
            )
            return trained.history["training_loss"].T

        return run

    def loss(params: PyTree) -> Array:
        return apply(params, x).sum()

    member = jax.tree.map(lambda a: np.asarray(a[0]), start)
    plainly = count * flops.count(jax.grad(loss), member).operations
    blocks = sorted({min(strings, rows) for rows in config.train_rows})
    programs = [Program("jaxsens", f"blocks of {rows}", ours(rows), plainly, count) for rows in blocks]
    if pytorch:
        for how, together in (("one by one", False), ("vectorized", True)) if count > 1 else (("alone", False),):
            run = pytorch.recognizers.train(module, start, x, y, rate, together=together)
            programs.append(Program("pytorch", how, run, plainly, count))
    return Case(name, "steps of a model", 1000, 1e-2, tuple(programs))
