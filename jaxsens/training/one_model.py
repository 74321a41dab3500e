"""Training of one model: whole epochs in one compiled program, with the data on the device.

Every random number depends only on the seed and on the epoch or step: a run that was killed and resumed takes the same
steps. On another number of devices or cores they differ by rounding, which training amplifies, unless
``Config(reproducible=True)`` is given. (What a training takes and returns, and its errors, are documented here, which
makes the file long.)
"""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from jaxsens.execution import backends, parallel
from jaxsens.execution.checks import host_values, require_functions
from jaxsens.execution.execution import Execution, require_execution
from jaxsens.labels import require_labels
from jaxsens.training import checks
from jaxsens.training.batch_step import Step
from jaxsens.training.objectives import CrossEntropy, Objective
from jaxsens.training.optimizers import Optimizer
from jaxsens.training.result import Fitted
from jaxsens.typing import Array, Key, PyTree, TrainApply

__all__ = ["Config", "Diverged", "State", "accuracy", "fit", "resume"]


@dataclass(frozen=True)
class Config:
    """How to train one model.

    Attributes:
        epochs: Passes over the data.
        batch: Examples in a step. The examples left over in an epoch are not used in it; they are others each time.
        learning_rate: The largest learning rate, where there is a schedule.
        optimizer: The optimizer, without its learning rate.
        parts: Into how many equal parts a batch is cut. Devices share the parts, and partial gradients are added in
            order; use as many parts as there are devices. The steps depend on the numbers of devices and cores by
            rounding, which training amplifies. Batch normalization uses the statistics of a part, not of the batch.
        precision: Precision of matrix products, as in ``jax.default_matmul_precision``.
        reproducible: Whether the results are equal to the bit on any numbers of CPU cores and devices, with equal
            versions of JAX and the same kind of CPU. It needs ``execution.fix_cpu_threads()`` before the first
            computation, whose number of threads decides the bits, and uses a single device. On accelerators nothing is
            promised.

    Raises:
        ValueError: If a number is out of range, or ``parts`` does not divide ``batch``.

    Example:
        >>> Config(epochs=10, batch=50, learning_rate=3e-3).batch
        50
    """

    epochs: int
    batch: int = 100
    learning_rate: float = 1e-3
    optimizer: Optimizer = field(default_factory=Optimizer)
    parts: int = 1
    precision: str = "highest"
    reproducible: bool = False

    def __post_init__(self) -> None:
        checks.require_counts(self, ("epochs", "batch", "parts"))
        largest = float(np.finfo(np.float32).max)
        checks.require_number(
            "learning_rate", self.learning_rate, "a finite float32 above 0", 0, largest, open_low=True
        )
        Execution(precision=self.precision)  # checks it
        checks.require_reproducible(self.reproducible)
        if not isinstance(self.optimizer, Optimizer):
            raise ValueError(f"optimizer must be a training.Optimizer, got {self.optimizer!r}")
        if self.batch % self.parts:
            raise ValueError(f"parts must divide the batch of {self.batch}, got {self.parts}")


class State(NamedTuple):
    """What training carries from epoch to epoch: variables ``{"params": ...}``, the optimizer's state, the losses.

    Example:
        >>> State({"params": {}}, optimizer=(), losses=np.zeros(0)).losses.shape
        (0,)
    """

    variables: PyTree
    optimizer: PyTree
    losses: Array


