"""One step of training on a batch: ``fit`` takes it with one model, ``fit_many`` with each of many."""

from dataclasses import dataclass

import jax
import optax

from jaxsens.execution import parallel
from jaxsens.training.objectives import Objective
from jaxsens.training.optimizers import Optimizer, build
from jaxsens.typing import Array, Key, PyTree, TrainApply

__all__ = ["Step"]


@dataclass(frozen=True)
class Step:
    """A step of an optimizer along the gradient of an objective; equal ones share compiled code.

    Attributes:
        train_apply: The model in training mode.
        objective: The loss.
        optimizer: The optimizer, without its learning rate.
        steps: Steps of the whole training, for the schedule of the learning rate.
        parts: Equal parts of the batch, over which gradients are averaged.
        precision: Precision of matrix products.
        devices: The devices that share the parts.

    Example:
        >>> Step(len, max, Optimizer("sgd"), 10) == Step(len, max, Optimizer("sgd"), 10)
        True
    """

    train_apply: TrainApply
    objective: Objective
    optimizer: Optimizer
    steps: int
    parts: int = 1
    precision: str = "highest"
    devices: tuple[jax.Device, ...] = ()

    def direction(self, weight_decay: Array | float | None = None) -> optax.GradientTransformation:
        """Return the rule of steps at learning rate 1, with decoupled weight decay in addition to the optimizer's."""
        direction, _ = build(self.optimizer, self.steps)
        return direction if weight_decay is None else self.optimizer.with_decay(weight_decay)

    def __call__(
        self,
        variables: PyTree,
        state: PyTree,
        batch: tuple[Array, Array],
        key: Key,
        rate: Array,
        number: Array,
        weight_decay: Array | None = None,
    ) -> tuple[PyTree, PyTree, Array]:
        """Return variables and state of the optimizer after a step, and the loss before it.

        Args:
            variables: ``{"params": ...}``, and other collections, which the model updates.
            state: The state of ``direction(weight_decay)``.
            batch: Tokens ``[b t *s]`` and labels ``[b]``.
            key: For dropout and noise.
            rate: The learning rate without its schedule.
            number: Steps done.
            weight_decay: Decoupled weight decay, multiplied by the learning rate.
        """
        _, factor = build(self.optimizer, self.steps)
        keys = jax.random.split(key, self.parts)
        if self.parts == 1:
            results = self._gradient((*batch, keys[0]), variables)
        else:
            pieces = jax.tree.map(lambda a: a.reshape(self.parts, -1, *a.shape[1:]), batch)
            summed = parallel.sum_over_parts(self._gradient, (*pieces, keys), variables, devices=self.devices)
            results = jax.tree.map(lambda a: a / self.parts, summed)
        (loss, statistics), gradient = results
        updates, state = self.direction(weight_decay).update(gradient, state, variables["params"])
        scale = -rate * factor(number)
        params = optax.apply_updates(variables["params"], jax.tree.map(lambda u: scale * u, updates))
        return {**variables, **statistics, "params": params}, state, loss

    def _gradient(self, part: tuple[Array, Array, Key], variables: PyTree) -> PyTree:
        def loss_of(params: PyTree) -> tuple[Array, PyTree]:
            loss, updated = self.objective(self.train_apply, {**variables, "params": params}, *part)
            return loss, {name: value for name, value in updated.items() if name != "params"}

        with jax.default_matmul_precision(self.precision):
            return jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
