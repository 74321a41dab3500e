"""Training many models of one shape together: stacked on a leading axis, mapped over, distributed over devices.

Every member has its own key, learning rate, batch size, data set and stopping time, and takes the steps that it would
take alone. Members that have stopped are no longer sent to the devices. The recipe follows Kövér et al.,
Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions, F.2.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from jaxsens.execution import Execution, batches, memory, parallel
from jaxsens.execution.checks import require_functions
from jaxsens.training import checks
from jaxsens.training.many_config import KEPT, ManyConfig, Members
from jaxsens.training.many_state import (
    DIVERGED,
    HISTORY,
    REACHED,
    STALE,
    TRAINING,
    State,
    Trained,
    settle,
    stack,
    start,
)
from jaxsens.training.member_epoch import CROSS_ENTROPY, Assignment, Criterion, Epoch, Scores, Weights
from jaxsens.training.one_model import resume
from jaxsens.typing import Apply, Array, Key, PyTree

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

Examples = tuple[Array, Array]
"""Strings ``[s n *]`` and targets ``[s n]`` of s data sets of one size."""


def fit_many(
    keys: Key,
    apply: Apply,
    variables: PyTree,
    members: Members,
    data: Examples | Callable[[int], Examples],
    config: ManyConfig,
    *,
    validation: Examples | None = None,
    criterion: Criterion = CROSS_ENTROPY,
    after_epoch: Callable[[int, np.ndarray, PyTree], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: str | None = None,
) -> Trained:
    """Train many models of one shape with Adam or SGD, and return the weights and the history of each.

    The results of a member do not depend on the others, up to rounding: the order of its examples is drawn from its own
    key.

    Args:
        keys: One key for each member ``[m]``, or one key, into which the members' numbers are folded.
        apply: ``apply({"params": ...}, strings [b *]) -> outputs [b]``; equal functions share compiled code.
        variables: ``{"params": ...}`` with a leading axis ``[m]``; see ``stack``.
        members: Learning rate, batch size, data set and weight decay of each member.
        data: Strings ``[s n *]`` (bits, if they are integers) and targets ``[s n]`` to learn; or a pure function
            ``data(epochs done)`` that returns them, for new strings in every epoch.
        config: Settings of the training.
        validation: Strings and targets of the same data sets that are not learned, by which learning rates, stopping
            and the best epoch are decided; by default the data themselves.
        criterion: The loss, and which outputs count as correct.
        after_epoch: Called as ``after_epoch(epochs done, members [w], variables [w ...])`` for the members that did
            that epoch and did not diverge. A resumed run begins with the call of the epoch it resumes from.
        checkpoint: A folder to save all members in, and to resume from. It holds a fingerprint of configuration, keys,
            data and initial variables, and another training is refused.
        devices: Devices to use, by default all of this process.
        progress: Label of a progress bar.

    Raises:
        ValueError: If shapes do not fit together, strings are not bits, targets are outside those of the criterion, a
            data set does not exist, a batch is larger than the data, or the checkpoint is damaged or belongs to another
            training; the message says which.
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
    for name, value, kind in (
        ("members", members, Members),
        ("config", config, ManyConfig),
        ("criterion", criterion, Criterion),
    ):
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be a training.{kind.__name__}, got {value!r}")
    devices = parallel.local_devices(devices)[: 1 if config.reproducible else None]
    decisive = checks.reproducible_setting(devices[0]) if config.reproducible else None
    checkpoint = checks.as_folder(checkpoint)
    epoch_of = Epoch(apply, criterion, config.rows, config.precision, config.optimizer)
    validation, sets = (None, None) if validation is None else _checked("validation", validation, criterion)
    if not callable(data):
        data = _checked_data(members, data, criterion, sets)
    state = start(variables, config, members)
    config = replace(config, models_per_device=_at_once(config, variables, len(members.batch), devices))
    words = checks.key_words(keys, len(members.batch))
    identity = None
    if checkpoint is not None:
        identity = _identity(apply, criterion, config, members, words, data, validation, variables, decisive)
    done, state = _resume(checkpoint, state, identity)
    if done and after_epoch is not None:
        _report(after_epoch, done, state)
    if not callable(data):
        data = parallel.replicate(data, devices)  # sent once, not in every epoch
    validation = parallel.replicate(validation, devices)
    with tqdm(
        desc=progress, total=config.epochs, initial=done, delay=2, leave=False, disable=progress is None, unit="epoch",
        dynamic_ncols=True,
    ) as bar:  # fmt: skip
        while done < config.epochs and (state.status == TRAINING).any():
            now = _checked_data(members, data(done), criterion, sets) if callable(data) else data
            active = np.flatnonzero(state.status == TRAINING)
            weights, scores = _advance(epoch_of, state, members, words, active, done, now, validation, config, devices)
            state = settle(state, config, active, done, weights, scores)
            done += 1
            if checkpoint is not None and (
                done % config.checkpoint_every == 0 or done == config.epochs or not (state.status == TRAINING).any()
            ):
                _save(checkpoint, done, state, identity)
            bar.update()
            bar.set_postfix(training=int((state.status == TRAINING).sum()), loss=f"{np.median(scores.loss):.3f}")
            if after_epoch is not None:
                _report(after_epoch, done, state)
    return Trained({"params": state.kept}, state.status, state.epochs, state.best_epoch, state.history)