class Diverged(FloatingPointError):
    """The training loss or a weight became NaN or infinite; the message says at which epoch and step.

    Example:
        >>> issubclass(Diverged, FloatingPointError)
        True
    """


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
    checkpoint: str | os.PathLike[str] | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: str | None = None,
) -> Fitted:
    """Train a model, and return ``Fitted``: its variables and the mean training loss of every epoch ``[epochs]``.

    Each of several processes trains the whole model; the work is not shared among them. ``fit_many`` shares its models.

    Args:
        key: Decides the order of the examples, dropout and noise.
        train_apply: The model in training mode; equal functions share compiled code.
        variables: Where to start: a dictionary with the collection ``params``, which is trained.
        tokens: ``[n t *s]``, kept on the device.
        labels: Class numbers ``[n]``. Your own objective gets labels unchanged, unless its attribute
            ``class_labels`` is true.
        config: Settings of the training.
        objective: The loss, by default cross-entropy.
        after_epoch: Called as ``after_epoch(epochs done, variables)`` with 1, 2, ...; the variables are valid during
            the call only. A resumed run starts with the epoch it resumes from, for the call may have been cut short.
        checkpoint: A folder to save the state in after every epoch, and to resume from. It holds a fingerprint of
            configuration, key, data and initial variables, and another training is refused.
        devices: The devices that share each step; no more than ``config.parts`` are used.
        progress: Label of a progress bar.

    Raises:
        ValueError: If tokens and labels do not match, a label is not the number of a class, there are fewer examples
            than a batch, or the checkpoint is damaged or belongs to another training.
        Diverged: If a loss, or after an epoch a weight, is not finite.

    Example:
        >>> def train_apply(variables, tokens, key):
        ...     return tokens.reshape(len(tokens), -1) @ variables["params"]["w"], variables
        >>> tokens = np.array([[[1.0]], [[-1.0]]] * 4, np.float32)
        >>> start = {"params": {"w": np.zeros((1, 2), np.float32)}}
        >>> trained, losses = fit(
        ...     jax.random.key(0), train_apply, start, tokens, np.array([0, 1] * 4), Config(epochs=2, batch=4)
        ... )
        >>> losses.shape, bool(losses[1] < losses[0])
        ((2,), True)
    """
    objective = CrossEntropy() if objective is None else objective
    require_functions(train_apply=train_apply, objective=objective)
    checks.require_reports(after_epoch, progress)
    checkpoint = checks.as_folder(checkpoint)
    tokens, labels = _checked_data(key, train_apply, variables, tokens, labels, config, objective)
    steps = len(tokens) // config.batch
    devices = backends.local_devices(devices)[: 1 if config.reproducible else config.parts]
    decisive = checks.reproducible_setting(devices[0]) if config.reproducible else None
    step = Step(
        train_apply, objective, config.optimizer, steps * config.epochs, config.parts, config.precision, devices
    )
    epoch_of = _epoch(step, config.epochs, config.batch)
    identity = None
    if checkpoint is not None:
        identity = _identity(key, train_apply, variables, tokens, labels, config, objective, decisive)
    state = State(variables, step.direction().init(variables["params"]), np.zeros(config.epochs, np.float32))
    state = backends.replicate(jax.tree.map(jnp.array, state), devices)  # copies: an epoch consumes its state
    tokens, labels, key = backends.replicate((jnp.asarray(tokens), jnp.asarray(labels), key), devices)
    start, state = resume(checkpoint, state, identity)
    if start and after_epoch is not None:
        after_epoch(start, state.variables)
    rate = np.float32(config.learning_rate)
    with tqdm(
        desc=progress, total=config.epochs, initial=start, delay=2, leave=False, disable=progress is None, unit="epoch",
        dynamic_ncols=True,
    ) as bar:  # fmt: skip
        for epoch in range(start, config.epochs):
            state, losses, finite = epoch_of(state, tokens, labels, key, rate, np.uint32(epoch))
            losses = np.asarray(losses)
            _require_finite(losses, finite, epoch, config)
            if checkpoint is not None:
                from jaxsens.training import checkpoints  # Orbax takes a second to import, and few need it.

                checkpoints.save(checkpoint, epoch + 1, state, identity)
            bar.update()
            bar.set_postfix(loss=f"{losses.mean():.3f}")
            if after_epoch is not None:
                after_epoch(epoch + 1, state.variables)
    return Fitted(state.variables, np.asarray(state.losses))


