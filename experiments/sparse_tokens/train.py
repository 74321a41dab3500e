"""Training of all models of a kind on a case in one launch, and the measures of the models."""

from typing import Any

import jax
import numpy as np

import jaxsens
from experiments import harness
from experiments.sparse_tokens import models
from experiments.sparse_tokens.config import KEYS, KINDS, Config
from jaxsens import perturb, substitution, training
from jaxsens.execution import Execution
from jaxsens.typing import Array, PyTree

Labeled = tuple[np.ndarray, np.ndarray]
"""Ids ``[n T]`` and labels ``[n]``, 0 or 1."""


def sets(config: Config, case: str, seed: int) -> dict[str, Labeled]:
    """Return the examples of a seed: to train, to choose the learning rate, to test, and out of distribution.

    The last ones are the test examples with the sparse tokens of the other label.
    """
    task, number = config.task(case), config.cases.index(case)

    def drawn(purpose: str, count: int, *, other: bool = False) -> Labeled:
        return task.draw(KEYS(config.seed, purpose, number, seed), count, sparse_of_other_label=other)

    return {
        "training": drawn("training", config.examples),
        "validation": drawn("validation", config.held_out),
        "test": drawn("test", config.held_out),
        "other": drawn("test", config.held_out, other=True),
    }


def learn(config: Config, kind: str, case: str) -> dict[str, Array]:
    """Train the models of a kind on a case: all seeds, initial scales and learning rates.

    Returns:
        Of the models ``[seeds scales rates]``: status, validation loss and accuracy at the end, and accuracy on test
        examples and out of distribution; of each initial scale ``[scales]`` the place of the chosen learning rate; and
        for it the sensitivity of the models and its standard error over examples ``[seeds scales]``.
    """
    apply, task, number = models.APPLY[kind], config.task(case), config.cases.index(case)
    drawn = [sets(config, case, seed) for seed in range(config.seeds)]
    stacked = {
        name: tuple(np.stack([one[name][part] for one in drawn]).astype(np.float32) for part in (0, 1))
        for name in ("training", "validation")
    }
    start = training.stack(
        [
            models.init(kind, KEYS(config.seed, "weights", KINDS.index(kind), number, seed), task, config.width, scale)
            for seed, scale, _ in config.members
        ]
    )
    trained = training.fit_many(
        KEYS(config.seed, "order", KINDS.index(kind), number),
        apply,
        start,
        training.Members(
            learning_rate=[rate for _, _, rate in config.members], batch=[config.batch] * len(config.members),
            dataset=[seed for seed, _, _ in config.members],
        ),
        stacked["training"],
        training.ManyConfig(
            epochs=config.epochs, lr_patience=None, patience=None, keep="last", optimizer="sgd", rows=config.rows,
            models_per_device=config.models_per_device, reproducible=config.reproducible,
        ),
        validation=stacked["validation"],
        progress=f"{kind}, {case}",
    )  # fmt: skip
    shape = config.seeds, len(config.scales), len(config.rates)
    last = np.arange(len(config.members)), trained.epochs - 1
    results = {
        "status": trained.codes,
        "validation_loss": trained.history["loss"][last],
        "validation_accuracy": trained.history["accuracy"][last],
        "test_accuracy": _accuracies(config, apply, trained, [one["test"] for one in drawn]),
        "other_accuracy": _accuracies(config, apply, trained, [one["other"] for one in drawn]),
    }
    results = {name: np.reshape(values, shape) for name, values in results.items()}
    chosen = choose(results["validation_accuracy"], results["validation_loss"])
    return results | {"chosen": chosen} | _sensitivities(config, apply, trained, case, chosen)


def choose(accuracy: Array, loss: Array) -> np.ndarray:
    """Return the place of the learning rate of every initial scale, of ``[seeds scales rates]``.

    The rate with the smallest mean validation loss over seeds; rates at which the loss of a model is not finite rank
    last, and of these the one with the best mean accuracy.
    """
    mean = np.where(np.isfinite(loss).all(0), np.where(np.isfinite(loss), loss, 0).mean(0), np.inf)
    diverged = np.isinf(mean).all(-1)
    return np.where(diverged, np.nan_to_num(accuracy).mean(0).argmax(-1), mean.argmin(-1)).astype(np.int32)


def _accuracies(config: Config, apply: Any, trained: training.Trained, data: list[Labeled]) -> list[float]:
    execution = Execution(chunk=config.held_out)
    accuracies = []
    for place, (seed, _, _) in enumerate(config.members):
        ids, labels = data[seed]
        scores = harness.outputs_on(apply, trained.member(place), ids, execution=execution)
        accuracies.append(float(((scores > 0) == (labels > 0.5)).mean()))
    return accuracies


def _sensitivities(
    config: Config, apply: Any, trained: training.Trained, case: str, chosen: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the sensitivity of Def. 4.1 of the models at the chosen learning rates, on the same fresh examples."""
    task, number = config.task(case), config.cases.index(case)
    shape = config.seeds, len(config.scales), len(config.rates)
    places = np.arange(np.prod(shape)).reshape(shape)
    places = np.take_along_axis(places, chosen[None, :, None].astype(np.int64), 2).ravel()
    stacked: PyTree = jax.tree.map(lambda a: a[places], trained.variables)
    probes, _ = task.draw(KEYS(config.seed, "probes", number), config.probes)
    measure = jaxsens.token_sensitivity(
        substitution.one_at_a_time(apply), perturb.replace_uniform(task.vocabulary), draws=config.draws
    )
    sensitivities = measure.over_models(KEYS(config.seed, "replacements", number), stacked, probes)
    pairs = np.array([(one.mean, one.sem) for one in sensitivities]).reshape(*shape[:2], 2)
    return {"sensitivity": pairs[..., 0], "sensitivity_sem": pairs[..., 1]}
