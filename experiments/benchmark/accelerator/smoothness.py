"""Checks of all but token sensitivity: curvature, sharpness, training, truth tables, nearest rows."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmark.accelerator import truth
from experiments.benchmark.accelerator.ways import norm_of_difference
from jaxsens import boolean, curvature, embedding_space, sharpness, training
from jaxsens.models import recognizers
from jaxsens.sharpness import classification, worst_case
from jaxsens.typing import Array, Key, PyTree

__all__ = ["batches_of", "checks"]

Rows = Iterator[dict[str, Any]]


def checks(seed: int) -> list[tuple[str, Callable[[], Rows]]]:
    """Return the name of every check, and what does it."""
    return [
        ("curvature", lambda: _curvature(seed)),
        ("sharpness", lambda: _sharpness(seed)),
        ("fit_many", lambda: _training(seed)),
        ("truth tables", lambda: _truth_tables(seed)),
        ("nearest rows", lambda: _nearest(seed)),
    ]


def _row(
    what: str, exact: np.ndarray, result: np.ndarray, again: np.ndarray | None = None, limit: float = 1e-3
) -> dict:
    """Return a row: how far an answer is off, and whether a second run gave the same bits."""
    row = {"what": what, "error": norm_of_difference(np.asarray(exact), np.asarray(result)), "tolerance": limit}
    return row if again is None else row | {"same_bits": np.array_equal(result, again)}


def _perceptron(seed: int) -> tuple[PyTree, tuple[np.ndarray, np.ndarray]]:
    draws = np.random.default_rng([seed, 5])
    params = {"a": draws.normal(size=(6, 8)), "b": draws.normal(size=(8, 3))}
    inputs, labels = draws.normal(size=(20, 6)).astype(np.float32), draws.integers(0, 3, 20).astype(np.int32)
    return jax.tree.map(lambda a: a.astype(np.float32), params), (inputs, labels)


def _apply(params: PyTree, x: Array) -> Array:
    return jnp.tanh(x @ params["a"]) @ params["b"]


_LOSS = classification.CrossEntropy(_apply)


def _flat_loss(vector: Array, batch: PyTree) -> Array:
    """Return the losses ``[b]`` as a function of all weights in one vector."""
    return _LOSS({"a": vector[:48].reshape(6, 8), "b": vector[48:].reshape(8, 3)}, batch)


def _curvature(seed: int) -> Rows:
    params, batch = _perceptron(seed)
    vector = np.concatenate([params["a"].ravel(), params["b"].ravel()])
    direction = np.random.default_rng([seed, 6]).normal(size=vector.size).astype(np.float32)
    with truth.on_cpu_in_float64():
        wide, wide_batch = truth.widened((vector, batch))
        hessian = np.asarray(jax.jit(jax.hessian(lambda v: _flat_loss(v, wide_batch).mean()))(wide))
        slopes = np.asarray(jax.jit(jax.jacobian(lambda v: _flat_loss(v, wide_batch)))(wide))
    split = direction[:48].reshape(6, 8), direction[48:].reshape(8, 3)
    for name, product, matrix in (
        ("Hessian", curvature.hessian_product(_LOSS), hessian),
        ("Fisher matrix", curvature.fisher_product(_LOSS), slopes.T @ slopes / len(slopes)),
    ):
        first, again = (np.concatenate([np.ravel(p) for p in product(params, batch, split)]) for _ in range(2))
        yield _row(f"product with the {name}", matrix @ direction.astype(np.float64), first, again)
    product = curvature.hessian_product(_LOSS)
    key = jax.random.key(seed)
    first, again = (curvature.top_eigenpairs(product, 3, steps=40)(key, params, batch).values for _ in range(2))
    yield _row("top eigenvalues", np.linalg.eigvalsh(hessian)[::-1][:3], first, again)
    exact = curvature.xtrace(product, probes=40)(key, params, batch)
    yield _row("trace", np.trace(hessian), exact.mean)


def _shifted(key: Key, draw: Array, weights: PyTree) -> PyTree:
    """Move weights by the same numbers in every precision."""
    del key

    def moved(w: Array) -> Array:
        return w + (0.1 * jnp.cos(0.7 * jnp.arange(w.size) + draw)).reshape(w.shape).astype(w.dtype)

    return jax.tree.map(moved, weights)


def _sharpness(seed: int) -> Rows:
    params, batch = _perceptron(seed)
    key = jax.random.key(seed)
    average = sharpness.average_sharpness(_LOSS, _shifted, draws=5)
    first, again = (average(key, params, batch).values for _ in range(2))
    with truth.on_cpu_in_float64():
        wide, wide_batch = truth.widened((params, batch))
        rise = jax.jit(lambda draw: (_LOSS(_shifted(None, draw, wide), wide_batch) - _LOSS(wide, wide_batch)).mean())
        exact = np.asarray([rise(draw) for draw in range(5)])
    yield _row("average", exact, first, again)
    # Of a linear loss the largest rise in a ball is the radius times the length of the mean input.
    inputs = batch[0]
    worst = worst_case.worst_case_sharpness(lambda w, x: x @ w, 0.5, norm="l2", iterations=20)
    risen = worst(key, np.ones(6, np.float32), inputs)
    yield _row("worst case", 0.5 * np.linalg.norm(inputs.astype(np.float64).mean(0)), np.mean(risen.mean), limit=1e-2)


def batches_of(key: Key, member: int, epoch: int, count: int, batch: int) -> list[np.ndarray]:
    """Return the numbers of the examples in each step of a member's epoch in ``fit_many``, keyed by one key."""
    of_epoch = jax.random.fold_in(jax.random.fold_in(key, member), epoch)
    order = np.asarray(jax.random.permutation(of_epoch, count))
    return [order[start : start + batch] for start in range(0, count, batch)]


