"""Train a small classifier and two small recognizers, and print digests of weights: started by test_reproducible.py.

The products over 64 examples of 16 tokens are long enough for XLA to cut them by the number of threads.
"""

import hashlib
import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import execution, training

WIDTH, LENGTH, COUNT = 48, 16, 128


def logits(weights, tokens):
    """One attention layer and one perceptron, with logits of three classes."""
    states = tokens @ weights["tokens"]
    scores = states @ weights["scores"] @ jnp.swapaxes(states, 1, 2) / 7
    states = states + jax.nn.softmax(scores) @ states
    states = states + jax.nn.gelu(states @ weights["up"]) @ weights["down"]
    return states.mean(1) @ weights["classes"]


def classifier(variables, tokens, key):
    return logits(variables["params"], tokens), variables


def recognizer(variables, strings, mask=None):
    tokens = strings.astype(jnp.float32)[..., None] * jnp.arange(8.0) / 8
    return logits(variables["params"], tokens)[:, 0]


def weights(rng):
    shapes = {
        "tokens": (8, WIDTH), "scores": (WIDTH, WIDTH), "up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH),
        "classes": (WIDTH, 3),
    }  # fmt: skip
    return {"params": {name: np.float32(rng.normal(size=shape) / 4) for name, shape in shapes.items()}}


def digest(tree):
    leaves = [np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
    return hashlib.sha256(b"".join(leaves)).hexdigest()[:12]


def one_model(reproducible):
    rng = np.random.default_rng(0)
    tokens = np.float32(rng.normal(size=(COUNT, LENGTH, 8)))
    config = training.Config(epochs=1, batch=64, parts=2, learning_rate=0.01, reproducible=reproducible)
    return training.fit(jax.random.key(0), classifier, weights(rng), tokens, rng.integers(0, 3, COUNT), config)


def many_models(reproducible):
    rng = np.random.default_rng(1)
    strings = rng.integers(0, 2, (1, COUNT, LENGTH))
    members = training.Members(learning_rate=[0.01] * 2, batch=[64, 32], dataset=[0] * 2)
    config = training.ManyConfig(epochs=1, rows=64, keep="last", patience=None, reproducible=reproducible)
    data = strings, strings[..., :3].sum(-1) % 2
    models = training.stack([weights(rng), weights(rng)])
    return training.fit_many(jax.random.key(0), recognizer, models, members, data, config).variables


if __name__ == "__main__":
    threads, cores = int(sys.argv[1]), int(sys.argv[2])
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    if threads:
        execution.fix_cpu_threads(threads)
    found = {"fit": digest(one_model(threads > 0)), "fit_many": digest(many_models(threads > 0))}
    print(json.dumps(found | {"devices": jax.local_device_count()}))
