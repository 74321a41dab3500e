"""What tests of several processes run: a small run, and a small training, in one process or under scripts/launch."""

import argparse
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments import harness
from jaxsens.execution import Execution, parallel, processes


@dataclass(frozen=True)
class Config:
    seed: int = 0


def noisy_network(item, weights, key):
    """A function whose rounding depends on batching: products, a softmax, noise from its own key."""
    index, x = item
    x = x + jax.random.normal(jax.random.fold_in(key, index), x.shape)
    scores = jax.nn.softmax(x @ weights @ x.T / 16)
    return {"out": jnp.tanh(scores @ x), "total": x.sum(), "event": x[0, 0] > 0}


def measured(number):
    """Units of 1, 13 and 25 items, in chunks of 4: with one unit, most processes have nothing to compute."""
    rng = np.random.default_rng(number)
    count = 1 + 12 * number
    items = np.arange(count, dtype=np.uint32), rng.normal(size=(count, 5, 16)).astype(np.float32)
    weights = rng.normal(size=(16, 16)).astype(np.float32)
    return parallel.map_items(noisy_network, items, weights, jax.random.key(number), execution=Execution(chunk=4))


def run(folder, kill=None, fail=None):
    """Write a run of three units; process ``kill`` dies in the second, or the first process fails there."""
    rows, computed, seen = [], [], []

    def compute(number):
        if number == 1 and jax.process_index() == kill:
            print(f"process {kill} is about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 1 and fail == "exit" and processes.is_first():
            raise ZeroDivisionError("in the first process alone")
        computed.append(f"unit{number}")
        # What differs between processes is what the first one says.
        return measured(number) | {"place": jax.process_index()}

    with harness.Run.open(folder, Config(), experiment="several") as opened:
        for number in range(3):
            if number == 1 and fail == "disk" and processes.is_first():
                (folder / "units").rename(folder / "gone")
            found = opened.unit(f"unit{number}", lambda number=number: compute(number))
            seen.append({name: np.asarray(value).tolist() for name, value in found.items()})
            rows.append({"unit": number, "mean": found["out"].mean(), "place": found["place"]})
        opened.table("results", rows)
    print("computed", *computed)
    folder.with_name(f"{folder.name}-seen-{jax.process_index()}").write_text(repr(seen))
    return folder


def train(folder, kill=None):
    """Train for four epochs with a checkpoint after each; process ``kill`` dies after the second."""
    from jaxsens import models, training

    rng = np.random.default_rng(0)
    tokens, labels = rng.normal(size=(60, 4, 4)).astype(np.float32), rng.integers(0, 3, 60)
    module = models.build("mlp", "small", image_shape=(4, 4, 1), classes=3, patch=2)
    begun = []

    def after_epoch(epoch, _):
        begun.append(epoch)
        if epoch == 2 and jax.process_index() == kill and len(begun) > 1:
            os.kill(os.getpid(), signal.SIGKILL)

    variables, _ = training.fit(
        jax.random.key(1), models.train_apply(module), models.init(module, jax.random.key(0)), tokens, labels,
        training.Config(epochs=4, batch=20), after_epoch=after_epoch, checkpoint=folder,
    )  # fmt: skip
    print("went on from epoch", begun[0])
    if processes.is_first():
        (folder / "weights").write_bytes(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(variables)))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill", type=int)
    parser.add_argument("--fail")
    parser.add_argument("--train", action="store_true")
    options = parser.parse_args()
    processes.join()
    assert jax.process_count() == int(os.environ["JAXSENS_PROCESSES"])
    if options.train:
        train(options.folder, options.kill)
    else:
        run(options.folder, options.kill, options.fail)
    sys.exit(0)
