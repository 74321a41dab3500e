"""Training many models of one shape together: stacked on a leading axis, mapped over, distributed over devices.

Every member has its own key, learning rate, batch size, data set and stopping time, and takes the steps that it would
take alone. Members that have stopped are no longer sent to the devices. The recipe follows Kövér et al.,
Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions, F.2.
"""

import operator
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from jaxsens.execution import Execution, backends, batches, memory, parallel
from jaxsens.execution.checks import require_functions
from jaxsens.execution.resident import Resident
from jaxsens.training import checks
from jaxsens.training.batch_step import Step
from jaxsens.training.group_size import group_size
from jaxsens.training.many_config import KEPT, ManyConfig, Members
from jaxsens.training.many_data import Data, Examples
from jaxsens.training.many_state import (
    DIVERGED,
    HISTORY,
    REACHED,
    STALE,
    TRAINING,
    Progress,
    State,
    Trained,
    returned,
    settle,
    stack,
    start,
)
from jaxsens.training.member_epoch import CLASS_CROSS_ENTROPY, CROSS_ENTROPY, Assignment, Criterion, Epoch, Scores
from jaxsens.training.objectives import CrossEntropy, Objective
from jaxsens.training.one_model import resume
from jaxsens.training.optimizers import Optimizer
from jaxsens.typing import Apply, Key, PyTree, TrainApply

__all__ = [
    "DIVERGED",
    "HISTORY",
    "KEPT",
    "REACHED",
    "STALE",
    "TRAINING",
    "Examples",
    "ManyConfig",
    "Members",
    "State",
    "Trained",
    "fit_many",
    "stack",
]


