"""Are functions that hang on every bit learned only at sharp minima, the sharper the longer the strings?

Trains transformers on Parity, Majority, First and Mean at lengths from 4 to 30, as Hahn and Rofin do (Why are Sensitive
Functions Hard for Transformers?, 2024), and measures evaluation loss, cumulative blow-up of the layer normalisations,
weight norm, average sensitivity, and average sharpness ``E L(theta + .02 noise) - L(theta)``, L the mean squared error.
Beside them stand the trade-off between weight norm and blow-up in many models of Parity at one length, and random
functions of 10 bits that are learned from some of their strings: how sensitive is what was learned? ::

    python -m experiments.length_and_sharpness --preset laptop
    python -m experiments.length_and_sharpness --preset paper    # on an accelerator

``paper`` has the published setting: 2 layers, 2 heads, width 128 and as many hidden units, AdamW, 10,000 steps of 1,024
fresh strings. Where ours differs: positions are sinusoidal (theirs are learned, and left out of their noise; ours are
no parameters), bits are embedded at full width (theirs at half of it), and blow-ups are Eq. 17's ``1 + 1 / deviation``.
``laptop`` has width 32, 2,048 steps of 64 (4,096 for random functions), and a learning rate of .002 in place of .0003;
its trade-off has 32 models of 6 bits, with weight decays to .2, as steps times rate times decay say how far weights
shrink (.4 published). The length of the published trade-off is not known; ``paper`` has 20.

A model counts as converged where its accuracy is above .99, as published; for Mean, which is 0 on ties, where its loss
is below .001. Of models that are not, sharpness is shown but no claim is judged by it.

``laptop`` took 32 minutes on two CPU cores, of which two other runs had the larger part; 17 % of it compiling. With
seed 0, 4 models each: First, Majority and Mean converged at every length, Parity in 4 of 4 models of 4 and of 6 bits,
2 of 8 bits and none of 10 or more, so that its loss grows with length (5.5 [4.9, 6.2] in the exponent). Its sharpness
among those that converged is .065, .160 and .185 at 4, 6 and 8 bits; that it exceeds Majority's held at 6 bits (.126
[.072, .179]), and that it grows cannot be told from so few. Majority is sharper than First at 8, 10 and 20 bits. The
sharpness of First and Mean does not grow (exponents -.07 [-.27, .14] and -.14 [-.48, .19]). Among 27 models that
learned Parity of 6 bits the rank correlation of blow-up and weight norm is -.957 [-.983, -.890]. Of random functions
of average sensitivity 5.0, 128 strings give a model of 3.67 [3.43, 3.91]; two models of four fitted 256 strings, none
512.

Leaves models.csv (a row for each model), lengths.csv (the figure by length), slopes.csv, pairs.csv (functions compared
at each length), tradeoff.csv, random_functions.csv (a row for each model), training_sizes.csv, comparison.csv, three
figures and manifest.json in the folder ``--out``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import harness
from experiments.length_and_sharpness import report
from experiments.length_and_sharpness.config import (
    FUNCTIONS,
    PRESETS,
    STREAMS,
    Config,
    evaluation_strings,
    signs,
    targets,
)
from jaxsens import boolean, perturb, substitution
from jaxsens.execution import Execution, memory
from jaxsens.models import recognizers
from jaxsens.models.recognizers import baselines
from jaxsens.sharpness import average as sharpness
from jaxsens.training import many_models, member_epoch
from jaxsens.typing import Array, PyTree

Found = dict[str, Array]


def by_length(config: Config, n: int, checkpoint: Path | None = None) -> Found:
    """Train all functions at a length, every seed of each, and measure the models ``[m]``, seed by seed.

    Models of a seed have the same initial weights, the same strings and the same noise: they are paired.
    """
    bits, _ = evaluation_strings(config, "length", n)
    seeds = np.repeat(np.arange(config.seeds), len(FUNCTIONS))
    functions = FUNCTIONS * config.seeds
    own = [recognizers.init(config.architecture, config.key("length", "weights", s), config.scheme) for s in seeds]

    def fresh(epoch: int) -> many_models.Examples:
        drawn = [_uniform(config, "length", n, seed, epoch) for seed in range(config.seeds)]
        wanted = [[targets(function, bits) for function in FUNCTIONS] for bits in drawn]
        return np.repeat(drawn, len(FUNCTIONS), 0), np.concatenate(wanted)

    wanted = np.stack([targets(function, bits) for function in functions])
    trained = _trained(
        config, many_models.stack(own), _members(config, len(seeds)), fresh, (np.stack([bits] * len(seeds)), wanted),
        config.key("length", "order", n), config.steps, checkpoint, f"length {n}",
    )  # fmt: skip
    return {"function": np.array(functions), "seed": seeds} | _measured(config, "length", n, trained, bits, wanted)


def tradeoff(config: Config, group: int, checkpoint: Path | None = None) -> Found:
    """Train a group of models of Parity, each with a learning rate and a weight decay of its own, and measure them."""
    n, count = config.tradeoff_length, config.tradeoff_group
    bits, _ = evaluation_strings(config, "tradeoff", n)
    numbers = group * count + np.arange(count)
    own = [recognizers.init(config.architecture, config.key("tradeoff", "weights", i), config.scheme) for i in numbers]
    drawn = [np.asarray(jax.random.uniform(config.key("tradeoff", "hyper", i), (2,))) for i in numbers]
    between = [np.interp(column, (0, 1), ends) for column, ends in zip(
        np.stack(drawn, 1), (config.tradeoff_rates, config.tradeoff_decays), strict=True
    )]  # fmt: skip
    streams = min(STREAMS, count)

    def fresh(epoch: int) -> many_models.Examples:
        drawn = np.stack([_uniform(config, "tradeoff", n, group * STREAMS + i, epoch) for i in range(streams)])
        return drawn, targets("parity", drawn)

    wanted = np.stack([targets("parity", bits)] * streams)
    members = many_models.Members(
        learning_rate=between[0], weight_decay=between[1], batch=np.full(count, config.batch),
        dataset=np.arange(count) % streams,
    )  # fmt: skip
    trained = _trained(
        config, many_models.stack(own), members, fresh, (np.stack([bits] * streams), wanted),
        config.key("tradeoff", "order", group), config.steps, checkpoint, f"trade-off {group}",
    )  # fmt: skip
    found = _measured(config, "tradeoff", n, trained, bits, np.repeat(wanted[:1], count, 0))
    return {"number": numbers, "learning_rate": between[0], "weight_decay": between[1]} | found


def random_functions(config: Config, checkpoint: Path | None = None) -> Found:
    """Train on some of the strings of random functions, and measure what was learned on all of them, exactly ``[m]``.

    The strings of a smaller training set are among those of a larger one. Sets are repeated to one size, so that
    models take as many steps whatever their set; a batch may therefore hold a string twice.
    """
    n = config.function_length
    bits = np.asarray(boolean.strings.exhaustive(n), np.uint8)
    labels, chosen = [], []
    for f in range(config.functions):
        language = boolean.languages.random_language(config.key("random", "function", f), n)
        labels.append(np.asarray(language.accept(bits)))
        chosen.append(np.asarray(jax.random.permutation(config.key("random", "subset", f), len(bits))))
    sets = [(f, size) for f in range(config.functions) for size in config.function_sizes]
    seen = [chosen[f][:size] for f, size in sets]
    learned = [np.tile(some, config.epoch_strings // len(some)) for some in seen]
    data = bits[np.stack(learned)], np.stack([signs(labels[f][i]) for (f, _), i in zip(sets, learned, strict=True)])
    everything = np.stack([bits] * len(sets)), np.stack([signs(labels[f]) for f, _ in sets])
    models = [(d, seed) for d in range(len(sets)) for seed in range(config.function_seeds)]
    own = [
        recognizers.init(config.architecture, config.key("random", "weights", sets[d][0], seed), config.scheme)
        for d, seed in models
    ]
    members = _members(config, len(models), config.function_rate, np.array([d for d, _ in models]))
    trained = _trained(
        config, many_models.stack(own), members, data, everything, config.key("random", "order"), config.function_steps,
        checkpoint, "random functions",
    )  # fmt: skip
    rows = [_learned(config, trained, i, bits, labels[sets[d][0]], seen[d]) for i, (d, _) in enumerate(models)]
    return {
        "function": np.array([sets[d][0] for d, _ in models]),
        "size": np.array([sets[d][1] for d, _ in models]),
        "seed": np.array([seed for _, seed in models]),
        "status": trained.status,
        "epochs": trained.epochs,
    } | {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _learned(
    config: Config, trained: many_models.Trained, number: int, bits: np.ndarray, labels: np.ndarray, seen: np.ndarray
) -> dict[str, float]:
    target = float(boolean.truth_tables.average_sensitivity(labels))
    if trained.status[number] == many_models.DIVERGED:
        unknown = dict.fromkeys(("train_accuracy", "train_loss", "unseen_accuracy", "sensitivity"), np.nan)
        return {"target_sensitivity": target} | unknown
    outputs = _outputs_on(config, trained.member(number), bits)
    correct = (outputs > 0) == labels
    unseen = np.delete(correct, seen)
    return {
        "target_sensitivity": target,
        "train_accuracy": float(correct[seen].mean()),
        "train_loss": float(((outputs - signs(labels))[seen].astype(np.float64) ** 2).mean()),
        "unseen_accuracy": float(unseen.mean()) if len(unseen) else np.nan,
        "sensitivity": float(boolean.truth_tables.average_sensitivity(outputs > 0)),
    }


def _uniform(config: Config, section: str, n: int, stream: int, epoch: int) -> np.ndarray:
    key = config.key(section, "strings", n, stream, epoch)
    return np.asarray(boolean.strings.uniform(key, config.epoch_strings, n), np.uint8)


def _members(
    config: Config, count: int, learning_rate: float | None = None, dataset: np.ndarray | None = None
) -> many_models.Members:
    """Return members with equal numbers, each with a data set of its own unless they are given."""
    return many_models.Members(
        learning_rate=np.full(count, config.learning_rate if learning_rate is None else learning_rate),
        weight_decay=np.full(count, config.weight_decay),
        batch=np.full(count, config.batch),
        dataset=np.arange(count) if dataset is None else dataset,
    )


def _trained(
    config: Config, variables: PyTree, members: many_models.Members, data: many_models.Examples | Callable[[int], many_models.Examples],
    watched: many_models.Examples, key: Array, steps: int, checkpoint: Path | None, label: str,
) -> many_models.Trained:  # fmt: skip
    """Train for all the steps at one learning rate, with the mean squared error."""
    how = many_models.ManyConfig(
        epochs=steps // config.epoch_steps, lr_patience=None, patience=None, keep="last", rows=config.rows,
        models_per_device=config.at_once, checkpoint_every=config.checkpoint_every,
    )  # fmt: skip
    return many_models.fit_many(
        key, recognizers.training_evaluation(config.architecture), variables, members, data, how, validation=watched,
        criterion=member_epoch.SQUARED_ERROR, checkpoint=checkpoint, progress=label,
    )  # fmt: skip


def _measured(
    config: Config, section: str, n: int, trained: many_models.Trained, bits: np.ndarray, wanted: np.ndarray
) -> Found:
    """Measure the models of a length ``[m]`` on strings ``[b n]`` with targets ``[m b]``; NaN for diverged ones."""
    rows = []
    for i, status in enumerate(trained.status):
        row = dict.fromkeys(report.MEASURED, np.nan)
        if status != many_models.DIVERGED:
            row = measure(config, section, n, trained.member(i), bits, wanted[i])
        rows.append(row)
    found = {name: np.array([row[name] for row in rows]) for name in report.MEASURED}
    return {"status": trained.status, "epochs": trained.epochs, "losses": trained.history["loss"]} | found


def measure(
    config: Config, section: str, n: int, variables: PyTree, bits: np.ndarray, wanted: np.ndarray
) -> dict[str, float]:
    """Measure one model on strings ``[b n]`` with targets ``[b]``; the noise is that of all models of a length."""
    architecture = config.architecture
    outputs = _outputs_on(config, variables, bits)
    loss = _SquaredError(architecture)
    sharp = sharpness.average_sharpness(
        loss, perturb.gaussian(config.noise**2), draws=config.draws, execution=Execution(chunk=config.chunk)
    )(config.key(section, "noise", n), variables, (bits, wanted))
    beta = boolean.blow_up.blow_ups(recognizers.internals(architecture), execution=Execution(chunk=config.chunk))(
        variables, bits
    ).beta
    squares = [np.square(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(variables["params"])]
    sensitivity, sem = _average_sensitivity(config, section, n, variables, bits)
    return {
        "loss": float(np.square(outputs.astype(np.float64) - wanted).mean()),
        "accuracy": float(((outputs > 0) == (wanted > 0)).mean()),
        "blow_up_median": float(np.median(beta[:, -1])),
        "blow_up_low": float(np.quantile(beta[:, -1], 0.25)),
        "blow_up_high": float(np.quantile(beta[:, -1], 0.75)),
        "blow_up_mean": float(beta[:, -1].mean()),
        "weight_norm": float(np.sqrt(sum(squares))),
        "sharpness": float(sharp.mean),
        "sharpness_sem": float(sharp.sem),
        "sensitivity": sensitivity,
        "sensitivity_sem": sem,
    }


def _average_sensitivity(
    config: Config, section: str, n: int, variables: PyTree, bits: np.ndarray
) -> tuple[float, float]:
    """Return the average sensitivity of a model's decisions, in bits, and its standard error: 0 where it is exact."""
    if n <= config.exact_length:
        accept = partial(_accepts, config, variables)
        table = boolean.truth_tables.truth_table(accept, n, chunk=len(bits))
        return float(boolean.truth_tables.average_sensitivity(table)), 0.0
    drawn = boolean.strings.uniform(config.key(section, "evaluation", n, 1), config.sensitivity_strings, n)
    flip = substitution.one_at_a_time(recognizers.evaluation(config.architecture))
    found = boolean.sensitivity_profile(flip, execution=Execution(chunk=config.chunk))(
        config.key(section, "evaluation"), variables, drawn
    )
    average = found.average_sensitivity
    return float(average.mean), float(average.sem)


