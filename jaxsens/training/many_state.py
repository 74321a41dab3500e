"""The state of many models in training, and how an epoch changes it: learning rates, stopping, best weights.

Weights are on the devices; what decides learning rates and stopping, a few numbers of each model, is on the host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.training.many_config import ManyConfig, Members
from jaxsens.training.member_epoch import Member, Scores, Weights
from jaxsens.training.optimizers import Optimizer
from jaxsens.typing import Axes, Figure, PyTree

__all__ = [
    "DIVERGED",
    "HISTORY",
    "REACHED",
    "STALE",
    "STATUSES",
    "TRAINING",
    "Progress",
    "State",
    "Trained",
    "returned",
    "settle",
    "stack",
    "start",
]

TRAINING, STALE, REACHED, DIVERGED = range(4)
"""The status of a member: it used all epochs, its loss stopped falling, it reached its target, or it diverged."""

STATUSES = ("all epochs", "stale", "reached", "diverged")
"""The names of these, in their order."""

HISTORY = ("training_loss", "loss", "accuracy", "learning_rate")


class Progress(NamedTuple):
    """What the host keeps of the members ``[m]`` from epoch to epoch.

    Example:
        >>> Progress._fields[:2]
        ('learning_rate', 'smallest')
    """

    learning_rate: np.ndarray
    smallest: np.ndarray
    best_epoch: np.ndarray
    epochs: np.ndarray
    status: np.ndarray
    history: dict[str, np.ndarray]


class State(NamedTuple):
    """The whole state of a training, with the members on every leading axis; checkpoints have these names.

    Example:
        >>> State._fields[:2]
        ('weights', 'kept')
    """

    weights: Weights
    kept: PyTree
    learning_rate: np.ndarray
    smallest: np.ndarray
    best_epoch: np.ndarray
    epochs: np.ndarray
    status: np.ndarray
    history: dict[str, np.ndarray]
    statistics: PyTree = {}  # noqa: RUF012 (never changed)

    @classmethod
    def of(cls, member: Member, progress: Progress) -> "State":
        """Return the state of members and of what the host keeps of them."""
        kept = returned(member)
        return cls(member.weights, kept.params, *progress, kept.statistics)

    def split(self, best: bool) -> tuple[Member, Progress]:
        """Return the members, which keep the weights of the best epoch or only the last, and the rest."""
        kept = Weights(self.kept, (), self.statistics) if best else ()
        return Member(self.weights, kept), Progress(*(getattr(self, name) for name in Progress._fields))


def returned(member: Member) -> Weights:
    """Return the weights that training returns for a member.

    Example:
        >>> returned(Member(Weights({"w": 1}, ()), ())).params
        {'w': 1}
    """
    return member.kept or member.weights


@dataclass(frozen=True, repr=False)
class Trained(Result):
    """The members after training.

    Attributes:
        variables: ``{"params": ...}``, and the other collections of the model, with a leading axis ``[m]``, on the
            host, of the best epoch or of the last, as configured. For a member that diverged they are of an epoch that
            left them finite.
        codes: ``TRAINING`` (used all epochs), ``STALE``, ``REACHED`` or ``DIVERGED`` ``[m]``, integers.
        epochs: Epochs done ``[m]``, including the one in which a member diverged.
        best_epoch: The epoch of the smallest validation loss, from 1; 0 if there is none ``[m]``.
        history: ``training_loss``, validation ``loss`` and ``accuracy``, and ``learning_rate`` by epoch
            ``[m epochs]``; NaN after a member's last epoch.

    Example:
        >>> history = {"loss": np.ones((2, 3), np.float32)}
        >>> variables, codes = {"params": {"w": np.zeros((2, 1))}}, np.array([0, 3])
        >>> Trained(variables, codes, np.array([3, 1]), np.array([2, 0]), history).status.tolist()
        ['all epochs', 'diverged']
    """

    variables: PyTree
    codes: np.ndarray
    epochs: np.ndarray
    best_epoch: np.ndarray
    history: dict[str, np.ndarray]

    _by_shape = ("variables",)

    @property
    def status(self) -> np.ndarray:
        """How training ended, a name of ``STATUSES`` for each member ``[m]``."""
        return np.asarray(STATUSES)[self.codes]

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the validation loss of every member against the epoch, or its training loss without validation.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        name = "training_loss" if np.isnan(self.history["loss"]).all() else "loss"
        losses = self.history[name]
        return draw("lines", ax, np.arange(1, losses.shape[1] + 1), losses, across="epoch", quantity=name)

    def _describe(self) -> Description:
        ended = ", ".join(f"{count} {name}" for name in STATUSES if (count := (self.status == name).sum()))
        columns = {"status": self.status, "epochs": self.epochs, "best_epoch": self.best_epoch}
        facts = {"epochs": f"{self.epochs.min()} to {self.epochs.max()}"}
        counts = times(models=len(self.codes))
        return Description(counts, words=ended, facts=facts, table=lambda: tidy({"model": None}, columns))

    def member(self, number: int) -> PyTree:
        """Return the variables of one member."""
        return jax.tree.map(lambda a: a[number], self.variables)


def stack(models: Sequence[PyTree]) -> PyTree:
    """Return the variables of several models as one pytree with a leading axis ``[m]``, on the host.

    Raises:
        ValueError: If there is no model, or if they differ in structure or shapes.

    Example:
        >>> stack([{"w": np.zeros(2)}, {"w": np.ones(2)}])["w"]
        array([[0., 0.],
               [1., 1.]])
    """
    if not isinstance(models, Sequence) or isinstance(models, str):
        raise ValueError(f"models must be a list of the variables of each model, got a {type(models).__name__}")
    if not models:
        raise ValueError("models must be at least one, got none")
    shapes = [jax.tree.map(np.shape, model) for model in models]
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"models must have the same shapes, but number {number} has {shape}, and the first {shapes[0]}"
            )
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *models)


def start(variables: PyTree, config: ManyConfig, members: Members, optimizer: Optimizer, others: bool) -> State:
    """Return the state before the first epoch, or raise ValueError if the variables do not fit the members.

    Args:
        variables: Variables of the members, with a leading axis.
        config: Settings of the training.
        members: The numbers of the members.
        optimizer: The optimizer.
        others: Whether there may be collections other than ``params``.

    Example:
        >>> from types import SimpleNamespace
        >>> start({"w": 1}, None, SimpleNamespace(batch=np.ones(2)), None, False)
        Traceback (most recent call last):
        ValueError: variables must be {'params': ...} with a leading axis of members, got ['w']
    """
    named = isinstance(variables, dict) and "params" in variables
    if not named or (len(variables) > 1 and not others):
        given = sorted(variables) if isinstance(variables, dict) else type(variables).__name__
        hint = "; other collections need train_apply" if named else ""
        raise ValueError(f"variables must be {{'params': ...}} with a leading axis of members, got {given}{hint}")
    variables, count = jax.tree.map(np.asarray, variables), len(members.batch)
    for path, leaf in jax.tree.leaves_with_path(variables):
        if leaf.shape[:1] != (count,):
            name = jax.tree_util.keystr(path)
            raise ValueError(f"variables{name} must have a leading axis of {count} members, got {leaf.shape}")
    params = variables.pop("params")
    moments = jax.tree.map(np.asarray, jax.vmap(optimizer.with_decay(0.0).init)(params))
    zeros = np.zeros(count, np.int32)
    history = {name: np.full((count, config.epochs), np.nan, np.float32) for name in HISTORY}
    smallest = np.full(count, np.inf, np.float32)
    weights = Weights(params, moments, variables)
    return State(weights, params, members.learning_rate, smallest, zeros, zeros, zeros, history, variables)


def settle(progress: Progress, config: ManyConfig, active: np.ndarray, done: int, scores: Scores) -> Progress:
    """Return what the host keeps after an epoch of the active members.

    Example:
        >>> from types import SimpleNamespace
        >>> off = dict.fromkeys(("lr_patience", "patience", "target_accuracy"))
        >>> config, zeros = SimpleNamespace(target_loss=0.5, **off), np.zeros(1, np.int32)
        >>> history = {name: np.full((1, 1), np.nan) for name in HISTORY}
        >>> progress = Progress(np.ones(1), np.full(1, np.inf), zeros, zeros, zeros, history)
        >>> scores = Scores(*np.full((3, 1), 0.4), np.array([True]))
        >>> settle(progress, config, np.array([0]), 0, scores).status.tolist() == [REACHED]
        True
    """
    rate, smallest, best, epochs, status = (a.copy() for a in progress[:5])
    history = {name: a.copy() for name, a in progress.history.items()}
    for name in HISTORY[:-1]:
        history[name][active, done] = getattr(scores, name)
    history["learning_rate"][active, done] = rate[active]
    epochs[active] = done + 1
    better = scores.finite & (scores.loss < smallest[active])
    improved = active[better]
    smallest[improved], best[improved] = scores.loss[better], done + 1
    stale = done + 1 - best[active]
    if config.lr_patience is not None:
        rate[active[(stale > 0) & (stale % config.lr_patience == 0)]] /= 2
    if config.patience is not None:
        status[active[stale >= config.patience]] = STALE
    if config.target_accuracy is not None:
        status[active[scores.accuracy >= config.target_accuracy]] = REACHED
    if config.target_loss is not None:
        status[active[scores.loss <= config.target_loss]] = REACHED
    status[active[~scores.finite]] = DIVERGED
    return Progress(rate, smallest, best, epochs, status, history)
