"""One epoch of one model as a pure function, which ``fit_many`` maps over its members.

A batch is processed in blocks of ``rows`` strings whose gradients are added up before the step, so that models with
different batch sizes share one program, and the memory is that of a block.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxsens.typing import Apply, Array, PyTree

__all__ = ["CROSS_ENTROPY", "SQUARED_ERROR", "Assignment", "Criterion", "Epoch", "Scores", "Weights", "adam", "rule"]


@dataclass(frozen=True)
class Criterion:
    """The loss, and which outputs count as correct; equal criteria share compiled code.

    Attributes:
        loss: ``loss(outputs [b], targets [b]) -> [b]``.
        threshold: An output is correct if it is above 0 and its target is above the threshold, or if neither is.
        targets: The smallest and the largest target allowed.

    Example:
        >>> float(SQUARED_ERROR.loss(jnp.float32(0.5), jnp.float32(1.0)))
        0.25
    """

    loss: Callable[[Array, Array], Array]
    threshold: float
    targets: tuple[float, float] = (-math.inf, math.inf)


CROSS_ENTROPY = Criterion(optax.sigmoid_binary_cross_entropy, 0.5, (0.0, 1.0))
"""``-log sigmoid(logit)`` for targets 1 and ``-log sigmoid(-logit)`` for targets 0, in nats; linear between."""

SQUARED_ERROR = Criterion(optax.squared_error, 0.0, (-1.0, 1.0))
"""``(output - target)^2``, for targets -1 and 1, or between."""


class Weights(NamedTuple):
    """What a step updates: parameters, and what the optimizer keeps of their gradients.

    Example:
        >>> Weights(params={"w": np.zeros(2)}, moments=()).params["w"].shape
        (2,)
    """

    params: PyTree
    moments: PyTree


class Assignment(NamedTuple):
    """The numbers of one member for one epoch; scalars, except for the two words of the key.

    Attributes:
        key: Data of the key that orders its examples.
        learning_rate: Learning rate.
        weight_decay: Decoupled weight decay, multiplied by the learning rate.
        batch: Strings in a step; the last step of an epoch takes what is left.
        dataset: The number of its data set.
        epoch: Epochs done.
        active: Whether the member trains in this epoch; an idle one takes no time.

    Example:
        >>> Assignment._fields[1:3]
        ('learning_rate', 'weight_decay')
    """

    key: Array
    learning_rate: Array
    weight_decay: Array
    batch: Array
    dataset: Array
    epoch: Array
    active: Array


class Scores(NamedTuple):
    """Scores of an epoch: the mean loss while training; mean loss and accuracy afterwards; whether all is finite.

    Example:
        >>> Scores(training_loss=0.7, loss=0.6, accuracy=0.8, finite=True).accuracy
        0.8
    """

    training_loss: Array
    loss: Array
    accuracy: Array
    finite: Array


def adam(weight_decay: Array | float) -> optax.GradientTransformation:
    """Return the rule of steps, at learning rate 1: Adam with decoupled weight decay.

    Example:
        >>> state = adam(0.1).init({"w": jnp.zeros(2)})
        >>> len(state)
        2
    """
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(weight_decay))


def rule(optimizer: str, weight_decay: Array | float) -> optax.GradientTransformation:
    """Return the rule of steps of an optimizer, at learning rate 1: ``"adam"``, or ``"sgd"`` without momentum.

    Example:
        >>> sgd, weights = rule("sgd", 0.0), {"w": jnp.ones(1)}
        >>> sgd.update({"w": jnp.full(1, 3.0)}, sgd.init(weights), weights)[0]["w"].tolist()
        [3.0]
    """
    return adam(weight_decay) if optimizer == "adam" else optax.add_decayed_weights(weight_decay)


@dataclass(frozen=True)
class Epoch:
    """One epoch of a member: ``(weights, assignment), (strings, targets), validation -> weights, scores``.

    Strings are ``[s n *]``, targets ``[s n]``, for data sets 0 to s - 1; ``validation`` is another such pair, on which
    scores are taken, or None for the training data themselves. Equal ones share compiled code.

    Example:
        >>> Epoch(len, CROSS_ENTROPY, 4, "highest") == Epoch(len, CROSS_ENTROPY, 4, "highest")
        True
    """

    apply: Apply
    criterion: Criterion
    rows: int
    precision: str
    optimizer: str = "adam"

    def __call__(
        self, member: tuple[Weights, Assignment], data: tuple[Array, Array], validation: tuple[Array, Array] | None
    ) -> tuple[Weights, Scores]:
        """Return the weights after the epoch, and its scores."""
        weights, own = member
        with jax.default_matmul_precision(self.precision):
            weights, training_loss = self._train(weights, own, *data)
            loss, accuracy = self._score(weights.params, own, *(data if validation is None else validation))
        finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((weights.params, training_loss, loss))]
        return weights, Scores(training_loss, loss, accuracy, jnp.stack(finite).all())

    def _train(self, weights: Weights, own: Assignment, strings: Array, targets: Array) -> tuple[Weights, Array]:
        count, rows = targets.shape[1], self.rows
        steps = rule(self.optimizer, own.weight_decay)
        key = jax.random.wrap_key_data(own.key)
        order = jax.random.permutation(jax.random.fold_in(key, own.epoch), count)
        blocks_each = _ceil(own.batch, rows)  # of a whole batch
        blocks = (count // own.batch) * blocks_each + _ceil(count % own.batch, rows)

        def loss_of(params: PyTree, index: Array, share: Array) -> Array:
            outputs = self.apply({"params": params}, strings[own.dataset, index])
            return (share * self.criterion.loss(outputs, targets[own.dataset, index])).sum()

        def step(weights: Weights, gradient: PyTree) -> tuple[Weights, PyTree]:
            updates, moments = steps.update(gradient, weights.moments, weights.params)
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
        weights, _, total = jax.lax.fori_loop(0, jnp.where(own.active, blocks, 0), block, start)
        return weights, total / count

    def _score(self, params: PyTree, own: Assignment, strings: Array, targets: Array) -> tuple[Array, Array]:
        count, rows = targets.shape[1], self.rows

        def block(number: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
            within = number * rows + jnp.arange(rows)
            index = jnp.minimum(within, count - 1)
            outputs, expected = self.apply({"params": params}, strings[own.dataset, index]), targets[own.dataset, index]
            correct = (outputs > 0) == (expected > self.criterion.threshold)
            scores = (self.criterion.loss(outputs, expected), correct)
            return tuple(total + jnp.where(within < count, a, 0).sum() for total, a in zip(totals, scores, strict=True))

        nothing = (jnp.zeros((), jnp.float32),) * 2
        loss, correct = jax.lax.fori_loop(0, jnp.where(own.active, _ceil(count, rows), 0), block, nothing)
        return loss / count, correct / count


def _ceil(count: Array | int, size: Array | int) -> Array:
    return -(-count // size)