def _accepts(config: Config, variables: PyTree, bits: Array) -> np.ndarray:
    return _outputs_on(config, variables, bits) > 0


def _outputs_on(config: Config, variables: PyTree, bits: Array) -> np.ndarray:
    return np.asarray(_outputs(config.architecture, variables, jnp.asarray(bits, jnp.int32)))


@partial(jax.jit, static_argnums=0)
def _outputs(architecture: recognizers.Config, variables: PyTree, bits: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return recognizers.evaluation(architecture)(variables, bits)


@dataclass(frozen=True)
class _SquaredError:
    """The loss ``(output - target)^2`` of strings and targets ``[b]``; equal ones share compiled code."""

    architecture: recognizers.Config

    def __call__(self, variables: PyTree, batch: tuple[Array, Array]) -> Array:
        bits, wanted = batch
        return member_epoch.SQUARED_ERROR.loss(recognizers.evaluation(self.architecture)(variables, bits), wanted)


def units(config: Config) -> Iterator[tuple[str, tuple[Any, ...], Callable[..., Found], Sequence[str]]]:
    """List the pieces of work: section, the setting within it, what computes it, and what may be NaN in it."""
    measured = ("losses", *report.MEASURED)
    for n in config.lengths:
        yield "length", (n,), partial(by_length, config, n), measured
    for group in range(config.tradeoff_models // config.tradeoff_group):
        yield "tradeoff", (group,), partial(tradeoff, config, group), measured
    yield "random", (), partial(random_functions, config), report.LEARNED


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``."""
    with harness.Run.open(out, config, experiment="length_and_sharpness") as run:
        parameters = baselines.parameter_count(config.architecture)
        run.record(budget_bytes=memory.BYTES, precision="highest", parameters=parameters)
        results: report.Results = {}
        work = list(units(config))
        with tqdm(work, desc="units", unit="unit", dynamic_ncols=True) as bar:
            for section, setting, compute, unknown in bar:
                name = "-".join([section, *map(str, setting)])
                bar.set_postfix_str(name)
                checkpoint = run.folder / "checkpoints" / name
                found = run.unit(name, partial(compute, checkpoint), allow_nonfinite=unknown)
                run.discard(checkpoint)
                results.setdefault(section, {})[setting] = found
        run.discard(run.folder / "checkpoints")
        report.write(run, config, results)
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("length_and_sharpness", PRESETS, execute, __doc__, every_core=True)
