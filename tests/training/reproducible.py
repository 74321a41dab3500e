"""Train a small encoder and two small recognizers, and print digests of weights: started by test_reproducible.py.

The products over 64 examples of 16 tokens are long enough for XLA to cut them by the number of threads.
"""

import hashlib
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import execution, training
from jaxsens.models import recognizers

WIDTH, LENGTH, COUNT = 48, 16, 128


def encoder(variables, tokens, key):
    """One attention layer and one perceptron, with logits of three classes."""
    weights = variables["params"]
    states = tokens @ weights["tokens"]
    scores = states @ weights["scores"] @ jnp.swapaxes(states, 1, 2) / 7
    states = states + jax.nn.softmax(scores) @ states
    states = states + jax.nn.gelu(states @ weights["up"]) @ weights["down"]
    return states.mean(1) @ weights["classes"], variables


def digest(tree):
    leaves = [np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
    return hashlib.sha256(b"".join(leaves)).hexdigest()[:12]


def one_model(parts, reproducible):
    rng = np.random.default_rng(0)
    shapes = {
        "tokens": (8, WIDTH), "scores": (WIDTH, WIDTH), "up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH),
        "classes": (WIDTH, 3),
    }  # fmt: skip
    params = {name: np.float32(rng.normal(size=shape) / 4) for name, shape in shapes.items()}
    tokens = np.float32(rng.normal(size=(COUNT, LENGTH, 8)))
    config = training.Config(epochs=2, batch=64, parts=parts, learning_rate=0.01, reproducible=reproducible)
    return training.fit(
        jax.random.key(0), encoder, {"params": params}, tokens, rng.integers(0, 3, COUNT), config
    )


def many_models(reproducible):
    sizes = recognizers.Config(depth=1, heads=2, head_size=16)
    models = training.stack([recognizers.init(sizes, jax.random.key(i), "xavier_normal") for i in range(3)])
    strings = np.random.default_rng(1).integers(0, 2, (1, 64, 16))
    members = training.Members(learning_rate=[0.01] * 3, batch=[64, 32, 64], dataset=[0] * 3)
    config = training.ManyConfig(epochs=3, rows=64, keep="last", patience=None, reproducible=reproducible)
    data = strings, strings[..., :3].sum(-1) % 2
    return training.fit_many(
        jax.random.key(0), recognizers.training_evaluation(sizes), models, members, data, config
    ).variables


if __name__ == "__main__":
    threads = int(sys.argv[1])
    if threads:
        execution.fix_cpu_threads(threads)
    found = {f"fit, {parts} parts": digest(one_model(parts, threads > 0)) for parts in (1, 4)}
    found["fit_many"] = digest(many_models(threads > 0))
    print(json.dumps({"devices": jax.local_device_count()} | found))
