"""Training several models of one architecture in one launch: all learning rates of a search, or all seeds.

On an accelerator a small model alone leaves most of the device idle. The models take the steps that they take alone,
up to rounding. A group is trained as a whole, also where a run that is resumed needs one model of it: the models that
are trained together decide the last bits.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import models, training
from jaxsens.execution import batches
from jaxsens.typing import PyTree

__all__ = ["Follow", "Group", "train"]

Follow = Callable[[int, int, PyTree], None]
"""``follow(seed, epochs done, variables)``, called before training and after the epochs that are asked for."""


class Group(NamedTuple):
    """Models of one architecture that are trained together.

    Attributes:
        name: Name of the architecture, with its treatment.
        rates: Learning rate of each model.
        seeds: Seed of each model.
    """

    name: str
    rates: tuple[float, ...]
    seeds: tuple[int, ...]

    def place(self, rate: float, seed: int) -> int:
        """Return the place of a model."""
        return list(zip(self.rates, self.seeds, strict=True)).index((rate, seed))


def train(
    bench: Any, group: Group, follow: Follow | None = None, epochs: Sequence[int] = (),
    checkpoint: Path | None = None,
) -> list[tuple[Any, np.ndarray] | training.Diverged]:  # fmt: skip
    """Train the models of a group; see ``training.fit_many``.

    Args:
        bench: Settings, images and models, a `images.bench.Bench`.
        group: The models.
        follow: Called for every model.
        epochs: Epochs done at which it is called.
        checkpoint: Folder of the group's checkpoints.

    Returns:
        Of each model its variables and the loss of each epoch in nats, as ``Bench.train`` returns them; the error of
        one that diverged.
    """
    name, config = group.name, bench.config
    keys = [bench.key("train", seed) for seed in group.seeds]
    start = [bench.initial_variables(name, jax.random.fold_in(key, 0)) for key in keys]
    if follow is not None:
        for seed, variables in zip(group.seeds, start, strict=True):
            follow(seed, 0, variables)

    def after_epoch(epoch: int, present: np.ndarray, variables: PyTree) -> None:
        for place, member in enumerate(present):
            follow(group.seeds[member], epoch, batches.select_model(variables, place))

    objective, settings = bench.treatment(name, group.rates[0])
    trained = training.fit_many(
        jnp.stack([jax.random.fold_in(key, 1) for key in keys]), models.evaluation(bench.module(name)),
        training.stack(start),
        training.Members(
            learning_rate=group.rates, batch=[settings.batch] * len(keys), dataset=[0] * len(keys)
        ),
        tuple(np.asarray(part)[None] for part in bench.data.train),
        training.ManyConfig(
            epochs=settings.epochs, lr_patience=None, patience=None, keep="last", evaluate=False,
            optimizer=settings.optimizer, models_per_device=config.models_per_device, reproducible=config.reproducible,
        ),
        train_apply=models.train_apply(bench.module(name)), objective=objective,
        after_epoch=None if follow is None else after_epoch, report_epochs=epochs, checkpoint=checkpoint,
        progress=f"{name}, {len(keys)} models",
    )  # fmt: skip
    losses = trained.history["training_loss"]
    return [
        _diverged(trained, group, member) if trained.status[member] == "diverged" else
        (trained.member(member), losses[member])
        for member in range(len(keys))
    ]  # fmt: skip


def _diverged(trained: training.Trained, group: Group, member: int) -> training.Diverged:
    return training.Diverged(
        f"a loss or a weight of {group.name}, seed {group.seeds[member]}, is not finite at epoch "
        f"{trained.epochs[member]}; the learning rate is {group.rates[member]}, a smaller one may help"
    )
