"""A tanh perceptron with random weights on the UCI digits: the problem of the cases on the loss surface."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets

from jaxsens.typing import PyTree

Problem = tuple[list[np.ndarray], np.ndarray, np.ndarray]
"""Weights of the layers, inputs ``[b 64]``, labels ``[b]``."""


def problem(hidden: tuple[int, ...], seed: int = 0) -> Problem:
    """Return the weights of hidden layers of these widths and of the read-out, and the digits."""
    draws = np.random.default_rng(seed)
    pixels, labels = datasets.load_digits(return_X_y=True)
    weights = [draws.normal(size=shape) / np.sqrt(shape[0]) for shape in itertools.pairwise([64, *hidden, 10])]
    return [w.astype(np.float32) for w in weights], (pixels / 16).astype(np.float32), labels.astype(np.int32)


def loss(params: list[jax.Array], batch: PyTree) -> jax.Array:
    """Return the cross-entropy of every example, ``[b]``."""
    x, labels = batch
    for weight in params[:-1]:
        x = jnp.tanh(x @ weight)
    return -jnp.take_along_axis(jax.nn.log_softmax(x @ params[-1]), labels[:, None], 1)[:, 0]
