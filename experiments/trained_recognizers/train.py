"""Training of the models of one shape, and their measures before, during and after it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import harness
from experiments.trained_recognizers import measure
from experiments.trained_recognizers.config import KEYS, SPLITS, Config
from experiments.trained_recognizers.data import NONE, Examples, Strings, examples, profiled
from experiments.trained_recognizers.estimates import UNSEEN
from experiments.trained_recognizers.models import Group
from jaxsens import training
from jaxsens.models import recognizers
from jaxsens.training import ManyConfig, Members, many_models
from jaxsens.typing import PyTree

NONFINITE_ALLOWED = ("loss", "accuracy", "learning_rate", "log_blow_up_before", "log_blow_up")
"""What may be NaN in a unit: histories are, after the last epoch of a model."""


def train_and_measure(run: harness.Run, config: Config, group: Group, user_strings: Strings = NONE) -> dict[str, Any]:
    """Train the models of a group together, and measure them before, during and after it; arrays are ``[m ...]``."""
    architecture = group.sizes.config(config.epsilon)
    first = first_weights(config, group)
    probes = profiled(config, group.models[0].kind.n, user_strings)
    watching = probes[: config.checkpoint_strings]
    curve = config.curve(group.random)
    during = np.full((len(curve), len(group.models), len(watching)), UNSEEN, np.int16)
    seen = set()

    def follow(epoch: int, present: np.ndarray, variables: PyTree) -> None:
        if epoch in curve:
            keep(epoch, run.unit(f"{group.name}-epoch{epoch}", partial(measured, present, variables)))

    def measured(present: np.ndarray, variables: PyTree) -> dict[str, Any]:
        return {"present": present, "sensitivities": _profiles(architecture, variables, watching)}

    def keep(epoch: int, unit: dict[str, np.ndarray]) -> None:
        seen.add(epoch)
        during[curve.index(epoch), unit["present"]] = unit["sensitivities"]

    data = stacked_examples(config, group)
    trained = train(config, group, first, data, follow, checkpoint_folder(run, group))
    for epoch in curve:
        if epoch not in seen and ((trained.epochs >= epoch) & ~_diverged_at(trained, epoch)).any():
            keep(epoch, run.unit(f"{group.name}-epoch{epoch}", partial(_lost, group, epoch)))

    tested, labels = (part[group.datasets] for part in data["test"])
    before, after = (measure.evaluate(architecture, v, tested, labels) for v in (first, trained.variables))
    points = np.array(curve) - 1
    return {
        "status": trained.codes, "epochs": trained.epochs, "best_epoch": trained.best_epoch,
        **{name: trained.history[name][:, points] for name in ("loss", "accuracy", "learning_rate")},
        "correct_before": before.correct, "correct": after.correct,
        "log_blow_up_before": before.log_blow_up, "log_blow_up": after.log_blow_up,
        "norm_before": before.norm, "norm": after.norm,
        "sensitivities_before": _profiles(architecture, first, probes),
        "sensitivities": _profiles(architecture, trained.variables, probes),
        "sensitivities_during": during.swapaxes(0, 1),
    }  # fmt: skip


def first_weights(config: Config, group: Group) -> PyTree:
    """Draw the first weights of the models of a group, stacked ``[m ...]``."""
    architecture = group.sizes.config(config.epsilon)
    keys = [KEYS(config.seed, "weights", model.number) for model in group.models]
    return training.stack(
        [recognizers.init(architecture, key, m.kind.scheme) for key, m in zip(keys, group.models, strict=True)]
    )


def train(
    config: Config, group: Group, first: PyTree, data: Mapping[str, Examples], after_epoch: Any = None,
    checkpoint: Path | None = None,
) -> training.Trained:  # fmt: skip
    """Train the models of a group from their first weights, stacked ``[m ...]``; see ``training.fit_many``."""
    members = Members(
        learning_rate=np.array([m.learning_rate for m in group.models]),
        batch=np.array([m.batch for m in group.models]),
        dataset=np.array(group.datasets),
    )
    how = ManyConfig(
        epochs=config.random_epochs if group.random else config.epochs, lr_patience=config.lr_patience,
        patience=config.patience, target_loss=config.target_loss, rows=config.rows,
        models_per_device=config.models_per_device, checkpoint_every=config.checkpoint_every,
        reproducible=config.reproducible,
    )  # fmt: skip
    return training.fit_many(
        KEYS(config.seed, "order", group.sizes.layers, *group.sizes.shape, int(group.random)),
        recognizers.training_evaluation(group.sizes.config(config.epsilon)), first, members, data["training"], how,
        validation=data["validation"], after_epoch=after_epoch, checkpoint=checkpoint, progress=group.name,
    )  # fmt: skip


def stacked_examples(config: Config, group: Group) -> dict[str, Examples]:
    """Return the examples ``[s count n]`` and labels ``[s count]`` of the languages of a group, for every split."""
    each = [examples(config, kind, number) for kind, number in group.languages]
    return {name: tuple(np.stack(part) for part in zip(*(e[name] for e in each), strict=True)) for name in SPLITS}


def checkpoint_folder(run: harness.Run, group: Group) -> Path:
    """Return where the weights of a group are kept while it is trained."""
    return run.folder / "checkpoints" / group.name


def _profiles(architecture: recognizers.Config, stacked: PyTree, probes: np.ndarray) -> np.ndarray:
    """Return the sensitivities of stacked models, one after the other: all share one program."""
    count = len(jax.tree.leaves(stacked)[0])
    each = (jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(count))
    return np.stack([measure.sensitivities(architecture, variables, probes) for variables in each])


def _diverged_at(trained: training.Trained, epoch: int) -> np.ndarray:
    return (trained.codes == many_models.DIVERGED) & (trained.epochs == epoch)


def _lost(group: Group, epoch: int) -> dict[str, Any]:
    raise ValueError(
        f"the sensitivities at epoch {epoch} of {group.name} are lost, though training was resumed after it: delete "
        f"the folder checkpoints/{group.name} of the run to train it again"
    )
