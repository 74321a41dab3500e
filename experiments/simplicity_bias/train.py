"""Training on sparse parities with label noise and on random labels, with measurements during training."""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from experiments.simplicity_bias.config import CURVES, KEYS, KINDS, Config
from experiments.simplicity_bias.measure import Labeled, accuracies, sensitivity
from jaxsens import boolean, training
from jaxsens.boolean import Language, languages
from jaxsens.models import recognizers
from jaxsens.models.recognizers import baselines
from jaxsens.models.recognizers.initialization import Architecture
from jaxsens.training.many_models import DIVERGED
from jaxsens.typing import Apply, Array, Key, PyTree

MAY_BE_NONFINITE = ("training_loss", "watched_accuracy")
"""Results of a unit that are not finite where a model diverged."""


@dataclass(frozen=True)
class Task:
    """A sparse parity with its strings, and the labels to learn at every level of noise.

    Attributes:
        language: The language of the clean labels.
        strings: Training strings ``[c n]``.
        labels: Training labels, 0 or 1, a row for each level of noise ``[s c]``; a label that is flipped at one level
            is flipped at all higher ones.
        validation: Strings ``[h n]`` and clean labels ``[h]`` to choose the learning rate on.
        test: Other strings and labels, which have no part in any choice.
    """

    language: Language
    strings: np.ndarray
    labels: np.ndarray
    validation: Labeled
    test: Labeled


def task(config: Config, count: int, seed: int) -> Task:
    """Draw the sparse parity of a seed; fewer strings are the first of more."""
    chosen = np.random.default_rng([config.seed, seed, 0]).permutation(config.length)[: config.relevant]
    language = languages.sparse_parity(config.length, sorted(chosen.tolist()))

    def labeled(purpose: str, number: int) -> Labeled:
        strings = _strings(KEYS(config.seed, purpose, seed), number, config.length)
        return strings, np.asarray(language.accept(strings), np.float32)

    strings, clean = labeled("strings", count)
    uniform = np.random.default_rng([config.seed, seed, 1]).random(count)
    labels = np.stack([np.where(uniform < noise, 1 - clean, clean) for noise in config.noises])
    held_out = [labeled(purpose, config.held_out) for purpose in ("validation", "test")]
    return Task(language, strings, labels, *held_out)


def architecture(config: Config, kind: str, length: int) -> tuple[Architecture, Apply]:
    """Return the configuration of a kind and its evaluation; LSTMs have as many parameters as transformers."""
    if kind == "transformer":
        return config.transformer, recognizers.training_evaluation(config.transformer)
    parameters = baselines.parameter_count(config.transformer)
    matched = baselines.matched(kind, parameters, length, config.depth)
    return matched, baselines.evaluation(matched)


def learn_parity(config: Config, kind: str, count: int, seed: int) -> dict[str, Array]:
    """Train the models of a kind on a seed's parity, at all levels of noise and learning rates, and follow them.

    Returns:
        Of the models in the order of ``Config.settings``: accuracy on the training labels, on clean validation and on
        clean test strings, and normalized sensitivity with its standard error over strings, ``[m p]`` after
        ``epochs [p]``; status, epochs done, and the last epoch's mean training loss ``[m]``; and
        ``watched_accuracy [m epochs]``. A model that diverged keeps its last finite weights.
    """
    module, apply = architecture(config, kind, config.length)
    drawn = task(config, count, seed)
    settings, levels = config.settings, len(config.noises)
    level = np.asarray([config.noises.index(noise) for noise, _ in settings])
    keys = [KEYS(config.seed, "weights", KINDS.index(kind), seed, number) for number in level]
    start = training.stack([recognizers.init(module, key, config.scheme) for key in keys])
    probes = _strings(KEYS(config.seed, "probes", seed), config.probes, config.length)
    points = config.measured(count)
    curves = {name: np.full((len(settings), len(points)), np.nan) for name in CURVES}

    def measure(member: int, variables: PyTree, point: int) -> None:
        sets = (drawn.strings, drawn.labels[level[member]]), drawn.validation, drawn.test
        values = *accuracies(config, apply, variables, *sets), *sensitivity(config, apply, variables, probes)
        for name, value in zip(CURVES, values, strict=True):
            curves[name][member, point:] = value

    def follow(epoch: int, present: np.ndarray, variables: PyTree) -> None:
        if epoch in points:
            for place, member in enumerate(present):
                measure(int(member), _member(variables, place), int(np.searchsorted(points, epoch)))

    follow(0, np.arange(len(settings)), start)
    trained = training.fit_many(
        KEYS(config.seed, "order", seed),
        apply,
        start,
        training.Members(
            learning_rate=[rate for _, rate in settings], batch=[config.batch] * len(settings), dataset=level
        ),
        (np.stack([drawn.strings] * levels), drawn.labels),
        training.ManyConfig(
            epochs=config.epochs(count), lr_patience=None, patience=None, keep="last", rows=config.rows,
            models_per_device=config.models_per_device, reproducible=config.reproducible,
        ),
        validation=tuple(np.stack([a] * levels) for a in drawn.validation),
        after_epoch=follow,
        progress=f"{kind}, parity {seed}, {count} strings",
    )  # fmt: skip
    for member in np.flatnonzero(trained.codes == DIVERGED):
        measure(member, trained.member(member), int(np.searchsorted(points, trained.epochs[member])))
    return {
        "epochs": points, **curves, "status": trained.codes, "epochs_done": trained.epochs,
        "watched_accuracy": trained.history["accuracy"], "training_loss": _last(trained, "training_loss"),
        "parameters": baselines.parameter_count(module),
    }  # fmt: skip


