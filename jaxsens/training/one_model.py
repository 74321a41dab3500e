"""Training: whole epochs in one compiled program, with the data on the device.

Every random number hangs on the seed and on the epoch or step only: a run that was killed and resumed takes the same
steps, and so does one on other devices (from two on to the bit, see ``parallel.sum_over_parts``).
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm.auto import tqdm

from jaxsens.execution import parallel
from jaxsens.execution.execution import Execution
from jaxsens.training.objectives import CrossEntropy, Objective
from jaxsens.training.optimizers import Optimiser, build
from jaxsens.typing import Array, Key, PyTree, TrainApply

__all__ = ["Config", "Diverged", "State", "accuracy", "fit", "resume"]


@dataclass(frozen=True)
class Config:
    """How to train.

    Attributes:
        epochs: Passes over the data.
        batch: Examples in a step; those left over in an epoch are left out of it, others each time.
        learning_rate: The peak, where there is a schedule.
        optimiser: The rule of steps.
        parts: Into how many equal parts a batch is cut. Devices share the parts, and partial gradients are added in
            order, so the steps do not hang on the number of devices (but for the last bit on a single one); use as
            many parts as there are devices. Batch normalisation sees a part, not the batch.
        precision: Of matrix products, as in ``jax.default_matmul_precision``.

    Raises:
        ValueError: If a number is out of range, or ``parts`` does not divide ``batch``.
    """

    epochs: int
    batch: int = 100
    learning_rate: float = 1e-3
    optimiser: Optimiser = field(default_factory=Optimiser)
    parts: int = 1
    precision: str = "highest"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "parts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be a finite number above 0, got {self.learning_rate}")
        if self.batch % self.parts:
            raise ValueError(f"parts must divide the batch of {self.batch}, got {self.parts}")


class State(NamedTuple):
    """What training carries from epoch to epoch: variables ``{"params": ...}``, optimiser's state, losses so far."""

    variables: PyTree
    optimiser: PyTree
    losses: Array


class Diverged(FloatingPointError):
    """The training loss became NaN or infinite; the message says at which epoch and step."""


def fit(
    key: Key,
    train_apply: TrainApply,
    variables: PyTree,
    tokens: Array,
    labels: Array,
    config: Config,
    *,
    objective: Objective | None = None,
    after_epoch: Callable[[int, PyTree], None] | None = None,
    checkpoint: Path | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: str | None = None,
) -> tuple[PyTree, np.ndarray]:
    """Train a model, and return its variables and the mean training loss of every epoch ``[epochs]``, in nats.

    Args:
        key: Decides the order of the examples, dropout and noise.
        train_apply: The model in training mode; equal functions share compiled code.
        variables: Where to start: a dictionary with the collection ``params``, which is trained.
        tokens: ``[n t *s]``, kept on the device.
        labels: Class numbers ``[n]``.
        config: How to train.
        objective: The loss, by default cross-entropy.
        after_epoch: Called as ``after_epoch(epochs done, variables)`` with 1, 2, ...; the variables are valid during
            the call only. A resumed run starts with the epoch it resumes from, for the call may have been cut short.
        checkpoint: A folder to save the state in after every epoch, and to resume from; for one training only.
        devices: The devices that share each step; no more than ``config.parts`` are used.
        progress: Label of a progress bar.

    Raises:
        ValueError: If tokens and labels do not match, or there are fewer examples than a batch.
        Diverged: If a loss is not finite.
    """
    count, steps = len(tokens), len(tokens) // config.batch
    if len(labels) != count:
        raise ValueError(f"labels must be as many as tokens, {count}, got {len(labels)}")
    if steps == 0:
        raise ValueError(f"batch must be at most the number of examples, {count}, got {config.batch}")
    devices = parallel.local_devices(devices)[: config.parts]
    direction, _ = build(config.optimiser, steps * config.epochs)
    epoch_of = _epoch(
        train_apply, objective or CrossEntropy(), config.optimiser, config.epochs, config.batch, config.parts,
        config.precision, devices,
    )  # fmt: skip
    state = State(variables, direction.init(variables["params"]), np.zeros(config.epochs, np.float32))
    state = parallel.replicate(jax.tree.map(jnp.array, state), devices)  # copies: an epoch consumes its state
    tokens, labels, key = parallel.replicate((jnp.asarray(tokens), jnp.asarray(labels), key), devices)
    start, state = resume(checkpoint, state)
    if start and after_epoch is not None:
        after_epoch(start, state.variables)
    rate = np.float32(config.learning_rate)
    with tqdm(
        desc=progress, total=config.epochs, initial=start, delay=2, leave=False, disable=progress is None, unit="epoch",
        dynamic_ncols=True,
    ) as bar:  # fmt: skip
        for epoch in range(start, config.epochs):
            state, losses = epoch_of(state, tokens, labels, key, rate, np.uint32(epoch))
            losses = np.asarray(losses)
            if not np.isfinite(losses).all():
                step = int(np.argmin(np.isfinite(losses)))
                raise Diverged(
                    f"the training loss is {losses[step]} at epoch {epoch + 1}, step {step + 1} of {steps}; "
                    f"the learning rate is {config.learning_rate}, a smaller one may help"
                )
            if checkpoint is not None:
                from jaxsens.training import checkpoints  # Orbax takes a second to import, and few need it.

                checkpoints.save(checkpoint, epoch + 1, state)
            bar.update()
            bar.set_postfix(loss=f"{losses.mean():.3f}")
            if after_epoch is not None:
                after_epoch(epoch + 1, state.variables)
    return state.variables, np.asarray(state.losses)


