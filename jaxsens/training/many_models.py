"""Training many models of one shape together: stacked on a leading axis, mapped over, shared out over devices.

Every member has its own key, learning rate, batch size, data set and stopping time, and takes the steps that it would
take alone. After an epoch those that have stopped leave the stack that is sent to the devices. The recipe is that of
Kövér et al., Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions, F.2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from jaxsens.execution import Execution, parallel
from jaxsens.training.member_epoch import CROSS_ENTROPY, Assignment, Criterion, Epoch, Scores, Weights, adam
from jaxsens.training.one_model import resume
from jaxsens.typing import Apply, Array, Key, PyTree

__all__ = ["HISTORY", "KEPT", "Examples", "ManyConfig", "Members", "State", "Trained", "fit_many", "stack"]

TRAINING, STALE, REACHED, DIVERGED = range(4)
"""What became of a member: it used all epochs, stopped for lack of progress, reached what is enough, or diverged."""

KEPT = ("best", "last")

HISTORY = ("training_loss", "loss", "accuracy", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class ManyConfig:
    """How to train many models.

    Attributes:
        epochs: Passes over the data, at most.
        halve_after: Epochs without a smaller watched loss after which the learning rate is halved, and again after as
            many more; None: never.
        stop_after: Epochs without a smaller watched loss after which a member stops; None: never.
        enough: The watched accuracy at which a member stops; None: it goes on.
        enough_loss: The watched loss at or below which a member stops; None: it goes on.
        keep: The weights of a member's ``"best"`` epoch, that of its smallest watched loss, or of its ``"last"``.
        rows: Strings in a block. Gradients of a batch are summed over blocks: it alters results by rounding only.
        at_once: Members that a device trains at once, in lockstep; alters results by rounding only. On a CPU 1 is the
            fastest, or nearly so; an accelerator wants many.
        precision: Of matrix products, as in ``jax.default_matmul_precision``.
        checkpoint_every: Epochs between checkpoints, where a folder for them is given.

    Raises:
        ValueError: If a number is out of range.
    """

    epochs: int
    halve_after: int | None = 5
    stop_after: int | None = 10
    enough: float | None = None
    enough_loss: float | None = None
    keep: str = "best"
    rows: int = 32
    at_once: int = 1
    precision: str = "highest"
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "halve_after", "stop_after", "rows", "at_once", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and (value < 1 or value != int(value)):
                raise ValueError(f"{name} must be an integer of at least 1, got {value}")
        if self.enough is not None and not 0 < self.enough <= 1:
            raise ValueError(f"enough must be an accuracy above 0 and at most 1, got {self.enough}")
        if self.enough_loss is not None and not 0 <= self.enough_loss < np.inf:
            raise ValueError(f"enough_loss must be a finite loss of at least 0, got {self.enough_loss}")
        if self.keep not in KEPT:
            raise ValueError(f"keep must be one of {KEPT}, got {self.keep!r}")


@dataclass(frozen=True, kw_only=True)
class Members:
    """The members' own numbers, each an array ``[m]``.

    Attributes:
        learning_rate: Of Adam, at the start.
        batch: Strings in a step; the last step of an epoch takes what is left.
        dataset: Which data set each one learns.
        weight_decay: Decoupled (AdamW's), relative to the learning rate; 0 if not given.

    Raises:
        ValueError: If they are not as many, or out of range.
    """

    learning_rate: Array
    batch: Array
    dataset: Array
    weight_decay: Array | None = None

    def __post_init__(self) -> None:
        if self.weight_decay is None:
            object.__setattr__(self, "weight_decay", np.zeros(np.shape(self.learning_rate)))
        wanted = {"learning_rate": np.float32, "batch": np.int32, "dataset": np.int32, "weight_decay": np.float32}
        for name, dtype in wanted.items():
            given = np.asarray(getattr(self, name))
            if given.ndim != 1 or len(given) != len(np.atleast_1d(self.learning_rate)) or not len(given):
                raise ValueError(f"{name} must be one number for each member, [m], got shape {given.shape}")
            smallest = {"learning_rate": np.nextafter(np.float32(0), np.float32(1)), "batch": 1}.get(name, 0)
            whole = given == np.floor(given) if dtype == np.int32 else True
            bad = ~((given >= smallest) & (given <= np.finfo(np.float32).max) & whole)
            if bad.any():
                member = int(bad.argmax())
                kind = "an integer" if dtype == np.int32 else "a finite number"
                above = "above 0" if name == "learning_rate" else f"of at least {smallest}"
                raise ValueError(f"{name} of member {member} must be {kind} {above}, got {given[member]}")
            object.__setattr__(self, name, given.astype(dtype))


class State(NamedTuple):
    """What training carries from epoch to epoch, on the host, with the members on every leading axis."""

    weights: Weights
    kept: PyTree
    learning_rate: np.ndarray
    smallest: np.ndarray
    best_epoch: np.ndarray
    epochs: np.ndarray
    status: np.ndarray
    history: dict[str, np.ndarray]


@dataclass(frozen=True)
class Trained:
    """What became of the members.

    Attributes:
        variables: ``{"params": ...}`` with a leading axis ``[m]``, on the host: of the best epoch or of the last, as
            configured; of a member that diverged, of those epochs that left them finite.
        status: ``TRAINING`` (used all epochs), ``STALE``, ``REACHED`` or ``DIVERGED`` ``[m]``.
        epochs: Epochs done ``[m]``; of one that diverged, with the epoch in which it did.
        best_epoch: The epoch of the smallest watched loss, from 1; 0 if there is none ``[m]``.
        history: ``training_loss``, watched ``loss`` and ``accuracy``, and ``learning_rate`` by epoch ``[m epochs]``;
            NaN after a member's last one.
    """

    variables: PyTree
    status: np.ndarray
    epochs: np.ndarray
    best_epoch: np.ndarray
    history: dict[str, np.ndarray]

    def member(self, number: int) -> PyTree:
        """Return the variables of one member."""
        return jax.tree.map(lambda a: a[number], self.variables)


Examples = tuple[Array, Array]
"""Strings ``[s n *]`` and targets ``[s n]`` of s data sets of one size."""


def stack(models: Sequence[PyTree]) -> PyTree:
    """Return models' variables as one pytree with a leading axis ``[m]``, on the host.

    Raises:
        ValueError: If there is none, or if they differ in structure or shapes.
    """
    if not models:
        raise ValueError("models must be one at least, got none")
    shapes = [jax.tree.map(np.shape, model) for model in models]
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(f"models must have one shape, but number {number} has {shape}, and the first {shapes[0]}")
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *models)


def fit_many(
    keys: Key,
    apply: Apply,
    variables: PyTree,
    members: Members,
    data: Examples | Callable[[int], Examples],
    config: ManyConfig,
    *,
    watched: Examples | None = None,
    criterion: Criterion = CROSS_ENTROPY,
    after_epoch: Callable[[int, np.ndarray, PyTree], None] | None = None,
    checkpoint: Path | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: str | None = None,
) -> Trained:
    """Train many models of one shape with Adam, and return the weights and the history of each.

    Results of a member do not hang on the others, up to rounding: the order of its examples is drawn from its own key.

    Args:
        keys: One for each member ``[m]``, or one that is folded by their numbers.
        apply: ``apply({"params": ...}, strings [b *]) -> outputs [b]``; equal functions share compiled code.
        variables: ``{"params": ...}`` with a leading axis ``[m]``; see ``stack``.
        members: Their own numbers.
        data: Strings ``[s n *]`` and targets ``[s n]`` to learn, or ``data(epochs done)``, which gives them for an
            epoch: a pure function, for fresh strings all the time.
        config: How to train.
        watched: What decides on learning rates, stopping, and the best epoch: strings and targets of the same data
            sets that are not learned; by default those that are.
        criterion: What is minimised, and what counts as correct.
        after_epoch: Called as ``after_epoch(epochs done, members [w], variables [w ...])`` for the members that did
            that epoch and did not diverge. A resumed run begins with the call of the epoch it resumes from.
        checkpoint: A folder to save the whole stack in, and to resume from; for one training only.
        devices: Devices to use, by default all of this process.
        progress: Label of a progress bar.

    Raises:
        ValueError: If shapes do not fit together, if a data set is named that is not there, or if a batch exceeds the
            data; the message says which.
        OSError: If a checkpoint cannot be written, with its path; the last whole one stays.
    """
    state = _start(variables, config, members)
    epoch_of = Epoch(apply, criterion, config.rows, config.precision)
    words = np.asarray(jax.random.key_data(_one_each(keys, len(members.batch))))
    done, state = _resume(checkpoint, state)
    if done and after_epoch is not None:
        _report(after_epoch, done, state)
    devices = parallel.local_devices(devices)
    if not callable(data):  # sent once, not for every epoch
        _check(members, data, watched)
        data = parallel.replicate(data, devices)
    watched = parallel.replicate(watched, devices)
    with tqdm(
        desc=progress, total=config.epochs, initial=done, delay=2, leave=False, disable=progress is None, unit="epoch",
        dynamic_ncols=True,
    ) as bar:  # fmt: skip
        while done < config.epochs and (state.status == TRAINING).any():
            now = data(done) if callable(data) else data
            _check(members, now, watched)
            active = np.flatnonzero(state.status == TRAINING)
            weights, scores = _advance(epoch_of, state, members, words, active, done, now, watched, config, devices)
            state = _settle(state, config, active, done, weights, scores)
            done += 1
            if checkpoint is not None and (
                done % config.checkpoint_every == 0 or done == config.epochs or not (state.status == TRAINING).any()
            ):
                _save(checkpoint, done, state)
            bar.update()
            bar.set_postfix(training=int((state.status == TRAINING).sum()), loss=f"{np.median(scores.loss):.3f}")
            if after_epoch is not None:
                _report(after_epoch, done, state)
    return Trained({"params": state.kept}, state.status, state.epochs, state.best_epoch, state.history)


def _one_each(keys: Key, count: int) -> Key:
    if not jnp.issubdtype(jnp.asarray(keys).dtype, jax.dtypes.prng_key) or keys.shape not in ((), (count,)):
        raise ValueError(f"keys must be one typed key, as of jax.random.key(seed), or one for each member, got {keys}")
    return jax.vmap(partial(jax.random.fold_in, keys))(np.arange(count)) if keys.shape == () else keys


def _start(variables: PyTree, config: ManyConfig, members: Members) -> State:
    if not isinstance(variables, dict) or variables.keys() != {"params"}:
        found = sorted(variables) if isinstance(variables, dict) else type(variables).__name__
        raise ValueError(f"variables must be {{'params': ...}} with a leading axis of members, got {found}")
    params, count = jax.tree.map(np.asarray, variables["params"]), len(members.batch)
    for path, leaf in jax.tree.leaves_with_path(params):
        if leaf.shape[:1] != (count,):
            name = jax.tree_util.keystr(path)
            raise ValueError(f"variables['params']{name} must have a leading axis of {count} members, got {leaf.shape}")
    moments = jax.tree.map(np.asarray, jax.vmap(adam(0.0).init)(params))
    zeros = np.zeros(count, np.int32)
    history = {name: np.full((count, config.epochs), np.nan, np.float32) for name in HISTORY}
    smallest = np.full(count, np.inf, np.float32)
    return State(Weights(params, moments), params, members.learning_rate, smallest, zeros, zeros, zeros, history)


def _advance(
    epoch_of: Epoch, state: State, members: Members, words: np.ndarray, active: np.ndarray, done: int, data: Examples,
    watched: Examples | None, config: ManyConfig, devices: Sequence[jax.Device] | None,
) -> tuple[Weights, Scores]:  # fmt: skip
    """Let the active members do an epoch.

    They come first, those of similar batches next to each other, and the places of the others are filled with idle
    copies: so all epochs have one shape and one program, and whole blocks of idle members take no time.
    """
    count = len(members.batch)
    order = active[np.argsort(members.batch[active], kind="stable")]
    places = np.concatenate([order, np.repeat(order[-1:], count - len(order))])
    own = Assignment(
        words[places], state.learning_rate[places], members.weight_decay[places], members.batch[places],
        members.dataset[places], np.full(count, done, np.uint32), np.arange(count) < len(order),
    )  # fmt: skip
    items = (jax.tree.map(lambda a: a[places], state.weights), own)
    found = parallel.map_items(
        epoch_of, items, data, watched, execution=Execution(chunk=config.at_once, devices=devices)
    )
    back = np.argsort(order)
    return jax.tree.map(lambda a: a[: len(order)][back], found)


def _settle(state: State, config: ManyConfig, active: np.ndarray, done: int, weights: Weights, scores: Scores) -> State:
    """Return the state after an epoch of the active members: schedules, stopping, the best weights so far."""
    finite = scores.finite
    sound = active[finite]

    def put(old: PyTree, new: PyTree, where: np.ndarray, chosen: np.ndarray) -> PyTree:
        def one(old: np.ndarray, new: np.ndarray) -> np.ndarray:
            old = old.copy()
            old[where] = new[chosen]
            return old

        return jax.tree.map(one, old, new)

    rate, smallest, best, epochs, status = (a.copy() for a in state[2:7])
    history = {name: a.copy() for name, a in state.history.items()}
    for name in HISTORY[:-1]:
        history[name][active, done] = getattr(scores, name)
    history["learning_rate"][active, done] = rate[active]
    epochs[active] = done + 1
    better = finite & (scores.loss < smallest[active])
    improved = active[better]
    smallest[improved], best[improved] = scores.loss[better], done + 1
    stale = done + 1 - best[active]
    if config.halve_after is not None:
        rate[active[(stale > 0) & (stale % config.halve_after == 0)]] /= 2
    if config.stop_after is not None:
        status[active[stale >= config.stop_after]] = STALE
    if config.enough is not None:
        status[active[scores.accuracy >= config.enough]] = REACHED
    if config.enough_loss is not None:
        status[active[scores.loss <= config.enough_loss]] = REACHED
    status[active[~finite]] = DIVERGED
    chosen = better if config.keep == "best" else finite
    kept = put(state.kept, weights.params, active[chosen], chosen)
    return State(put(state.weights, weights, sound, finite), kept, rate, smallest, best, epochs, status, history)


def _report(after_epoch: Callable[[int, np.ndarray, PyTree], None], done: int, state: State) -> None:
    present = np.flatnonzero((state.epochs == done) & (state.status != DIVERGED))
    if len(present):
        after_epoch(done, present, {"params": jax.tree.map(lambda a: a[present], state.weights.params)})


def _resume(checkpoint: Path | None, state: State) -> tuple[int, State]:
    done, state = resume(checkpoint, jax.tree.map(jnp.asarray, state))  # Orbax tells arrays of the host apart
    return done, jax.tree.map(np.array, state)


def _save(checkpoint: Path, done: int, state: State) -> None:
    from jaxsens.training import checkpoints  # Orbax takes a second to import, and few need it.

    checkpoints.save(checkpoint, done, jax.tree.map(jnp.asarray, state))


def _check(members: Members, data: Examples, watched: Examples | None) -> None:
    sets = None
    for name, pair in (("data", data), ("watched", watched)):
        if pair is None:
            continue
        strings, targets = (np.shape(a) for a in pair)
        if len(targets) != 2 or strings[:2] != targets or 0 in targets:
            raise ValueError(f"{name} must be strings [s n *] and targets [s n], got shapes {strings} and {targets}")
        if sets is not None and targets[0] != sets:
            raise ValueError(f"watched must have the {sets} data sets of data, got {targets[0]}")
        sets = targets[0]
    for name, largest, meaning in (
        ("dataset", sets - 1, "the last data set"),
        ("batch", np.shape(data[1])[1], "all examples"),
    ):
        given = getattr(members, name)
        if given.max() > largest:
            member = int(given.argmax())
            raise ValueError(f"{name} of member {member} must be at most {largest}, {meaning}, got {given[member]}")