def _training(seed: int) -> Rows:
    config = recognizers.Config(depth=2, heads=2, head_size=4, multiplier=2)
    draws = np.random.default_rng([seed, 7])
    strings, labels = draws.integers(0, 2, (40, 10)), draws.integers(0, 2, 40).astype(np.float32)
    key, count, epochs, batch, rate = jax.random.key(seed), 3, 2, 16, 1e-3
    start = training.stack([recognizers.init(config, k, "xavier_normal") for k in jax.random.split(key, count)])
    apply = recognizers.training_evaluation(config)
    members = training.Members(learning_rate=[rate] * count, batch=[batch] * count, dataset=[0] * count)

    def losses(at_once: int) -> np.ndarray:
        how = training.ManyConfig(
            epochs=epochs, lr_patience=None, patience=None, keep="last", rows=8, models_per_device=at_once
        )
        data = strings[None].astype(np.uint8), labels[None]
        return training.fit_many(key, apply, start, members, data, how).history["training_loss"]

    def plainly(member: int) -> list[float]:
        orders = [batches_of(key, member, epoch, len(labels), batch) for epoch in range(epochs)]
        with truth.on_cpu_in_float64():
            variables = truth.widened(jax.tree.map(lambda a: a[member], start))
            return _plain_losses(apply, variables, strings, labels, orders, rate)

    exact = np.asarray([plainly(member) for member in range(count)])
    together = losses(count)
    yield _row("one after another, losses", exact, losses(1))
    yield _row("all at once, losses", exact, together, losses(count))


def _plain_losses(
    apply: Callable, variables: PyTree, strings: Array, labels: Array, orders: list[list[np.ndarray]], rate: float
) -> list[float]:
    """Return the loss of every epoch of plain training with Adam, in the precision of the variables."""
    params, losses = variables["params"], []
    state = optax.adam(rate).init(params)
    for epoch in orders:
        total = 0.0
        for index in epoch:
            params, state, value = _step(apply, rate, params, state, strings[index], labels[index].astype(np.float64))
            total += float(value) * len(index)
        losses.append(total / len(labels))
    return losses


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step(
    apply: Callable, rate: float, params: PyTree, state: PyTree, x: Array, y: Array
) -> tuple[PyTree, PyTree, Array]:
    def loss(params: PyTree) -> Array:
        return optax.sigmoid_binary_cross_entropy(apply({"params": params}, x), y).mean()

    value, slope = jax.value_and_grad(loss)(params)
    updates, state = optax.adam(rate).update(slope, state, params)
    return optax.apply_updates(params, updates), state, value


def _truth_tables(seed: int) -> Rows:
    n = 10
    table = np.random.default_rng([seed, 8]).integers(0, 2, 2**n).astype(bool)
    index = np.arange(2**n)
    flips = np.stack([table != table[index ^ (1 << (n - 1 - i))] for i in range(n)])
    parities = np.bitwise_count(index[:, None] & index[None]).astype(int) % 2
    spectrum = ((1 - 2 * parities) @ (1 - 2.0 * table)) / 2**n
    yield _row("profile", np.bincount(flips.sum(0), minlength=n + 1), boolean.truth_tables.profile(table), limit=0)
    yield _row("influences", flips.mean(1), boolean.truth_tables.influences(table), limit=1e-6)
    yield _row("Walsh spectrum", spectrum, boolean.truth_tables.walsh(table), limit=1e-6)


def _nearest(seed: int) -> Rows:
    table = np.random.default_rng([seed, 9]).normal(size=(300, 16)).astype(np.float32)
    wide = table.astype(np.float64) / np.linalg.norm(table.astype(np.float64), axis=1, keepdims=True)
    cosines = wide @ wide.T
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, 1)[:, :3]
    first, again = (embedding_space.nearest_tokens(table, k=3, metric="cosine") for _ in range(2))
    yield _row("distances", 1 - np.take_along_axis(cosines, order, 1), first.distances, again.distances)
    yield _row("ids", order, first.ids, again.ids, limit=0)
