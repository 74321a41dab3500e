"""One epoch of one model as a pure function, which ``fit_many`` maps over its members.

Without a model in training mode, a batch is processed in blocks of ``rows`` examples whose gradients are added up
before the step, so that models with different batch sizes share one program, and the memory is that of a block. With
one, a batch is one block, since dropout, batch statistics and objectives belong to it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxsens.training import checks
from jaxsens.training.batch_step import Step
from jaxsens.training.optimizers import Optimizer
from jaxsens.typing import Apply, Array, PyTree

__all__ = [
    "CLASS_CROSS_ENTROPY",
    "CROSS_ENTROPY",
    "SQUARED_ERROR",
    "Assignment",
    "Criterion",
    "Epoch",
    "Member",
    "Scores",
    "Weights",
    "adam",
]


@dataclass(frozen=True)
class Criterion:
    """The loss, and which outputs count as correct; equal criteria share compiled code.

    Attributes:
        loss: ``loss(outputs [b *k], targets [b]) -> [b]``.
        threshold: An output is correct if it is above 0 and its target is above the threshold, or if neither is. None:
            outputs ``[b k]`` are logits of classes, and correct where the largest is that of the target.
        targets: The smallest and the largest target allowed.

    Example:
        >>> float(SQUARED_ERROR.loss(jnp.float32(0.5), jnp.float32(1.0)))
        0.25
    """

    loss: Callable[[Array, Array], Array]
    threshold: float | None
    targets: tuple[float, float] = (-math.inf, math.inf)

    def correct(self, outputs: Array, targets: Array) -> Array:
        """Return which outputs are correct ``[b]``."""
        if self.threshold is None:
            return outputs.argmax(-1) == targets
        return (outputs > 0) == (targets > self.threshold)


CROSS_ENTROPY = Criterion(optax.sigmoid_binary_cross_entropy, 0.5, (0.0, 1.0))
"""``-log sigmoid(logit)`` for targets 1 and ``-log sigmoid(-logit)`` for targets 0, in nats; linear between."""

SQUARED_ERROR = Criterion(optax.squared_error, 0.0, (-1.0, 1.0))
"""``(output - target)^2``, for targets -1 and 1, or between."""

CLASS_CROSS_ENTROPY = Criterion(optax.losses.softmax_cross_entropy_with_integer_labels, None, (0.0, math.inf))
"""``-log softmax(logits)[target]``, in nats, for class numbers as targets."""


class Weights(NamedTuple):
    """What a step updates: parameters, what the optimizer keeps of their gradients, and other collections by name.

    Example:
        >>> Weights(params={"w": np.zeros(2)}, moments=()).params["w"].shape
        (2,)
    """

    params: PyTree
    moments: PyTree
    statistics: PyTree = {}  # noqa: RUF012 (never changed)

    @property
    def variables(self) -> PyTree:
        """The variables of the model: ``{"params": ...}`` and the other collections."""
        return {**self.statistics, "params": self.params}


class Member(NamedTuple):
    """The state of a member: its weights; and the weights that it would return, if they are not the last.

    Attributes:
        weights: After its last epoch.
        kept: Those of its best epoch, without moments; ``()`` where the last are returned.

    Example:
        >>> Member(Weights({"w": np.zeros(2)}, ()), ()).kept
        ()
    """

    weights: Weights
    kept: Weights | tuple[()]


class Assignment(NamedTuple):
    """The numbers of one member for one epoch; scalars, except for the two words of the key.

    Attributes:
        key: Data of the key that orders its examples.
        learning_rate: Learning rate.
        weight_decay: Decoupled weight decay, multiplied by the learning rate.
        batch: Strings in a step; the last step of an epoch takes what is left.
        dataset: The number of its data set.
        epoch: Epochs done.
        smallest: The smallest validation loss so far.

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
    smallest: Array


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