def learn_labels(
    config: Config, kind: str, checkpoint: Path | None = None, data: Labeled | None = None
) -> dict[str, Array]:
    """Train the models of a kind on sets of random labels until none is wrong.

    Args:
        config: The settings.
        kind: One of ``KINDS``.
        checkpoint: Folder of the training's checkpoints.
        data: Strings ``[d c n]`` and labels ``[d c]`` in place of random ones.

    Returns:
        Of the models ``[d m]``, set by set: normalized sensitivity with its standard error over strings, before and
        after training; accuracy on the labels, status and epochs done.
    """
    module, apply = architecture(config, kind, config.label_length)
    sets, each = config.label_sets, config.label_models
    if data is None:
        drawn = [random_labels(config, number) for number in range(sets)]
        data = np.stack([strings for strings, _ in drawn]), np.stack([labels for _, labels in drawn])
    keys = [
        KEYS(config.seed, "label_weights", KINDS.index(kind), dataset, number)
        for dataset in range(sets)
        for number in range(each)
    ]
    start = training.stack([recognizers.init(module, key, config.scheme) for key in keys])
    dataset = np.repeat(np.arange(sets), each)
    probes = [
        _strings(KEYS(config.seed, "label_probes", number), config.probes, config.label_length)
        for number in range(sets)
    ]
    trained = training.fit_many(
        KEYS(config.seed, "label_order", KINDS.index(kind)),
        apply,
        start,
        training.Members(
            learning_rate=config.label_rates_by_model * sets, batch=[config.label_batch] * len(dataset), dataset=dataset
        ),
        data,
        training.ManyConfig(
            epochs=config.label_epochs, lr_patience=None, patience=None, target_accuracy=1.0, keep="last",
            rows=config.rows, models_per_device=config.models_per_device, checkpoint_every=config.checkpoint_every,
            reproducible=config.reproducible,
        ),
        validation=data,
        checkpoint=checkpoint,
        progress=f"{kind}, random labels",
    )  # fmt: skip
    columns = {"status": trained.codes, "epochs_done": trained.epochs, "accuracy": _last(trained, "accuracy")}
    for name, variables in (("untrained", start), ("trained", trained.variables)):
        pairs = np.asarray(
            [sensitivity(config, apply, _member(variables, i), probes[number]) for i, number in enumerate(dataset)]
        )
        columns |= {f"{name}_sensitivity": pairs[:, 0], f"{name}_sem": pairs[:, 1]}
    columns = {name: np.reshape(values, (sets, each)) for name, values in columns.items()}
    return columns | {"parameters": baselines.parameter_count(module)}


def random_labels(config: Config, dataset: int) -> Labeled:
    """Draw the strings of a set and their labels, 0 or 1 with equal probability."""
    strings = _strings(KEYS(config.seed, "label_strings", dataset), config.label_strings, config.label_length)
    labels = jax.random.bernoulli(KEYS(config.seed, "labels", dataset), 0.5, (len(strings),))
    return strings, np.asarray(labels, np.float32)


def _strings(key: Key, count: int, length: int) -> np.ndarray:
    return np.asarray(boolean.strings.uniform(key, count, length), np.uint8)


def _member(variables: PyTree, place: int) -> PyTree:
    return jax.tree.map(lambda a: a[place], variables)


def _last(trained: training.Trained, name: str) -> np.ndarray:
    """Return the last entry of the models' histories ``[m]``."""
    return trained.history[name][np.arange(len(trained.epochs)), trained.epochs - 1]