def _checked_data(
    key: Key,
    train_apply: TrainApply,
    variables: PyTree,
    tokens: Array,
    labels: Array,
    config: Config,
    objective: Objective,
) -> tuple[Array, Array]:
    """Return tokens and labels as devices hold them, or raise ValueError with what does not fit."""
    checks.require_key(key)
    if not isinstance(config, Config):
        raise ValueError(f"config must be a training.Config, got {config!r}")
    if not isinstance(variables, dict) or "params" not in variables:
        given = sorted(variables) if isinstance(variables, dict) else type(variables).__name__
        raise ValueError(f"variables must be a dictionary with 'params', got {given}")
    tokens = checks.on_device_values("tokens", tokens)
    if np.ndim(tokens) < 1:
        raise ValueError(f"tokens must be [n t *s], got shape {np.shape(tokens)}")
    count = len(tokens)
    host_values(labels, "labels")
    if np.ndim(labels) == 0 or len(labels) != count:
        raise ValueError(f"labels must be as many as tokens, {count}, got shape {np.shape(labels)}")
    if count < config.batch:
        raise ValueError(f"batch must be at most the number of examples, {count}, got {config.batch}")
    if not getattr(objective, "class_labels", False):
        return tokens, checks.on_device_values("labels", labels)
    require_labels(labels, None)
    spec = jax.ShapeDtypeStruct((config.batch // config.parts, *tokens.shape[1:]), tokens.dtype)
    leaves = jax.tree.leaves(variables["params"])
    if not all(jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.inexact) for leaf in leaves):
        raise ValueError("variables must have params in floating point, which have a gradient, got another dtype")
    logits, _ = checks.output_shapes(train_apply, variables, spec, key)
    return tokens, require_labels(labels, logits.shape[-1])


def _identity(
    key: Key,
    train_apply: TrainApply,
    variables: PyTree,
    tokens: Array,
    labels: Array,
    config: Config,
    objective: Objective,
    decisive: str | None,
) -> dict[str, str]:
    """Return the fingerprint of a training."""
    from jaxsens.training import checkpoints

    settings = {**vars(config), "model": train_apply, "objective": objective, "reproducible": decisive}
    if decisive is None:
        del settings["reproducible"]
    return checkpoints.fingerprint(
        settings, {"key": key, "tokens": tokens, "labels": labels, "initial variables": variables}
    )


def _require_finite(losses: np.ndarray, finite: Array, epoch: int, config: Config) -> None:
    """Raise ``Diverged`` unless all losses of an epoch, and all variables after it, are finite."""
    advice = f"the learning rate is {config.learning_rate}, a smaller one may help"
    if not np.isfinite(losses).all():
        step = int(np.argmin(np.isfinite(losses)))
        where = f"at epoch {epoch + 1}, step {step + 1} of {len(losses)}"
        raise Diverged(f"the training loss is {losses[step]} {where}; {advice}")
    if not finite:
        raise Diverged(f"a weight is not finite after epoch {epoch + 1}, step {len(losses)} of {len(losses)}; {advice}")


def resume(checkpoint: Path | None, state: PyTree, identity: dict[str, str] | None = None) -> tuple[int, PyTree]:
    """Return the number and the state of the newest checkpoint in a folder, or 0 and ``state`` if there is none.

    Raises:
        ValueError: If the checkpoint is damaged, or was written by a training of another ``identity``.

    Example:
        >>> resume(None, {"w": 1})
        (0, {'w': 1})
    """
    if checkpoint is None:
        return 0, state
    from jaxsens.training import checkpoints

    return checkpoints.restore(checkpoint, state, identity) or (0, state)


@functools.lru_cache(maxsize=64)
def _epoch(step_of: Step, epochs: int, batch: int) -> Callable[..., tuple[State, Array, Array]]:
    """Compile one epoch: the same program for every learning rate, seed and epoch."""

    def run(
        state: State, tokens: Array, labels: Array, key: Key, rate: Array, epoch: Array
    ) -> tuple[State, Array, Array]:
        steps = step_of.steps // epochs
        epoch_key = jax.random.fold_in(key, epoch)
        order = jax.random.permutation(epoch_key, len(tokens))[: steps * batch]

        def step(carry: tuple[PyTree, PyTree], inputs: tuple[Array, Array]) -> tuple[tuple[PyTree, PyTree], Array]:
            index, number = inputs
            step_key = jax.random.fold_in(epoch_key, number)
            *carry, loss = step_of(*carry, (tokens[index], labels[index]), step_key, rate, epoch * steps + number)
            return tuple(carry), loss

        inputs = (order.reshape(steps, batch), jnp.arange(steps, dtype=jnp.uint32))
        (variables, optimizer_state), losses = jax.lax.scan(step, (state.variables, state.optimizer), inputs)
        finite = checks.finite_leaves(variables)
        return State(variables, optimizer_state, state.losses.at[epoch].set(losses.mean())), losses, finite

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
    """Return for every example whether the most likely class is the label, booleans ``[n]``.

    Args:
        apply: The model in evaluation mode; equal functions share compiled code.
        variables: Its variables.
        tokens: ``[n t *s]``.
        labels: Class numbers ``[n]``.
        execution: How to run; its ``chunk`` counts examples.

    Raises:
        ValueError: If there is no example, or a label is not the number of a class.
        FloatingPointError: If a logit is not finite; the first example with one is named.

    Example:
        >>> def apply(variables, tokens, mask=None):
        ...     return tokens[..., 0]
        >>> tokens = np.array([[[2.0], [1.0]], [[0.0], [3.0]]], np.float32)
        >>> accuracy(apply, {}, tokens, np.array([0, 0]))
        array([ True, False])
    """
    require_execution(execution)
    require_functions(apply=apply)
    items = (checks.on_device_values("tokens", tokens), require_labels(labels, None))
    if np.ndim(items[0]) < 1:
        raise ValueError(f"tokens must be [n t *s], got shape {np.shape(items[0])}")
    if len(items[0]) != len(items[1]):
        raise ValueError(f"labels must be as many as tokens, {len(items[0])}, got {len(items[1])}")
    spec = jax.ShapeDtypeStruct((1, *items[0].shape[1:]), items[0].dtype)
    require_labels(labels, checks.output_shapes(apply, variables, spec).shape[-1])
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
