"""One epoch of one model, as a pure function of its own numbers: what ``many`` maps over its members.

A batch is walked in blocks of ``rows`` strings whose gradients are added up before the step, so that models with
different batch sizes share one program, and the memory is that of a block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxsens.typing import Apply, Array, PyTree

__all__ = ["CROSS_ENTROPY", "SQUARED_ERROR", "Assignment", "Criterion", "Epoch", "Scores", "Weights", "adam"]


@dataclass(frozen=True)
class Criterion:
    """What is minimised, and what counts as a correct output; equal ones share compiled code.

    Attributes:
        loss: ``loss(outputs [b], targets [b]) -> [b]``.
        threshold: Outputs above 0 are correct where targets are above it, the others where they are not.
    """

    loss: Callable[[Array, Array], Array]
    threshold: float


CROSS_ENTROPY = Criterion(optax.sigmoid_binary_cross_entropy, 0.5)
"""``-log sigmoid(logit)`` for targets 1 and ``-log sigmoid(-logit)`` for targets 0, in nats."""

SQUARED_ERROR = Criterion(optax.squared_error, 0.0)
"""``(output - target)^2``, for targets -1 and 1, or between."""


class Weights(NamedTuple):
    """What training moves: parameters, and the averages that Adam keeps of their gradients."""

    params: PyTree
    moments: PyTree


class Assignment(NamedTuple):
    """What tells a member from the others, and its epochs from each other; scalars, but for the key's two words.

    Attributes:
        key: Data of the key that orders its examples.
        learning_rate: Of Adam.
        weight_decay: Decoupled, relative to the learning rate.
        batch: Strings in a step; the last step of an epoch takes what is left.
        dataset: The number of its data set.
        epoch: Epochs done.
        at_work: Whether it has an epoch to do; one that is idle takes no time.
    """

    key: Array
    learning_rate: Array
    weight_decay: Array
    batch: Array
    dataset: Array
    epoch: Array
    at_work: Array


class Scores(NamedTuple):
    """How an epoch went: mean loss while training; mean loss and share of correct outputs afterwards; all finite."""

    training_loss: Array
    loss: Array
    accuracy: Array
    finite: Array


def adam(weight_decay: Array | float) -> optax.GradientTransformation:
    """Return the rule of steps, at learning rate 1: Adam with decoupled weight decay."""
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(weight_decay))


@dataclass(frozen=True)
class Epoch:
    """One epoch of a member: ``(weights, assignment), (strings, targets), watched -> weights, scores``.

    Strings are ``[s n *]``, targets ``[s n]``, for data sets 0 to s - 1; ``watched`` is another such pair, on which
    scores are taken, or None for the training data themselves. Equal ones share compiled code.
    """

    apply: Apply
    criterion: Criterion
    rows: int
    precision: str

    def __call__(
        self, member: tuple[Weights, Assignment], data: tuple[Array, Array], watched: tuple[Array, Array] | None
    ) -> tuple[Weights, Scores]:
        """Return the weights after the epoch, and how it went."""
        weights, own = member
        with jax.default_matmul_precision(self.precision):
            weights, training_loss = self._train(weights, own, *data)
            loss, accuracy = self._score(weights.params, own, *(data if watched is None else watched))
        finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((weights.params, training_loss, loss))]
        return weights, Scores(training_loss, loss, accuracy, jnp.stack(finite).all())

    def _train(self, weights: Weights, own: Assignment, strings: Array, targets: Array) -> tuple[Weights, Array]:
        count, rows = targets.shape[1], self.rows
        rule = adam(own.weight_decay)
        key = jax.random.wrap_key_data(own.key)
        order = jax.random.permutation(jax.random.fold_in(key, own.epoch), count)
        blocks_each = _ceil(own.batch, rows)  # of a whole batch
        blocks = (count // own.batch) * blocks_each + _ceil(count % own.batch, rows)

        def loss_of(params: PyTree, index: Array, share: Array) -> Array:
            outputs = self.apply({"params": params}, strings[own.dataset, index])
            return (share * self.criterion.loss(outputs, targets[own.dataset, index])).sum()

        def step(weights: Weights, gradient: PyTree) -> tuple[Weights, PyTree]:
            updates, moments = rule.update(gradient, weights.moments, weights.params)
            params = jax.tree.map(lambda p, u: p - own.learning_rate * u, weights.params, updates)
            return Weights(params, moments), jax.tree.map(jnp.zeros_like, gradient)

        def block(number: Array, carry: tuple[Weights, PyTree, Array]) -> tuple[Weights, PyTree, Array]:
            weights, gradient, total = carry
            batch, part = number // blocks_each, number % blocks_each
            size = jnp.minimum(own.batch, count - batch * own.batch)
            within = part * rows + jnp.arange(rows)
            index = order[jnp.minimum(batch * own.batch + within, count - 1)]
            share = jnp.where(within < size, 1 / size, 0)
            loss, slope = jax.value_and_grad(loss_of)(weights.params, index, share)
            gradient = jax.tree.map(jnp.add, gradient, slope)
            complete = (part + 1) * rows >= size
            weights, gradient = jax.lax.cond(complete, step, lambda *unchanged: unchanged, weights, gradient)
            return weights, gradient, total + loss * size

        zeros = jax.tree.map(jnp.zeros_like, weights.params)
        start = (weights, zeros, jnp.zeros((), jnp.float32))
        weights, _, total = jax.lax.fori_loop(0, jnp.where(own.at_work, blocks, 0), block, start)
        return weights, total / count

    def _score(self, params: PyTree, own: Assignment, strings: Array, targets: Array) -> tuple[Array, Array]:
        count, rows = targets.shape[1], self.rows

        def block(number: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
            within = number * rows + jnp.arange(rows)
            index = jnp.minimum(within, count - 1)
            outputs, wanted = self.apply({"params": params}, strings[own.dataset, index]), targets[own.dataset, index]
            correct = (outputs > 0) == (wanted > self.criterion.threshold)
            found = (self.criterion.loss(outputs, wanted), correct)
            return tuple(total + jnp.where(within < count, a, 0).sum() for total, a in zip(totals, found, strict=True))

        nothing = (jnp.zeros((), jnp.float32),) * 2
        loss, correct = jax.lax.fori_loop(0, jnp.where(own.at_work, _ceil(count, rows), 0), block, nothing)
        return loss / count, correct / count


def _ceil(count: Array | int, size: Array | int) -> Array:
    return -(-count // size)