def fit_many(
    keys: Key,
    apply: Apply,
    variables: PyTree,
    members: Members,
    data: Examples | Callable[[int], Examples],
    config: ManyConfig,
    *,
    validation: Examples | None = None,
    criterion: Criterion | None = None,
    train_apply: TrainApply | None = None,
    objective: Objective | None = None,
    after_epoch: Callable[[int, np.ndarray, PyTree], None] | None = None,
    report_epochs: Collection[int] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: str | None = None,
) -> Trained:
    """Train many models of one shape with Adam or SGD, and return the weights and the history of each.

    The results of a member do not depend on the others, up to rounding: the order of its examples is drawn from its own
    key. Weights and moments stay on the devices, except in several processes; see ``execution.resident``.

    With ``train_apply`` the models may have dropout and batch statistics, and a member takes the steps that
    ``training.fit`` takes with its key, in batches of which the rest of an epoch is left out. Without it the rest is a
    smaller batch.

    Args:
        keys: One key for each member ``[m]``, or one key, into which the members' numbers are folded.
        apply: ``apply({"params": ...}, strings [b *]) -> outputs [b]``, the model in evaluation mode; equal functions
            share compiled code.
        variables: ``{"params": ...}`` with a leading axis ``[m]``; see ``stack``. With ``train_apply`` there may be
            other collections.
        members: Learning rate, batch size, data set and weight decay of each member.
        data: Strings ``[s n *]`` (bits, if they are integers) and targets ``[s n]`` to learn; or a pure function
            ``data(epochs done)`` that returns them, for new strings in every epoch. With ``train_apply``, any tokens
            ``[s n t *]`` and the labels that the objective takes.
        config: Settings of the training.
        validation: Strings and targets of the same data sets that are not learned, by which learning rates, stopping
            and the best epoch are decided; by default the data themselves.
        criterion: The loss, and which outputs count as correct; by default ``CROSS_ENTROPY``. With ``train_apply`` only
            the loss after every epoch, by default ``CLASS_CROSS_ENTROPY``, for ``apply(variables, tokens)`` that
            returns logits ``[b k]``.
        train_apply: The model in training mode; equal functions share compiled code. All members have one batch size.
        objective: The loss that is learned with ``train_apply``, by default ``CrossEntropy()``.
        after_epoch: Called as ``after_epoch(epochs done, members [w], variables [w ...])`` for the members that did
            that epoch and did not diverge. A resumed run begins with the call of the epoch it resumes from.
        report_epochs: Numbers of epochs done at which it is called, by default all; at others no weights leave the
            devices for it.
        checkpoint: A folder to save all members in, and to resume from. It holds a fingerprint of configuration, keys,
            data and initial variables, and another training is refused.
        devices: Devices to use, by default all of this process.
        progress: Label of a progress bar.

    Raises:
        ValueError: If shapes do not fit together, strings are not bits, targets are outside those of the criterion or
            no class numbers, a data set does not exist, a batch is larger than the data, batches differ with
            ``train_apply``, an objective or a schedule comes without it, or the checkpoint is damaged or belongs to
            another training; the message says which.
        OSError: If a checkpoint cannot be written, with its path; the last whole one stays.

    Example:
        >>> def apply(variables, strings, mask=None):
        ...     return strings @ variables["params"]["w"]
        >>> models = stack([{"params": {"w": np.zeros(1, np.float32)}}] * 2)
        >>> members = Members(learning_rate=[0.1, 1.0], batch=[1, 2], dataset=[0, 0])
        >>> data = (np.array([[[1], [1]]], np.float32), np.array([[1, 1]], np.float32))
        >>> trained = fit_many(jax.random.key(0), apply, models, members, data, ManyConfig(epochs=3))
        >>> trained.history["accuracy"]
        array([[1., 1., 1.],
               [1., 1., 1.]], dtype=float32)
    """
    require_functions(apply=apply)
    checks.require_reports(after_epoch, progress)
    if criterion is None:
        criterion = CROSS_ENTROPY if train_apply is None else CLASS_CROSS_ENTROPY
    for name, value, kind in (
        ("members", members, Members),
        ("config", config, ManyConfig),
        ("criterion", criterion, Criterion),
    ):
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be a training.{kind.__name__}, got {value!r}")
    devices = backends.local_devices(devices)[: 1 if config.reproducible else None]
    decisive = checks.reproducible_setting(devices[0]) if config.reproducible else None
    checkpoint, reported = checks.as_folder(checkpoint), _checked_epochs(report_epochs)
    learned = Data.checked(members, data, validation, criterion, bits=train_apply is None)
    first = None if train_apply is None else learned.at(0)  # for shapes and labels; a function may take long
    epoch_of = _epoch(apply, learned, first, config, train_apply, objective)
    state = start(variables, config, members, epoch_of.optimizer, others=train_apply is not None)
    if first is not None:
        learned.require_fit(epoch_of, variables, first)
    config = replace(
        config, models_per_device=_at_once(config, epoch_of, variables, len(members.batch), first, devices)
    )
    words = checks.key_words(keys, len(members.batch))
    identity = None
    if checkpoint is not None:
        identity = _identity(epoch_of, config, words, learned, variables, decisive)
    done, state = _resume(checkpoint, state, identity)
    (member, numbers), learned = state.split(epoch_of.best), learned.on(devices)
    backend = "jit" if config.reproducible else "pmap"
    execution = Execution(chunk=config.models_per_device, devices=devices, backend=backend)
    resident = Resident(epoch_of, member, execution)
    del state, member  # the host does not keep what devices hold
    report = _Report(after_epoch, reported, resident)
    report(done, numbers)
    with tqdm(
        desc=progress, total=config.epochs, initial=done, delay=2, leave=False, disable=progress is None, unit="epoch",
        dynamic_ncols=True,
    ) as bar:  # fmt: skip
        while done < config.epochs and (numbers.status == TRAINING).any():
            active = np.flatnonzero(numbers.status == TRAINING)
            scores = _advance(resident, numbers, words, active, done, learned)
            numbers = settle(numbers, config, active, done, scores)
            done += 1
            if checkpoint is not None and (
                done % config.checkpoint_every == 0 or done == config.epochs or not (numbers.status == TRAINING).any()
            ):
                _save(checkpoint, done, State.of(resident.read(), numbers), identity)
            bar.update()
            losses = scores.loss if config.evaluate else scores.training_loss
            bar.set_postfix(training=int((numbers.status == TRAINING).sum()), loss=f"{np.median(losses):.3f}")
            report(done, numbers)
    kept = resident.read(lambda member: returned(member).variables)
    return Trained(kept, numbers.status, numbers.epochs, numbers.best_epoch, numbers.history)


def _epoch(
    apply: Apply, learned: Data, first: Examples | None, config: ManyConfig, train_apply: TrainApply | None,
    objective: Objective | None,
) -> Epoch:  # fmt: skip
    """Return the epoch of a member, or raise ValueError if arguments contradict each other."""
    optimizer = config.optimizer if isinstance(config.optimizer, Optimizer) else Optimizer(config.optimizer)
    shared = apply, learned.criterion, config.rows, config.precision, optimizer, config.keep == "best", config.evaluate
    if train_apply is None:
        if objective is not None:
            raise ValueError(f"objective needs train_apply, the model in training mode, got {objective!r} without it")
        if (optimizer.schedule, optimizer.warmup) != ("constant", 0):
            raise ValueError(f"schedule and warmup of the optimizer need train_apply, got {optimizer} without it")
        return Epoch(*shared)
    objective = CrossEntropy() if objective is None else objective
    require_functions(train_apply=train_apply, objective=objective)
    batches_given = sorted({int(batch) for batch in learned.members.batch})
    if len(batches_given) > 1:
        raise ValueError(f"batch must be the same for all members with train_apply, got {batches_given}")
    steps = first[1].shape[1] // batches_given[0] * config.epochs
    return Epoch(*shared, Step(train_apply, objective, optimizer, steps, precision=config.precision), batches_given[0])