_COPIES = 5
"""What a member holds while it trains, in copies of its weights: weights, two moments, a gradient, and what is new."""


_MOST = 64
"""Members at the same time by default: their activations are memory, too, and a group ends with its last member."""


def _at_once(config: ManyConfig, variables: PyTree, count: int, devices: Sequence[jax.Device]) -> int:
    """Return how many members a device trains at the same time."""
    execution = Execution(devices=devices)
    if config.models_per_device is not None:
        return config.models_per_device
    if execution.platform == "cpu":
        return 1
    one = jax.eval_shape(lambda tree: batches.select_model(tree, 0), variables)
    room = max(1, memory.room_for_copies(one, execution) // _COPIES)
    return batches.evenly(-(-count // len(devices)), min(room, _MOST))


def _advance(
    epoch_of: Epoch, state: State, members: Members, words: np.ndarray, active: np.ndarray, done: int, data: Examples,
    validation: Examples | None, config: ManyConfig, devices: Sequence[jax.Device] | None,
) -> tuple[Weights, Scores]:  # fmt: skip
    """Train the active members for an epoch.

    They come first, sorted by batch size, and the rest of the stack is filled with idle copies. All epochs therefore
    have one shape and one program, and whole blocks of idle members take no time.
    """
    count = len(members.batch)
    order = active[np.argsort(members.batch[active], kind="stable")]
    places = np.concatenate([order, np.repeat(order[-1:], count - len(order))])
    assignment = Assignment(
        words[places], state.learning_rate[places], members.weight_decay[places], members.batch[places],
        members.dataset[places], np.full(count, done, np.uint32), np.arange(count) < len(order),
    )  # fmt: skip
    items = (jax.tree.map(lambda a: a[places], state.weights), assignment)
    backend = "jit" if config.reproducible else "pmap"
    execution = Execution(chunk=config.models_per_device, devices=devices, backend=backend)
    results = parallel.map_items(epoch_of, items, data, validation, execution=execution)
    back = np.argsort(order)
    return jax.tree.map(lambda a: a[: len(order)][back], results)


def _report(after_epoch: Callable[[int, np.ndarray, PyTree], None], done: int, state: State) -> None:
    present = np.flatnonzero((state.epochs == done) & (state.status != DIVERGED))
    if len(present):
        after_epoch(done, present, {"params": jax.tree.map(lambda a: a[present], state.weights.params)})


def _identity(
    apply: Apply, criterion: Criterion, config: ManyConfig, members: Members, words: np.ndarray,
    data: Examples | Callable[[int], Examples], validation: Examples | None, variables: PyTree, decisive: str | None,
) -> dict[str, str]:  # fmt: skip
    """Return the fingerprint of a training."""
    from jaxsens.training import checkpoints

    only_rounding = ("rows", "models_per_device", "checkpoint_every", "reproducible")
    settings = {name: value for name, value in vars(config).items() if name not in only_rounding}
    settings |= {"model": apply, "criterion": criterion}
    if config.optimizer == "adam":  # checkpoints of Adam from before there was a choice can be resumed
        del settings["optimizer"]
    if decisive is not None:
        settings |= {"reproducible": decisive, "rows": config.rows, "models_per_device": config.models_per_device}
    arrays = {"keys": words, "members": vars(members), "validation": validation, "initial variables": variables}
    if callable(data):
        return checkpoints.fingerprint(settings | {"data": data}, arrays)
    return checkpoints.fingerprint(settings, arrays | {"data": data})


def _resume(checkpoint: Path | None, state: State, identity: dict[str, str] | None) -> tuple[int, State]:
    # On devices, since Orbax restores arrays of the host in another way.
    done, state = resume(checkpoint, jax.tree.map(jnp.asarray, state), identity)
    return done, jax.tree.map(np.array, state)


def _save(checkpoint: Path, done: int, state: State, identity: dict[str, str] | None) -> None:
    from jaxsens.training import checkpoints  # Orbax takes a second to import, and few need it.

    checkpoints.save(checkpoint, done, jax.tree.map(jnp.asarray, state), identity)


def _checked_data(members: Members, data: Examples, criterion: Criterion, sets: int | None) -> Examples:
    """Return strings and targets as devices hold them, or raise ValueError if they do not fit the members."""
    data, count = _checked("data", data, criterion)
    if sets is not None and sets != count:
        raise ValueError(f"validation must have the {count} data sets of data, got {sets}")
    for name, largest, meaning in (
        ("dataset", count - 1, "the last data set"),
        ("batch", np.shape(data[1])[1], "all examples"),
    ):
        given = getattr(members, name)
        if given.max() > largest:
            member = int(given.argmax())
            raise ValueError(f"{name} of member {member} must be at most {largest}, {meaning}, got {given[member]}")
    return data


def _checked(name: str, examples: Examples, criterion: Criterion) -> tuple[Examples, int]:
    """Return examples as devices hold them, and the number of data sets, or raise ValueError."""
    if not isinstance(examples, tuple | list) or len(examples) != 2:
        raise ValueError(f"{name} must be strings [s n *] and targets [s n], got {type(examples).__name__}")
    strings, targets = (
        checks.on_device_values(f"{name}: {part}", a) for part, a in zip(("strings", "targets"), examples, strict=True)
    )
    shape = targets.shape
    if len(shape) != 2 or strings.shape[:2] != shape or 0 in shape:
        raise ValueError(f"{name} must be strings [s n *] and targets [s n], got shapes {strings.shape} and {shape}")
    if "c" in (strings.dtype.kind, targets.dtype.kind):
        raise ValueError(f"{name} must have real strings and targets, got {strings.dtype} and {targets.dtype}")
    values = np.asarray(strings)
    wrong = (values != 0) & (values != 1) if values.dtype.kind in "iu" else ~np.isfinite(values)
    if wrong.any():
        raise ValueError(f"{name} must have strings of bits, 0 or 1, or finite floats, got {values[wrong][0]}")
    values, (low, high) = np.asarray(targets), criterion.targets
    wrong = ~((values >= low) & (values <= high))
    if wrong.any():
        raise ValueError(
            f"{name} must have targets from {low:g} to {high:g}, those of the criterion, got {values[wrong][0]}"
        )
    return (strings, targets), shape[0]