def resume(checkpoint: Path | None, state: PyTree) -> tuple[int, PyTree]:
    """Return the number and the state of the newest checkpoint in a folder, or 0 and ``state`` where there is none."""
    if checkpoint is None:
        return 0, state
    from jaxsens.training import checkpoints

    return checkpoints.restore(checkpoint, state) or (0, state)


@functools.lru_cache(maxsize=64)
def _epoch(
    train_apply: TrainApply,
    objective: Objective,
    optimiser: Optimiser,
    epochs: int,
    batch: int,
    parts: int,
    precision: str,
    devices: tuple[jax.Device, ...],
) -> Callable[..., tuple[State, Array]]:
    """Compile one epoch: the same program for every learning rate, seed and epoch."""

    def run(state: State, tokens: Array, labels: Array, key: Key, rate: Array, epoch: Array) -> tuple[State, Array]:
        count = len(tokens)
        steps = count // batch
        direction, factor = build(optimiser, steps * epochs)
        epoch_key = jax.random.fold_in(key, epoch)
        order = jax.random.permutation(epoch_key, count)[: steps * batch]

        def part_loss(params: PyTree, variables: PyTree, part: tuple[Array, Array, Key]) -> tuple[Array, PyTree]:
            loss, updated = objective(train_apply, {**variables, "params": params}, *part)
            return loss, {name: value for name, value in updated.items() if name != "params"}

        def part_gradient(part: tuple[Array, Array, Key], variables: PyTree) -> PyTree:
            with jax.default_matmul_precision(precision):
                return jax.value_and_grad(part_loss, has_aux=True)(variables["params"], variables, part)

        def step(carry: tuple[PyTree, PyTree], inputs: tuple[Array, Array]) -> tuple[tuple[PyTree, PyTree], Array]:
            variables, optimiser_state = carry
            index, number = inputs
            keys = jax.random.split(jax.random.fold_in(epoch_key, number), parts)
            pieces = (tokens[index], labels[index], keys)
            if parts == 1:
                results = part_gradient((*pieces[:2], keys[0]), variables)
            else:
                pieces = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), pieces[:2])
                summed = parallel.sum_over_parts(part_gradient, (*pieces, keys), variables, devices=devices)
                results = jax.tree.map(lambda a: a / parts, summed)
            (loss, statistics), gradient = results
            updates, optimiser_state = direction.update(gradient, optimiser_state, variables["params"])
            scale = -rate * factor(epoch * steps + number)
            params = optax.apply_updates(variables["params"], jax.tree.map(lambda u: scale * u, updates))
            return ({**variables, **statistics, "params": params}, optimiser_state), loss

        inputs = (order.reshape(steps, batch), jnp.arange(steps, dtype=jnp.uint32))
        (variables, optimiser_state), losses = jax.lax.scan(step, (state.variables, state.optimiser), inputs)
        return State(variables, optimiser_state, state.losses.at[epoch].set(losses.mean())), losses

    return jax.jit(run, donate_argnums=0)


_ACCURACY = Execution(chunk=500)


def accuracy(
    apply: Callable[[PyTree, Array], Array],
    variables: PyTree,
    tokens: Array,
    labels: Array,
    *,
    execution: Execution = _ACCURACY,
) -> np.ndarray:
    """Return for every example whether the most likely class is the label ``[n]``.

    Args:
        apply: The model in evaluation mode; equal functions share compiled code.
        variables: Its variables.
        tokens: ``[n t *s]``.
        labels: Class numbers ``[n]``.
        execution: How to run; its ``chunk`` counts examples.

    Raises:
        ValueError: If there is no example.
        FloatingPointError: If a logit is not finite; the first example with one is named.
    """
    items = (np.asarray(tokens), np.asarray(labels))
    correct, finite = parallel.map_items(parallel.bind(_is_correct, apply), items, variables, execution=execution)
    if not finite.all():
        raise FloatingPointError(f"the model's logits are not finite for example {int(np.argmin(finite))}")
    return correct


def _is_correct(
    apply: Callable[[PyTree, Array], Array], example: tuple[Array, Array], variables: PyTree
) -> tuple[Array, Array]:
    """Return whether the most likely class of one example is its label, and whether its logits are finite."""
    tokens, label = example
    logits = apply(variables, tokens[None])[0]
    return logits.argmax() == label, jnp.isfinite(logits).all()