@dataclass(frozen=True)
class Epoch:
    """One epoch: ``member, assignment, active, (examples, targets), validation -> member, scores``.

    Examples are ``[s n *]``, targets ``[s n]``, for data sets 0 to s - 1; ``validation`` is another such pair, on which
    scores are taken, or None for the training data themselves. Equal ones share compiled code.

    Attributes:
        apply: The model in evaluation mode.
        criterion: Loss and accuracy of an epoch, and the loss that is learned where there is no ``step``.
        rows: Examples in a block.
        precision: Precision of matrix products.
        optimizer: The optimizer, without its learning rate.
        best: Whether the weights of the best epoch are kept.
        evaluate: Whether there are scores.
        step: A step of ``batch`` examples with a model in training mode. The examples left over in an epoch are not
            used in it.
        batch: Its number of examples.

    Example:
        >>> one, other = (Epoch(len, CROSS_ENTROPY, 4, "highest", Optimizer("sgd")) for _ in range(2))
        >>> one == other
        True
    """

    apply: Apply
    criterion: Criterion
    rows: int
    precision: str
    optimizer: Optimizer
    best: bool = True
    evaluate: bool = True
    step: Step | None = None
    batch: int | None = None

    def __call__(
        self,
        member: Member,
        own: Assignment,
        active: Array,
        data: tuple[Array, Array],
        validation: tuple[Array, Array] | None,
    ) -> tuple[Member, Scores]:
        """Return the member after the epoch, unchanged if anything is not finite, and its scores.

        A member that is not active takes no time.
        """
        train = self._train if self.step is None else self._train_batches
        with jax.default_matmul_precision(self.precision):
            weights, training_loss, finite = train(member.weights, own, active, *data)
            if self.evaluate:
                seen = data if validation is None else validation
                loss, accuracy = self._score(weights.variables, own, active, *seen)
                finite &= jnp.isfinite(loss)
            else:
                loss = accuracy = jnp.full((), jnp.nan, jnp.float32)
        keep = finite & (loss < own.smallest)
        kept = _where(keep, weights._replace(moments=()), member.kept) if self.best else member.kept
        return Member(_where(finite, weights, member.weights), kept), Scores(training_loss, loss, accuracy, finite)

    def _train(
        self, weights: Weights, own: Assignment, active: Array, strings: Array, targets: Array
    ) -> tuple[Weights, Array, Array]:
        """Return the weights after an epoch of blocks, the mean loss, and whether both are finite."""
        count, rows = targets.shape[1], self.rows
        steps = self.optimizer.with_decay(own.weight_decay)
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
        weights, _, total = jax.lax.fori_loop(0, jnp.where(active, blocks, 0), block, start)
        loss = total / count
        finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((weights.params, loss))]
        return weights, loss, jnp.stack(finite).all()

    def _train_batches(
        self, weights: Weights, own: Assignment, active: Array, examples: Array, targets: Array
    ) -> tuple[Weights, Array, Array]:
        """Return the weights after an epoch of whole batches, the mean loss, and whether all losses are finite, too.

        Order and keys are those of ``training.fit``.
        """
        steps = targets.shape[1] // self.batch
        key = jax.random.fold_in(jax.random.wrap_key_data(own.key), own.epoch)
        order = jax.random.permutation(key, targets.shape[1])

        def step(number: Array, carry: tuple[PyTree, PyTree, Array]) -> tuple[PyTree, PyTree, Array]:
            *state, losses = carry
            index = jax.lax.dynamic_slice_in_dim(order, number * self.batch, self.batch)
            batch = examples[own.dataset, index], targets[own.dataset, index]
            done = own.epoch * steps + number.astype(own.epoch.dtype)
            *state, loss = self.step(
                *state, batch, jax.random.fold_in(key, number), own.learning_rate, done, own.weight_decay
            )
            return *state, losses.at[number].set(loss)

        start = weights.variables, weights.moments, jnp.zeros(steps, jnp.float32)
        variables, moments, losses = jax.lax.fori_loop(0, jnp.where(active, steps, 0), step, start)
        statistics = {name: value for name, value in variables.items() if name != "params"}
        finite = checks.finite_leaves((variables, losses))
        return Weights(variables["params"], moments, statistics), losses.mean(), finite

    def _score(
        self, variables: PyTree, own: Assignment, active: Array, strings: Array, targets: Array
    ) -> tuple[Array, Array]:
        count, rows = targets.shape[1], self.rows

        def block(number: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
            within = number * rows + jnp.arange(rows)
            index = jnp.minimum(within, count - 1)
            outputs, expected = self.apply(variables, strings[own.dataset, index]), targets[own.dataset, index]
            scores = self.criterion.loss(outputs, expected), self.criterion.correct(outputs, expected)
            return tuple(total + jnp.where(within < count, a, 0).sum() for total, a in zip(totals, scores, strict=True))

        nothing = (jnp.zeros((), jnp.float32),) * 2
        loss, correct = jax.lax.fori_loop(0, jnp.where(active, _ceil(count, rows), 0), block, nothing)
        return loss / count, correct / count


def _where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), new, old)


def _ceil(count: Array | int, size: Array | int) -> Array:
    return -(-count // size)
