r"""Check the joint training of many recognizers on this machine, then compare its speed with a plain loop over models.

    python -m experiments.benchmark.micro.recognizer_training [--out FILE.json] [--models 1,10,50]
        [--sizes 4x4x32x4x100,2x2x16x4x40] [--strings 32,512] [--rows 32] [--at-once 1,4] [--plain-rows none,32,8]
        [--repeats 3]
    python -m experiments.benchmark.micro.recognizer_training --strings 10000 --rows 128 --at-once 1,50 \
        --plain-rows none,128    # on a GPU

The check comes first: for a small architecture, losses and logits after three epochs must equal those of a plain loop,
which takes one jitted step of Adam for each batch of one model after another, to 1e-4; otherwise it stops. Then, for
each size (layers x heads x head size x multiplier x bits of a string; the first is the median of F.1 of Kövér et al.),
it measures models x epochs per second: ``fit_many`` with models mapped over (at once 1) and vectorized (at once k), and
the plain loop with its best block, in interleaved repeats. First calls, which compile, are timed separately, and must
give the plain loop's losses and logits too.

Batches are drawn as in F.2, uniform on [128, 4096], and capped at the given strings. An epoch has 10,000 strings to
learn and 1,000 to validate on; with fewer ``--strings`` (and a tenth as many to validate on) speeds are extrapolated
string by string, which counts a step of Adam and a launch for too few strings. The plain loop trains at most four
models, since the time is the same for each. On a CPU every core is a device; the plain loop uses one of them, with the
threads of all. Writes all fields as JSON and prints a short table.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsens import boolean, training
from jaxsens.execution import backends
from jaxsens.models import recognizers
from jaxsens.typing import Array, PyTree

EPOCH = 10_000
PLAIN_MODELS = 4
BATCHES = 3
"""Number of different batch sizes: the plain loop compiles for each."""

ADAM = optax.scale_by_adam()
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Job:
    """Models of one architecture to train on a random language, and how."""

    config: recognizers.Config
    length: int
    models: int
    strings: int
    rows: int | None
    at_once: int = 1
    epochs: int = 1
    smallest: int = 128
    largest: int = 4096

    @property
    def batches(self) -> list[int]:
        """Strings in a training step, for every model."""
        drawn = np.random.default_rng(0).integers(self.smallest, self.largest + 1, BATCHES)
        drawn = np.minimum(drawn, self.strings)
        return [int(drawn[number % BATCHES]) for number in range(self.models)]

    @property
    def variables(self) -> list[PyTree]:
        """The models at the start."""
        keys = (jax.random.fold_in(jax.random.key(1), number) for number in range(self.models))
        return [recognizers.init(self.config, key, "xavier_normal") for key in keys]

    def examples(self, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return strings ``[1 count n]`` and random labels ``[1 count]``."""
        strings = np.asarray(boolean.strings.uniform(jax.random.key(seed), count, self.length), np.uint8)
        return strings[None], np.random.default_rng(seed).integers(0, 2, (1, count)).astype(np.float32)

    @property
    def data(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Training and validation strings with their labels."""
        return self.examples(2, self.strings), self.examples(3, max(1, self.strings // 10))


Trained = tuple[PyTree, np.ndarray]
"""Variables of the models, and their losses while training by epoch ``[m epochs]``."""


def train_together(job: Job, start: PyTree) -> Trained:
    """Train the models with ``fit_many``."""
    data, watched = job.data
    count = job.models
    trained = training.fit_many(
        jax.random.key(0),
        recognizers.training_evaluation(job.config),
        start,
        training.Members(learning_rate=[LEARNING_RATE] * count, batch=job.batches, dataset=[0] * count),
        data,
        training.ManyConfig(
            epochs=job.epochs,
            lr_patience=None,
            patience=None,
            keep="last",
            rows=job.rows,
            models_per_device=job.at_once,
        ),
        validation=watched,
    )
    return trained.variables, trained.history["training_loss"]


def train_plainly(job: Job, start: PyTree) -> Trained:
    """Train the models one after another, a jitted step for every batch."""
    (strings, labels), watched = job.data
    watched = jax.device_put((watched[0][0], watched[1][0]))
    done, losses = [], np.zeros((job.models, job.epochs), np.float32)
    for number, batch in enumerate(job.batches):
        params = jax.device_put(jax.tree.map(lambda a, number=number: a[number], start["params"]))
        moments = ADAM.init(params)
        key = jax.random.fold_in(jax.random.key(0), number)
        for epoch in range(job.epochs):
            total = 0.0
            order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), job.strings))
            for first in range(0, job.strings, batch):
                index = order[first : first + batch]
                params, moments, loss = step(job.config, job.rows, params, moments, strings[0, index], labels[0, index])
                total += loss * (len(index) / job.strings)  # on the device: nothing waits for it
            losses[number, epoch] = total
            jax.block_until_ready(score(job.config, job.rows, params, *watched))
        done.append(jax.device_get(params))
    return {"params": training.stack(done)}, losses


def summed(config: recognizers.Config, params: PyTree, strings: Array, labels: Array, weights: Array) -> Array:
    """Return the weighted sum of cross-entropies."""
    with jax.default_matmul_precision("highest"):
        logits = recognizers.training_evaluation(config)({"params": params}, strings)
    return (weights * optax.sigmoid_binary_cross_entropy(logits, labels)).sum()


def blocks(rows: int | None, strings: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Cut examples into blocks, the last one padded with examples of weight 0; weights sum to 1."""
    count = len(strings)
    rows = min(rows or count, count)
    index = jnp.arange(-(-count // rows) * rows).reshape(-1, rows)
    return strings[index % count], labels[index % count], jnp.where(index < count, 1 / count, 0)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def step(
    config: recognizers.Config, rows: int | None, params: PyTree, moments: PyTree, strings: Array, labels: Array
) -> tuple[PyTree, PyTree, Array]:
    """Take one step of Adam on a batch, whose gradient is summed over blocks."""

    def add(total: tuple[Array, PyTree], block: tuple[Array, Array, Array]) -> tuple[tuple[Array, PyTree], None]:
        terms = jax.value_and_grad(partial(summed, config))(params, *block)
        return jax.tree.map(jnp.add, total, terms), None

    zeros = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
    (loss, gradient), _ = jax.lax.scan(add, zeros, blocks(rows, strings, labels))
    updates, moments = ADAM.update(gradient, moments)
    return jax.tree.map(lambda p, u: p - LEARNING_RATE * u, params, updates), moments, loss


@partial(jax.jit, static_argnums=(0, 1))
def score(config: recognizers.Config, rows: int | None, params: PyTree, strings: Array, labels: Array) -> Array:
    """Return the mean loss."""
    return jax.lax.map(lambda block: summed(config, params, *block), blocks(rows, strings, labels)).sum()


def agree(job: Job, plain: Trained, trained: Trained, what: str) -> float:
    """Return the largest difference of losses and logits from the plain loop's, or stop."""
    count = len(plain[1])
    probes = job.examples(4, 16)[0][0]
    logits = [
        np.stack(
            [recognizers.evaluation(job.config)(jax.tree.map(lambda a, i=i: a[i], v), probes) for i in range(count)]
        )
        for v in (plain[0], trained[0])
    ]
    off = max(float(np.abs(a - b).max()) for a, b in ((plain[1], trained[1][:count]), logits))
    if not off < 1e-4:
        sys.exit(f"WRONG: {what}: losses or logits are off the plain loop's by {off:.1e}")
    return off


def check() -> None:
    """Stop unless models that are trained together equal those that are trained alone."""
    config = recognizers.Config(depth=2, heads=2, head_size=8, multiplier=2)
    job = Job(config, length=16, models=2, strings=100, rows=32, epochs=3, smallest=20, largest=70)
    start = training.stack(job.variables)
    plain = train_plainly(job, start)
    for at_once in (1, 2):
        off = agree(job, plain, train_together(replace(job, at_once=at_once), start), f"at once {at_once}")
        print(f"at once {at_once}: losses and logits after 3 epochs equal the plain loop's to {off:.1e}", flush=True)


def seconds(train: Any, job: Job, start: PyTree) -> tuple[float, Trained]:
    """Return the seconds of a training, and its result."""
    before = time.perf_counter()
    trained = train(job, start)
    return time.perf_counter() - before, trained


def measure(size: str, strings: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one architecture: a row for each number of models and way of training."""
    depth, heads, head_size, multiplier, length = map(int, size.split("x"))
    config = recognizers.Config(depth=depth, heads=heads, head_size=head_size, multiplier=multiplier)
    most = max(options.models)
    job = Job(config, length, most, strings, None)
    start = training.stack(job.variables)
    ways: list[tuple[str, Any, Job]] = []
    plain = replace(job, models=min(PLAIN_MODELS, most))
    trials = {}
    for rows in options.plain_rows:
        first = seconds(train_plainly, replace(plain, rows=rows), start)[0]
        trials[rows] = (seconds(train_plainly, replace(plain, rows=rows), start)[0], first)
    best = min(trials, key=trials.get)
    plain = replace(plain, rows=best)
    ways.append(("plain loop", train_plainly, plain))
    for models in options.models:
        for at_once in sorted({min(models, k) for k in options.at_once}):
            ways.append(("together", train_together, replace(job, models=models, rows=options.rows, at_once=at_once)))
    expected = train_plainly(plain, start)
    results = []
    for name, train, variant in ways:
        members = jax.tree.map(lambda a, variant=variant: a[: variant.models], start)
        first, trained = seconds(train, variant, members)
        if train is train_together:
            few = min(variant.models, plain.models)
            shown = (jax.tree.map(lambda a, few=few: a[:few], expected[0]), expected[1][:few])
            agree(variant, shown, trained, f"{size}, {variant.models} models, at once {variant.at_once}")
        first = trials[best][1] if train is train_plainly else first
        results.append({"way": name, "train": train, "job": variant, "members": members, "first": first, "times": []})
    for _ in range(options.repeats):  # interleaved, so that a drift of the machine affects all
        for row in results:
            row["times"].append(seconds(row["train"], row["job"], row["members"])[0])
    base = [t / plain.models for t in results[0]["times"]]
    table = []
    for row in results:
        variant, times = row["job"], row["times"]
        speeds = [variant.models * variant.strings / (EPOCH * t) for t in times]
        ratios = [alone * variant.models / t for alone, t in zip(base, times, strict=True)]
        table.append(
            {
                "size": size, "way": row["way"], "models": variant.models, "at_once": variant.at_once,
                "rows": variant.rows, "strings": variant.strings, "batches": sorted(set(variant.batches)),
                "first_call_seconds": row["first"], "seconds": statistics.median(times),
                "model_epochs_per_second": statistics.median(speeds), "lowest": min(speeds), "highest": max(speeds),
                "over_plain": statistics.median(ratios), "over_plain_lowest": min(ratios),
                "over_plain_highest": max(ratios), "peak_bytes": peak_bytes(),
            }
        )  # fmt: skip
        print(line(table[-1]), flush=True)
    return table


def line(row: dict[str, Any]) -> str:
    """Return a row as a line for the screen."""
    how = f"at once {row['at_once']:<3}" if row["way"] == "together" else "one by one "
    return (
        f"{row['size']:15} {row['way']:10} {row['models']:3} models, {how} blocks of {row['rows'] or 'all':>4}: "
        f"{row['model_epochs_per_second']:.4g} models x epochs/s [{row['lowest']:.4g}, {row['highest']:.4g}], "
        f"{row['over_plain']:.2f}x the plain loop [{row['over_plain_lowest']:.2f}, {row['over_plain_highest']:.2f}], "
        f"first call {row['first_call_seconds']:.0f} s"
    )


def peak_bytes() -> int:
    """Return the peak memory so far: of the device where it is reported, else of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def main() -> None:
    """Check, measure, print and store."""

    def numbers(text: str) -> list[int]:
        return [int(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("recognizer_training.json"))
    parser.add_argument("--models", type=numbers, default=[1, 10, 50], help="how many to train together")
    parser.add_argument("--sizes", default="4x4x32x4x100,2x2x16x4x40")
    parser.add_argument(
        "--strings", type=numbers, default=[32, 512], help="of an epoch, which has 10,000; for each size, or for all"
    )
    parser.add_argument("--rows", type=int, default=32, help="strings in a block, for models at once")
    parser.add_argument("--at-once", type=numbers, default=[1, 4], help="models in lockstep on a device")
    parser.add_argument(
        "--plain-rows", type=lambda text: [None if w == "none" else int(w) for w in text.split(",")],
        default=[None, 32, 8], help="blocks to choose from for the plain loop; none for the whole batch",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sizes = options.sizes.split(",")
    if len(options.strings) not in (1, len(sizes)):
        parser.error(f"--strings {options.strings}: give one number, or one for each of the {len(sizes)} sizes")
    backends.use_every_core()
    check()
    table = []
    for number, size in enumerate(sizes):
        strings = options.strings[number % len(options.strings)]
        print(f"{size}: epochs of {strings} strings, extrapolated to epochs of {EPOCH:,}", flush=True)
        table += measure(size, strings, options)
    device = backends.describe_devices() | {"jax": jax.__version__, "optax": optax.__version__}
    options.out.write_text(json.dumps({"device": device, "rows": table}, indent=1) + "\n")
    print(f"{device} -> {options.out}")


if __name__ == "__main__":
    main()