def _at_once(
    config: ManyConfig, epoch_of: Epoch, variables: PyTree, count: int, first: Examples | None,
    devices: Sequence[jax.Device],
) -> int:  # fmt: skip
    """Return how many members a device trains at the same time."""
    if config.models_per_device is not None:
        return config.models_per_device
    spec = jax.eval_shape(lambda tree: batches.select_model(tree, 0), variables)
    # Blocks are small, and what the gradient of one keeps is not counted.
    gradient = 0 if first is None else _gradient_bytes(epoch_of, spec, first)
    return group_size(spec, count, Execution(devices=devices), gradient)


def _gradient_bytes(epoch_of: Epoch, variables: PyTree, examples: Examples) -> int:
    """Return what the gradient of a batch keeps, at most."""
    tokens, labels = (jax.ShapeDtypeStruct((epoch_of.batch, *a.shape[2:]), a.dtype) for a in examples)
    objective = parallel.bind(epoch_of.step.objective, epoch_of.step.train_apply)
    return memory.bytes_of_results(objective, variables, tokens, labels, jax.eval_shape(jax.random.key, 0))


def _advance(
    resident: Resident, numbers: Progress, words: np.ndarray, active: np.ndarray, done: int, learned: Data
) -> Scores:
    """Train the active members for an epoch, sorted by batch size."""
    members = learned.members
    order = active[np.argsort(members.batch[active], kind="stable")]
    assignment = Assignment(
        words[order], numbers.learning_rate[order], members.weight_decay[order], members.batch[order],
        members.dataset[order], np.full(len(order), done, np.uint32), numbers.smallest[order],
    )  # fmt: skip
    results = resident.update(order, assignment, learned.at(done), learned.validation)
    back = np.argsort(order)
    return jax.tree.map(lambda a: a[back], results)


class _Report:
    """The call of ``after_epoch``, for the members that did the epoch and did not diverge in it."""

    def __init__(
        self, after_epoch: Callable[[int, np.ndarray, PyTree], None] | None, epochs: set[int] | None, resident: Resident
    ) -> None:
        self._after_epoch, self._epochs, self._resident = after_epoch, epochs, resident

    def __call__(self, done: int, numbers: Progress) -> None:
        if self._after_epoch is None or done == 0 or not (self._epochs is None or done in self._epochs):
            return
        present = np.flatnonzero((numbers.epochs == done) & (numbers.status != DIVERGED))
        if len(present):
            variables = self._resident.read(lambda member: member.weights.variables)
            self._after_epoch(done, present, jax.tree.map(lambda a: a[present], variables))


def _checked_epochs(epochs: Collection[int] | None) -> set[int] | None:
    """Return numbers of epochs as a set, or raise ValueError."""
    if epochs is None:
        return None
    try:
        return {operator.index(epoch) for epoch in epochs}
    except TypeError:
        raise ValueError(f"report_epochs must be numbers of epochs, or None for all, got {epochs!r}") from None


def _identity(
    epoch_of: Epoch, config: ManyConfig, words: np.ndarray, learned: Data, variables: PyTree, decisive: str | None
) -> dict[str, str]:
    """Return the fingerprint of a training."""
    from jaxsens.training import checkpoints

    only_rounding = ("rows", "models_per_device", "checkpoint_every", "reproducible")
    settings = {name: value for name, value in vars(config).items() if name not in only_rounding}
    settings |= {"model": epoch_of.apply, "criterion": learned.criterion}
    # Checkpoints from before there was a choice can be resumed.
    for name, only in (("optimizer", "adam"), ("evaluate", True)):
        if settings[name] == only:
            del settings[name]
    if epoch_of.step is not None:
        settings |= {"train_apply": epoch_of.step.train_apply, "objective": epoch_of.step.objective}
    if decisive is not None:
        settings |= {"reproducible": decisive, "rows": config.rows, "models_per_device": config.models_per_device}
    arrays = {"keys": words, "members": vars(learned.members), "validation": learned.validation}
    arrays |= {"initial variables": variables}
    if callable(learned.given):
        return checkpoints.fingerprint(settings | {"data": learned.given}, arrays)
    return checkpoints.fingerprint(settings, arrays | {"data": learned.given})


def _resume(checkpoint: Path | None, state: State, identity: dict[str, str] | None) -> tuple[int, State]:
    # On devices, since Orbax restores arrays of the host in another way.
    done, state = resume(checkpoint, jax.tree.map(jnp.asarray, state), identity)
    return done, jax.tree.map(np.array, state)


def _save(checkpoint: Path, done: int, state: State, identity: dict[str, str] | None) -> None:
    from jaxsens.training import checkpoints  # Orbax takes a second to import, and few need it.

    checkpoints.save(checkpoint, done, state, identity)
