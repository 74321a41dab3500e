"""The three sections of the experiment: which models are trained together, on which strings, and their measures."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from experiments.length_and_sharpness.config import FUNCTIONS, STREAMS, Config, evaluation_strings, signs, targets
from experiments.length_and_sharpness.measure import measure_all, measure_learned
from jaxsens import boolean
from jaxsens.models import recognizers
from jaxsens.training import many_models, member_epoch
from jaxsens.typing import Array, PyTree

Columns = dict[str, Array]
"""The arrays of a unit, one entry a model."""


def by_length(config: Config, n: int, checkpoint: Path | None = None) -> Columns:
    """Train all functions at a length, every seed of each, and measure the models ``[m]``, seed by seed.

    Models of a seed have the same initial weights, the same strings and the same noise: they are paired.
    """
    bits, _ = evaluation_strings(config, "length", n)
    seeds = np.repeat(np.arange(config.seeds), len(FUNCTIONS))
    functions = FUNCTIONS * config.seeds
    models = [recognizers.init(config.architecture, config.key("length", "weights", s), config.scheme) for s in seeds]

    def fresh(epoch: int) -> many_models.Examples:
        drawn = [_uniform(config, "length", n, seed, epoch) for seed in range(config.seeds)]
        labels = [[targets(function, bits) for function in FUNCTIONS] for bits in drawn]
        return np.repeat(drawn, len(FUNCTIONS), 0), np.concatenate(labels)

    labels = np.stack([targets(function, bits) for function in functions])
    trained = _trained(
        config, many_models.stack(models), _members(config, len(seeds)), fresh, (np.stack([bits] * len(seeds)), labels),
        config.key("length", "order", n), config.steps, checkpoint, f"length {n}",
    )  # fmt: skip
    measured = measure_all(config, "length", n, trained, bits, labels)
    return {"function": np.array(functions), "seed": seeds} | measured


def tradeoff(config: Config, group: int, checkpoint: Path | None = None) -> Columns:
    """Train a group of models of Parity, each with its own learning rate and weight decay, and measure them."""
    n, count = config.tradeoff_length, config.tradeoff_group
    bits, _ = evaluation_strings(config, "tradeoff", n)
    numbers = group * count + np.arange(count)
    models = [
        recognizers.init(config.architecture, config.key("tradeoff", "weights", i), config.scheme) for i in numbers
    ]
    drawn = np.stack([np.asarray(jax.random.uniform(config.key("tradeoff", "hyper", i), (2,))) for i in numbers], 1)
    rates, decays = (
        np.interp(column, (0, 1), ends)
        for column, ends in zip(drawn, (config.tradeoff_rates, config.tradeoff_decays), strict=True)
    )
    streams = min(STREAMS, count)

    def fresh(epoch: int) -> many_models.Examples:
        drawn = np.stack([_uniform(config, "tradeoff", n, group * STREAMS + i, epoch) for i in range(streams)])
        return drawn, targets("parity", drawn)

    labels = np.stack([targets("parity", bits)] * streams)
    members = many_models.Members(
        learning_rate=rates, weight_decay=decays, batch=np.full(count, config.batch), dataset=np.arange(count) % streams
    )
    trained = _trained(
        config, many_models.stack(models), members, fresh, (np.stack([bits] * streams), labels),
        config.key("tradeoff", "order", group), config.steps, checkpoint, f"trade-off {group}",
    )  # fmt: skip
    measured = measure_all(config, "tradeoff", n, trained, bits, np.repeat(labels[:1], count, 0))
    return {"number": numbers, "learning_rate": rates, "weight_decay": decays} | measured


def random_functions(config: Config, checkpoint: Path | None = None, tables: np.ndarray | None = None) -> Columns:
    """Train on some of the strings of random functions, and measure what was learned on all of them, exactly ``[m]``.

    The strings of a smaller training set are among those of a larger one. Sets are repeated to one size, so that
    every model takes the same number of steps; a batch may therefore hold a string twice.

    Args:
        config: The settings.
        checkpoint: Folder of the training's checkpoints.
        tables: Truth tables ``[functions 2^function_length]`` to learn in place of random ones.
    """
    n = config.function_length
    bits = np.asarray(boolean.strings.exhaustive(n), np.uint8)
    labels, orders = [], []
    for f in range(config.functions):
        language = boolean.languages.random_language(config.key("random", "function", f), n)
        labels.append(np.asarray(language.accept(bits)) if tables is None else np.asarray(tables[f], bool))
        orders.append(np.asarray(jax.random.permutation(config.key("random", "subset", f), len(bits))))
    sets = [(f, size) for f in range(config.functions) for size in config.function_sizes]
    seen = [orders[f][:size] for f, size in sets]
    repeated = [np.tile(some, config.epoch_strings // len(some)) for some in seen]
    data = bits[np.stack(repeated)], np.stack([signs(labels[f][i]) for (f, _), i in zip(sets, repeated, strict=True)])
    everything = np.stack([bits] * len(sets)), np.stack([signs(labels[f]) for f, _ in sets])
    numbers = [(d, seed) for d in range(len(sets)) for seed in range(config.function_seeds)]
    models = [
        recognizers.init(config.architecture, config.key("random", "weights", sets[d][0], seed), config.scheme)
        for d, seed in numbers
    ]
    members = _members(config, len(numbers), config.function_rate, np.array([d for d, _ in numbers]))
    trained = _trained(
        config, many_models.stack(models), members, data, everything, config.key("random", "order"),
        config.function_steps, checkpoint, "random functions",
    )  # fmt: skip
    rows = [measure_learned(config, trained, i, bits, labels[sets[d][0]], seen[d]) for i, (d, _) in enumerate(numbers)]
    return {
        "function": np.array([sets[d][0] for d, _ in numbers]),
        "size": np.array([sets[d][1] for d, _ in numbers]),
        "seed": np.array([seed for _, seed in numbers]),
        "status": trained.codes,
        "epochs": trained.epochs,
    } | {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _uniform(config: Config, section: str, n: int, stream: int, epoch: int) -> np.ndarray:
    key = config.key(section, "strings", n, stream, epoch)
    return np.asarray(boolean.strings.uniform(key, config.epoch_strings, n), np.uint8)


def _members(
    config: Config, count: int, learning_rate: float | None = None, dataset: np.ndarray | None = None
) -> many_models.Members:
    """Return models with equal settings, each with its own data set unless they are given."""
    return many_models.Members(
        learning_rate=np.full(count, config.learning_rate if learning_rate is None else learning_rate),
        weight_decay=np.full(count, config.weight_decay),
        batch=np.full(count, config.batch),
        dataset=np.arange(count) if dataset is None else dataset,
    )


def _trained(
    config: Config,
    variables: PyTree,
    members: many_models.Members,
    data: many_models.Examples | Callable[[int], many_models.Examples],
    watched: many_models.Examples,
    key: Array,
    steps: int,
    checkpoint: Path | None,
    label: str,
) -> many_models.Trained:
    """Train for all steps at a constant learning rate, with the mean squared error."""
    how = many_models.ManyConfig(
        epochs=steps // config.epoch_steps, lr_patience=None, patience=None, keep="last", rows=config.rows,
        models_per_device=config.models_per_device, checkpoint_every=config.checkpoint_every,
        reproducible=config.reproducible,
    )  # fmt: skip
    return many_models.fit_many(
        key, recognizers.training_evaluation(config.architecture), variables, members, data, how, validation=watched,
        criterion=member_epoch.SQUARED_ERROR, checkpoint=checkpoint, progress=label,
    )  # fmt: skip
